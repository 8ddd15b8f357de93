"""A healthy chest in Hounsfield units, different for every patient.

Sizes follow common adult measurements: inner width of the chest 24-29 cm, trachea 18 mm, ascending
aorta 32 mm, heart less than half as wide as the chest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chest_phantom import bones, lungs, vessels
from chest_phantom.geometry import (
    Grid,
    along,
    coverage,
    ellipsoid,
    mirrored,
    near_zero,
    paint_tubes,
    smooth_max,
    smooth_min,
)
from chest_phantom.habitus import Habitus, sample_habitus

AIR, FAT, MUSCLE, BLOOD, LIVER = -1000.0, -95.0, 52.0, 42.0, 58.0
#: Top of the heart above the diaphragm's right dome, with room for its rounded seam, in mm.
HEART_TOP = 125.0
#: Slices that are computed together; a few fit a processor's cache.
CHUNK = 4


@dataclass(frozen=True)
class Anatomy:
    """A healthy chest: ``tissue`` is everything but the lungs, int16 HU (z, y, x)."""

    habitus: Habitus
    grid: Grid
    tissue: np.ndarray
    lung: lungs.Lungs


def build(rng: np.random.Generator, size: int) -> Anatomy:
    """Make one patient, whose CT slices have ``size`` pixels along each side."""
    body = sample_habitus(rng)
    grid = Grid(size, 2 * body.reach + rng.uniform(14, 24))
    tissue = np.full(grid.shape, AIR, np.float32)
    inside = np.full(grid.shape, -99, np.float32)
    wall_distance = inside.copy()
    z, y, x = grid.axes()
    # Above and below the body there is only air.
    rows = near_zero(y, body.depth + 0.6 * body.muscle + 0.9 * body.fat + 35)
    for start in range(0, len(z), CHUNK):
        part = (slice(start, start + CHUNK), rows)
        section = _section(body, grid, (z[part[0]], y[:, rows], x))
        tissue[part], inside[part], wall_distance[part] = section
    trunk = _great_vessels(body, grid)
    inside -= 30 * trunk
    tree = vessels.grow(rng, body, grid, inside)
    middle = (..., near_zero(x, 80.0))
    _add_tubes(tissue[middle], body, (z, x[middle]), inside[middle], trunk[middle], tree, middle)
    # The tops of the lungs are so flat that their edge must span a step from slice to slice.
    width = grid.spacing[1] + 0.6 + 3.4 * coverage(z - body.apex + 45, 50.0)
    share = coverage(inside / width, 1.0)
    lung = lungs.assemble(rng, body, grid, share, inside, wall_distance, tree)
    return Anatomy(body, grid, np.rint(tissue).astype(np.int16), lung)


def _add_tubes(
    tissue: np.ndarray,
    body: Habitus,
    axes: tuple[np.ndarray, np.ndarray],
    inside: np.ndarray,
    trunk: np.ndarray,
    tree: vessels.Tree,
    part: tuple,
) -> None:
    """Great vessels and airways outside the lungs; bronchi stay near the lung but for the main."""
    z, x = axes
    central = coverage(z - body.carina + 34, 4.0) * np.where(np.abs(x) < 13, 1, 1 - trunk)
    near = np.maximum(coverage(inside + 5, 6.0), central)
    tissue += trunk * (np.float32(BLOOD) - tissue)
    tissue += tree.wall[part] * near * (np.float32(10) - tissue)
    tissue += tree.lumen[part] * near * (np.float32(AIR + 10) - tissue)


def _cage(body: Habitus, axes: tuple) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inner surface of the rib cage.

    Returns:
        Distance in mm (positive inside), the direction (1 at the spine, -1 at the sternum), and the
        middle of the cage along y.
    """
    z, y, x = axes
    # The tops of the lungs lie beside the neck: towards the midline the dome comes later.
    dip = 0.012 * np.square(np.maximum(46 - np.abs(x), 0))
    fall = np.clip((body.apex - z - dip) / 150, 0.004, 1)
    grow = np.sqrt(1 - np.square(1 - fall))
    grow = grow * (1 + 0.05 * np.clip((150 - z) / 150, 0, 1))
    middle = np.float32(4) + 26 * (1 - grow)
    wide, deep = body.width * grow, body.depth * np.power(grow, np.float32(0.85))
    ahead = (y - middle) / deep
    ratio = np.power(np.power(np.abs(x / wide), 2.3) + np.power(np.abs(ahead), 2.3), 1 / 2.3)
    ratio = np.maximum(ratio, 1e-3)
    distance = np.hypot(x, y - middle) * (1 / ratio - 1)
    slope = 1 / np.sqrt(1 + np.square(1.3 * (1 - fall)))
    return distance * slope, ahead / ratio, middle


