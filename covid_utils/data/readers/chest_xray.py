"""Reader of the paediatric chest X-rays of Kermany et al. 2018 (Mendeley Data, CC BY 4.0).

Layout: ``chest_xray / train|val|test / NORMAL|PNEUMONIA``. The cause of a pneumonia and the patient
stand in the file name only. The children are one to five years old.
"""

import re
from pathlib import Path

from covid_utils.data import guard
from covid_utils.data.images import RASTER_SUFFIXES, read_raster

NAME = FOLDER = "chest_xray"
ABOUT = {"modality": "X-ray", "licence": "CC BY 4.0"}

_PERSON = re.compile(r"person(?P<number>\d+)_(?P<cause>virus|bacteria)_", re.IGNORECASE)
_NORMAL = re.compile(r"(?:NORMAL2-)?IM-(?P<number>\d+)-", re.IGNORECASE)
_CAUSES = {"virus": "viral", "bacteria": "bacterial"}

load_image = read_raster


def candidates(root: Path, problems: guard.Problems) -> list[dict]:
    """Images labelled ``normal``, ``viral``, ``bacterial``, or ``pneumonia`` if no cause is named.

    The source does not say whether a person's number means the same child in both causes and in
    both subsets, nor whether ``IM-0131`` and ``NORMAL2-IM-0131`` are one child. Equal numbers are
    taken for the same patient, which can only make a split by patient stricter.
    """
    return [
        {"path": path} | _named(root, path, kind)
        for part in ("train", "val", "test")  # the authors' own split, which is not used
        for kind in ("NORMAL", "PNEUMONIA")
        for path in guard.files(root / FOLDER / part / kind, RASTER_SUFFIXES)
    ]


def _named(root: Path, path: Path, kind: str) -> dict:
    """Label and patient, from the file name."""
    if kind == "NORMAL":
        match, label, prefix = _NORMAL.match(path.name), "normal", "normal"
    else:
        match, label, prefix = _PERSON.match(path.name), "pneumonia", "person"
        label = _CAUSES[match["cause"].lower()] if match else label
    patient = f"{prefix}{int(match['number'])}" if match else path.relative_to(root).as_posix()
    basis = "given" if match else "none"
    return {"label": label, "patient_id": f"{NAME}/{patient}", "patient_basis": basis}
