"""Reader of adult X-rays from NIH ChestX-ray14 (Wang et al. 2017), sorted into two folders.

Layout: ``nih-adult / No_findings|Pneumonia / PATIENT_IMAGE.jpg``. They are the adult controls next
to the children of the ``chest_xray`` set.
"""

from __future__ import annotations

from pathlib import Path

from covid_utils.data import guard
from covid_utils.data.images import RASTER_SUFFIXES, read_raster

NAME = FOLDER = "nih-adult"
LABEL_OF_FOLDER = {"No_findings": "normal", "Pneumonia": "pneumonia"}

load_image = read_raster


def candidates(root: Path, problems: guard.Problems) -> list[dict]:
    """Images by folder; the patient is the part of the file name before the underscore."""
    return [
        {
            "path": path,
            "patient_id": f"{NAME}/{path.stem.split('_')[0]}",
            "modality": "X-ray",
            "label": label,
            "licence": "NIH, free use",
        }
        for folder, label in LABEL_OF_FOLDER.items()
        for path in guard.files(root / FOLDER / folder, RASTER_SUFFIXES)
    ]
