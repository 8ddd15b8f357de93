"""The one table that every reader returns: a row per image, a column per fact.

Whatever a data set calls things, from here on they have these names. ``patient_id`` is never
dropped, because it is what makes an honest split possible.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from covid_utils.data.similarity import perceptual_hash
from covid_utils.errors import DataError

#: Column name -> what it holds.
COLUMNS = {
    "image_id": "unique name: data set, path inside it and, for a volume, the slice",
    "path": "file, relative to the data folder, with forward slashes",
    "frame": "slice of a volume, counted from 0; 0 for a file with one image",
    "dataset": "name of the source, as in `covid_utils.data.sources`",
    "patient_id": "patient, or the finest group known; unique across data sets",
    "patient_basis": "what patient_id rests on: one of BASES",
    "modality": "X-ray or CT",
    "view": "PA, AP, AP Supine, L, Axial, Coronal or unknown",
    "label": "one of LABELS",
    "mask_path": "file with the mask or the contours, relative to the data folder; '' if none",
    "mask_sha256": "hash of that file; '' if none",
    "label_quality": "exact, weak or none: how far the mask's classes can be trusted",
    "licence": "licence of the image, or 'unknown'",
    "sha256": "hash of the file, or of the pixels for a slice of a volume",
    "phash": "perceptual hash, see `covid_utils.data.similarity`",
    "width": "pixels",
    "height": "pixels",
}

#: Image labels. ``pneumonia`` is pneumonia of a cause that the source does not tell.
LABELS = (
    "covid",
    "normal",
    "viral",
    "bacterial",
    "pneumonia",
    "non_covid",
    "nodule",
    "no_nodule",
    "other",
)
VIEWS = ("PA", "AP", "AP Supine", "L", "Axial", "Coronal", "unknown")
#: Views in which a chest X-ray shows the front of the chest.
FRONTAL = ("PA", "AP", "AP Supine")
MODALITIES = ("X-ray", "CT")
QUALITIES = ("exact", "weak", "none")
#: What a ``patient_id`` rests on: the source names patients, or the figure or paper that an image
#: was cut from stands in, or nothing is known.
BASES = ("given", "figure", "none")

PROBLEM_COLUMNS = ("dataset", "path", "problem", "remedy")

#: Problems that leave an image out of the manifest.
UNREADABLE = "unreadable"
MISSING = "missing"


@dataclass(frozen=True)
class Reading:
    """What a reader found.

    Attributes:
        rows: The manifest, validated: the columns of `COLUMNS`, one row an image.
        problems: What did not fit, with the columns of `PROBLEM_COLUMNS`; one row a problem.
    """

    rows: pd.DataFrame
    problems: pd.DataFrame


@dataclass(frozen=True)
class Problem:
    """One thing in a data set that is not as it should be, and what can be done about it."""

    dataset: str
    path: str
    problem: str
    remedy: str


ImageLoader = Callable[[Path, int], np.ndarray]


def build(
    root: Path,
    dataset: str,
    candidates: Iterable[dict],
    load_image: ImageLoader,
    problems: Iterable[Problem] = (),
) -> Reading:
    """Turn a reader's candidates into a manifest: decode, measure and hash every image once.

    Args:
        root: The data folder that paths are relative to.
        dataset: Name of the data set.
        candidates: Dictionaries with ``path`` and any other manifest column known; ``frame``,
            ``view``, ``mask_path``, ``label_quality``, ``patient_basis`` and ``licence`` have
            defaults.
        load_image: ``load_image(path, frame)`` returns a gray uint8 image (height, width) or raises
            `DataError`.
        problems: Problems that the reader has already seen.

    Returns:
        The validated reading; images that cannot be decoded are problems, not rows.

    Raises:
        DataError: No candidate can be read.
    """
    candidates = list(candidates)
    found = list(problems)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        probes = list(pool.map(lambda row: _probe(root, row, load_image), candidates))
    masks = _mask_hashes(root, candidates)
    rows = []
    for row, probe in zip(candidates, probes, strict=True):
        if isinstance(probe, DataError):
            remedy = f"{probe} The run goes on without it."
            found.append(Problem(dataset, row["path"], UNREADABLE, remedy))
        else:
            rows.append(_complete(row, dataset, masks) | probe)
    if not rows:
        raise DataError(
            f"{root}: no readable image of the data set '{dataset}'; "
            "check that the archive was unpacked whole."
        )
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return Reading(validate(table), problem_table(found))


def _probe(root: Path, row: dict, load_image: ImageLoader) -> dict | DataError:
    path = root / row["path"]
    frame = row.get("frame", 0)
    try:
        image = load_image(path, frame)
    except DataError as error:
        return error
    height, width = image.shape
    data = image.tobytes() if row.get("is_slice") else path.read_bytes()
    seen = {"sha256": hashlib.sha256(data).hexdigest(), "phash": perceptual_hash(image)}
    return seen | {"width": width, "height": height}


def _mask_hashes(root: Path, candidates: list[dict]) -> dict[str, str]:
    """Hash of every mask file named; '' for one that is not there, which reading it will report."""
    hashes = {}
    for name in {row.get("mask_path", "") for row in candidates} - {""}:
        path = root / name
        is_there = path.is_file()
        hashes[name] = hashlib.sha256(path.read_bytes()).hexdigest() if is_there else ""
    return hashes


def _complete(row: dict, dataset: str, masks: dict[str, str]) -> dict:
    """Fill in the columns that a reader may leave out."""
    frame = row.get("frame", 0)
    defaults = {
        "image_id": row["path"] + (f"#{frame:03d}" if row.get("is_slice") else ""),
        "frame": frame,
        "dataset": dataset,
        "view": "unknown",
        "mask_path": "",
        "mask_sha256": masks.get(row.get("mask_path", ""), ""),
        "label_quality": "none",
        "patient_basis": "given",
        "licence": "unknown",
    }
    return defaults | {key: value for key, value in row.items() if key in COLUMNS}


def problem_table(problems: Iterable[Problem]) -> pd.DataFrame:
    """Problems as a table with the columns of `PROBLEM_COLUMNS`."""
    rows = [vars(problem) for problem in problems]
    return pd.DataFrame(rows, columns=list(PROBLEM_COLUMNS))


def validate(table: pd.DataFrame) -> pd.DataFrame:
    """Check that a table is a manifest, and give its columns their types and order.

    Args:
        table: Any table with at least the columns of `COLUMNS`; further ones (``subset``) stay.

    Returns:
        The table, sorted by ``image_id``, with the manifest's columns first.

    Raises:
        DataError: A column is missing, a value is not in its vocabulary, or an id repeats.
    """
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise DataError(f"manifest: the columns {missing} are missing; run notebook 01_data again.")
    vocabularies = {
        "label": LABELS,
        "view": VIEWS,
        "modality": MODALITIES,
        "label_quality": QUALITIES,
        "patient_basis": BASES,
    }
    for column, allowed in vocabularies.items():
        strange = sorted(set(table[column]) - set(allowed))
        if strange:
            raise DataError(f"manifest: {column} {strange} not among {list(allowed)}.")
    repeated = table.loc[table["image_id"].duplicated(), "image_id"]
    if len(repeated):
        raise DataError(f"manifest: image_id {repeated.iloc[0]!r} repeats; ids must be unique.")
    if (table["patient_id"].astype(str).str.len() == 0).any():
        raise DataError("manifest: a row has no patient_id; give each unknown patient its own.")
    numbers = {"frame": "int64", "width": "int64", "height": "int64"}
    rest = [name for name in table.columns if name not in COLUMNS]
    table = table[[*COLUMNS, *rest]].astype(numbers)
    return table.sort_values("image_id", kind="stable").reset_index(drop=True)


def load(path: Path) -> pd.DataFrame:
    """Read a manifest that `pandas.DataFrame.to_csv` wrote.

    Raises:
        DataError: The file is missing or is no manifest.
    """
    if not path.is_file():
        raise DataError(f"{path}: no manifest here; run notebook 01_data of this profile first.")
    texts = {name: str for name in COLUMNS if name not in ("frame", "width", "height")}
    return validate(pd.read_csv(path, dtype=texts, keep_default_na=False))
