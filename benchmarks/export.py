"""The shipped network in ONNX Runtime, by Keras's own export: ``pip install '.[export]'``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from timing import compare

import covid_read
from covid_read import shipped

NEEDED = ("onnx", "tf2onnx", "onnxruntime")
#: Largest difference of a logit that is rounding.
ROUNDING = 1e-4


def run() -> dict:
    """Times of one slice through one training, and how far logits are from Keras's.

    Empty where the packages are not installed.
    """
    if not all(map(find_spec, NEEDED)):
        return {}
    committee, settings = shipped.load(covid_read.MODEL / "shipped.npz")
    network = committee.network
    network.set_weights(committee.members[0])
    shape = (1, settings.side, settings.side, settings.channels)
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        ways = {
            "ours": lambda: np.asarray(network.predict_on_batch(image)),
            "ONNX Runtime": exported(network, image, Path(folder)),
        }
        usual = ways["ours"]()
        differences = {name: float(np.abs(way() - usual).max()) for name, way in ways.items()}
        return {"candidates": compare(ways), "differences": differences}


def exported(network, image: np.ndarray, folder: Path) -> Callable[[], np.ndarray]:
    """A call of the network in ONNX Runtime.

    OpenVINO 2026.4 is left out: Keras's export to it ends the process, and it does not compile the
    ONNX file either.
    """
    import onnxruntime

    onnx = str(folder / "network.onnx")
    network.export(onnx, format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(onnx)
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: image})[0]
