"""Landmarks of the gray scale on phantom slices, whose Hounsfield units are known."""

import cv2
import numpy as np
import pytest
from builders import slices_of_a_chest

from covid_utils.data import gray_scale, readers
from covid_utils.data.gray_scale import CANONICAL, HOUNSFIELD, LUNG_WINDOW, Landmarks
from covid_utils.data.images import Preprocessing, preprocess
from covid_utils.data.readers.gray import to_uint8

#: HU that a landmark may be off.
CLOSE = 30


@pytest.fixture(scope="module")
def slices():
    return slices_of_a_chest(5)


def windowed(low, high):
    return lambda hu: to_uint8(hu, low, high)


def with_gamma(exponent):
    return lambda hu: np.rint(255 * (to_uint8(hu, -1350, 300) / 255) ** exponent).astype(np.uint8)


def equalised(clip, noise=0):
    def change(hu):
        grain = np.random.default_rng(1).normal(0, noise, hu.shape) if noise else 0
        gray = np.clip(to_uint8(hu, -1350, 300) + grain, 0, 255).astype(np.uint8)
        return cv2.createCLAHE(clip, (8, 8)).apply(gray) if clip else gray

    return change


CHANGES = {
    "canonical": windowed(*LUNG_WINDOW),
    "dark": windowed(-1024, 600),
    "bright": windowed(-1500, 100),
    "narrow": windowed(-1000, 200),
    "dark gamma": with_gamma(1.6),
    "bright gamma": with_gamma(0.6),
    "noise": equalised(0, 20),
    "CLAHE": equalised(2.0),
    "strong CLAHE": equalised(4.0),
    "noise and CLAHE": equalised(2.0, 8),
}


def missing_of(found):
    return [name for name in HOUNSFIELD if np.isnan(getattr(found, name))]


@pytest.mark.parametrize("change", CHANGES)
def test_landmarks_are_recovered_within_30_hu(slices, change):
    """By the median Hounsfield units of the pixels, of its kind, that have a landmark's gray."""
    missing = []
    for hu, lungs in slices:
        gray = CHANGES[change](hu)
        found = gray_scale.landmarks(gray)
        assert found.confidence >= 0.8
        missing += missing_of(found)
        smooth, seen = (
            cv2.GaussianBlur(cv2.medianBlur(image, 3), (0, 0), 1) for image in (hu, gray)
        )
        where = {
            "air": ~lungs & (smooth < -900),
            "lung": lungs & (smooth < -700),
            "fat": ~lungs & (smooth > -300),
        }
        where["tissue"] = where["fat"]
        expected = HOUNSFIELD | {"lung": np.median(smooth[where["lung"]])}
        for name in set(HOUNSFIELD) - set(missing_of(found)):
            like = where[name] & (np.abs(seen.astype(int) - getattr(found, name)) <= 3)
            # Lung is no single value: the quarter of it that is darkest to its middle.
            close = 2 * CLOSE if name == "lung" else CLOSE
            assert abs(np.median(smooth[like]) - expected[name]) <= close, name
    assert set(missing) <= ({"air", "fat"} if "CLAHE" in change or change == "noise" else {"fat"})
    assert len(missing) <= 2 * len(slices)


@pytest.mark.parametrize("change", ["dark", "bright", "narrow"])
def test_a_window_is_undone(slices, change):
    for hu, lungs in slices:
        wanted = to_uint8(hu, *LUNG_WINDOW)[lungs].astype(float)
        gray = CHANGES[change](hu)
        seen = gray_scale.landmarks(gray).curve[gray][lungs]
        assert np.abs(seen - wanted).mean() < 2  # 12 HU
    curve = gray_scale.landmarks(CHANGES[change](hu)).curve
    assert (np.diff(curve.astype(int)) >= 0).all()


def test_what_has_no_chest_has_no_landmarks_and_no_confidence():
    for value in (0, 90, 255):
        found = gray_scale.landmarks(np.full((64, 80), value, np.uint8))
        assert found.confidence < gray_scale.SURE
        assert {"air", "lung", "fat"} <= set(missing_of(found))
        assert np.array_equal(found.curve, np.arange(256))


def test_hounsfield_units_stay_as_they_are_to_the_last_value(slices, phantom):
    assert np.array_equal(CANONICAL.curve, np.arange(256))
    gray = to_uint8(slices[0][0], *LUNG_WINDOW)
    as_is, mapped = (Preprocessing(96, 0.0, gray=scale) for scale in ("as is", "landmarks"))
    assert np.array_equal(preprocess(gray, mapped, scale="HU"), preprocess(gray, as_is))
    for name, scale in (("medseg", {"HU"}), ("lidc-idri", {"HU"}), ("luna16", {"HU"})):
        assert set(readers.read(name, phantom).rows["gray"]) == scale
    figures = readers.read("covid-ct", phantom).rows["gray"]
    assert all(Landmarks.parse(text).confidence > 0.5 for text in figures)


def test_landmarks_stand_in_a_manifest_as_text():
    found = Landmarks(np.nan, 80.5, 210, 238, 0.9)
    assert str(found) == "- 80.5 210 238 0.9"
    assert str(Landmarks.parse(str(found))) == str(found)
    assert missing_of(found) == ["air"]
