"""Reader of adult X-rays from NIH ChestX-ray14 (Wang et al. 2017), sorted into two folders.

Layout: ``nih-adult / No_findings|Pneumonia / PATIENT_IMAGE.jpg``. They are the adult controls next
to the children of the ``chest_xray`` set.
"""

from pathlib import Path

from covid_utils.data import guard
from covid_utils.data.images import RASTER_SUFFIXES, read_raster

NAME = FOLDER = "nih-adult"
ABOUT = {"modality": "X-ray", "licence": "NIH, free use"}

load_image = read_raster


def candidates(root: Path, problems: guard.Problems) -> list[dict]:
    """Images by folder; the patient is the part of the file name before the underscore."""
    return [
        {"path": path, "patient_id": f"{NAME}/{path.stem.split('_')[0]}", "label": label}
        for folder, label in (("No_findings", "normal"), ("Pneumonia", "pneumonia"))
        for path in guard.files(root / FOLDER / folder, RASTER_SUFFIXES)
    ]
