"""Building blocks of the phantom: the voxel grid, soft-edged shapes, painted tubes, smooth noise.

Axes of every volume are (z, y, x): z rises towards the head, y towards the back, x towards the
patient's left, as in a CT series shown the usual way.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.interpolate import PchipInterpolator

#: Height of the simulated chest and distance of the slices, in mm.
HEIGHT_MM = 320.0
SLICE_MM = 4.0


@dataclass(frozen=True)
class Grid:
    """Voxel grid: ``size`` voxels along y and x over a field of view of ``field`` mm."""

    size: int
    field: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along (z, y, x)."""
        return (int(HEIGHT_MM / SLICE_MM), self.size, self.size)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along (z, y, x) in mm."""
        return (SLICE_MM, self.field / self.size, self.field / self.size)

    @property
    def origin(self) -> np.ndarray:
        """Position of voxel (0, 0, 0) in mm; x and y count from the middle of the field."""
        pixel = self.field / self.size
        corner = (pixel - self.field) / 2
        return np.array([SLICE_MM / 2, corner, corner], np.float32)

    def axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions in mm along z, y and x, shaped to broadcast over a volume."""
        z, y, x = (
            (np.arange(count) * step + start).astype(np.float32)
            for count, step, start in zip(self.shape, self.spacing, self.origin, strict=True)
        )
        return z[:, None, None], y[None, :, None], x[None, None, :]


def coverage(distance: np.ndarray, edge: float) -> np.ndarray:
    """Share of a voxel inside a shape (partial volume), float32 in 0-1, 0.5 on the surface.

    ``distance`` to the surface is positive inside; ``edge`` is the transition's width, both in mm.
    """
    share = distance * np.float32(1 / edge)
    share += np.float32(0.5)
    np.maximum(share, 0, out=share)
    return np.minimum(share, 1, out=share)


def near_zero(axis: np.ndarray, reach: float) -> slice:
    """Part of an axis closer than ``reach`` mm to its zero."""
    near = np.flatnonzero(np.abs(axis.ravel()) < reach)
    return slice(int(near[0]), int(near[-1]) + 1)


def mirrored(half: np.ndarray, size: int) -> np.ndarray:
    """Whole chest of ``size`` columns from its left half; an odd size has its middle once."""
    return np.concatenate([half[..., size % 2 :][..., ::-1], half], axis=-1)


def smooth_min(first: np.ndarray, second: np.ndarray, blend: float) -> np.ndarray:
    """Minimum of two distances with a rounded seam of ``blend`` mm (polynomial blend)."""
    seam = np.maximum(np.float32(blend) - np.abs(first - second), 0)
    return np.minimum(first, second) - seam * seam * np.float32(0.25 / blend)


def smooth_max(first: np.ndarray, second: np.ndarray, blend: float) -> np.ndarray:
    """Maximum of two distances with a rounded seam of ``blend`` mm."""
    return -smooth_min(-first, -second, blend)


def ellipsoid(
    axes: tuple[np.ndarray, np.ndarray, np.ndarray],
    centre: tuple[float, float, float],
    radii: tuple[float, float, float],
    lean: float = 0.0,
) -> np.ndarray:
    """Approximate signed distance to an ellipsoid in mm, positive inside.

    It moves in x by ``lean`` mm per mm downwards.
    """
    down = centre[0] - axes[0]
    across = axes[2] - np.float32(centre[2]) - np.float32(lean) * down
    flat = (down / np.float32(radii[0])) ** 2 + (across / np.float32(radii[2])) ** 2
    squared = flat + ((axes[1] - np.float32(centre[1])) / np.float32(radii[1])) ** 2
    return (1 - np.sqrt(squared)) * np.float32(min(radii))


def smooth_noise(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    scale: float,
) -> np.ndarray:
    """Random float32 field of mean 0 and a standard deviation of about 1.2.

    It interpolates independent values that are ``scale`` mm apart.
    """
    nodes = [max(3, int(np.ceil(n * s / scale)) + 1) for n, s in zip(shape, spacing, strict=True)]
    coarse = rng.standard_normal(nodes, dtype=np.float32) * np.float32(1.7)
    size = (shape[2], shape[1])
    planes = np.stack([cv2.resize(plane, size, interpolation=cv2.INTER_CUBIC) for plane in coarse])
    position = np.linspace(0, nodes[0] - 1.001, shape[0], dtype=np.float32)
    lower = position.astype(int)
    part = (position - lower)[:, None, None]
    field = planes[lower]
    field += part * (planes[lower + 1] - field)
    return field


