"""Scores on other hospitals, step by step, and of networks that outline nothing."""

import hashlib
from types import SimpleNamespace

import card
import numpy as np
import pandas as pd
import pytest
from builders import join, manifest, one, scans_of

from covid_read import neighbours, shipped
from covid_utils import paths, runs
from covid_utils.data import cache
from covid_utils.data.images import Preprocessing
from covid_utils.errors import CompanionError
from covid_utils.evaluation import hospital_scores, intervals, metrics, scores
from covid_utils.registry import (
    CHOSEN_ON,
    EXTERNAL,
    EXTERNAL_SETS,
    HOSPITALS,
    LUNG_FIELD,
    MANIFESTATIONS,
    NEIGHBOURS,
    PREPARATIONS,
    SHIPPED,
    STEPS,
)
from covid_utils.report import tables
from covid_utils.training import multilabel
from covid_utils.training.features import Extraction

LESION = {"class": "lesion", "metric": "dice", "average": "per_image"}


@pytest.fixture(scope="module")
def made(built):
    """Pixels of the run on real scans, and its scores, computed anew."""
    return runs.read_predictions("sample", HOSPITALS), scores.compute("sample", "hospitals")


def dice_of(pixels):
    """Dice of each slice that shows the class, from its counts."""
    found = metrics.score("dice", pixels[[*metrics.OUTCOMES]].to_numpy(float))
    return found[(pixels["tp"] + pixels["fn"]) > 0]


def of_step(pixels, step, volumes):
    part = pixels.query("step == @step and subset == 'external' and `class` == 'lesion'")
    return part[part["patient_id"].str.contains(volumes)]


def test_volumes_that_settings_were_chosen_on_are_scored_apart(made):
    pixels, scored = made
    for subset, volumes, groups in (
        ("external", "v1", 4),
        (CHOSEN_ON, "v0", 5),
        ("external v13", "v13", 1),
        ("external v03", "v03", 1),
    ):
        row = one(scored, **LESION, protocol="E2", subset=subset)
        dice = dice_of(of_step(pixels, "E2", volumes))
        assert (row["value"], row["n"]) == (pytest.approx(dice.mean()), len(dice))
        assert (row["groups"], row["split"]) == (groups, "external")
        if groups > 1:
            assert row["low"] < row["value"] < row["high"]
            assert row["note"].startswith(f"limits rest on {groups} volumes, and contain the true")
        else:
            assert np.isnan(row["low"])
    field = runs.select(scored, class_=LUNG_FIELD, metric="dice", average="per_image")
    assert set(field["protocol"]) == {"E1"}
    assert {"external", CHOSEN_ON, "external v17"} < set(field["subset"])


def test_a_difference_is_to_the_step_before_on_the_same_slices(made):
    pixels, scored = made
    change = {"class": "lesion", "metric": "dice difference", "subset": "external"}
    row = one(scored, **change, protocol="E3", average="per_image")
    now, before = (dice_of(of_step(pixels, step, "v1")) for step in ("E3", "E2"))
    assert row["value"] == pytest.approx(np.mean(now - before))
    assert row["low"] < row["value"] < row["high"]
    assert row["note"] == "E3 minus E2"
    pooled = one(scored, **change, protocol="E3", average="pooled")
    sums = [of_step(pixels, step, "v1")[[*metrics.OUTCOMES]].sum() for step in ("E3", "E2")]
    gap = np.subtract(*(metrics.score("dice", part.to_numpy(float)) for part in sums))
    assert pooled["value"] == pytest.approx(gap)
    assert runs.select(scored, protocol="E0", metric="dice difference").empty
    tested = runs.select(scored, subset="test")
    assert set(tested["protocol"]) == set(STEPS) - {SHIPPED}


def test_the_card_of_the_shipped_network_has_its_scores_with_limits_and_its_checksum(made):
    with pytest.raises(CompanionError, match=r"shipped\.npz: no shipped network here"):
        card.write("sample")
    file = paths.models("sample") / "shipped.npz"
    quality = {"present": 8, "called": 7, "auc": 0.7, "auc_low": 0.6, "auc_high": 0.8}
    about = {"preprocessing": {"size": 64}, "quality": dict.fromkeys(MANIFESTATIONS, quality)}
    about |= {"slices": 10, "groups": 9, "caution": "No better than chance."}
    outlines = shipped.Part({"settings": {"attenuation_margin": 16.0}})
    shipped.write(file, {"presence": shipped.Part(about), shipped.OUTLINES: outlines})
    text = card.write("sample").read_text(encoding="utf8")
    _, scored = made
    for subset, average in (("external", "per_image"), (CHOSEN_ON, "pooled")):
        about = LESION | {"average": average, "subset": subset, "protocol": SHIPPED}
        row = one(scored, **about)
        assert f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" in text
    assert hashlib.sha256(file.read_bytes()).hexdigest() in text
    assert "| ground-glass | 8 | 7 | 0.70 [0.60, 0.80] |" in text
    assert "their 9 groups" in text
    assert "less than 16 gray values (94 HU) denser" in text
    assert "**No better than chance.**" in text
    assert "not a medical device" in text
    assert "{" not in text


def test_the_large_network_stands_beside_the_small_one(made, monkeypatch):
    pixels, _ = made
    large = pixels[pixels["step"] == "E0"].assign(network="large")
    both = pd.concat([pixels[pixels["step"].isin(("E0", "E4"))], large], ignore_index=True)
    monkeypatch.setattr(runs, "read_predictions", lambda *_: both)
    scored = scores.compute("sample", "hospitals")
    assert set(scored.loc[scored["start"] == "imagenet", "protocol"]) == {"E0"}
    table = tables.build("hospitals", "sample", scored)
    rows = table[(table["step"] == "E0")].groupby("network").size()
    assert rows["small"] == rows["large"] > 0


# Networks that outline nothing


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
    for changes in ({}, {"crop": "field"}, {"gray": "landmarks"}):
        settings = Preprocessing(64, **changes)
        first, second = (Extraction(of, None, settings, "none").contents for of in (rows, moved))
        assert (first == second) == (not changes)
