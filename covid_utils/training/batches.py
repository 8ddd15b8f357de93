"""Augmented training batches, made on all cores while the network trains on the one before.

Each image is read when its turn comes, so memory does not grow with their number; and each draw has
its own seed, so the number of threads changes nothing.
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

#: From a generator, a uint8 image (side, side) and its target to both as the network takes them.
Augmented = Callable[[np.random.Generator, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def of_pairs(
    images: np.ndarray | Rows,
    targets: np.ndarray | Rows,
    batch_size: int,
    seed: int,
    augmented: Augmented,
    first: int = 0,
) -> tf.data.Dataset:
    """Endless batches, from the ``first`` on, of images and their masks or labels.

    Each image comes once a round. A training that goes on sees what it would have seen.
    """
    import tensorflow as tf

    count = len(images)

    @lru_cache(maxsize=2)  # a batch may reach into the next round, which has a new order
    def order(number: int) -> np.ndarray:
        return np.random.default_rng([seed, number]).permutation(count)

    def drawn(draw: np.ndarray) -> tuple[np.ndarray, ...]:
        at = order(int(draw) // count)[int(draw) % count]
        return augmented(np.random.default_rng([seed, int(draw)]), images[at], targets[at])

    example = drawn(0)

    def make(draw: tf.Tensor) -> tuple[tf.Tensor, ...]:
        # A draw depends on its number alone; called stateful, they would run one by one.
        parts = tf.numpy_function(drawn, [draw], [one.dtype for one in example], stateful=False)
        return tuple(map(tf.ensure_shape, parts, [one.shape for one in example]))

    draws = tf.data.Dataset.range(first * batch_size, np.iinfo(np.int64).max)
    items = draws.map(make, num_parallel_calls=os.cpu_count(), deterministic=True)
    return items.batch(batch_size, drop_remainder=True).prefetch(2)
