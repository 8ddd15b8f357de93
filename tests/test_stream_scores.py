"""Measures and scores of segmentations, against masks compared directly, and their empty cases."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from builders import ct_slices, manifest, stream_settings

from covid_utils.data import collection, readers
from covid_utils.data.labels import scored_classes
from covid_utils.data.readers import medseg
from covid_utils.data.readers.medseg import PublishedMasks
from covid_utils.errors import DataError
from covid_utils.evaluation import outlines, scoring, stream_scores
from covid_utils.training import predict_stream
from covid_utils.training.streams import StreamData

ALL = scored_classes("all")
CLASSES = ("background", "ggo", "consolidation", "effusion")
PER_IMAGE, POOLED = {"average": "per_image"}, {"average": "pooled"}


def value(table, **criteria):
    """The one value with these keys."""
    return one(table, **criteria)["value"]


def one(table, **criteria):
    """The one row with these keys."""
    rows = table[np.logical_and.reduce([table[k] == v for k, v in criteria.items()])]
    assert len(rows) == 1, f"{criteria}: {len(rows)} rows"
    return rows.iloc[0]


def of_class(name, metric):
    return {"class": name, "metric": metric}


def rows_of(quality, subset="test", **columns):
    """A manifest row a slice, each of another patient."""
    patients = {f"s{i:02d}": 1 for i in range(len(quality))}
    rows = manifest(patients, "medseg", "covid", "CT")
    return rows.assign(label_quality=quality, subset=subset, **columns)


def slices(quality, seed=0):
    """Measures of random masks; the first slice has no effusion in truth or prediction."""
    rng = np.random.default_rng(seed)
    truth, found = rng.integers(0, 4, (2, len(quality), 8, 8))
    truth[0][truth[0] == 3] = 0
    found[0][found[0] == 3] = 0
    return outlines.pixel_table(rows_of(quality), truth, found, ALL), truth, found


def dice_of(truth, found):
    size = truth.sum() + found.sum()
    return 2 * (truth & found).sum() / size if size else np.nan


def iou_of(truth, found):
    union = (truth | found).sum()
    return (truth & found).sum() / union if union else np.nan


def square(top, left, side, size=50, label=1):
    mask = np.zeros((size, size), np.uint8)
    mask[top : top + side, left : left + side] = label
    return mask


def four_cases():
    """Nothing to find and nothing found; a miss; a false alarm; found as it is, but 4 across."""
    empty, there = np.zeros((50, 50), np.uint8), square(10, 10, 20)
    truth, found = [empty, there, empty, there], [empty, empty, there, square(10, 14, 20)]
    return np.stack(truth), np.stack(found)


# --- measures of a slice --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [50, 100])
def test_the_distance_is_in_per_cent_of_the_slices_side(size):
    truth, found = square(10, 10, 20, size)[None], square(10, 14, 20, size)[None]
    table = outlines.pixel_table(rows_of(["exact"]), truth, found, ALL).set_index("class")
    for name in ("ggo", "lesion"):
        assert table.loc[name, "hd95"] == pytest.approx(100 * 4 / size)
    # Neither of these is anywhere, and the background is no lesion with a contour.
    assert table.loc[["background", "consolidation", "effusion"], "hd95"].isna().all()


def swept(truth, probability):
    """Dice over 256 thresholds of the map stretched to 0-1, as a loop."""
    stretched = (probability - probability.min()) / np.ptp(probability)
    return np.mean([dice_of(truth, stretched >= k / 255) for k in range(256)])


@pytest.mark.parametrize("stream", ["all", "ggo", "effusion", "nodule"])
def test_thresholds_are_swept_for_all_lesions_or_the_one_class_of_a_stream(stream):
    rng = np.random.default_rng(3)
    truth, found = rng.integers(0, 4, (2, 3, 9, 9))
    lesion = rng.uniform(0.2, 0.7, truth.shape)
    names = scored_classes(stream)
    table = outlines.pixel_table(rows_of(["exact"] * 3), truth, found, names, lesion)
    chosen = "lesion" if stream == "all" else stream
    is_chosen = table["class"] == chosen
    assert table[~is_chosen]["dice_thresholds"].isna().all()
    wanted = np.isin(truth, names[chosen])
    expected = [swept(*pair) for pair in zip(wanted, lesion, strict=True)]
    assert table[is_chosen]["dice_thresholds"].tolist() == pytest.approx(expected)


def test_distances_and_thresholds_are_not_measured_on_training_slices():
    rng = np.random.default_rng(4)
    truth, found = rng.integers(0, 4, (2, 5, 9, 9))
    subsets = ["train", "validation", "test", "published", "unused"]
    rows = rows_of(["exact"] * 5, subsets)
    table = outlines.pixel_table(rows, truth, found, ALL, rng.random(truth.shape))
    measured = table[table["class"] == "lesion"].set_index("subset")
    for column in ("hd95", "dice_thresholds"):
        assert measured[column].notna().to_dict() == {
            name: name in outlines.WATCHED for name in subsets
        }
    assert (table[["tp", "fp", "fn", "tn"]].sum(axis=1) == 81).all()
    alone = outlines.pixel_table(rows[:1], truth[:1], found[:1], ALL, rng.random((1, 9, 9)))
    assert alone[["hd95", "dice_thresholds"]].isna().all(axis=None)


# --- scores ---------------------------------------------------------------------------------------


def test_segmentation_equals_masks_compared_directly():
    pixels, truth, found = slices(["exact"] * 7)
    scores = stream_scores.segmentation(pixels)
    assert list(scores) == list(scoring.COLUMNS)
    for index, name in enumerate(CLASSES):
        for metric, score in (("dice", dice_of), ("iou", iou_of)):
            pooled = score(truth == index, found == index)
            each = [score(t == index, f == index) for t, f in zip(truth, found, strict=True)]
            key = of_class(name, metric) | {"labels": "exact"}
            assert value(scores, **key, **POOLED) == pytest.approx(pooled)
            assert value(scores, **key, **PER_IMAGE) == pytest.approx(np.nanmean(each))
    assert set(scores["labels"]) == {"exact"}


@pytest.mark.parametrize(("metric", "score"), [("dice", dice_of), ("iou", iou_of)])
def test_means_are_given_with_background_and_without(metric, score):
    pixels, truth, found = slices(["exact"] * 7)
    scores = stream_scores.segmentation(pixels)
    each = [score(truth == index, found == index) for index in range(4)]
    key = {"metric": metric, "average": "pooled"}
    assert value(scores, **{"class": "mean"}, **key) == pytest.approx(np.mean(each))
    without = value(scores, **{"class": "mean of lesions"}, **key)
    assert without == pytest.approx(np.mean(each[1:]))
    assert not {"hd95", "volume_error"} & set(scores[scores["class"].isin(stream_scores.MEANS)])


def test_the_empty_cases_follow_the_stated_rule():
    truth, found = four_cases()
    lung = {"lung_pixels": 1000}
    pixels = outlines.pixel_table(rows_of(["exact"] * 4, **lung), truth, found, ALL)
    scores = stream_scores.segmentation(pixels)
    overlap, union = 20 * 16, 20 * 24
    for name in ("ggo", "lesion"):
        # Left out: nothing to find and nothing found. A miss and a false alarm are 0 each.
        dice = one(scores, **of_class(name, "dice"), **PER_IMAGE)
        assert (dice["value"], dice["n"]) == (pytest.approx(overlap / 400 / 3), 3)
        iou = one(scores, **of_class(name, "iou"), **PER_IMAGE)
        assert (iou["value"], iou["n"]) == (pytest.approx(overlap / union / 3), 3)
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
    assert set(absent["metric"]) == {"dice", "iou", "volume_error"}


def test_the_error_of_the_extent_is_in_per_cent_of_the_lung_field():
    truth = np.stack([square(0, 0, 20)] * 3)
    found = np.stack([square(0, 0, 30), square(0, 0, 10), square(0, 0, 30)])
    rows = rows_of(["exact"] * 3, lung_pixels=[1000, 500, 0])
    scores = stream_scores.segmentation(outlines.pixel_table(rows, truth, found, ALL))
    error = one(scores, **of_class("lesion", "volume_error"))
    # Too much and too little do not cancel; without a lung field there is nothing to measure.
    assert error["value"] == pytest.approx((100 * 500 / 1000 + 100 * 300 / 500) / 2)
    assert (error["n"], error["average"]) == (2, "per_image")
    is_background = scores["class"] == "background"
    assert set(scores[is_background]["metric"]) == set(stream_scores.PIXEL_METRICS)


def test_weak_classes_are_scored_on_exact_slices_and_on_all():
    quality = ["exact", "weak", "exact", "weak", "weak", "exact", "weak"]
    pixels, truth, found = slices(quality)
    scores = stream_scores.segmentation(pixels)
    exact = np.array(quality) == "exact"
    for index, name in ((1, "ggo"), (0, "background"), (3, "effusion")):
        key = of_class(name, "dice") | POOLED
        assert value(scores, **key, labels="exact") == pytest.approx(
            dice_of(truth[exact] == index, found[exact] == index)
        )
        assert value(scores, **key, labels="all") == pytest.approx(
            dice_of(truth == index, found == index)
        )
    # The extent is exact on every slice, so it is scored on all of them, once.
    lesion = scores[(scores["class"] == "lesion") & (scores["average"] == "pooled")]
    assert lesion["labels"].tolist() == ["exact", "exact"]
    key = of_class("lesion", "dice") | POOLED
    assert value(scores, **key) == pytest.approx(dice_of(truth > 0, found > 0))
    assert set(lesion["n"]) == {7}
    for scope, chosen in (("exact", exact), ("all", np.ones(7, bool))):
        ious = [iou_of(truth[chosen] == i, found[chosen] == i) for i in range(4)]
        mean = value(scores, **of_class("mean", "iou"), labels=scope)
        assert mean == pytest.approx(np.mean(ious))


@pytest.mark.parametrize(("patients", "has_limits"), [(2, False), (3, True)])
def test_a_class_of_fewer_than_three_patients_gets_no_limits(patients, has_limits):
    rng = np.random.default_rng(7)
    truth, found = rng.integers(0, 4, (2, 8, 9, 9))
    truth[patients:][truth[patients:] == 2] = 0
    pixels = outlines.pixel_table(rows_of(["exact"] * 8), truth, found, ALL)
    scores = stream_scores.segmentation(pixels)
    dice = scores[scores["metric"] == "dice"].set_index("class")
    assert dice.loc["consolidation", "low"].notna().all() == has_limits
    assert dice.loc["ggo", "low"].notna().all()
    assert dice.loc["consolidation", "value"].notna().all()


# --- from a network to measures -------------------------------------------------------------------


class Reader:
    """A network that reads each pixel's class from its gray value: 0-63 the first, and so on."""

    def __init__(self, classes, width):
        self.classes, self.width, self.batches = classes, width, []

    def predict_on_batch(self, inputs):
        self.batches.append(len(inputs))
        said = np.minimum(inputs[..., 0] // self.width, self.classes - 1)
        sure = 1 + inputs[..., :1].astype(np.float32) % self.width / self.width
        return sure * np.eye(self.classes, dtype=np.float32)[said]


def stream_data(n, size, top=4):
    """Random slices whose subsets alternate, and random masks."""
    rng = np.random.default_rng(8)
    images = rng.integers(0, 256, (n, size, size), dtype=np.uint8)
    masks = rng.integers(0, top, (n, size, size), dtype=np.uint8)
    subsets = [("train", "test", "validation", "unused")[i % 4] for i in range(n)]
    return StreamData(rows_of(["exact"] * n, subsets, lung_pixels=np.arange(n) + 9), images, masks)


@pytest.mark.parametrize("model", ["unet", "deeplab"])
@pytest.mark.parametrize(("stream", "classes"), [("all", 4), ("effusion", 2)])
def test_outlines_are_those_of_the_network_batch_by_batch_in_order(model, stream, classes):
    n, size = 19, 13
    data = stream_data(n, size)
    network = Reader(classes, 256 // classes)
    settings = stream_settings(stream=stream, model=model, init="random", image_size=size)
    found = outlines.outline(
        predict_stream.probabilities(network, data.images, settings), data.rows, data.masks, stream
    )
    assert network.batches == [8, 8, 3]
    index = data.images // (256 // classes)
    said = index if stream == "all" else np.where(index == 1, 3, 0)
    names = scored_classes(stream)
    assert len(found.pixels) == n * len(names)
    for name, labels in names.items():
        part = found.pixels[found.pixels["class"] == name]
        assert part["image_id"].tolist() == data.rows["image_id"].tolist()
        assert part["lung_pixels"].tolist() == data.rows["lung_pixels"].tolist()
        is_true, is_found = np.isin(data.masks, labels), np.isin(said, labels)
        for column, hit in (
            ("tp", is_true & is_found),
            ("fp", ~is_true & is_found),
            ("fn", is_true & ~is_found),
            ("tn", ~is_true & ~is_found),
        ):
            assert part[column].tolist() == hit.sum(axis=(1, 2)).tolist()
    watched = data.rows["subset"].isin(("test", "validation")).to_numpy()
    assert found.rows["image_id"].tolist() == data.rows[watched]["image_id"].tolist()
    assert found.rows.index.tolist() == list(range(watched.sum()))
    np.testing.assert_array_equal(found.predicted, said[watched])
    # The stored probability is one minus the background's.
    logits = network.predict_on_batch(data.images[watched][..., None])
    shares = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    assert found.probability.dtype == np.uint8
    np.testing.assert_allclose(found.probability, 255 * (1 - shares[..., 0]), atol=0.51)
    np.testing.assert_array_equal(found.positions, np.flatnonzero(watched))
    np.testing.assert_array_equal(found.truth, data.masks[watched])


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
        is_true, is_found = np.isin(np.stack(truth), members), np.isin(labels, members)
        assert part["tp"].tolist() == (is_true & is_found).sum(axis=(1, 2)).tolist()
        assert part["fn"].tolist() == (is_true & ~is_found).sum(axis=(1, 2)).tolist()
    assert table[table["class"] == "lesion"]["hd95"].notna().all()
    assert table[["lung_pixels", "dice_thresholds"]].isna().all(axis=None)
    scores = stream_scores.segmentation(table)
    assert not {"volume_error", "dice_thresholds"} & set(scores["metric"])
    assert one(scores, **of_class("lesion", "dice"), **PER_IMAGE)["n"] == len(frame)
    kept = rows["image_id"] != names[0]  # a profile with fewer images
    fewer = replace(scans, manifest=rows[kept])
    part = outlines.of_published(PublishedMasks(names, labels), fewer)
    assert set(part["image_id"]) == set(names) - {names[0]}
    with pytest.raises(DataError, match="none of their slices"):
        outlines.of_published(PublishedMasks(names, labels), replace(scans, manifest=rows[:0]))
