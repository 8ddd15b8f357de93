"""Decoding NIfTI volumes and CT densities."""

from __future__ import annotations

import zlib
from pathlib import Path

import nibabel
import numpy as np

from covid_utils.data.images import LUNG_WINDOW, to_uint8
from covid_utils.errors import DataError

NIFTI_SUFFIXES = (".nii", ".nii.gz")


def open_nifti(path: Path) -> nibabel.spatialimages.SpatialImage:
    """Open a NIfTI volume without decoding it.

    Raises:
        DataError: The file is missing, has no whole header or no three axes.
    """
    try:
        volume = nibabel.load(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; unpack the data set whole.") from None
    except (nibabel.filebasedimages.ImageFileError, OSError, ValueError, zlib.error) as error:
        raise DataError(f"{path}: not a NIfTI file; download it again.") from error
    if len(volume.shape) != 3:
        raise DataError(
            f"{path}: {volume.shape} are not the three axes of a volume; download it again."
        )
    return volume


def read_voxels(path: Path) -> np.ndarray:
    """Decode a NIfTI volume.

    Args:
        path: A ``.nii`` or ``.nii.gz`` file.

    Returns:
        The voxels in stored order, scaled as the header says.

    Raises:
        DataError: The file is missing, truncated or no volume.
    """
    volume = open_nifti(path)
    try:
        return np.asanyarray(volume.dataobj)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        reason = str(error).split("\n")[0].replace(str(path), "it")
        raise DataError(f"{path}: not a whole NIfTI file ({reason}); download it again.") from error


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
    return hounsfield_to_uint8(voxels)


def hounsfield_to_uint8(voxels: np.ndarray) -> np.ndarray:
    """Show Hounsfield units through the lung window.

    Args:
        voxels: Hounsfield units, of any shape.

    Returns:
        uint8 voxels of the same shape.
    """
    return to_uint8(voxels, *LUNG_WINDOW)


def axial_count(path: Path) -> int:
    """Number of axial slices of a NIfTI volume, whichever axis they are stored along.

    Args:
        path: A ``.nii`` or ``.nii.gz`` file.

    Returns:
        The number, from the header alone.

    Raises:
        DataError: The file is missing, has no whole header or no three axes.
    """
    volume = open_nifti(path)
    axis = int(np.argmax(nibabel.io_orientation(volume.affine)[:, 0] == 2))
    return volume.shape[axis]


def read_axial(path: Path, frame: int) -> np.ndarray:
    """Axial slice of a CT volume seen from the feet, turned by the orientation in its header.

    Args:
        path: A ``.nii`` or ``.nii.gz`` file.
        frame: Slice, counted from the feet, from 0.

    Returns:
        uint8 image (height, width), the front of the chest on top.

    Raises:
        DataError: The file is missing or damaged, or has no such slice.
    """
    volume = open_nifti(path)
    voxels = ct_to_uint8(read_voxels(path))
    orientation = nibabel.io_orientation(volume.affine)
    right_front_head = nibabel.apply_orientation(voxels, orientation)
    count = right_front_head.shape[2]
    if not 0 <= frame < count:
        raise missing_slice(path, frame, count)
    # Rows run from the front to the back, columns from the patient's right to the left.
    return np.ascontiguousarray(right_front_head[::-1, ::-1, frame].T)


def missing_slice(path: Path, frame: int, count: int) -> DataError:
    """Error for a slice that a volume of ``count`` slices does not have."""
    return DataError(
        f"{path}: has no slice {frame}, only {count}, so the manifest is not of this file; "
        "run notebook 01_data again."
    )
