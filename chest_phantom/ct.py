"""Axial CT slices of a phantom."""

from __future__ import annotations

import cv2
import numpy as np

from chest_phantom.disease import Volume
from chest_phantom.geometry import coverage

#: Standard deviation of the noise in HU, about; less in air, more in dense tissue.
NOISE_HU = 17.0


def ct_slice(volume: Volume, index: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Take one axial CT slice, counted from the bottom.

    Returns:
        int16 Hounsfield units and uint8 labels, both (y, x): front at the top, the patient's left
        at the right.
    """
    rng = np.random.default_rng((seed, index))
    hu = cv2.GaussianBlur(volume.hu[index].astype(np.float32), (0, 0), 0.45)
    grain = rng.standard_normal(hu.shape, dtype=np.float32)
    # The reconstruction kernel couples neighbours: blur, then restore the variance.
    grain = cv2.GaussianBlur(grain, (0, 0), 0.7) * (
        np.float32(2.2 * NOISE_HU) * (0.5 + coverage(hu + 600, 900.0))
    )
    hu = np.clip(np.rint(hu + grain), -1024, 3000).astype(np.int16)
    return hu, volume.labels[index].copy()


def lung_slices(volume: Volume) -> np.ndarray:
    """Slices that show a good part of the lungs, from the bottom up."""
    # Every third voxel is enough to count by.
    dense = volume.hu[:, ::3, ::3] > -500
    before = np.logical_or.accumulate(dense, axis=1)
    behind = np.logical_or.accumulate(dense[:, ::-1], axis=1)[:, ::-1]
    air = (before & behind & ~dense).sum(axis=(1, 2))
    return np.flatnonzero(air > 0.35 * air.max())


def to_uint8(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Show ``low`` to ``high`` as 0 to 255, uint8; what lies beyond is clipped."""
    scaled = np.clip((np.asarray(image, np.float32) - low) * (255.0 / (high - low)), 0, 255)
    return np.rint(scaled).astype(np.uint8)
