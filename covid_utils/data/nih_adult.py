"""Reader of adult X-rays from NIH ChestX-ray14 (Wang et al. 2017), sorted into two folders.

Layout: ``nih-adult / No_findings|Pneumonia / PATIENT_IMAGE.jpg``. They are the adult controls next
to the children of the ``chest_xray`` set.
"""

from __future__ import annotations

from pathlib import Path

from covid_utils.data.files import image_files
from covid_utils.data.images import read_raster
from covid_utils.data.manifest import Reading, build

NAME = "nih-adult"
FOLDER = "nih-adult"
LABEL_OF_FOLDER = {"No_findings": "normal", "Pneumonia": "pneumonia"}

load_image = read_raster


def read(root: Path) -> Reading:
    """Read the data set; the patient is the part of the file name before the underscore.

    Args:
        root: Data folder that contains ``nih-adult``.

    Returns:
        One row an image, label ``normal`` or ``pneumonia``.

    Raises:
        DataError: No image can be read.
    """
    candidates = [
        {
            "path": path.relative_to(root).as_posix(),
            "patient_id": f"{NAME}/{path.stem.split('_')[0]}",
            "modality": "X-ray",
            "label": label,
            "licence": "NIH, free use",
        }
        for folder, label in LABEL_OF_FOLDER.items()
        for path in image_files(root / FOLDER / folder)
    ]
    return build(root, NAME, candidates, load_image)
