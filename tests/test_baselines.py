"""What a network must beat: known images, data that can be separated, and choices on validation."""

import numpy as np
import pandas as pd
import pytest
from builders import join, manifest

from covid_utils.training import baselines
from covid_utils.training.recognition import Task

NAMES = ("covid", "normal")


# What can be measured of an image without knowing what it shows


def test_features_are_size_corners_and_histogram():
    gray = np.full((50, 100), 30, np.uint8)
    # Four rows and eight columns are 8 %: top left, top right, bottom left, bottom right.
    gray[:4, :8], gray[:4, -8:], gray[-4:, :8], gray[-4:, -8:] = 51, 102, 153, 204
    values = baselines.trivial_features(gray)
    assert (values.shape, values.dtype) == ((23,), np.float32)
    assert values[:7] == pytest.approx([100, 50, 2, 0.2, 0.4, 0.6, 0.8])
    edges = baselines.trivial_features(np.array([[0, 15, 16, 255]], np.uint8))[7:]
    assert edges.tolist() == [0.5, 0.25, *[0] * 13, 0.25]


# Models


@pytest.fixture
def task():
    """Two classes of 20 images each."""
    rows = join(
        manifest({f"a{i}": 1 for i in range(20)}, "covid-chestxray-dataset", "covid"),
        manifest({f"b{i}": 1 for i in range(20)}, "chest_xray", "normal"),
    )
    rows["subset"] = (["train"] * 10 + ["validation"] * 4 + ["test"] * 6) * 2
    rows["target"] = (rows["label"] == "normal").astype(int)
    rows = rows.sample(frac=1, random_state=3)
    return Task("2 classes", rows, NAMES, run=2, split="R3")


def cloud(task, distance, channels=5, seed=0):
    """Features of two clouds that lie ``distance`` spreads apart in each channel."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, (len(task.rows), channels))
    values += distance * task.rows[["target"]].to_numpy()
    # Channels of very different size: the models must put them right themselves.
    values = values * np.geomspace(1e-3, 1e3, channels) + 4
    return pd.DataFrame(values.astype(np.float32), task.rows["image_id"])


MODELS = {"linear SVM": baselines.svm, "trivial features": baselines.trivial}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_learns_what_can_be_separated(task, name):
    answers = MODELS[name](cloud(task, 12), task)
    assert answers["image_id"].tolist() == task.rows["image_id"].tolist()
    assert (answers["truth"] == task.rows["label"]).all()
    assert (answers["predicted"] == answers["truth"]).all()
    marks = answers[["task", "model", "split", "run"]].drop_duplicates()
    assert marks.to_numpy().tolist() == [["2 classes", name, "R3", 2]]
    assert not [name for name in answers if name.startswith("p_")]
    rows = task.rows[task.rows["subset"] != "validation"]
    unwatched = MODELS[name](cloud(task, 12), Task("x", rows, NAMES))
    assert (unwatched["predicted"] == unwatched["truth"]).all()


@pytest.mark.parametrize("name", MODELS)
def test_no_model_looks_at_test_images(task, name):
    table = cloud(task, 1)
    is_test = (task.rows["subset"] == "test").to_numpy()
    spoiled = table.to_numpy(copy=True)
    spoiled[is_test] = np.random.default_rng(7).normal(0, 1e4, spoiled[is_test].shape)
    lied = task.rows.assign(target=np.where(is_test, 1 - task.rows["target"], task.rows["target"]))
    clean = MODELS[name](table, task)
    blind = MODELS[name](pd.DataFrame(spoiled, table.index), Task("2 classes", lied, NAMES))
    assert (clean["predicted"] == blind["predicted"])[~is_test].all()
    # Something is there to be spoiled.
    assert (clean["predicted"] != blind["predicted"])[is_test].any()


def test_the_margin_is_chosen_on_validation(task, monkeypatch):
    table = cloud(task, 0.3, channels=40)
    subset, target = task.rows["subset"].to_numpy(), task.rows["target"].to_numpy()
    alone, wins = {}, {}
    for strength in (1e-5, 10.0):
        monkeypatch.setattr(baselines, "SVM_C", (strength,))
        alone[strength] = baselines.svm(table, task)["predicted"].tolist()
    weak, strong = (np.array(alone[strength]) == "normal" for strength in alone)
    assert (weak != strong)[subset == "validation"].any()
    monkeypatch.setattr(baselines, "SVM_C", (1e-5, 10.0))
    for strength, said in ((1e-5, weak), (10.0, strong)):
        # Validation images are given the answers of this one, test images those of the other.
        other = strong if said is weak else weak
        given = np.where(subset == "validation", said, np.where(subset == "test", other, target))
        asked = Task("x", task.rows.assign(target=given.astype(int)), NAMES)
        wins[strength] = baselines.svm(table, asked)["predicted"].tolist()
    assert wins == alone


def test_the_majority_of_a_value_is_counted_in_training(task):
    """Normal leads in P, COVID-19 in Q, and normal overall; validation images do not count."""
    lines = [("train", "P", 0)] * 3 + [("train", "P", 1)] * 7 + [("train", "Q", 0)] * 5
    lines += [("train", "Q", 1)] * 3 + [("validation", "Q", 1)] * 9
    lines += [("test", "P", 0), ("test", "Q", 1), ("test", "unseen", 0)]
    rows = pd.DataFrame(lines, columns=["subset", "view", "target"])
    rows = manifest({"a": len(rows)}).drop(columns="view").join(rows)
    found = baselines.majority(Task("x", rows, NAMES), "view")
    expected = rows["view"].map({"P": "normal", "Q": "covid", "unseen": "normal"})
    assert found["predicted"].tolist() == expected.tolist()
    assert set(found["model"]) == {"view only"}
    by_dataset = baselines.majority(task, "dataset")
    assert (by_dataset["predicted"] == by_dataset["truth"]).all()
    assert baselines.majority(task, "modality")["predicted"].nunique() == 1
