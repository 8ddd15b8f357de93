"""A healthy chest in Hounsfield units, different for every patient.

Sizes follow common adult measurements: inner width of the chest 24-29 cm, trachea 18 mm, ascending
aorta 32 mm, heart less than half as wide as the chest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from covid_utils.data.phantom import lungs, vessels
from covid_utils.data.phantom.geometry import (
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

AIR, FAT, MUSCLE, BLOOD, LIVER = -1000.0, -95.0, 52.0, 42.0, 58.0
MARROW, CORTEX, CARTILAGE = 480.0, 1650.0, 110.0
#: Top of the heart above the diaphragm's right dome, with room for its rounded seam, in mm.
HEART_TOP = 125.0
#: Slices that are computed together; a few fit a processor's cache.
CHUNK = 4


@dataclass(frozen=True)
class Habitus:
    """Build of one patient; lengths in mm, heights from the bottom of the volume.

    Attributes:
        female: Sex, which decides on the breasts.
        age: Years; the aorta widens with it.
        width: Half of the chest's inner width.
        depth: Half of the chest's inner depth.
        fat: Thickness of the fat under the skin.
        muscle: Thickness of the muscles outside the ribs.
        apex: Height of the tops of the lungs.
        dome: Height of the right dome of the diaphragm.
        dome_gap: How much lower the left dome is.
        heart: Size of the heart, 1 is usual.
        rib_gap: Distance from rib to rib.
        rib_phase: Where the ribs start, 0-1 of their distance.
        rib_drop: How far a rib falls from the spine to its front end.
        lean: Shift of the trachea and the middle of the chest.
        lung_hu: Density of the lung, in Hounsfield units.
        gas: Radius of the gas in the stomach.
    """

    female: bool
    age: int
    width: float
    depth: float
    fat: float
    muscle: float
    apex: float
    dome: float
    dome_gap: float
    heart: float
    rib_gap: float
    rib_phase: float
    rib_drop: float
    lean: float
    lung_hu: float
    gas: float

    @property
    def carina(self) -> float:
        """Height at which the trachea divides."""
        return self.apex - 0.42 * (self.apex - self.dome) - 6

    @property
    def reach(self) -> float:
        """Half of the body's width."""
        return self.width + 9 + self.muscle + self.fat

    def seam(self, y: np.ndarray) -> np.ndarray:
        """Where the two lungs would meet, in mm along x; to the front it leans to the left."""
        return np.float32(self.lean) - np.float32(0.22) * np.minimum(y - 10, 0)


def sample_habitus(rng: np.random.Generator) -> Habitus:
    """Draw the build of one adult."""
    female = bool(rng.random() < 0.45)
    small = 0.94 if female else 1.0
    return Habitus(
        female=female,
        age=int(rng.integers(24, 86)),
        width=small * rng.uniform(132, 147),
        depth=small * rng.uniform(88, 104),
        fat=rng.uniform(7, 20),
        muscle=small * rng.uniform(12, 18),
        apex=rng.uniform(281, 292),
        dome=rng.uniform(84, 110),
        dome_gap=rng.uniform(6, 16),
        heart=rng.uniform(0.9, 1.1),
        rib_gap=rng.uniform(28, 32),
        rib_phase=rng.uniform(0, 1),
        rib_drop=rng.uniform(88, 118),
        lean=rng.uniform(-3, 3),
        lung_hu=rng.uniform(-885, -835),
        gas=rng.uniform(0, 26),
    )


@dataclass(frozen=True)
class Anatomy:
    """A healthy chest, taken apart so that disease can be put between its parts.

    Attributes:
        habitus: The patient's build.
        grid: Voxel grid.
        tissue: Everything but the lungs, int16 HU (z, y, x).
        lung: The lungs' parts inside ``box``.
    """

    habitus: Habitus
    grid: Grid
    tissue: np.ndarray
    lung: lungs.Lungs


