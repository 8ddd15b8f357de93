"""The network of a stream and its loss: built and traced once per process, then reset.

Tracing the training step of DeepLab-v3+ takes many times as long as drawing new weights.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from covid_utils.data.augment import IGNORE
from covid_utils.data.labels import label_names
from covid_utils.models.deeplab import deeplab_v3plus, resize_aligned
from covid_utils.models.unet import unet

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from covid_utils.training.streams import StreamSettings


#: Settings that the compiled network depends on, beside the weights of its classes.
COMPILED = (
    *("model", "side", "channels", "base", "width", "middle_blocks", "atrous_rates"),
    *("decoder_stride", "norm_momentum", "steps", "optimizer", "learning_rate", "momentum"),
    *("power", "weight_decay", "loss"),
)


def build(settings: StreamSettings) -> keras.Model:
    """The stream's compiled network, with random weights from the settings' seed.

    It takes images (n, side, side, channels) in [0, 255] and gives logits. Two calls with the same
    architecture and training give the same object, reset: use one after the other, or keep what
    `keras.Model.get_weights` returns.
    """
    weights = tuple(settings.class_weights[at] for at in (0, *label_names(settings.stream)))
    model = _compiled(weights, **{name: getattr(settings, name) for name in COMPILED})
    reset(model, settings.draws)
    return model


def untrained(settings: StreamSettings, classes: int = 0) -> keras.Model:
    """The stream's network to fill with trained weights: it has no optimiser, and starts sooner."""
    classes = classes or 1 + len(label_names(settings.stream))
    if settings.model == "unet":
        return unet(classes, settings.side, settings.base, settings.norm_momentum)
    return deeplab_v3plus(
        classes,
        (settings.side, settings.side, settings.channels),
        atrous_rates=settings.atrous_rates,
        width=settings.width,
        middle_blocks=settings.middle_blocks,
        decoder_output_stride=settings.decoder_stride,
        momentum=settings.norm_momentum,
    )


@lru_cache(maxsize=2)
def _compiled(class_weights: tuple[float, ...], **values: Any) -> keras.Model:
    import keras

    own = SimpleNamespace(**values)
    with strategy_of("GPU").scope():
        model = with_fused_norms(untrained(own, len(class_weights)))
        for layer in model.layers:
            if type(layer).__name__ in ("Conv2D", "Conv2DTranspose") and own.weight_decay:
                # As published, neither depthwise kernels nor batch norm. TensorFlow 1 halves the
                # sum of squares, Keras does not.
                layer.kernel.regularizer = keras.regularizers.L2(own.weight_decay / 2)
        loss = segmentation_loss(own.loss, class_weights)
        model.compile(poly_optimizer(own), loss, jit_compile=False)
        # Variables that are made within the first step cost a second trace. Compiling may have
        # wrapped the optimiser (float16 needs its loss scaled), so the wrapper is built.
        model.optimizer.build(model.trainable_variables)
    return model


def strategy_of(kind: str) -> tf.distribute.Strategy:
    """Mirrored strategy for two or more logical devices of a kind (``GPU``), else the default."""
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


def poly_optimizer(settings: StreamSettings) -> keras.optimizers.Optimizer:
    """Optimiser whose rate falls as (1 - step / steps) ** power (DeepLab's schedule)."""
    import keras

    decay = keras.optimizers.schedules.PolynomialDecay
    rate = decay(settings.learning_rate, settings.steps, 0.0, settings.power)
    if settings.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=settings.momentum)
    return keras.optimizers.Adam(rate)


def reset(model: keras.Model, seed: int) -> None:
    """Draw new weights in place and clear the optimiser, whatever was there before."""
    import keras

    for number, layer in enumerate(model.layers):
        for variable in layer.variables:
            is_depthwise = type(layer).__name__ == "DepthwiseConv2D" and variable.name == "kernel"
            name = "depthwise" if is_depthwise else variable.name
            initial = getattr(layer, f"{name}_initializer", None)
            if initial is None:  # the state of a random generator, such as dropout's
                variable.assign(np.array([seed, number], np.uint32))
                continue
            seeded = {"seed": seed * 1000 + number} if "seed" in initial.get_config() else {}
            fresh = type(initial).from_config(initial.get_config() | seeded)
            variable.assign(fresh(variable.shape, dtype="float32"))
    for variable in model.optimizer.variables:
        if variable.name == "dynamic_scale":  # of the loss, with float16
            variable.assign(model.optimizer.initial_scale)
        elif variable.name != "learning_rate":
            variable.assign(keras.ops.zeros_like(variable))


def segmentation_loss(name: str, class_weights: tuple[float, ...]) -> Callable:
    """Loss of logits against class indices; logits are enlarged to the mask, as published.

    ``cross_entropy`` is the paper's; ``dice_cross_entropy`` adds one minus the soft Dice, without
    which short runs end in "no lesion anywhere". ``class_weights`` are those of a pixel in the
    cross entropy, which is divided by their sum.

    Returns:
        Function from truth (n, height, width), class indices or `IGNORE`, and logits (n, rows,
        columns, classes) to the batch's loss, (1,).
    """
    import tensorflow as tf

    def dice(truth, predicted):
        overlap = tf.reduce_sum(truth * predicted, axis=(0, 1, 2))
        total = tf.reduce_sum(truth + predicted, axis=(0, 1, 2))
        # One pixel of smoothing: a class that is absent and not predicted costs nothing.
        return tf.reduce_mean((2 * overlap + 1) / (total + 1))

    def loss(truth, logits):
        logits = tf.cast(resize_aligned(logits, tuple(truth.shape[1:3])), tf.float32)
        truth = tf.cast(truth, tf.int32)
        is_counted = tf.cast(truth != IGNORE, tf.float32)
        one_hot = tf.one_hot(truth, len(class_weights))  # all zero where ignored
        weight = tf.reduce_sum(one_hot * tf.constant(class_weights, tf.float32), axis=-1)
        entropy = tf.nn.softmax_cross_entropy_with_logits(one_hot, logits)
        value = tf.reduce_sum(weight * entropy) / tf.maximum(tf.reduce_sum(weight), 1.0)
        if name == "dice_cross_entropy":
            predicted = tf.nn.softmax(logits) * is_counted[..., None]
            shown, predicted = one_hot[..., 1:], predicted[..., 1:]  # without background
            missed = 1 - dice(shown, predicted)
            if len(class_weights) > 2:
                # Where two manifestations are mistaken for each other, the extent is still right.
                any_shown = tf.reduce_sum(shown, axis=-1, keepdims=True)
                any_predicted = tf.reduce_sum(predicted, axis=-1, keepdims=True)
                missed = missed + 1 - dice(any_shown, any_predicted)
            value += missed
        return value[None]  # Keras shares a vector among the devices, but not a scalar

    return loss


def with_fused_norms(model: keras.Model) -> keras.Model:
    """A copy of an uncompiled functional model whose batch norms are one operation each.

    Keras computes batch norm from a dozen elementwise operations, each over the whole activation;
    TensorFlow has one with the same results. The networks of `covid_utils.models` keep Keras's
    layer, so that a saved model loads without this package; weights fit either.
    """
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

    def twin(layer: keras.layers.Layer) -> keras.layers.Layer:
        is_norm = type(layer) is keras.layers.BatchNormalization
        return (BatchNormalization if is_norm else type(layer)).from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=twin)
    copy.set_weights(model.get_weights())
    return copy
