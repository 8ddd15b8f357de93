"""The manifest: what is measured, what is checked, what survives a round trip."""

import hashlib

import numpy as np
import pytest
from builders import manifest as valid
from PIL import Image

import chest_phantom
from covid_utils import paths
from covid_utils.data import guard, manifest
from covid_utils.data.readers.build import Source, build
from covid_utils.data.readers.decoding import read_raster
from covid_utils.errors import DataError, ResultsError


@pytest.fixture
def root(tmp_path):
    for number in (1, 2):
        Image.fromarray(np.full((4, 6), number, np.uint8)).save(tmp_path / f"{number}.png")
    return tmp_path


def rows_of(root, *numbers, **more):
    problems = guard.Problems("toy", root)
    candidates = [more | {"path": root / f"{number}.png"} for number in numbers]
    about = {"patient_id": "p", "modality": "X-ray", "label": "covid"}
    toy = Source("toy", about, lambda *_: candidates, read_raster)
    return build(toy, problems), problems.rows


def test_images_are_measured_and_hashed(root):
    rows, _ = rows_of(root, 2, 1)
    rows = manifest.validate(rows)
    assert rows.columns.tolist() == list(manifest.COLUMNS)
    assert rows["image_id"].tolist() == ["1.png", "2.png"]
    assert rows[["width", "height"]].drop_duplicates().to_numpy().tolist() == [[6, 4]]
    assert rows["sha256"][0] == hashlib.sha256((root / "1.png").read_bytes()).hexdigest()
    assert rows.iloc[0][["view", "label_quality", "lungs"]].tolist() == ["unknown", "none", ""]


def test_slices_of_a_volume_have_their_own_name_hash_and_lungs(root):
    rows, _ = rows_of(root, 1, frame=3, modality="CT")
    pixels = np.full((4, 6), 1, np.uint8).tobytes()
    expected = ["1.png#003", hashlib.sha256(pixels).hexdigest(), "0 0 4 0"]
    assert rows[["image_id", "sha256", "lungs"]].iloc[0].tolist() == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "flu"}, r"label \['flu'\]"),
        ({"patient_id": ""}, "no patient_id"),
        ({"image_id": "same"}, "'same' repeats"),
    ],
)
def test_values_outside_the_contract_are_refused(change, message):
    rows = valid({"a": 2}).assign(**change)
    with pytest.raises(DataError, match=message):
        manifest.validate(rows)
    with pytest.raises(DataError, match=r"\['licence'\] are missing"):
        manifest.validate(rows.drop(columns="licence"))


def test_csv_round_trip_keeps_everything(home):
    with pytest.raises(ResultsError, match=r"data/manifest\.csv: not there yet; 'make reproduce"):
        manifest.saved_manifest("quick")
    rows = valid({"007": 1, "b": 2}, modality="CT", lungs="1 2 3 4").assign(subset="train")
    (paths.results("quick") / "data").mkdir(parents=True)
    rows.to_csv(paths.results("quick") / "data" / "manifest.csv", index=False)
    assert manifest.saved_manifest("quick").equals(rows)


def test_what_is_simulated_is_called_phantom_and_side_views_are_not_frontal():
    rows = valid({"a": 3}).assign(view=["PA", "L", "unknown"])
    assert manifest.kind(rows) == "real scans"
    assert manifest.kind(rows.assign(licence=chest_phantom.LICENCE)) == "phantom"
    assert manifest.frontal_xrays(rows)["view"].tolist() == ["PA", "unknown"]