def build(rng: np.random.Generator, size: int) -> Anatomy:
    """Make one patient.

    Args:
        rng: Source of randomness; decides on everything.
        size: Pixels of a CT slice along each side.
    """
    body = sample_habitus(rng)
    grid = Grid(size, 2 * body.reach + rng.uniform(14, 24))
    tissue = np.full(grid.shape, AIR, np.float32)
    inside, depth = (np.full(grid.shape, -99, np.float32) for _ in range(2))
    z, y, x = grid.axes()
    # Above and below the body there is only air.
    rows = near_zero(y, body.depth + 0.6 * body.muscle + 0.9 * body.fat + 35)
    for start in range(0, len(z), CHUNK):
        part = (slice(start, start + CHUNK), rows)
        section = _section(body, grid, (z[part[0]], y[:, rows], x))
        tissue[part], inside[part], depth[part] = section
    trunk = _great_vessels(body, grid)
    inside -= 30 * trunk
    tree = vessels.grow(rng, body, grid, inside)
    middle = (..., near_zero(x, 80.0))
    _add_tubes(tissue[middle], body, (z, x[middle]), inside[middle], trunk[middle], tree, middle)
    # The tops of the lungs are so flat that their edge must span a step from slice to slice.
    width = grid.spacing[1] + 0.6 + 3.4 * coverage(z - body.apex + 45, 50.0)
    share = coverage(inside / width, 1.0)
    lung = lungs.assemble(rng, body, grid, share, inside, depth, tree)
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
    """Great vessels and airways outside the lungs.

    Bronchi stay near the lung; only the trachea and the main bronchi cross the mediastinum.
    """
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
    tissue, cage = (mirrored(half, grid.size) for half in _wall(body, axes, edge))
    spine_at = body.depth - 22
    between = smooth_max(_mediastinum(body, axes), _vertebra(axes, spine_at) + 4, 12)
    _add_organs(tissue, body, axes, cage)
    low = float(axes[0].min())
    if low < body.dome + HEART_TOP:
        heart = _heart(body, axes)
        between = smooth_max(between, heart + 3, 12)
        tissue += coverage(heart, edge) * (BLOOD - tissue)
    lung = smooth_min(cage - 2.5, -between, 7)
    if low < body.dome + 12:
        lung = smooth_min(lung, _above_diaphragm(body, axes), 3)
    _add_spine(tissue, body, axes, spine_at, edge)
    return tissue, lung, cage


