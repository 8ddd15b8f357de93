"""Reader of the COVID-19 Image Data Collection (Cohen et al. 2020).

Layout: ``covid-chestxray-dataset / metadata.csv, images/`` and, where they were downloaded, CT
volumes in ``volumes/``. The column ``finding`` is flat in early releases (``COVID-19, ARDS``) and
hierarchical in later ones (``Pneumonia/Viral/COVID-19``); both are understood.
"""

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd

from covid_utils.data import guard, similarity
from covid_utils.data.readers import decoding, gray
from covid_utils.data.readers.build import Source

NAME = "covid-chestxray-dataset"
METADATA = "metadata.csv"
COLUMNS = ("patientid", "finding", "view", "modality", "folder", "filename", "license")

VIRAL = {"viral", "sars", "mers", "mers-cov", "influenza", "h1n1", "varicella", "herpes"}
BACTERIAL = {"bacterial", "chlamydophila", "e.coli", "klebsiella", "legionella", "mrsa"}
BACTERIAL |= {"mycoplasma", "nocardia", "staphylococcus", "streptococcus"}


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

    A file that several rows name keeps all its rows, as the published counts do. Patients that
    share a file are one patient here, so that the file cannot land on both sides of a split.
    """
    table = guard.table(root / NAME / METADATA, COLUMNS).apply(lambda column: column.str.strip())
    table["path"] = f"{NAME}/" + table["folder"] + "/" + table["filename"]
    table["modality"] = table["modality"].str.lower().map({"x-ray": "X-ray", "ct": "CT"})
    images = problems.files(root / NAME / "images", decoding.RASTER_SUFFIXES)
    images += problems.files(root / NAME / "volumes", decoding.NIFTI_SUFFIXES)
    present = {problems.relative(path) for path in images}
    here = table[table["path"].isin(present)]
    _note(table["path"].drop(here.index), here, sorted(present - set(table["path"])), problems)
    used = here[here["modality"].notna()]
    patient = used["patientid"].mask(used["patientid"] == "", "row-" + used.index.astype(str))
    used = used.assign(patient_id=f"{NAME}/" + patient, label=used["finding"].map(label_of))
    used["patient_id"] = similarity.join(used, ["patient_id", "path"], [])
    used["licence"] = used["license"].replace("", "unknown")
    used["path"] = [root / path for path in used["path"]]
    columns = ["path", "patient_id", "modality", "view", "label", "licence"]
    rows = []
    for row in used[columns].to_dict("records"):
        if _is_volume(row["path"]):
            count = problems.attempt(decoding.axial_count, row["path"])
            if count is None:
                continue
            row |= {"frame": count // 2, "view": "Axial"}
        rows.append(row)
    return rows


def _note(absent: pd.Series, here: pd.DataFrame, unnamed: list[str], noted: guard.Problems) -> None:
    for path in absent:
        remedy = "The image is not on disk; download it, or leave it: the run goes on without it."
        if os.path.exists(noted.root / path):  # noqa: PTH110 never raises
            remedy = "The file is there, but its ending or folder is that of no image; rename it."
        noted.add(path, guard.MISSING, remedy)
    for path in here.loc[here["path"].duplicated(), "path"].unique():
        remedy = "Several rows name this file; all stay, and their patients count as one."
        noted.add(path, "repeated", remedy)
    for path in unnamed:
        remedy = "names this file, so nothing is known about it; it is not used."
        noted.add(path, "unreferenced", f"No row of {METADATA} {remedy}")
    for path in here.loc[here["modality"].isna(), "path"]:
        remedy = f"{METADATA} says neither X-ray nor CT; correct it to use the image."
        noted.add(path, "unknown modality", remedy)


def _is_volume(path: Path) -> bool:
    return path.name.lower().endswith(decoding.NIFTI_SUFFIXES)


def load_image(path: Path, frame: int) -> np.ndarray:
    """Image of a row: a raster file, or an axial slice of a CT volume seen from the feet."""
    if _is_volume(path):
        return decoding.read_axial(path, frame)
    return decoding.read_raster(path)


def has_hounsfield(path: Path) -> bool:
    """Whether a file is a CT volume in Hounsfield units."""
    if not _is_volume(path):
        return False
    return gray.is_hounsfield(gray.window_of(decoding.axial_slices(path), path))


SOURCE = Source(NAME, {}, candidates, load_image, has_hounsfield=has_hounsfield)
