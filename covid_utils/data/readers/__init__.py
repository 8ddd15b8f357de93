"""Every data set that the companion can read, and the one door to their images and masks.

To add a data set, write a module with ``NAME``, ``FOLDER``, ``candidates`` and ``load_image`` (and
``load_mask``, if it has masks), and name it in `SOURCES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from covid_utils.data import guard
from covid_utils.data.manifest import validate
from covid_utils.data.readers import (
    chest_xray,
    covid_chestxray,
    covid_ct,
    lidc,
    luna16,
    medseg,
    nih_adult,
    rsna,
)
from covid_utils.data.readers.build import ImageLoader, build
from covid_utils.errors import DataError

#: Largest label in a mask: 1 ground-glass or nodule, 2 consolidation, 3 pleural effusion.
LARGEST_LABEL = 3

Candidates = Callable[[Path, guard.Problems], list[dict]]
MaskLoader = Callable[[Path, Any], np.ndarray]


@dataclass(frozen=True)
class Source:
    """A data set and how to read it.

    Attributes:
        name: Name in the manifest's column ``dataset``.
        folder: Folder of the data folder that holds it.
        candidates: ``candidates(root, problems)``: what is known of each image, see `build`.
        load_image: ``load_image(path, frame)``, a gray uint8 image (height, width).
        load_mask: ``load_mask(root, row)``, labels in the size of the image; None without masks.
    """

    name: str
    folder: str
    candidates: Candidates
    load_image: ImageLoader
    load_mask: MaskLoader | None = None


@dataclass(frozen=True)
class Reading:
    """Rows of the manifest, and a table with the columns of `guard.PROBLEM_COLUMNS`."""

    rows: pd.DataFrame
    problems: pd.DataFrame


#: Name of a data set to its source.
SOURCES = {
    reader.NAME: Source(
        reader.NAME,
        reader.FOLDER,
        reader.candidates,
        reader.load_image,
        getattr(reader, "load_mask", None),
    )
    for reader in (
        covid_chestxray,
        chest_xray,
        rsna,
        nih_adult,
        covid_ct,
        medseg,
        lidc,
        luna16,
    )
}


def find(root: Path) -> list[Source]:
    """Known data sets in a data folder, in the order of `SOURCES`.

    Raises:
        DataError: The folder is missing, empty or holds no known layout.
    """
    known = ", ".join(source.folder for source in SOURCES.values())
    wanted = f"put one or more of these data sets in it: {known}."
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; create it and {wanted}")
    if not any(root.iterdir()):
        raise DataError(f"{root}: the folder is empty; {wanted}")
    present = [source for source in SOURCES.values() if (root / source.folder).is_dir()]
    if not present:
        raise DataError(
            f"{root}: no known data set in this folder; name the folder that contains one or more "
            f"of these folders: {known}."
        )
    return present


def read_all(root: Path) -> Reading:
    """Read every known data set in a data folder into one manifest.

    A data set that cannot be read at all is a problem like a file that cannot.

    Raises:
        DataError: No data set is there, or none can be read.
    """
    tables, problems, failures = [], [], []
    for source in find(root):
        noted = guard.Problems(source.name, root)
        try:
            tables.append(build(source.candidates(root, noted), source.load_image, noted))
        except DataError as error:
            failures.append(str(error))
            noted.add(source.folder, guard.UNREADABLE, f"{error} The data set is left out.")
        problems += noted.rows
    if not tables:
        raise DataError(" ".join(failures))
    rows = validate(pd.concat(tables, ignore_index=True))
    return Reading(rows, guard.problem_table(problems))


def read(name: str, root: Path) -> Reading:
    """Read one data set of a data folder, by its name in `SOURCES`.

    Raises:
        DataError: It cannot be read at all.
    """
    source, noted = SOURCES[name], guard.Problems(name, root)
    rows = build(source.candidates(root, noted), source.load_image, noted)
    return Reading(validate(rows), guard.problem_table(noted.rows))


def _source(row: Any) -> Source:
    try:
        return SOURCES[row.dataset]
    except KeyError:
        raise DataError(
            f"{row.path}: unknown data set {row.dataset!r}; known are {', '.join(SOURCES)}; "
            "run notebook 01_data again."
        ) from None


def load_image(root: Path, row: Any) -> np.ndarray:
    """Image of a row of the manifest: uint8 (height, width).

    Raises:
        DataError: The data set is unknown, or the file is missing or damaged.
    """
    return _source(row).load_image(root / row.path, int(row.frame))


def load_mask(root: Path, row: Any) -> np.ndarray:
    """Mask of a row of the manifest, in the size and orientation of its image.

    Returns:
        uint8 labels (height, width), 0 to 3; what they mean depends on the data set.

    Raises:
        DataError: The row has no mask, or the mask is damaged, of another size than the image, or
            has other labels.
    """
    source = _source(row)
    if source.load_mask is None or not row.mask_path:
        raise DataError(f"{row.path}: has no mask; choose rows whose mask_path is not empty.")
    path = root / row.mask_path
    mask = source.load_mask(root, row)
    size = (int(row.height), int(row.width))
    if mask.shape != size:
        raise DataError(
            f"{path}: mask of {mask.shape} for an image of {size} (height, width) in {row.path}; "
            "take both from the same release."
        )
    strange = np.setdiff1d(mask, np.arange(LARGEST_LABEL + 1))
    if len(strange):
        raise DataError(
            f"{path}: labels {strange.tolist()} in {row.image_id}; only 0 to {LARGEST_LABEL} have "
            "a meaning, so correct the mask or download it again."
        )
    return mask.astype(np.uint8)
