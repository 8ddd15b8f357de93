"""Reading checkpoints of the published TensorFlow 1 graph of DeepLab-v3+ into our network."""

from __future__ import annotations

import re
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


def load_checkpoint(model: keras.Model, path: Path) -> list[str]:
    """Fill all but the last layer of DeepLab-v3+ from a checkpoint, or change nothing.

    ``path`` is the files' name without ``.index`` or ``.data-00000-of-00001``. Gives the names of
    the variables used.
    """
    arrays, wanted = _read(path), variables(model)
    unused = sorted(set(arrays) - set(wanted))
    if unused:
        raise DataError(
            f"{path}: '{unused[0]}' has no place in {model.name} ({len(unused)} such); "
            "the checkpoint is of another network, or middle_blocks differs."
        )
    wanted = {name: v for name, v in wanted.items() if not name.startswith("logits/")}
    for name, variable in wanted.items():
        if name not in arrays:
            raise DataError(f"{path}: '{name}' is missing; the checkpoint is of another network.")
        given, shape = arrays[name].shape, tuple(variable.shape)
        if given != shape:
            raise DataError(
                f"{path}: '{name}' has shape {given}, the network needs {shape}; width differs."
            )
    for name, variable in wanted.items():
        variable.assign(arrays[name])
    return list(wanted)


def _read(path: Path) -> dict[str, np.ndarray]:
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(str(path))
        names = [n for n in reader.get_variable_to_shape_map() if not _BOOKKEEPING.search(n)]
        return {name: reader.get_tensor(name) for name in names}
    # The reader raises many kinds, IndexError where the data file ends too early.
    except Exception as error:
        raise DataError(
            f"{path}: not a whole TensorFlow checkpoint; name its prefix, the files' name without "
            ".index or .data, and keep both files together."
        ) from error
