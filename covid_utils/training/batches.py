"""Augmented training batches, made on all cores while the network trains on the one before.

Each image is read when its turn comes and forgotten after it, so memory does not grow with the
number of images; and each draw has a seed of its own, so the number of threads changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from covid_utils.data.cache import Rows

if TYPE_CHECKING:
    import tensorflow as tf

#: From a generator, a uint8 image (side, side) and its labels to both, augmented alike.
Augmented = Callable[[np.random.Generator, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def shuffled(count: int, seed: int) -> Callable[[int], int]:
    """Endless order of items, from a draw to a position: each once a round, in a new order."""

    @lru_cache(maxsize=2)  # a batch may reach into the next round
    def order(number: int) -> np.ndarray:
        return np.random.default_rng([seed, number]).permutation(count)

    return lambda draw: int(order(draw // count)[draw % count])


def of_pairs(
    images: np.ndarray | Rows,
    masks: np.ndarray | Rows,
    batch_size: int,
    seed: int,
    augmented: Augmented,
    first: int = 0,
) -> tf.data.Dataset:
    """Endless batches of uint8 images and masks (batch, size, size), augmented alike.

    ``first`` is the batch to begin with: a training that goes on sees what it would have seen.
    """
    spec = (images.shape[1:], np.uint8)

    def drawn(rng: np.random.Generator, at: int) -> tuple[np.ndarray, np.ndarray]:
        return augmented(rng, images[at], masks[at])

    return endless(drawn, len(images), batch_size, seed, (spec, spec), first)


def endless(
    augmented: Callable[[np.random.Generator, int], tuple[np.ndarray, ...]],
    count: int,
    batch_size: int,
    seed: int,
    specs: tuple[tuple[tuple[int, ...], type], ...],
    first: int = 0,
) -> tf.data.Dataset:
    """Endless batches of what ``augmented`` gives for a generator and the position of an item.

    ``specs`` has the shape and type of each array.
    """
    import tensorflow as tf

    position = shuffled(count, seed)

    def numbered(draw: np.ndarray) -> tuple[np.ndarray, ...]:
        return augmented(np.random.default_rng([seed, int(draw)]), position(int(draw)))

    def make(draw: tf.Tensor) -> tuple[tf.Tensor, ...]:
        # A draw depends on its number alone; called stateful, they would run one by one.
        parts = tf.numpy_function(numbered, [draw], [dtype for _, dtype in specs], stateful=False)
        return tuple(
            tf.ensure_shape(part, spec[0]) for part, spec in zip(parts, specs, strict=True)
        )

    draws = tf.data.Dataset.range(first * batch_size, np.iinfo(np.int64).max)
    items = draws.map(make, num_parallel_calls=os.cpu_count(), deterministic=True)
    return items.batch(batch_size, drop_remainder=True).prefetch(2)
