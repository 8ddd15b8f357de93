"""The readers on real scans: the counts that the project's numbers rest on."""

import cv2
import numpy as np
import pytest

from covid_utils.data import guard, readers
from covid_utils.data.manifest import FRONTAL
from covid_utils.data.readers import medseg

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def slices(real_data):
    return readers.read("medseg", real_data).rows


@pytest.fixture(scope="module")
def masks(real_data, slices):
    return {row.image_id: readers.load_mask(real_data, row) for row in slices.itertuples()}


@pytest.fixture(scope="module")
def nodule_slices(real_data):
    return readers.read("lidc-idri", real_data).rows


@pytest.mark.parametrize(
    ("name", "counts"),
    {
        "chest_xray": {"bacterial": 742, "normal": 734, "viral": 648},
        "nih-adult": {"normal": 400, "pneumonia": 200},
        "covid-ct": {"covid": 349, "non_covid": 397},
        "medseg": {"covid": 100},
        "lidc-idri": {"no_nodule": 26, "nodule": 9},
    }.items(),
)
def test_images_of_each_label(real_data, name, counts):
    reading = readers.read(name, real_data)
    assert reading.rows["label"].value_counts().to_dict() == counts
    assert reading.problems.empty
    for row in reading.rows.head(2).itertuples():
        assert readers.load_image(real_data, row).shape == (row.height, row.width)


def test_image_collection(real_data):
    rows, problems = readers.read("covid-chestxray-dataset", real_data)
    counts = problems["problem"].value_counts().to_dict()
    assert counts == {"missing": 35, "unreferenced": 13, "repeated": 5}
    assert len(rows) == 716
    assert rows.groupby("path")["patient_id"].nunique().max() == 1
    assert rows["image_id"].str.endswith("@2").sum() == 5
    covid = rows[(rows["label"] == "covid") & (rows["modality"] == "X-ray")]
    assert (len(covid), covid["patient_id"].nunique()) == (451, 258)
    assert covid["view"].isin(FRONTAL).sum() == 427


def test_patients_of_sets_without_a_table(real_data, nodule_slices):
    rows = readers.read("nih-adult", real_data).rows
    assert rows["patient_id"].nunique() < len(rows)
    rows = readers.read("covid-ct", real_data).rows
    groups = rows.loc[rows["label"] == "covid", "patient_id"]
    assert not groups.str.contains(r"%|-p\d+-").any()
    assert nodule_slices["patient_id"].unique().tolist() == ["lidc-idri/LIDC-IDRI-0001"]


def test_medseg_notes_and_counted_pixels(real_data, slices, masks):
    assert slices["label_quality"].value_counts().to_dict() == {"weak": 80, "exact": 20}
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


def test_lidc_masks_agree_with_labels_and_lie_on_the_nodule(real_data, nodule_slices):
    for row in nodule_slices.itertuples():
        mask = readers.load_mask(real_data, row)
        assert mask.any() == (row.label == "nodule")
    largest = max(
        (row for row in nodule_slices.itertuples() if row.label == "nodule"),
        key=lambda row: readers.load_mask(real_data, row).sum(),
    )
    image, mask = (load(real_data, largest) for load in (readers.load_image, readers.load_mask))
    around = cv2.dilate(mask, np.ones((9, 9), np.uint8)) - mask
    assert np.median(image[mask == 1]) > 200
    assert np.median(image[around == 1]) < 150
