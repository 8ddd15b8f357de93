"""The devices that a training uses: every GPU that is found, or the processor."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf


def strategy_of(kind: str = "GPU") -> tf.distribute.Strategy:
    """Strategy for all logical devices of a kind.

    Args:
        kind: ``GPU``; ``CPU`` exercises the same path on logical devices without a GPU.

    Returns:
        `tf.distribute.MirroredStrategy` over two devices or more, each with its share of every
        batch; else the default, which is no strategy at all.
    """
    import tensorflow as tf

    found = [device.name for device in tf.config.list_logical_devices(kind)]
    return tf.distribute.MirroredStrategy(found) if len(found) > 1 else tf.distribute.get_strategy()


def use_mixed_precision(kind: str = "GPU") -> bool:
    """Compute in float16 where devices of a kind are found; weights and logits stay float32.

    On a processor float16 is slower, so nothing changes there.

    Args:
        kind: As for `strategy_of`.

    Returns:
        Whether mixed precision is on now.
    """
    import keras
    import tensorflow as tf

    is_found = bool(tf.config.list_logical_devices(kind))
    if is_found:
        keras.mixed_precision.set_dtype_policy("mixed_float16")
    return is_found
