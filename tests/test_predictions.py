"""Tables that predictions are kept in, and times of one item."""

import numpy as np
import pytest
from builders import manifest

from covid_utils.registry import PREDICTION_KEYS
from covid_utils.training import predictions

SHARES = np.array([[0.2, 0.7, 0.1], [0.1, 0.1, 0.8], [0, 0, 1]])


@pytest.mark.parametrize("answers", [SHARES, SHARES.argmax(axis=1)])
def test_class_table_names_the_most_probable(answers):
    rows = manifest({"a": 3}).assign(subset="test", target=[1, 0, 2])
    rows.index = [7, 3, 5]
    table = predictions.class_table(rows, answers, ("x", "y", "z"))
    shares = ["p_x", "p_y", "p_z"] if answers is SHARES else []
    assert list(table) == [*PREDICTION_KEYS, "truth", "predicted", *shares]
    assert not shares or np.allclose(table[shares], SHARES)
    assert table["truth"].tolist() == ["y", "x", "z"]
    assert table["predicted"].tolist() == ["y", "z", "z"]
    assert table.index.tolist() == [7, 3, 5]


def test_label_table_keeps_every_label_apart():
    rows = manifest({"a": 2}).assign(subset="test")
    truth = np.array([[1, 0], [1, 1]], bool)
    table = predictions.label_table(rows, truth, np.array([[0.9, 0.4], [0.2, 0.6]]), ("ggo", "x"))
    assert table[["truth_ggo", "truth_x"]].to_numpy().tolist() == truth.tolist()
    assert table["p_x"].tolist() == pytest.approx([0.4, 0.6])
    assert table["image_id"].tolist() == rows["image_id"].tolist()


def test_time_per_item_warms_up_and_goes_round(monkeypatch):
    monkeypatch.setattr(predictions, "CALLS", 7)
    seen = []
    times = predictions.time_per_item(seen.append, items=3)
    assert seen == [0, 0, 1, 2, 0, 1, 2, 0]
    assert 0 <= times["median"] <= times["p95"]
    assert times["calls"] == len(times["each"]) == 7
