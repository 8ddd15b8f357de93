"""Run every benchmark and write ``results.json`` and ``README.md`` next to this file."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from itertools import pairwise
from pathlib import Path

import input_pipeline
import recognition
import speed

HERE = Path(__file__).parent
#: Comparison -> other candidate -> what the ratio other / ours must reach.
LEAST = {
    "preprocessing": {"scikit-image": 12.0},
    "augmentation": {"four Keras layers": 10.0, "scipy": 8.0},
    "features": {recognition.ALONE: 3.0, recognition.BATCHES: 1.0},
}
#: Comparison -> other candidate -> what the ratio ours / other may reach.
MOST = {"whole way": {"bare": 1.2}, "heads": {recognition.FIT: 3.0}}
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
    """Run everything: about five minutes."""
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
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") != "0",
    }
    return {
        "machine": machine,
        "comparisons": comparisons,
        "input pipeline": input_pipeline.run(),
        "recognition": recognition.run(),
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
        "process, its candidates taking turns; figures are medians of nine or more rounds, but "
        "where fewer are named. Milliseconds depend on the machine, ratios much less. "
        f"Last run: {machine['processor']}, {machine['cores']} cores, Python {machine['python']}, "
        f"TensorFlow {'with' if machine['onednn'] else 'without'} oneDNN.",
    ]
    for name, comparison in results["comparisons"].items():
        lines += ["", f"## {TITLES[name]}", "", *_table(comparison), "", NOTES[name]]
        lines += ["", *_verdicts(name, comparison)]
    lines += _pipeline(results["input pipeline"])
    task = results["recognition"]
    lines += _features(task["features"]) + _heads(task["heads"]) + _growing(task["growing"])
    return "\n".join(lines) + "\n"


def _table(comparison: dict[str, dict], unit: str = "ms") -> list[str]:
    rows = [
        f"| | wall, {unit} | CPU, {unit} | times ours (wall) | times ours (CPU) |",
        "|---|--:|--:|--:|--:|",
    ]
    scale = {"ms": 1, "s": 1000}[unit]
    for name, one in comparison.items():
        times = (ratio(comparison, name), ratio(comparison, name, "median_cpu_ms"))
        cells = (one["median_ms"] / scale, one["median_cpu_ms"] / scale, *times)
        rows.append(f"| {name} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")
    return rows


def _state(is_reached: bool) -> str:
    return "reached" if is_reached else "**missed**"


def _verdicts(name: str, comparison: dict[str, dict]) -> list[str]:
    """A sentence for each bound."""
    said = []
    for other, least in LEAST.get(name, {}).items():
        found = ratio(comparison, other)
        state = _state(found >= least)
        # One digit would round what just misses up to what is wanted.
        shown = f"{found:.1f}" if least > 5 else f"{found:.2f}"
        said.append(f"- {shown} times as fast as {other}; wanted {least:g}: {state}.")
    for other, most in MOST.get(name, {}).items():
        found = 1 / ratio(comparison, other)
        state = _state(found <= most)
        said.append(f"- {found:.2f} times the time of {other}; wanted at most {most:g}: {state}.")
    return said


def _pipeline(rows: list[dict]) -> list[str]:
    lines = [
        "",
        "## Training input from 1,000 to 16,000 images",
        "",
        f"Phantom X-rays and copies of them, {input_pipeline.SIDE} px, in one file as in the "
        f"cache; read, augmented with a mask, and batched by {input_pipeline.BATCH} through "
        "`tf.data`. Sizes take turns, each in a process of its own; medians of "
        f"{input_pipeline.TURNS} turns.",
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
        state = _state(found <= MOST_SPREAD)
        lines.append(f"- {name} by {found:.1%}; wanted at most {MOST_SPREAD:.0%}: {state}.")
    return lines


def _features(found: dict) -> list[str]:
    candidates, start = found["candidates"], found["start_s"]
    return [
        "",
        "## Task 1: one image, from its file to its 2048 features",
        "",
        f"Inception-v3 to `{recognition.LAYER}` with random weights, and a {recognition.SIDE} px "
        f"PNG file; {found['images']} images a round in batches, {found['few']} one at a time, "
        f"{found['rounds']} rounds.",
        "",
        *_with_rates(_table(candidates), found),
        "",
        f"The network's convolutions make {found['multiply_adds'] / 1e9:.2f} billion multiply-adds "
        "an image, counted from its layers; a multiply-add is two operations. Share: of the "
        f"{found['matmul_gflops']:.0f} GFLOP/s that `tf.matmul` reaches here with two float32 "
        f"matrices of side {recognition.MATRIX}. All decode and prepare alike; ours while the "
        "network works on an earlier batch. The network is traced before the rounds, which ours "
        f"pays once a call of `extract` ({start['ours']:.1f} s) and `model.predict` once a model "
        f"({start[recognition.BATCHES]:.1f} s).",
        "",
        *_verdicts("features", candidates),
        *(
            f"- {ratio(candidates, other):.2f} times as fast as {other}; no bound."
            for other in (recognition.ALONE_PREDICT, recognition.ALONE_TRACED)
        ),
    ]


def _with_rates(table: list[str], found: dict) -> list[str]:
    """The features' table with two more columns: what the network reaches."""
    lines = [f"{table[0]} GFLOP/s | share |", f"{table[1]}--:|--:|"]
    for row, one in zip(table[2:], found["candidates"].values(), strict=True):
        rate = 2 * found["multiply_adds"] / one["median_ms"] / 1e6
        lines.append(f"{row} {rate:.0f} | {rate / found['matmul_gflops']:.0%} |")
    return lines


