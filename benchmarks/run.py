"""Run every benchmark and write ``results.json`` and ``README.md`` next to this file."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from pathlib import Path

import input_pipeline
import speed

HERE = Path(__file__).parent
#: Comparison -> other candidate -> what the ratio other / ours must reach.
LEAST = {
    "preprocessing": {"scikit-image": 12.0},
    "augmentation": {"four Keras layers": 10.0, "scipy": 8.0},
}
#: Comparison -> other candidate -> what the ratio ours / other may reach.
MOST = {"whole way": {"bare": 1.2}}
#: How far the largest and the smallest set may lie apart, as a share of the smallest.
MOST_SPREAD = 0.10
TITLES = {
    "preprocessing": "Preprocessing: resize 1024 → 512 px and CLAHE, one image",
    "augmentation": "Augmentation: rotate, shift, zoom, flip a 512 px image and its mask",
    "whole way": "The whole way: a 1024 px PNG file to an augmented 512 px pair",
}
NOTES = {
    "preprocessing": "scikit-image: `resize` with anti-aliasing, then `equalize_adapthist`.",
    "augmentation": (
        "Keras: RandomRotation, RandomTranslation, RandomZoom and RandomFlip on image and mask as "
        "two channels, traced; they resample four times, and the mask linearly. scipy: "
        "`affine_transform` with the very same map."
    ),
    "whole way": (
        "Bare: OpenCV's decode, resize, CLAHE and two warps called by hand. What ours adds: "
        "Pillow's decoder, which names a damaged file, and the draw of the map."
    ),
}


def measure() -> dict:
    """Run everything: about a minute."""
    with tempfile.TemporaryDirectory() as folder:
        comparisons = {
            "preprocessing": speed.preprocessing(),
            "augmentation": speed.augmentation(),
            "whole way": speed.whole_way(Path(folder)),
        }
    machine = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    return {
        "machine": machine,
        "comparisons": comparisons,
        "input pipeline": input_pipeline.run(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.machine()


def ratio(comparison: dict[str, dict], other: str, clock: str = "median_ms") -> float:
    """How many times as long the other candidate takes as ours."""
    return comparison[other][clock] / comparison["ours"][clock]


def spread(rows: list[dict], column: str) -> float:
    """Distance of the largest from the smallest value, as a share of the smallest."""
    values = [row[column] for row in rows]
    return max(values) / min(values) - 1


def readme(results: dict) -> str:
    """The page that tells the results."""
    machine = results["machine"]
    lines = [
        "# Benchmarks",
        "",
        "`make bench` measures this anew and rewrites this page. Each comparison runs in one "
        "process, its candidates taking turns; figures are medians of nine or more rounds. "
        "Milliseconds depend on the machine, ratios much less. "
        f"Last run: {machine['processor']}, {machine['cores']} cores, Python {machine['python']}.",
    ]
    for name, comparison in results["comparisons"].items():
        lines += ["", f"## {TITLES[name]}", "", *_table(comparison), "", NOTES[name]]
        lines += ["", *_verdicts(name, comparison)]
    return "\n".join(lines + _pipeline(results["input pipeline"])) + "\n"


def _table(comparison: dict[str, dict]) -> list[str]:
    rows = [
        "| | wall, ms | CPU, ms | times ours (wall) | times ours (CPU) |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, one in comparison.items():
        times = (ratio(comparison, name), ratio(comparison, name, "median_cpu_ms"))
        cells = (one["median_ms"], one["median_cpu_ms"], *times)
        rows.append(f"| {name} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")
    return rows


def _verdicts(name: str, comparison: dict[str, dict]) -> list[str]:
    """A sentence for each bound."""
    said = []
    for other, least in LEAST.get(name, {}).items():
        found = ratio(comparison, other)
        state = "reached" if found >= least else "**missed**"
        said.append(f"- {found:.1f} times as fast as {other}; wanted {least:g}: {state}.")
    for other, most in MOST.get(name, {}).items():
        found = 1 / ratio(comparison, other)
        state = "reached" if found <= most else "**missed**"
        said.append(f"- {found:.2f} times the time of {other}; wanted at most {most:g}: {state}.")
    return said


def _pipeline(rows: list[dict]) -> list[str]:
    lines = [
        "",
        "## Training input from 1,000 to 16,000 images",
        "",
        f"Phantom X-rays and copies of them, {input_pipeline.SIDE} px, in one file as in the "
        f"cache; read, augmented with a mask, and batched by {input_pipeline.BATCH} through "
        "`tf.data`. Each size has a process of its own.",
        "",
        "| images | images a second | cores busy | peak memory, MiB |",
        "|--:|--:|--:|--:|",
    ]
    for row in rows:
        lines.append(
            f"| {row['images']:,} | {row['images_per_second']:,.0f} | {row['cores_busy']:.2f} | "
            f"{row['peak_memory_mib']:,.0f} |"
        )
    lines.append("")
    names = {
        "images_per_second": "Images a second differ",
        "peak_memory_mib": "Peak memory differs",
    }
    for column, name in names.items():
        found = spread(rows, column)
        state = "reached" if found <= MOST_SPREAD else "**missed**"
        lines.append(f"- {name} by {found:.1%}; wanted at most {MOST_SPREAD:.0%}: {state}.")
    return lines


def main() -> None:
    """Measure, and write both files."""
    results = measure()
    text = json.dumps(results, indent=1) + "\n"
    (HERE / "results.json").write_text(text, encoding="utf8")
    (HERE / "README.md").write_text(readme(results), encoding="utf8")
    print("benchmarks/README.md and results.json are those of this machine now.")


if __name__ == "__main__":
    main()
