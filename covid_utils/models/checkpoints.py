"""Weights that come from elsewhere, brought into our networks.

The 2015-12-05 Inception-v3 that the paper's code retrained is a graph with batch norm folded into
its convolutions; Keras's network has the two apart.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from covid_utils.errors import DataError

if TYPE_CHECKING:
    import keras


def load_inception(base: keras.Model, path: Path, last: str) -> None:
    """Fill Keras's Inception-v3 from a file.

    Args:
        base: `keras.applications.InceptionV3` without its top; changed.
        path: A ``.weights.h5`` of it, such as ``workflow/import_weights_2015.py`` writes, or an
            ``.npz`` of the 2015 graph (see `assign_2015`).
        last: Block up to which the weights must be complete.

    Raises:
        DataError: There is no such file, it is damaged, or it lacks a kernel that is needed.
    """
    if not path.is_file():
        raise DataError(
            f"{path}: no such weights file; set the parameter 'weights' to a file that exists, "
            "to 'imagenet' (downloads), or to 'none'."
        )
    arrays = None
    try:
        if path.suffix == ".npz":
            with np.load(path) as file:
                arrays = dict(file)
        else:
            base.load_weights(path)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path}: not a whole weights file of Inception-v3 without its top; download it again."
        ) from error
    if arrays is not None:
        try:
            assign_2015(base, arrays, last)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
    needed = feeding(base, last)
    for convolution in in_creation_order(base)[0]:
        if convolution.name in needed and not np.isfinite(convolution.kernel.numpy()).all():
            raise DataError(
                f"{path}: the kernel of '{convolution.name}' is missing, so {last} is incomplete; "
                "choose an earlier feature_layer."
            )


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
        DataError: A kernel that the features need is missing or has another shape, or the block is
            ``mixed10``, which the two networks build differently.
    """
    names = [key.removesuffix("/bias") for key in arrays if key.endswith("/bias")]
    convolutions, norms = in_creation_order(base)
    if len(names) != len(convolutions):
        raise DataError(f"weights: {len(names)} convolutions, but Inception-v3 has 94.")
    if feature_layer == "mixed10":
        raise DataError(
            "weights: the 2015 graph takes the maximum in its last block where Keras averages, so "
            "mixed10 is another block; choose mixed9 or an earlier feature_layer."
        )
    needed, lacking = feeding(base, feature_layer), []
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


def in_creation_order(base: keras.Model) -> tuple[list, list]:
    """Convolutions and batch norms of a network as they were created; Keras lists them by depth."""

    def numbered(kind: str) -> list:
        layers = [layer for layer in base.layers if type(layer).__name__ == kind]
        numbers = {layer.name: layer.name.rsplit("_", 1)[-1] for layer in layers}  # conv2d_7
        return sorted(layers, key=lambda la: int(numbers[la.name].isdigit() and numbers[la.name]))

    return numbered("Conv2D"), numbered("BatchNormalization")


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


def feeding(base: keras.Model, feature_layer: str) -> set[str]:
    """Names of all layers that a layer's output is computed from, itself among them."""
    import keras

    return {la.name for la in keras.Model(base.input, base.get_layer(feature_layer).output).layers}
