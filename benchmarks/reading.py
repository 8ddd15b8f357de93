"""Scans of one's own: the first answer, a stream of slices, and memory for growing inputs.

Slices are those of the phantom, again and again. Each size runs in its own process, because a
process never gives back its peak memory.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image
from timing import compare, in_a_process, peak_memory, per_item

import chest_phantom
import covid_read
from covid_read import shipped
from covid_read.cases import Batch, cases
from covid_read.extent import BATCH, Outline, on_whole_slices, outlined
from covid_read.folder import read_all
from covid_utils import paths
from covid_utils.data.readers.decoding import axial_slices
from covid_utils.data.readers.gray import LUNG_WINDOW, to_uint8, window_of
from covid_utils.training import predict_stream

PACK = covid_read.MODEL / "shipped.npz"
#: Slices of the two sizes, of the comparison, and processes that start from nothing.
SIZES, FEW, STARTS = (100, 1_000), 24, 5
KERAS = "one slice at a time, `model.predict`"


def run() -> dict:
    """Measure everything: about six minutes."""
    with example() as folder:
        return {
            "start_cpu_s": start(folder),
            "files": [in_a_process(files, count) for count in SIZES],
            "volumes": [in_a_process(volume, count) for count in SIZES],
            "candidates": in_a_process(rates, FEW),
            "side": int(slices()[0].shape[0]),
        }


def slices() -> list[np.ndarray]:
    """Axial slices of the phantom in the lung window, uint8 (side, side)."""
    path = next(chest_phantom.write(paths.phantom()).glob("medseg/tr_im.nii*"))
    voxels = axial_slices(path)
    return [*to_uint8(voxels, *window_of(voxels, path))]


@contextmanager
def example(count: int = 1, is_volume: bool = False) -> Iterator[Path]:
    """A folder with so many pictures, or one volume of so many slices."""
    shown = slices()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "in")
        folder.mkdir()
        if is_volume:
            low, high = LUNG_WINDOW
            units = [(one / 255.0 * (high - low) + low).astype(np.int16).T for one in shown]
            stack = np.stack([units[at % len(units)] for at in range(count)], axis=-1)
            # Columns run to the left and rows to the back, as in most CT.
            image = nibabel.Nifti1Image(stack, np.diag([-0.8, -0.8, 2.0, 1.0]))
            image.to_filename(folder / "volume.nii.gz")
        else:
            for at in range(count):
                Image.fromarray(shown[at % len(shown)]).save(folder / f"{at:04d}.png")
        yield folder


def start(folder: Path) -> float:
    """CPU seconds of a process from its start to the picture of one slice; median of some."""
    command = [sys.executable, "-m", "covid_read", folder, "-o", folder.with_name("out")]
    seconds = []
    for _ in range(STARTS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return float(np.median(seconds))


def files(count: int) -> dict[str, float]:
    """Read a folder of pictures: memory, and the time from one that is done to the next."""
    done = []
    with example(count) as folder:
        out = folder.with_name("out")
        result = covid_read.read(folder, out, tell=lambda _: done.append(time.perf_counter()))
    if len(done) != count or not all(each["outlined_slices"] for each in result.summary.records):
        raise SystemExit("Some slices of the phantom were not outlined.")
    middle, slow = np.quantile(np.diff(done), [0.5, 0.95])
    seconds = {"p50_ms": float(1000 * middle), "p95_ms": float(1000 * slow)}
    return {"slices": count, "peak_memory_mib": peak_memory()} | seconds


def volume(count: int) -> dict[str, float]:
    """Read a volume without the network, whose memory does not depend on the number of slices."""

    def outline(given: Batch) -> tuple[np.ndarray, np.ndarray]:
        return (given.slices > 200).astype(np.uint8), np.ones(given.slices.shape, np.float32)

    with example(count, is_volume=True) as folder:
        before = peak_memory()
        read_all([folder], folder.with_name("out"), outline)
    return {"slices": count, "before_mib": before, "peak_memory_mib": peak_memory()}


def rates(count: int, rounds: int = 5) -> dict[str, dict]:
    """Times of one slice of a volume, ours and by `model.predict`; both give the same labels."""
    with example(count, is_volume=True) as folder:
        case = next(cases([folder], folder.with_name("out")))
        ways = {"ours": ours(), KERAS: by_keras()}
        labels = [outlined(case, outline).labels for outline in ways.values()]
        if (labels[0] != labels[1]).mean() > 1e-4 or not labels[0].any():
            raise SystemExit("The two ways give different labels.")
        calls = {name: partial(outlined, case, outline) for name, outline in ways.items()}
        times = compare(calls, rounds, is_warm=True)
    return {name: per_item(one, count) for name, one in times.items()}


def ours() -> Outline:
    """The shipped network as `covid_read.read` uses it."""
    committee, settings = shipped.load(PACK)

    def probabilities(images: np.ndarray, room: np.ndarray) -> np.ndarray:
        each = predict_stream.probabilities(committee, images, settings, room, BATCH)
        return np.concatenate([*each])

    return on_whole_slices(probabilities, settings.preprocessing)


def by_keras() -> Outline:
    """The same trainings, each a Keras model that predicts one slice after the other."""
    committee, settings = shipped.load(PACK)
    models = [shipped.load(PACK)[0].network for _ in committee.members]
    for model, weights in zip(models, committee.members, strict=True):
        model.set_weights(weights)

    class Mean:
        def predict_on_batch(self, inputs: np.ndarray) -> np.ndarray:
            return np.mean([model.predict(inputs, verbose=0) for model in models], axis=0)

    def probabilities(images: np.ndarray, room: np.ndarray) -> np.ndarray:
        each = predict_stream.probabilities(Mean(), images, settings, room, batch=1)
        return np.concatenate([*each])

    return on_whole_slices(probabilities, settings.preprocessing)
