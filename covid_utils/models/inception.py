"""Inception-v3 as a frozen feature extractor (paper, section 3.3; Szegedy et al. 2016).

The paper retrains the last layer only. Everything before it is this model: convolutions up to a
named block, then global average pooling.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from covid_utils.data import guard
from covid_utils.errors import DataError, ParameterError
from covid_utils.models import imagenet

if TYPE_CHECKING:
    import keras

#: Side of the images that Inception-v3 was designed for; larger ones are resized to it.
INPUT_SIZE = 299
#: Blocks whose output may be pooled to features -> channels of their maps; the paper uses the last.
BLOCKS = (
    {"mixed0": 256, "mixed1": 288, "mixed2": 288}
    | {f"mixed{number}": 768 for number in range(3, 8)}
    | {"mixed8": 1280, "mixed9": 2048, "mixed10": 2048}
)
FEATURE_LAYERS = tuple(BLOCKS)


def input_side(image_size: int) -> int:
    """Side of the network's input for prepared images of a side, in pixels."""
    return min(image_size, INPUT_SIZE)


def network(
    weights: str,
    last: str,
    seed: int,
    calibrate: np.ndarray | None = None,
    side: int = INPUT_SIZE,
) -> keras.Model:
    """Build the frozen network up to a block.

    Args:
        weights: ``imagenet`` (Keras's own download), ``none`` (random, from ``seed``), or a file:
            see `load_weights`.
        last: One of `FEATURE_LAYERS`.
        seed: Of random weights.
        calibrate: For ``none``: float32 images (n, side, side, 3) in [-1, 1] that batch norm
            takes its statistics from; without them, `set_statistics` must follow.
        side: Of the images in pixels, at least 75.

    Returns:
        Model from float32 images (n, side, side, 3) in [-1, 1] to the float32 maps of the block:
        (n, 8, 8, 2048) at ``mixed10`` for a side of 299. Nothing in it is trainable.
    """
    import keras

    keras.utils.set_random_seed(seed)
    shape = (side, side, 3)
    build = partial(keras.applications.InceptionV3, include_top=False, input_shape=shape)
    if weights == "imagenet":
        otherwise = "name a file in the parameter 'weights', or use 'none'"
        base = imagenet.downloaded(build, otherwise)
    else:
        base = build(weights=None)
    model = keras.Model(base.input, base.get_layer(last).output, name=f"inception_v3_{last}")
    if weights == "none" and calibrate is not None:
        for norm in _norms(model):
            norm.momentum = 0.0  # its statistics become those of the images
        model(calibrate, training=True)
    elif weights not in ("imagenet", "none"):
        load_weights(base, Path(weights), last)
    model.trainable = False
    return model


def named_layers(text: str) -> tuple[str, ...]:
    """Blocks named in the parameter ``feature_layer``, from the first to the deepest."""
    names = {name.strip() for name in text.split(",")}
    return tuple(name for name in FEATURE_LAYERS if name in names)


def outputs(model: keras.Model, layers: tuple[str, ...], before: str = "") -> keras.Model:
    """Model from images to averaged maps (n, channels) of blocks.

    It also gives the maps (n, side, side, channels) that enter the block ``before``, if named.
    """
    import keras

    wanted = [keras.layers.GlobalAveragePooling2D()(model.get_layer(n).output) for n in layers]
    if before:
        wanted.append(model.get_layer(block_below(before)).output)
    return keras.Model(model.input, wanted)


def block_below(block: str) -> str:
    """The block whose maps enter another one; below the first there is only the stem."""
    if block not in FEATURE_LAYERS[1:]:
        raise ParameterError(f"block '{block}' is none of {', '.join(FEATURE_LAYERS[1:])}.")
    return FEATURE_LAYERS[FEATURE_LAYERS.index(block) - 1]


def statistics(model: keras.Model) -> tuple[np.ndarray, ...]:
    """Moving mean and variance of each batch norm, float32 (channels,), in the order of layers."""
    return tuple(array for norm in _norms(model) for array in norm.get_weights()[-2:])


def set_statistics(model: keras.Model, arrays: Sequence[np.ndarray]) -> None:
    """Give the batch norms of a network the `statistics` of an earlier one."""
    for norm, mean, variance in zip(_norms(model), arrays[::2], arrays[1::2], strict=True):
        norm.set_weights([*norm.get_weights()[:-2], mean, variance])


def _norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    return [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]


def load_weights(base: keras.Model, path: Path, last: str) -> None:
    """Fill Keras's Inception-v3 without its top from a file, complete up to the block ``last``.

    The 2015-12-05 network that the paper's code retrained comes as an ``.npz`` with ``NAME/kernel``
    (kh, kw, in, out) and ``NAME/bias`` (out,) of its 94 convolutions, in the order in which Keras
    creates its own; a kernel may be missing. Its batch norms are folded into the biases.
    """
    if not path.is_file():
        raise DataError(
            f"{path}: no such weights file; set the parameter 'weights' to a file that exists, "
            "to 'imagenet' (downloads), or to 'none'."
        )
    kind = "weights file of Inception-v3 without its top"
    if path.suffix != ".npz":
        guard.read(path, kind, base.load_weights)
        return
    arrays = guard.read(path, kind, _arrays)
    if last == "mixed10":
        raise DataError(
            f"{path}: the 2015 graph takes the maximum in its last block where Keras averages, "
            "so mixed10 is another block; choose mixed9 or an earlier feature_layer."
        )
    _fill(base, path, arrays, last)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def _fill(base: keras.Model, path: Path, arrays: dict[str, np.ndarray], last: str) -> None:
    """Fill the network from arrays of the 2015 one, complete up to the block ``last``."""
    import keras

    names = [key.removesuffix("/bias") for key in arrays if key.endswith("/bias")]
    convolutions, norms = in_creation_order(base)
    if len(names) != len(convolutions):
        raise DataError(f"{path}: {len(names)} convolutions, but Inception-v3 has 94.")
    needed = {layer.name for layer in keras.Model(base.input, base.get_layer(last).output).layers}
    for name, convolution, norm in zip(names, convolutions, norms, strict=True):
        shape, bias = tuple(convolution.kernel.shape), arrays[f"{name}/bias"]
        kernel = arrays.get(f"{name}/kernel", np.full(shape, np.nan))
        if kernel.shape != shape or bias.shape != shape[-1:]:
            raise DataError(f"{path}: '{name}' is not shaped as {convolution.name}, {shape}.")
        if convolution.name in needed and np.isnan(kernel).any():
            raise DataError(
                f"{path}: the kernel of '{convolution.name}' is missing, so {last} is incomplete; "
                "choose an earlier feature_layer."
            )
        convolution.kernel.assign(kernel.astype(np.float32))
        # With mean 0 and this variance the scale is exactly 1; the bias becomes beta.
        norm.set_weights([bias, np.zeros(bias.shape), np.full(bias.shape, 1 - norm.epsilon)])


def in_creation_order(base: keras.Model) -> tuple[list, list]:
    """Convolutions and batch norms of a network as they were created; Keras lists them by depth."""

    def numbered(kind: str) -> list:
        layers = [layer for layer in base.layers if type(layer).__name__ == kind]
        return sorted(layers, key=lambda la: int((re.findall(r"_(\d+)$", la.name) or [0])[0]))

    return numbered("Conv2D"), numbered("BatchNormalization")
