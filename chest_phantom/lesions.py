"""Manifestations in a lung: where they lie, how dense they are, what their edge is like.

Their appearance follows the Fleischner Society's glossary (Hansell et al. 2008, Radiology 246:697):
ground glass is haze through which vessels stay visible, consolidation hides them and shows the air
in the bronchi; and reports of COVID-19 pneumonia (Shi et al. 2020, Lancet Infect Dis 20:425): both
sides, peripheral, at the back and the base.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chest_phantom.anatomy import Anatomy
from chest_phantom.geometry import coverage, smooth_noise
from chest_phantom.lungs import LOBES, Lungs

#: Ground-glass stays below this, well under soft tissue, so that vessels show in it.
HAZE_LIMIT = np.float32(-330)


@dataclass
class Lesions:
    """Coverage of the lungs' box by each manifestation, float32 in 0-1 unless noted.

    Attributes:
        glass: Ground-glass.
        glass_hu: Density of the haze without vessels, in HU.
        solid: Consolidation.
        fluid: Pleural effusion.
        nodule: Nodules.
        lines: Thickened septa, in HU that are added.
        nodules: One row (z, y, x, radius) in voxels of the volume and mm for each nodule.
    """

    glass: np.ndarray
    glass_hu: np.ndarray | float
    solid: np.ndarray
    fluid: np.ndarray
    nodule: np.ndarray
    lines: np.ndarray | float = 0.0
    nodules: tuple = ()


def normal(rng: np.random.Generator, chest: Anatomy, severity: float) -> Lesions:
    """Nothing but a little haze at the lowest place, which no reader would call a disease."""
    lesions = _nothing(chest.lung)
    _, y, _ = chest.lung.axes
    haze = severity * np.clip((y - 0.55 * chest.habitus.depth) / 30, 0, 0.24)
    lesions.glass = np.broadcast_to(haze.astype(np.float32), chest.lung.share.shape)
    return lesions


def covid(rng: np.random.Generator, chest: Anatomy, severity: float) -> Lesions:
    """Hazy patches under the pleura of both lungs, at the back and base; dense where they grow."""
    lung = chest.lung
    field = _covid_places(rng, chest)
    wave, mid, fine = (_noise(rng, chest, scale) for scale in (22.0, 12.0, 9.0))
    place = field * (0.55 + 0.6 * _peripheral(lung, 30.0)) + 0.16 * wave + 0.07 * fine
    place += 0.55 * severity - 0.27 + 0.10 * severity * (1 - lung.above_base)
    lesions = _nothing(lung)
    lesions.glass = np.minimum(coverage(place - 0.42, 0.42), 5 * field)
    # Thickened septa pave the haze of some patients.
    paving = np.float32(90 * rng.random()) * np.exp(-np.square(mid / 0.22))
    haze = np.float32(-570 + 130 * rng.random()) + 45 * _grain(chest) + 28 * fine + paving
    lesions.glass_hu = np.minimum(haze, HAZE_LIMIT)
    # In half of the patients the haze hardly ever becomes dense.
    often = rng.random() < 0.5
    dense = place + 0.14 * mid + np.float32(0.1) * (lung.inside < 14) + 0.3 * severity - 0.87
    dense += rng.uniform(-0.1, 0.42) if often else rng.uniform(-0.8, -0.4)
    lesions.solid = coverage(dense - 0.62, 0.20) * (lesions.glass > 0.3)
    chance, side = rng.random(), rng.choice((-1, 1))
    if chance < 0.12 + 0.4 * severity:
        lesions.fluid = _effusion(chest, side, rng.uniform(0.3, 0.75))
    return lesions


def _covid_places(rng: np.random.Generator, chest: Anatomy) -> np.ndarray:
    """Where the haze starts: peripheral, at the back and base, often more on one side."""
    lung = chest.lung
    _, y, x = lung.axes
    low = np.exp(-2.2 * lung.above_base) + 0.12
    back = np.clip(0.65 + 0.6 * y / chest.habitus.depth, 0.15, 1.2)
    uneven = 1 + rng.uniform(-0.6, 0.6) * np.sign(x)
    weight = _peripheral(lung, 9.0) * low * back * uneven * (lung.share > 0.9)
    return _patches(rng, chest, 21, (20, 46), weight)


def viral(rng: np.random.Generator, chest: Anatomy, severity: float) -> Lesions:
    """Lines and faint haze in both lungs, mostly around the hila: an interstitial pattern."""
    lung = chest.lung
    body = chest.habitus
    z, y, x = lung.axes
    across = np.square(y / 95) + np.square((np.abs(x) - 42) / 62)
    away = np.sqrt(np.square((z - body.carina + 30) / 95) + across)
    central = np.clip(1.25 - away, 0, 1) * np.ones_like(lung.share)
    net = np.exp(-np.square(_noise(rng, chest, 14.0) / 0.30))
    net += 0.7 * np.exp(-np.square(_noise(rng, chest, 9.0) / 0.30))
    wave = _noise(rng, chest, 30.0)
    lesions = _nothing(lung)
    strength = 0.5 + 0.9 * severity
    lesions.lines = np.float32(strength) * ((80 + 260 * central) * net + 130 * central)
    field = _patches(rng, chest, 12, (14, 26), (0.15 + central) * (lung.share > 0.9))
    place = 0.75 * field + 0.35 * central + 0.22 * wave + 0.45 * severity - 0.30
    lesions.glass = coverage(place - 0.5, 0.5) * (lung.inside > 1)
    lesions.glass_hu = np.float32(-690 + 60 * rng.random()) + 40 * _grain(chest) + 60 * net
    lesions.glass_hu = np.minimum(lesions.glass_hu, HAZE_LIMIT)
    return lesions


def bacterial(rng: np.random.Generator, chest: Anatomy, severity: float) -> Lesions:
    """One lobe, dense up to its fissure, with open bronchi; hazy where it is still spreading."""
    lung = chest.lung
    # How often it is each of `LOBES`.
    lobe = lung.lobe == rng.choice(len(LOBES), p=(0.17, 0.15, 0.3, 0.13, 0.25))
    weight = lobe * (lung.share > 0.9) * _peripheral(lung, 40.0)
    pick = np.searchsorted(np.cumsum(weight, dtype=np.float64), rng.random() * weight.sum())
    middle = np.unravel_index(pick, weight.shape)
    away = sum(
        np.square((axis - axis.ravel()[m]) / 68) for axis, m in zip(lung.axes, middle, strict=True)
    )
    place = 1.05 - np.sqrt(away) + 0.10 * _noise(rng, chest, 24.0) + 0.05 * _noise(rng, chest, 9.0)
    place = place - 0.45 + 0.75 * severity
    lesions = _nothing(lung)
    lesions.glass = coverage(place + 0.09, 0.22) * lobe
    lesions.glass_hu = np.minimum(np.float32(-540) + 45 * _grain(chest), HAZE_LIMIT)
    lesions.solid = coverage(place - 0.08, 0.14) * lobe
    if rng.random() < 0.35:
        lesions.fluid = _effusion(chest, 1 if lung.left[middle] else -1, rng.uniform(0.3, 0.7))
    return lesions


def nodule(rng: np.random.Generator, chest: Anatomy, severity: float) -> Lesions:
    """One to three round or spiculated nodules."""
    lung = chest.lung
    deep = (lung.inside > 9) & (lung.vessel < 0.1)
    deep &= (lung.above_base > 0.3) & (lung.above_base < 0.85)
    free = np.flatnonzero(deep)
    field = np.full(lung.share.shape, -99.0, np.float32)
    rows = []
    for pick in rng.choice(free, int(rng.integers(1, 4)), replace=False):
        middle = np.unravel_index(pick, field.shape)
        radius = rng.uniform(6, 10) + 6 * severity * rng.random()
        _grow_nodule(rng, chest, field, middle, radius)
        z, y, x = (int(m + part.start) for m, part in zip(middle, lung.box, strict=True))
        rows.append((z, y, x, float(radius)))
    lesions = _nothing(lung)
    lesions.nodule = coverage(field, chest.grid.spacing[1])
    lesions.nodules = tuple(rows)
    return lesions


def _grow_nodule(
    rng: np.random.Generator, chest: Anatomy, field: np.ndarray, middle: tuple, radius: float
) -> None:
    """Raise ``field``, a distance in mm, to a nodule whose surface bulges or has spikes."""
    half = np.ceil((radius * 1.8 + 3) / np.array(chest.grid.spacing)).astype(int)
    part, away = _around(chest.lung, middle, half)
    distance = np.sqrt(sum(np.square(a) for a in away)) + 1e-3
    surface = np.full(distance.shape, radius, np.float32)
    spiculated = rng.random() < 0.45
    for _ in range(9 if spiculated else 3):
        way = rng.normal(size=3)
        way /= np.linalg.norm(way)
        along = sum(a * w for a, w in zip(away, way, strict=True)) / distance
        height, width = (rng.uniform(0.35, 0.75), 0.03) if spiculated else (0.16, 0.35)
        surface += radius * height * np.exp((along - 1) / width)
    np.maximum(field[part], surface - distance, out=field[part])


def _nothing(lung: Lungs) -> Lesions:
    """No lesion; haze that is added later has -560 HU unless that changes too."""
    empty = np.broadcast_to(np.float32(0), lung.share.shape)
    return Lesions(glass=empty, glass_hu=-560.0, solid=empty, fluid=empty, nodule=empty)


def _around(
    lung: Lungs, middle: Sequence[int], half: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[np.ndarray, ...]]:
    """Box of ``half`` voxels to each side of a voxel, and the ways along z, y and x in mm.

    The box ends where the lungs' box does; the ways have shapes that broadcast over it.
    """
    part = tuple(slice(max(0, m - h), m + h + 1) for m, h in zip(middle, half, strict=True))
    z, y, x = lung.axes
    k, j, i = middle
    return part, (z[part[0]] - z[k], y[:, part[1]] - y[:, j], x[..., part[2]] - x[..., i])


def _noise(rng: np.random.Generator, chest: Anatomy, scale: float) -> np.ndarray:
    return smooth_noise(rng, chest.lung.share.shape, chest.grid.spacing, scale)


def _grain(chest: Anatomy) -> np.ndarray:
    """The lung's own texture, about -2 to 2: the haze keeps it."""
    return (chest.lung.parenchyma - np.float32(chest.habitus.lung_hu)) * np.float32(1 / 20)


