"""The lung field of an axial CT slice from anywhere: any gray scale, table in view, either way up.

Its thresholds are taken from the picture (`body`). `benchmark_lungs` says why there are two.
"""

from __future__ import annotations

import cv2
import numpy as np

from covid_utils.data import body

#: Wall of the chest, where fat shows how dark it is: depth below the skin, in roots of the body's
#: area.
WALL = (0.02, 0.1)
#: Pixels that the wall has at least.
FEWEST = 300
#: Where the wall's darkest values are no further below its median than this part of the way to
#: lung, contrast was not equalised: then no fat is as dark as lung.
EVEN = 0.24
#: Smallest piece of lung without a core; a share of the body.
SMALLEST = 0.004
#: Airways: share of the hull of the lungs at most, and distance from their middle, in their widths.
AIRWAY, CENTRAL = 0.03, 0.12
#: Median depth of a lung below the skin at least, in roots of the body's area; else it is fat.
SKIN = 0.06
#: Fat of equalised contrast: darkest tenth and median at least, and median of a large lung at most,
#: from lung (0) to threshold (1).
FATTY = (0.3, 0.75, 0.4)
#: Pieces by which both lungs are recognised, the area of these together, and how far others may lie
#: from their hull; shares of the body and of the root of its area.
LARGE, BOTH, NEAR = 0.03, 0.15, 0.02
#: At the base: area of a crescent of lung at least, a share of the body; the part of its hull that
#: it fills at most, and that bowel fills at least.
CRESCENT, HOLLOW, ROUND = 0.004, 0.55, 0.66
#: Radius that closes the outline over vessels and lesions; share of the root of the body's area.
CLOSING = 0.04
#: Dents of the outline that are lesions at the chest wall: depth at most, as a share of the root of
#: the body's area; cosine between their way out and the way from the body's middle; part of their
#: way out that may lead to the midline.
DEPTH, OUTWARD, MEDIAL = 0.2, 0.3, 0.3

#: Edge of a lung that is blurred by the chest wall: distance from the wall and from what is darker
#: than halfway, in pixels.
BLURRED = (1.5, 3.0)
#: The back of a lung is where the other lung's is, and as deep below the skin: steps of the
#: half circle, first and last angle behind the side in degrees, and how much deeper fluid or
#: dense lung lets it begin, in roots of the body's area.
STEPS, BEHIND, THICK = 36, (15, 70), (0.04, 0.2)
#: Distance of the middle of the lungs from that of the body, in its widths, beyond which only one
#: lung is present.
ASIDE = 0.1
#: Depth of the back of a lung below the skin at most; where it is more, the skin is not in view.
DEEPEST = 0.3
#: Half the width of the band in which spine and breastbone lie, in widths of the lungs; distance
#: from the middle of their height, in heights, up to which no bone counts; weight of a table, and
#: its fewest pixels; and score below which a slice counts as upside down.
MIDLINE, BETWEEN, TABLE, TABLE_PIXELS, TURNED = 0.12, 0.25, 0.5, 30, -0.3

#: How far beyond the field a lesion may lie, since dense disease and effusion at its edge are no
#: lung by their gray: share of the side of a slice that is cropped to the field. Of the lesion
#: pixels of all 100 public slices 2.6 % lie further away, and 9 % of effusion.
GROWTH = 0.04


