"""A disease put into a healthy chest: Hounsfield units and the exact mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chest_phantom.anatomy import BLOOD, Anatomy
from chest_phantom.lesions import PATTERN_LESIONS, Lesions
from chest_phantom.lungs import Lungs
from chest_phantom.settings import CONSOLIDATION, EFFUSION, GROUND_GLASS, NODULE, PATTERNS

#: Densities in Hounsfield units.
EFFUSION_HU, NODULE_HU, CONSOLIDATION_HU = 12.0, 30.0, 8.0


@dataclass(frozen=True)
class Volume:
    """A chest as a scanner without noise would see it.

    Attributes:
        hu: int16 Hounsfield units (z, y, x); z rises to the head, y to the back, x to the left.
        labels: uint8 (z, y, x), the index in `LABELS` of what changes a voxel by at least half.
        spacing: Voxel size (z, y, x) in mm.
        pattern: One of `PATTERNS`.
        severity: Extent of the disease, as `infect` takes it.
        nodules: One row (z, y, x, radius) in voxels and mm for each nodule.
    """

    hu: np.ndarray
    labels: np.ndarray
    spacing: tuple[float, float, float]
    pattern: str
    severity: float
    nodules: tuple[tuple[float, float, float, float], ...] = ()


def infect(
    chest: Anatomy, pattern: str, severity: float, seed: int | tuple[int, ...] = 0
) -> Volume:
    """Put a disease into a healthy chest, which is not changed.

    Args:
        chest: The patient.
        pattern: One of `PATTERNS`.
        severity: Extent of the disease, from 0 (hardly any) to 1; up to `cohort.MOST` for COVID-19
            that fills most of the lungs.
        seed: Decides on where the lesions lie; with the severity they grow in place.
    """
    rng = np.random.default_rng((PATTERNS.index(pattern) + 77, *np.atleast_1d(seed)))
    lesions = PATTERN_LESIONS[pattern](rng, chest, float(severity))
    hu = chest.tissue.copy()
    labels = np.zeros(hu.shape, np.uint8)
    box = chest.lung.box
    filled = _fill(chest.lung, lesions) - hu[box]
    hu[box] += np.rint(chest.lung.share * filled).astype(np.int16)
    labels[box] = _label(chest.lung, lesions)
    return Volume(hu, labels, chest.grid.spacing, pattern, float(severity), lesions.nodules)


def _fill(lung: Lungs, lesions: Lesions) -> np.ndarray:
    """HU inside the lungs: haze first, then vessels and bronchi, then what displaces them."""
    hu = lung.parenchyma + lesions.lines
    hu += lesions.glass * (lesions.glass_hu - hu)
    hu += lesions.solid * (np.float32(CONSOLIDATION_HU) - hu + 0.35 * (lung.parenchyma + 860))
    hu += lung.vessel * np.maximum(np.float32(BLOOD) - hu, 0)
    free = 1 - lung.vessel
    hu += lung.wall * free * np.maximum(np.float32(-180) - hu, 0)
    hu += lung.lumen * free * (np.float32(-950) - hu)
    hu += lesions.nodule * (np.float32(NODULE_HU) - hu)
    hu += lesions.fluid * (np.float32(EFFUSION_HU) - hu)
    return hu


def _label(lung: Lungs, lesions: Lesions) -> np.ndarray:
    """Label what a lesion fills by at least half; vessels and open bronchi stay out of it."""
    lung_only = lung.share >= 0.5
    tissue = lung_only & (lung.vessel < 0.5) & (lung.lumen < 0.5)
    labels = np.zeros(lung.share.shape, np.uint8)
    labels[tissue & (lesions.glass >= 0.5)] = GROUND_GLASS
    labels[tissue & (lesions.solid >= 0.5)] = CONSOLIDATION
    labels[lung_only & (lesions.nodule >= 0.5)] = NODULE
    labels[lung_only & (lesions.fluid >= 0.5)] = EFFUSION
    return labels