def _patches(
    rng: np.random.Generator,
    chest: Anatomy,
    count: int,
    radius: tuple[float, float],
    weight: np.ndarray,
) -> np.ndarray:
    """Soft patches, 1 in the middle and 0 at the end, at random places.

    Radii are in mm; ``weight`` says how likely a patch's middle is at each voxel.
    """
    lung = chest.lung
    total = np.cumsum(weight, dtype=np.float64)
    picks = np.searchsorted(total, rng.random(count) * total[-1])
    field = np.zeros(lung.share.shape, np.float32)
    for middle in np.transpose(np.unravel_index(picks, weight.shape)):
        size = rng.uniform(*radius) * rng.uniform(0.75, 1.3, 3)
        half = np.ceil(1.1 * size / chest.grid.spacing).astype(int)
        part, away = _around(lung, middle, half)
        squared = sum(np.square(way / np.float32(s)) for way, s in zip(away, size, strict=True))
        field[part] = np.maximum(field[part], np.maximum(1 - squared, 0))
    return field


def _peripheral(lung: Lungs, reach: float) -> np.ndarray:
    """1 at the chest wall, falling to 1/e at ``reach`` mm."""
    return np.exp(np.float32(-1 / reach) * np.maximum(lung.wall_distance, 0))


def _effusion(chest: Anatomy, side: int, amount: float) -> np.ndarray:
    """Effusion of a patient on the back: level to the front, climbing a little at the wall.

    ``side`` is 1 for the left lung and -1 for the right; ``amount`` (0-1) sets the level.
    """
    lung = chest.lung
    _, y, _ = lung.axes
    back = 0.97 * chest.habitus.depth + 4
    level = back - amount * 95 * np.clip(1.15 - lung.above_base * 1.3, 0, 1)
    climb = 20 * np.exp(-np.maximum(lung.wall_distance, 0) / 8.0) * min(1, 2.5 * amount)
    depth = np.where(lung.left == (side > 0), y - level + climb - 9, -99)
    return coverage(depth, 2.0)


#: Pattern -> what makes its lesions, called with a generator, the chest and the severity.
PATTERN_LESIONS = {
    "normal": normal,
    "covid": covid,
    "viral": viral,
    "bacterial": bacterial,
    "nodule": nodule,
}
