"""The lung field of an axial CT slice from anywhere: any gray scale, table in view, either way up.

Where `lungs` reads fixed gray values of the canonical lung window, this takes its thresholds from
the picture (`body`). Benchmark networks keep the crops of `lungs`, which they were trained on.
"""

from __future__ import annotations

import cv2
import numpy as np

from covid_utils.data import body, lungs

#: Wall of the chest that tells how dark fat is: depth below the skin, in roots of the body's area.
WALL = (0.02, 0.1)
#: Pixels that the wall has at least.
FEWEST = 300
#: Up to this spread of the wall's gray values (quartiles, in distances from lung to wall), contrast
#: was not equalised: then no fat is as dark as lung.
EVEN = 0.25
#: Smallest piece of lung without a core; a share of the body.
SMALLEST = 0.004
#: Airways: share of the body at most, and distance from the middle, in widths of the lungs.
AIRWAY, CENTRAL = 0.012, 0.12
#: Fat of equalised contrast: darkest tenth and median, from lung (0) to threshold (1).
FATTY = (0.3, 0.75)
#: Pieces that both lungs are told by, the area of these together, and how far others may lie from
#: their hull; shares of the body and of the root of its area.
LARGE, BOTH, NEAR = 0.03, 0.15, 0.02
#: Radius that closes the outline over vessels and lesions; share of the root of the body's area.
CLOSING = 0.04
#: Dents of the outline that are lesions at the chest wall: depth at most, as a share of the root of
#: the body's area; cosine between their way out and the way from the body's middle; part of their
#: way out that may lead to the midline.
DEPTH, OUTWARD, MEDIAL = 0.2, 0.3, 0.3

#: How far beyond the field a lesion may lie, since dense disease and effusion at its edge are no
#: lung by their gray: share of the side of a slice that is cropped to the field. Of the lesion
#: pixels of all 100 public slices 3.2 % lie further away, and 12 % of effusion.
GROWTH = 0.04


def find(gray: np.ndarray) -> str:
    """Top, left and side of `lungs.box` around the field, and its pixels, as in the manifest."""
    return place(field(gray))


def place(found: np.ndarray) -> str:
    """The same of a `field` that is known."""
    return " ".join(map(str, (*lungs.box(found), np.count_nonzero(found))))


def field(gray: np.ndarray) -> np.ndarray:
    """Lung field, boolean (height, width), of a uint8 slice; all False without aerated lung."""
    parts = body.parts(gray)
    completed = _completed(aerated(parts), parts).astype(np.float32)
    return cv2.resize(completed, gray.shape[::-1], interpolation=cv2.INTER_LINEAR) >= 0.5


def grown(found: np.ndarray) -> np.ndarray:
    """Where lesions may lie, boolean (side, side), in a slice cropped to a field, 0 or 1.

    Where no lung was found, that is everywhere.
    """
    if not found.any():
        return np.ones(found.shape, bool)
    return body.distance(found > 0) <= GROWTH * found.shape[0]


def aerated(parts: body.Parts) -> np.ndarray:
    """Air-holding lung, ground-glass included, without airways and fat: bool (height, width)."""
    if not parts.core.any():
        return parts.core
    limit, is_even = _limit(parts)
    inside = parts.body & (parts.depth > body.RIM)
    numbers, areas = body.pieces(inside & (parts.gray <= limit) | parts.core)
    is_lung = np.bincount(numbers[parts.core], minlength=len(areas)) > 0
    if is_even:
        is_lung |= areas >= SMALLEST * parts.area
    is_lung[0] = False
    columns = np.flatnonzero(parts.core.any(0))
    for piece in np.flatnonzero(is_lung & (areas < AIRWAY * parts.area)):
        aside = np.nonzero(numbers == piece)[1].mean() - columns[[0, -1]].mean()
        is_lung[piece] = abs(aside) >= CENTRAL * (1 + np.ptp(columns))
    if not is_even:
        is_lung = _without_fat(numbers, areas, is_lung, parts)
    return is_lung[numbers]


