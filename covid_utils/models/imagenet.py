"""Keras's Xception, trained on ImageNet, carried over into Aligned Xception-65.

The two agree in most kernels. Where the aligned network has a layer more, that layer starts as the
identity where it can, and a second copy of a middle block starts silent, so that the network at
first computes nearly what Keras's does.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

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


def load_xception(weights: str) -> keras.Model:
    """Keras's Xception without its top.

    Args:
        weights: ``imagenet`` (Keras downloads them once), or a file: a ``.weights.h5`` of the
            network without its top, or a ``.keras`` model that is one or contains one.

    Raises:
        DataError: No such file, or there is no Xception in it.
    """
    import keras

    if weights == "imagenet":
        return keras.applications.Xception(include_top=False, weights="imagenet")
    path = Path(weights)
    remedy = "name a file of keras.applications.Xception without its top, or 'imagenet'."
    if not path.is_file():
        raise DataError(f"{path}: no such weights file; {remedy}")
    try:
        if path.suffix != ".keras":
            model = keras.applications.Xception(include_top=False, weights=None)
            model.load_weights(path)
            return model
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a whole weights file of Xception; {remedy}") from error
    for candidate in (model, *model.layers):
        names = {layer.name for layer in getattr(candidate, "layers", ())}
        if "block14_sepconv2" in names:
            return candidate
    raise DataError(f"{path}: holds no Xception; {remedy}")


def carry_over(model: keras.Model, source: keras.Model) -> pd.DataFrame:
    """Fill the encoder of DeepLab-v3+ from Keras's Xception.

    Args:
        model: From `models.deeplab.deeplab_v3plus`, of any width and number of middle blocks;
            changed.
        source: From `load_xception`.

    Returns:
        A row a convolution of the encoder: ``layer``, ``source`` and ``how``: ``carried``,
        ``identity`` (no counterpart, passes its input on), ``silent copy`` (a middle block used a
        second time, its last scale at 0) or ``random`` (shapes differ).
    """
    rows = []
    for layer in model.layers:
        if not _is_encoder(layer):
            continue
        origin = _origin(layer.name, model, source)
        rows.append({"layer": layer.name, "source": origin} | _fill(model, layer, source, origin))
    return pd.DataFrame(rows)


def _is_encoder(layer: keras.layers.Layer) -> bool:
    is_convolution = type(layer).__name__ in ("Conv2D", "DepthwiseConv2D")
    return is_convolution and layer.name.startswith(("entry_flow", "middle_flow", "exit_flow"))


def _origin(name: str, model: keras.Model, source: keras.Model) -> str:
    """Name of the layer of Keras's network that a convolution of ours comes from, '' for none."""
    if name.startswith("entry_flow.conv1_"):
        return f"block1_conv{name[-1]}"
    block, _, part = name.rpartition(".")
    number = part.removeprefix("separable_conv")[0]
    if block == _EXIT:
        return {"1": "block14_sepconv1", "3": "block14_sepconv2"}.get(number, "")
    if block in _ENTRY:
        theirs, shortcut = _ENTRY[block]
        if part == "shortcut":
            return _shortcuts(source)[shortcut]
        return f"{theirs}_sepconv{number}" if number in "12" else ""
    return f"block{_middle(block, model)[0]}_sepconv{number}"


def _shortcuts(source: keras.Model) -> list[str]:
    """Names of the 1 x 1 shortcut convolutions, which Keras numbers as it goes."""
    found = [
        la for la in source.layers if la.name.startswith("conv2d") and la.kernel_size == (1, 1)
    ]
    return [la.name for la in sorted(found, key=lambda la: la.kernel.shape[-1])]


def _middle(block: str, model: keras.Model) -> tuple[int, bool]:
    """Middle block of Keras's that one of ours takes, and whether an earlier one has it already."""
    units = sum(la.name.endswith("separable_conv1_depthwise") for la in model.layers) - 5
    unit = int(block.rsplit("_", 1)[1]) - 1
    chosen, before = (MIDDLE[0] + u * len(MIDDLE) // units for u in (unit, unit - 1))
    return chosen, unit > 0 and chosen == before


def _fill(
    model: keras.Model, layer: keras.layers.Layer, source: keras.Model, origin: str
) -> dict[str, str]:
    """Fill a convolution and its batch norm; how it was done."""
    norm = model.get_layer(f"{layer.name}.BatchNorm")
    is_depthwise = type(layer).__name__ == "DepthwiseConv2D"
    if not origin:
        kernel, values = _identity(layer, is_depthwise), None
    else:
        theirs = source.get_layer(origin)
        weights = theirs.get_weights()
        kernel = weights[0] if is_depthwise or len(weights) == 1 else weights[1]
        values = None if is_depthwise else _norm_of(source, origin).get_weights()
    if kernel is None or kernel.shape != tuple(layer.kernel.shape):
        return {"how": "random"}
    layer.kernel.assign(kernel)
    # Keras's network has no batch norm after a depthwise convolution: ours does nothing at first.
    channels = norm.gamma.shape
    nothing = [np.ones(channels), np.zeros(channels), np.zeros(channels)]
    norm.set_weights(values or [*nothing, np.full(channels, 1 - norm.epsilon)])
    if not origin:
        return {"how": "identity"}
    block = layer.name.rpartition(".")[0]
    if block.startswith("middle_flow") and _middle(block, model)[1]:
        if layer.name.endswith("separable_conv3_pointwise"):
            norm.gamma.assign(np.zeros(channels))
            norm.beta.assign(np.zeros(channels))
        return {"how": "silent copy"}
    return {"how": "carried"}


def _norm_of(source: keras.Model, name: str) -> keras.layers.Layer:
    """Batch norm behind a convolution; that of a shortcut is known by what it reads alone."""
    if f"{name}_bn" in {layer.name for layer in source.layers}:
        return source.get_layer(f"{name}_bn")
    output = source.get_layer(name).output
    return next(la for la in source.layers if la.input is output)


def _identity(layer: keras.layers.Layer, is_depthwise: bool) -> np.ndarray | None:
    """Kernel that passes its input on; None where channels change."""
    kernel = np.zeros(layer.kernel.shape, np.float32)
    if is_depthwise:
        kernel[1, 1] = 1
        return kernel
    if kernel.shape[2] != kernel.shape[3]:
        return None
    kernel[0, 0] = np.eye(kernel.shape[2], dtype=np.float32)
    return kernel
