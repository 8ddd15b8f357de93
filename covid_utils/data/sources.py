"""Every data set that the companion can read, and the one door to their images and masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from covid_utils.data import (
    chest_xray,
    covid_chestxray,
    covid_ct,
    lidc,
    luna16,
    medseg,
    nih_adult,
    rsna,
)
from covid_utils.data.manifest import ImageLoader, Reading, validate
from covid_utils.errors import DataError

#: Largest label in a mask: 1 ground-glass or nodule, 2 consolidation, 3 pleural effusion.
LARGEST_LABEL = 3

MaskLoader = Callable[[Path, Any], np.ndarray]


@dataclass(frozen=True)
class Source:
    """A data set and how to read it.

    Attributes:
        name: Name in the manifest's column ``dataset``.
        folder: Folder of the data folder that holds it.
        read: Reads the manifest of the data set from the data folder.
        load_image: ``load_image(path, frame)``, a gray uint8 image (height, width).
        load_mask: ``load_mask(root, row)``, labels in the size of the image; None if there are
            none.
    """

    name: str
    folder: str
    read: Callable[[Path], Reading]
    load_image: ImageLoader
    load_mask: MaskLoader | None = None


#: Name of a data set to its source.
SOURCES = {
    reader.NAME: Source(
        reader.NAME,
        reader.FOLDER,
        reader.read,
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
    """List the known data sets in a data folder.

    Args:
        root: Data folder, with one folder a data set.

    Returns:
        The sources found, in the order of `SOURCES`.

    Raises:
        DataError: The folder is missing, empty or holds no known layout.
    """
    known = ", ".join(source.folder for source in SOURCES.values())
    if not root.is_dir():
        raise DataError(
            f"{root}: no such folder; create it and put one or more of these data sets in it: "
            f"{known}."
        )
    if not any(root.iterdir()):
        raise DataError(
            f"{root}: the folder is empty; put one or more of these data sets in it: {known}."
        )
    found = [source for source in SOURCES.values() if (root / source.folder).is_dir()]
    if not found:
        raise DataError(
            f"{root}: no known data set in this folder; name the folder that contains one or more "
            f"of these folders: {known}."
        )
    return found


def read_all(root: Path) -> Reading:
    """Read every known data set in a data folder into one manifest.

    Args:
        root: Data folder, with one folder a data set.

    Returns:
        The validated rows of all data sets, and all their problems.

    Raises:
        DataError: No data set is there, or one cannot be read at all.
    """
    readings = [source.read(root) for source in find(root)]
    rows = pd.concat([reading.rows for reading in readings], ignore_index=True)
    problems = pd.concat([reading.problems for reading in readings], ignore_index=True)
    return Reading(validate(rows), problems)


def _source(row: Any) -> Source:
    try:
        return SOURCES[row.dataset]
    except KeyError:
        raise DataError(
            f"{row.path}: unknown data set {row.dataset!r}; known are {', '.join(SOURCES)}; "
            "run notebook 01_data again."
        ) from None


def load_image(root: Path, row: Any) -> np.ndarray:
    """Image of a row of the manifest.

    Args:
        root: Data folder.
        row: Row of the manifest with the columns as attributes.

    Returns:
        uint8 image (height, width).

    Raises:
        DataError: The data set is unknown, or the file is missing or damaged.
    """
    return _source(row).load_image(root / row.path, int(row.frame))


def load_mask(root: Path, row: Any) -> np.ndarray:
    """Mask of a row of the manifest, in the size and orientation of its image.

    Args:
        root: Data folder.
        row: Row of the manifest with the columns as attributes.

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