def _wall(body: Habitus, axes: tuple, edge: np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Tissue in HU and distance from the chest wall for the left half; the right is alike."""
    z, y, x = axes
    axes = (z, y, x[..., x.shape[-1] // 2 :])
    cage, around, middle = _cage(body, axes)
    tissue = _soft_tissue(body, axes, cage, _skin(body, axes), edge)
    _add_ribs(tissue, body, axes, cage, around, edge)
    high = float(z.max())
    if high > body.apex - 210:
        _add_sternum(tissue, body, axes, cage, middle, edge)
    if high > body.apex - 130:
        _add_girdle(tissue, body, axes, cage, around, edge)
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
    above = coverage(z - body.dome + 4 + 0 * x, 40.0)
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


def _vertebra(axes: tuple, spine_at: float) -> np.ndarray:
    """Distance to the column of vertebral bodies."""
    _, y, x = axes
    ratio = np.power(np.abs(x / 18) ** 3 + np.abs((y - spine_at) / 15) ** 3, 1 / 3)
    return (1 - ratio) * np.float32(15)


def _bone(distance: np.ndarray, marrow: float, cortex: float) -> np.ndarray:
    """HU of bone: dense at the surface, marrow inside."""
    depth = np.clip(distance / 2.4, 0, 1)
    return marrow + (cortex - marrow) * np.square(1 - depth)


def _add_ribs(
    tissue: np.ndarray,
    body: Habitus,
    axes: tuple,
    cage: np.ndarray,
    around: np.ndarray,
    edge: np.float32,
) -> None:
    """Ribs as bands in the wall that fall from the spine to the front; cartilage at the front."""
    z, _, x = axes
    drop = body.rib_drop * np.power((1 - np.clip(around, -1, 1)) / 2, 1.15)
    order = (z + drop - body.apex + 2) / body.rib_gap + body.rib_phase
    within = (order - np.floor(order) - 0.5) * body.rib_gap
    thick = (-cage - 5.0) / 4.2
    distance = (1 - np.sqrt(np.square(thick) + np.square(within / 6.0))) * np.float32(4.2)
    use = (np.abs(x) > 14) & (order < 1) & (order > -10) & (around > -0.97)
    share = np.where(use, coverage(distance, edge), 0)
    front = coverage(-0.62 - around - 0.0 * z, 0.16)
    density = _bone(distance, MARROW, CORTEX) * (1 - front) + CARTILAGE * front
    tissue += share * (density - tissue)


def _add_spine(
    tissue: np.ndarray, body: Habitus, axes: tuple, spine_at: float, edge: np.float32
) -> None:
    """Vertebral bodies with discs, the canal, and the processes behind it."""
    part = near_zero(axes[2], 40.0)
    tissue, axes = tissue[..., part], (*axes[:2], axes[2][..., part])
    z, y, x = axes
    vertebra = _vertebra(axes, spine_at)
    phase = (z / 23.5 + body.rib_phase) % 1
    disc = coverage(2.4 - 23.5 * np.abs(phase - 0.5), 3.0)
    plate = np.clip(1 - np.abs(23.5 * np.abs(phase - 0.5) - 4.6) / 2.4, 0, 1)
    body_hu = _bone(vertebra, 120, 330) + 110 * plate
    density = body_hu + disc * (95 - body_hu)
    tissue += coverage(vertebra, edge) * (density - tissue)
    lower = y - np.float32(spine_at)
    canal = 9 - np.hypot(x, lower - 23)
    arch = np.minimum(canal + 6, 9.5 - np.abs(lower - 25)) - 3.5 * disc
    wings = np.minimum(34 - np.abs(x), 5 - np.abs(lower - 24 - 0.18 * np.abs(x))) - np.float32(
        12
    ) * (np.abs(phase - 0.05) > 0.25)
    spinous = np.minimum(3.6 - np.abs(x), 11 - np.abs(lower - 43)) - np.float32(12) * (
        np.abs(phase - 0.6) > 0.3
    )
    behind = np.maximum(np.maximum(arch, wings), spinous)
    tissue += coverage(behind, edge) * (_bone(behind, 70, 180) - tissue)
    tissue += coverage(canal, edge) * (np.float32(28) - tissue)


def _add_sternum(
    tissue: np.ndarray,
    body: Habitus,
    axes: tuple,
    cage: np.ndarray,
    middle: np.ndarray,
    edge: np.float32,
) -> None:
    """Sternum, with the wider manubrium at its top."""
    part = near_zero(axes[2], 32.0)
    z, y, x = axes[0], axes[1], axes[2][..., part]
    tissue, cage, middle = tissue[..., part], cage[..., part], middle[..., part]
    tall = np.minimum(z - (body.apex - 205), body.apex - 40 - z)
    wide = 15 + 10 * coverage(z - (body.apex - 85), 22.0)
    sternum = np.minimum(np.minimum(wide - np.abs(x), 5 - np.abs(cage + 6)), tall)
    sternum = np.where(y < middle, sternum, -9)
    tissue += coverage(sternum, edge) * (_bone(sternum, 90, 250) - tissue)


def _add_girdle(
    tissue: np.ndarray,
    body: Habitus,
    axes: tuple,
    cage: np.ndarray,
    around: np.ndarray,
    edge: np.float32,
) -> None:
    """Scapulae and clavicles."""
    z, y, x = axes
    side = np.abs(x)
    blade = 2.3 - np.abs(-cage - 15 - 3 * np.cos(side / 14))
    level = z - (body.apex - 128)
    inner = 0.80 - 0.42 * np.clip(1 - level / 110, 0, 1)
    blade = np.minimum(blade, 60 * np.minimum(inner - around, around - 0.05))
    blade = np.minimum(blade, np.minimum(level, body.apex - 18 - z) * 0.5)
    tissue += coverage(blade, edge) * (np.float32(640) - tissue)
    # A straight bar from the sternum out, up and back.
    out = np.clip((side - 16) / 130, 0, 1)
    height = body.apex - 45 + 17 * out
    back = -body.depth * 0.62 + 62 * out - 12 * np.sin(np.float32(np.pi) * out)
    bar = 6.8 - np.hypot((z - height) * 0.95, (y - back) * 0.9) - np.float32(12) * (side < 15)
    tissue += coverage(bar, edge + 1) * (_bone(bar, MARROW, CORTEX) - tissue)


def _great_vessels(body: Habitus, grid: Grid) -> np.ndarray:
    """Aorta from its root over the arch down the spine, and the superior vena cava."""
    wide = 13 + 0.05 * (body.age - 40)
    spine = body.depth - 42
    root, arch = body.dome + 62, body.carina + 24
    aorta = [
        (root, -16, 2),
        (arch - 22, -24, -9),
        (arch - 2, -12, -5),
        (arch + 5, 8, 12),
        (arch - 3, 30, 25),
        (arch - 22, spine - 8, 26),
        (body.carina - 30, spine, 23),
        (body.dome, spine, 17),
        (2, spine, 11),
    ]
    radii = [wide + 2, wide + 2, wide, wide, wide, wide - 1, wide - 2, wide - 2.5, wide - 3]
    points, sizes = along(np.array(aorta, float), np.array(radii), 3.0)
    cava = [(body.dome + 70, -10, -20), (arch, -12, -21), (arch + 30, -16, -20), (308, -18, -34)]
    more, widths = along(np.array(cava, float), np.array([10.0, 9, 8, 6]), 3.0)
    return paint_tubes(grid, np.r_[points, more], np.r_[sizes, widths])
