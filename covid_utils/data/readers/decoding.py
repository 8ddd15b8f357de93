"""From a file to 8-bit gray: PNG, JPEG and their like, DICOM, NIfTI.

What the gray values of a file mean is decided here alone, by `to_uint8` and `ct_to_uint8`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel
import numpy as np
from PIL import Image

from covid_utils.data import guard
from covid_utils.errors import DataError

if TYPE_CHECKING:
    import pydicom

#: Lung window in Hounsfield units: level -600, width 1500, the usual reading window.
LUNG_WINDOW = (-1350.0, 150.0)
RASTER_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
NIFTI_SUFFIXES = (".nii", ".nii.gz")


def to_uint8(image: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """Scale so that ``low`` (the minimum) becomes 0 and ``high`` (the maximum) 255; flat is 0."""
    image = np.asarray(image, dtype=np.float32)
    low = float(image.min()) if low is None else low
    high = float(image.max()) if high is None else high
    if high <= low:
        return np.zeros(image.shape, np.uint8)
    return np.rint(np.clip((image - low) * (255.0 / (high - low)), 0, 255)).astype(np.uint8)


def ct_to_uint8(voxels: np.ndarray) -> np.ndarray:
    """Show the CT voxels of a whole volume as 8-bit gray.

    Values within 0 to 255 are taken for gray values of a window; anything else for Hounsfield
    units, where air alone is at -1000, which go through the lung window.
    """
    if voxels.min() >= 0 and voxels.max() <= 255:
        return np.rint(voxels).astype(np.uint8)
    return to_uint8(voxels, *LUNG_WINDOW)


@guard.reads("image")
def read_raster(path: Path, frame: int = 0) -> np.ndarray:
    """Read a PNG, JPEG, TIFF or BMP file as 8-bit gray (height, width); ``frame`` is not used.

    Colour becomes luminance, an alpha channel is laid over black, 1-bit becomes 0 and 255, and
    deeper images are stretched from their minimum to their maximum.
    """
    with Image.open(path) as file:
        guard.bounded(path, file.size)
        file.load()
        if file.mode.startswith("I") or file.mode == "F":
            return to_uint8(np.asarray(file))
        if file.mode in ("P", "PA", "LA", "RGBA") or "transparency" in file.info:
            colours = file.convert("RGBA")
            black = Image.new("RGBA", colours.size, (0, 0, 0, 255))
            return np.asarray(Image.alpha_composite(black, colours).convert("L"))
        return np.asarray(file.convert("L"))


@guard.reads("DICOM image")
def read_dicom(path: Path, frame: int = 0) -> np.ndarray:
    """Read a DICOM image as 8-bit gray (height, width); ``frame`` is not used.

    CT is shown in the lung window, an X-ray from its minimum to its maximum, and ``MONOCHROME1``
    (white is low) is inverted.
    """
    import pydicom

    header = pydicom.dcmread(path)
    guard.bounded(path, [header.get(at) or 1 for at in ("NumberOfFrames", "Rows", "Columns")])
    pixels = header.pixel_array.astype(np.float32)
    if pixels.ndim != 2:
        raise DataError(
            f"{path}: pixels of {pixels.shape} are not one gray image (height, width); "
            "save each frame as a gray DICOM file of its own or delete it."
        )
    slope = float(header.get("RescaleSlope", 1) or 1)
    pixels = pixels * slope + float(header.get("RescaleIntercept", 0) or 0)
    gray = to_uint8(pixels, *(LUNG_WINDOW if header.get("Modality") == "CT" else ()))
    return 255 - gray if header.get("PhotometricInterpretation") == "MONOCHROME1" else gray


@guard.reads("DICOM file")
def read_dicom_header(path: Path, tags: Sequence[str]) -> pydicom.Dataset:
    """Read some tags of a DICOM file, by keyword, without its pixels."""
    import pydicom

    return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(tags))


def open_nifti(path: Path) -> nibabel.spatialimages.SpatialImage:
    """A NIfTI volume of three axes, not yet decoded."""
    volume = nibabel.load(path)
    if volume.ndim != 3:
        raise DataError(f"{path}: {volume.ndim} axes are no scan; download it again.")
    guard.bounded(path, volume.shape)
    return volume


@guard.reads("NIfTI file")
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
