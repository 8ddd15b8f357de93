"""One colour, one mark and one name for each thing that a figure may show, everywhere.

No two things share a colour, so that what was learned in one figure holds in the next. Those that
can meet in one figure stay apart for people with any of the three kinds of colour blindness; a
test simulates them. Classes and manifestations start from the palette of Okabe and Ito (2008).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgb

#: Of text, axes and everything that is no category.
INK = "#222222"
CLASSES = {
    "covid": "#D55E00",
    "normal": "#0072B2",
    "viral": "#009E73",
    "bacterial": "#5A3A1A",
    "non_covid": "#7A4F5A",
}
MANIFESTATIONS = {
    "ggo": "#56B4E9",
    "consolidation": "#E69F00",
    # Darker than the palette's pink, which turns into the grey of soft tissue without red or green.
    "effusion": "#AA3399",
    "nodule": "#F0E442",
    "lesion": "#1E4620",
}
SUBSETS = {"train": "#303030", "validation": "#A68F49", "test": "#7A78F0"}
OUTCOMES = {"found": "#8EF06A", "missed": "#3B30D0", "false alarm": "#F53B43"}
ROLES = {"ours": "#005A5E", "others": "#8C8C8C", "paper": "#B5122E"}
COLOURS = CLASSES | MANIFESTATIONS | SUBSETS | OUTCOMES | ROLES
#: Names that can meet in one figure.
TOGETHER = (
    ("covid", "normal", "viral", "bacterial"),
    ("covid", "non_covid"),
    ("ggo", "consolidation", "effusion", "lesion"),
    # The phantom's sheet: edges of masks in CT, of opacities in X-rays.
    ("ggo", "consolidation", "effusion", "nodule", "covid", "viral", "bacterial"),
    tuple(SUBSETS),
    tuple(OUTCOMES),
    tuple(ROLES),
)
#: A second sign beside the colour: dashes of a subset's curve, and marks of points.
DASHES = {"train": "-", "validation": (0, (4, 1.2)), "test": (0, (1, 1))}
MARKS = ("o", "s", "^", "D", "v", "P", "X")
NAMES = {
    "covid": "COVID-19",
    "normal": "normal",
    "viral": "viral pneumonia",
    "bacterial": "bacterial pneumonia",
    "non_covid": "not COVID-19",
    "ggo": "ground-glass",
    "consolidation": "consolidation",
    "effusion": "pleural effusion",
    "nodule": "nodule",
    "lesion": "any lesion",
    "all": "all classes",
    "f1": "F1",
}
#: Mask labels of the CT segmentation set, in the colours of their manifestations.
LABEL_CLASSES = {1: "ggo", 2: "consolidation", 3: "effusion"}


def name_of(key: str) -> str:
    """What a key is called in a figure; keys that need no other word are their own name."""
    return NAMES.get(key, key)


def luminance(colour: str | Sequence[float]) -> float:
    """Relative luminance of WCAG 2, from 0 (black) to 1 (white)."""
    channels = np.array(to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def contrast(one: str | Sequence[float], other: str | Sequence[float]) -> float:
    """Contrast of WCAG 2, from 1 (none) to 21; text needs 4.5, a line or a mark 3."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def readable_on(colour: str | Sequence[float]) -> str:
    """Black or white, whichever can be read on a colour: one of them always has 4.5."""
    return max(("black", "white"), key=lambda ink: contrast(ink, colour))
