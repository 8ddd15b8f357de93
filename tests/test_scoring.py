"""Metrics and scores against scikit-learn and known answers, and where nothing is defined."""

import warnings

import numpy as np
import pandas as pd
import pytest
from builders import class_predictions, of_class, value
from sklearn import metrics as reference

from covid_utils.errors import DataError
from covid_utils.evaluation import bootstrap, intervals, metrics, scoring

CLASSES = ("covid", "normal", "viral", "bacterial")
NAMES = ("ggo", "consolidation", "effusion")
#: scikit-learn's scores of one class or label.
SINGLE = {
    "sensitivity": reference.recall_score,
    "specificity": lambda truth, said: reference.recall_score(~truth, ~said),
    "precision": reference.precision_score,
    "f1": reference.f1_score,
    "mcc": reference.matthews_corrcoef,
}


@pytest.mark.parametrize("classes", [CLASSES[:2], CLASSES])
def test_recognition_equals_scikit_learn(classes):
    rng = np.random.default_rng(4)
    truth = rng.choice(classes, 120)
    said = np.where(rng.random(120) < 0.6, truth, rng.choice(classes, 120))
    table = class_predictions(truth, said, [f"p{i // 3}" for i in range(120)])
    scores = scoring.recognition(table, classes)
    assert value(scores, **of_class("all", "accuracy")) == pytest.approx((truth == said).mean())
    mcc = reference.matthews_corrcoef(truth, said)
    assert value(scores, **of_class("all", "mcc")) == pytest.approx(mcc)
    for metric, score in SINGLE.items():
        each = [score(truth == label, said == label) for label in classes]
        for label, expected in zip(classes, each, strict=True):
            assert value(scores, **of_class(label, metric)) == pytest.approx(expected)
        if metric != "mcc":
            assert value(scores, **of_class("macro", metric)) == pytest.approx(np.mean(each))


def test_a_class_that_never_occurs_has_no_scores_and_does_not_pull_the_mean():
    table = class_predictions(["covid", "normal"] * 2, ["covid", "normal", "normal", "normal"])
    three = scoring.recognition(table, CLASSES[:3])
    for metric in ("sensitivity", "precision", "mcc"):
        assert np.isnan(value(three, **of_class("viral", metric)))
    assert value(three, **of_class("viral", "specificity")) == 1
    assert value(three, **of_class("macro", "sensitivity")) == pytest.approx(0.75)


def test_perfect_scores_are_not_called_certain():
    truth = ["covid"] * 24 + ["normal"] * 12
    table = class_predictions(truth, truth, [f"p{i // 3}" for i in range(36)])
    scores = scoring.recognition(table, CLASSES[:2])
    assert (scores["value"] == 1).all()
    assert not (scores["low"] == scores["high"]).any()
    found = scores.set_index(["class", "metric"])[["low", "high"]]
    # Eight of the twelve patients have COVID-19: Wilson's lower limit of 8 of 8 is n / (n + z^2).
    for metric, name, patients in (("sensitivity", "covid", 8), ("specificity", "covid", 4)):
        low = patients / (patients + 1.959964**2)
        assert found.loc[(name, metric)].tolist() == pytest.approx([low, 1])
    assert found.loc[("covid", "f1")].isna().all()


@pytest.mark.parametrize(("patients", "is_wilson"), [(9, True), (10, False)])
def test_a_proportion_that_few_patients_speak_against_gets_wilsons_limits(patients, is_wilson):
    truth = ["covid"] * 60 + ["normal"] * 60
    table = class_predictions(truth, ["normal"] * patients + truth[patients:])
    found = scoring.recognition(table, CLASSES[:2]).set_index(["class", "metric"])
    row = found.loc[("covid", "sensitivity")]
    wilson = intervals.wilson_by_patient(np.arange(60) >= patients, np.ones(60), np.arange(60))
    assert (row["low"] == pytest.approx(wilson.low, rel=1e-3)) == is_wilson
    assert row["low"] < row["value"] < row["high"]


def test_patients_are_drawn_within_classes():
    """All of one class right and half of the other: only draws within classes keep the shares."""
    truth = np.repeat(["covid", "normal"], [30, 90])
    said = np.array(["covid"] * 30 + ["normal", "covid"] * 45)
    found = scoring.accuracy(class_predictions(truth, said), CLASSES[:2])
    free = bootstrap.mean((truth == said).astype(float), np.arange(120))
    assert found["high"] - found["low"] < free.high - free.low


