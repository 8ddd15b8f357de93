"""Reader of the COVID-19 Image Data Collection (Cohen et al. 2020).

Layout: ``covid-chestxray-dataset / metadata.csv, images/`` and, where they were downloaded, CT
volumes in ``volumes/``. The column ``finding`` is flat in early releases (``COVID-19, ARDS``) and
hierarchical in later ones (``Pneumonia/Viral/COVID-19``); both are understood.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from covid_utils.data.files import image_files, read_table
from covid_utils.data.images import read_raster
from covid_utils.data.manifest import MISSING, Problem, Reading, build
from covid_utils.data.volumes import NIFTI_SUFFIXES, axial_count, read_axial
from covid_utils.errors import DataError

NAME = "covid-chestxray-dataset"
FOLDER = "covid-chestxray-dataset"
METADATA = "metadata.csv"
COLUMNS = ("patientid", "finding", "view", "modality", "folder", "filename", "license")

VIRAL = frozenset({"viral", "sars", "mers", "mers-cov", "influenza", "h1n1", "varicella", "herpes"})
BACTERIAL = frozenset(
    {
        "bacterial",
        "chlamydophila",
        "e.coli",
        "klebsiella",
        "legionella",
        "mrsa",
        "mycoplasma",
        "nocardia",
        "staphylococcus",
        "streptococcus",
    }
)
VIEWS = {
    "pa": "PA",
    "ap": "AP",
    "ap erect": "AP",
    "ap supine": "AP Supine",
    "l": "L",
    "axial": "Axial",
    "coronal": "Coronal",
}
MODALITIES = {"x-ray": "X-ray", "ct": "CT"}


def label_of(finding: str) -> str:
    """Manifest label of a finding, flat or hierarchical.

    COVID-19 wins over what comes with it (``COVID-19, ARDS``). ``Pneumonia`` without a cause is
    ``pneumonia``; fungal, lipoid and aspiration pneumonia, ARDS alone and ``todo`` are ``other``.

    Args:
        finding: Value of the column ``finding``.

    Returns:
        ``covid``, ``normal``, ``viral``, ``bacterial``, ``pneumonia`` or ``other``.
    """
    words = set(re.split(r"[\s/,]+", finding.strip().lower()))
    if any(word.startswith("covid") for word in words):
        return "covid"
    if words == {"no", "finding"}:
        return "normal"
    if words & VIRAL:
        return "viral"
    if words & BACTERIAL:
        return "bacterial"
    return "pneumonia" if words == {"pneumonia"} else "other"


def read(root: Path) -> Reading:
    """Read the data set.

    A file that several rows name keeps all its rows, as the published counts do: the first has the
    path as ``image_id``, the next ``path@2`` and so on. Patients that share a file are one patient
    here, named after the first, so that the file cannot land on both sides of a split.

    Problems reported: rows without their image (``missing``), files that several rows name
    (``repeated``), files that no row names (``unreferenced``), rows that are neither X-ray nor CT
    (``unknown modality``, left out).

    Args:
        root: Data folder that contains ``covid-chestxray-dataset``.

    Returns:
        One row a metadata row with an image; a CT volume gives its middle axial slice.

    Raises:
        DataError: ``metadata.csv`` is missing or damaged, or no image can be read.
    """
    table = read_table(root / FOLDER / METADATA, COLUMNS)
    table = table.apply(lambda column: column.str.strip())
    table["path"] = f"{FOLDER}/" + table["folder"] + "/" + table["filename"]
    files = {path.relative_to(root).as_posix() for path in image_files(root / FOLDER / "images")}
    files |= _volumes(root)
    named = table["path"].isin(files)
    known = table["modality"].str.lower().isin(MODALITIES)
    problems = [
        *_missing(table.loc[~named, "path"]),
        *_repeated(table.loc[named, "path"]),
        *_unreferenced(sorted(files - set(table["path"]))),
        *_unknown_modality(table[named & ~known]),
    ]
    used = table[named & known]
    used = used.assign(patient=_patients(used), turn=used.groupby("path").cumcount() + 1)
    candidates = [_candidate(root, row) for row in used.itertuples()]
    return build(root, NAME, candidates, load_image, problems)


def _volumes(root: Path) -> set[str]:
    found = (root / FOLDER / "volumes").glob("*")
    return {p.relative_to(root).as_posix() for p in found if p.name.endswith(NIFTI_SUFFIXES)}


def _patients(table: pd.DataFrame) -> pd.Series:
    """Patient of each row; patients that share a file become the first of them."""
    blank = table["patientid"] == ""
    patients = table["patientid"].mask(blank, "row-" + table.index.astype(str))
    for path in table.loc[table["path"].duplicated(), "path"].unique():
        same = patients[table["path"] == path]
        patients = patients.mask(patients.isin(same), same.iloc[0])
    return patients


def _candidate(root: Path, row: tuple) -> dict:
    is_volume = row.path.endswith(NIFTI_SUFFIXES)
    frame = _middle(root / row.path) if is_volume else 0
    again = f"@{row.turn}" if row.turn > 1 else ""
    return {
        "image_id": row.path + (f"#{frame:03d}" if is_volume else "") + again,
        "path": row.path,
        "frame": frame,
        "is_slice": is_volume,
        "patient_id": f"{NAME}/{row.patient}",
        "modality": MODALITIES[row.modality.lower()],
        "view": "Axial" if is_volume else VIEWS.get(row.view.lower(), "unknown"),
        "label": label_of(row.finding),
        "licence": row.license or "unknown",
    }


def _middle(path: Path) -> int:
    """Middle slice from feet to head; 0 for a damaged file, which decoding reports later."""
    try:
        return axial_count(path) // 2
    except DataError:
        return 0


def load_image(path: Path, frame: int = 0) -> np.ndarray:
    """Image of a row: a raster file, or an axial slice of a CT volume seen from the feet.

    Args:
        path: The file.
        frame: Slice of a volume, counted from the feet; ignored for a raster file.

    Returns:
        uint8 image (height, width).

    Raises:
        DataError: The file is missing or damaged.
    """
    if not path.name.endswith(NIFTI_SUFFIXES):
        return read_raster(path)
    return read_axial(path, frame)


def _missing(paths: pd.Series) -> list[Problem]:
    remedy = "The image is not on disk; download it, or leave it: the run goes on without it."
    return [Problem(NAME, path, MISSING, remedy) for path in paths]


def _repeated(paths: pd.Series) -> list[Problem]:
    remedy = "Several rows name this file; all stay, and their patients count as one."
    return [Problem(NAME, path, "repeated", remedy) for path in paths[paths.duplicated()].unique()]


def _unreferenced(paths: list[str]) -> list[Problem]:
    remedy = f"No row of {METADATA} names this file, so nothing is known about it; it is not used."
    return [Problem(NAME, path, "unreferenced", remedy) for path in paths]


def _unknown_modality(table: pd.DataFrame) -> list[Problem]:
    return [
        Problem(
            NAME,
            row.path,
            "unknown modality",
            f"{METADATA} says {row.modality!r}, neither X-ray nor CT; correct it to use the image.",
        )
        for row in table.itertuples()
    ]
