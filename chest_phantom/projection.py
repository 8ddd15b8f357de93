"""Ray sums through a phantom after Beer and Lambert, and where they land on the detector."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np

from chest_phantom.disease import Volume

#: Attenuation of water for a chest X-ray (about 70 keV), per mm.
WATER_PER_MM = 0.0195
#: HU from which bone weakens the X-ray more than CT numbers say, and by what share of the excess.
BONE_FROM, BONE_GAIN = 200.0, 0.6
#: Distance of the X-ray tube from the detector in mm: standing PA and L, portable AP.
TUBE_MM = {"PA": 1800.0, "AP": 1050.0, "AP Supine": 1000.0, "L": 1800.0}
#: Slabs into which the chest is cut so that each has its own magnification.
SLABS = 10
#: Gap between the chest and the detector in mm.
DETECTOR_GAP = 25.0


@dataclass(frozen=True)
class Exposure:
    """How one X-ray was taken; angles in degrees, shifts as a share of the picture.

    Attributes:
        view: PA, AP, AP Supine or L.
        photons: Photons that reach a pixel through air.
        scatter: Scattered light as a share of the primary light, blurred widely.
        field: Width of the picture at the detector in mm.
        turn: Rotation in the plane of the picture.
        shift: Shift (right, down).
        breath: Vertical stretch; below 1 the patient breathed in less.
        detail: How strongly fine structures are raised, as digital detectors do.
        gamma: Bend of the tone curve, 1 is straight.
        level: What is added to the brightness, which is in 0-1.
    """

    view: str = "PA"
    photons: float = 1.5e5
    scatter: float = 0.5
    field: float = 345.0
    turn: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    breath: float = 1.0
    detail: float = 1.5
    gamma: float = 1.0
    level: float = 0.0


def sample_exposure(rng: np.random.Generator, view: str) -> Exposure:
    """Draw how an X-ray is taken: portable AP pictures are noisier and less well centred."""
    is_portable = view.startswith("AP")
    off_centre = 1.0 if is_portable else 0.5
    return Exposure(
        view=view,
        photons=rng.uniform(0.8e5, 2.5e5) * (0.5 if is_portable else 1),
        scatter=rng.uniform(0.35, 0.6) + (0.125 if is_portable else 0),
        field=rng.uniform(335, 362) + (7 if is_portable else 0),
        turn=off_centre * rng.normal(0, 2.2),
        shift=(off_centre * rng.normal(0, 0.022), off_centre * rng.normal(0, 0.022)),
        breath=rng.uniform(0.95, 1.03) - (0.03 if is_portable else 0),
        detail=rng.uniform(1.35, 1.8),
        gamma=rng.uniform(0.9, 1.12),
        level=rng.normal(0, 0.02),
    )


def attenuation(hu: np.ndarray) -> np.ndarray:
    """Linear attenuation per mm of what has the given Hounsfield units, float32, never negative.

    Linear in HU up to `BONE_FROM`; bone above it counts more than in CT, because the softer X-ray
    beam is absorbed by its calcium.
    """
    hu = hu.astype(np.float32)
    hu += np.float32(BONE_GAIN) * np.maximum(hu - np.float32(BONE_FROM), 0)
    return np.maximum((hu + 1000) * np.float32(WATER_PER_MM / 1000), 0)


def line_integrals(volume: Volume, view: str = "PA", slabs: int = 1) -> np.ndarray:
    """Sum the attenuation along parallel rays, separately for each of some slabs.

    Returns:
        float32 (slabs, z, x; of view ``L`` z, y), without a unit: minus the logarithm of the share
        of the light that comes through. The first slab is at the front, or at the patient's right.
    """
    axis = 2 if view == "L" else 1
    cuts = np.linspace(0, volume.hu.shape[axis], slabs + 1).astype(int)
    # A table of all values of HU is quicker than arithmetic on every voxel.
    lowest = int(volume.hu.min())
    table = attenuation(np.arange(lowest, int(volume.hu.max()) + 1)) * volume.spacing[axis]
    mu = table.astype(np.float32)[volume.hu - lowest]
    pieces = (mu.take(range(*cut), axis) for cut in itertools.pairwise(cuts))
    return np.stack([piece.sum(axis) for piece in pieces])


def project(volume: Volume, exposure: Exposure, size: int) -> np.ndarray:
    """Line integrals on the detector, where parts far from it appear larger.

    Returns:
        float32 (size, size), head up, the patient's left at the right; without a unit.
    """
    return _cast(line_integrals(volume, exposure.view, SLABS), volume, exposure, size)


def thickness(mask: np.ndarray, volume: Volume, exposure: Exposure, size: int) -> np.ndarray:
    """How many mm of a bool mask (z, y, x) the ray to each pixel of a PA or AP X-ray crosses."""
    depth = mask.astype(np.float32) * np.float32(volume.spacing[1])
    slabs = np.stack([part.sum(axis=1) for part in np.array_split(depth, SLABS, axis=1)])
    return _cast(slabs, volume, exposure, size)


def locate(
    point: tuple[float, float, float], volume: Volume, exposure: Exposure, size: int
) -> tuple[float, float]:
    """Row and column of a PA or AP X-ray that show a point (z, y, x) in voxels."""
    z, y, x = point
    slab = int(y * SLABS / volume.hu.shape[1])
    column, row = _placements(volume, exposure, size)[slab] @ (x, z, 1)
    return row, column


def _cast(slabs: np.ndarray, volume: Volume, exposure: Exposure, size: int) -> np.ndarray:
    """Sum slabs, each magnified as a whole: a cone beam but for the obliquity of its rays."""
    picture = np.zeros((size, size), np.float32)
    for slab, matrix in zip(slabs, _placements(volume, exposure, size), strict=True):
        picture += cv2.warpAffine(
            slab, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
    return np.maximum(picture, 0)


def _placements(volume: Volume, exposure: Exposure, size: int) -> list[np.ndarray]:
    """For each slab, the affine map (2, 3) from its pixels (x, z) to the picture's."""
    step = volume.hu.shape[1] * volume.spacing[1] / SLABS
    distance = (np.arange(SLABS) + 0.5) * step + DETECTOR_GAP
    if exposure.view.startswith("AP"):
        distance = distance[::-1]
    tube = TUBE_MM[exposure.view]
    return [_placement(volume, exposure, size, tube / (tube - gap)) for gap in distance]


def _placement(volume: Volume, exposure: Exposure, size: int, magnified: float) -> np.ndarray:
    """Affine map (2, 3) from a slab's pixels (x, z) to the picture's."""
    tall, _, _ = volume.hu.shape
    pixel = exposure.field / size
    across = volume.spacing[2] / pixel * magnified
    down = volume.spacing[0] / pixel * magnified * exposure.breath
    angle = np.deg2rad(exposure.turn)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    linear = turn @ np.array([[across, 0], [0, -down]])
    middle = np.array([(volume.hu.shape[2] - 1) / 2, 0.53 * tall])
    target = (size - 1) / 2 + np.array(exposure.shift) * size
    return np.column_stack([linear, target - linear @ middle])