# --- Labels --------------------------------------------------------------------------------------


@pytest.fixture
def multi():
    rng = np.random.default_rng(6)
    table = pd.DataFrame({"patient_id": [f"p{i // 2}" for i in range(60)]})
    for name, share in zip(NAMES, (0.9, 0.5, 0.2), strict=True):
        truth = rng.random(60) < share
        table[f"truth_{name}"] = truth
        table[f"p_{name}"] = np.clip(0.35 * truth + rng.random(60) * 0.65, 0, 1)
    return table


def test_labels_equal_scikit_learn_alone_and_pooled_and_macro_is_their_mean(multi):
    scores = scoring.labels(multi, NAMES)
    parts = {name: ([f"truth_{name}"], [f"p_{name}"]) for name in NAMES}
    parts["overall"] = [[f"{column}_{name}" for name in NAMES] for column in ("truth", "p")]
    for name, (true, likely) in parts.items():
        truth, score = multi[true].to_numpy().ravel(), multi[likely].to_numpy().ravel()
        expected = {metric: of(truth, score >= 0.5) for metric, of in SINGLE.items()}
        expected["accuracy"] = reference.accuracy_score(truth, score >= 0.5)
        for metric in scoring.CURVES:
            expected[metric] = getattr(reference, f"{metric}_score")(truth, score)
        for metric, wanted in expected.items():
            assert value(scores, **of_class(name, metric)) == pytest.approx(wanted), metric
    for metric in (*SINGLE, *scoring.CURVES):
        each = [value(scores, **of_class(name, metric)) for name in NAMES]
        assert value(scores, **of_class("macro", metric)) == pytest.approx(np.mean(each))
    assert not scores.duplicated(["class", "metric"]).any()
    found = scores[scores["class"].isin(("overall", "macro"))]
    assert ((found["low"] < found["value"]) & (found["value"] < found["high"])).all()
    assert (set(found["n"]), set(found["patients"])) == ({60}, {30})
    assert "accuracy" not in set(scores[scores["class"] == "macro"]["metric"])


def test_a_label_in_every_slice_has_no_specificity_and_no_curve(multi):
    multi["truth_ggo"] = True
    scores = scoring.labels(multi, NAMES)
    for metric in ("specificity", "mcc", *scoring.CURVES):
        assert np.isnan(value(scores, **of_class("ggo", metric))), metric
    assert value(scores, **of_class("ggo", "precision")) == 1
    curves = scores[scores["metric"].isin(scoring.CURVES)].set_index("class")
    assert curves.loc["ggo", ["low", "high"]].isna().all(axis=None)
    assert curves.drop("ggo")[["low", "high"]].notna().all(axis=None)
    others = [value(scores, **of_class(name, "roc_auc")) for name in NAMES[1:]]
    assert value(scores, **of_class("macro", "roc_auc")) == pytest.approx(np.mean(others))


def test_a_mean_over_labels_never_changes_the_labels_that_it_is_over():
    # Two of twelve patients show y, which is missed; many resamples hold neither of them.
    truth = pd.DataFrame({"truth_x": [True] * 12, "truth_y": [True] * 2 + [False] * 10})
    said = {"p_x": 1.0, "p_y": 0.0, "patient_id": [f"p{i}" for i in range(12)]}
    scores = scoring.labels(truth.assign(**said), ("x", "y")).set_index(["class", "metric"])
    mean = scores.loc[("macro", "sensitivity")]
    assert mean["value"] == 0.5
    assert mean[["low", "high"]].isna().all()


def test_weighted_areas_equal_scikit_learn_with_sample_weights():
    rng = np.random.default_rng(8)
    truth, score = rng.random(40) < 0.4, np.sort(rng.integers(0, 8, 40))[::-1] / 8
    weights = rng.integers(0, 4, (25, 40)).astype(float)
    weights[0, score > 0.5] = 0
    found = scoring.weighted_areas(truth, score, weights)
    for row, weight in enumerate(weights):
        for metric in scoring.CURVES:
            expected = getattr(reference, f"{metric}_score")(truth, score, sample_weight=weight)
            assert found[metric][row] == pytest.approx(expected), metric


