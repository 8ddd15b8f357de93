"""Reader of the RSNA Pneumonia Detection Challenge (2018, stage 2).

Layout: ``rsna / stage_2_train_images/*.dcm, stage_2_train_labels.csv,
stage_2_detailed_class_info.csv``. The X-rays are a part of NIH ChestX-ray14 under new names, so the
same person may also be in ``nih-adult``; the files do not tell who.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from covid_utils.data import guard
from covid_utils.data.images import read_dicom, read_dicom_header
from covid_utils.data.manifest import VIEWS
from covid_utils.errors import DataError

NAME = FOLDER = "rsna"
IMAGES = "stage_2_train_images"
LABELS = "stage_2_train_labels.csv"
CLASSES = "stage_2_detailed_class_info.csv"
LABEL_OF_CLASS = {
    "Normal": "normal",
    "Lung Opacity": "pneumonia",
    "No Lung Opacity / Not Normal": "other",
}

load_image = read_dicom


def candidates(root: Path, problems: guard.Problems) -> list[dict]:
    """Images labelled ``normal``, ``pneumonia`` or ``other``: one per patient.

    Both tables have a line for each opacity. Problems: patients without their image (``missing``),
    images without a class (``unlabelled``, left out), and patients whose ``Target`` contradicts
    their class (``contradiction``; the class counts).
    """
    classes, targets = _classes(root), _targets(root)
    images = {path.stem: path for path in guard.files(root / FOLDER / IMAGES, (".dcm",))}
    _compare(classes, targets, set(images), problems)
    used = {patient: path for patient, path in images.items() if patient in classes.index}
    views = {who: problems.attempt(path, "DICOM file", _view) for who, path in used.items()}
    return [
        {
            "path": used[patient],
            "patient_id": f"{NAME}/{patient}",
            "modality": "X-ray",
            "view": view,
            "label": LABEL_OF_CLASS[classes[patient]],
        }
        for patient, view in views.items()
        if view
    ]


def _compare(
    classes: pd.Series, targets: pd.Series, images: set[str], problems: guard.Problems
) -> None:
    """Note where the two tables and the images do not fit."""
    opacity = (classes == "Lung Opacity").reindex(targets.index)
    absent = classes.index.difference(list(images))
    unlabelled = sorted(images - set(classes.index))
    contradicted = targets.index[opacity.notna() & (opacity != targets)]
    for patients, problem, remedy in (
        (absent, guard.MISSING, "The image is not on disk; unpack the images again."),
        (unlabelled, "unlabelled", f"{CLASSES} has no line for this image; it is not used."),
        (contradicted, "contradiction", f"{LABELS} and {CLASSES} disagree; the class counts."),
    ):
        for patient in patients:
            problems.add(f"{FOLDER}/{IMAGES}/{patient}.dcm", problem, remedy)


def _classes(root: Path) -> pd.Series:
    """Class of each patient, by patient."""
    path = root / FOLDER / CLASSES
    table = guard.table(path, ("patientId", "class")).drop_duplicates()
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
    table = guard.table(root / FOLDER / LABELS, columns)
    return (table["Target"].str.strip() == "1").groupby(table["patientId"]).any()


def _view(path: Path) -> str:
    view = str(read_dicom_header(path, ("ViewPosition",)).get("ViewPosition", "")).strip().upper()
    view = "L" if view in ("LL", "RL", "LATERAL") else view
    return view if view in VIEWS else "unknown"
