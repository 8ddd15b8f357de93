"""The same numbers from the same seed; `workflow/environment.py` sets the rest of what it takes."""

from __future__ import annotations

import os

from covid_utils.errors import ParameterError


def start(seed: int) -> None:
    """Seed Python, NumPy and TensorFlow, and make TensorFlow's operations deterministic."""
    overrule()
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def overrule() -> None:
    """Overrule what the user's ``keras.json`` says of number types and of the order of axes."""
    os.environ["KERAS_BACKEND"] = "tensorflow"  # read when Keras is first imported
    import keras
    import tensorflow as tf

    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ParameterError(
            f"Keras computes with '{backend}' in this process, and the networks need TensorFlow; "
            "start Python with KERAS_BACKEND=tensorflow."
        )
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    # Each training traces functions of its own, and TensorFlow would warn of that.
    tf.get_logger().setLevel("ERROR")
