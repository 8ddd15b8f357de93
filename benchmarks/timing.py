"""What all benchmarks share: timing in turns, memory, arithmetic, example images, a cache.

Each time is a median of several rounds. The candidates of a comparison take turns, so that a busy
machine slows all of them alike.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import cv2
import keras
import numpy as np
import tensorflow as tf

from covid_utils.data.cache import Recipe, Rows

#: Side of the float32 matrices whose product gives the machine's rate, and products per call.
MATRIX, PRODUCTS = 2048, 8


def compare(
    candidates: dict[str, Callable[[], object]], rounds: int = 9, is_warm: bool = False
) -> dict[str, dict]:
    """Time candidates in turns; those that are not warm are first called once untimed.

    Returns:
        Name -> ``median_ms`` of the wall clock and ``median_cpu_ms`` of the whole process.
    """
    if not is_warm:
        for call in candidates.values():
            call()
    turns = [[clocked(call) for call in candidates.values()] for _ in range(rounds)]
    medians = 1000 * np.median(turns, axis=0)
    return {
        name: {"median_ms": float(wall), "median_cpu_ms": float(cpu)}
        for name, (wall, cpu) in zip(candidates, medians, strict=True)
    }


def clocked(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds that a call takes: wall clock, and CPU of the whole process."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def per_item(times: dict[str, float], count: int) -> dict[str, float]:
    """Times of `compare` divided by the number of items per call."""
    return {name: value / count for name, value in times.items()}


def in_a_process(function: Callable, *arguments) -> object:
    """Result of a function in a new process, so that its peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def peak_memory() -> float:
    """Peak resident memory of this process in MiB."""
    # From Linux's process table: the value of `getrusage` starts with that of the parent.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def matrix_products() -> Callable[[], object]:
    """A call that multiplies matrices: the fastest that TensorFlow computes on this machine."""
    matrix = tf.random.normal((MATRIX, MATRIX))
    return lambda: [tf.matmul(matrix, matrix).numpy() for _ in range(PRODUCTS)]


def matmul_gflops(times: dict[str, float]) -> float:
    """Rate of `matrix_products` from its times."""
    return 2 * PRODUCTS * MATRIX**3 / times["median_ms"] / 1e6


def multiply_adds(model) -> int:
    """Multiply-adds of a network's convolutions, plain and depthwise, for one image."""
    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    layers = [layer for layer in model.layers if isinstance(layer, kinds)]
    # Every element of a kernel is used once for each pixel of the output.
    return sum(int(np.prod([*one.kernel.shape, *one.output.shape[1:3]])) for one in layers)


@contextmanager
def temporary_home() -> Iterator[Path]:
    """A folder that serves as the library's home, so that its caches start empty."""
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.dict(os.environ, {"COVID_HOME": folder}),
    ):
        yield Path(folder)


def cached(kind: str, rows: np.ndarray) -> Rows:
    """The same rows, written to the library's cache and read from it when requested."""
    recipe = Recipe(kind, 1, {}, rows.shape[1:], rows.dtype)
    return recipe.filled([str(number) for number in range(len(rows))], rows.__getitem__)


def chest(seed: int = 0, side: int = 1024) -> tuple[np.ndarray, np.ndarray]:
    """A smooth uint8 image of the size of an X-ray, and a mask of blobs."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(size=(side, side)), (0, 0), 12)
    image = cv2.normalize(noise, None, 0, 235, cv2.NORM_MINMAX)
    grain = rng.normal(0, 4, (side, side))
    return np.clip(image + grain, 0, 255).astype(np.uint8), (image > 160).astype(np.uint8)
