"""Landmarks of the gray scale on phantom slices, whose Hounsfield units are known."""

import numpy as np
import pytest

from chest_phantom.anatomy import build
from chest_phantom.ct import ct_slice
from chest_phantom.disease import infect
from covid_utils.data import gray_scale
from covid_utils.data.readers.gray import LUNG_WINDOW, to_uint8

#: HU that a landmark may be off.
CLOSE = 30


@pytest.fixture(scope="module")
def slices():
    """Four slices of a chest with mild disease, in Hounsfield units."""
    volume = infect(build(np.random.default_rng(5), 192), "covid", 0.3, 5)
    numbers = (np.linspace(0.4, 0.75, 4) * len(volume.hu)).astype(int)
    return [ct_slice(volume, number)[0] for number in numbers]


@pytest.mark.parametrize("window", [LUNG_WINDOW, (-1200, 300), (-1024, 600)])
def test_landmarks_are_recovered_whatever_the_window(slices, window):
    low, high = window
    for hounsfield in slices:
        found = gray_scale.landmarks(to_uint8(hounsfield, low, high))
        assert found.missing == ()
        assert found.confidence >= gray_scale.SURE
        for name in ("air", "fat", "tissue"):
            unit = low + getattr(found, name) * (high - low) / 255
            assert abs(unit - gray_scale.HOUNSFIELD[name]) <= CLOSE, name


def test_the_map_of_the_canonical_window_changes_nothing(slices):
    assert np.array_equal(gray_scale.CANONICAL.curve, np.arange(256))


def test_landmarks_stand_in_a_manifest_as_text():
    found = gray_scale.Landmarks(np.nan, 80.5, 210, 238, 0.9)
    assert str(found) == "- 80.5 210 238 0.9"
    assert str(gray_scale.Landmarks.parse(str(found))) == str(found)
    assert found.missing == ("air",)
