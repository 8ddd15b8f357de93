"""Turn the arrays of the 2015 Inception-v3 into a weights file that Keras loads.

``python workflow/import_weights_2015.py inception_2015.npz inception_2015.weights.h5``
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from covid_utils.errors import CompanionError, DataError
from covid_utils.models import inception
from covid_utils.writing import whole


def convert(source: Path, target: Path) -> list[str]:
    """Turn the arrays of the 2015 graph into a weights file.

    Args:
        source: ``.npz`` with ``NAME/kernel`` and ``NAME/bias``, see `inception.load_weights`.
        target: File to write; must end in ``.weights.h5``.

    Returns:
        Names of the kernels that the source lacks. They are NaN in the file, and so are those of
        ``mixed10``, which Keras builds differently: nothing that needs them can pass for a feature.
    """
    import keras

    if not target.name.endswith(".weights.h5"):
        raise DataError(f"{target}: Keras reads weights from files that end in .weights.h5.")
    base = keras.applications.InceptionV3(include_top=False, weights=None)
    convolutions = inception.in_creation_order(base)[0]
    inception.load_weights(base, source, "mixed0")
    is_lacking = [np.isnan(layer.kernel.numpy()).any() for layer in convolutions]
    last = inception.feeding(base, "mixed10") - inception.feeding(base, "mixed9")
    for layer in convolutions:
        if layer.name in last:
            layer.kernel.assign(np.full(layer.kernel.shape, np.nan, np.float32))
    with whole(target) as partial:
        base.save_weights(partial)
    with np.load(source) as file:
        names = [key.removesuffix("/bias") for key in file if key.endswith("/bias")]
    return [name for name, lacks in zip(names, is_lacking, strict=True) if lacks]


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, convert, report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("source", type=Path, help=".npz with NAME/kernel and NAME/bias")
    parser.add_argument("target", type=Path, help="file to write, ending in .weights.h5")
    arguments = parser.parse_args(argv)
    try:
        lacking = convert(arguments.source.expanduser(), arguments.target.expanduser())
    except CompanionError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{arguments.target.name}: written. Set the parameter 'weights' to this file.")
    if lacking:
        print(f"The source lacks {', '.join(lacking)}; blocks that need them will be refused.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
