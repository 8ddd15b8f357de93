"""Scores of conditions: against counts made by hand, over several trainings, and what has none."""

import numpy as np
import pandas as pd
import pytest
from builders import manifest, one, slice_rows, value

from covid_utils import paths, registry, runs
from covid_utils.data.labels import scored_classes
from covid_utils.evaluation import bootstrap, metrics, outlines, scores
from covid_utils.registry import condition_run


def save(condition, table):
    folder = paths.results("sample") / registry.condition_run(condition)
    folder.mkdir(parents=True)
    table.to_parquet(folder / "predictions.parquet", index=False)


def recognised(task, right, run):
    """One training's X-rays, 40 patients of two images of each class, of which a share is right."""
    names, rng = registry.RECOGNITION_TASKS[task], np.random.default_rng([0, run])
    patients = {f"{name}{i}": 2 for name in names for i in range(40)}
    rows = manifest(patients).drop(columns="label")
    truth = np.repeat(names, 80)
    wrong = np.array([names[(names.index(name) + 1) % len(names)] for name in truth])
    found = np.where(rng.random(len(truth)) < right, truth, wrong)
    own = {"task": task, "model": "head", "split": "R0", "run": run, "subset": "test"}
    own |= {"drawn": True, "seen_image": False, "seen_patient": rng.random(len(truth)) < 0.25}
    return rows.assign(truth=truth, predicted=found, **own)


def outlined(stream="all", share=0.6, repeat=1, seed=0, **columns):
    """One training's test slices: of each class a square, of which the rows found are a share."""
    rows = slice_rows(["exact"] * 6 + ["weak"] * 6)
    rng = np.random.default_rng([seed, repeat])
    truth = np.zeros((len(rows), 12, 12), np.uint8)
    for label, wide in ((1, 6), (2, 4), (3, 2)):
        truth[:, 4 * label - 4 : 4 * label, :wide] = label
    found = np.where(rng.random(truth.shape) < share, truth, 0).astype(np.uint8)
    table = outlines.pixel_table(rows, truth, found, scored_classes(stream))
    own = {"stream": stream, "model": "deeplab", "start": "nodule", "steps": 350}
    return table.assign(**own | {"repeat": repeat, "seen_image": False} | columns)


@pytest.fixture
def scored(home, monkeypatch):
    """Scores of some predictions, by condition."""
    monkeypatch.setattr(bootstrap, "RESAMPLES", 1000)

    def score(**tables):
        for condition, parts in tables.items():
            save(condition, pd.concat(parts))
        return scores.compute("sample", "conditions")

    return score


def test_accuracy_is_the_mean_of_trainings_and_each_has_its_own_row(scored):
    parts = [recognised("4 classes", 0.8, run) for run in (1, 2, 3)]
    table = scored(R3=parts)
    keys = {"protocol": "R3", "task": "4 classes", "model": "head", "metric": "accuracy"}
    each = [(part["truth"] == part["predicted"]).mean() for part in parts]
    for number, expected in enumerate(each, start=1):
        single = one(table, **keys, repeat=number)
        assert (single["value"], single["n"]) == (pytest.approx(expected), 320)
        assert np.isnan(single["low"])
    mean = one(table, **keys, repeat=0)
    assert mean["value"] == pytest.approx(np.mean(each))
    assert mean["low"] < min(each) < max(each) < mean["high"]
    assert (mean["run"], mean["groups"]) == (condition_run("R3"), 160)
    seen = one(table, protocol="R3", metric="seen patient", repeat=0)
    assert seen["value"] == pytest.approx(np.mean([part["seen_patient"].mean() for part in parts]))
    assert np.isnan(seen["low"])


def test_heads_of_r0_are_scored_once_more_on_the_images_that_r1_tests(scored):
    r0 = [recognised("2 classes", 0.8, run) for run in (1, 2)]
    r1 = [part[part["truth"] == "covid"].assign(split="R1") for part in r0]
    table = scored(R0=r0, R1=r1)
    shared = one(table, protocol="R0", subset=registry.TESTED_BY_R1, repeat=0)
    each = [(part["truth"] == part["predicted"]).mean() for part in r1]
    assert (shared["value"], shared["n"]) == (pytest.approx(np.mean(each)), len(r1[0]))
    assert not (table["protocol"].eq("R1") & table["subset"].eq(registry.TESTED_BY_R1)).any()


def test_segmentation_follows_from_summed_counts(scored):
    parts = [outlined(repeat=k) for k in (1, 2, 3)]
    table = scored(S2=parts)
    keys = {"protocol": "S2", "task": "stream all", "repeat": 0, "metric": "dice"}
    for name, labels in (("ggo", "exact"), ("ggo", "all"), ("lesion", "exact")):
        each = []
        for part in parts:
            rows = part[part["class"] == name]
            if name == "ggo" and labels == "exact":
                rows = rows[rows["label_quality"] == "exact"]
            counts = rows[[*metrics.OUTCOMES]].to_numpy()
            own = metrics.score("dice", counts).mean(), metrics.score("dice", counts.sum(axis=0))
            each.append(own)
        for average, expected in zip(("per_image", "pooled"), np.mean(each, axis=0), strict=True):
            row = one(table, **keys, **{"class": name}, labels=labels, average=average)
            assert row["value"] == pytest.approx(expected)
            assert row["low"] < row["value"] < row["high"]
    mean = one(table, **keys, class_="mean of lesions", labels="exact", average="pooled")
    own = [
        one(table, **keys, class_=n, labels="exact", average="pooled")
        for n in registry.MANIFESTATIONS
    ]
    assert mean["value"] == pytest.approx(np.mean([row["value"] for row in own]))


def test_differences_and_longer_trainings(scored):
    table = scored(
        S0=[
            *(outlined("all", 0.5, k) for k in (1, 2, 3)),
            *(outlined(n, 0.8, k) for n in registry.MANIFESTATIONS for k in (1, 2)),
            *(outlined("all", 0.5, k, start="random", seed=3) for k in (1, 2)),
            outlined("all", 0.7, steps=1400),
        ]
    )
    assert set(table["protocol"]) == {"S0"}
    gaps = runs.select(table, metric="dice difference", average="pooled", labels="exact")
    gaps = gaps.set_index("task")
    average = gaps.loc["average of streams minus stream all"]
    assert average["class"] == "mean of lesions"
    assert average["low"] > 0
    each = [
        gaps.loc[f"stream {name} minus stream all", "value"] for name in registry.MANIFESTATIONS
    ]
    assert average["value"] == pytest.approx(np.mean(each))
    keys = {"class": "ggo", "metric": "dice", "average": "pooled", "labels": "exact", "repeat": 0}
    keys |= {"start": "nodule"}
    sides = [value(table, **keys, task=f"stream {name}") for name in ("ggo", "all")]
    assert each[0] == pytest.approx(sides[0] - sides[1])
    start = gaps.loc["nodule minus random start"]
    assert start["low"] < 0 < start["high"]
    assert "DeepLab-v3+ minus U-Net" not in gaps.index
    longer = runs.select(table, task="stream all, 1400 steps", repeat=0, class_="lesion")
    assert len(longer) == 4
    assert not table.duplicated(list(scores.KEYS)).any()
