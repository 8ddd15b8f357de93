"""Scores of segmentations, against masks compared directly, and slices without a class."""

import numpy as np
import pytest
from builders import dice_of, of_class, one, slice_rows, square, value

from covid_utils.data.labels import scored_classes
from covid_utils.evaluation import intervals, outlines, scoring, stream_scores

ALL = scored_classes("all")
CLASSES = ("background", "ggo", "consolidation", "effusion")
PER_IMAGE, POOLED = {"average": "per_image"}, {"average": "pooled"}


def slices(quality, seed=0):
    """Measures of random masks; the first slice has no effusion in truth or prediction."""
    rng = np.random.default_rng(seed)
    truth, found = rng.integers(0, 4, (2, len(quality), 8, 8))
    truth[0][truth[0] == 3] = 0
    found[0][found[0] == 3] = 0
    return outlines.pixel_table(slice_rows(quality), truth, found, ALL), truth, found


def iou_of(truth, found):
    union = (truth | found).sum()
    return (truth & found).sum() / union if union else np.nan


def four_cases():
    """Nothing to find and nothing found; a miss; a false alarm; found as it is, but 4 across."""
    empty, there = np.zeros((50, 50), np.uint8), square(10, 10, 20)
    truth, found = [empty, there, empty, there], [empty, empty, there, square(10, 14, 20)]
    return np.stack(truth), np.stack(found)


def test_segmentation_equals_masks_compared_directly_on_exact_slices_and_on_all():
    quality = ["exact", "weak", "exact", "weak", "weak", "exact", "weak"]
    pixels, truth, found = slices(quality)
    scores = stream_scores.segmentation(pixels)
    assert list(scores) == list(scoring.COLUMNS)
    exact = np.array(quality) == "exact"
    for metric, score in (("dice", dice_of), ("iou", iou_of)):
        for scope, chosen in (("exact", exact), ("all", exact | True)):
            pooled, keys = [], {"metric": metric, "labels": scope}
            for index, name in enumerate(CLASSES):
                masks = truth[chosen] == index, found[chosen] == index
                pooled.append(score(*masks))
                each = [score(*pair) for pair in zip(*masks, strict=True) if pair[0].any()]
                assert value(scores, class_=name, **keys, **POOLED) == pytest.approx(pooled[-1])
                mean = value(scores, class_=name, **keys, **PER_IMAGE)
                assert mean == pytest.approx(np.mean(each))
            # Means are given with background and without.
            for name, first in (("mean", 0), ("mean of lesions", 1)):
                mean = value(scores, class_=name, **keys, **POOLED)
                assert mean == pytest.approx(np.mean(pooled[first:]))
    # The extent is exact on every slice, so it is scored on all of them, once.
    lesion = scores[(scores["class"] == "lesion") & (scores["average"] == "pooled")]
    assert lesion["labels"].tolist() == ["exact", "exact"]
    assert value(lesion, metric="dice") == pytest.approx(dice_of(truth > 0, found > 0))
    assert set(lesion["n"]) == {7}
    assert not {"hd95", "volume_error"} & set(scores[scores["class"].isin(stream_scores.MEANS)])
    alone = stream_scores.segmentation(pixels[pixels["label_quality"] == "exact"])
    assert set(alone["labels"]) == {"exact"}


