"""Measures of a segmentation's slices, from a network's probabilities or from published masks."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from builders import ct_slices, dice_of, of_class, one, slice_rows, square, stream_settings
from scipy.special import softmax

from covid_utils.data import collection, readers
from covid_utils.data.labels import scored_classes
from covid_utils.data.readers import medseg
from covid_utils.data.readers.medseg import PublishedMasks
from covid_utils.errors import DataError
from covid_utils.evaluation import metrics, outlines, stream_scores
from covid_utils.training import predict_stream

ALL = scored_classes("all")


@pytest.mark.parametrize("size", [50, 100])
def test_the_distance_is_in_per_cent_of_the_slices_side(size):
    truth, found = square(10, 10, 20, size)[None], square(10, 14, 20, size)[None]
    table = outlines.pixel_table(slice_rows(["exact"]), truth, found, ALL).set_index("class")
    for name in ("ggo", "lesion"):
        assert table.loc[name, "hd95"] == pytest.approx(100 * 4 / size)
    # Neither of these is anywhere, and the background is no lesion with a contour.
    assert table.loc[["background", "consolidation", "effusion"], "hd95"].isna().all()


def swept(truth, probability):
    """Dice over 256 thresholds of the map stretched to 0-1, as a loop."""
    stretched = (probability - probability.min()) / np.ptp(probability)
    return np.mean([dice_of(truth, stretched >= k / 255) for k in range(256)])


@pytest.mark.parametrize("stream", ["all", "effusion", "nodule"])
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


class Reader:
    """A network that reads each pixel's class from its gray value: 0-63 the first, and so on."""

    def __init__(self, classes, width):
        self.classes, self.width, self.batches = classes, width, []

    def predict_on_batch(self, inputs):
        self.batches.append(len(inputs))
        said = np.minimum(inputs[..., 0] // self.width, self.classes - 1)
        sure = 1 + inputs[..., :1].astype(np.float32) % self.width / self.width
        return sure * np.eye(self.classes, dtype=np.float32)[said]


@pytest.mark.parametrize("model", ["unet", "deeplab"])
@pytest.mark.parametrize(("stream", "classes"), [("all", 4), ("effusion", 2)])
def test_outlines_are_those_of_the_network_batch_by_batch_in_order(model, stream, classes):
    n, size, rng = 19, 13, np.random.default_rng(8)
    images = rng.integers(0, 256, (n, size, size), dtype=np.uint8)
    masks = rng.integers(0, 4, (n, size, size), dtype=np.uint8)
    subsets = [("train", "test", "validation", "unused")[i % 4] for i in range(n)]
    rows = slice_rows(["exact"] * n, subsets, lung_pixels=np.arange(n) + 9)
    network = Reader(classes, 256 // classes)
    settings = stream_settings(stream=stream, model=model, init="random", image_size=size)
    chances = predict_stream.probabilities(network, images, settings)
    found = outlines.outline(chances, rows, masks, stream)
    assert network.batches == [8, 8, 3]
    index = images // (256 // classes)
    said = index if stream == "all" else np.where(index == 1, 3, 0)
    names = scored_classes(stream)
    assert len(found.pixels) == n * len(names)
    for name, labels in names.items():
        part = found.pixels[found.pixels["class"] == name]
        assert part["image_id"].tolist() == rows["image_id"].tolist()
        assert part["lung_pixels"].tolist() == rows["lung_pixels"].tolist()
        counts = metrics.count(np.isin(masks, labels), np.isin(said, labels), axis=(1, 2))
        np.testing.assert_array_equal(part[[*metrics.OUTCOMES]], counts)
    watched = rows["subset"].isin(("test", "validation")).to_numpy()
    assert found.rows["image_id"].tolist() == rows[watched]["image_id"].tolist()
    assert found.rows.index.tolist() == list(range(watched.sum()))
    np.testing.assert_array_equal(found.predicted, said[watched])
    # The stored probability is one minus the background's.
    shares = softmax(network.predict_on_batch(images[watched][..., None]), axis=-1)
    assert found.probability.dtype == np.uint8
    np.testing.assert_allclose(found.probability, 255 * (1 - shares[..., 0]), atol=0.51)
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
    assert table[table["class"] == "lesion"]["hd95"].notna().all()
    assert table[["lung_pixels", "dice_thresholds"]].isna().all(axis=None)
    scores = stream_scores.segmentation(table)
    assert not {"volume_error", "dice_thresholds"} & set(scores["metric"])
    assert one(scores, **of_class("lesion", "dice"), average="per_image")["n"] == len(frame)
    kept = rows["image_id"] != names[0]  # a profile with fewer images
    fewer = replace(scans, manifest=rows[kept])
    part = outlines.of_published(PublishedMasks(names, labels), fewer)
    assert set(part["image_id"]) == set(names) - {names[0]}
    with pytest.raises(DataError, match="none of their slices"):
        outlines.of_published(PublishedMasks(names, labels), replace(scans, manifest=rows[:0]))
