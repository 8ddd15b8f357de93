"""Augmented training batches, made while the network works on the one before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from covid_utils.data import augment

if TYPE_CHECKING:
    import tensorflow as tf


def shuffled(count: int, batch_size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Endless batches of positions: every item once in each round, in a new order.

    Args:
        count: Number of items, at least 1.
        batch_size: Positions a batch; a batch may reach into the next round.
        rng: Source of randomness.
    """
    waiting = np.empty(0, np.int64)
    while True:
        while len(waiting) < batch_size:
            waiting = np.concatenate([waiting, rng.permutation(count)])
        yield waiting[:batch_size]
        waiting = waiting[batch_size:]


def of_pairs(
    images: np.ndarray, masks: np.ndarray, batch_size: int, seed: int, ranges: augment.Ranges
) -> tf.data.Dataset:
    """Endless batches of images and masks, augmented alike.

    Args:
        images: uint8 (n, size, size).
        masks: uint8 (n, size, size).
        batch_size: Pairs a batch.
        seed: Of order and augmentation.
        ranges: Of the augmentation.

    Returns:
        Data set of uint8 images and masks, both (batch, size, size).
    """
    shape = (batch_size, *images.shape[1:])

    def generate() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng(seed)
        for drawn in shuffled(len(images), batch_size, rng):
            pairs = [augment.pair(rng, images[i], masks[i], ranges) for i in drawn]
            yield np.stack([image for image, _ in pairs]), np.stack([mask for _, mask in pairs])

    return _prefetched(generate, (shape, np.uint8), (shape, np.uint8))


def of_labels(
    images: np.ndarray, labels: np.ndarray, batch_size: int, seed: int, ranges: augment.Ranges
) -> tf.data.Dataset:
    """Endless batches of augmented images with their labels.

    Args:
        images: uint8 (n, size, size).
        labels: (n, labels), 0 or 1.
        batch_size: Images a batch.
        seed: Of order and augmentation.
        ranges: Of the augmentation.

    Returns:
        Data set of float32 images (batch, size, size, 1) in [0, 1] and float32 labels.
    """
    side = images.shape[1]

    def generate() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng(seed)
        for drawn in shuffled(len(images), batch_size, rng):
            moved = [augment.warp(images[i], augment.draw_matrix(rng, side, ranges)) for i in drawn]
            yield np.stack(moved)[..., None] / np.float32(255), labels[drawn].astype(np.float32)

    batch = (batch_size, side, side, 1)
    return _prefetched(generate, (batch, np.float32), ((batch_size, labels.shape[1]), np.float32))


def _prefetched(generate, *specs) -> tf.data.Dataset:
    import tensorflow as tf

    signature = tuple(tf.TensorSpec(shape, dtype) for shape, dtype in specs)
    return tf.data.Dataset.from_generator(generate, output_signature=signature).prefetch(2)
