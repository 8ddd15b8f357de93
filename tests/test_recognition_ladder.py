"""Recognition under each condition, on made-up features, and controls of a leak of known size."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from builders import conditions_scans, join, manifest, scans_of

from covid_utils.data import splits
from covid_utils.data.image_conditions import ADULT_SOURCE, SOURCES, TASKS, Conditions
from covid_utils.evaluation import bootstrap, condition_scores, intervals
from covid_utils.registry import RECOGNITION_CLASSES, SEEN
from covid_utils.training import controls, finetune, recognition
from covid_utils.training import recognition_ladder as ladder
from covid_utils.training.head import PAPER

SETTINGS = {"steps": 200, "batch_size": 20, "learning_rate": 0.1, "standardise": True, "seed": 5}
TOTALS = {"2 classes": 240, "4 classes": 480, "CT": 200}
NEAREST = ["nearest neighbour", "nearest neighbour, standardised"]


@pytest.fixture(scope="module")
def images():
    return Conditions(conditions_scans(), TOTALS, seed=3)


@pytest.fixture(scope="module")
def blank(images):
    """Features without any class: random for each picture, and nearly shared by its copies."""
    rows, rng = images.needed(TASKS), np.random.default_rng(4)
    own = {name: rng.normal(size=24) for name in sorted(set(rows["original"]))}
    values = np.stack([own[name] for name in rows["original"]])
    values += rng.normal(0, 0.05, values.shape)
    return pd.DataFrame(values.astype(np.float32), rows["image_id"])


@pytest.fixture(scope="module")
def predictions(images, blank):
    """Of every condition, where nothing is to be learned but single pictures."""
    return {name: ladder.train(name, images, blank, SETTINGS, 2) for name in TASKS}


def accuracy(table, subset="test", **keys):
    for name, value in keys.items():
        table = table[table[name] == value]
    part = table[table["subset"] == subset]
    return (part["truth"] == part["predicted"]).mean()


def test_where_only_memory_helps_copies_alone_raise_the_score(predictions):
    for model in NEAREST:
        for condition in ("R0", "R1", "R4"):
            assert accuracy(predictions[condition], model=model, task="4 classes") < 0.5
        assert accuracy(predictions["R3"], model=model, task="4 classes") > 0.9
        assert accuracy(predictions["M1"], model=model) > 0.95
    head = [accuracy(predictions[name], model="head", task="4 classes") for name in ("R0", "R3")]
    assert head[1] > head[0] + 0.2
    seen = predictions["R3"].query("subset == 'test' and task == '4 classes'")
    assert seen["seen_image"].mean() > 0.9
    assert not predictions["R4"][list(SEEN)].any(axis=None)


def test_strangers_are_judged_by_the_heads_that_learned_from_copies(images, blank):
    heads = []
    for condition in ("R3", "R4"):
        learned = ladder.tasks(condition, images, 2)
        studies = recognition.study(blank, learned, SETTINGS)
        heads.append([one.fitted(0.1, 200).head for one in studies])
    for first, second in zip(*heads, strict=True):
        assert np.array_equal(first.kernel, second.kernel)
        assert np.array_equal(first.bias, second.bias)


def test_the_modality_alone_decides_ct(predictions):
    rule = predictions["M2"].query("model == 'modality only'")
    assert (rule.loc[rule["modality"] == "CT", "predicted"] == "covid").all()
    assert rule.loc[rule["modality"] == "X-ray"].groupby("run")["predicted"].nunique().max() == 1
    assert accuracy(rule[rule["modality"] == "CT"]) == 1


def test_fine_tuning_learns_from_as_many_images_of_both_conditions(images, blank, monkeypatch):
    given, computed, most = [], [], 40

    def train(extraction, task, start, *how):
        given.append(SimpleNamespace(task=task, start=start, how=how, rows=extraction.rows))
        return SimpleNamespace(predictions=task.predictions(task.rows["target"].to_numpy(), "all"))

    def of(rows):
        def compute(layers, before):
            computed.append((layers, before, set(rows["image_id"])))

        return SimpleNamespace(rows=rows, compute=compute, features=lambda _: {"mixed8": blank})

    monkeypatch.setattr(finetune, "train", train)
    frozen = SimpleNamespace(of=of, last="mixed8")
    table = ladder.tune(images, frozen, SETTINGS, "mixed7", most, 2, 0.5)
    names = [(one.task.split, one.task.name) for one in given]
    assert names == [(c, task) for task in ("2 classes", "4 classes") for c in ("R0", "R3")]
    assert set(table.groupby(["split", "model"]).groups) == {
        (split, model) for split in ("R0", "R3") for model in (ladder.FEWER, "all")
    }
    # What enters the first block that is trained is computed in one pass.
    assert computed == [(("mixed8",), "mixed7", {n for one in given for n in one.rows["image_id"]})]
    for one in given:
        assert one.how == ("mixed7", 2, 0.5, SETTINGS["seed"])
        assert one.rows is one.task.rows
        # R0 has 32 images to train on in the two-class task, 56 in the other.
        expected = min(most, {"2 classes": 32, "4 classes": 56}[one.task.name])
        assert (one.rows["subset"] == "train").sum() == expected
        own = recognition.study(blank, [one.task], SETTINGS)[0].fitted(0.1, 200).head
        assert np.array_equal(one.start.kernel, own.kernel)


def test_fewer_images_are_a_smaller_set_of_the_same_kind(images):
    count = 40
    for condition, task in (("R0", "4 classes"), ("R3", "4 classes"), ("R3", "2 classes")):
        whole = images.rows(condition, task)
        rows = ladder.fewer(whole, images, count)
        train, rest = (rows[(rows["subset"] == "train") == part] for part in (True, False))
        assert len(train) == min(count, (whole["subset"] == "train").sum())
        assert set(train["target"]) == set(whole["target"])
        assert (rest["seen_image"] == rest["original"].isin(train["original"])).all()
        before = whole[whole["subset"] != "train"]
        if condition == "R0":
            assert rest["image_id"].tolist() == before["image_id"].tolist()
        else:
            # Originals come with all their copies, but for the last one of each class.
            copies = whole[whole["subset"] == "train"].groupby("original").size()
            taken = train.groupby("original").size()
            assert (taken != copies[taken.index]).sum() <= len(set(whole["target"]))
            assert 0 < len(rest) < len(before)
    # More images, or those of fewer classes, have what fewer have, so that it is computed once.
    more = ladder.fewer(whole, images, count + 20)
    assert set(train["image_id"]) < set(more.loc[more["subset"] == "train", "image_id"])


# Controls: a leak that is there is found in proportion, and where there is none, none is found


@pytest.fixture(scope="module")
def phantom_scans(tmp_path_factory):
    """X-rays of a phantom without marks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COVID_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setattr(controls, "UNMARKED", replace(controls.UNMARKED, patients=40))
        return controls.unmarked()


