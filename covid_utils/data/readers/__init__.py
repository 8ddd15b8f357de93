"""Every data set that the companion can read; the single entry point to their images and masks.

To add a data set, write a module with its `build.Source` and list that below; a set that is sorted
into folders needs only a rule for its file names in `folders`. Then describe it in
``workflow/catalogue.yaml`` (where it comes from), ``docs/data.md`` and ``docs/data_card.md``, and
let `chest_phantom` write a folder in its layout, so that tests can run the reader.

Frontal X-rays whose ``label`` is one of `registry.RECOGNITION_CLASSES` then belong to the tasks of
recognition. CT slices train streams once their set is in `registry.LESION_SETS` or `NODULE_SETS`.
CT that must only be tested belongs in `registry.EXTERNAL_SETS`.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from covid_utils.data import guard
from covid_utils.data.manifest import validate
from covid_utils.data.readers import covid_chestxray, folders, hospitals, lidc, luna16, medseg, rsna
from covid_utils.data.readers.build import Source, build
from covid_utils.errors import DataError


class Reading(NamedTuple):
    """Rows of the manifest, and a table with the columns of `guard.PROBLEM_COLUMNS`."""

    rows: pd.DataFrame
    problems: pd.DataFrame


_ALL = (covid_chestxray.SOURCE, folders.CHEST_XRAY, rsna.SOURCE, folders.NIH_ADULT)
_ALL += (folders.COVID_CT, medseg.SOURCE, lidc.SOURCE, luna16.SOURCE)
_ALL += (hospitals.VOLUMES, hospitals.PICTURES)
#: Name of a data set -> its reader.
SOURCES: dict[str, Source] = {source.name: source for source in _ALL}


def present(root: Path) -> list[str]:
    """Names of the known data sets that a data folder has a folder of."""
    return [name for name, source in SOURCES.items() if (root / source.folder).is_dir()]


def read_all(root: Path, names: Iterable[str] = ()) -> Reading:
    """Read every known data set in a data folder, or those with some names, into one manifest.

    A data set that cannot be read at all is a problem like a file that cannot.
    """
    places = {name: root / source.folder for name, source in SOURCES.items()}
    found = [name for name, place in places.items() if place.is_dir() or place.is_symlink()]
    if not found:
        known = ", ".join(source.folder for source in SOURCES.values())
        raise DataError(f"{root}: no known data set in this folder; name the one that has {known}.")
    tables, problems, failures = [], [], []
    for source in (SOURCES[name] for name in names or found):
        noted = guard.Problems(source.name, root)
        try:
            tables.append(build(source, noted))
        except DataError as error:
            failures.append(str(error))
            noted.add(source.folder, guard.UNREADABLE, f"{error} The data set is left out.")
        problems += noted.rows
    if not tables:
        raise DataError(" ".join(failures))
    rows = validate(pd.concat(tables, ignore_index=True))
    return Reading(rows, pd.DataFrame(problems, columns=list(guard.PROBLEM_COLUMNS)))


def read(name: str, root: Path) -> Reading:
    """Read one data set of a data folder, by its name in `SOURCES`."""
    return read_all(root, [name])


def load_image(root: Path, row: Any) -> np.ndarray:
    """Image of a row of the manifest: uint8 (height, width)."""
    with guard.reading(root / row.path, "image"):
        return SOURCES[row.dataset].load_image(root / row.path, int(row.frame))


def measured(
    root: Path, rows: pd.DataFrame, measure: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """What ``measure`` gives for the image of each row, stacked; no image is kept."""
    with ThreadPoolExecutor() as pool:
        measures = pool.map(lambda row: measure(load_image(root, row)), rows.itertuples())
        return np.stack(list(measures))


def load_mask(root: Path, row: Any) -> np.ndarray:
    """Mask of a row of the manifest, in the size and orientation of its image.

    Returns:
        uint8 labels (height, width): 0 background; 1 ground-glass, 2 consolidation and 3 pleural
        effusion, or 1 nodule in the nodule sets. Where ``label_quality`` is ``none``, 1 is a lesion
        of no stated class.
    """
    if not row.mask_path:
        raise DataError(f"{row.path}: has no mask; choose rows whose mask_path is not empty.")
    path = root / row.mask_path
    with guard.reading(root / row.path, "scan with its mask"):
        mask = SOURCES[row.dataset].load_mask(root, row)
    size = (int(row.height), int(row.width))
    if mask.shape != size:
        raise DataError(f"{path}: mask of {mask.shape}, not {size}; take both from one release.")
    strange = np.setdiff1d(mask, (0, 1, 2, 3))
    if len(strange):
        raise DataError(
            f"{path}: labels {strange.tolist()} in {row.image_id}; only 0 to 3 have a meaning, so "
            "correct the mask or download it again."
        )
    return mask.astype(np.uint8)


def load_lungs(root: Path, row: Any) -> np.ndarray:
    """Lungs as annotators outlined them: bool (height, width); of rows of `EXTERNAL_SETS`."""
    with guard.reading(root / row.path, "scan with its lungs"):
        return SOURCES[row.dataset].load_lungs(root, row) > 0