def _section(body: Habitus, grid: Grid, axes: tuple) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tissue in HU, distance into the lung and distance from the chest wall for a few slices."""
    edge = np.float32(grid.spacing[1])
    tissue, cage = _wall(body, axes, edge)
    tissue, cage = mirrored(tissue, grid.size), mirrored(cage, grid.size)
    spine_at = body.depth - 22
    between = smooth_max(_mediastinum(body, axes), bones.vertebra_distance(axes, spine_at) + 4, 12)
    _add_organs(tissue, body, axes, cage)
    low = float(axes[0].min())
    if low < body.dome + HEART_TOP:
        heart = _heart(body, axes)
        between = smooth_max(between, heart + 3, 12)
        tissue += coverage(heart, edge) * (BLOOD - tissue)
    lung = smooth_min(cage - 2.5, -between, 7)
    if low < body.dome + 12:
        lung = smooth_min(lung, _above_diaphragm(body, axes), 3)
    bones.add_spine(tissue, body, axes, spine_at, edge)
    return tissue, lung, cage


def _wall(body: Habitus, axes: tuple, edge: np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Tissue in HU and distance from the chest wall for the left half; the right is alike."""
    z, y, x = axes
    axes = (z, y, x[..., x.shape[-1] // 2 :])
    cage, around, middle = _cage(body, axes)
    tissue = _soft_tissue(body, axes, cage, _skin(body, axes), edge)
    bones.add_ribs(tissue, body, axes, cage, around, edge)
    high = float(z.max())
    if high > body.apex - 210:
        bones.add_sternum(tissue, body, axes, cage, middle, edge)
    if high > body.apex - 130:
        bones.add_girdle(tissue, body, axes, cage, around, edge)
    return tissue, cage


def _skin(body: Habitus, axes: tuple) -> np.ndarray:
    """Distance to the body's surface in mm: trunk, shoulders, neck and breasts."""
    z, y, x = axes
    shoulder = np.clip((z - (body.apex - 22)) / 62, 0, 1)
    shoulder = shoulder * shoulder * (3 - 2 * shoulder)
    wide = body.reach * (1 + 0.10 * np.clip((z - 190) / 60, 0, 1)) * (1 - shoulder) + 78 * shoulder
    deep = (body.depth + 10 + 0.6 * body.muscle + 0.9 * body.fat) * (1 - 0.30 * shoulder)
    groove = 9 * np.exp(-np.square(x / 26)) * (y > 0)
    front = (y - 12 - 6 * shoulder + groove) / (deep + 11)
    ratio = np.power(np.power(np.abs(x / wide), 2.4) + np.power(np.abs(front), 2.4), 1 / 2.4)
    skin = np.hypot(x, y - 10) * (1 / np.maximum(ratio, 1e-3) - 1)
    if not body.female:
        return skin
    side = np.abs(x)
    size = 0.75 + body.fat / 40
    place = (152.0, 2 - body.depth - 12, 72.0)
    breast = ellipsoid((z, y, side), place, (58 * size, 30 * size, 62 * size))
    return smooth_max(skin, breast, 24)


def _soft_tissue(
    body: Habitus, axes: tuple, cage: np.ndarray, skin: np.ndarray, edge: np.float32
) -> np.ndarray:
    """Air, skin, fat and muscle."""
    z, y, _ = axes
    # The shoulders slope: their edge is as wide as the step from slice to slice.
    slope = 7 * np.clip((z - body.apex + 30) / 12, 0, 1)
    share = np.clip(skin / (edge + slope) + np.float32(0.5), 0, 1)
    tissue = np.float32(AIR) + share * np.float32(FAT - AIR)
    fat = body.fat * (1 + 0.35 * y / body.depth)
    muscle = coverage(np.minimum(skin - fat, 30.0), edge)
    # Sheets of fat between the layers of muscle.
    layer = np.clip(1 - np.abs(cage + 9 + 0.45 * body.muscle) / 2.2, 0, 1) * 0.7
    tissue += muscle * (1 - layer) * np.float32(MUSCLE - FAT)
    return tissue


def _add_organs(tissue: np.ndarray, body: Habitus, axes: tuple, cage: np.ndarray) -> None:
    """Fat of the mediastinum, the organs under the diaphragm, and the gas of the stomach."""
    z, _, x = axes
    above = coverage(z - body.dome + 4, 40.0)
    organ = LIVER - 14 * coverage(x - 8, 14.0)
    filling = organ + above * (np.float32(-70) - organ)
    tissue += coverage(cage - 1, 2.0) * (filling - tissue)
    if body.gas < 8 or float(z.min()) > body.dome:
        return
    place = (body.dome - body.dome_gap - body.gas - 4, -28.0, 0.50 * body.width)
    gas = ellipsoid(axes, place, (0.8 * body.gas, body.gas, 1.3 * body.gas))
    # Lying on the back, the gas of the stomach floats to the front.
    gas = np.minimum(gas, -14 - axes[1])
    tissue += coverage(gas, 2.0) * (np.float32(-980) - tissue)


def _heart(body: Habitus, axes: tuple) -> np.ndarray:
    """Distance to the heart: right atrium, ventricles, and the roots of the great vessels."""
    size, low = body.heart, body.dome - 15
    z, y, x = axes
    # The heart points to the front left.
    axes = (z, y + 0.30 * (x - 10), x)
    atrium = ellipsoid(axes, (low + 46, -8.0, -14.0), (44 * size, 36 * size, 27 * size))
    ventricles = ellipsoid(
        axes, (low + 33, -26.0, 26.0), (42 * size, 40 * size, 47 * size), lean=0.42
    )
    back = ellipsoid(axes, (low + 62, 18.0, 4.0), (27 * size, 24 * size, 34 * size))
    root = ellipsoid(axes, (low + 84, -20.0, 6.0), (38.0, 25 * size, 27 * size))
    return smooth_max(smooth_max(atrium, ventricles, 18), smooth_max(back, root, 14), 14)


def _mediastinum(body: Habitus, axes: tuple) -> np.ndarray:
    """Distance to what lies between the lungs but for the heart, in mm, positive inside."""
    z, y, x = axes
    up = np.clip((z - body.carina) / 60, 0, 1)
    spread = 13 + 14 * up
    band = 8 - 2 * up + spread * np.exp(-np.square((y - 14 + 16 * up) / (34 + 10 * up)))
    core = band - np.abs(x - body.seam(y))
    if abs(float(z.mean()) - body.carina + 22) > 40:
        return core
    hilum = ellipsoid((z, y, np.abs(x)), (body.carina - 22, 8.0, 26.0), (22.0, 17.0, 17.0))
    return smooth_max(core, hilum, 10)


def _above_diaphragm(body: Habitus, axes: tuple) -> np.ndarray:
    """Distance above the two domes of the diaphragm, in mm."""
    z, y, x = axes
    left = coverage(x, 30.0)
    top = body.dome - body.dome_gap * left
    wide = (np.abs(x) - 0.44 * body.width) / (0.56 * body.width)
    back, front = np.maximum(y + 8, 0) / body.depth, np.maximum(-8 - y, 0) / body.depth
    fall = 46 * np.abs(wide) ** 2.6 * (wide > 0) + 4 * np.abs(wide) ** 2 * (wide < 0)
    fall = fall + 52 * back**2 + 24 * front**2
    return (z - top + fall) * np.float32(0.8)


def _great_vessels(body: Habitus, grid: Grid) -> np.ndarray:
    """Aorta from its root over the arch down the spine, and the superior vena cava."""
    wide = 13 + 0.05 * (body.age - 40)
    spine = body.depth - 42
    root, arch = body.dome + 62, body.carina + 24
    aorta = [
        (root, -16, 2, wide + 2),
        (arch - 22, -24, -9, wide + 2),
        (arch - 2, -12, -5, wide),
        (arch + 5, 8, 12, wide),
        (arch - 3, 30, 25, wide),
        (arch - 22, spine - 8, 26, wide - 1),
        (body.carina - 30, spine, 23, wide - 2),
        (body.dome, spine, 17, wide - 2.5),
        (2, spine, 11, wide - 3),
    ]
    cava = [
        (body.dome + 70, -10, -20, 10),
        (arch, -12, -21, 9),
        (arch + 30, -16, -20, 8),
        (308, -18, -34, 6),
    ]
    aorta_points, aorta_radii = along(aorta, 3.0)
    cava_points, cava_radii = along(cava, 3.0)
    points = np.concatenate([aorta_points, cava_points])
    return paint_tubes(grid, points, np.concatenate([aorta_radii, cava_radii]))
