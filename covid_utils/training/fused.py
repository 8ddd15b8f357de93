"""Batch norm as one operation, for training.

Keras computes batch norm from a dozen elementwise operations, each over the whole activation;
TensorFlow has one with the same results. The networks of `covid_utils.models` keep Keras's layer,
so that a saved model loads without this package; a training swaps it, and its weights fit either.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def with_fused_norms(model: keras.Model) -> keras.Model:
    """A copy of an uncompiled functional model whose batch norms are one operation each."""
    import keras

    fused = _layer()

    def twin(layer: keras.layers.Layer) -> keras.layers.Layer:
        is_norm = type(layer) is keras.layers.BatchNormalization
        return (fused if is_norm else type(layer)).from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=twin)
    copy.set_weights(model.get_weights())
    return copy


@lru_cache(maxsize=1)
def _layer() -> type[keras.layers.BatchNormalization]:

    import keras
    import tensorflow as tf

    class BatchNormalization(keras.layers.BatchNormalization):
        """Keras's own, as one operation. A weights file names layers by class: hence this name."""

        def call(self, inputs, training=None, mask=None):
            is_learning = bool(training) and self.trainable
            moving = {"mean": self.moving_mean, "variance": self.moving_variance}
            result, mean, variance = tf.compat.v1.nn.fused_batch_norm(
                inputs,
                tf.cast(self.gamma, tf.float32),  # float32 is required even with float16 images
                tf.cast(self.beta, tf.float32),
                epsilon=self.epsilon,
                is_training=is_learning,
                **({} if is_learning else moving),
            )
            if is_learning:
                # The operation gives the unbiased variance; Keras keeps the biased one. Of a single
                # value the former may be no number, and the latter is 0.
                count = tf.cast(tf.size(inputs) / inputs.shape[-1], tf.float32)
                biased = tf.math.multiply_no_nan(variance, (count - 1) / count)
                for kept, batch in ((self.moving_mean, mean), (self.moving_variance, biased)):
                    kept.assign(kept * self.momentum + batch * (1 - self.momentum))
            return result

    return BatchNormalization
