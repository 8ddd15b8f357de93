"""Ribs, spine, sternum, scapulae and clavicles, added to tissue in Hounsfield units."""

from __future__ import annotations

import numpy as np

from chest_phantom.geometry import coverage, near_zero
from chest_phantom.habitus import Habitus

MARROW, CORTEX, CARTILAGE = 480.0, 1650.0, 110.0


def vertebra_distance(axes: tuple, spine_at: float) -> np.ndarray:
    """Distance to the column of vertebral bodies."""
    _, y, x = axes
    ratio = np.power(np.abs(x / 18) ** 3 + np.abs((y - spine_at) / 15) ** 3, 1 / 3)
    return (1 - ratio) * np.float32(15)


def _bone(distance: np.ndarray, marrow: float, cortex: float) -> np.ndarray:
    """HU of bone: dense at the surface, marrow inside."""
    depth = np.clip(distance / 2.4, 0, 1)
    return marrow + (cortex - marrow) * np.square(1 - depth)


def add_ribs(
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
    front = coverage(-0.62 - around, 0.16)
    density = _bone(distance, MARROW, CORTEX) * (1 - front) + CARTILAGE * front
    tissue += share * (density - tissue)


def add_spine(
    tissue: np.ndarray, body: Habitus, axes: tuple, spine_at: float, edge: np.float32
) -> None:
    """Vertebral bodies with discs, the canal, and the processes behind it."""
    part = near_zero(axes[2], 40.0)
    tissue, axes = tissue[..., part], (*axes[:2], axes[2][..., part])
    z, y, x = axes
    vertebra = vertebra_distance(axes, spine_at)
    phase = (z / 23.5 + body.rib_phase) % 1
    disc = coverage(2.4 - 23.5 * np.abs(phase - 0.5), 3.0)
    plate = np.clip(1 - np.abs(23.5 * np.abs(phase - 0.5) - 4.6) / 2.4, 0, 1)
    body_hu = _bone(vertebra, 120, 330) + 110 * plate
    density = body_hu + disc * (95 - body_hu)
    tissue += coverage(vertebra, edge) * (density - tissue)
    lower = y - np.float32(spine_at)
    canal = 9 - np.hypot(x, lower - 23)
    arch = np.minimum(canal + 6, 9.5 - np.abs(lower - 25)) - 3.5 * disc
    wings = np.minimum(34 - np.abs(x), 5 - np.abs(lower - 24 - 0.18 * np.abs(x)))
    spinous = np.minimum(3.6 - np.abs(x), 11 - np.abs(lower - 43))
    # Each vertebra has them on a part of its height; elsewhere 12 mm less is outside.
    wings = wings - np.float32(12) * (np.abs(phase - 0.05) > 0.25)
    spinous = spinous - np.float32(12) * (np.abs(phase - 0.6) > 0.3)
    behind = np.maximum(np.maximum(arch, wings), spinous)
    tissue += coverage(behind, edge) * (_bone(behind, 70, 180) - tissue)
    tissue += coverage(canal, edge) * (np.float32(28) - tissue)


def add_sternum(
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


def add_girdle(
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
