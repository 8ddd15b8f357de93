"""`make refusal`: its committed table, and that it counts what covid-read says of pictures."""

import re

import numpy as np
import pytest
from builders import modules_of
from phantom_chest import slices_of_a_chest

from covid_utils import paths
from covid_utils.data.gray_scale import LUNG_WINDOW
from covid_utils.data.readers.gray import to_uint8

FOLDER = paths.PROJECT / "benchmarks"


@pytest.fixture(scope="module")
def refusal():
    with modules_of("benchmarks", "refusal") as (module,):
        yield module


def test_the_committed_table_has_all_kinds_and_every_picture_of_them(refusal):
    text = refusal.PAGE.read_text(encoding="utf8")
    rows = [re.split(r"\s*\|\s*", line)[1:-1] for line in text.splitlines() if line[:1] == "|"]
    names, counts = [row[1] for row in rows[2:]], [[int(n) for n in row[2:]] for row in rows[2:]]
    assert {f"altered CT: {name}" for name in refusal.MADE} < set(names)
    assert all(pictures == sum(verdicts) > 0 for pictures, *verdicts in counts)


def test_pictures_are_counted_by_what_the_shipped_network_says(refusal, tmp_path, monkeypatch):
    ((hounsfield, _),) = slices_of_a_chest(1)
    chest = to_uint8(hounsfield, *LUNG_WINDOW)
    kinds = {
        "chest": [chest],
        "turned": [chest[::-1]],
        "not": [255 - chest, refusal.reduced(chest, 24), np.zeros((64, 64), np.uint8)],
    }
    listed = [(name, name == "chest", pictures) for name, pictures in kinds.items()]
    monkeypatch.setattr(refusal, "kinds", lambda folder: listed)
    table = refusal.read(tmp_path).set_index("kind")[list(refusal.VERDICTS)]
    assert table.to_dict("split")["data"] == [[0, 0, 1], [0, 1, 0], [3, 0, 0]]
