"""Colours that anyone can tell apart."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from skimage.color import deltaE_ciede2000, rgb2lab

from covid_utils import registry
from covid_utils.report import sheets

#: Machado, Oliveira and Fernandes 2009: colour vision without one kind of cone, in linear RGB.
VISION = {
    "all cones": np.eye(3),
    "no red cones": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "no green cones": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "no blue cones": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
#: CIEDE2000 between colours: 1 can just be seen side by side, 10 at a glance.
APART_IN_A_FIGURE, APART_ANYWHERE = 10, 15
OUTCOMES = ("found", "missed", "false alarm")
#: Names that can meet in one figure.
TOGETHER = (
    registry.RECOGNITION_CLASSES,
    registry.MULTIMODAL_CLASSES,
    (*registry.MANIFESTATIONS, "lesion"),
    (*registry.MANIFESTATIONS, "nodule"),  # the sheet of the phantom
    registry.SUBSETS,
    OUTCOMES,
    ("ours", "others", "paper"),
)


def seen(colour, vision):
    """CIE Lab of a colour as it looks with one kind of vision."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(VISION[vision]) @ linear, 0, 1)
    rgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return rgb2lab(rgb[None, None])[0, 0]


def distance(one, other, vision="all cones"):
    return float(deltaE_ciede2000(seen(one, vision), seen(other, vision)))


def test_no_colour_means_two_things():
    for one, other in itertools.combinations(registry.COLOURS, 2):
        apart = distance(registry.COLOURS[one], registry.COLOURS[other])
        assert apart >= APART_ANYWHERE, (one, other)


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("group", TOGETHER, ids=" ".join)
def test_what_meets_in_a_figure_can_be_told_apart_by_anyone(group, vision):
    for one, other in itertools.combinations(group, 2):
        apart = distance(registry.COLOURS[one], registry.COLOURS[other], vision)
        assert apart >= APART_IN_A_FIGURE, (one, other, apart)


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("gray", [30, 120, 210])
@pytest.mark.parametrize("group", [registry.MANIFESTATIONS, OUTCOMES])
def test_patches_on_a_scan_differ_from_gray_and_from_each_other(group, gray, vision):
    image, mask = np.full((9, 9), gray, np.uint8), np.ones((9, 9), np.uint8)
    mask[0] = 0
    fills, edges = [], []
    for name in group:
        shown = sheets.overlay(image, mask, {1: name})
        edges.append(shown[1, 4])
        fills.append(shown[5, 4])
        assert shown[1, 4] == pytest.approx(to_rgb(registry.COLOURS[name]))
        assert distance(shown[1, 4], shown[0, 4], vision) >= APART_IN_A_FIGURE
    for one, other in itertools.combinations(range(len(group)), 2):
        assert distance(edges[one], edges[other], vision) >= APART_IN_A_FIGURE
        assert distance(fills[one], fills[other], vision) >= APART_IN_A_FIGURE / 2
