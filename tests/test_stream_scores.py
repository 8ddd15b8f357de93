"""Outlines and their scores, against masks compared directly and what a network says."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from builders import ct_slices, dice_of, of_class, one, slice_rows, square, value

from covid_utils.data import collection, readers
from covid_utils.data.labels import scored_classes
from covid_utils.data.readers import medseg
from covid_utils.data.readers.medseg import PublishedMasks
from covid_utils.errors import DataError
from covid_utils.evaluation import intervals, metrics, outlines, scoring, stream_scores

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
    expected = {
        # Two slices have the class, and a miss is 0; in one of the other two is a false alarm.
        ("dice", "per_image"): (overlap / 400 / 2, 2),
        ("iou", "per_image"): (overlap / union / 2, 2),
        ("false alarms", "per_image"): (0.5, 2),
        # Only the pair in which neither is empty has a distance.
        ("hd95", "per_image"): (8, 1),
        # The extent has an error in each: none, all missed, all invented, none.
        ("volume_error", "per_image"): ((0 + 40 + 40 + 0) / 4, 4),
        # Pooled, all slices are one heap.
        ("dice", "pooled"): (2 * overlap / 1600, 4),
    }
    for name in ("ggo", "lesion"):
        for (metric, average), wanted in expected.items():
            row = one(scores, **of_class(name, metric), average=average)
            assert (row["value"], row["n"]) == pytest.approx(wanted), metric
        alarms, wilson = one(scores, **of_class(name, "false alarms")), intervals.wilson(1, 2)
        assert alarms["low"] <= wilson.low < wilson.high <= alarms["high"]
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


# What is measured of each slice


def swept(truth, probability):
    """Dice over 256 thresholds of the map stretched to 0-1, as a loop."""
    stretched = (probability - probability.min()) / np.ptp(probability)
    return np.mean([dice_of(truth, stretched >= k / 255) for k in range(256)])


@pytest.mark.parametrize("stream", ["all", "effusion"])
def test_thresholds_are_swept_for_all_lesions_or_the_one_class_of_a_stream(stream):
    """And neither they nor distances are measured on slices of training."""
    rng = np.random.default_rng(3)
    truth, found = rng.integers(0, 4, (2, 5, 9, 9))
    lesion, names = rng.uniform(0.2, 0.7, truth.shape), scored_classes(stream)
    rows = slice_rows(["exact"] * 5, ["train", "validation", "test", "published", "unused"])
    table = outlines.pixel_table(rows, truth, found, names, lesion)
    is_chosen = table["class"] == ("lesion" if stream == "all" else stream)
    assert table[~is_chosen]["dice_thresholds"].isna().all()
    chosen = table[is_chosen].set_index("subset")
    wanted = np.isin(truth, names[chosen["class"].iloc[0]])
    expected = [swept(*pair) for pair in zip(wanted[1:4], lesion[1:4], strict=True)]
    watched = chosen.loc[["validation", "test", "published"]]
    assert watched["dice_thresholds"].tolist() == pytest.approx(expected)
    assert watched["hd95"].notna().all()
    assert chosen.loc[["train", "unused"], ["hd95", "dice_thresholds"]].isna().all(axis=None)
    assert (table[["tp", "fp", "fn", "tn"]].sum(axis=1) == 81).all()


@pytest.mark.parametrize(("stream", "classes"), [("all", 4), ("effusion", 2)])
def test_outlines_are_those_of_the_probabilities_batch_by_batch_in_order(stream, classes):
    n, rng = 19, np.random.default_rng(8)
    chances = rng.dirichlet(np.ones(classes), (n, 13, 13)).astype(np.float32)
    masks = rng.integers(0, 4, (n, 13, 13), dtype=np.uint8)
    subsets = [("train", "test", "validation", "unused")[i % 4] for i in range(n)]
    rows = slice_rows(["exact"] * n, subsets, lung_pixels=np.arange(n) + 9)
    found = outlines.outline(np.split(chances, (8, 16)), rows, masks, stream)
    said = chances.argmax(axis=-1) * (3 if stream == "effusion" else 1)
    names = scored_classes(stream)
    assert len(found.pixels) == n * len(names)
    for name, labels in names.items():
        part = found.pixels[found.pixels["class"] == name]
        assert part["image_id"].tolist() == rows["image_id"].tolist()
        assert part["lung_pixels"].tolist() == rows["lung_pixels"].tolist()
        counts = metrics.count(np.isin(masks, labels), np.isin(said, labels), axis=(1, 2))
        np.testing.assert_array_equal(part[[*metrics.OUTCOMES]], counts)
    watched = rows["subset"].isin(("test", "validation")).to_numpy()
    pd.testing.assert_frame_equal(found.rows, rows[watched].reset_index(drop=True))
    np.testing.assert_array_equal(found.predicted, said[watched])
    # The stored probability is one minus the background's.
    assert found.probability.dtype == np.uint8
    np.testing.assert_allclose(found.probability, 255 * (1 - chances[watched][..., 0]), atol=0.51)
    np.testing.assert_array_equal(found.positions, np.flatnonzero(watched))
    np.testing.assert_array_equal(found.truth, masks[watched])


def test_published_masks_are_measured_like_ours(tmp_path):
    root = ct_slices(tmp_path, slices=6)
    rows = readers.read_all(root).rows.assign(subset="train")
    scans = collection.Collection(rows, root, pd.DataFrame())
    frame = np.arange(outlines.BATCH + 5) * 5 % 6  # a slice has several, in no order
    rng = np.random.default_rng(9)
    labels = rng.integers(0, 4, (len(frame), 16, 16), dtype=np.uint8)
    names = np.array([f"medseg/{medseg.IMAGES}#{number:03d}" for number in frame])
    table = outlines.of_published(PublishedMasks(names, labels), scans)
    assert set(table["subset"]) == {"published"}
    truth = [medseg.load_mask(root, SimpleNamespace(**rows.iloc[number])) for number in frame]
    for name, members in ALL.items():
        part = table[table["class"] == name]
        assert part["image_id"].tolist() == names.tolist()
        masks = np.isin(np.stack(truth), members), np.isin(labels, members)
        np.testing.assert_array_equal(part[[*metrics.OUTCOMES]], metrics.count(*masks, axis=(1, 2)))
    assert table[["lung_pixels", "dice_thresholds"]].isna().all(axis=None)
    kept = rows["image_id"] != names[0]  # a profile with fewer images
    fewer = replace(scans, manifest=rows[kept])
    part = outlines.of_published(PublishedMasks(names, labels), fewer)
    assert set(part["image_id"]) == set(names) - {names[0]}
    with pytest.raises(DataError, match="none of their slices"):
        outlines.of_published(PublishedMasks(names, labels), replace(scans, manifest=rows[:0]))


def test_a_class_that_truth_never_shows_enters_no_pooled_mean():
    truth, found = four_cases()
    found[0, 0, 0] = 3  # a false alarm
    pixels = outlines.pixel_table(slice_rows(["exact"] * 4), truth, found, ALL)
    scores = stream_scores.segmentation(pixels)
    mean, ggo = (value(scores, **of_class(n, "dice"), **POOLED) for n in ("mean of lesions", "ggo"))
    assert mean == ggo
