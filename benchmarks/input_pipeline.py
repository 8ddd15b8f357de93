"""Memory and speed of the training input for growing sets of phantom images.

Each size runs in a process of its own, because a process never gives its peak memory back. The
images are X-rays of the phantom and augmented copies of them, written once to a cache; what is
measured is reading, augmenting and batching them through ``tf.data``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np

SIZES = (1_000, 4_000, 16_000)
SIDE, BATCH, BATCHES, ROUNDS = 256, 32, 100, 2
#: How often each size has its turn: a machine that is busy for a while then slows all of them.
TURNS = 5


def write_images(home: Path, count: int) -> None:
    """Write uint8 images (SIDE, SIDE), from the phantom's X-rays, to a home's cache."""
    import chest_phantom
    from covid_utils import paths
    from covid_utils.data import augment, cache, readers
    from covid_utils.data.images import Preprocessing

    root = chest_phantom.write(paths.phantom())
    rows = readers.read_all(root).rows
    rows = rows[rows["modality"] == "X-ray"].assign(subset="train").reset_index(drop=True)
    images = cache.images(rows, root, Preprocessing(SIDE))
    copies = augment.copies(images, augment.expand(rows, {"train": count}, seed=0), seed=0)
    with patch.dict(os.environ, {"COVID_HOME": str(home)}):
        _recipe(count).filled(_contents(count), copies.__getitem__)


def _recipe(count: int):
    from covid_utils.data import cache

    return cache.Recipe("copies", 1, {"images": count}, (SIDE, SIDE), np.uint8)


def _contents(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def measure(count: int) -> dict[str, float]:
    """Go through the images of `write_images` in random order, as a training does.

    Returns:
        ``images``, ``images_per_second`` (median of the rounds), ``cores_busy`` and
        ``peak_memory_mib`` of this process.
    """
    from covid_utils.data import augment
    from covid_utils.training import batches

    rows = _recipe(count).rows(_contents(count))
    stream = iter(batches.of_pairs(rows, rows, BATCH, 0, augment.Ranges()))
    rates, busy = [], []
    for _ in range(ROUNDS + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(BATCHES):
            next(stream)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        rates.append(BATCHES * BATCH / wall)
        busy.append(cpu / wall)
    return {
        "images": len(rows),
        "images_per_second": float(np.median(rates[1:])),
        "cores_busy": float(np.median(busy[1:])),
        "peak_memory_mib": peak_memory(),
    }


def peak_memory() -> float:
    """Most resident memory that this process ever had, in MiB.

    From Linux's process table: the figure of ``getrusage`` starts with that of the parent.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def run() -> list[dict[str, float]]:
    """Measure every size, in turns, each time in a process of its own; the smallest comes first.

    Returns:
        As `measure`, the median of the turns.
    """
    with tempfile.TemporaryDirectory() as folder:
        for count in SIZES:
            write_images(Path(folder), count)
        found = [[_in_a_process(folder, count) for count in SIZES] for _ in range(TURNS)]
    return [
        {name: float(np.median([turn[name] for turn in turns])) for name in turns[0]}
        | {"images": count}
        for count, turns in zip(SIZES, zip(*found, strict=True), strict=True)
    ]


def _in_a_process(home: str, count: int) -> dict[str, float]:
    command, own = [sys.executable, __file__, str(count)], os.environ | {"COVID_HOME": home}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=own)
    return json.loads(done.stdout)


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
