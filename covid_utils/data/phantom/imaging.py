"""Pictures of a phantom: axial CT slices, and X-rays as ray sums after Beer and Lambert."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np

from covid_utils.data.images import LUNG_WINDOW, to_uint8
from covid_utils.data.phantom.disease import Volume
from covid_utils.data.phantom.geometry import coverage

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
HOSPITALS = ("north", "south")


@dataclass(frozen=True)
class Exposure:
    """How one X-ray was taken; angles in degrees, shifts as a share of the picture.

    Attributes:
        view: PA, AP, AP Supine or L.
        photons: Photons that reach a pixel through air.
        scatter: Scattered light as a share of the mean primary light.
        field: Width of the picture at the detector in mm.
        turn: Rotation in the plane of the picture.
        shift: Shift (right, down).
        breath: Vertical stretch; below 1 the patient breathed in less.
        detail: How strongly fine structures are raised, as digital detectors do.
        gamma: Bend of the tone curve, 1 is straight.
        level: Brightness in 0-1 that is added.
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
    portable = 1.0 if view.startswith("AP") else 0.5
    return Exposure(
        view=view,
        photons=rng.uniform(0.8e5, 2.5e5) * (0.5 if portable > 0.5 else 1),
        scatter=rng.uniform(0.35, 0.6) + 0.25 * (portable - 0.5),
        field=rng.uniform(335, 362) + 14 * (portable - 0.5),
        turn=portable * rng.normal(0, 2.2),
        shift=(portable * rng.normal(0, 0.022), portable * rng.normal(0, 0.022)),
        breath=rng.uniform(0.95, 1.03) - 0.06 * (portable - 0.5),
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
    """Sum the attenuation along parallel rays.

    Args:
        volume: The chest.
        view: ``L`` looks from the side, anything else from the front.
        slabs: Into how many slabs the way of a ray is cut.

    Returns:
        float32 (slabs, z, x or y), without a unit: minus the logarithm of the share of the light
        that comes through. The first slab is at the front (or at the patient's right side).
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
    """Line integrals on the detector; parts far from it appear larger.

    Args:
        volume: The chest.
        exposure: How the picture is taken.
        size: Pixels of the square picture.

    Returns:
        float32 (size, size), head up, the patient's left at the right; without a unit.
    """
    return _cast(line_integrals(volume, exposure.view, SLABS), volume, exposure, size)


def _cast(slabs: np.ndarray, volume: Volume, exposure: Exposure, size: int) -> np.ndarray:
    """Lay slabs over each other on the detector.

    Each slab is magnified as a whole, which is the perspective of a cone beam but for the
    obliquity of its rays.
    """
    step = volume.hu.shape[1] * volume.spacing[1] / len(slabs)
    distance = (np.arange(len(slabs)) + 0.5) * step + DETECTOR_GAP
    if exposure.view.startswith("AP"):
        distance = distance[::-1]
    tube = TUBE_MM[exposure.view]
    picture = np.zeros((size, size), np.float32)
    for slab, gap in zip(slabs, distance, strict=True):
        matrix = _placement(volume, exposure, size, tube / (tube - gap))
        picture += cv2.warpAffine(
            slab, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
    return np.maximum(picture, 0)


def opacity_boxes(
    volume: Volume, exposure: Exposure, size: int, depth: float = 12.0
) -> list[tuple[int, int, int, int]]:
    """Boxes around the opacities of each side of an X-ray.

    Args:
        volume: The chest.
        exposure: How the X-ray is taken.
        size: Pixels of the X-ray along each side.
        depth: How many mm of lesion a ray must cross.

    Returns:
        For each side with an opacity, the patient's right first: left edge, top, width and height
        of the box in pixels.
    """
    lesion = (volume.labels > 0).astype(np.float32) * np.float32(volume.spacing[1])
    slabs = np.stack([part.sum(axis=1) for part in np.array_split(lesion, SLABS, axis=1)])
    shadow = (_cast(slabs, volume, exposure, size) > depth).astype(np.uint8)
    middle = round((0.5 + exposure.shift[0]) * size)
    boxes = []
    for start, stop in ((0, middle), (middle, size)):
        side = shadow[:, start:stop]
        if side.sum() > 0.002 * size * size:
            x, y, width, height = cv2.boundingRect(side)
            boxes.append((x + start, y, width, height))
    return boxes


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


def xray(
    volume: Volume,
    exposure: Exposure | None = None,
    size: int = 256,
    seed: int = 0,
    hospital: str = "north",
    mark: float = 0.0,
) -> np.ndarray:
    """Take an X-ray of a volume.

    Light is weakened along each ray (Beer-Lambert), scattered light is added, photons are counted
    with Poisson noise, and the logarithm is shown with bones white.

    Args:
        volume: The chest.
        exposure: How the picture is taken; a PA picture if None.
        size: Pixels along each side.
        seed: Seed of the noise.
        hospital: One of `HOSPITALS`; which acquisition marks to burn in.
        mark: Strength of the marks, 0-1; 0 leaves none.

    Returns:
        uint8 (size, size).
    """
    exposure = exposure or Exposure()
    rng = np.random.default_rng(seed)
    primary = np.exp(-project(volume, exposure, size))
    spread = _wide_blur(primary, size / 14)
    light = cv2.GaussianBlur(primary, (0, 0), 0.55) + exposure.scatter * spread
    light = rng.poisson(light * exposure.photons).astype(np.float32) + 1
    shown = develop(np.log(exposure.photons / light), exposure)
    return add_marks(shown, hospital, mark)


def develop(density: np.ndarray, exposure: Exposure) -> np.ndarray:
    """Display transform of a digital detector: even out the background, raise the detail.

    Args:
        density: Minus the logarithm of the light (height, width).
        exposure: Gives detail, gamma and level.

    Returns:
        float32 in 0-1, dense tissue bright.
    """
    density = density.astype(np.float32)
    broad = _wide_blur(density, len(density) / 10)
    fine = cv2.GaussianBlur(density, (0, 0), len(density) / 60)
    shown = 0.5 * broad + 1.05 * (fine - broad) + exposure.detail * (density - fine)
    low, high = np.percentile(shown, (3, 99.0))
    shown = np.clip((shown - low) / (high - low) * 0.9 + 0.05, 0, 1)
    return np.clip(shown**exposure.gamma + exposure.level, 0, 1)


def _wide_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of many pixels, computed on a quarter of the size."""
    size = (image.shape[1], image.shape[0])
    small = cv2.resize(image, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / 4)
    return cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)


