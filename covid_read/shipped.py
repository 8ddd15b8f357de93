"""The pack of a profile: everything that reads scans, in one file with a checksum.

It has named parts. One is the network that outlines lesions; what the others hold is known where
they are used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from covid_utils import paths
from covid_utils.data import guard
from covid_utils.errors import DataError, ParameterError
from covid_utils.training import networks
from covid_utils.training.predict_stream import Committee
from covid_utils.training.streams import StreamSettings
from covid_utils.writing import digest, whole

#: Largest file, in bytes: it comes with a clone.
MOST = 12_000_000
#: Part with the network that outlines lesions.
OUTLINES = "outlines"


@dataclass(frozen=True)
class Part:
    """Arrays, in an order of their own, and what is to be known of them, as JSON can hold it."""

    about: Mapping[str, Any]
    arrays: tuple[np.ndarray, ...] = ()


def path(profile: str) -> Path:
    """Pack of a profile."""
    return paths.models(profile) / "shipped.npz"


def write(file: Path, parts: Mapping[str, Part]) -> None:
    """Write a pack by the names of its parts, and the checksum beside it."""
    about, arrays = {}, {}
    for name, part in parts.items():
        about[name] = dict(part.about)
        arrays |= {f"{name}/{number}": array for number, array in enumerate(part.arrays)}
    with whole(file) as partial:
        with partial.open("wb") as opened:
            np.savez_compressed(opened, about=json.dumps(about), **arrays)
        size = partial.stat().st_size
        if size > MOST:
            raise ParameterError(
                f"{file.name}: {size / 1e6:.1f} MB are more than the {MOST / 1e6:.0f} MB that are "
                "shipped; set width or members lower."
            )
        content = digest(partial)
    with whole(checksum(file)) as partial:
        partial.write_text(f"{content}  {file.name}\n", encoding="utf8")


def checksum(file: Path) -> Path:
    """File with the SHA-256 of a pack, which ``sha256sum -c`` reads."""
    return file.with_name(f"{file.name}.sha256")


def read(file: Path) -> dict[str, Part]:
    """Parts of a pack by name; one without its checksum is not opened."""
    stated = guard.read(checksum(file), "checksum", lambda path: path.read_text("ascii").split())
    content = guard.read(file, "pack of networks", Path.read_bytes)
    if stated[:1] != [hashlib.sha256(content).hexdigest()]:
        raise DataError(f"{file}: does not match its checksum; take both files from one place.")
    arrays = guard.read(file, "pack of networks", lambda _: dict(np.load(BytesIO(content))))
    about = json.loads(str(arrays.pop("about")))
    parts: dict[str, list[np.ndarray]] = {name: [] for name in about}
    for key, array in arrays.items():  # in the order in which they were written
        parts[key.rpartition("/")[0]].append(array)
    return {name: Part(about[name], tuple(part)) for name, part in parts.items()}


def halved(weights: Iterable[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Weights with kernels in float16; vectors need float32's range, and hardly any room."""
    return tuple(each.astype(np.float16) if each.ndim > 1 else each for each in weights)


def committee(part: Part) -> tuple[Committee, StreamSettings]:
    """Trainings and settings of the part `OUTLINES`."""
    settings = StreamSettings(**part.about["settings"])
    weights = [np.asarray(array, np.float32) for array in part.arrays]
    each = len(weights) // settings.members
    members = [weights[at : at + each] for at in range(0, len(weights), each)]
    return Committee(networks.untrained(settings), members), settings


def save(file: Path, committee: Committee, settings: StreamSettings, **further: Part) -> None:
    """Write a pack with all trainings of a network that outlines lesions, and further parts."""
    weights = halved(each for member in committee.members for each in member)
    part = Part({"settings": vars(settings)}, weights)
    write(file, {OUTLINES: part} | further)


def load(file: Path) -> tuple[Committee, StreamSettings]:
    """The network of a pack that outlines lesions, and its settings."""
    return committee(read(file)[OUTLINES])
