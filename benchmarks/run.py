"""Run every benchmark and write ``results.json`` and ``README.md`` next to this file.

Given names of sections, such as ``segmentation``, run only those and keep the other results.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import input_pipeline
import recognition
import segmentation
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
#: Pass of DeepLab-v3+ -> share of the rate of a matrix multiplication that it must reach.
LEAST_RATE = {"forward": 0.5, "step": 0.4}
#: Share of a fed training's time that must pass in its steps.
LEAST_BUSY = 0.95
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


def measure(names: Iterable[str], stored: dict) -> dict:
    """Run some sections; all of them take about ten minutes.

    Args:
        names: Of `SECTIONS`.
        stored: Results of an earlier run, which the other sections are taken from.

    Raises:
        SystemExit: Unknown names, or sections of another machine would stay.
    """
    wrong = sorted(set(names) - set(SECTIONS))
    if wrong:
        raise SystemExit(f"No section {', '.join(wrong)}; there are {', '.join(SECTIONS)}.")
    kept = {name: found for name, found in stored.items() if name in set(SECTIONS) - set(names)}
    machine = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") != "0",
    }
    if kept and stored["machine"] != machine:
        raise SystemExit(f"The stored results are of another machine; run all here: {machine}.")
    found = {name: kept[name] if name in kept else SECTIONS[name]() for name in (*kept, *names)}
    return {"machine": machine} | {name: found[name] for name in SECTIONS if name in found}


def compare() -> dict[str, dict]:
    """The comparisons of `TITLES`: about a minute."""
    with tempfile.TemporaryDirectory() as folder:
        return {
            "preprocessing": speed.preprocessing(),
            "augmentation": speed.augmentation(),
            "whole way": speed.whole_way(Path(folder)),
        }


#: Section of the results -> what measures it, in the order of the page.
SECTIONS = {
    "comparisons": compare,
    "input pipeline": input_pipeline.run,
    "recognition": recognition.run,
    "segmentation": segmentation.run,
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
    if "segmentation" in results:
        lines += _segmentation(results["segmentation"])
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
        f"Phantom X-rays and copies of them, {input_pipeline.SIDE} px, in a file each as in the "
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


def _segmentation(found: dict) -> list[str]:
    memory, fed = found["memory"], found["fed"]
    is_busy = fed["busy"] >= LEAST_BUSY
    return [
        "",
        "## Task 3: DeepLab-v3+, one image",
        "",
        *_passes(found["passes"]),
        "",
        f"- {memory['peak_mib']:,.0f} MiB is the peak memory of a process that trains at "
        f"{memory['side']} px; {memory['built_mib']:,.0f} MiB when the network was built.",
        "",
        *_parts(found["parts"]),
        "",
        *_norms(found["norms"]),
        "",
        "## Task 3: a network fed by the training input",
        "",
        f"DeepLab-v3+ of width {segmentation.SMALL['width']:g} with "
        f"{segmentation.SMALL['middle_blocks']} middle blocks; images and masks of {fed['side']} "
        f"px from a file as in the cache, augmented, {fed['batch']} a step, through `tf.data`. "
        f"{fed['steps']} steps a round, {fed['rounds']} rounds, {fed['step_ms']:,.0f} ms a step. "
        "The next batch is made on the same cores meanwhile.",
        "",
        f"- {fed['busy']:.1%} of the time passes in the steps, the rest in waiting for a batch; "
        f"wanted at least {LEAST_BUSY:.0%}: {_state(is_busy)}.",
    ]


def share_of_rate(one: dict, matmul_gflops: float) -> float:
    """Rate of a pass of DeepLab-v3+, as a share of that of a matrix multiplication."""
    return _gflops(one) / matmul_gflops


def _gflops(one: dict) -> float:
    passes = segmentation.PASSES[one["kind"]]
    return 2 * passes * one["multiply_adds"] / one["median_ms"] / 1e6


def _passes(found: dict) -> list[str]:
    """Forward pass and training step by the size of the image."""
    matmul, full = found["matmul_gflops"], segmentation.FULL
    work = " and ".join(
        f"{one['multiply_adds'] / 1e9:.1f} billion at {one['side']} px"
        for one in found["candidates"]
        if one["kind"] == "forward"
    )
    lines = [
        f"The whole network, of width {full['width']:g} with {full['middle_blocks']} middle blocks "
        f"and {segmentation.CLASSES} classes; random weights, traced, in turns with a matrix "
        f"multiplication; medians of {found['rounds']} rounds. A step is the gradient of the cross "
        "entropy at the image's size and one update by momentum.",
        "",
        "| | wall, s | CPU, s | GFLOP/s | share | tracing, s | first call, s |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    verdicts = []
    for one in found["candidates"]:
        name, share = f"{one['kind']}, {one['side']} px", share_of_rate(one, matmul)
        wall, cpu = (one[clock] / 1000 for clock in ("median_ms", "median_cpu_ms"))
        lines.append(
            f"| {name} | {wall:.2f} | {cpu:.2f} | {_gflops(one):.0f} | {share:.0%} | "
            f"{one['trace_s']:.1f} | {one['first_s']:.1f} |"
        )
        least = LEAST_RATE[one["kind"]]
        verdicts.append(
            f"- {share:.1%} of that rate in {name}; wanted at least {least:.0%}: "
            f"{_state(share >= least)}."
        )
    lines += [
        "",
        f"A forward pass makes these multiply-adds in its convolutions, counted from its layers: "
        f"{work}; a multiply-add is two operations, and a step counts as "
        f"{segmentation.PASSES['step']} forward passes. Share: of the {matmul:.0f} GFLOP/s that "
        f"`tf.matmul` reaches in the same run with two float32 matrices of side "
        f"{recognition.MATRIX}.",
        "",
    ]
    return lines + verdicts


def shares_of_unit(times: dict[str, dict]) -> dict[str, float]:
    """Share of each layer in the time of a separable convolution."""
    each = {name: n * times[name]["median_ms"] for name, n in segmentation.UNIT.items()}
    return {name: taken / sum(each.values()) for name, taken in each.items()}


def _parts(found: dict) -> list[str]:
    """Which layers of a separable convolution take the time."""
    side, channels = found["side"], found["channels"]
    lines = [
        f"The layers of one separable convolution of the middle flow, {channels} channels at "
        f"{side} × {side}, each alone: {segmentation.CHAIN} in a row, medians of "
        f"{found['rounds']} rounds.",
        "",
        "| one layer | in a unit | forward, ms | share of unit | step, ms | share of unit |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    shares = {kind: shares_of_unit(found[kind]) for kind in segmentation.PASSES}
    for name in found["forward"]:
        cells = [f"{segmentation.UNIT.get(name, 0) or '–'}"]
        for kind in segmentation.PASSES:
            share = f"{shares[kind][name]:.0%}" if name in shares[kind] else "–"
            cells += [f"{found[kind][name]['median_ms']:.2f}", share]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "A step is forward and both gradients, batch norm with the batch's statistics. The last "
        "two rows are other ways to the same numbers; the trainings of streams go the second.",
    ]
    return lines


def _norms(found: dict) -> list[str]:
    """What batch norm as one operation is worth to a whole step."""
    shape, each = found["shape"], found["candidates"]
    return [
        f"## Task 3: a training step of {found['batch']} slices",
        "",
        *_table(each),
        "",
        f"DeepLab-v3+ of width {shape['width']:g} with {shape['middle_blocks']} middle blocks at "
        f"{found['side']} px; medians of {found['rounds']} rounds. Ours: batch norm as one "
        "operation (`training/fused.py`), as the trainings of streams have it.",
        "",
        f"- {ratio(each, segmentation.KERAS_NORM):.2f} times as fast as "
        f"{segmentation.KERAS_NORM}; no bound.",
    ]


def main() -> None:
    """Measure, and write both files."""
    path = HERE / "results.json"
    stored = json.loads(path.read_text(encoding="utf8")) if path.exists() else {}
    results = measure(sys.argv[1:] or SECTIONS, stored)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf8")
    (HERE / "README.md").write_text(readme(results), encoding="utf8")
    print("benchmarks/README.md and results.json are those of this machine now.")


if __name__ == "__main__":
    main()
