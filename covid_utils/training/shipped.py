"""The shipped network in one file: weights of its trainings, and how slices are prepared for it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import numpy as np

from covid_utils import paths
from covid_utils.data import guard
from covid_utils.errors import DataError, ParameterError
from covid_utils.training import networks
from covid_utils.training.predict_stream import Committee
from covid_utils.training.streams import StreamSettings
from covid_utils.writing import whole

#: Largest file, in bytes: it comes with a clone.
MOST = 12_000_000


def path(profile: str) -> Path:
    """File of a profile's shipped network."""
    return paths.models(profile) / "shipped.npz"


def save(file: Path, committee: Committee, settings: StreamSettings) -> None:
    """Write trainings and their settings, and the checksum beside them.

    Kernels become float16. Vectors, such as the variances of batch norm, stay as they are: they
    need the range of float32 and hardly any room.
    """
    about = {"settings": vars(settings), "preprocessing": asdict(settings.preprocessing)}
    arrays = {
        f"{member}_{number}": array.astype(np.float16) if array.ndim > 1 else array
        for member, weights in enumerate(committee.members)
        for number, array in enumerate(weights)
    }
    with whole(file) as partial:
        with partial.open("wb") as opened:
            np.savez_compressed(opened, about=json.dumps(about), **arrays)
        size = partial.stat().st_size
        if size > MOST:
            raise ParameterError(
                f"{file.name}: {size / 1e6:.1f} MB are more than the {MOST / 1e6:.0f} MB that are "
                "shipped; set width or members lower."
            )
        digest = hashlib.sha256(partial.read_bytes()).hexdigest()
    with whole(checksum(file)) as partial:
        partial.write_text(f"{digest}  {file.name}\n", encoding="utf8")


def checksum(file: Path) -> Path:
    """File with the SHA-256 of a shipped network, which ``sha256sum -c`` reads."""
    return file.with_name(f"{file.name}.sha256")


def load(file: Path) -> tuple[Committee, StreamSettings]:
    """Trainings and settings from such a file; one without its checksum is not opened."""
    stated = guard.read(checksum(file), "checksum", lambda path: path.read_text("ascii").split())
    content = guard.read(file, "shipped network", Path.read_bytes)
    if stated[:1] != [hashlib.sha256(content).hexdigest()]:
        raise DataError(f"{file}: is not what its checksum says; take both files from one place.")
    arrays = guard.read(file, "shipped network", lambda _: dict(np.load(BytesIO(content))))
    settings = StreamSettings(**json.loads(str(arrays.pop("about")))["settings"])
    members: list[list[np.ndarray]] = [[] for _ in range(settings.members)]
    for name, array in arrays.items():  # in the order in which they were written
        members[int(name.partition("_")[0])].append(np.asarray(array, np.float32))
    return Committee(networks.build(settings), members), settings
