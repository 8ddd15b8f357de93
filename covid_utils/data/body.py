"""Body, surroundings and air-holding lung of an axial CT slice in any gray scale.

One threshold between what holds air and what is dense is found by Otsu's method, so neither the
window nor the contrast of the picture matters. `gray_scale` reads its landmarks in these parts, and
`lung_field` completes the lungs.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from skimage.filters import threshold_otsu

#: Longest side that a slice is reduced or enlarged to.
SIDE = 256
#: Radius in pixels of the opening that takes table, tubes and clothing off the skin.
OPENING = 2
#: Smallest piece of lung, as a share of the body.
SMALLEST = 0.004


@dataclass(frozen=True)
class Parts:
    """A slice at working size, its longest side `SIDE`; all masks are boolean (height, width).

    Attributes:
        gray: uint8, a little smoothed.
        threshold: Gray value above which a pixel is dense.
        padding: Black around the circle or the rectangle that was scanned.
        body: The body with the air inside.
        aerated: Air-holding lung in the body.
    """

    gray: np.ndarray
    threshold: float
    padding: np.ndarray
    body: np.ndarray
    aerated: np.ndarray

    @property
    def scale(self) -> float:
        """Root of the body's area in pixels."""
        return float(np.sqrt(np.count_nonzero(self.body)))


def parts(gray: np.ndarray) -> Parts:
    """Find the parts of a uint8 slice (height, width)."""
    factor = SIDE / max(gray.shape)
    size = tuple(max(8, round(length * factor)) for length in gray.shape[::-1])
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    small = cv2.resize(gray, size, interpolation=how)
    smooth = cv2.GaussianBlur(cv2.medianBlur(small, 3), (0, 0), 1.0)
    padding = _padding(small)
    known = smooth[~padding]
    threshold = float(threshold_otsu(known)) if known.size and np.ptp(known) else 255.0
    body = _body((smooth > threshold) & ~padding)
    aerated = _aerated(smooth, threshold, body)
    return Parts(smooth, threshold, padding, body, aerated)


def pieces(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Connected pieces: numbers (height, width), 0 elsewhere, and areas by number, 0 for 0."""
    _, numbers, statistics, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=4
    )
    areas = statistics[:, cv2.CC_STAT_AREA]
    areas[0] = 0
    return numbers, areas


def _padding(small: np.ndarray) -> np.ndarray:
    numbers, areas = pieces(small == 0)
    is_padding = np.zeros(len(areas), bool)
    for side in (numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1]):
        is_padding[side] = True
    return (is_padding & (areas > SIDE // 8))[numbers]


def _body(dense: np.ndarray) -> np.ndarray:
    """All but the air around the largest dense piece."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * OPENING + 1,) * 2)
    numbers, areas = pieces(cv2.morphologyEx(dense.astype(np.uint8), cv2.MORPH_OPEN, kernel))
    wall = numbers == np.argmax(areas) if areas.any() else np.zeros(dense.shape, bool)
    numbers, areas = pieces(~wall)
    is_outside = np.zeros(len(areas), bool)
    # Lungs that a tight crop cuts lie at its left and right, far from the corners.
    is_outside[numbers[[0, -1]]] = True
    ends = np.r_[:OPENING, -OPENING:0]
    is_outside[numbers[np.ix_(ends, ends)]] = True
    is_outside[0] = False
    return ~is_outside[numbers]


def _aerated(smooth: np.ndarray, threshold: float, body: np.ndarray) -> np.ndarray:
    """Dark pieces of the body that are large enough for lung, and not fat."""
    numbers, areas = pieces(body & (smooth <= threshold))
    is_lung = areas >= max(1, SMALLEST * np.count_nonzero(body))
    return is_lung[numbers]
