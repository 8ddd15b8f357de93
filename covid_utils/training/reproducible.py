"""The same numbers from the same seed.

Bit-identical runs also need ``TF_ENABLE_ONEDNN_OPTS=0`` and a fixed number of threads, both set
before TensorFlow is imported: the Makefile and the kernel that ``make setup`` installs do it.
"""

from __future__ import annotations


def start(seed: int) -> None:
    """Seed Python, NumPy and TensorFlow, and make TensorFlow's operations deterministic.

    Args:
        seed: Any non-negative integer.
    """
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
