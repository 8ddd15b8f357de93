"""The network of a stream: built and traced once per process, then reset for the next stream.

Tracing the training step of DeepLab-v3+ takes many times as long as drawing new weights (see
``benchmarks/README.md``).
"""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

from covid_utils.data.labels import label_names
from covid_utils.training.devices import strategy_of
from covid_utils.training.fused import with_fused_norms
from covid_utils.training.losses import segmentation_loss

if TYPE_CHECKING:
    import keras

    from covid_utils.training.streams import StreamSettings

#: Settings that the compiled network depends on, beside its classes.
COMPILED = (
    *("model", "side", "channels", "base", "width", "middle_blocks", "output_stride"),
    *("atrous_rates", "decoder_stride", "norm_momentum", "batch_norm", "steps", "accumulate"),
    *("optimizer", "learning_rate", "momentum", "power", "weight_decay", "loss"),
)


def build(settings: StreamSettings) -> keras.Model:
    """The stream's network, with random weights from the settings' seed.

    Two calls with the same architecture and training give the same object, reset: use one after
    the other, or keep what `keras.Model.get_weights` returns.

    Returns:
        Compiled model from images (n, side, side, channels) in [0, 255] to logits, see
        `models.deeplab.deeplab_v3plus` and `models.unet.unet`; ``side`` is the settings'.
    """
    weights = [settings.class_weights[label] for label in (0, *label_names(settings.stream))]
    own = tuple((name, getattr(settings, name)) for name in COMPILED)
    model = _compiled((*own, ("class_weights", tuple(weights))))
    reset(model, settings.draws)
    return model


@lru_cache(maxsize=2)
def _compiled(settings: tuple[tuple[str, object], ...]) -> keras.Model:
    """Build and compile; cached, because what is costly is the trace that comes with it."""
    import keras

    own = SimpleNamespace(**dict(settings))
    with strategy_of("GPU").scope():
        model = _architecture(own)
        if own.batch_norm == "trained":  # frozen, the operation has no repeatable gradient on GPUs
            model = with_fused_norms(model)
        for layer in model.layers:
            kind = type(layer).__name__
            if kind in ("Conv2D", "Conv2DTranspose") and own.weight_decay:
                # As published, neither depthwise kernels nor batch norm. TensorFlow 1 halves the
                # sum of squares, Keras does not.
                layer.kernel.regularizer = keras.regularizers.L2(own.weight_decay / 2)
            if kind == "BatchNormalization":
                layer.trainable = own.batch_norm == "trained"
        loss = segmentation_loss(own.loss, own.class_weights)
        model.compile(poly_optimizer(own), loss, jit_compile=False)
        # Variables that are made within the first step cost a second trace. Compiling may have
        # wrapped the optimiser (float16 needs its loss scaled), so the wrapper is built.
        model.optimizer.build(model.trainable_variables)
    return model


def _architecture(own: SimpleNamespace) -> keras.Model:
    from covid_utils.models.deeplab import deeplab_v3plus
    from covid_utils.models.unet import unet

    classes, shape = len(own.class_weights), (own.side, own.side, own.channels)
    if own.model == "unet":
        return unet(classes, own.side, own.base, own.norm_momentum)
    encoder = (own.output_stride, own.atrous_rates, own.width, own.middle_blocks)
    return deeplab_v3plus(classes, shape, *encoder, own.decoder_stride, own.norm_momentum)


def poly_optimizer(settings: StreamSettings) -> keras.optimizers.Optimizer:
    """Optimiser whose rate falls as (1 - step / steps) ** power (DeepLab's schedule)."""
    import keras

    batches = settings.accumulate

    class Decay(keras.optimizers.schedules.PolynomialDecay):
        """Counts steps: Keras tells it the number of batches."""

        def __call__(self, batch):
            return super().__call__(batch // batches)

    rate = Decay(settings.learning_rate, settings.steps, 0.0, settings.power)
    rest = {"gradient_accumulation_steps": batches if batches > 1 else None}
    if settings.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=settings.momentum, **rest)
    return keras.optimizers.Adam(rate, **rest)


def reset(model: keras.Model, seed: int) -> None:
    """Draw new weights in place and clear the optimiser.

    The same seed gives the same weights, whatever was there before.
    """
    import keras

    for number, layer in enumerate(model.layers):
        for variable in layer.variables:
            initial = _initialiser(layer, variable)
            if initial is None:  # the state of a random generator, such as dropout's
                variable.assign(np.array([seed, number], np.uint32))
                continue
            seeded = {"seed": seed * 1000 + number} if "seed" in initial.get_config() else {}
            fresh = type(initial).from_config(initial.get_config() | seeded)
            variable.assign(fresh(variable.shape, dtype="float32"))
    for variable in model.optimizer.variables if model.optimizer else ():
        if variable.name == "dynamic_scale":  # of the loss, with float16
            variable.assign(model.optimizer.initial_scale)
        elif variable.name != "learning_rate":
            variable.assign(keras.ops.zeros_like(variable))


def _initialiser(layer: keras.layers.Layer, variable: keras.Variable):
    """Initialiser that a layer made a variable with; None for none."""
    kind = "depthwise" if type(layer).__name__ == "DepthwiseConv2D" else "kernel"
    name = kind if variable.name == "kernel" else variable.name
    return getattr(layer, f"{name}_initializer", None)
