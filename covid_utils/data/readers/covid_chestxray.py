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

from covid_utils.data import guard
from covid_utils.data.images import RASTER_SUFFIXES, read_raster
from covid_utils.data.readers.volumes import NIFTI_SUFFIXES, axial_count, read_axial

NAME = FOLDER = "covid-chestxray-dataset"
METADATA = "metadata.csv"
COLUMNS = ("patientid", "finding", "view", "modality", "folder", "filename", "license")

VIRAL = {"viral", "sars", "mers", "mers-cov", "influenza", "h1n1", "varicella", "herpes"}
BACTERIAL = {
    *("bacterial", "chlamydophila", "e.coli", "klebsiella", "legionella", "mrsa", "mycoplasma"),
    *("nocardia", "staphylococcus", "streptococcus"),
}
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

_ABSENT = "The image is not on disk; download it, or leave it: the run goes on without it."
_REPEATED = "Several rows name this file; all stay, and their patients count as one."
_UNNAMED = f"No row of {METADATA} names this file, so nothing is known about it; it is not used."


def label_of(finding: str) -> str:
    """Manifest label of a finding, flat or hierarchical.

    COVID-19 wins over what comes with it (``COVID-19, ARDS``). ``Pneumonia`` without a cause is
    ``pneumonia``; fungal, lipoid and aspiration pneumonia, ARDS alone and ``todo`` are ``other``.
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


def candidates(root: Path, problems: guard.Problems) -> list[dict]:
    """One image per row of ``metadata.csv``; of a CT volume the middle axial slice.

    A file that several rows name keeps all its rows, as the published counts do: the first has the
    path as ``image_id``, the next ``path@2`` and so on. Patients that share a file are one patient
    here, named after the first, so that the file cannot land on both sides of a split.

    Problems: rows without their image (``missing``), files that several rows name (``repeated``),
    files that no row names (``unreferenced``), rows that are neither X-ray nor CT (``unknown
    modality``, left out).
    """
    table = guard.table(root / FOLDER / METADATA, COLUMNS)
    table = table.apply(lambda column: column.str.strip())
    table["path"] = f"{FOLDER}/" + table["folder"] + "/" + table["filename"]
    images = guard.files(root / FOLDER / "images", RASTER_SUFFIXES)
    images += guard.files(root / FOLDER / "volumes", NIFTI_SUFFIXES)
    present = {problems.relative(path) for path in images}
    named = table["path"].isin(present)
    known = table["modality"].str.lower().isin(MODALITIES)
    repeated = table.loc[named, "path"]
    for paths, problem, remedy in (
        (table.loc[~named, "path"], guard.MISSING, _ABSENT),
        (repeated[repeated.duplicated()].unique(), "repeated", _REPEATED),
        (sorted(present - set(table["path"])), "unreferenced", _UNNAMED),
    ):
        for path in paths:
            problems.add(path, problem, remedy)
    for row in table[named & ~known].itertuples():
        remedy = (
            f"{METADATA} says {row.modality!r}, neither X-ray nor CT; correct it to use the image."
        )
        problems.add(row.path, "unknown modality", remedy)
    used = table[named & known]
    used = used.assign(patient=_patients(used), turn=used.groupby("path").cumcount() + 1)
    rows = [_candidate(root, row, problems) for row in used.itertuples()]
    return [row for row in rows if row]


def _patients(table: pd.DataFrame) -> pd.Series:
    """Patient of each row; patients that share a file become the first of them."""
    blank = table["patientid"] == ""
    patients = table["patientid"].mask(blank, "row-" + table.index.astype(str))
    for path in table.loc[table["path"].duplicated(), "path"].unique():
        same = patients[table["path"] == path]
        patients = patients.mask(patients.isin(same), same.iloc[0])
    return patients


def _candidate(root: Path, row: tuple, problems: guard.Problems) -> dict | None:
    """What is known of one row; None for a volume that cannot be read."""
    is_volume, frame, path = row.path.endswith(NIFTI_SUFFIXES), 0, root / row.path
    if is_volume:
        count = problems.attempt(path, "NIfTI file", axial_count)
        if count is None:
            return None
        frame = count // 2
    again = f"@{row.turn}" if row.turn > 1 else ""
    return {
        "image_id": row.path + (f"#{frame:03d}" if is_volume else "") + again,
        "path": path,
        "frame": frame,
        "is_slice": is_volume,
        "patient_id": f"{NAME}/{row.patient}",
        "modality": MODALITIES[row.modality.lower()],
        "view": "Axial" if is_volume else VIEWS.get(row.view.lower(), "unknown"),
        "label": label_of(row.finding),
        "licence": row.license or "unknown",
    }


def load_image(path: Path, frame: int = 0) -> np.ndarray:
    """Image of a row: a raster file, or an axial slice of a CT volume seen from the feet."""
    return read_axial(path, frame) if path.name.endswith(NIFTI_SUFFIXES) else read_raster(path)
