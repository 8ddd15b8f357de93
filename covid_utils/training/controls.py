"""A leak of known size, for the conditions of recognition to find (docs/protocol.md, Controls).

On the phantom the marks of hospitals may have any strength, and a patient may be X-rayed at the
other hospital too. What the marks are worth is therefore known.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pandas as pd

import chest_phantom
from chest_phantom.xray import add_marks
from covid_utils import paths
from covid_utils.data import readers
from covid_utils.data.collection import Collection
from covid_utils.data.image_conditions import SOURCES, Conditions
from covid_utils.registry import RECOGNITION_CLASSES
from covid_utils.training import recognition, recognition_ladder
from covid_utils.training.head import PAPER

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
UNMARKED = chest_phantom.Settings(patients=60, ct_size=64, xray_size=64, hospital_mark=0.0)
#: Pixels that are the features: a border cut off, and the side that the rest is scaled to. In the
#: border are letters and frames, which give a hospital away at any strength.
BORDER, SIDE = 12, 16
#: Parts of the patients; each patient is tested by the one training that did not see it.
FOLDS = 5
SETTINGS = PAPER | {"steps": 400, "standardise": True}


def unmarked() -> Collection:
    """X-rays of a phantom whose hospitals leave no marks; it is simulated unless it is there."""
    root = chest_phantom.write(paths.phantom().with_name("phantom_unmarked"), UNMARKED)
    rows, problems = readers.read_all(root, sorted(set(SOURCES.values())))
    return Collection(rows.assign(subset="train"), root, problems)


def answers(scans: Collection, strengths: tuple[float, ...] = STRENGTHS) -> pd.DataFrame:
    """Train where COVID-19 and hospital go together, as under R1, and test at both hospitals.

    All training images of COVID-19 are from one hospital, all others from the other one. A patient
    who is tested is X-rayed at both, and nothing but the marks differs.

    Returns:
        One row per ``strength`` of the marks and test image, with its ``patient_id``: whether
        COVID-19 is told from the other three classes at the ``same`` hospital as in training, and
        at the ``other`` one.
    """
    patient, _ = pd.factorize(scans.manifest["patient_id"])
    tasks, parts = [], []
    for fold in range(FOLDS):
        subset = np.where(patient % FOLDS == fold, "test", "train")
        own = replace(scans, manifest=scans.manifest.assign(subset=subset))
        images = Conditions(own, {}, SETTINGS["seed"])
        _, four_classes = recognition_ladder.tasks("R1", images, repeats=1)
        tasks.append(four_classes)
    rows = scans.manifest[scans.manifest["modality"] == "X-ray"]
    xrays = [readers.load_image(scans.root, row) / 255 for row in rows.itertuples()]
    for strength in strengths:
        tables = {name: _features(rows, xrays, strength, name) for name in ("same", "other")}
        for study in recognition.study(tables["same"], tasks, SETTINGS):
            hits = {name: _hits(replace(study, table=table)) for name, table in tables.items()}
            parts.append(pd.DataFrame(hits).assign(strength=strength).reset_index())
    return pd.concat(parts, ignore_index=True)


def _hits(study: recognition.Study) -> pd.Series:
    tested = study.fitted(SETTINGS["learning_rate"], SETTINGS["steps"]).part("test")
    tested, first = tested.set_index(["image_id", "patient_id"]), RECOGNITION_CLASSES[0]
    return (tested["truth"] == first) == (tested["predicted"] == first)


def _features(
    rows: pd.DataFrame, xrays: list[np.ndarray], strength: float, hospital: str
) -> pd.DataFrame:
    """Pixels of X-rays in [0, 1] once they have the marks of a hospital, (rows, side x side)."""
    of_covid, of_others = chest_phantom.HOSPITALS
    if hospital == "other":
        of_covid, of_others = of_others, of_covid
    values = []
    for label, xray in zip(rows["label"], xrays, strict=True):
        marks = of_covid if label == RECOGNITION_CLASSES[0] else of_others
        image = add_marks(xray, marks, strength)
        inside = image[BORDER:-BORDER, BORDER:-BORDER]
        values.append(cv2.resize(inside, (SIDE, SIDE), interpolation=cv2.INTER_AREA).ravel())
    return pd.DataFrame(np.array(values, np.float32), rows["image_id"])
