"""The manifest: what is checked, what is filled in, what survives a round trip."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from covid_utils.data import manifest
from covid_utils.data.images import read_raster
from covid_utils.errors import DataError


@pytest.fixture
def root(tmp_path):
    for number in (2, 1):
        Image.fromarray(np.full((4, 6), number, np.uint8)).save(tmp_path / f"{number}.png")
    return tmp_path


def candidate(number, **more):
    return {
        "path": f"{number}.png",
        "patient_id": f"p{number}",
        "modality": "CT",
        "label": "covid",
    } | more


def build(root, *candidates):
    return manifest.build(root, "toy", candidates, read_raster)


def test_build_measures_hashes_and_sorts(root):
    rows = build(root, candidate(2), candidate(1)).rows
    assert rows.columns.tolist() == list(manifest.COLUMNS)
    assert rows["image_id"].tolist() == ["1.png", "2.png"]
    assert rows[["width", "height"]].drop_duplicates().to_numpy().tolist() == [[6, 4]]
    assert rows["sha256"][0] == hashlib.sha256((root / "1.png").read_bytes()).hexdigest()
    assert rows["view"].eq("unknown").all()
    assert rows["label_quality"].eq("none").all()


def test_slices_have_their_own_name_and_hash(root):
    rows = build(root, *(candidate(1, frame=f, is_slice=True) for f in (0, 1))).rows
    assert rows["image_id"].tolist() == ["1.png#000", "1.png#001"]
    pixels = np.full((4, 6), 1, np.uint8).tobytes()
    assert rows["sha256"].eq(hashlib.sha256(pixels).hexdigest()).all()


def test_unreadable_image_is_a_problem_and_the_rest_remains(root):
    (root / "2.png").write_bytes((root / "2.png").read_bytes()[:30])
    reading = build(root, candidate(1), candidate(2))
    assert reading.rows["path"].tolist() == ["1.png"]
    assert reading.problems[["path", "problem"]].to_numpy().tolist() == [["2.png", "unreadable"]]
    assert "2.png" in reading.problems["remedy"][0]


def test_nothing_readable_is_an_error(root):
    with pytest.raises(DataError, match="no readable image of the data set 'toy'"):
        build(root, candidate(3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "flu"}, r"label \['flu'\]"),
        ({"view": "front"}, r"view \['front'\]"),
        ({"modality": "MR"}, r"modality \['MR'\]"),
        ({"label_quality": "good"}, r"label_quality \['good'\]"),
        ({"patient_id": ""}, "no patient_id"),
        ({"image_id": "2.png"}, "'2.png' repeats"),
    ],
)
def test_values_outside_the_contract_are_refused(root, change, message):
    with pytest.raises(DataError, match=message):
        build(root, candidate(1, **change), candidate(2))


def test_missing_column_is_named(root):
    rows = build(root, candidate(1)).rows
    with pytest.raises(DataError, match=r"\['licence'\] are missing"):
        manifest.validate(rows.drop(columns="licence"))


def test_csv_round_trip_keeps_everything(root, tmp_path):
    rows = build(root, candidate(1, patient_id="007"), candidate(2)).rows.assign(subset="train")
    rows.to_csv(tmp_path / "m.csv", index=False)
    assert manifest.load(tmp_path / "m.csv").equals(rows)


def test_missing_manifest_names_the_notebook(tmp_path):
    with pytest.raises(DataError, match=r"m\.csv: no manifest here; run notebook 01_data"):
        manifest.load(tmp_path / "m.csv")
