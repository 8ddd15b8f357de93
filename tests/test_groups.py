"""Groups of near copies stand in for patients where a data set names none, and nowhere else."""

import numpy as np
import pandas as pd
import pytest
from builders import join, manifest
from PIL import Image
from test_similarity import picture, turned

from covid_utils.data import groups


def save(root, rows, images):
    for path, image in zip(rows["path"], images, strict=True):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / path)


@pytest.mark.parametrize("basis", ["figure", "none"])
def test_near_copies_without_patients_share_a_group(tmp_path, basis):
    about = {"modality": "CT", "patient_basis": basis}
    rows = manifest({f"f{i}": 1 for i in range(6)}, "covid-ct", "covid", **about)
    images = [picture(seed) for seed in range(6)]
    images[4] = turned(images[1], 90, flip=True)
    save(tmp_path, rows, images)
    grouped = groups.stand_ins(rows, tmp_path)["patient_id"]
    assert grouped[4] == grouped[1] == "covid-ct/f1"
    assert grouped.drop(4).tolist() == rows["patient_id"].drop(4).tolist()
    assert rows["patient_id"].is_unique  # the manifest handed in is left alone


def test_named_patients_and_xrays_are_left_alone(tmp_path):
    named = manifest({"a": 1, "b": 1}, "medseg", "covid", "CT")
    films = manifest({"c": 1, "d": 1}, "chest_xray", patient_basis="none")
    rows = join(named, films)
    # No file is there: nothing may be read.
    assert groups.stand_ins(rows, tmp_path).equals(rows)


def test_join_connects_by_values_and_pairs_in_chains():
    rows = pd.DataFrame({"patient_id": ["d", "c", "b", "a", "a"], "sha256": list("xxyzw")})
    pairs = np.array([[1, 2]])
    assert groups.join(rows, ["patient_id"], pairs).tolist() == ["d", "b", "b", "a", "a"]
    assert groups.join(rows, ["patient_id", "sha256"], pairs).tolist() == ["b", "b", "b", "a", "a"]
    shifted = rows.set_axis(range(10, 15))
    assert groups.join(shifted, ["patient_id"], []).index.tolist() == list(range(10, 15))