def add_marks(shown: np.ndarray, hospital: str, mark: float) -> np.ndarray:
    """Burn in what gives a hospital away: a lead letter, the collimator's border, the brightness.

    Args:
        shown: Picture in 0-1 (size, size).
        hospital: One of `HOSPITALS`.
        mark: Strength 0-1; 0 leaves the picture as it is, whatever the hospital.

    Returns:
        uint8 picture.
    """
    size = len(shown)
    if mark > 0 and hospital == "north":
        shown = np.clip(shown * (1 + 0.16 * mark) + 0.03 * mark, 0, 1)
        shown = _stamp_letter(shown, "L", (0.88, 0.13), mark)
    elif mark > 0:
        shown = np.clip(shown, 0, 1) ** (1 + 0.35 * mark)
        shown = _stamp_letter(shown, "R", (0.06, 0.17), mark)
        border = max(1, round(0.03 * size))
        frame = np.ones_like(shown)
        frame[border:-border, border:-border] = 0
        shown = shown * (1 - min(1.0, 1.6 * mark) * frame)
    return to_uint8(shown, 0.0, 1.0)


def _stamp_letter(
    shown: np.ndarray, letter: str, place: tuple[float, float], mark: float
) -> np.ndarray:
    """A letter of lead: bright, with soft edges."""
    size = len(shown)
    layer = np.zeros(shown.shape, np.uint8)
    corner = (round(place[0] * size), round(place[1] * size))
    cv2.putText(
        layer,
        letter,
        corner,
        cv2.FONT_HERSHEY_DUPLEX,
        size / 330,
        255,
        max(1, size // 128),
        cv2.LINE_AA,
    )
    share = cv2.GaussianBlur(layer, (0, 0), 0.6).astype(np.float32) / 255
    share *= np.float32(min(1.0, 1.6 * mark))
    return shown + share * (np.float32(0.98) - shown)


def ct_slice(
    volume: Volume, index: int, seed: int = 0, noise: float = 17.0
) -> tuple[np.ndarray, np.ndarray]:
    """Take one axial CT slice.

    Args:
        volume: The chest.
        index: Slice, counted from the bottom.
        seed: Seed of the noise.
        noise: Standard deviation of the scanner's noise in HU.

    Returns:
        int16 Hounsfield units and uint8 labels, both (y, x), the patient's front up and left side
        at the right.
    """
    rng = np.random.default_rng((seed, index))
    hu = cv2.GaussianBlur(volume.hu[index].astype(np.float32), (0, 0), 0.45)
    grain = rng.standard_normal(hu.shape, dtype=np.float32)
    # The reconstruction kernel couples neighbours: blur, then restore the variance.
    grain = cv2.GaussianBlur(grain, (0, 0), 0.7) * (
        np.float32(2.2 * noise) * (0.5 + coverage(hu + 600, 900.0))
    )
    hu = np.clip(np.rint(hu + grain), -1024, 3000).astype(np.int16)
    return hu, volume.labels[index].copy()


def lung_window(hu: np.ndarray) -> np.ndarray:
    """Show Hounsfield units in the lung window as uint8."""
    return to_uint8(hu, *LUNG_WINDOW)


def lung_slices(volume: Volume) -> np.ndarray:
    """Slices that show a good part of the lungs, from the bottom up."""
    # Every third voxel is enough to count by.
    dense = volume.hu[:, ::3, ::3] > -500
    before = np.logical_or.accumulate(dense, axis=1)
    behind = np.logical_or.accumulate(dense[:, ::-1], axis=1)[:, ::-1]
    air = (before & behind & ~dense).sum(axis=(1, 2))
    return np.flatnonzero(air > 0.35 * air.max())
