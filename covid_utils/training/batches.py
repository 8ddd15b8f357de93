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

from covid_utils.data import augment
from covid_utils.data.cache import Rows

if TYPE_CHECKING:
    import tensorflow as tf


def shuffled(count: int, seed: int) -> Callable[[int], int]:
    """Endless order of items: every item once in each round, in a new order.

    Returns:
        Function from a draw, counted from 0, to the position of its item.
    """

    @lru_cache(maxsize=2)  # a batch may reach into the next round
    def order(number: int) -> np.ndarray:
        return np.random.default_rng([seed, number]).permutation(count)

    return lambda draw: int(order(draw // count)[draw % count])


def of_pairs(
    images: np.ndarray | Rows,
    masks: np.ndarray | Rows,
    batch_size: int,
    seed: int,
    ranges: augment.Ranges | None,
    first: int = 0,
) -> tf.data.Dataset:
    """Endless batches of images and masks, augmented alike.

    Args:
        images: uint8 (n, size, size): an array or `cache.Rows`.
        masks: uint8 (n, size, size), likewise.
        batch_size: Pairs per batch.
        seed: Of order and augmentation.
        ranges: Of the augmentation; None augments as the authors' code does.
        first: Batch to begin with: a training that goes on sees what it would have seen.

    Returns:
        Data set of uint8 images and masks, both (batch, size, size).
    """
    position = shuffled(len(images), seed)

    def one(draw: int) -> tuple[np.ndarray, np.ndarray]:
        rng, index = np.random.default_rng([seed, draw]), position(draw)
        if ranges is None:
            return augment.published_pair(rng, images[index], masks[index])
        return augment.pair(rng, images[index], masks[index], ranges)

    spec = (images.shape[1:], np.uint8)
    return _batches(one, batch_size, spec, spec, first=first)


def of_labels(
    images: np.ndarray | Rows,
    labels: np.ndarray,
    batch_size: int,
    seed: int,
    ranges: augment.Ranges,
) -> tf.data.Dataset:
    """Endless batches of augmented images, as for `of_pairs`, with their labels (n, labels).

    Returns:
        Data set of float32 images (batch, size, size, 1) in [0, 1] and float32 labels.
    """
    side, position = images.shape[1], shuffled(len(images), seed)

    def one(draw: int) -> tuple[np.ndarray, np.ndarray]:
        index = position(draw)
        matrix = augment.draw_matrix(np.random.default_rng([seed, draw]), side, ranges)
        moved = augment.warp(images[index], matrix)
        return moved[..., None] / np.float32(255), labels[index].astype(np.float32)

    return _batches(
        one, batch_size, ((side, side, 1), np.float32), ((labels.shape[1],), np.float32)
    )


def _batches(
    one: Callable, batch_size: int, *specs: tuple[tuple, type], first: int = 0
) -> tf.data.Dataset:
    """Batches of what ``one`` makes of the draws 0, 1, 2 and so on."""
    import tensorflow as tf

    kinds = [dtype for _, dtype in specs]

    def make(draw: tf.Tensor) -> tuple[tf.Tensor, ...]:
        # A draw depends on its number alone; called stateful, they would run one by one.
        made = tf.numpy_function(lambda number: one(int(number)), [draw], kinds, stateful=False)
        shapes = [shape for shape, _ in specs]
        return tuple(tf.ensure_shape(part, shape) for part, shape in zip(made, shapes, strict=True))

    draws = tf.data.Dataset.range(first * batch_size, np.iinfo(np.int64).max)
    made = draws.map(make, num_parallel_calls=os.cpu_count(), deterministic=True)
    return made.batch(batch_size, drop_remainder=True).prefetch(2)
