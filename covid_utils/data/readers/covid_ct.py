"""Reader of COVID-CT (Zhao et al. 2020): CT slices cut out of the figures of papers.

Layout: ``COVID-CT / CT_COVID|CT_NonCOVID``. A name is ``PAPER-pPAGE-FIGURE%PANEL.png`` for COVID-19
and ``NUMBER%PANEL.jpg`` or ``NUMBER.png`` for the rest.
"""

import re
from pathlib import Path

from covid_utils.data import guard
from covid_utils.data.images import RASTER_SUFFIXES, read_raster

NAME = "covid-ct"
FOLDER = "COVID-CT"
ABOUT = {"modality": "CT", "view": "Axial", "patient_basis": "figure"}

load_image = read_raster


def candidates(root: Path, problems: guard.Problems) -> list[dict]:
    """Slices labelled ``covid`` or ``non_covid``.

    No patients are known. The finest sound group is the paper for COVID-19, whose figures share
    patients, and the number before ``%`` for the rest, whose panels are one figure.
    """
    folders = {"CT_COVID": ("covid", paper), "CT_NonCOVID": ("non_covid", figure)}
    return [
        {"path": path, "patient_id": f"{NAME}/{folder}/{group_of(path.name)}", "label": label}
        for folder, (label, group_of) in folders.items()
        for path in guard.files(root / FOLDER / folder, RASTER_SUFFIXES)
    ]


def paper(name: str) -> str:
    """Paper that a COVID-19 slice was cut from: the file name without panel, figure and page."""
    return re.sub(r"(-p\d+-[\d_-]+|_\d+)$", "", re.sub(r"%\d+$", "", Path(name).stem))


def figure(name: str) -> str:
    """Figure of a slice without COVID-19: the part before ``%``, else the whole file name."""
    stem = Path(name).stem
    return stem.split("%")[0] if "%" in stem else name
