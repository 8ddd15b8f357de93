"""The readers on real scans: the manifest and the masks that the project's numbers rest on."""

import importlib
import zlib

import cv2
import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from covid_utils import paths
from covid_utils.data import collection, guard, readers
from covid_utils.data.manifest import saved_manifest
from covid_utils.data.readers import medseg
from covid_utils.data.similarity import same_pictures
from covid_utils.registry import EXTERNAL, EXTERNAL_SETS

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def slices():
    rows = saved_manifest("sample")
    return rows[rows["dataset"] == "medseg"]


@pytest.fixture(scope="module")
def masks(real_data, slices):
    return {row.image_id: readers.load_mask(real_data, row) for row in slices.itertuples()}


def test_the_readers_give_the_manifest_that_the_committed_numbers_rest_on(real_data, monkeypatch):
    """Lungs and gray scale are found in one of ten CT slices, as they take longest."""
    build = importlib.import_module("covid_utils.data.readers.build")
    measure = build._measure

    def some(path, source, row):
        is_chosen = zlib.crc32(f"{path.name}{row['frame']}".encode()) % 10 == 0
        return measure(path, source, row if is_chosen else row | {"modality": "not now"})

    monkeypatch.setattr(build, "_measure", some)
    reading = readers.read_all(real_data)
    rows = collection.stand_ins(reading.rows, real_data)
    sample = saved_manifest("sample").drop(columns="subset")
    is_left_out = rows["modality"].eq("CT") & rows["field"].eq("")
    assert 80 < (rows["modality"].eq("CT") & ~is_left_out).sum() < 200
    for table in (rows, sample):
        table.loc[is_left_out, ["lungs", "field", "gray"]] = ""
    # The hash may differ by a bit on another processor.
    assert_frame_equal(rows.drop(columns="phash"), sample.drop(columns="phash"))
    pairs = same_pictures(rows["phash"].tolist()).tolist()
    assert pairs == same_pictures(sample["phash"].tolist()).tolist()
    skipped = pd.read_csv(paths.results("sample") / "data" / "skipped.csv")
    assert_frame_equal(reading.problems, skipped[skipped["dataset"] != "nodules"])


def test_medseg_notes_and_counted_pixels(real_data, masks):
    subsets = medseg.infnet_subset(real_data)
    assert list(subsets) == list(masks)
    values = list(subsets.values())
    assert [values.count(name) for name in ("train", "test", "")] == [50, 48, 2]
    columns = ["ggo_px", "consolidation_px", "effusion_px"]
    table = guard.table(real_data / "medseg" / "slices.csv", columns)
    counted = [np.bincount(mask.ravel(), minlength=4)[1:] for mask in masks.values()]
    assert np.array_equal(counted, table[columns].astype(int))


def test_medseg_masks_are_turned_like_their_images(real_data, slices, masks):
    """Ground-glass is of one gray; a mask turned or mirrored would mix in air, lung and bone."""
    images = [readers.load_image(real_data, row) for row in slices.itertuples()]
    spread = {}
    for mirrored in (False, True):
        for turns in range(4):
            turned = [np.rot90(mask.T if mirrored else mask, turns) for mask in masks.values()]
            gray = [image[mask == 1] for image, mask in zip(images, turned, strict=True)]
            spread[mirrored, turns] = np.concatenate(gray).std()
    right = spread.pop((False, 0))
    assert right < 0.7 * min(spread.values())


def test_medseg_published_segmentations_reach_the_dice_that_is_told(real_data, masks):
    published = medseg.published_predictions(real_data)
    assert published.labels.shape == (270, 512, 512)
    assert set(published.image_id) == set(masks)
    pairs = zip(published.image_id, published.labels, strict=True)
    joint = [4 * masks[image_id] + labels for image_id, labels in pairs]
    pixels = np.array([np.bincount(both.ravel(), minlength=16).reshape(4, 4) for both in joint])
    inside = pixels[:, 1:, 1:].sum((1, 2))
    sizes = pixels[:, 1:].sum((1, 2)) + pixels[:, :, 1:].sum((1, 2))
    assert np.mean(2 * inside / sizes) == pytest.approx(0.513, abs=5e-4)
    assert 2 * inside.sum() / sizes.sum() == pytest.approx(0.590, abs=5e-4)
    # Each colour was given the right name: where both see a lesion, they call it the same.
    lesions = pixels.sum(0)[1:, 1:]
    assert (np.diag(lesions) > 0.8 * lesions.sum(1)).all()


def test_lidc_masks_agree_with_labels_and_lie_on_the_nodule(real_data):
    rows = list(readers.read("lidc-idri", real_data).rows.itertuples())
    masks = [readers.load_mask(real_data, row) for row in rows]
    assert [mask.any() for mask in masks] == [row.label == "nodule" for row in rows]
    largest = int(np.argmax([mask.sum() for mask in masks]))
    image, mask = readers.load_image(real_data, rows[largest]), masks[largest]
    around = cv2.dilate(mask, np.ones((9, 9), np.uint8)) - mask
    assert np.median(image[mask == 1]) > 200
    assert np.median(image[around == 1]) < 150


def test_external_masks_lie_in_the_lungs_and_the_slices_train_nothing(real_data):
    rows = saved_manifest("sample")
    rows = rows[rows["dataset"].isin(EXTERNAL_SETS)]
    assert set(rows["subset"]) == {EXTERNAL}
    assert rows.groupby("patient_id").size().tolist() == [20] * 9
    inside = [
        (readers.load_mask(real_data, row) > 0) & readers.load_lungs(real_data, row)
        for row in rows.itertuples()
    ]
    whole = [readers.load_mask(real_data, row) > 0 for row in rows.itertuples()]
    assert np.sum(inside) > 0.95 * np.sum(whole)