def with_limits(predictions, task, model):
    """Mean over test images and trainings, with its interval over both."""
    chosen = predictions.query("subset == 'test' and task == @task and model == @model")
    hits = chosen.assign(hit=(chosen["truth"] == chosen["predicted"]).astype(float))
    table = hits.pivot_table(index=["patient_id", "image_id"], columns="run", values="hit")
    return bootstrap.mean(table.to_numpy(), table.index.get_level_values("patient_id").to_numpy())


def test_marks_of_hospitals_are_found_in_proportion_to_their_strength(phantom_scans):
    table = condition_scores.leak(controls.answers(phantom_scans, (0.0, 0.25, 1.0)))
    none, weak, strong = table.itertuples()
    assert none.low < 0 < none.high
    assert none.truth == 0
    assert 0.2 < weak.truth < 0.7 < strong.truth
    for one in (none, weak, strong):  # other patients show what is true of the same ones
        assert one.low <= one.truth <= one.high
    assert weak.low > 0
    assert weak.high < strong.low
    assert strong.share == pytest.approx(1, abs=0.15)


@pytest.fixture(scope="module")
def alike():
    """Predictions for patients of one image each, whose features depend on their class alone."""
    parts = [
        manifest({f"{label}{i}": 1 for i in range(300)}, SOURCES[label], label)
        for label in RECOGNITION_CLASSES
    ]
    parts.append(manifest({f"adult{i}": 1 for i in range(100)}, ADULT_SOURCE))
    rows = splits.assign(join(*parts), seed=1, test=20)
    is_class = rows["label"].to_numpy()[:, None] == np.array(RECOGNITION_CLASSES)
    values = 1.5 * is_class + np.random.default_rng(0).normal(size=is_class.shape)
    table = pd.DataFrame(values, rows["image_id"], dtype=np.float32)
    images = Conditions(scans_of(rows), {}, seed=1)
    short = {"steps": 100, "standardise": True}
    trainings = {"R0": 1, "R1": 1, "R2": 5}
    train = ladder.train
    return [train(name, images, table, PAPER | short, number) for name, number in trainings.items()]


@pytest.mark.parametrize("model", ["head", "nearest neighbour"])
@pytest.mark.parametrize("task", ["2 classes", "4 classes"])
def test_without_a_leak_the_conditions_agree(alike, task, model):
    values = [with_limits(predictions, task, model) for predictions in alike]
    for earlier, later in itertools.pairwise(values):
        gap = intervals.difference(later, earlier)
        assert gap.low < 0 < gap.high
        assert abs(gap.value) < 0.06
    assert not any(one.query("subset == 'test'")["seen_patient"].any() for one in alike)