@pytest.mark.parametrize("rare", [True, False])
@pytest.mark.parametrize(("patients", "has_limits"), [(2, False), (3, True)])
def test_an_outcome_of_fewer_than_three_patients_gets_no_limits(multi, rare, patients, has_limits):
    number = multi["patient_id"].str.removeprefix("p").astype(int)
    multi["truth_effusion"] = (number < patients) == rare
    curves = scoring.labels(multi, NAMES).query("metric in @scoring.CURVES").set_index("class")
    for name in ("effusion", "macro"):
        assert curves.loc[name, "value"].notna().all()
        assert curves.loc[name, "low"].notna().all() == has_limits
    assert curves.loc["overall", "low"].notna().all()


def test_labels_that_are_no_class_and_probabilities_that_are_no_number_are_refused(multi):
    for pair in (("odd", "covid"), ("covid", "odd")):
        table = class_predictions(*([name, "normal"] for name in pair))
        with pytest.raises(DataError, match="label 'odd' is not among the classes covid, normal"):
            scoring.recognition(table, CLASSES[:2])
    multi.loc[3, "p_ggo"] = np.nan
    with pytest.raises(DataError, match="finite"):
        scoring.labels(multi, NAMES)


# Metrics


@pytest.mark.parametrize(
    ("name", "truth", "predicted", "expected"),
    [
        ("sensitivity", [0, 0], [0, 1], np.nan),
        ("specificity", [1, 1], [0, 1], np.nan),
        ("precision", [0, 1], [0, 0], np.nan),
        ("f1", [0, 1], [0, 0], 0.0),
        ("dice", [0, 0], [0, 0], np.nan),
        ("accuracy", [], [], np.nan),
        ("mcc", [1, 0], [1, 1], np.nan),
        ("mcc", [1, 1], [1, 0], np.nan),
        ("mcc", [1, 0], [0, 1], -1.0),
        ("mcc", [1, 1, 0, 0, 0], [1, 0, 0, 0, 1], 1 / 6),
    ],
)
def test_edge_cases(name, truth, predicted, expected):
    counts = metrics.count(np.array(truth, bool), np.array(predicted, bool))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = metrics.score(name, counts)
        # 5000 slices of 512 x 512: the product of four such margins exceeds 64-bit integers.
        many = metrics.score(name, counts * (5000 * 512 * 512))
    assert (value, many) == pytest.approx((expected, expected), nan_ok=True)


# --- Measures of masks ---------------------------------------------------------------------------


def square(top, left, side, shape=(40, 50)):
    mask = np.zeros(shape, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_the_larger_direction_counts_but_not_a_lone_pixel():
    outer, inner = square(5, 5, 31), square(10, 10, 21)
    # Outward only the corners are further than the margin; the other direction has no corner.
    assert 5 <= metrics.hausdorff95(outer, inner) <= 5 * np.sqrt(2)
    assert metrics.hausdorff95(outer, inner) == metrics.hausdorff95(inner, outer)
    truth = square(5, 5, 20)
    # What is far away is an eighth of the predicted contour, or a single pixel of it.
    assert metrics.hausdorff95(truth, truth | square(30, 40, 4)) > 15
    assert metrics.hausdorff95(truth, truth | square(39, 49, 1)) == 0
    # The border of the image is contour; an empty mask has none.
    whole, inside = np.ones((30, 30), bool), square(1, 1, 28, (30, 30))
    assert metrics.hausdorff95(whole, inside) == pytest.approx(1, abs=0.01)
    for pair in (truth, truth & False), (truth & False, truth), (truth & False, truth & False):
        assert np.isnan(metrics.hausdorff95(*pair))


def test_dice_over_thresholds_equals_a_loop():
    rng = np.random.default_rng(20200624)
    truth = rng.random((30, 20)) < 0.2
    probability = rng.random((30, 20)).astype(np.float32)
    probability[:3] = np.float32([0, 1, 0.6, 0.2])[np.arange(20) % 4]  # on thresholds
    called = [probability.astype(np.float64) >= limit for limit in np.linspace(0, 1, 256)]
    expected = [metrics.score("dice", metrics.count(truth, part)).item() for part in called]
    assert metrics.dice_over_thresholds(truth, probability) == pytest.approx(expected)
    # Of a perfect prediction only the lowest threshold misses.
    dice = metrics.dice_over_thresholds(truth, truth.astype(float))
    assert dice[0] == pytest.approx(2 * truth.sum() / (truth.sum() + truth.size))
    assert (dice[1:] == 1).all()
    assert np.isnan(metrics.dice_over_thresholds(truth & False, truth.astype(float))).all()