def _heads(found: dict) -> list[str]:
    return [
        "",
        f"## Task 1: {found['heads']} last layers, {found['steps']:,} steps each",
        "",
        *_table(found["candidates"], "s"),
        "",
        f"Ours: {found['heads']} heads, which are two tasks, {recognition.SEEDS} seeds and "
        f"{len(recognition.RATES)} learning rates, on {recognition.TRAIN:,} rows of "
        f"{recognition.CHANNELS} features from the cache, standardised, with their curves on "
        f"{recognition.VALIDATION} validation images; NumPy on one thread, as in every run of the "
        "graph. Keras: one head, features in memory, batches from `tf.data`, neither standardised "
        f"nor validated. These take long, so the medians are of {found['rounds']} rounds.",
        "",
        *_verdicts("heads", found["candidates"]),
        "",
        *_rates(found),
    ]


def _rates(found: dict) -> list[str]:
    """What one more learning rate costs."""
    rates = sorted((int(count), one) for count, one in found["rates"].items())
    lines = [
        f"One sweep of {found['short_steps']} steps by the number of its learning rates:",
        "",
        "| learning rates | wall, ms | CPU, ms |",
        "|--:|--:|--:|",
    ]
    for count, one in rates:
        lines.append(f"| {count} | {one['median_ms']:.0f} | {one['median_cpu_ms']:.0f} |")
    lines.append("")
    for (fewer, short), (more, long) in pairwise(rates):
        times = long["median_ms"] / short["median_ms"]
        lines.append(f"- {more} learning rates take {times:.2f} times the time of {fewer}.")
    return lines


def _growing(found: dict[str, int]) -> list[str]:
    is_exact = found["computed"] == found["added"]
    return [
        "",
        "## Task 1: a cached set that grows",
        "",
        f"Features of {found['stored']:,} images are in the cache and {found['added']:,} images "
        "are added. The network is a small stand-in that counts the rows it is given; files, "
        "keys and cache are the real ones.",
        "",
        f"- {found['computed']:,} images are decoded and computed; wanted exactly "
        f"{found['added']:,}: {_state(is_exact)}.",
        f"- {found['passed']:,} rows go through the network, which fills its last batch up.",
        f"- {found['again']:,} images are decoded when the grown set is asked for again; wanted "
        f"0: {_state(found['again'] == 0)}.",
    ]


def main() -> None:
    """Measure, and write both files."""
    results = measure()
    text = json.dumps(results, indent=1) + "\n"
    (HERE / "results.json").write_text(text, encoding="utf8")
    (HERE / "README.md").write_text(readme(results), encoding="utf8")
    print("benchmarks/README.md and results.json are those of this machine now.")


if __name__ == "__main__":
    main()
