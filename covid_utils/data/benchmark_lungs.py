"""The rough lung field of the benchmark: of slices in the lung window, from gray values alone.

There are two finders of lungs. The benchmark's networks were trained on crops around this one, so
its field stays as it is: another would mean training again and committing new results. It expects
fixed gray values and the front of the chest on top; the hull of each lung adds lesions and vessels,
but cuts off consolidation right at the back and takes in a part of the heart. `lung_field` is the
better one, for slices of any hospital in any gray scale; scans of one's own are read with it.
"""

from __future__ import annotations

import cv2
import numpy as np

from covid_utils.data.body import disk, distance, hull, middle, pieces

#: Gray value from which tissue counts as dense: -185 HU, above ground-glass and below fat (-100).
DENSE = 198
#: Gray value up to which a small pocket is pure air (-962 HU): airway, stomach or bowel, not lung.
PURE_AIR = 66
#: Smallest piece of lung, and largest pocket that can be an airway or bowel; shares of the body.
SMALLEST, LARGEST_POCKET = 0.004, 0.03
#: How far the hull may lead away from aerated lung, and how far the field is grown, to take in the
#: blurred edge; shares of the root of the body's area.
REACH, EDGE = 0.08, 0.008
#: Share of a slice's aerated pixels that are taken for healthy lung: its darkest. Even in an ill
#: lung some is left.
HEALTHY = 0.1


def rough_field(gray: np.ndarray) -> np.ndarray:
    """Lung field of an axial CT slice, boolean (height, width); all False without aerated lung.

    ``gray`` is uint8 for -1350 to 150 HU, the front of the chest on top, before any change of
    contrast. Lungs may touch the sides of a cropped slice; air that touches its top, its bottom or
    a corner is taken for air outside the body.
    """
    smooth = cv2.medianBlur(gray, 5)
    body = _body(smooth)
    scale = float(np.sqrt(np.count_nonzero(body)))
    aerated = _aerated(smooth, body)
    field = np.zeros(gray.shape, bool)
    column = middle(aerated, body)
    is_left = np.arange(gray.shape[1]) < column
    for lung in (aerated & is_left, aerated & ~is_left):
        field |= hull(lung) & (distance(lung) <= REACH * scale)
    return (distance(field) <= EDGE * scale) & body


def denser_than_healthy(gray: np.ndarray, margin: float) -> np.ndarray:
    """Where a slice is denser than its own healthy lung, as every manifestation is.

    Healthy lung is the quantile `HEALTHY` of what is neither pure air nor tissue, whatever the
    scanner and the breath; where there is none, only tissue is denser. The slice may be cropped
    and resized; ``margin`` is in gray values of 5.9 HU.
    """
    smooth = cv2.medianBlur(gray, 3)
    aerated = smooth[(smooth >= PURE_AIR) & (smooth < DENSE)]
    return smooth > (np.quantile(aerated, HEALTHY) if aerated.size else DENSE) + margin


def _body(smooth: np.ndarray) -> np.ndarray:
    """Body with the air inside: all but the air around the largest dense piece."""
    height, width = smooth.shape
    # Opening takes the table, tubes and lettering off the skin.
    radius = max(1, round(min(height, width) / 170))
    dense = cv2.morphologyEx((smooth >= DENSE).astype(np.uint8), cv2.MORPH_OPEN, disk(radius))
    numbers, areas = pieces(dense)
    wall = numbers == np.argmax(areas) if areas.any() else np.zeros(smooth.shape, bool)
    numbers, areas = pieces(~wall)
    corner = max(1, round(min(height, width) / 50))
    is_outside = np.zeros(len(areas), bool)
    # Lungs that a tight crop cuts lie at its left and right, far from the corners.
    is_outside[numbers[[0, -1]]] = True
    ends = np.r_[:corner, -corner:0]
    is_outside[numbers[np.ix_(ends, ends)]] = True
    is_outside[0] = False
    return ~is_outside[numbers]


def _aerated(smooth: np.ndarray, body: np.ndarray) -> np.ndarray:
    """Air-holding lung inside the body, without airway, bowel gas and specks."""
    numbers, areas = pieces(body & (smooth < DENSE))
    size = areas / max(1, np.count_nonzero(body))
    is_lung = size >= SMALLEST
    for piece in np.flatnonzero(is_lung & (size < LARGEST_POCKET)):
        is_lung[piece] = np.median(smooth[numbers == piece]) >= PURE_AIR
    return is_lung[numbers]
