"""Tables 2 to 5 from small synthetic runs: ours is what the predictions say."""

import numpy as np
import pandas as pd
import pytest
from builders import one
from small_runs import PROFILE, predictions

from covid_utils import runs
from covid_utils.evaluation import intervals, scores
from covid_utils.report import recognition_tables, tables

TWO = {"work": "ours, 2 classes"}


def test_ours_is_what_the_predictions_say(built):
    table = runs.read_predictions(PROFILE, "task1")
    models = {words: model for model, words in recognition_tables.SETTINGS.items()}
    assert len(built["table2"]) == 2 * 3 + 2
    for row in built["table2"].to_dict("records"):
        keys = {"task": f"{row['classes']} classes", "model": models[row["settings"]]}
        keys |= {"subset": row["subset"], "run": 1}
        part = runs.select(table, **keys)
        hits = int((part["truth"] == part["predicted"]).sum())
        assert row["ours"] == pytest.approx(100 * hits / len(part))
        assert row["n"] == len(part)
        assert 0 <= row["low"] <= row["ours"] <= row["high"] <= 100
        wilson = intervals.wilson(hits, len(part))
        assert row["wilson_low"] == pytest.approx(100 * wilson.low)
        assert row["wilson_high"] == pytest.approx(100 * wilson.high)


def test_the_difference_of_two_models_is_paired(built):
    svm, head = (
        predictions("4 classes", subset="test", model=model).set_index("image_id").sort_index()
        for model in ("linear SVM", "head")
    )
    right, ours = ((part["truth"] == part["predicted"]).to_numpy() for part in (svm, head))
    work = "baseline: linear SVM on the same features, 4 classes, minus ours"
    row = one(built["table3"], work=work)
    assert row["ours"] == pytest.approx(100 * (right.mean() - ours.mean()))
    assert row["low"] <= row["ours"] <= row["high"]
    note = (
        f"only the first right: {(right & ~ours).sum()}, only the second: {(ours & ~right).sum()}"
    )
    assert row["note"].startswith(note)


def test_copies_and_classes_in_one_group_are_not_taken_for_patients(built, monkeypatch):
    table = runs.read_predictions(PROFILE, "task1")
    is_covid_ct = (table["modality"] == "CT") & (table["truth"] == "covid")
    changed = table.assign(patient_id=table["patient_id"].mask(is_covid_ct, "figure 1"))
    keys = {"model": "head", "task": "2 classes", "run": 1, "subset": "test"}
    copies = runs.select(table, **keys)
    copies = copies.assign(image_id=copies["image_id"] + "~1")
    monkeypatch.setattr(runs, "read_predictions", lambda *_: pd.concat([changed, copies]))
    scored = scores.compute(PROFILE, "task1")
    found, before = tables.select("table4", scored), built["table4"]
    for run in ("1", "mean"):
        keys = {"tested on": "CT", "run": run}
        unsure, plain = one(found, **keys), one(before, **keys)
        assert "CT images of covid (patients or groups of near copies: 1)" in unsure["note"]
        assert unsure["ours"] == plain["ours"]
        assert unsure["low"] < plain["low"] < plain["high"] <= unsure["high"]
    found, before = tables.select("table3", scored), built["table3"]
    ours, plain = (one(table, **TWO, metric="accuracy") for table in (found, before))
    assert np.isnan(ours["wilson_low"])
    assert (ours["ours"], ours["n"]) == (pytest.approx(plain["ours"]), 2 * plain["n"])
    gaps = [
        runs.select(table, metric="accuracy difference")["ours"].tolist()
        for table in (found, before)
    ]
    assert gaps[0] == pytest.approx(gaps[1])
