"""Body, surroundings and air-holding lung of an axial CT slice in any gray scale.

One threshold between what holds air and what is dense is found by Otsu's method, so neither the
window nor the contrast of the picture matters. `gray_scale` reads its landmarks in these parts, and
`lung_field` completes the lungs.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

#: Longest side that a slice is reduced or enlarged to.
SIDE = 256
#: Radius in pixels of the opening that takes table, tubes and clothing off the skin, and of the
#: closing over fat that equalised contrast makes as dark as lung.
OPENING, CLOSING = 2, 4
#: Where more than this share of the picture's edge is dense, the edge cuts the chest.
CUT = 0.4
#: Air that touches the picture's edge along more than this, in roots of its area, is outside the
#: body; a lung that the edge cuts touches it along less.
CONTACT = 2.0
#: Dark rim of the skin, blurred by the surrounding air; share of the root of the body's area.
RIM = 0.02
#: How far from lung to threshold the core of lung reaches, and its smallest piece, a share of the
#: body: fat of equalised contrast is no darker than the rest.
CORE, SMALLEST = 0.45, 0.001
#: Standard deviation in gray values that histograms are smoothed with.
SMOOTHING = 3.0


@dataclass(frozen=True)
class Parts:
    """A slice at working size, its longest side `SIDE`; all arrays are (height, width)."""

    gray: np.ndarray  # uint8, a little smoothed
    threshold: float  # gray value above which a pixel is dense
    padding: np.ndarray  # bool, black around the circle or the rectangle that was scanned
    body: np.ndarray  # bool, the body with the air inside
    depth: np.ndarray  # from the skin in roots of the body's area; the picture's edge is no skin
    core: np.ndarray  # bool, what is surely lung (or bowel gas): pieces almost as dark as `lung`
    lung: float  # most frequent gray value of the darker lung; nan without any

    @property
    def area(self) -> int:
        """Area of the body in pixels."""
        return int(np.count_nonzero(self.body))

    @property
    def solid(self) -> np.ndarray:
        """What holds no air, without the blurred edge beside air: bool (height, width)."""
        return self.body & (distance(self.gray <= self.threshold) > 2)

    @property
    def scale(self) -> float:
        """Root of the body's area in pixels."""
        return float(np.sqrt(self.area))


def parts(gray: np.ndarray) -> Parts:
    """Find the parts of a uint8 slice (height, width)."""
    factor = SIDE / max(gray.shape)
    size = tuple(max(8, round(length * factor)) for length in gray.shape[::-1])
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    small = cv2.resize(gray, size, interpolation=how)
    smooth = cv2.GaussianBlur(cv2.medianBlur(small, 3), (0, 0), 1.0)
    numbers, areas = pieces(small == 0)
    is_padding = np.bincount(_edge(numbers), minlength=len(areas)) > 0
    padding = (is_padding & (areas > SIDE // 8))[numbers]
    known = smooth[~padding]
    threshold = cv2.threshold(known, 0, 255, cv2.THRESH_OTSU)[0] if known.size else 255.0
    body = _body((smooth > threshold) & ~padding)
    depth = cv2.distanceTransform(
        np.pad(body, 1, constant_values=True).astype(np.uint8), cv2.DIST_L2, 5
    )[1:-1, 1:-1] / max(1.0, np.sqrt(np.count_nonzero(body)))
    core, lung = _core(smooth, threshold, body & (depth > RIM), SMALLEST * np.count_nonzero(body))
    return Parts(smooth, threshold, padding, body, depth, core, lung)


def pieces(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Connected pieces: numbers (height, width), 0 elsewhere, and areas by number, 0 for 0."""
    _, numbers, statistics, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=4
    )
    areas = statistics[:, cv2.CC_STAT_AREA]
    areas[0] = 0
    return numbers, areas


def distance(mask: np.ndarray) -> np.ndarray:
    """Distance of each pixel from a mask in pixels; infinite from an empty one."""
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)


def hull(mask: np.ndarray) -> np.ndarray:
    """Convex hull of all pixels of a mask together."""
    filled = np.zeros(mask.shape, np.uint8)
    if mask.any():
        cv2.fillConvexPoly(filled, cv2.convexHull(cv2.findNonZero(mask.astype(np.uint8))), 1)
    return filled > 0


def closed(mask: np.ndarray, radius: float) -> np.ndarray:
    """Closing with a disk; the picture's edge does not count as a wall."""
    rim = int(radius) + 2
    near = distance(np.pad(mask, rim)) <= radius
    return (distance(~near) > radius)[rim:-rim, rim:-rim] | mask


def middle(aerated: np.ndarray, body: np.ndarray) -> int:
    """Column between the lungs: the one with least air within the middle quarter of the body."""
    columns = np.flatnonzero(body.any(0))
    if not len(columns):
        return body.shape[1] // 2
    left, right = columns[[0, -1]]
    start, stop = left + (right - left) * 3 // 8, left + (right - left) * 5 // 8 + 1
    air = aerated.sum(0, dtype=np.float64)[None]
    # Smoothed, since lungs that touch in front are joined along a slanted line.
    return int(start + np.argmin(cv2.blur(air, (max(3, body.shape[1] // 40), 1))[0, start:stop]))


def disk(radius: int) -> np.ndarray:
    """Structuring element of OpenCV's morphology."""
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)


def histogram(values: np.ndarray, smoothing: float = SMOOTHING) -> np.ndarray:
    """How often each of the 256 gray values occurs, smoothed with a Gaussian: float64 (256,)."""
    counts = np.bincount(values, minlength=256).astype(np.float64)[None]
    return cv2.GaussianBlur(counts, (0, 0), smoothing)[0]


def mode(values: np.ndarray) -> float:
    """Most frequent of some gray values, smoothed for that; nan without any."""
    return float(np.argmax(histogram(values))) if values.size else np.nan


def _edge(image: np.ndarray) -> np.ndarray:
    return np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])


def _body(dense: np.ndarray) -> np.ndarray:
    """All but the air around the largest dense piece, or around all if the edge cuts the chest."""
    opened = cv2.morphologyEx(dense.astype(np.uint8), cv2.MORPH_OPEN, disk(OPENING))
    numbers, areas = pieces(opened)
    is_wall = areas > 0 if _edge(dense).mean() > CUT else np.arange(len(areas)) == np.argmax(areas)
    is_wall[0] = False
    numbers, areas = pieces(~closed(is_wall[numbers], CLOSING))
    contact = np.bincount(_edge(numbers), minlength=len(areas))
    is_outside = contact > CONTACT * np.sqrt(areas)
    ends = np.r_[:OPENING, -OPENING:0]
    is_outside[numbers[np.ix_(ends, ends)]] = True
    is_outside[0] = False
    return ~is_outside[numbers]


def _core(
    smooth: np.ndarray, threshold: float, inside: np.ndarray, smallest: float
) -> tuple[np.ndarray, float]:
    dark = inside & (smooth <= threshold)
    values = smooth[dark]
    if values.size < smallest or not values.size:
        return np.zeros_like(dark), np.nan
    # Above the middle there is more disease, or fat, than healthy lung.
    middle = (np.quantile(values, 0.02) + threshold) / 2
    lung = mode(values[values <= middle])
    numbers, areas = pieces(dark & (smooth <= lung + CORE * (threshold - lung)))
    return ((areas >= max(1, smallest)) & (areas > 0))[numbers], lung