def field(gray: np.ndarray) -> np.ndarray:
    """Lung field, boolean (height, width), of a uint8 slice; all False without aerated lung."""
    parts = body.parts(gray)
    air = aerated(parts)
    if not air.any():
        return np.zeros(gray.shape, bool)
    down = -1 if is_upside_down(air, parts) else 1
    dark = air & (parts.gray <= parts.threshold)
    # The edge of the lungs that is not haze but blur from the chest wall.
    near = (body.distance(~air) <= BLURRED[0]) & (body.distance(dark) <= BLURRED[1])
    found = _completed(air & (dark | ~near), parts)
    found = body.closed(found | _backs(found, parts, down), 2) & parts.body
    whole = cv2.resize(found.astype(np.float32), gray.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return whole >= 0.5


def is_upside_down(air: np.ndarray, parts: body.Parts) -> bool:
    """Whether the spine is on top, by bone in the midline and by a table.

    Without either, as in a figure that is cut to the lungs, a slice is taken to be upright.
    """
    rows, columns = np.flatnonzero(air.any(1)), np.flatnonzero(air.any(0))
    height, width = 1 + np.ptp(rows), 1 + np.ptp(columns)
    row, column = np.ogrid[: air.shape[0], : air.shape[1]]
    below = row - rows[[0, -1]].mean()
    solid = parts.body & (parts.gray > parts.threshold)
    brightness = np.where(solid, parts.gray, 0) - np.median(parts.gray[solid])
    middle = np.abs(column - body.middle(air, parts.body)) < MIDLINE * width
    bone = brightness.clip(0) * (solid & middle & ~air & (np.abs(below) > BETWEEN * height))
    table = (parts.gray > parts.threshold) & (body.distance(parts.body) > 2)
    score = (bone * np.sign(below)).sum() / max(1.0, bone.sum())
    if np.count_nonzero(table) >= TABLE_PIXELS:
        score += TABLE * np.sign(np.nonzero(table)[0] - np.nonzero(parts.body)[0].mean()).mean()
    return bool(score < TURNED)


def grown(found: np.ndarray) -> np.ndarray:
    """Where lesions may lie in a slice cropped to a field: bool (side, side); all without lung."""
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
    columns, chest = np.flatnonzero(parts.core.any(0)), np.count_nonzero(body.hull(parts.core))
    for piece in np.flatnonzero(is_lung):
        place = np.nonzero(numbers == piece)
        aside = abs(place[1].mean() - columns[[0, -1]].mean()) / (1 + np.ptp(columns))
        is_airway = areas[piece] < AIRWAY * chest and aside < CENTRAL
        is_lung[piece] = not is_airway and np.median(parts.depth[place]) >= SKIN
    if not is_even:
        is_lung = _without_fat(numbers, areas, is_lung, parts)
    if (areas[is_lung] < LARGE * parts.area).all():
        is_lung = _without_bowel(numbers, areas, is_lung, CRESCENT * parts.area)
    return is_lung[numbers]


def _limit(parts: body.Parts) -> tuple[float, bool]:
    """Gray value up to which a pixel can hold air, and whether contrast is even.

    What holds some air is darker than all fat, unless equalised contrast makes fat darker in some
    places; in that case the threshold is kept.
    """
    solid = parts.solid
    wall = solid & (parts.depth > WALL[0]) & (parts.depth < WALL[1])
    if np.count_nonzero(wall) < FEWEST:  # the picture's edge cuts it off
        wall = solid & (body.distance(body.hull(parts.core)) > 3)
    if np.count_nonzero(wall) < FEWEST:
        return parts.threshold, False
    darkest, first, median, third = np.quantile(parts.gray[wall], [0.02, 0.25, 0.5, 0.75])
    if median - darkest >= EVEN * (median - parts.lung):
        return parts.threshold, False
    return max(parts.threshold, min(darkest - 5, first - (third - first))), True


def _without_fat(
    numbers: np.ndarray, areas: np.ndarray, is_lung: np.ndarray, parts: body.Parts
) -> np.ndarray:
    """Which pieces of lung stay where fat can be as dark.

    Only dark pieces near the hull of the large ones do.
    """
    is_large = np.zeros_like(is_lung)
    for piece in np.flatnonzero(is_lung):
        gray = (parts.gray[numbers == piece] - parts.lung) / (parts.threshold - parts.lung)
        darkest, median = np.quantile(gray, [0.1, 0.5])
        is_lung[piece] = darkest <= FATTY[0] and median <= FATTY[1]
        is_sure = areas[piece] >= LARGE * parts.area and median <= FATTY[2]
        is_large[piece] = is_lung[piece] and is_sure
    large = is_large[numbers]
    if np.count_nonzero(large) >= BOTH * parts.area:
        near = body.distance(body.hull(large)) <= NEAR * parts.scale
        inside = np.bincount(numbers[near], minlength=len(areas))
        is_lung &= 2 * inside >= areas
    return is_lung


def _without_bowel(
    numbers: np.ndarray, areas: np.ndarray, is_lung: np.ndarray, least: float
) -> np.ndarray:
    """Which small pieces stay: at the base lungs are crescents, and other round pieces are bowel.

    Where no piece of an area of at least ``least`` is a crescent, as at the apex, all stay.
    """
    pieces = np.flatnonzero(is_lung)
    fill = np.array([areas[at] / np.count_nonzero(body.hull(numbers == at)) for at in pieces])
    crescents = np.isin(numbers, pieces[(fill < HOLLOW) & (areas[pieces] >= least)])
    if not crescents.any():
        return is_lung
    rows = np.flatnonzero(crescents.any(1))
    centres = np.array([np.nonzero(numbers == at)[0].mean() for at in pieces])
    is_bowel = (fill > ROUND) & ((centres < rows[0]) | (centres > rows[-1]))
    is_lung[pieces[is_bowel]] = False
    return is_lung


def _completed(air: np.ndarray, parts: body.Parts) -> np.ndarray:
    """The lungs with the vessels and lesions that lie in them or between them and the wall."""
    field = np.zeros_like(air)
    rows, columns = np.nonzero(parts.body)
    middle = np.array([columns.mean(), rows.mean()]) if rows.size else np.zeros(2)
    cut = body.middle(air, parts.body)
    is_left = np.arange(air.shape[1]) < cut
    for lung, lateral in ((air & is_left, -1), (air & ~is_left, 1)):
        if lung.any():
            whole = body.closed(lung, CLOSING * parts.scale)
            field |= _without_dents(whole, middle, lateral, DEPTH * parts.scale)
    return body.closed(field & parts.body, 1.5) & parts.body


def _backs(field: np.ndarray, parts: body.Parts, down: int) -> np.ndarray:
    """Fluid and dense lung at the back of one lung, where the other reaches further.

    The chest wall is about as thick left and right: on annotated slices the sides differ by 1 % of
    the root of the body's area. ``down`` is 1, or -1 if the spine is on top.
    """
    rows, columns = (np.flatnonzero(field.any(axis))[[0, -1]] for axis in (1, 0))
    sides = np.flatnonzero(parts.body.any(0))[[0, -1]]
    is_one = abs(columns.mean() - sides.mean()) > ASIDE * np.ptp(sides)
    row, column = np.ogrid[: field.shape[0], : field.shape[1]]
    below = (row - rows.mean()) * down
    aside = column - (sides if is_one else columns).mean()
    radius = np.hypot(below, aside)
    degrees = np.degrees(np.arctan2(below, np.abs(aside)))
    sector = ((degrees + 90) / 180 * (STEPS - 1e-3)).astype(int) + STEPS * (aside > 0)
    # Of each sector the pixel that is farthest out: later ones replace earlier ones.
    inside = np.flatnonzero(field)
    inside = inside[np.argsort(radius.ravel()[inside])]
    farthest = np.full(2 * STEPS, -1)
    farthest[sector.ravel()[inside]] = inside
    reach, depth = (
        np.where(farthest < 0, np.nan, of.ravel()[farthest]) for of in (radius, parts.depth)
    )
    least = np.tile(np.fmin(*depth.reshape(2, STEPS)), 2)
    is_lost = (depth - least > THICK[0]) & (depth - least < THICK[1]) & (least < DEEPEST)
    lost = np.where(is_lost, reach, np.inf)
    behind = parts.body & (degrees > BEHIND[0]) & (degrees < BEHIND[1])
    other = np.roll(reach, STEPS)
    between = (radius > lost[sector]) & (radius <= other[sector]) & (parts.depth >= least[sector])
    filled = behind & between
    return cv2.morphologyEx(filled.astype(np.uint8), cv2.MORPH_OPEN, body.disk(2)) > 0


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
            if out @ (centre - points[inmost]) < 0:
                out = -out
            away = (centre - middle) / (np.linalg.norm(centre - middle) + 1e-9)
            is_costal = out @ away > OUTWARD and out[0] * lateral > -MEDIAL
            if is_costal and 1 <= depth / 256 <= deepest:  # OpenCV counts in 1/256 pixel
                last = end + 1 if start < end else end + 1 + len(outline)  # past the first point
                part = outline[np.arange(start, last) % len(outline)]
                cv2.fillPoly(filled, [part], 1)
    return filled > 0
