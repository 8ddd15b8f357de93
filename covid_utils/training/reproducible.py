"""The same numbers from the same seed.

Bit-identical runs also need a fixed number of threads and, across processors,
``TF_ENABLE_ONEDNN_OPTS=0``, both set before TensorFlow is imported: the Makefile does it.
"""

from __future__ import annotations


def start(seed: int) -> None:
    """Seed Python, NumPy and TensorFlow, and make TensorFlow's operations deterministic."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
