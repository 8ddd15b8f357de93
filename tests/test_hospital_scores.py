"""Scores on other hospitals: by volume, chosen on or not, step by step, and what is told."""

import hashlib

import numpy as np
import pytest
import small_runs
from builders import join, one
from small_runs import PROFILE

from covid_read import card, shipped
from covid_utils import paths, runs
from covid_utils.errors import CompanionError
from covid_utils.evaluation import bootstrap, metrics, scores
from covid_utils.registry import (
    CHOSEN_ON,
    LUNG_FIELD,
    MANIFESTATIONS,
    SHIPPED,
    STEPS,
)
from covid_utils.report import tables

LESION = {"class": "lesion", "metric": "dice", "average": "per_image"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Pixels of a made-up run, its scores and their tables."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COVID_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setattr(bootstrap, "RESAMPLES", 500)
        small_runs.write_data(join(small_runs.data_rows(), small_runs.external_rows()))
        pixels = small_runs.write_hospitals()
        scored = scores.compute(PROFILE, "hospitals")
        names = ("hospitals", "table6", "table8")
        built = {name: tables.build(name, PROFILE, scored) for name in names}
        tables.write(built["hospitals"], paths.results(PROFILE) / "tables" / "hospitals.csv")
        yield pixels, scored, built


def dice_of(pixels):
    """Dice of each slice that shows the class, from its counts."""
    found = metrics.score("dice", pixels[[*metrics.OUTCOMES]].to_numpy(float))
    return found[(pixels["tp"] + pixels["fn"]) > 0]


def of_step(pixels, step, network, volumes=""):
    part = pixels.query("step == @step and network == @network and `class` == 'lesion'")
    return part[part["patient_id"].str.contains(volumes)]


def test_volumes_that_settings_were_chosen_on_are_scored_apart(made):
    pixels, scored, _ = made
    for subset, volumes, n, groups in (
        ("external", "v1", 8, 4),
        (CHOSEN_ON, "v0", 10, 5),
        ("external v13", "v13", 2, 1),
        ("external v03", "v03", 2, 1),
    ):
        row = one(scored, **LESION, protocol="E2", start="imagenet", subset=subset)
        expected = dice_of(of_step(pixels, "E2", "large", volumes)).mean()
        assert row["value"] == pytest.approx(expected)
        assert (row["n"], row["groups"], row["split"]) == (n, groups, "external")
        if groups > 1:
            assert row["low"] < row["value"] < row["high"]
            assert row["note"].startswith(f"limits rest on {groups} volumes, and hold the truth in")
        else:
            assert np.isnan(row["low"])
    assert set(scored["class"]) == {"lesion", LUNG_FIELD}
    field = runs.select(scored, class_=LUNG_FIELD, metric="dice", average="per_image")
    assert set(field["protocol"]) == {"E1"}
    assert {"external", CHOSEN_ON, "external v17"} < set(field["subset"])
    assert set(scored["metric"]) == {"dice", "iou", "false alarms", "dice difference"}


def test_a_difference_is_to_the_step_before_on_the_same_slices(made):
    pixels, scored, _ = made
    change = {"class": "lesion", "metric": "dice difference", "subset": "external"}
    row = one(scored, **change, protocol="E3", start="nodule", average="per_image")
    now, before = (dice_of(of_step(pixels, step, "small", "v1")) for step in ("E3", "E2"))
    assert row["value"] == pytest.approx(np.mean(now - before))
    assert row["low"] < row["value"] < row["high"]
    assert row["note"] == "E3 minus E2"
    pooled = one(scored, **change, protocol="E3", start="nodule", average="pooled")
    sums = [
        of_step(pixels, step, "small", "v1")[[*metrics.OUTCOMES]].sum() for step in ("E3", "E2")
    ]
    gap = np.subtract(*(metrics.score("dice", part.to_numpy(float)) for part in sums))
    assert pooled["value"] == pytest.approx(gap)
    first = runs.select(scored, protocol="E0", metric="dice difference")
    assert first.empty
    tested = runs.select(scored, subset="test")
    assert set(tested["protocol"]) == set(STEPS) - {"E7"}
    assert runs.select(tested, metric="false alarms")["n"].eq(1).all()


def test_the_card_of_the_shipped_network_has_its_scores_with_limits_and_its_checksum(made):
    with pytest.raises(CompanionError, match=r"shipped\.npz: no shipped network here"):
        card.write(PROFILE)
    file = paths.models(PROFILE) / "shipped.npz"
    quality = {"present": 8, "called": 7, "auc": 0.7, "auc_low": 0.6, "auc_high": 0.8}
    about = {"preprocessing": {"size": 64}, "quality": dict.fromkeys(MANIFESTATIONS, quality)}
    about |= {"slices": 10, "groups": 9, "caution": "No better than chance."}
    shipped.write(file, {"presence": shipped.Part(about)})
    text = card.write(PROFILE).read_text(encoding="utf8")
    _, scored, _ = made
    for subset, average in (("external", "per_image"), (CHOSEN_ON, "pooled")):
        about = LESION | {"average": average, "subset": subset, "protocol": SHIPPED}
        row = one(scored, **about)
        assert f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" in text
    assert hashlib.sha256(file.read_bytes()).hexdigest() in text
    assert "| ground-glass | 8 | 7 | 0.70 [0.60, 0.80] |" in text
    assert "their 9 groups" in text
    assert "**No better than chance.**" in text
    assert "not a medical device" in text
    assert "{" not in text
