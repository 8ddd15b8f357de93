"""One set of outlines under every convention of Dice, and which would state the paper's gains."""

import builders
import numpy as np
import pandas as pd
import pytest

from covid_utils import registry
from covid_utils.data.labels import scored_classes
from covid_utils.evaluation import conventions, outlines, stream_scores
from covid_utils.report import dice_figures as report


def masks(*lines):
    """Label masks (n, 2, 5) from ten digits each."""
    return np.array([[*map(int, line)] for line in lines], np.uint8).reshape(-1, 2, 5)


#: Four slices of ten pixels with ground-glass only: partly right, empty, missed, false alarm.
TRUTH = masks("1111000000", "0000000000", "0000000011", "0000000000")
PREDICTED = masks("1110100000", "0000000000", "0000000000", "1000000000")


def measured(truth=TRUTH, predicted=PREDICTED, rows=None, lesion=None):
    rows = builders.slice_rows(["exact"] * len(truth)) if rows is None else rows
    return outlines.pixel_table(rows, truth, predicted, scored_classes("all"), lesion)


@pytest.fixture(scope="module")
def scored():
    return conventions.score(measured())


def value(table, target, average, background="without", empty="", metric="dice", **more):
    """The value of one convention; where it has no empty cases, whatever says so."""
    keys = {"class": target, "average": average, "background": background, "metric": metric} | more
    return builders.value(table, **keys | ({"empty": empty} if empty else {}))


#: Dice of the lesion in each slice: 3/4, none, 0, 0; of the rest.
REST = np.array([5 / 6, 1, 8 / 9, 18 / 19])


@pytest.mark.parametrize(
    ("target", "average", "background", "empty", "expected"),
    [
        ("lesion", "per_image", "without", registry.WITH_CLASS, 0.75 / 2),
        ("lesion", "per_image", "without", "as 1", 1.75 / 4),
        ("ggo", "per_image", "with", "as 0", (0.75 + REST.sum()) / 8),
        # Pooled, the lesion has TP 3, FP 2 and FN 3 of 40 pixels; the rest TP 32.
        ("lesion", "pooled", "without", registry.SUMMED, 6 / 11),
        ("ggo", "pooled", "with", registry.SUMMED, (6 / 11 + 64 / 69) / 2),
        ("ggo", "pooled_classes", "with", registry.SUMMED, 35 / 40),
        # Consolidation and effusion occur nowhere: as 1 they lift the mean, left out do nothing.
        ("mean of lesions", "per_image", "without", "as 1", (2.75 / 3 + 1 + 4 / 3) / 4),
        ("mean of lesions", "per_class", "without", "left out", 0.75 / 3),
        ("mean of lesions", "per_class", "with", "left out", (0.25 + REST.mean()) / 2),
        ("mean of lesions", "pooled_classes", "without", registry.SUMMED, 6 / 11),
    ],
)
def test_dice_of_the_same_outlines(scored, target, average, background, empty, expected):
    assert value(scored, target, average, background, empty) == pytest.approx(expected)
    assert not {"consolidation", "effusion"} & set(scored["class"])
    # Two patients with a class are too few for limits.
    assert scored[["low", "high"]].isna().all(axis=None)


def test_lesions_of_which_one_is_in_one_slice_only_or_in_none():
    truth, predicted = masks("1111000000", "1122000000"), masks("1111000000", "0022000000")
    table = conventions.score(measured(truth, predicted))
    of = "mean of lesions"
    for empty in ("left out", registry.WITH_CLASS):  # no false alarm tells them apart
        assert value(table, of, "per_image", empty=empty) == pytest.approx((1 + 0.5) / 2)
        assert value(table, of, "per_class", empty=empty) == pytest.approx((0.5 + 1) / 2)
    assert value(table, of, "pooled") == pytest.approx((8 / 10 + 1) / 2)
    assert value(table, of, "pooled_classes") == pytest.approx(12 / 14)
    # The extent has no empty case: one row for all ways to count them.
    rows = table[(table["class"] == "lesion") & (table["average"] == "per_image")]
    assert set(rows["empty"]) == {registry.NONE_EMPTY}
    assert not table.duplicated(["class", "metric", *registry.CONVENTION, "labels"]).any()
    # A lesion that is called and in no slice leaves the other scores as they are.
    table = conventions.score(measured(predicted=np.where(PREDICTED == 0, 3, PREDICTED)))
    assert value(table, "ggo", "pooled", "without", registry.SUMMED) == pytest.approx(6 / 11)
    assert value(table, "effusion", "per_image", "without", "as 0") == 0
    assert np.isnan(value(table, "effusion", "per_image", "without", registry.WITH_CLASS))


