"""The lungs between chest wall, mediastinum and diaphragm: texture and lobes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from chest_phantom.geometry import Grid, smooth_noise

if TYPE_CHECKING:
    from chest_phantom.habitus import Habitus
    from chest_phantom.vessels import Tree

#: How steeply the left and the right oblique fissure rise to the back.
SLOPES = (np.float32(0.98), np.float32(0.92))
LOBES = ("right upper", "right middle", "right lower", "left upper", "left lower")


@dataclass(frozen=True)
class Lungs:
    """Both lungs, cropped to ``box``; all arrays are float32 of the box's shape unless noted.

    Attributes:
        box: Slices of the box in the volume.
        axes: Positions along z, y and x in mm, to broadcast.
        share: Coverage of a voxel by lung, 0-1.
        inside: Distance into the lung in mm.
        wall_distance: Distance from the inner side of the ribs in mm.
        above_base: Height in the lung, 0 at the lowest and 1 at the highest point.
        left: bool, where the left lung is.
        lobe: uint8 index into `LOBES`.
        parenchyma: Healthy lung without vessels, in HU.
        vessel: Coverage by vessels.
        lumen: Coverage by the air in the bronchi.
        wall: Coverage by the bronchi with their walls.
    """

    box: tuple[slice, slice, slice]
    axes: tuple[np.ndarray, np.ndarray, np.ndarray]
    share: np.ndarray
    inside: np.ndarray
    wall_distance: np.ndarray
    above_base: np.ndarray
    left: np.ndarray
    lobe: np.ndarray
    parenchyma: np.ndarray
    vessel: np.ndarray
    lumen: np.ndarray
    wall: np.ndarray


def assemble(
    rng: np.random.Generator,
    body: Habitus,
    grid: Grid,
    share: np.ndarray,
    inside: np.ndarray,
    wall_distance: np.ndarray,
    tree: Tree,
) -> Lungs:
    """Crop everything to the lungs, and give them lobes and texture."""
    box = bounding_box(share > 0)
    axes = tuple(
        axis[tuple(part if n > 1 else slice(None) for part, n in zip(box, axis.shape, strict=True))]
        for axis in grid.axes()
    )
    lobe, fissure = _lobes(body, axes)
    z = axes[0]
    height = (z - z.min()) / (z.max() - z.min())
    shape = share[box].shape
    return Lungs(
        box=box,
        axes=axes,
        share=share[box],
        inside=inside[box],
        wall_distance=wall_distance[box],
        above_base=np.broadcast_to(height, shape),
        left=np.broadcast_to(axes[2] > body.seam(axes[1]), shape),
        lobe=lobe,
        parenchyma=_parenchyma(rng, body, grid, axes, shape, fissure),
        vessel=tree.vessel[box],
        lumen=tree.lumen[box],
        wall=tree.wall[box],
    )


def bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Smallest box around the true elements of an array of any dimension."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(n for n in range(mask.ndim) if n != axis)
        places = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(places[0]), int(places[-1]) + 1))
    return tuple(box)


def _lobes(body: Habitus, axes: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Lobe of every voxel, and the distance to the nearest fissure in mm."""
    z, y, x = axes
    left = x > body.seam(y)
    bow = np.square((np.abs(x) - 78) / 60)
    oblique = body.carina - 2 + np.where(left, *SLOPES) * (y - 22) + 0.0015 * y * y - 15 * bow
    level = (z - oblique) / 1.4
    horizontal = z - (body.carina - 42) + 9 * bow + 0.07 * y
    kinds = np.arange(len(LOBES), dtype=np.uint8)
    upper_right = np.where(horizontal > 0, kinds[0], kinds[1])
    above = level > 0
    lobe = np.where(
        above, np.where(left, kinds[3], upper_right), np.where(left, kinds[4], kinds[2])
    )
    middle = np.where(~left & above, np.abs(horizontal), np.float32(99))
    return lobe, np.minimum(np.abs(level), middle)


def _parenchyma(
    rng: np.random.Generator,
    body: Habitus,
    grid: Grid,
    axes: tuple,
    shape: tuple,
    fissure: np.ndarray,
) -> np.ndarray:
    """Healthy lung: fine grain, slow waves, denser towards the back, thin fissures."""
    y = axes[1]
    field = smooth_noise(rng, shape, grid.spacing, 5.0)
    field *= np.float32(14)
    field += smooth_noise(rng, shape, grid.spacing, 32.0) * np.float32(11)
    back = np.clip((y + 20) / body.depth, -0.6, 1)
    field += (body.lung_hu + 26 * back + 22 * np.clip(back, 0, 1) ** 3).astype(np.float32)
    field += np.float32(70) * np.clip(1 - fissure / 2.2, 0, 1)
    return field
