"""Networks that outline nothing, on slices of other hospitals: what trains, what is called."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from builders import join, manifest, one, scans_of

from covid_utils.data import cache
from covid_utils.data.images import Preprocessing
from covid_utils.evaluation import hospital_scores, intervals
from covid_utils.registry import EXTERNAL, EXTERNAL_SETS, NEIGHBOURS, PREPARATIONS
from covid_utils.training import multilabel, neighbours
from covid_utils.training.features import Extraction

AS_THEY_ARE, IN_WINDOW = PREPARATIONS
PREDICTED = ["network", "prepared", "image_id", "patient_id", "subset", "truth", "called"]


def slices():
    """COVID-CT and the benchmark in three subsets, patients apart, and another hospital."""
    ct = [
        manifest({f"{label}{i}": 1 for i in range(9)}, "covid-ct", label, "CT")
        for label in ("covid", "non_covid")
    ]
    rows = join(*ct, manifest({f"s{i}": 1 for i in range(12)}, "medseg", "covid", "CT"))
    rows["subset"] = ["train", "validation", "test"] * (len(rows) // 3)
    others = manifest({f"v{i}": 4 for i in range(3)}, EXTERNAL_SETS[1], "covid", "CT")
    return pd.concat([rows, others.assign(subset=EXTERNAL)], ignore_index=True)


@pytest.fixture(scope="module")
def run():
    """Of all networks; a prepared picture is bright in slices with the disease, no other is."""
    rows, trained = slices(), []
    shown = rows["label"].eq("covid") & (rows["dataset"].eq("covid-ct") | (rows.index % 2 == 0))
    ill = dict(zip(rows["image_id"], shown, strict=True))

    def values(of, settings):
        is_prepared = (settings.crop, settings.gray) == ("field", "landmarks")
        return np.array([ill[name] and is_prepared for name in of["image_id"]], np.uint8)

    def pictures(of, _, settings):
        return 255 * values(of, settings)[:, None, None].repeat(64, 1).repeat(64, 2)

    def masks(of, _, settings):
        assert settings == Preprocessing(64), "a crop leaves the truth alone"
        return np.array([ill[name] for name in of["image_id"]], np.uint8)[:, None, None]

    def features(self, layers):
        table = np.random.default_rng(0).normal(size=(len(self.rows), 1))
        table[:, 0] += 20 * values(self.rows, self.settings)
        return {layers[0]: pd.DataFrame(table.astype(np.float32), self.rows["image_id"])}

    def predict(_, images):
        return images[:, :3, 0] / 255

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "images", pictures)
        patch.setattr(cache, "masks", masks)
        patch.setattr(Extraction, "features", features)
        patch.setattr(multilabel, "predict", predict)
        patch.setattr(multilabel, "train", lambda *given, **_: trained.append(given) or [0, 0])
        found = neighbours.called("quick", scans_of(rows), NEIGHBOURS)
    return SimpleNamespace(found=found, trained=trained)


def test_tests_and_other_hospitals_are_asked_and_only_training_slices_train(run):
    asked = run.found.groupby(["network", "prepared", "subset", "dataset"]).size().to_dict()
    sizes = {"labels": ("medseg", 4), "recognition": ("covid-ct", 6)}
    expected = {}
    for name, (own, count) in sizes.items():
        for prepared in PREPARATIONS:
            expected[name, prepared, "test", own] = count
            expected[name, prepared, EXTERNAL, EXTERNAL_SETS[1]] = 12
    assert asked == expected
    assert [len(given[0]) for given in run.trained] == [4, 4]
    truth = run.found.query("subset == @EXTERNAL").groupby("image_id")["truth"].nunique()
    assert truth.eq(1).all()


def test_a_network_that_sees_the_disease_calls_it(run):
    prepared = run.found[run.found["prepared"] == IN_WINDOW]
    assert 0.4 < prepared["truth"].mean() < 0.6
    assert (prepared["called"] == prepared["truth"]).all()
    as_they_are = run.found.query("prepared == @AS_THEY_ARE and network == 'labels'")
    assert not as_they_are["called"].any()


def predictions(*kinds, patients=12):
    """Of task 2's network, with each kind the subset, preparation, truth and share called."""
    parts = []
    for subset, prepared, truth, share in kinds:
        rows = pd.DataFrame({"patient_id": np.repeat(np.arange(patients), 5)})
        called = np.arange(len(rows)) % 10 < 10 * share
        rows = rows.assign(subset=subset, prepared=prepared, truth=truth, called=called)
        parts.append(rows.assign(network="labels", image_id=rows.index.astype(str)))
    return pd.concat(parts, ignore_index=True)[PREDICTED]


def test_shares_have_limits_by_patient():
    made = predictions(("test", AS_THEY_ARE, True, 1.0), (EXTERNAL, AS_THEY_ARE, False, 0.3))
    table = hospital_scores.shares_called(made)
    assert len(table) == 2
    line = one(table, **{"tested on": EXTERNAL, "should be called": False})
    part = made[made["subset"] == EXTERNAL]
    share = intervals.wilson_by_patient(part["called"], np.ones(60), part["patient_id"])
    assert line[["called", "low", "high"]].tolist() == [*share[:3]]
    assert (line["called"], line["slices"], line["patients"]) == (0.3, 60, 12)
    every = one(table, **{"tested on": "test"})
    assert every["low"] == pytest.approx(intervals.wilson(12, 12).low)


def test_features_of_another_crop_are_others():
    rows = slices()
    moved = rows.assign(field="0 0 4 1", gray="1 2 3 4")
    for settings, is_same in (
        (Preprocessing(64), True),
        (Preprocessing(64, crop="field"), False),
        (Preprocessing(64, gray="landmarks"), False),
    ):
        first, second = (Extraction(of, None, settings, "none").contents for of in (rows, moved))
        assert (first == second) == is_same
