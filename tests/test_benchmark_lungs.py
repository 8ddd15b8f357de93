"""The rough lung field of the benchmark on drawn slices; real ones are held by the manifest."""

import cv2
import numpy as np
import pytest
from builders import dice_of as overlap

from covid_utils.data.benchmark_lungs import denser_than_healthy, rough_field
from covid_utils.data.images import MARGIN, box

AIR, LUNG, FLESH, FAT = 59, 80, 236, 213


def ellipse(shape, centre, axes):
    drawn = np.zeros(shape, np.uint8)
    cv2.ellipse(drawn, centre, axes, 0, 0, 360, 1, -1)
    return drawn > 0


def chest(shape=(256, 256)):
    """A slice with two lungs, airway and table; and where the lungs are."""
    lungs = ellipse(shape, (75, 128), (36, 60)) | ellipse(shape, (181, 128), (36, 60))
    gray = np.full(shape, AIR, np.uint8)
    gray[ellipse(shape, (128, 128), (115, 90))] = FAT
    gray[ellipse(shape, (128, 128), (110, 85))] = FLESH
    gray[lungs] = LUNG
    gray[ellipse(shape, (128, 100), (7, 8))] = AIR
    gray[235:238] = FLESH
    return gray, lungs


def test_both_lungs_are_found_with_a_dense_lesion_and_without_airway_and_surroundings():
    gray, lungs = chest()
    gray[ellipse(gray.shape, (60, 150), (12, 15)) & lungs] = FLESH
    field = rough_field(gray)
    assert field.dtype == bool
    assert overlap(field, lungs) > 0.95
    assert not field[100, 128]
    assert not field[:20].any()
    assert not field[230:].any()
    # Lungs that a crop cuts at the sides stay, and noise does not matter.
    assert overlap(rough_field(gray[50:206, 45:211]), lungs[50:206, 45:211]) > 0.93
    noise = np.random.default_rng(1).normal(0, 20, gray.shape)
    assert overlap(rough_field(np.clip(gray + noise, 0, 255).astype(np.uint8)), lungs) > 0.93


def test_the_box_is_the_lungs_square_with_more_room_behind_them():
    field = np.zeros((200, 240), bool)
    field[60:110, 80:180] = True
    top, left, side = box(field)
    margin = MARGIN * 100
    assert side == round(100 + 2 * margin)
    assert left + side / 2 == pytest.approx(130, abs=1)
    # Of the height, one margin more below than above.
    assert top + side / 2 == pytest.approx(85 + margin / 2, abs=1)
    field[:150, :150] = True
    assert box(field)[:2] == (0, 0)
    assert box(np.zeros_like(field)) == (0, 0, 200)


@pytest.mark.parametrize("level", [75, LUNG, 120])
def test_dense_is_what_is_denser_than_the_slices_own_healthy_lung(level):
    gray, lungs = chest()
    gray[lungs] = level
    lesion = ellipse(gray.shape, (60, 150), (12, 15)) & lungs
    haze = ellipse(gray.shape, (181, 128), (20, 30))
    gray[lesion], gray[haze] = level + 30, level + 10
    gray[128, 75] = FLESH  # a speck does not count
    dense = denser_than_healthy(gray, 16)
    assert not dense[120:136, 73:78].any()
    assert overlap(dense & lungs, lesion) > 0.9
    assert dense[gray == FLESH].mean() > 0.98
    assert dense[gray == AIR].mean() < 0.02  # their rim only
    assert overlap(denser_than_healthy(gray, 5) & lungs, lesion | haze) > 0.9


@pytest.mark.parametrize(("value", "share"), [(0, 0), (AIR, 0), (FLESH, 1), (255, 1)])
def test_without_lungs_there_is_no_field_and_only_tissue_is_dense(value, share):
    gray = np.full((64, 80), value, np.uint8)
    assert not rough_field(gray).any()
    assert denser_than_healthy(gray, 16).mean() == share
