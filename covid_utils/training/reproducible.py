"""The same numbers from the same seed; `covid_utils.environment` sets the rest of what it takes."""

from __future__ import annotations


def start(seed: int) -> None:
    """Seed Python, NumPy and TensorFlow, and make TensorFlow's operations deterministic."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
