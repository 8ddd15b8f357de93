"""Inception-v3 as a frozen feature extractor (paper, section 3.3; Szegedy et al. 2016).

The paper retrains the last layer of the ImageNet network only. Everything before it is this model:
convolutions up to a named block, then global average pooling.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from covid_utils.errors import DataError, ParameterError
from covid_utils.models import checkpoints

if TYPE_CHECKING:
    import keras

INPUT_SIZE = 299
#: Blocks whose output may be pooled to features -> side and channels of their maps; the paper uses
#: the last.
BLOCKS = (
    {"mixed0": (35, 256), "mixed1": (35, 288), "mixed2": (35, 288)}
    | {f"mixed{number}": (17, 768) for number in range(3, 8)}
    | {"mixed8": (8, 1280), "mixed9": (8, 2048), "mixed10": (8, 2048)}
)
FEATURE_LAYERS = tuple(BLOCKS)


def network(weights: str, last: str, seed: int, calibrate: np.ndarray | None = None) -> keras.Model:
    """Build the frozen network up to a block.

    Args:
        weights: ``imagenet`` (Keras's own download), ``none`` (random, from ``seed``), or a file:
            see `checkpoints.load_inception`.
        last: One of `FEATURE_LAYERS`.
        seed: Of random weights.
        calibrate: float32 images (n, 299, 299, 3) in [-1, 1]; needed for ``none``, whose
            batch-norm statistics are taken from them. Without that pass, random features vanish.

    Returns:
        Model from float32 images (n, 299, 299, 3) in [-1, 1] to the float32 maps (n, side, side,
        channels) of the block; 8 x 8 x 2048 at ``mixed10``. Nothing in it is trainable.

    Raises:
        ParameterError: Unknown block.
        DataError: The weights cannot be had.
    """
    import keras

    (last,) = named_layers(last)
    keras.utils.set_random_seed(seed)
    base = _base("imagenet" if weights == "imagenet" else None)
    model = keras.Model(base.input, base.get_layer(last).output, name=f"inception_v3_{last}")
    if weights == "none":
        calibrate_batch_norm(model, calibrate)
    elif weights != "imagenet":
        checkpoints.load_inception(base, Path(weights), last)
    model.trainable = False
    return model


def named_layers(text: str) -> tuple[str, ...]:
    """Blocks named in a parameter, separated by commas, from the first to the deepest.

    Raises:
        ParameterError: One of them is no block, or none is named.
    """
    names = {name.strip() for name in text.split(",")}
    unknown = sorted(names - set(FEATURE_LAYERS))
    if unknown:
        raise ParameterError(
            f"feature_layer '{unknown[0]}' is none of {', '.join(FEATURE_LAYERS)}."
        )
    return tuple(name for name in FEATURE_LAYERS if name in names)


def outputs(model: keras.Model, layers: tuple[str, ...], before: str = "") -> keras.Model:
    """Model from images to features (n, channels) of blocks, and to the maps that enter another.

    Args:
        model: From `network`.
        layers: Blocks whose maps are averaged.
        before: Block whose input is wanted too, as maps (n, side, side, channels); '' for none.
    """
    import keras

    wanted = [keras.layers.GlobalAveragePooling2D()(model.get_layer(n).output) for n in layers]
    if before:
        below = block_below(before)
        if below not in {layer.name for layer in model.layers}:
            raise ParameterError(f"block '{before}' lies behind the last block of the network.")
        wanted.append(model.get_layer(below).output)
    return keras.Model(model.input, wanted)


def cut(model: keras.Model, before: str) -> tuple[keras.Model, keras.Model]:
    """Cut the network in two before a block, so that its upper part can be trained on cached maps.

    Returns:
        The lower part, from images to the maps of the block before, and the upper part, from those
        maps to the maps of the network's last block. They share the network's weights.
    """
    import keras

    below = model.get_layer(block_below(before)).output
    return keras.Model(model.input, below), keras.Model(below, model.output)


def earlier(first: str, second: str) -> str:
    """Whichever of two blocks lies nearer to the image."""
    return min(first, second, key=FEATURE_LAYERS.index)


def block_below(block: str) -> str:
    """The block whose maps enter another one.

    Raises:
        ParameterError: There is no such block, or only the stem lies below it.
    """
    if block not in FEATURE_LAYERS[1:]:
        raise ParameterError(f"block '{block}' is none of {', '.join(FEATURE_LAYERS[1:])}.")
    return FEATURE_LAYERS[FEATURE_LAYERS.index(block) - 1]


def block_of(model: keras.Model) -> dict[str, str]:
    """Layer with weights -> its block, in `network` or a part of it; the stem's is the first."""
    owner: dict[str, str] = {}
    for block in FEATURE_LAYERS:
        if block not in {layer.name for layer in model.layers}:
            continue
        for name in checkpoints.feeding(model, block):
            owner.setdefault(name, block)
    return {name: block for name, block in owner.items() if model.get_layer(name).weights}


def _base(weights: str | None) -> keras.Model:
    """Keras's network without its top."""
    import keras

    shape = (INPUT_SIZE, INPUT_SIZE, 3)
    try:
        return keras.applications.InceptionV3(include_top=False, weights=weights, input_shape=shape)
    except Exception as error:  # Keras raises a bare Exception for any failed download
        raise DataError(
            "weights 'imagenet' could not be downloaded; connect to the network once, or name a "
            "file in the parameter 'weights', or use 'none'."
        ) from error


def resolve_weights(weights: str, data_root: Path) -> str:
    """A weights parameter with a file name made absolute; ``imagenet`` and ``none`` stay."""
    return weights if weights in ("imagenet", "none") else str(data_root / weights)


def calibrate_batch_norm(model: keras.Model, images: np.ndarray) -> None:
    """Set every batch norm's moving statistics to those of one batch of inputs."""
    import keras

    norms = [la for la in model.layers if isinstance(la, keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(images, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
