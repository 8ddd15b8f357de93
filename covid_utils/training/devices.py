"""The devices that a training uses: every GPU that is there, or the processor."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf


def strategy_of(kind: str = "GPU") -> tf.distribute.Strategy:
    """`tf.distribute.MirroredStrategy` for two or more logical devices of a kind, else the default.

    Args:
        kind: ``GPU``; ``CPU`` exercises the same path on logical devices without a GPU.
    """
    import tensorflow as tf

    names = [device.name for device in tf.config.list_logical_devices(kind)]
    return tf.distribute.MirroredStrategy(names) if len(names) > 1 else tf.distribute.get_strategy()


def use_mixed_precision() -> bool:
    """Compute in float16 on GPUs; weights and logits stay float32. Whether it is on now."""
    import keras
    import tensorflow as tf

    has_gpu = bool(tf.config.list_logical_devices("GPU"))
    if has_gpu:  # on a processor float16 is slower
        keras.mixed_precision.set_dtype_policy("mixed_float16")
    return has_gpu
