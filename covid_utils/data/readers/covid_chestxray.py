"""Reader of the COVID-19 Image Data Collection (Cohen et al. 2020).

Layout: ``covid-chestxray-dataset / metadata.csv, images/``; its few CT volumes are not used. The
column ``finding`` is flat in early releases (``COVID-19, ARDS``) and hierarchical in later ones
(``Pneumonia/Viral/COVID-19``); both are understood.
"""

import os
import re
from pathlib import Path

import pandas as pd

from covid_utils.data import guard, similarity
from covid_utils.data.readers.build import Source
from covid_utils.data.readers.decoding import NIFTI_SUFFIXES, RASTER_SUFFIXES, read_raster

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
    """One image per row of ``metadata.csv``.

    A file that several rows name keeps all its rows, as the published counts do. Patients that
    share a file are one patient here, so that the file cannot land on both sides of a split.
    """
    table = guard.table(root / NAME / METADATA, COLUMNS).apply(lambda column: column.str.strip())
    table["path"] = f"{NAME}/" + table["folder"] + "/" + table["filename"]
    table["modality"] = table["modality"].str.lower().map({"x-ray": "X-ray", "ct": "CT"})
    images = problems.files(root / NAME / "images", RASTER_SUFFIXES)
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
    return used[columns].to_dict("records")


def _note(absent: pd.Series, here: pd.DataFrame, unnamed: list[str], noted: guard.Problems) -> None:
    for path in absent:
        problem = guard.MISSING
        remedy = "The image is not on disk; download it, or leave it: the run goes on without it."
        if os.path.exists(noted.root / path):  # noqa: PTH110 never raises
            remedy = "The file is there, but its ending or folder is that of no image; rename it."
            if path.lower().endswith(NIFTI_SUFFIXES):
                problem, remedy = "not used", "A CT volume; only pictures of this set are read."
        noted.add(path, problem, remedy)
    for path in here.loc[here["path"].duplicated(), "path"].unique():
        remedy = "Several rows name this file; all stay, and their patients count as one."
        noted.add(path, "repeated", remedy)
    for path in unnamed:
        remedy = "names this file, so nothing is known about it; it is not used."
        noted.add(path, "unreferenced", f"No row of {METADATA} {remedy}")
    for path in here.loc[here["modality"].isna(), "path"]:
        remedy = f"{METADATA} says neither X-ray nor CT; correct it to use the image."
        noted.add(path, "unknown modality", remedy)


SOURCE = Source(NAME, {}, candidates, read_raster)
