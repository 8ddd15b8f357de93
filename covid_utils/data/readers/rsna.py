"""Reader of the RSNA Pneumonia Detection Challenge (2018, stage 2).

Layout: ``rsna / stage_2_train_images/*.dcm, stage_2_detailed_class_info.csv``. The X-rays are a
part of NIH ChestX-ray14 under new names, so the same person may also be in ``nih-adult``.
"""

from pathlib import Path

import pandas as pd

from covid_utils.data import guard
from covid_utils.data.readers.build import Source
from covid_utils.data.readers.decoding import read_dicom, read_dicom_header
from covid_utils.errors import DataError

NAME = "rsna"
IMAGES = "stage_2_train_images"
CLASSES = "stage_2_detailed_class_info.csv"
LABEL_OF_CLASS = {
    "Normal": "normal",
    "Lung Opacity": "pneumonia",
    "No Lung Opacity / Not Normal": "other",
}


def candidates(root: Path, problems: guard.Problems) -> list[dict]:
    """Images labelled ``normal``, ``pneumonia`` or ``other``: one per patient."""
    label = _labels(root / NAME / CLASSES)
    images = {path.stem: path for path in problems.files(root / NAME / IMAGES, (".dcm",))}
    file = f"{NAME}/{IMAGES}/{{}}.dcm".format
    for patient in label.index.difference(list(images)):
        problems.add(file(patient), guard.MISSING, "The image is not on disk; unpack it again.")
    for patient in sorted(images.keys() - label.index):
        problems.add(file(patient), "unlabelled", f"{CLASSES} has no line for it; it is not used.")
    rows = []
    for patient in sorted(images.keys() & label.index):
        header = problems.attempt(read_dicom_header, images[patient], ("ViewPosition",))
        if header is not None:  # one without that tag is empty
            view = str(header.get("ViewPosition", ""))
            about = {"patient_id": f"{NAME}/{patient}", "view": view, "label": label[patient]}
            rows.append({"path": images[patient]} | about)
    return rows


@guard.reads("table of classes")
def _labels(path: Path) -> pd.Series:
    """Label of each patient; a patient of two classes, or of an unknown one, is an error."""
    table = guard.table(path, ("patientId", "class")).drop_duplicates(["patientId", "class"])
    by_patient = table.set_index("patientId")["class"]
    if by_patient.index.has_duplicates:
        patient = by_patient.index[by_patient.index.duplicated()][0]
        raise DataError(f"{path}: patient {patient} has two classes; correct the table.")
    if unknown := sorted(set(by_patient) - set(LABEL_OF_CLASS)):
        raise DataError(f"{path}: class '{unknown[0]}' is not known; correct the table.")
    return by_patient.map(LABEL_OF_CLASS)


SOURCE = Source(NAME, {"modality": "X-ray"}, candidates, read_dicom)
