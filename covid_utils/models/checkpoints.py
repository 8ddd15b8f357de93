"""Weights that come from elsewhere, brought into our networks.

The 2015-12-05 Inception-v3 that the paper's code retrained is a graph with batch norm folded into
its convolutions; Keras's network has the two apart.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterable
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
    if path.suffix == ".npz":
        _assign(base, arrays, last, path)
    needed = feeding(base, last)
    for convolution in in_creation_order(base)[0]:
        if convolution.name in needed and not np.isfinite(convolution.kernel.numpy()).all():
            raise DataError(
                f"{path}: the kernel of '{convolution.name}' is missing, so {last} is incomplete; "
                "choose an earlier feature_layer."
            )


def _assign(base: keras.Model, arrays: dict[str, np.ndarray], last: str, path: Path) -> None:
    try:
        assign_2015(base, arrays, last)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


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
    needed = feeding(base, feature_layer)
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


def in_creation_order(base: keras.Model) -> tuple[list, list]:
    """Convolutions and batch norms as they were created; Keras lists them by depth.

    Args:
        base: The network.

    Returns:
        Its convolutions, and its batch norms.
    """
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


def feeding(base: keras.Model, feature_layer: str) -> set[str]:
    """Names of all layers that a layer's output is computed from, itself among them."""
    import keras

    return {la.name for la in keras.Model(base.input, base.get_layer(feature_layer).output).layers}


#: Variables that a TensorFlow 1 training keeps beside the network's own.
_BOOKKEEPING = re.compile(r"^global_step$|/(Momentum|Adam|Adam_1|RMSProp|RMSProp_1)$")
#: Kind of Keras weight -> name of its TensorFlow 1 variable; a kernel's depends on its layer.
_LEAVES = {"kernel": "weights", "bias": "biases"}


def tf1_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Name of the published graph's variable -> the variable of our DeepLab-v3+ that holds it.

    Args:
        model: From `models.deeplab.deeplab_v3plus`.
    """
    found = {}
    for layer in model.layers:
        scope = layer.name.replace(".", "/")
        if scope.startswith(("entry_flow/", "middle_flow/", "exit_flow/")):
            scope = "xception_65/" + re.sub(r"(unit_\d+)", r"\1/xception_module", scope)
        is_depthwise = type(layer).__name__ == "DepthwiseConv2D"
        for variable in layer.weights:
            leaf = _LEAVES.get(variable.name, variable.name)
            leaf = "depthwise_weights" if is_depthwise and leaf == "weights" else leaf
            found[f"{scope}/{leaf}"] = variable
    return found


def assign_tf1(
    model: keras.Model,
    read: Callable[[str], np.ndarray],
    names: Iterable[str] | None = None,
    exclude_logits: bool = False,
) -> list[str]:
    """Fill DeepLab-v3+ with the variables of the published TensorFlow 1 graph.

    Nothing is changed unless everything fits.

    Args:
        model: From `models.deeplab.deeplab_v3plus`; changed.
        read: From a variable's name, such as ``aspp0/weights``, to its array; raises ``KeyError``
            for a name that it has not.
        names: All names that there are to read. One that the network has no place for is refused:
            it would mean another network. None skips this check.
        exclude_logits: Leave the last layer as it is, which depends on the classes.

    Returns:
        Names of the variables read.

    Raises:
        DataError: A variable is missing, unused or of another shape; it is named.
    """
    wanted = tf1_variables(model)
    left_out = "logits/" if exclude_logits else None
    used = {n: v for n, v in wanted.items() if not (left_out and n.startswith(left_out))}
    unused = sorted(set(names or ()) - set(wanted))
    if unused:
        raise DataError(
            f"checkpoint: '{unused[0]}' has no place in {model.name} ({len(unused)} such); "
            "the checkpoint is of another network, or middle_blocks differs."
        )
    arrays = {name: _read_tf1(read, name, variable) for name, variable in used.items()}
    for name, array in arrays.items():
        used[name].assign(array)
    return list(arrays)


def _read_tf1(read: Callable[[str], np.ndarray], name: str, variable) -> np.ndarray:
    try:
        array = np.asarray(read(name))
    except KeyError as error:
        raise DataError(
            f"checkpoint: the variable '{name}' is missing; the checkpoint is of another network."
        ) from error
    if array.shape != tuple(variable.shape):
        raise DataError(
            f"checkpoint: '{name}' has shape {array.shape}, the network needs "
            f"{tuple(variable.shape)}; the width or the number of classes differs."
        )
    return array


def load_tf1_checkpoint(model: keras.Model, path: Path, exclude_logits: bool = True) -> list[str]:
    """Fill DeepLab-v3+ from a TensorFlow 1 checkpoint file, such as the published ones.

    Args:
        model: From `models.deeplab.deeplab_v3plus`; changed.
        path: Prefix of the checkpoint: the name without ``.index`` or ``.data-00000-of-00001``.
        exclude_logits: Leave the last layer as it is, as fine-tuning on other classes needs.

    Returns:
        Names of the variables read; a training's own (``global_step``, momentum) are passed over.

    Raises:
        DataError: No checkpoint there, a damaged one, or one of another network.
    """
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(str(path))
        names = [n for n in reader.get_variable_to_shape_map() if not _BOOKKEEPING.search(n)]

        def read(name: str) -> np.ndarray:
            if not reader.has_tensor(name):
                raise KeyError(name)
            return reader.get_tensor(name)

        return assign_tf1(model, read, names, exclude_logits)
    # The reader raises IndexError where the data file ends too early.
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:
        raise DataError(
            f"{path}: not a whole TensorFlow checkpoint; name its prefix, the files' name without "
            ".index or .data, and keep both files together."
        ) from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
