"""The recognition tasks, what is chosen on validation, and which predictions are kept."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from builders import join, manifest, scans_of

from covid_utils import registry
from covid_utils.errors import DataError
from covid_utils.training import recognition
from covid_utils.training.head import PAPER

LABELS = registry.RECOGNITION_CLASSES
SUBSETS = ["train"] * 6 + ["validation"] * 2 + ["test"] * 2
SHORT = PAPER | {"steps": 20, "batch_size": 8, "standardise": True, "seed": 5}


@pytest.fixture
def scans():
    """Ten images of each class, and one from the side."""
    parts = [manifest({f"{label}{i}": 1 for i in range(10)}, label=label) for label in LABELS]
    rows = join(*parts).assign(subset=SUBSETS * 4)
    side = manifest({"side": 1}, "side", "covid", view="L").assign(subset="train")
    return scans_of(pd.concat([rows, side], ignore_index=True))


@pytest.fixture
def fitting(scans):
    """The four-class task, and features in which the class shows, with noise."""
    task = recognition.xray_tasks(scans)[1]
    rng = np.random.default_rng(3)
    values = np.eye(4)[task.rows["target"]] * 3 + rng.normal(size=(len(task.rows), 4))
    return pd.DataFrame(values.astype(np.float32), task.rows["image_id"]), task


def without(task, subset):
    return replace(task, rows=task.rows[task.rows["subset"] != subset].reset_index(drop=True))


# Tasks


def test_two_tasks_share_their_frontal_images(scans):
    two, four = recognition.xray_tasks(scans)
    assert (two.name, four.name) == ("2 classes", "4 classes")
    assert (two.names, four.names) == (LABELS[:2], LABELS)
    assert (len(two.rows), len(four.rows)) == (20, 40)
    assert not four.rows["dataset"].eq("side").any()
    assert (four.rows["target"] == four.rows["label"].map(LABELS.index)).all()
    few = replace(two, rows=two.rows.iloc[[3, 10]])
    rows = recognition.all_rows([few, four])
    assert rows["image_id"].tolist()[:2] == few.rows["image_id"].tolist()
    assert sorted(rows["image_id"]) == sorted(four.rows["image_id"])
    assert rows.index.tolist() == list(range(40))
    assert "target" not in rows, "an image may have another class in each task"
    two, four = recognition.xray_tasks(scans, {4: {"train": 50, "test": 0}}, seed=1)
    assert four.rows["subset"].value_counts().to_dict() == {"train": 50, "validation": 8, "test": 8}
    assert len(two.rows) == 20


@pytest.fixture
def both():
    """More X-rays than CT images in training; fewer normal ones in the test."""
    parts = []
    sizes = {"train": (20, 6, 12, 4), "test": (5, 3, 2, 3)}
    for subset, counts in sizes.items():
        kinds = (
            ("covid", "covid-chestxray-dataset", "X-ray"),
            ("covid", "covid-ct", "CT"),
            ("normal", "chest_xray", "X-ray"),
            ("non_covid", "covid-ct", "CT"),
        )
        for (label, dataset, modality), count in zip(kinds, counts, strict=True):
            patients = {f"{subset}{i}": 1 for i in range(count)}
            parts.append(manifest(patients, dataset, label, modality).assign(subset=subset))
    return join(*parts, manifest({"s": 5}, "medseg", "covid", "CT").assign(subset="train"))


def test_xrays_are_drawn_to_balance_the_ct_images(both):
    together, twins = recognition.multimodal_tasks(scans_of(both), repeats=3, seed=11)
    drawn = set()
    for run, (joint, alone) in enumerate(zip(together, twins, strict=True), 1):
        assert (joint.name, alone.name) == (registry.BOTH, registry.XRAY_SHARE)
        assert joint.run == alone.run == run
        assert joint.names == alone.names == ("covid", "non_covid")
        assert "medseg" not in set(joint.rows["dataset"])
        chosen = joint.rows[joint.rows["drawn"]]
        counts = chosen.groupby(["subset", "target", "modality"]).size()
        for subset, target, images in (("train", 0, 6), ("train", 1, 4), ("test", 0, 3)):
            assert counts[subset, target, "CT"] == counts[subset, target, "X-ray"] == images
        # There are fewer X-rays than CT images here: all of them are taken.
        assert counts["test", 1].to_dict() == {"CT": 3, "X-ray": 2}
        xrays = joint.rows[joint.rows["modality"] == "X-ray"].reset_index(drop=True)
        pd.testing.assert_frame_equal(alone.rows, xrays)
        drawn.add(tuple(chosen.loc[chosen["subset"] == "train", "image_id"]))
        # All runs are tested on the same images, and say which were drawn.
        tests = joint.rows[joint.rows["subset"] == "test"]
        is_test = (both["subset"] == "test") & (both["dataset"] != "medseg")
        assert sorted(tests["image_id"]) == sorted(both.loc[is_test, "image_id"])
        assert (~tests["drawn"]).sum() == 2, "of five X-rays three, as there are three CT images"
        table = joint.predictions(np.zeros(len(joint.rows), int), "x")
        assert table["drawn"].tolist() == joint.rows["drawn"].tolist()
    assert len(drawn) == 3
    (again,), _ = recognition.multimodal_tasks(scans_of(both), repeats=1, seed=11)
    pd.testing.assert_frame_equal(again.rows, together[0].rows)
    alone = scans_of(both[both["label"] != "non_covid"])
    assert recognition.multimodal_tasks(alone, repeats=1, seed=0) == ([], [])


def test_a_class_without_images_to_learn_from_is_named(scans, fitting):
    rows = scans.manifest[scans.manifest["label"] != "viral"]
    with pytest.raises(DataError, match="no frontal X-ray labelled viral can be read"):
        recognition.xray_tasks(scans_of(rows))
    table, task = fitting
    subset = task.rows["subset"].where(task.rows["label"] != "normal", "test")
    with pytest.raises(DataError, match="task '4 classes': no training image of normal"):
        recognition.study(table, [replace(task, rows=task.rows.assign(subset=subset))], SHORT)


# Heads of tasks


@pytest.mark.parametrize("subset", ["test", "validation"])
def test_only_training_images_teach(fitting, subset):
    table, task = fitting
    hidden = (task.rows["subset"] == subset).to_numpy()
    spoiled = table.to_numpy(copy=True)
    spoiled[hidden] = np.nan if subset == "test" else 1e3
    lied = task.rows.assign(target=np.where(hidden, 0, task.rows["target"]))
    (clean,) = recognition.study(table, [task], SHORT, (0.2,), 300)
    other = pd.DataFrame(spoiled, table.index)
    (blind,) = recognition.study(other, [replace(task, rows=lied)], SHORT, (0.2,), 300)
    assert len(clean.heads) == 6
    for key, one in clean.heads.items():
        assert np.array_equal(blind.heads[key].kernel, one.kernel)
        assert np.array_equal(blind.heads[key].bias, one.bias)
    if subset == "test":
        assert blind.accuracy == clean.accuracy
        assert blind.curve.equals(clean.curve)


def test_a_study_keeps_the_papers_setting_and_the_checkpoints(fitting):
    table, task = fitting
    some = replace(task, rows=task.rows.iloc[::-1])  # another order than the table's
    studies = recognition.study(table, some.runs(2), SHORT | {"steps": 250}, (0.1,), 400)
    settings = [(rate, step) for step in (100, 250, 300, 400) for rate in (0.01, 0.1)]
    assert list(studies[0].heads) == settings
    assert [one.task.run for one in studies] == [1, 2]
    kept = recognition.collect(studies, SHORT | {"steps": 250}).groupby(["run", "subset"]).size()
    assert kept[1].to_dict() == {"train": 24, "validation": 8, "test": 8}
    assert kept[2].to_dict() == {"validation": 8, "test": 8}
    (alone,) = recognition.study(table, [some], SHORT | {"steps": 250, "seed": 6}, (0.1,), 400)
    kernels = [one.heads[0.1, 300].kernel for one in (*studies, alone)]
    assert np.array_equal(kernels[1], kernels[2])
    assert not np.array_equal(kernels[0], kernels[1])
    accuracy = recognition.validation_accuracy(studies)
    assert list(accuracy) == ["task", "run", "rate", "steps", "accuracy"]
    assert len(accuracy) == 2 * 2 * 4
    watched = task.rows[task.rows["subset"] == "validation"]
    for line in accuracy.itertuples():
        one = studies[line.run - 1].heads[line.rate, line.steps]
        predicted = one.probabilities(table.loc[watched["image_id"]].to_numpy()).argmax(axis=1)
        assert line.accuracy == (predicted == watched["target"]).mean()
    curve = studies[1].history(0.1)
    assert set(zip(curve["task"], curve["run"], curve["rate"], strict=True)) == {
        ("4 classes", 2, 0.1)
    }
    assert curve["step"].max() == 400


# Choices on validation


def sweeps(*lines):
    """Studies with these accuracies: run, rate, steps, accuracy."""
    studies = {}
    for run, rate, steps, accuracy in lines:
        task = SimpleNamespace(name="x", run=run)
        one = studies.setdefault(run, SimpleNamespace(task=task, accuracy={}))
        one.accuracy[rate, steps] = accuracy
    return list(studies.values())


@pytest.mark.parametrize("seed", range(4))
def test_the_best_on_average_of_equals_the_fewest_steps_and_then_the_smallest_rate(seed):
    lines = [(1, 0.1, 100, 1.0), (2, 0.1, 100, 0.5), (1, 0.01, 300, 0.8), (2, 0.01, 300, 0.8)]
    assert recognition.choose(sweeps(*lines), SHORT) == {"x": {"rate": 0.01, "steps": 300}}
    # The sums differ in the last digit only, by the order in which they are taken.
    settings, sums = [(0.1, 300), (0.2, 100), (0.01, 300), (0.05, 100)], [0.3, 0.1 + 0.2, 0.3, 0.6]
    lines = [(1, *one, first) for one, first in zip(settings, sums, strict=True)]
    lines += [(2, *one, 0.9 - round(first, 1)) for one, first in zip(settings, sums, strict=True)]
    shuffled = [lines[at] for at in np.random.default_rng(seed).permutation(8)]
    assert recognition.choose(sweeps(*shuffled), SHORT)["x"] == {"rate": 0.05, "steps": 100}


def test_the_choice_is_made_on_validation_and_reported_once(fitting):
    table, task = fitting
    studies = recognition.study(table, task.runs(2), SHORT, (1.0,), 100)
    chosen = recognition.choose(studies, SHORT)
    (name, fit), *others = recognition.at_chosen(studies, chosen).items()
    assert not others
    assert (name, fit.task.run) == ("4 classes", 1)
    assert set(fit.predictions["model"]) == {"head, chosen"}
    part = fit.part("validation")
    key = chosen[name]["rate"], chosen[name]["steps"]
    hits = (part["truth"] == part["predicted"]).mean()
    assert hits == pytest.approx(studies[0].accuracy[key])
    unwatched = recognition.study(table, [without(task, "validation")], SHORT, (1.0,))
    assert recognition.choose(unwatched, SHORT) == {"4 classes": {"rate": 0.01, "steps": 20}}


def test_the_best_layer_is_chosen_on_validation_alone(fitting):
    table, task = fitting
    noise = np.random.default_rng(0).normal(0, 1, table.values.shape)
    # This block tells the test images apart and nothing else.
    is_test = (task.rows[["subset"]] == "test").to_numpy()
    leaking = np.where(is_test, table.values * 9, noise).astype(np.float32)
    layers = {"mixed0": leaking, "mixed4": table.values, "mixed8": table.values}
    tables = {name: pd.DataFrame(values, table.index) for name, values in layers.items()}
    pair = [task, replace(task, name="y", rows=task.rows.iloc[::-1])]
    best, compared = recognition.best_layer(tables, pair, SHORT | {"learning_rate": 0.1})
    assert best == "mixed4"
    assert compared.index.tolist() == list(layers)
    assert compared.columns.tolist() == ["4 classes", "y"]
    assert (compared.loc["mixed4"] > compared.loc["mixed0"]).all()
    best, compared = recognition.best_layer(tables, [without(task, "validation")], SHORT)
    assert best == "mixed8"
    assert compared.empty
