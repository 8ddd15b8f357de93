"""Random rotation, shift, zoom, shear and flip, the same for an image and its mask.

The paper (section 3.2) names the operations and gives no ranges; ours are the defaults below. All
of them are one affine map, so an image is resampled once, and its mask with nearest neighbour.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Ranges:
    """How far an image may be moved; each value is drawn evenly from minus to plus.

    Attributes:
        rotation: Degrees.
        shift: Share of the side, horizontally and vertically.
        zoom: Share of the scale, 0.1 means 0.9 to 1.1.
        shear: Degrees.
        flip: Whether to mirror left and right with probability one half.
    """

    rotation: float = 10.0
    shift: float = 0.08
    zoom: float = 0.12
    shear: float = 5.0
    flip: bool = True


def draw_matrix(rng: np.random.Generator, side: int, ranges: Ranges) -> np.ndarray:
    """Draw one affine map about the image's centre.

    Args:
        rng: Source of randomness.
        side: Width and height of the image in pixels.
        ranges: Limits of the draw.

    Returns:
        float64 (2, 3) matrix from source to target coordinates, as `cv2.warpAffine` takes it.
    """
    angle, shear = np.deg2rad(rng.uniform(-1, 1, 2) * (ranges.rotation, ranges.shear))
    scale = 1 + rng.uniform(-1, 1) * ranges.zoom
    shift = rng.uniform(-1, 1, 2) * ranges.shift * side
    mirror = -1.0 if ranges.flip and rng.random() < 0.5 else 1.0
    rotate = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = scale * rotate @ np.array([[1, np.tan(shear)], [0, 1]]) @ np.diag([mirror, 1.0])
    centre = np.full(2, (side - 1) / 2)
    return np.hstack([linear, (centre + shift - linear @ centre)[:, None]])


def warp(image: np.ndarray, matrix: np.ndarray, is_mask: bool = False) -> np.ndarray:
    """Apply an affine map; what comes in from outside is 0.

    Args:
        image: uint8 image or labels (side, side).
        matrix: From `draw_matrix`.
        is_mask: Nearest neighbour instead of linear interpolation.

    Returns:
        uint8 array of the same shape.
    """
    how = cv2.INTER_NEAREST if is_mask else cv2.INTER_LINEAR
    return cv2.warpAffine(image, matrix, image.shape[::-1], flags=how)


def pair(
    rng: np.random.Generator, image: np.ndarray, mask: np.ndarray, ranges: Ranges
) -> tuple[np.ndarray, np.ndarray]:
    """Augment an image and its mask alike.

    Args:
        rng: Source of randomness.
        image: uint8 image (side, side).
        mask: uint8 labels (side, side).
        ranges: Limits.

    Returns:
        The image and the mask, moved by the same map.
    """
    matrix = draw_matrix(rng, image.shape[0], ranges)
    return warp(image, matrix), warp(mask, matrix, is_mask=True)
