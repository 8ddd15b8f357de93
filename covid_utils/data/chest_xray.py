"""Reader of the paediatric chest X-rays of Kermany et al. 2018 (Mendeley Data, CC BY 4.0).

Layout: ``chest_xray / train|val|test / NORMAL|PNEUMONIA``. The cause of a pneumonia and the patient
stand in the file name only. The children are one to five years old.
"""

from __future__ import annotations

import re
from pathlib import Path

from covid_utils.data.files import image_files
from covid_utils.data.images import read_raster
from covid_utils.data.manifest import Reading, build

NAME = "chest_xray"
FOLDER = "chest_xray"
SUBSETS = ("train", "val", "test")

_PERSON = re.compile(r"person(?P<number>\d+)_(?P<cause>virus|bacteria)_", re.IGNORECASE)
_NORMAL = re.compile(r"(?:NORMAL2-)?IM-(?P<number>\d+)-", re.IGNORECASE)
_CAUSES = {"virus": "viral", "bacteria": "bacterial"}

load_image = read_raster


def read(root: Path) -> Reading:
    """Read the data set.

    The source does not say whether a person's number means the same child in both causes and in
    both subsets, nor whether ``IM-0131`` and ``NORMAL2-IM-0131`` are one child. Equal numbers are
    taken for the same patient, which can only make a split by patient stricter.

    Args:
        root: Data folder that contains ``chest_xray``.

    Returns:
        One row an image, label ``normal``, ``viral`` or ``bacterial`` (``pneumonia`` where the name
        tells no cause).

    Raises:
        DataError: No image can be read.
    """
    candidates = [
        _candidate(root, path, kind)
        for subset in SUBSETS
        for kind in ("NORMAL", "PNEUMONIA")
        for path in image_files(root / FOLDER / subset / kind)
    ]
    return build(root, NAME, candidates, load_image)


def _candidate(root: Path, path: Path, kind: str) -> dict:
    relative = path.relative_to(root).as_posix()
    if kind == "NORMAL":
        found, label, prefix = _NORMAL.match(path.name), "normal", "normal"
    else:
        found, label, prefix = _PERSON.match(path.name), "pneumonia", "person"
        label = _CAUSES[found["cause"].lower()] if found else label
    patient = f"{prefix}{int(found['number'])}" if found else relative
    return {
        "path": relative,
        "patient_id": f"{NAME}/{patient}",
        "patient_basis": "given" if found else "none",
        "modality": "X-ray",
        "label": label,
        "licence": "CC BY 4.0",
    }
