"""What volumes share: decoding NIfTI, CT densities, axial slices."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

from covid_utils.data import guard
from covid_utils.data.images import LUNG_WINDOW, to_uint8
from covid_utils.errors import DataError

NIFTI_SUFFIXES = (".nii", ".nii.gz")


def _open(path: Path) -> nibabel.spatialimages.SpatialImage:
    """A NIfTI volume, not yet decoded."""
    volume = nibabel.load(path)
    if len(volume.shape) != 3:
        raise DataError(
            f"{path}: {volume.shape} are not the three axes of a volume; download it again."
        )
    guard.bounded(path, volume.shape)
    return volume


def read_voxels(path: Path) -> np.ndarray:
    """Voxels of a NIfTI volume in stored order, scaled as the header says."""
    return guard.read(path, "NIfTI file", lambda path: np.asanyarray(_open(path).dataobj))


def ct_to_uint8(voxels: np.ndarray) -> np.ndarray:
    """Show CT voxels as 8-bit gray.

    Args:
        voxels: A whole volume. Values within 0 to 255 are taken for gray values that somebody has
            windowed already; anything else for Hounsfield units, where air alone is at -1000.

    Returns:
        uint8 voxels of the same shape; Hounsfield units through the lung window.
    """
    if voxels.min() >= 0 and voxels.max() <= 255:
        return np.rint(voxels).astype(np.uint8)
    return to_uint8(voxels, *LUNG_WINDOW)


def axial_count(path: Path) -> int:
    """Number of axial slices, whichever axis they are stored along, from the header alone."""
    return guard.read(path, "NIfTI file", _axial_count)


def _axial_count(path: Path) -> int:
    volume = _open(path)
    axis = int(np.argmax(nibabel.io_orientation(volume.affine)[:, 0] == 2))
    return volume.shape[axis]


def read_axial(path: Path, frame: int) -> np.ndarray:
    """Axial slice of a CT volume, counted and seen from the feet, turned as its header says.

    Returns:
        uint8 image (height, width), the front of the chest on top.
    """
    return guard.read(path, "NIfTI file", lambda path: _axial(path, frame))


def _axial(path: Path, frame: int) -> np.ndarray:
    volume = _open(path)
    voxels = ct_to_uint8(np.asanyarray(volume.dataobj))
    orientation = nibabel.io_orientation(volume.affine)
    right_front_head = nibabel.apply_orientation(voxels, orientation)
    check_frame(path, frame, right_front_head.shape[2])
    # Rows run from the front to the back, columns from the patient's right to the left.
    return np.ascontiguousarray(right_front_head[::-1, ::-1, frame].T)


def check_frame(path: Path, frame: int, count: int) -> None:
    """Refuse a slice that a volume of ``count`` slices does not have."""
    if not 0 <= frame < count:
        raise DataError(
            f"{path}: has no slice {frame}, only {count}, so the manifest is not of this file; "
            "run notebook 01_data again."
        )
