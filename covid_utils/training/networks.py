"""The network of a stream: built and traced once in a process, then reset for the next stream.

Tracing the training step of DeepLab-v3+ takes many times as long as drawing new weights (see
``benchmarks/README.md``).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from covid_utils import paths
from covid_utils.errors import ParameterError
from covid_utils.training.devices import strategy_of
from covid_utils.training.fused import with_fused_norms
from covid_utils.training.losses import segmentation_loss
from covid_utils.training.schedules import poly_optimizer

if TYPE_CHECKING:
    import keras

    from covid_utils.training.segmentation import StreamSettings


def build(settings: StreamSettings) -> keras.Model:
    """The stream's network, with random weights from the settings' seed.

    Two calls with the same architecture and training give the same object, reset: use one after
    the other, or keep what `keras.Model.get_weights` returns.

    Args:
        settings: Of the stream.

    Returns:
        Compiled model from images (n, side, side, channels) in [0, 255] to logits, see
        `models.deeplab.deeplab_v3plus` and `models.unet.unet`; ``side`` is the settings'.
    """
    model = _compiled(*settings.architecture, *settings.recipe)
    reset(model, settings.draws)
    return model


@lru_cache(maxsize=2)
def _compiled(
    kind: str,
    classes: int,
    side: int,
    base: int,
    width: float,
    middle_blocks: int,
    output_stride: int,
    decoder_stride: int,
    atrous_rates: tuple[int, ...],
    norm_momentum: float,
    loss: str,
    class_weights: tuple[float, ...],
    optimizer: tuple[tuple[str, object], ...],
    weight_decay: float,
    batch_norm: str,
) -> keras.Model:
    """Build and compile; cached, because what is costly is the trace that comes with it."""
    import keras

    from covid_utils.models.deeplab import deeplab_v3plus
    from covid_utils.models.unet import unet

    with strategy_of("GPU").scope():
        if kind == "unet":
            model = unet(classes, side, base, norm_momentum)
        else:
            shape, rest = (side, side, 3), {"momentum": norm_momentum}
            rest |= {"width": width, "middle_blocks": middle_blocks}
            rest["decoder_output_stride"] = decoder_stride
            model = deeplab_v3plus(classes, shape, output_stride, atrous_rates, **rest)
        if batch_norm == "trained":  # on GPUs the operation has no repeatable gradient when frozen
            model = with_fused_norms(model)
        _penalise(model, weight_decay)
        for layer in model.layers:
            if batch_norm == "frozen" and isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
        made = poly_optimizer(**dict(optimizer))
        model.compile(made, segmentation_loss(loss, class_weights), jit_compile=False)
        # Variables that are made within the first step cost a second trace. Compiling may have
        # wrapped the optimiser (float16 needs its loss scaled), so the wrapper is built.
        model.optimizer.build(model.trainable_variables)
    return model


def _penalise(model: keras.Model, weight_decay: float) -> None:
    """L2 penalty on convolution kernels, as published: not on depthwise ones or batch norm."""
    import keras

    if not weight_decay:
        return
    for layer in model.layers:
        if type(layer).__name__ in ("Conv2D", "Conv2DTranspose"):
            # TensorFlow 1 halves the sum of squares, Keras does not.
            layer.kernel.regularizer = keras.regularizers.L2(weight_decay / 2)


def reset(model: keras.Model, seed: int) -> None:
    """Draw new weights in place, and forget what the optimiser knows.

    Args:
        model: Any model of convolutions and batch norms; changed.
        seed: Of the draw: the same seed gives the same weights, whatever was there before.
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


def fill(
    model: keras.Model,
    settings: StreamSettings,
    donor: dict[str, list[np.ndarray]] | None = None,
    root: Path = paths.PROJECT,
) -> pd.DataFrame:
    """Start a network from elsewhere; its last layer, which answers another question, stays random.

    Args:
        model: From `build`; changed.
        settings: With ``init`` ``random``, ``nodule``, ``imagenet`` or ``tf1``.
        donor: Weights of the nodule stream by layer, for ``nodule``.
        root: Folder that a relative ``weights`` starts from.

    Returns:
        A row a layer that was looked at: ``layer``, ``source`` and ``how``; no row for ``random``.

    Raises:
        DataError: A weights file is missing or of another network.
    """
    if settings.init == "nodule":
        return _from_nodules(model, donor or {})
    if settings.init == "imagenet":
        from covid_utils.models.imagenet import carry_over, load_xception

        return carry_over(model, load_xception(_located(settings.weights, root)))
    if settings.init == "tf1":
        from covid_utils.models.checkpoints import load_tf1_checkpoint

        names = load_tf1_checkpoint(model, Path(_located(settings.weights, root)))
        return pd.DataFrame({"layer": names, "source": names, "how": "read"})
    return pd.DataFrame(columns=["layer", "source", "how"])


def _from_nodules(model: keras.Model, donor: dict[str, list[np.ndarray]]) -> pd.DataFrame:
    rows = []
    for layer in model.layers:
        if layer.weights and not layer.name.startswith("logits"):
            layer.set_weights(donor[layer.name])
            rows.append({"layer": layer.name, "source": "stream nodule", "how": "carried"})
    return pd.DataFrame(rows)


def _located(weights: str, root: Path) -> str:
    """``imagenet``, or the path of a file."""
    if not weights:
        raise ParameterError("weights: name the file that init starts from, or 'imagenet'.")
    return weights if weights == "imagenet" else str(root / Path(weights).expanduser())
