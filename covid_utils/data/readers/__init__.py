"""Every data set that the companion can read, and the one door to their images and masks.

To add a data set, write a module with ``NAME``, ``FOLDER``, ``candidates`` and ``load_image`` (and
``load_mask``, if it has masks), and name it in `SOURCES`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

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


class Source(Protocol):
    """What a module of a data set defines; ``load_mask(root, row)`` as well, if it has masks.

    Attributes:
        NAME: Name in the manifest's column ``dataset``.
        FOLDER: Folder of the data folder that holds it.
        candidates: ``candidates(root, problems)``: what is known of each image, see `build`.
        load_image: ``load_image(path, frame)``, a gray uint8 image (height, width).
    """

    NAME: str
    FOLDER: str
    candidates: Callable[[Path, guard.Problems], list[dict]]
    load_image: ImageLoader


class Reading(NamedTuple):
    """Rows of the manifest, and a table with the columns of `guard.PROBLEM_COLUMNS`."""

    rows: pd.DataFrame
    problems: pd.DataFrame


_MODULES = (covid_chestxray, chest_xray, rsna, nih_adult, covid_ct, medseg, lidc, luna16)
#: Name of a data set to its module.
SOURCES: dict[str, Source] = {module.NAME: module for module in _MODULES}


def find(root: Path) -> list[Source]:
    """Known data sets in a data folder, in the order of `SOURCES`.

    Raises:
        DataError: The folder is missing, empty or holds no known layout.
    """
    known = ", ".join(source.FOLDER for source in SOURCES.values())
    wanted = f"put one or more of these data sets in it: {known}."
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; create it and {wanted}")
    if not any(root.iterdir()):
        raise DataError(f"{root}: the folder is empty; {wanted}")
    present = [source for source in SOURCES.values() if (root / source.FOLDER).is_dir()]
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
    return _read(root, find(root))


def read(name: str, root: Path) -> Reading:
    """Read one data set of a data folder, by its name in `SOURCES`."""
    return _read(root, [SOURCES[name]])


def _read(root: Path, sources: list[Source]) -> Reading:
    tables, problems, failures = [], [], []
    for source in sources:
        noted = guard.Problems(source.NAME, root)
        try:
            tables.append(build(source.candidates(root, noted), source.load_image, noted))
        except DataError as error:
            failures.append(str(error))
            noted.add(source.FOLDER, guard.UNREADABLE, f"{error} The data set is left out.")
        problems += noted.rows
    if not tables:
        raise DataError(" ".join(failures))
    rows = validate(pd.concat(tables, ignore_index=True))
    return Reading(rows, guard.problem_table(problems))


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
    load = getattr(_source(row), "load_mask", None)
    if load is None or not row.mask_path:
        raise DataError(f"{row.path}: has no mask; choose rows whose mask_path is not empty.")
    path = root / row.mask_path
    mask = load(root, row)
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
