"""Readers of sets that are sorted into folders, where file names tell label and patient.

* ``chest_xray``: X-rays of children aged one to five (Kermany et al. 2018, Mendeley Data). The
  authors' own split into ``train``, ``val`` and ``test`` is not used.
* ``nih-adult``: adult X-rays of NIH ChestX-ray14 (Wang et al. 2017), files ``PATIENT_IMAGE.jpg``;
  the adult controls next to those children.
* ``COVID-CT``: CT slices cut out of the figures of papers (Zhao et al. 2020), files
  ``PAPER-pPAGE-FIGURE%PANEL.png`` for COVID-19, and ``NUMBER%PANEL.jpg`` or ``NUMBER.png``.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from covid_utils.data import guard
from covid_utils.data.readers.build import Source
from covid_utils.data.readers.decoding import RASTER_SUFFIXES, read_raster

_PERSON = re.compile(r"person(?P<number>\d+)_(?P<cause>virus|bacteria)_", re.IGNORECASE)
_NORMAL = re.compile(r"(?:NORMAL2-)?IM-(?P<number>\d+)-", re.IGNORECASE)
#: Names of version 3: cause, child and number of the image.
_VERSION_3 = re.compile(r"(?P<cause>normal|virus|bacteria)-(?P<number>\d+)-\d+", re.IGNORECASE)
_CAUSES = {"virus": "viral", "bacteria": "bacterial"}


def _reader(
    folder: str, parts: Iterable[str], named: Callable[[Path], dict[str, str]], **about: str
) -> Source:
    """Reader of images in the ``parts`` of a folder; ``named`` has label and patient of one."""

    def candidates(root: Path, problems: guard.Problems) -> list[dict]:
        rows = [
            {"path": path} | named(path.relative_to(root))
            for part in parts
            for path in problems.files(root / folder / part, RASTER_SUFFIXES)
        ]
        for row in rows:
            if row.get("patient_basis") == "none":
                remedy = "Its name gives no patient, so it counts as a patient of its own."
                problems.add(row["path"], "unknown name", remedy)
        return rows

    return Source(folder, about, candidates, read_raster)


def _kermany(path: Path) -> dict[str, str]:
    """Cause and child, which only the file name tells, in either form that was published.

    The source does not say whether a person's number means the same child in both causes and in
    both subsets, nor whether ``IM-0131`` and ``NORMAL2-IM-0131`` are one child. Equal numbers are
    taken for the same patient, which can only make a split by patient stricter. In version 3
    numbers belong to a cause.
    """
    is_normal = path.parent.name == "NORMAL"
    match = (_NORMAL if is_normal else _PERSON).match(path.name)
    prefix = "normal" if is_normal else "person"
    if match is None and (match := _VERSION_3.match(path.name)):
        prefix = f"{match['cause'].lower()}-"
    cause = match["cause"].lower() if match and not is_normal else ""
    label = "normal" if is_normal else _CAUSES.get(cause, "pneumonia")
    patient = f"{prefix}{int(match['number'])}" if match else path.as_posix()
    basis = "given" if match else "none"
    return {"label": label, "patient_id": f"chest_xray/{patient}", "patient_basis": basis}


def _nih(path: Path) -> dict[str, str]:
    label = {"No_findings": "normal", "Pneumonia": "pneumonia"}[path.parent.name]
    return {"label": label, "patient_id": f"nih-adult/{path.stem.split('_')[0]}"}


def _covid_ct(path: Path) -> dict[str, str]:
    """No patients are known: the finest sound group is the paper, or the figure."""
    is_covid = path.parent.name == "CT_COVID"
    group = paper(path.name) if is_covid else figure(path.name)
    label = "covid" if is_covid else "non_covid"
    return {"label": label, "patient_id": f"covid-ct/{path.parent.name}/{group}"}


def paper(name: str) -> str:
    """Paper of a COVID-19 slice, whose figures share patients: no panel, figure and page."""
    return re.sub(r"(-p\d+-[\d_-]+|_\d+)$", "", re.sub(r"%\d+$", "", Path(name).stem))


def figure(name: str) -> str:
    """Figure of a slice without COVID-19, whose panels are numbered behind ``%``."""
    return name.split("%", maxsplit=1)[0] if "%" in Path(name).stem else name


_SPLIT = [f"{part}/{kind}" for part in ("train", "val", "test") for kind in ("NORMAL", "PNEUMONIA")]
CHEST_XRAY = _reader("chest_xray", _SPLIT, _kermany, modality="X-ray", licence="CC BY 4.0")
NIH_ADULT = _reader(
    "nih-adult", ("No_findings", "Pneumonia"), _nih, modality="X-ray", licence="NIH, free use"
)
COVID_CT = _reader(
    "COVID-CT",
    ("CT_COVID", "CT_NonCOVID"),
    _covid_ct,
    modality="CT",
    view="Axial",
    patient_basis="figure",
)
