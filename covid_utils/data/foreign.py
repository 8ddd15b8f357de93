"""Slices as other hospitals show them, drawn at random.

A network that has learned from the slices of one scanner in one window outlines muscle and the
table in those of another. The order of the changes is that of a scan: what the scanner does
(sharpness, resolution, noise), what a viewer makes of it (window, gamma, equalised contrast), what
is burned in, and how the picture is stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from covid_utils.data import augment

#: Share of a slice's side that its crop leaves around the lungs; there is twice as much below.
EDGE = 0.06
#: Signs that are burned in: sides, views, numbers.
SIGNS = "LRAPSIF0123456789"


@dataclass(frozen=True)
class Change:
    """The share of slices that are changed, and the range that the strength is drawn from."""

    share: float
    low: float = 0.0
    high: float = 0.0

    def draw(self, rng: np.random.Generator) -> float | None:
        """The strength of the change to one slice, uniform in its range; None leaves it alone."""
        return rng.uniform(self.low, self.high) if rng.random() < self.share else None


#: Rotation, shift, zoom, shear and flip.
MOVEMENT = augment.WIDE
#: Mirrors top and bottom, as some files are stored.
UPSIDE_DOWN = Change(0.5)
#: Standard deviation of a Gaussian, in pixels.
BLUR = Change(0.25, 0.3, 1.2)
#: Factor of the pixel's size, in a slice of lower resolution that is enlarged again.
SHRINK = Change(0.2, 1.2, 2.5)
#: Standard deviation in gray values.
NOISE = Change(0.3, 2.0, 14.0)
#: Gray values that are shown as 0 and 255; -1350 HU is 0, 150 HU is 255, and 1 is 5.9 HU.
WINDOW_LOW, WINDOW_HIGH = Change(0.4, -40.0, 50.0), Change(0.4, 195.0, 300.0)
#: Binary logarithm of the exponent of gray.
GAMMA = Change(0.4, -0.6, 0.6)
#: Clip limit of CLAHE, and fewest and most tiles of it along each side.
CLAHE, TILES = Change(0.6, 1.0, 5.0), (2, 10)
#: Signs that are burned in at the top or the bottom, 1 to 3; gray value of an arc below the lungs.
LETTERS, TABLE = Change(0.15, 1.0, 4.0), Change(0.2, 140.0, 255.0)


def pair(
    rng: np.random.Generator, image: np.ndarray, mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Show a uint8 slice (side, side), cropped to the lungs, as another hospital might.

    Its labels move alike, and nothing is burned in over a lesion.
    """
    shown = _viewed(rng, _scanned(rng, image))
    shown = np.where(mask > 0, shown, _burned_in(rng, shown))
    side = image.shape[0]
    matrix = augment.draw_matrix(rng, side, MOVEMENT)
    if UPSIDE_DOWN.draw(rng) is not None:
        matrix = matrix @ np.array([[1.0, 0, 0], [0, -1, side - 1], [0, 0, 1]])
    return augment.warp(shown, matrix), augment.warp(mask, matrix, is_mask=True)


def _scanned(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """What the scanner does: sharpness, resolution, noise."""
    if (blur := BLUR.draw(rng)) is not None:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    if (factor := SHRINK.draw(rng)) is not None:
        size = (max(1, round(image.shape[0] / factor)),) * 2
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        image = cv2.resize(small, image.shape[::-1], interpolation=cv2.INTER_LINEAR)
    if (spread := NOISE.draw(rng)) is not None:
        grain = rng.standard_normal(image.shape, np.float32) * np.float32(spread)
        image = np.rint(np.clip(image + grain, 0, 255)).astype(np.uint8)
    return image


def _viewed(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Another window, gamma and contrast; uint8."""
    low, high, gamma = (change.draw(rng) for change in (WINDOW_LOW, WINDOW_HIGH, GAMMA))
    low, high = 0.0 if low is None else low, 255.0 if high is None else high
    gray = np.clip((np.arange(256) - low) / (high - low), 0, 1) ** 2.0 ** (gamma or 0.0)
    image = np.rint(gray * 255).astype(np.uint8)[image]
    if (clip := CLAHE.draw(rng)) is not None:
        tiles = int(rng.integers(*TILES, endpoint=True))
        image = cv2.createCLAHE(clip, (tiles, tiles)).apply(image)
    return image


def _burned_in(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """A copy with letters and a table outside the lungs."""
    image, side = image.copy(), image.shape[0]
    if (gray := TABLE.draw(rng)) is not None:
        centre = round(rng.uniform(0.2, 0.8) * side), round((1 - 1.6 * EDGE) * side)
        axes = round(rng.uniform(0.4, 1.0) * side), round(rng.uniform(0.2, 1.0) * EDGE * side)
        first = 180 * int(rng.integers(2))  # hollow or domed
        centre = (centre[0], centre[1] + (axes[1] if first else 0))
        cv2.ellipse(image, centre, axes, 0, first, first + 180, round(gray), 1)
    if (count := LETTERS.draw(rng)) is not None:
        text = "".join(rng.choice(list(SIGNS), int(count)))
        foot = round(side * (EDGE if rng.random() < 0.5 else 1 - EDGE / 2))
        place = round(rng.uniform(0, 0.9) * side), foot
        # Signs of this font are 9 pixels high at scale 1.
        cv2.putText(image, text, place, cv2.FONT_HERSHEY_PLAIN, 0.8 * EDGE * side / 9, 255)
    return image
