"""The one table that every reader's images come into: a row per image, a column per fact.

``patient_id`` is never dropped, because it is what makes an honest split possible.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pandas as pd

import chest_phantom
from covid_utils import paths, runs
from covid_utils.errors import DataError, ResultsError
from covid_utils.graph import jobs, possible
from covid_utils.registry import (
    DATA,
    LESION_SETS,
    RECOGNITION_CLASSES,
    SUBSETS,
    TASK1,
    UNUSED,
    missing_sets,
)

#: Column name -> what it holds.
COLUMNS = {
    "image_id": "unique name: data set, path inside it and, for a volume, the slice",
    "path": "file, relative to the data folder, with forward slashes",
    "frame": "slice of a volume, counted from 0; 0 for a file with one image",
    "dataset": "name of the source, as in `covid_utils.data.readers`",
    "patient_id": "patient, or the finest group known; unique across data sets",
    "patient_basis": "what patient_id rests on: given, figure or none",
    "modality": "X-ray or CT",
    "view": "PA, AP, AP Supine, L, Axial, Coronal; unknown if the source names none, else other",
    "label": "one of LABELS",
    "mask_path": "file with the mask or the contours, relative to the data folder; '' if none",
    "mask_sha256": "hash of that file; '' if none",
    "label_quality": "exact, weak or none: how far to trust the classes of the mask, if it has any",
    "licence": "licence of the image, or 'unknown'",
    "sha256": "hash of the file, or of the pixels for a slice of a volume",
    "phash": "perceptual hash, see `covid_utils.data.similarity`",
    "width": "pixels",
    "height": "pixels",
    "lungs": "of CT: top, left and side of the square around the lungs, and their area, in pixels",
    "field": "the same by `lung_field`, which takes any gray scale",
    "gray": "of CT: HU, or gray values of air, lung, fat, tissue (- if missing), and confidence",
}

#: Image labels. ``pneumonia`` is pneumonia of a cause that the source does not tell.
LABELS = ("covid", "normal", "viral", "bacterial", "pneumonia", "non_covid")
LABELS += ("nodule", "no_nodule", "other")
#: Views in which a chest X-ray shows the front of the chest.
FRONTAL = ("PA", "AP", "AP Supine")
#: Values of the columns that have a vocabulary. A ``patient_id`` rests on the source's patients
#: (``given``), on the figure or paper that an image was cut from, or on nothing.
VOCABULARIES = {
    "label": LABELS,
    "view": (*FRONTAL, "L", "Axial", "Coronal", "unknown", "other"),
    "modality": ("X-ray", "CT"),
    "label_quality": ("exact", "weak", "none"),
    "patient_basis": ("given", "figure", "none"),
}
_NUMBERS = ("frame", "width", "height")


def validate(table: pd.DataFrame) -> pd.DataFrame:
    """Check a table with at least the columns of `COLUMNS`, and give it their types and order.

    Further columns (``subset``) stay, behind the manifest's; rows are sorted by ``image_id``.
    """
    if missing := [name for name in COLUMNS if name not in table.columns]:
        raise DataError(f"manifest: the columns {missing} are missing; run notebook 01_data again.")
    for column, allowed in VOCABULARIES.items():
        if strange := sorted(set(table[column]) - set(allowed)):
            raise DataError(f"manifest: {column} {strange} not among {list(allowed)}.")
    repeated = table.loc[table["image_id"].duplicated(), "image_id"]
    if len(repeated):
        raise DataError(f"manifest: image_id {repeated.iloc[0]!r} repeats; ids must be unique.")
    if (table["patient_id"] == "").any():
        raise DataError("manifest: a row has no patient_id; give each unknown patient its own.")
    rest = [name for name in table.columns if name not in COLUMNS]
    table = table[[*COLUMNS, *rest]].astype(dict.fromkeys(_NUMBERS, "int64"))
    return table.sort_values("image_id", kind="stable").reset_index(drop=True)


def saved_manifest(profile: str) -> pd.DataFrame:
    """Manifest of a profile's last preparation."""
    file = f"{DATA}/manifest.csv"
    return runs.read(profile, file, lambda path: _parsed(path, path.stat().st_mtime_ns)).copy()


@lru_cache(2)  # every table asks for it
def _parsed(path: Path, changed: int) -> pd.DataFrame:
    texts = {name: str for name in COLUMNS if name not in _NUMBERS}
    return validate(pd.read_csv(path, dtype=texts, keep_default_na=False))


def left_out(profile: str) -> dict[str, str]:
    """Runs that a profile's data sets do not allow -> what each needs.

    An earlier run, with more data sets, may have left their folders: scores, tables, figures and
    site ignore these. A run by hand, of no job, outlines lesions.
    """
    try:
        rows = saved_manifest(profile)
    except ResultsError:  # nothing was prepared yet
        return {}
    every, sets = jobs("imagenet"), set(rows["dataset"])
    _, reasons = possible(every, sets)
    if lost := lost_classes(rows):
        reasons.setdefault(TASK1, f"needs frontal X-rays labelled {' and '.join(lost)}")
    absent = {run: reason for name, reason in reasons.items() for run in every[name].runs}
    known = {run for job in every.values() for run in job.runs}
    written = paths.results(profile).glob("*/predictions.parquet")
    by_hand = {path.parent.name for path in written} - known
    reason = missing_sets((LESION_SETS,), sets)
    return absent | (dict.fromkeys(sorted(by_hand), reason) if reason else {})


def kind(manifest: pd.DataFrame) -> str:
    """``phantom`` if all images of a manifest are simulated, else ``real scans``."""
    return "phantom" if (manifest["licence"] == chest_phantom.LICENCE).all() else "real scans"


def frontal_xrays(rows: pd.DataFrame) -> pd.DataFrame:
    """X-rays of the front of the chest; sources that name no views (``unknown``) hold no others."""
    return rows[(rows["modality"] == "X-ray") & rows["view"].isin((*FRONTAL, "unknown"))]


def lost_classes(rows: pd.DataFrame) -> list[str]:
    """Classes of the recognition task without an image: missing, unreadable, or of no such set."""
    labels = set(frontal_xrays(rows)["label"])
    return [name for name in RECOGNITION_CLASSES if name not in labels]


def without_near_copies(rows: pd.DataFrame) -> pd.DataFrame:
    """Move to ``unused`` near copies of tested slices: 11 of Inf-Net's 50 training slices."""
    tested = rows["patient_id"].isin(rows.loc[rows["subset"] == "test", "patient_id"])
    return rows.assign(subset=rows["subset"].mask(tested & (rows["subset"] != "test"), UNUSED))


def lacking(rows: pd.DataFrame) -> dict[str, list[str]]:
    """Label -> subsets in which no patient has it, for the labels that lack one."""
    used = rows[rows["subset"] != UNUSED]
    there = used.groupby("label")["subset"].unique()
    absent = {label: [s for s in SUBSETS if s not in names] for label, names in there.items()}
    return {label: subsets for label, subsets in absent.items() if subsets}
