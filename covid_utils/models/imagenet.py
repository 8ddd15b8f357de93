"""Keras's Xception, trained on ImageNet, carried over into Aligned Xception-65.

The two agree in most kernels. Where the aligned network has a layer more, that layer starts as the
identity where it can, and a second copy of a middle block starts silent, so that the network at
first computes nearly what Keras's does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from covid_utils.data import guard
from covid_utils.errors import DataError

if TYPE_CHECKING:
    import keras


#: Middle blocks of Keras's network: ``block5`` to ``block12``.
MIDDLE = range(5, 13)
#: Block of ours -> block of Keras's, and the number in the name of its shortcut.
_ENTRY = {
    "entry_flow.block1.unit_1": ("block2", 0),
    "entry_flow.block2.unit_1": ("block3", 1),
    "entry_flow.block3.unit_1": ("block4", 2),
    "exit_flow.block1.unit_1": ("block13", 3),
}
_EXIT = "exit_flow.block2.unit_1"


def load_xception(weights: str | Path) -> keras.Model:
    """Keras's Xception without its top, from a ``.weights.h5``.

    ``imagenet`` in place of a file is Keras's own, which it downloads once.
    """
    import keras

    if weights == "imagenet":
        build = partial(keras.applications.Xception, include_top=False)
        otherwise = "name a file of keras.applications.Xception without its top in their place"
        return downloaded(build, otherwise)
    if not Path(weights).is_file():
        remedy = "name a file of keras.applications.Xception without its top, or 'imagenet'."
        raise DataError(f"{weights}: no such weights file; {remedy}")
    model = keras.applications.Xception(include_top=False, weights=None)
    guard.read(Path(weights), "weights file of Xception without its top", model.load_weights)
    return model


def downloaded(build: Callable[..., keras.Model], otherwise: str) -> keras.Model:
    """A network with Keras's own weights; ``otherwise`` is what to do where these cannot be had."""
    try:
        return build(weights="imagenet")
    except Exception as error:  # Keras raises a bare Exception for any failed download
        raise DataError(
            "weights 'imagenet' could not be downloaded; connect to the network once, or "
            f"{otherwise}."
        ) from error


def carry_over(model: keras.Model, source: keras.Model) -> pd.DataFrame:
    """Fill the encoder of DeepLab-v3+, of width 1, from Keras's Xception.

    Returns:
        One row per convolution of the encoder: ``layer``, ``source`` and ``how``: ``carried``,
        ``identity`` (no counterpart, passes its input on) or ``silent copy`` (a middle block used a
        second time, its last scale at 0).
    """
    rows = []
    for layer in model.layers:
        is_convolution = type(layer).__name__ in ("Conv2D", "DepthwiseConv2D")
        if is_convolution and layer.name.startswith(("entry_flow", "middle_flow", "exit_flow")):
            origin, is_copy = _origin(layer.name, model, source)
            how = _fill(model, layer, source, origin, is_copy)
            rows.append({"layer": layer.name, "source": origin, "how": how})
    return pd.DataFrame(rows)


def _origin(name: str, model: keras.Model, source: keras.Model) -> tuple[str, bool]:
    """Layer of Keras's network that one of ours comes from ('' for none), and if it is a copy."""
    if name.startswith("entry_flow.conv1_"):
        return f"block1_conv{name[-1]}", False
    block, _, part = name.rpartition(".")
    number = part.removeprefix("separable_conv")[0]
    if block == _EXIT:
        return {"1": "block14_sepconv1", "3": "block14_sepconv2"}.get(number, ""), False
    if block in _ENTRY:
        theirs, shortcut = _ENTRY[block]
        if part == "shortcut":
            points = [la for la in source.layers if getattr(la, "kernel_size", 0) == (1, 1)]
            return sorted(points, key=lambda la: la.kernel.shape[-1])[shortcut].name, False
        return (f"{theirs}_sepconv{number}" if number in "12" else ""), False
    # Our middle blocks are spread over theirs; the second from the same block is a copy.
    firsts = [la.name for la in model.layers if la.name.endswith("separable_conv1_depthwise")]
    units = sum(first.startswith("middle_flow") for first in firsts)
    unit = int(block.rsplit("_", 1)[1]) - 1
    chosen = MIDDLE[unit * len(MIDDLE) // units]
    is_copy = unit > 0 and chosen == MIDDLE[(unit - 1) * len(MIDDLE) // units]
    return f"block{chosen}_sepconv{number}", is_copy


def _fill(
    model: keras.Model, layer: keras.layers.Layer, source: keras.Model, origin: str, is_copy: bool
) -> str:
    norm = model.get_layer(f"{layer.name}.BatchNorm")
    channels = norm.gamma.shape
    is_depthwise = type(layer).__name__ == "DepthwiseConv2D"
    # Keras's network has no batch norm after a depthwise convolution: ours does nothing at first.
    values = [np.ones(channels), np.zeros(channels), np.zeros(channels)]
    values.append(np.full(channels, 1 - norm.epsilon))
    if origin:
        weights = source.get_layer(origin).get_weights()
        kernel = weights[0] if is_depthwise or len(weights) == 1 else weights[1]
        values = values if is_depthwise else _norm_of(source, origin).get_weights()
    elif is_depthwise:  # the identity
        kernel = np.zeros(layer.kernel.shape, np.float32)
        kernel[1, 1] = 1
    else:
        kernel = np.eye(layer.kernel.shape[2], dtype=np.float32)[None, None]
    if is_copy and layer.name.endswith("separable_conv3_pointwise"):
        values[:2] = np.zeros(channels), np.zeros(channels)
    layer.kernel.assign(kernel)
    norm.set_weights(values)
    return "silent copy" if is_copy else "carried" if origin else "identity"


def _norm_of(source: keras.Model, name: str) -> keras.layers.Layer:
    """Batch norm behind a convolution; that of a shortcut is known by what it reads alone."""
    if f"{name}_bn" in {layer.name for layer in source.layers}:
        return source.get_layer(f"{name}_bn")
    output = source.get_layer(name).output
    return next(la for la in source.layers if la.input is output)
