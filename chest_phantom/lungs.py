"""The lungs between chest wall, mediastinum and diaphragm: texture and lobes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from chest_phantom.geometry import Grid, smooth_noise

if TYPE_CHECKING:
    from chest_phantom.habitus import Habitus
    from chest_phantom.vessels import Tree

#: How steeply the left and the right oblique fissure rise to the back.
LEFT_SLOPE, RIGHT_SLOPE = np.float32(0.98), np.float32(0.92)
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
    # The box around all voxels with the label 1.
    box = ndimage.find_objects((share > 0).astype(np.uint8))[0]
    z, y, x = grid.axes()
    z, y, x = z[box[0]], y[:, box[1]], x[..., box[2]]
    axes = (z, y, x)
    lobe, fissure = _lobes(body, axes)
    height = (z - z.min()) / (z.max() - z.min())
    shape = share[box].shape
    return Lungs(
        box=box,
        axes=axes,
        share=share[box],
        inside=inside[box],
        wall_distance=wall_distance[box],
        above_base=np.broadcast_to(height, shape),
        left=np.broadcast_to(x > body.seam(y), shape),
        lobe=lobe,
        parenchyma=_parenchyma(rng, body, grid, axes, shape, fissure),
        vessel=tree.vessel[box],
        lumen=tree.lumen[box],
        wall=tree.wall[box],
    )


def _lobes(body: Habitus, axes: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Lobe of every voxel, and the distance to the nearest fissure in mm."""
    z, y, x = axes
    left = x > body.seam(y)
    bow = np.square((np.abs(x) - 78) / 60)
    slope = np.where(left, LEFT_SLOPE, RIGHT_SLOPE)
    oblique = body.carina - 2 + slope * (y - 22) + 0.0015 * y * y - 15 * bow
    level = (z - oblique) / 1.4
    horizontal = z - (body.carina - 42) + 9 * bow + 0.07 * y
    right_upper, right_middle, right_lower, left_upper, left_lower = np.arange(5, dtype=np.uint8)
    above = np.where(left, left_upper, np.where(horizontal > 0, right_upper, right_middle))
    below = np.where(left, left_lower, right_lower)
    lobe = np.where(level > 0, above, below)
    # Only the right lung has a horizontal fissure, above its oblique one; 99 mm is far away.
    horizontal_gap = np.where(~left & (level > 0), np.abs(horizontal), np.float32(99))
    return lobe, np.minimum(np.abs(level), horizontal_gap)


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
