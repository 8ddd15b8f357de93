"""What volumes share: opening NIfTI, CT densities, axial slices."""

from pathlib import Path

import nibabel
import numpy as np

from covid_utils.data import guard
from covid_utils.data.images import LUNG_WINDOW, to_uint8
from covid_utils.errors import DataError

NIFTI_SUFFIXES = (".nii", ".nii.gz")


def open_nifti(path: Path) -> nibabel.spatialimages.SpatialImage:
    """A NIfTI volume of three axes, not yet decoded."""
    volume = nibabel.load(path)
    if volume.ndim != 3:
        raise DataError(f"{path}: {volume.ndim} axes are no scan; download it again.")
    guard.bounded(path, volume.shape)
    return volume


def ct_to_uint8(voxels: np.ndarray) -> np.ndarray:
    """Show the CT voxels of a whole volume as 8-bit gray.

    Values within 0 to 255 are taken for gray values of a window; anything else for Hounsfield
    units, where air alone is at -1000, which go through the lung window.
    """
    if voxels.min() >= 0 and voxels.max() <= 255:
        return np.rint(voxels).astype(np.uint8)
    return to_uint8(voxels, *LUNG_WINDOW)


def axial_count(path: Path) -> int:
    """Number of axial slices, whichever axis they are stored along, from the header alone."""
    volume = open_nifti(path)
    return volume.shape[int(np.argmax(nibabel.io_orientation(volume.affine)[:, 0] == 2))]


def read_axial(path: Path, frame: int) -> np.ndarray:
    """Axial slice of a CT volume, counted and seen from the feet: uint8, the front on top."""
    volume = open_nifti(path)
    voxels = ct_to_uint8(np.asanyarray(volume.dataobj))
    orientation = nibabel.io_orientation(volume.affine)
    right_front_head = nibabel.apply_orientation(voxels, orientation)
    # Rows run from the front to the back, columns from the patient's right to the left.
    return np.ascontiguousarray(right_front_head[::-1, ::-1, frame].T)
