"""The lung field of an axial CT slice, dense lesions included, from gray values alone.

Aerated lung is found by its gray value, and the convex hull of each lung adds the lesions and
vessels between. Consolidation that fills the back of a lung right to its edge is cut off by the
hull, and the hull takes in a part of the heart. The networks of the benchmark use this field, which
takes slices in the lung window; `lung_field` finds one in slices from anywhere.
"""

from __future__ import annotations

import cv2
import numpy as np

from covid_utils.data.body import disk, distance, hull, pieces

#: Gray value from which tissue counts as dense: -185 HU, above ground-glass and below fat (-100).
DENSE = 198
#: Gray value up to which a small pocket is pure air (-962 HU): airway, stomach or bowel, not lung.
PURE_AIR = 66
#: Smallest piece of lung, and largest pocket that can be an airway or bowel; shares of the body.
SMALLEST, LARGEST_POCKET = 0.004, 0.03
#: A field below this share of the slice is none: what else is dark and round.
LEAST_FIELD = 0.02
#: What `box` leaves around the field, and once more below it, where fluid gathers; shares of the
#: field's larger side.
MARGIN = 0.08
#: How far the hull may lead away from aerated lung, and how far the field is grown, to take in the
#: blurred edge; shares of the root of the body's area.
REACH, EDGE = 0.08, 0.008
#: Share of a slice's aerated pixels that are taken for healthy lung: its darkest. Even in an ill
#: lung some is left.
HEALTHY = 0.1


def place(field: np.ndarray) -> str:
    """Top, left and side of `box` around a lung field, and its pixels, as in the manifest."""
    return " ".join(map(str, (*box(field), np.count_nonzero(field))))


def lung_field(gray: np.ndarray) -> np.ndarray:
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


def box(field: np.ndarray) -> tuple[int, int, int]:
    """Top, left and side of the square around a lung field, with room for fluid behind the lungs.

    Fewer than 1 in 100,000 lesion pixels of all 100 public slices lie outside. Without lungs, it is
    the largest square from the top left.
    """
    most = min(field.shape)
    if np.count_nonzero(field) < LEAST_FIELD * field.size:
        return 0, 0, most
    rows, columns = np.flatnonzero(field.any(1)), np.flatnonzero(field.any(0))
    margin = MARGIN * (1 + max(np.ptp(rows), np.ptp(columns)))
    top, bottom = rows[0] - margin, rows[-1] + 1 + 2 * margin
    left, right = columns[0] - margin, columns[-1] + 1 + margin
    side = round(min(most, max(bottom - top, right - left)))
    starts = np.array([top + bottom - side, left + right - side]) / 2
    first, second = np.rint(np.clip(starts, 0, np.array(field.shape) - side)).astype(int).tolist()
    return first, second, side


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
