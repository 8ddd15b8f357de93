"""Streams under conditions S0 to S3: which are trained, from what, and what is kept of them."""

from functools import partial

import keras
import numpy as np
import pandas as pd
import pytest
from builders import scans_of
from stream_cases import TOY, toy

from covid_utils.data import augment
from covid_utils.evaluation import outlines
from covid_utils.registry import MANIFESTATIONS
from covid_utils.training import stream_ladder, streams, train_stream
from covid_utils.training.stream_ladder import Training

pytestmark = pytest.mark.usefixtures("eager")

SETTINGS = TOY.replace(stream="all", steps=2, evaluate_every=1, members=3)
ONE = SETTINGS.replace(members=1)


@pytest.fixture
def scans(small_networks, monkeypatch):
    """Ten toy slices, one of whose test patients also trains, and no file behind them."""
    data = toy(shown=(1, 2, 3))
    rows = data.rows.assign(patient_id=["p0", *data.rows["patient_id"][1:9], "p0"])
    at = pd.Series(range(10), rows["image_id"])
    for kind in ("images", "masks"):
        array = getattr(data, kind)
        read = partial(lambda array, rows, *_: array[at[rows["image_id"]]], array)
        monkeypatch.setattr(streams.cache, kind, read)
    monkeypatch.setattr(streams.benchmark_lungs, "rough_field", lambda image: np.ones((8, 8), bool))
    return scans_of(rows)


@pytest.fixture
def fits(monkeypatch):
    """Networks are left as they are; settings and slices of each training are listed."""
    made = []

    def fit(network, settings, data, state):
        made.append((settings, data))
        return pd.DataFrame()

    monkeypatch.setattr(train_stream, "_fit", fit)
    return made


def measured(scans, condition, trainings, tests=4):
    return outlines.several(
        stream_ladder.train("quick", condition, scans, trainings, copies=24, tests=tests)
    )


def counted(condition, **numbers):
    plan = stream_ladder.plan(
        condition, SETTINGS.replace(model="deeplab", init="nodule"), **numbers
    )
    counts = {}
    for one in plan:
        own = one.settings
        key = own.stream, own.model, own.init, one.longer * own.steps
        counts.setdefault(key, []).append(own.member + 1)
        assert own.members == 1
    return counts


def test_a_plan_has_comparisons_in_s0_and_longer_trainings_where_copies_are_compared():
    usual = ("deeplab", "nodule", 2)
    numbers = {"repeats": 5, "specialists": 3, "longer": (4, 16)}
    of_s1 = {(name, *usual): [1, 2, 3] for name in MANIFESTATIONS}
    of_s1[("all", *usual)] = [1, 2, 3, 4, 5]
    assert counted("S1", **numbers) == counted("S2", **numbers) == of_s1
    longer = {("all", "deeplab", "nodule", steps): [1] for steps in (8, 32)}
    assert counted("S3", **numbers) == of_s1 | longer
    compared = {(name, *usual): [1, 2, 3, 4, 5] for name in ("all", *MANIFESTATIONS)}
    compared |= {("all", model, "random", 2): [1, 2, 3, 4, 5] for model in ("deeplab", "unet")}
    assert counted("S0", **numbers) == compared | longer


def test_each_condition_trains_on_its_slices_and_measures_its_test_slices_alone(scans, fits):
    sizes = {"S0": (5, 2), "S1": (6, 2), "S2": (6, 2), "S3": (20, 4)}
    shares = {}
    for number, (name, expected) in enumerate(sizes.items()):
        pixels, maps = measured(scans, name, [Training(ONE.replace(member=1))])
        subsets = fits[number][1].rows.groupby("subset")["image_id"].apply(set)
        assert set(pixels["image_id"]) == subsets["test"]
        assert (len(subsets["train"]), len(subsets["test"])) == expected
        assert set(pixels["subset"]) == {"test"}
        assert set(pixels["repeat"]) == {2}
        assert bool(maps) == (name != "S3")
        shares[name] = pixels[["seen_image", "seen_patient"]].mean().tolist()
    assert shares.pop("S2")[0] == 0
    assert shares == {"S0": [0, 0], "S1": [0, 0.5], "S3": [1, 1]}


def test_copies_are_made_when_they_are_read(scans, fits, monkeypatch):
    made, warp = [], augment.warp
    monkeypatch.setattr(augment, "warp", lambda *a, **k: made.append(1) or warp(*a, **k))
    one = Training(ONE.replace(augmentation="wide"))
    tested = stream_ladder.train("quick", "S3", scans, [one], copies=4000, tests=3)
    _, rows, masks, probabilities = next(tested)
    assert not made
    assert len(rows) == len(masks) == sum(map(len, probabilities)) == 3
    assert len(made) <= 3
    settings, data = fits[0]
    ((batch, _),) = train_stream.training_batches(data, settings, 0).take(1)
    assert len(batch) == settings.batch_size < len(made) < 400, "of 4000"


def test_what_was_trained_is_read_and_members_of_a_stream_are_its_first_trainings(
    scans, monkeypatch
):
    plan = [Training(ONE.replace(member=k)) for k in (0, 1)]
    first, maps = measured(scans, "S0", plan)
    monkeypatch.setattr(keras.Model, "fit", None)
    again, _ = measured(scans, "S0", plan)
    assert again.equals(first)
    trained, history = train_stream.train("quick", SETTINGS.replace(members=2), scans, reuse=True)
    assert history.empty
    assert len(trained.members) == 2
    # Maps are those of training 1, and agree with the counts.
    called = first.query("`class` == 'lesion' and repeat == 1")
    assert called["image_id"].tolist() == maps["image_id"].tolist()
    found = (maps["all_labels"] > 0).sum(axis=(1, 2))
    assert found.tolist() == (called["tp"] + called["fp"]).tolist()
    other = first.query("`class` == 'lesion' and repeat == 2")
    assert (other["tp"] + other["fp"]).tolist() != found.tolist()


def test_a_longer_training_starts_from_the_same_nodules(scans, fits, monkeypatch):
    monkeypatch.setattr(streams, "load_data", lambda *_: toy())
    own = ONE.replace(init="nodule")
    plan = [Training(own), Training(own, longer=4), Training(own.replace(stream="ggo"))]
    pixels, maps = measured(scans, "S0", plan)
    made = [(one.stream, one.steps, one.evaluate_every) for one, _ in fits]
    assert made == [("nodule", 2, 1), ("all", 2, 1), ("all", 8, 4), ("ggo", 2, 1)]
    assert pixels["steps"].drop_duplicates().tolist() == [2, 8]
    # Maps are of the trainings that differ from the first in their stream alone.
    names = {f"{name}_{kind}" for name in ("all", "ggo") for kind in ("labels", "probability")}
    assert set(maps) == names | {"image_id"}
    assert len(maps["all_labels"]) == 2
