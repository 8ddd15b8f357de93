"""Memory and speed of the training input for growing sets of phantom images.

Each size runs in its own process, because a process never gives back its peak memory. The images
are X-rays of the phantom and moved copies of them, written once to a cache. Reading, augmenting and
batching them through ``tf.data`` is measured.
"""

from __future__ import annotations

import numpy as np
from timing import clocked, in_a_process, peak_memory, temporary_home

import chest_phantom
from covid_utils import paths
from covid_utils.data import augment, cache, readers
from covid_utils.data.images import Preprocessing
from covid_utils.training import streams

SIDE, BATCH, BATCHES, ROUNDS = 256, 32, 100, 2
#: Turns of each size: a machine that is busy for a while then slows all of them.
TURNS = 5


def run(sizes: tuple[int, ...] = (1_000, 4_000, 16_000), turns: int = TURNS) -> list[dict]:
    """Measure every size, in turns: about five minutes; as `measure`, medians of the turns."""
    images = phantom_images()
    with temporary_home():
        for count in sizes:
            write(images, count)
        results = [[in_a_process(measure, count) for count in sizes] for _ in range(turns)]
    return [
        {name: float(np.median([turn[name] for turn in each])) for name in each[0]}
        for each in zip(*results, strict=True)
    ]


def phantom_images() -> np.ndarray:
    """Prepared X-rays of the phantom, uint8 (images, SIDE, SIDE)."""
    root = chest_phantom.write(paths.phantom())
    rows = readers.read_all(root).rows
    return cache.prepared(rows[rows["modality"] == "X-ray"], root, Preprocessing(SIDE))[:]


def recipe(count: int) -> tuple[cache.Recipe, list[str]]:
    """Where the cache keeps a set, and the names of its images there."""
    kept = cache.Recipe("copies", 1, {"images": count}, (SIDE, SIDE), np.uint8)
    return kept, [str(number) for number in range(count)]


def write(images: np.ndarray, count: int) -> None:
    """Write a set to the cache, each image moved at random."""

    def copy(number: int) -> np.ndarray:
        matrix = augment.draw_matrix(np.random.default_rng(number), SIDE, augment.Ranges())
        return augment.warp(images[number % len(images)], matrix)

    kept, names = recipe(count)
    kept.filled(names, copy)


def measure(count: int) -> dict[str, float]:
    """Read a set from the cache in random order, as a training does; medians of the rounds."""
    kept, names = recipe(count)
    rows = kept.rows(names)
    stream = iter(streams.batches(rows, rows, BATCH, 0, augment.pair))

    def read() -> None:
        for _ in range(BATCHES):
            next(stream)

    wall, cpu = np.transpose([clocked(read) for _ in range(ROUNDS + 1)][1:])
    return {
        "images": count,
        "images_per_second": float(np.median(BATCHES * BATCH / wall)),
        "cores_busy": float(np.median(cpu / wall)),
        "peak_memory_mib": peak_memory(),
    }