def paint_tubes(grid: Grid, points: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Coverage of a volume by balls along centre lines, float32 in 0-1.

    ``points`` (n, 3) are (z, y, x) in mm, closer together than a voxel, which a thinner tube fills
    only in part.
    """
    spacing = np.array(grid.spacing, np.float32)
    reach = np.ceil((radii + 0.5 * spacing[1])[:, None] / spacing).astype(int)
    margin = reach.max(0)
    volume = np.zeros(np.array(grid.shape) + 2 * margin, np.float32)
    place = (points - grid.origin) / spacing
    near = np.all((place > -0.5) & (place < np.array(grid.shape) - 0.5), axis=1)
    place, reach, radii = place[near] + margin, reach[near], radii[near].astype(np.float32)
    # Balls whose boxes have the same size are painted together.
    kinds = np.ravel_multi_index(tuple(reach.T), tuple(margin + 1))
    for kind in np.unique(kinds):
        same = kinds == kind
        half = reach[same.argmax()]
        many = same.sum() > np.prod(2 * half + 1)
        stamp = _stamp_by_offset if many else _stamp_by_ball
        stamp(volume, spacing, place[same], radii[same], half)
    inner = tuple(slice(m, -m) for m in margin)
    return volume[inner]


def _stamp_by_offset(
    volume: np.ndarray, spacing: np.ndarray, place: np.ndarray, radii: np.ndarray, half: np.ndarray
) -> None:
    """Raise ``volume`` to the coverage by many small balls: one voxel offset at a time."""
    centre = np.rint(place).astype(int)
    base = np.ravel_multi_index(tuple(centre.T), volume.shape)
    dz, dy, dx = ((centre - place) * spacing).astype(np.float32).T
    thin = _filling(radii, spacing)
    flat = volume.reshape(-1)
    _, rows, columns = volume.shape
    for corner in np.ndindex(*(2 * half + 1)):
        z, y, x = np.array(corner) - half
        squared = (dz + z * spacing[0]) ** 2 + (dy + y * spacing[1]) ** 2
        squared += (dx + x * spacing[2]) ** 2
        share = coverage(radii - np.sqrt(squared), float(spacing[1])) * thin
        use = np.flatnonzero(share)
        offset = (z * rows + y) * columns + x
        np.maximum.at(flat, base[use] + offset, share[use])


def _stamp_by_ball(
    volume: np.ndarray, spacing: np.ndarray, place: np.ndarray, radii: np.ndarray, half: np.ndarray
) -> None:
    """Raise ``volume`` to the coverage by a few large balls: one ball at a time."""
    steps = np.meshgrid(*(np.arange(-n, n + 1) for n in half), indexing="ij", sparse=True)
    thin = _filling(radii, spacing)
    centre = np.rint(place).astype(int)
    for middle, delta, radius, fill in zip(centre, centre - place, radii, thin, strict=True):
        squared = sum(
            np.square((step + shift) * size, dtype=np.float32)
            for step, shift, size in zip(steps, delta, spacing, strict=True)
        )
        share = coverage(radius - np.sqrt(squared), float(spacing[1])) * fill
        box = tuple(slice(m - n, m + n + 1) for m, n in zip(middle, half, strict=True))
        np.maximum(volume[box], share, out=volume[box])


def _filling(radii: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """How far a tube thinner than a voxel fills it."""
    return np.minimum(1, (1.9 * radii / spacing[1]) ** 1.5).astype(np.float32)


def along(
    waypoints: list[tuple[float, float, float, float]], step: float
) -> tuple[np.ndarray, np.ndarray]:
    """Points (m, 3) and radii (m,) every ``step`` mm of a smooth curve; (z, y, x, radius) in mm."""
    path = np.array(waypoints, float)
    length = np.r_[0, np.cumsum(np.linalg.norm(np.diff(path[:, :3], axis=0), axis=1))]
    places = np.arange(0, length[-1], step)
    curve = PchipInterpolator(length, path)(places).astype(np.float32)
    return curve[:, :3], curve[:, 3]
