"""Reader of the RSNA Pneumonia Detection Challenge (2018, stage 2).

Layout: ``rsna / stage_2_train_images/*.dcm, stage_2_train_labels.csv,
stage_2_detailed_class_info.csv``. The X-rays are a part of NIH ChestX-ray14 under new names, so the
same person may also be in ``nih-adult``; the files do not tell who.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pydicom

from covid_utils.data.files import read_table
from covid_utils.data.images import read_dicom
from covid_utils.data.manifest import MISSING, VIEWS, Problem, Reading, build
from covid_utils.errors import DataError

NAME = "rsna"
FOLDER = "rsna"
IMAGES = "stage_2_train_images"
LABELS = "stage_2_train_labels.csv"
CLASSES = "stage_2_detailed_class_info.csv"
LABEL_OF_CLASS = {
    "Normal": "normal",
    "Lung Opacity": "pneumonia",
    "No Lung Opacity / Not Normal": "other",
}

load_image = read_dicom


def read(root: Path) -> Reading:
    """Read the data set.

    Both tables have a line for each opacity, so several for a patient; every patient has one image
    and becomes one row. Problems reported: patients without their image (``missing``), images
    without a class (``unlabelled``, left out), and patients whose ``Target`` contradicts their
    class (``contradiction``; the class counts).

    Args:
        root: Data folder that contains ``rsna``.

    Returns:
        One row an image, label ``normal``, ``pneumonia`` or ``other``.

    Raises:
        DataError: A table is missing, lacks a column or has a strange class, or no image can be
            read.
    """
    classes, targets = _classes(root), _targets(root)
    files = {path.stem: path for path in sorted((root / FOLDER / IMAGES).glob("*.dcm"))}
    problems = [
        _problem(patient, MISSING, "The image is not on disk; unpack the images again.")
        for patient in classes.index.difference(list(files))
    ]
    problems += [
        _problem(patient, "unlabelled", f"{CLASSES} has no line for this image; it is not used.")
        for patient in sorted(set(files) - set(classes.index))
    ]
    opacity = (classes == "Lung Opacity").reindex(targets.index)
    problems += [
        _problem(patient, "contradiction", f"{LABELS} and {CLASSES} disagree; the class counts.")
        for patient in targets.index[opacity.notna() & (opacity != targets)]
    ]
    candidates = [
        {
            "path": path.relative_to(root).as_posix(),
            "patient_id": f"{NAME}/{patient}",
            "modality": "X-ray",
            "view": _view(path),
            "label": LABEL_OF_CLASS[classes[patient]],
        }
        for patient, path in files.items()
        if patient in classes.index
    ]
    return build(root, NAME, candidates, load_image, problems)


def _classes(root: Path) -> pd.Series:
    """Class of each patient, by patient."""
    path = root / FOLDER / CLASSES
    table = read_table(path, ("patientId", "class")).drop_duplicates()
    strange = sorted(set(table["class"]) - set(LABEL_OF_CLASS))
    if strange:
        raise DataError(f"{path}: class {strange} not among {list(LABEL_OF_CLASS)}; correct it.")
    twice = table.loc[table["patientId"].duplicated(), "patientId"]
    if len(twice):
        raise DataError(f"{path}: patient {twice.iloc[0]} has two classes; download it again.")
    return table.set_index("patientId")["class"]


def _targets(root: Path) -> pd.Series:
    """Whether a patient has an opacity, by patient."""
    columns = ("patientId", "x", "y", "width", "height", "Target")
    table = read_table(root / FOLDER / LABELS, columns)
    return (table["Target"].str.strip() == "1").groupby(table["patientId"]).any()


def _view(path: Path) -> str:
    """View of an image; a damaged header gives ``unknown`` here and is reported by decoding."""
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["ViewPosition"])
        view = str(header.get("ViewPosition", "")).strip().upper()
    except Exception:  # pydicom raises many kinds for a damaged file
        return "unknown"
    view = "L" if view in ("LL", "RL", "LATERAL") else view
    return view if view in VIEWS else "unknown"


def _problem(patient: str, problem: str, remedy: str) -> Problem:
    return Problem(NAME, f"{FOLDER}/{IMAGES}/{patient}.dcm", problem, remedy)