def test_mean_over_thresholds_counts_an_absent_class_as_0_or_leaves_it_out():
    pixels = measured(lesion=np.random.default_rng(0).random(TRUTH.shape))
    dice = pixels.loc[pixels["class"] == "lesion", "dice_thresholds"]
    assert dice.isna().tolist() == [False, True, False, True]
    table = conventions.score(pixels)
    table = table[table["threshold"] == registry.MANY_THRESHOLDS]
    kept = value(table, "lesion", "per_image", empty=registry.WITH_CLASS)
    assert kept == pytest.approx(dice.mean())
    assert value(table, "lesion", "per_image", empty="as 0") == pytest.approx(dice.sum() / 4)
    assert len(table) == 2


#: Classes that the tables give both averages of.
TABLED = ("lesion", *registry.MANIFESTATIONS)


def test_rows_are_sorted_and_agree_with_the_scores_of_the_tables():
    rng = np.random.default_rng(5)
    truth = rng.choice(4, (12, 2, 5), p=(0.4, 0.3, 0.2, 0.1)).astype(np.uint8)
    pixels = measured(truth, np.where(rng.random(truth.shape) < 0.6, truth, 0).astype(np.uint8))
    table = conventions.score(pixels)
    assert table["value"].is_monotonic_decreasing
    assert list(table) == list(conventions.COLUMNS)
    is_ours = (table["average"] == "pooled") | table["empty"].isin(
        (registry.WITH_CLASS, registry.NONE_EMPTY)
    )
    ours = table[is_ours & (table["background"] == "without") & table["class"].isin(TABLED)]
    both = ours.merge(stream_scores.segmentation(pixels), on=["class", "metric", "average"])
    assert len(both) == len(ours) == 16, "two metrics and averages of four classes"
    for name in ("value", "low", "high"):
        np.testing.assert_allclose(both[f"{name}_x"], both[f"{name}_y"])


def test_weak_labels_are_kept_apart_and_the_extent_is_exact():
    rows = builders.slice_rows(["exact", "exact", "weak", "weak"])
    table = conventions.score(measured(rows=rows))
    assert set(table.loc[table["class"] == "lesion", "labels"]) == {"exact"}
    assert value(table, "lesion", "pooled") == pytest.approx(6 / 11)
    assert value(table, "ggo", "pooled", labels="all") == pytest.approx(6 / 11)
    assert value(table, "ggo", "pooled", labels="exact") == pytest.approx(6 / 8)


# The paper's gains


def row(target="ggo", value=0.5, half=0.02, run="r", **more):
    base = {"run": run, "work": f"work {run}", "class": target, "metric": "dice"}
    base |= {"average": "pooled", "background": "without", "empty": registry.SUMMED}
    base |= {"threshold": registry.ONE_THRESHOLD, "labels": "exact", "n": 9, "patients": 9}
    return base | {"value": value, "low": value - half, "high": value + half} | more


@pytest.mark.parametrize(
    ("case", "held"),
    [
        (row(value=0.911), {0.911}),  # 0.646 x 1.41
        (row(value=0.911, low=np.nan, high=np.nan), set()),
        (row(value=0.8), set()),
        (row("lesion", 0.731, 0.001), set()),  # 4 points over 0.691, but below others
        (row("lesion", 0.8112, 0.0005), {0.811}),  # 4 % over 0.78
        (row("mean of lesions", 0.8215, 0.002), {0.82, 0.823}),  # 4 points over 0.78 and 0.783
    ],
)
def test_a_gain_is_held_where_a_value_that_it_implies_lies_within_the_limits(case, held):
    gains = report.gains(pd.DataFrame([case]))
    expected = [0.911] if case["class"] == "ggo" else [0.811, 0.814, 0.82, 0.823]
    assert gains["implied"].tolist() == expected
    assert set(gains.loc[gains["holds"], "implied"]) == held
