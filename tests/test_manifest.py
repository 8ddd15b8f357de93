"""The manifest: what is measured, what is checked, what survives a round trip."""

import hashlib

import numpy as np
import pytest
from builders import manifest as valid
from PIL import Image

from covid_utils import paths
from covid_utils.data import guard, manifest
from covid_utils.data.readers.build import Source, build
from covid_utils.data.readers.decoding import read_raster
from covid_utils.errors import DataError, ResultsError


@pytest.mark.parametrize("is_slice", [False, True])
def test_images_and_slices_are_measured_and_hashed(tmp_path, is_slice):
    for number in (1, 2):
        Image.fromarray(np.full((4, 6), number, np.uint8)).save(tmp_path / f"{number}.png")
    more = {"frame": 3, "modality": "CT"} if is_slice else {"modality": "X-ray"}
    about = {"patient_id": "p", "label": "covid"} | more
    toy = Source("toy", about, lambda *_: [{"path": tmp_path / "2.png"}, first], read_raster)
    first = {"path": tmp_path / "1.png"} | more
    rows = manifest.validate(build(toy, guard.Problems("toy", tmp_path)))
    assert rows.columns.tolist() == list(manifest.COLUMNS)
    assert rows["image_id"].tolist() == ["1.png#003" if is_slice else "1.png", "2.png"]
    content = np.full((4, 6), 1, np.uint8).tobytes()
    content = content if is_slice else (tmp_path / "1.png").read_bytes()
    assert rows["sha256"][0] == hashlib.sha256(content).hexdigest()
    found = rows.loc[0, ["width", "height", "view", "label_quality", "lungs"]].tolist()
    assert found == [6, 4, "unknown", "none", "0 0 4 0" if is_slice else ""]


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
    assert manifest.left_out("quick") == {}
    rows = valid({"007": 1, "b": 2}, modality="CT", lungs="1 2 3 4").assign(subset="train")
    (paths.results("quick") / "data").mkdir(parents=True)
    rows.to_csv(paths.results("quick") / "data" / "manifest.csv", index=False)
    assert manifest.saved_manifest("quick").equals(rows)
