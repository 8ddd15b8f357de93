"""From stored voxels to axial slices as a radiologist sees them, and back on the same voxels.

Affine matrices lead from indices of stored voxels to millimetres towards the patient's right, front
and head. Slices are counted and seen from the feet, with the front of the chest on top.
"""

from __future__ import annotations

import nibabel
import numpy as np
from nibabel.orientations import apply_orientation, ornt_transform

#: Axes that run to the right, front and head, as nibabel codes them.
_RIGHT_FRONT_HEAD = np.array([[0, 1], [1, 1], [2, 1]])


def orientation(affine: np.ndarray) -> np.ndarray | None:
    """Which stored axis is which, as nibabel codes it (3, 2); None if the matrix does not tell."""
    if not np.isfinite(affine).all():
        return None
    found = nibabel.io_orientation(affine)
    return found if np.isfinite(found).all() else None


def upright(stored: np.ndarray, oriented: np.ndarray) -> np.ndarray:
    """Axial slices (slices, height, width) of stored voxels (three axes); a view."""
    # Rows run from the front to the back, columns from the patient's right to the left.
    return apply_orientation(stored, oriented)[::-1, ::-1].T


def stored(slices: np.ndarray, oriented: np.ndarray) -> np.ndarray:
    """The reverse of `upright`."""
    back = ornt_transform(_RIGHT_FRONT_HEAD, oriented)
    return apply_orientation(slices.T[::-1, ::-1], back)
