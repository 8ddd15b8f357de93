"""Reading checkpoints of the published TensorFlow 1 graph of DeepLab-v3+ into our network."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from covid_utils.errors import DataError

if TYPE_CHECKING:
    import keras

#: Variables that a TensorFlow 1 training keeps beside the network's own.
_BOOKKEEPING = re.compile(r"^global_step$|/(Momentum|Adam|Adam_1|RMSProp|RMSProp_1)$")
#: Kind of Keras weight -> name of its TensorFlow 1 variable; a kernel's depends on its layer.
_LEAVES = {"kernel": "weights", "bias": "biases"}


def variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Name of the published graph's variable -> our variable, of `deeplab.deeplab_v3plus`."""
    named = {}
    for layer in model.layers:
        scope = layer.name.replace(".", "/")
        if scope.startswith(("entry_flow/", "middle_flow/", "exit_flow/")):
            scope = "xception_65/" + re.sub(r"(unit_\d+)", r"\1/xception_module", scope)
        is_depthwise = type(layer).__name__ == "DepthwiseConv2D"
        for variable in layer.weights:
            leaf = _LEAVES.get(variable.name, variable.name)
            leaf = "depthwise_weights" if is_depthwise and leaf == "weights" else leaf
            named[f"{scope}/{leaf}"] = variable
    return named


def assign(
    model: keras.Model,
    read: Callable[[str], np.ndarray],
    names: Iterable[str],
    exclude_logits: bool = False,
) -> list[str]:
    """Fill DeepLab-v3+ with variables of the published graph; nothing changes unless all fit.

    Args:
        model: From `deeplab.deeplab_v3plus`; changed.
        read: From a variable's name, such as ``aspp0/weights``, to its array; raises ``KeyError``
            for a name that it has not.
        names: All names that can be read.
        exclude_logits: Leave the last layer, which depends on the classes, as it is.

    Returns:
        Names of the variables read.

    Raises:
        DataError: A variable is missing, unused or of another shape; it is named.
    """
    wanted = variables(model)
    unused = sorted(set(names) - set(wanted))
    if unused:
        raise DataError(
            f"checkpoint: '{unused[0]}' has no place in {model.name} ({len(unused)} such); "
            "the checkpoint is of another network, or middle_blocks differs."
        )
    if exclude_logits:
        wanted = {n: v for n, v in wanted.items() if not n.startswith("logits/")}
    arrays = {name: _array(read, name, tuple(v.shape)) for name, v in wanted.items()}
    for name, array in arrays.items():
        wanted[name].assign(array)
    return list(arrays)


def _array(read: Callable[[str], np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.asarray(read(name))
    except KeyError as error:
        raise DataError(
            f"checkpoint: the variable '{name}' is missing; the checkpoint is of another network."
        ) from error
    if array.shape != shape:
        raise DataError(
            f"checkpoint: '{name}' has shape {array.shape}, the network needs {shape}; "
            "the width or the number of classes differs."
        )
    return array


def load_checkpoint(model: keras.Model, path: Path) -> list[str]:
    """Fill all but the last layer of DeepLab-v3+ from a TensorFlow 1 checkpoint file.

    Args:
        model: From `deeplab.deeplab_v3plus`; changed.
        path: Prefix of the checkpoint: the name without ``.index`` or ``.data-00000-of-00001``.

    Returns:
        Names of the variables read; a training's own (``global_step``, momentum) are ignored.

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

        return assign(model, read, names, exclude_logits=True)
    # The reader raises IndexError where the data file ends too early.
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:
        raise DataError(
            f"{path}: not a whole TensorFlow checkpoint; name its prefix, the files' name without "
            ".index or .data, and keep both files together."
        ) from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
