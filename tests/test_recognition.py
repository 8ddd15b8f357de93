"""The two tasks of a collection, what is chosen on validation, and which predictions are kept."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from builders import join, manifest

from covid_utils.errors import ParameterError
from covid_utils.models import inception
from covid_utils.training import recognition
from covid_utils.training.head import HeadSettings

LABELS = ("covid", "normal", "viral", "bacterial")
SUBSETS = ["train"] * 6 + ["validation"] * 2 + ["test"] * 2


@pytest.fixture
def scans():
    """Ten images of each class, and one from the side."""
    parts = [manifest({f"{label}{i}": 1 for i in range(10)}, label=label) for label in LABELS]
    rows = join(*parts).assign(subset=SUBSETS * 4)
    side = manifest({"side": 1}, "side", "covid", view="L").assign(subset="train")
    rows = pd.concat([rows, side], ignore_index=True)

    def select(label):
        return rows[rows["label"].isin(label)].reset_index(drop=True)

    return SimpleNamespace(select=select)


@pytest.fixture
def table(scans):
    """Features in which the class shows, with noise."""
    rows = recognition.tasks_of(scans)[1].rows
    rng = np.random.default_rng(3)
    values = np.eye(4)[rows["target"]] * 3 + rng.normal(size=(len(rows), 4))
    return recognition.FeatureTable(pd.Index(rows["image_id"]), values.astype(np.float32))


def test_two_tasks_share_their_frontal_images(scans):
    two, four = recognition.tasks_of(scans)
    assert (two.name, four.name) == ("2 classes", "4 classes")
    assert (two.names, four.names) == (LABELS[:2], LABELS)
    assert set(two.rows["label"]) == {"covid", "normal"}
    assert (len(two.rows), len(four.rows)) == (20, 40)
    assert not four.rows["dataset"].eq("side").any()
    assert (four.rows["target"] == four.rows["label"].map(LABELS.index)).all()


def test_copies_are_made_of_the_subsets_that_ask_for_them(scans):
    totals = {4: {"train": 50, "test": 0}}
    two, four = recognition.tasks_of(scans, "image", totals, seed=1)
    assert {two.split, four.split} == {"image"}
    assert four.rows["subset"].value_counts().to_dict() == {"train": 50, "validation": 8, "test": 8}
    assert len(two.rows) == 20


def test_the_choice_is_made_on_validation_and_told_once(scans, table):
    two, four = recognition.tasks_of(scans)
    settings = HeadSettings(steps=20, batch_size=8, evaluate_every=5)
    studies = recognition.study(table, [*two.runs(2), *four.runs(2)], settings, (1.0,), 100)
    assert [one.sweep.steps for one in studies] == [(20, 100)] * 4
    chosen = recognition.choose(studies, settings)
    accuracy = recognition.validation_accuracy(studies)
    for name, setting in chosen.items():
        mean = accuracy[accuracy["task"] == name].groupby(["rate", "steps"])["accuracy"].mean()
        assert mean[setting["rate"], setting["steps"]] == pytest.approx(mean.max())
    best = recognition.at_chosen(studies, chosen)
    assert list(best) == ["2 classes", "4 classes"]
    for name, fit in best.items():
        assert fit.task.run == 1
        assert set(fit.predictions["model"]) == {"head, chosen"}
        found = fit.part("validation")
        hits = (found["truth"] == found["predicted"]).mean()
        key = (chosen[name]["rate"], chosen[name]["steps"])
        first = next(s for s in studies if s.task.name == name and s.task.run == 1)
        assert hits == pytest.approx(first.sweep.accuracy[key])


def test_without_validation_images_the_papers_setting_stays(scans, table):
    two, _ = recognition.tasks_of(scans)
    kept = two.rows[two.rows["subset"] != "validation"].reset_index(drop=True)
    task = recognition.Task("2 classes", kept, two.names)
    settings = HeadSettings(steps=10, batch_size=4)
    studies = recognition.study(table, [task], settings, (1.0,))
    assert recognition.choose(studies, settings) == {"2 classes": {"rate": 0.01, "steps": 10}}


def test_training_images_are_kept_of_first_runs_only(scans, table):
    two, _ = recognition.tasks_of(scans)
    settings = HeadSettings(steps=10, batch_size=4)
    found = recognition.collect(recognition.study(table, two.runs(3), settings), settings)
    kept = found.groupby(["run", "subset"]).size().unstack(fill_value=0)
    assert kept.loc[1].to_dict() == {"train": 12, "validation": 4, "test": 4}
    for run in (2, 3):
        assert kept.loc[run].to_dict() == {"train": 0, "validation": 4, "test": 4}
    assert set(found["model"]) == {"head"}
    assert found["drawn"].all()


def test_blocks_are_named_in_their_order():
    assert inception.named_layers("mixed8, mixed7") == ("mixed7", "mixed8")
    assert inception.named_layers("mixed10") == ("mixed10",)
    for text in ("", "mixed7, mixed77", "conv2d"):
        with pytest.raises(ParameterError, match="is none of mixed0, mixed1"):
            inception.named_layers(text)
