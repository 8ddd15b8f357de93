"""X-rays of a phantom: light, noise and display of the ray sums, and the marks of a hospital."""

from __future__ import annotations

import cv2
import numpy as np

from chest_phantom.ct import to_uint8
from chest_phantom.disease import Volume
from chest_phantom.projection import Exposure, project, thickness

#: Length of a ray within lesions from which they are an opacity, in mm.
OPACITY_MM = 12.0


def take_xray(
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
        hospital: One of `HOSPITALS`, whose marks are burned in.
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
    shown = _develop(np.log(exposure.photons / light), exposure)
    return add_marks(shown, hospital, mark)


def _develop(density: np.ndarray, exposure: Exposure) -> np.ndarray:
    """Display transform of a digital detector: even out the background, raise the detail.

    Takes minus the logarithm of the light; returns float32 in 0-1, dense tissue bright.
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
    """Burn in what identifies a hospital: a lead letter, the collimator's border, the brightness.

    Takes a picture in 0-1, returns uint8. Mark 0 leaves it as it is, whatever the hospital.
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


def opacity_boxes(volume: Volume, exposure: Exposure, size: int) -> list[tuple[int, int, int, int]]:
    """Boxes around the opacities of an X-ray, where rays cross `OPACITY_MM` of lesions.

    Returns:
        For each side with an opacity, the patient's right first: left edge, top, width and height
        of the box in pixels.
    """
    crossed = thickness(volume.labels > 0, volume, exposure, size)
    shadow = (crossed > OPACITY_MM).astype(np.uint8)
    middle = round((0.5 + exposure.shift[0]) * size)
    boxes = []
    for start, stop in ((0, middle), (middle, size)):
        side = shadow[:, start:stop]
        if side.sum() > 0.002 * size * size:
            x, y, width, height = cv2.boundingRect(side)
            boxes.append((x + start, y, width, height))
    return boxes