def test_slices_without_a_class_follow_the_stated_rule():
    truth, found = four_cases()
    lung = {"lung_pixels": 1000}
    pixels = outlines.pixel_table(slice_rows(["exact"] * 4, **lung), truth, found, ALL)
    scores = stream_scores.segmentation(pixels)
    overlap, union = 20 * 16, 20 * 24
    for name in ("ggo", "lesion"):
        # Two slices have the class, and a miss is 0; in one of the other two is a false alarm.
        dice = one(scores, **of_class(name, "dice"), **PER_IMAGE)
        assert (dice["value"], dice["n"]) == (pytest.approx(overlap / 400 / 2), 2)
        iou = one(scores, **of_class(name, "iou"), **PER_IMAGE)
        assert (iou["value"], iou["n"]) == (pytest.approx(overlap / union / 2), 2)
        alarms = one(scores, **of_class(name, "false alarms"), **PER_IMAGE)
        assert (alarms["value"], alarms["n"]) == (0.5, 2)
        wilson = intervals.wilson(1, 2)
        assert alarms["low"] <= wilson.low < wilson.high <= alarms["high"]
        # Only the pair in which neither is empty has a distance.
        distance = one(scores, **of_class(name, "hd95"), **PER_IMAGE)
        assert (distance["value"], distance["n"]) == (pytest.approx(8), 1)
        # The extent has an error in each: none, all missed, all invented, none.
        error = one(scores, **of_class(name, "volume_error"), **PER_IMAGE)
        assert (error["value"], error["n"]) == (pytest.approx((0 + 40 + 40 + 0) / 4), 4)
        # Pooled, all slices are one heap.
        pooled = one(scores, **of_class(name, "dice"), **POOLED)
        assert (pooled["value"], pooled["n"]) == (pytest.approx(2 * overlap / 1600), 4)
    for metric in stream_scores.PIXEL_METRICS:  # nowhere in truth or prediction
        for average in (POOLED, PER_IMAGE):
            assert np.isnan(value(scores, **of_class("effusion", metric), **average))
    absent = scores[scores["class"] == "effusion"]
    assert set(absent["metric"]) == {"dice", "iou", "volume_error", "false alarms"}
    alarms = one(scores, **of_class("effusion", "false alarms"))
    assert (alarms["value"], alarms["n"], alarms["high"]) == (0, 4, intervals.wilson(0, 4).high)


def test_the_error_of_the_extent_is_in_per_cent_of_the_lung_field():
    truth = np.stack([square(0, 0, 20)] * 3)
    found = np.stack([square(0, 0, 30), square(0, 0, 10), square(0, 0, 30)])
    rows = slice_rows(["exact"] * 3, lung_pixels=[1000, 500, 0])
    scores = stream_scores.segmentation(outlines.pixel_table(rows, truth, found, ALL))
    error = one(scores, **of_class("lesion", "volume_error"))
    # Too much and too little do not cancel; without a lung field there is nothing to measure.
    assert error["value"] == pytest.approx((100 * 500 / 1000 + 100 * 300 / 500) / 2)
    assert (error["n"], error["average"]) == (2, "per_image")
    is_background = scores["class"] == "background"
    assert set(scores[is_background]["metric"]) == set(stream_scores.PIXEL_METRICS)


@pytest.mark.parametrize(("patients", "has_limits"), [(2, False), (3, True)])
def test_a_class_of_fewer_than_three_patients_gets_no_limits(patients, has_limits):
    rng = np.random.default_rng(7)
    truth, found = rng.integers(0, 4, (2, 8, 9, 9))
    truth[patients:][truth[patients:] == 2] = 0
    pixels = outlines.pixel_table(slice_rows(["exact"] * 8), truth, found, ALL)
    scores = stream_scores.segmentation(pixels)
    dice = scores[scores["metric"] == "dice"].set_index("class")
    assert dice.loc["consolidation", "low"].notna().all() == has_limits
    assert dice.loc["ggo", "low"].notna().all()
    assert dice.loc["consolidation", "value"].notna().all()


def test_two_segmentations_are_compared_on_the_same_slices_in_any_order():
    (first, *_), (second, *_) = slices(["exact"] * 7), slices(["exact"] * 7, seed=1)
    second = second.assign(**{name: first[name] for name in ("image_id", "patient_id")})
    both = stream_scores.compare(first, second.sample(frac=1, random_state=0))
    compared = both[both["average"] == "pooled"]
    assert compared["class"].tolist() == ["ggo", "consolidation", "effusion", "lesion"]
    for name, gap in zip(compared["class"], compared["value"], strict=True):
        key = of_class(name, "dice") | POOLED
        sides = [value(stream_scores.segmentation(each), **key) for each in (first, second)]
        assert gap == pytest.approx(sides[0] - sides[1])
    assert (compared["low"] < compared["value"]).all()
    assert (compared["value"] < compared["high"]).all()
    assert stream_scores.compare(first[:0], second[:0]).empty
