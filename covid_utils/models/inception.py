"""Inception-v3 as a frozen feature extractor (paper, section 3.3; Szegedy et al. 2016).

The paper retrains the last layer of the ImageNet network only. Everything before it is this model:
convolutions up to a named block, then global average pooling.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from covid_utils.errors import DataError, ParameterError

if TYPE_CHECKING:
    import keras

INPUT_SIZE = 299
#: Blocks whose output may be pooled to features; the paper uses the last.
FEATURE_LAYERS = tuple(f"mixed{number}" for number in range(11))


def extractor(
    weights: str,
    feature_layer: str = "mixed10",
    seed: int = 2020,
    calibrate: np.ndarray | None = None,
) -> keras.Model:
    """Build the frozen feature extractor.

    Args:
        weights: ``imagenet`` (Keras's own download), ``none`` (random, from ``seed``), or a file: a
            Keras ``.weights.h5`` of the network without its top, or an ``.npz`` of the 2015 graph
            (see `assign_2015`).
        feature_layer: One of `FEATURE_LAYERS`.
        seed: Of random weights.
        calibrate: float32 images (n, 299, 299, 3) in [-1, 1]; needed for ``none``, whose
            batch-norm statistics are taken from them. Without that pass, random features vanish.

    Returns:
        Model from float32 images (n, 299, 299, 3) in [-1, 1] to float32 features (n, channels);
        2048 channels at ``mixed10``. Nothing in it is trainable.

    Raises:
        ParameterError: Unknown layer, or ``none`` without images to calibrate on.
        DataError: The weights cannot be had.
    """
    import keras

    if feature_layer not in FEATURE_LAYERS:
        raise ParameterError(f"feature_layer '{feature_layer}' is none of {FEATURE_LAYERS}.")
    keras.utils.set_random_seed(seed)
    base = _base(weights)
    output = keras.layers.GlobalAveragePooling2D()(base.get_layer(feature_layer).output)
    model = keras.Model(base.input, output, name=f"inception_v3_{feature_layer}")
    if weights == "none":
        if calibrate is None:
            raise ParameterError("weights 'none' need images to calibrate batch norm on.")
        calibrate_batch_norm(model, calibrate)
    elif weights != "imagenet":
        _load_file(base, Path(weights), feature_layer)
    model.trainable = False
    return model


def _base(weights: str) -> keras.Model:
    """Keras's network without its top: downloaded weights, or random ones to be replaced."""
    import keras

    shape = (INPUT_SIZE, INPUT_SIZE, 3)
    if weights != "imagenet":
        return keras.applications.InceptionV3(include_top=False, weights=None, input_shape=shape)
    try:
        return keras.applications.InceptionV3(
            include_top=False, weights="imagenet", input_shape=shape
        )
    except Exception as error:  # Keras raises a bare Exception for any failed download
        raise DataError(
            "weights 'imagenet' could not be downloaded; connect to the network once, or name a "
            "file in the parameter 'weights', or use 'none'."
        ) from error


def resolve_weights(weights: str, data_root: Path) -> str:
    """A weights parameter with a file name made absolute; ``imagenet`` and ``none`` stay.

    Args:
        weights: As for `extractor`; a relative file is looked for in the data folder.
        data_root: The data folder.
    """
    return weights if weights in ("imagenet", "none") else str(data_root / weights)


def calibrate_batch_norm(model: keras.Model, images: np.ndarray) -> None:
    """Set every batch norm's moving statistics to those of one batch.

    Args:
        model: A network with batch normalisation.
        images: float32 (n, height, width, 3) in the network's value range.
    """
    import keras

    norms = [la for la in model.layers if isinstance(la, keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(images, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _load_file(base: keras.Model, path: Path, feature_layer: str) -> None:
    if not path.is_file():
        raise DataError(
            f"{path}: no such weights file; set the parameter 'weights' to a file that exists, "
            "to 'imagenet' (downloads), or to 'none'."
        )
    try:
        if path.suffix == ".npz":
            with np.load(path) as file:
                arrays = dict(file)
        else:
            base.load_weights(path)
            return
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path}: not a whole weights file of Inception-v3 without its top; download it again."
        ) from error
    assign_2015(base, arrays, feature_layer)


def assign_2015(base: keras.Model, arrays: dict[str, np.ndarray], feature_layer: str) -> list[str]:
    """Fill Keras's Inception-v3 with the 2015-12-05 weights that the paper's code retrained.

    That graph has batch norm folded into its convolutions, so each of the 94 convolutions comes as
    a kernel and a bias, in the order in which Keras creates its own. The bias becomes batch norm's
    beta, with mean 0 and variance 1 - epsilon so that its scale is exactly 1.

    Args:
        base: `keras.applications.InceptionV3` without its top.
        arrays: ``NAME/kernel`` (kh, kw, in, out) and ``NAME/bias`` (out,), in creation order.
        feature_layer: Block up to which the kernels must be complete.

    Returns:
        Names of the kernels that the file lacks; all of them lie behind ``feature_layer``.

    Raises:
        DataError: A kernel that the features need is missing or has another shape.
    """
    names = [key.removesuffix("/bias") for key in arrays if key.endswith("/bias")]
    convolutions, norms = _in_creation_order(base)
    if len(names) != len(convolutions):
        raise DataError(f"weights: {len(names)} convolutions, but Inception-v3 has 94.")
    needed = _feeding(base, feature_layer)
    lacking = []
    for name, convolution, norm in zip(names, convolutions, norms, strict=True):
        kernel = arrays.get(f"{name}/kernel")
        if kernel is not None:
            _assign_folded(convolution, norm, name, kernel, arrays[f"{name}/bias"])
            continue
        lacking.append(name)
        if convolution.name in needed:
            raise DataError(
                f"weights: the kernel '{name}' is missing, so {feature_layer} is incomplete; "
                "choose an earlier feature_layer."
            )
    return lacking


def _in_creation_order(base: keras.Model) -> tuple[list, list]:
    """Convolutions and batch norms as they were created; Keras lists them by depth."""
    import keras

    def numbered(kind: type) -> list:
        layers = [layer for layer in base.layers if isinstance(layer, kind)]
        return sorted(layers, key=_creation_order)

    return numbered(keras.layers.Conv2D), numbered(keras.layers.BatchNormalization)


def _assign_folded(convolution, norm, name: str, kernel: np.ndarray, bias: np.ndarray) -> None:
    """Fill one convolution and make its batch norm add the bias and nothing else."""
    if bias.shape != kernel.shape[-1:]:
        raise DataError(f"weights: the bias of '{name}' has shape {bias.shape}, not its kernel's.")
    if kernel.shape != tuple(convolution.kernel.shape):
        raise DataError(
            f"weights: '{name}' has shape {kernel.shape}, {convolution.name} needs "
            f"{tuple(convolution.kernel.shape)}."
        )
    convolution.kernel.assign(kernel.astype(np.float32))
    norm.beta.assign(bias)
    norm.moving_mean.assign(np.zeros(bias.shape, np.float32))
    norm.moving_variance.assign(np.full(bias.shape, 1 - norm.epsilon, np.float32))


def _creation_order(layer: keras.layers.Layer) -> int:
    """Number in a layer's automatic name, such as 7 in ``conv2d_7``; 0 without one."""
    number = layer.name.rsplit("_", 1)[-1]
    return int(number) if number.isdigit() else 0


def _feeding(base: keras.Model, feature_layer: str) -> set[str]:
    """Names of all layers that a layer's output is computed from."""
    import keras

    return {la.name for la in keras.Model(base.input, base.get_layer(feature_layer).output).layers}