def _limit(parts: body.Parts) -> tuple[float, bool]:
    """Gray value up to which a pixel can hold air, and whether contrast is even.

    What holds some air is darker than all fat, unless equalised contrast makes fat darker in some
    places; then the threshold stands.
    """
    solid = parts.solid
    wall = solid & (parts.depth > WALL[0]) & (parts.depth < WALL[1])
    if np.count_nonzero(wall) < FEWEST:  # the picture's edge cuts it off
        wall = solid & (body.distance(_hull(parts.core)) > 3)
    if np.count_nonzero(wall) < FEWEST:
        return parts.threshold, False
    darkest, first, median, third = np.quantile(parts.gray[wall], [0.02, 0.25, 0.5, 0.75])
    limit = max(parts.threshold, min(darkest - 5, first - (third - first)))
    return limit, third - first < EVEN * (median - parts.lung)


def _without_fat(
    numbers: np.ndarray, areas: np.ndarray, is_lung: np.ndarray, parts: body.Parts
) -> np.ndarray:
    """Which pieces of lung stay where fat can be as dark: dark ones near the hull of the large."""
    is_lung = is_lung.copy()
    is_large = np.zeros_like(is_lung)
    for piece in np.flatnonzero(is_lung):
        gray = (parts.gray[numbers == piece] - parts.lung) / (parts.threshold - parts.lung)
        darkest, median = np.quantile(gray, [0.1, 0.5])
        is_lung[piece] = darkest <= FATTY[0] and median <= FATTY[1]
        is_large[piece] = is_lung[piece] and areas[piece] >= LARGE * parts.area and median <= 0.4
    large = is_large[numbers]
    if np.count_nonzero(large) >= BOTH * parts.area:
        near = body.distance(_hull(large)) <= NEAR * parts.scale
        inside = np.bincount(numbers[near], minlength=len(areas))
        is_lung &= 2 * inside >= areas
    return is_lung


def _completed(air: np.ndarray, parts: body.Parts) -> np.ndarray:
    """The lungs with the vessels and lesions that lie in them or between them and the wall."""
    field = np.zeros_like(air)
    rows, columns = np.nonzero(parts.body)
    middle = np.array([columns.mean(), rows.mean()]) if rows.size else np.zeros(2)
    cut = lungs.middle(air, parts.body)
    for side, lateral in ((slice(None, cut), -1), (slice(cut, None), 1)):
        lung = np.zeros_like(air)
        lung[:, side] = air[:, side]
        if lung.any():
            lung = body.closed(lung, CLOSING * parts.scale)
            field |= _without_dents(lung, middle, lateral, DEPTH * parts.scale)
    return body.closed(field & parts.body, 1.5) & parts.body


def _without_dents(
    lung: np.ndarray, middle: np.ndarray, lateral: int, deepest: float
) -> np.ndarray:
    """Fill the dents of a lung's outline that open to the chest wall, not to heart or liver.

    ``middle`` is the body's, as column and row; ``lateral`` is -1 for the lung at the left.
    """
    filled = lung.astype(np.uint8)
    outlines, _ = cv2.findContours(filled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for outline in outlines:
        hull = np.sort(cv2.convexHull(outline, returnPoints=False).ravel())[::-1]
        if len(outline) < 10 or len(hull) < 4:
            continue
        points = outline[:, 0].astype(np.float64)
        dents = cv2.convexityDefects(outline, hull[:, None])
        for start, end, inmost, depth in np.reshape(() if dents is None else dents, (-1, 4)):
            chord = points[end] - points[start]
            centre = (points[start] + points[end]) / 2
            out = np.array([chord[1], -chord[0]]) / np.linalg.norm(chord)
            out *= np.sign(out @ (centre - points[inmost])) or 1
            away = (centre - middle) / (np.linalg.norm(centre - middle) + 1e-9)
            is_costal = out @ away > OUTWARD and out[0] * lateral > -MEDIAL
            if is_costal and 1 <= depth / 256 <= deepest:
                last = end + 1 if start < end else end + 1 + len(outline)  # past the first point
                part = outline[np.arange(start, last) % len(outline)]
                cv2.fillPoly(filled, [part], 1)
    return filled > 0


def _hull(mask: np.ndarray) -> np.ndarray:
    hull = np.zeros(mask.shape, np.uint8)
    if mask.any():
        cv2.fillConvexPoly(hull, cv2.convexHull(cv2.findNonZero(mask.astype(np.uint8))), 1)
    return hull > 0
