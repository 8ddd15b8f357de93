"""From a file to 8-bit gray: PNG, JPEG and their like, DICOM, NIfTI."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel
import numpy as np
from nibabel.orientations import apply_orientation
from PIL import Image, ImageOps, UnidentifiedImageError

from covid_utils.data import guard
from covid_utils.data.readers.gray import LUNG_WINDOW, holds_air, stretched, to_uint8, window_of
from covid_utils.errors import DataError

if TYPE_CHECKING:
    import pydicom

RASTER_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
NIFTI_SUFFIXES = (".nii", ".nii.gz")
#: Formats that are tried, whatever a name ends in. Pillow knows more, some by calling programs.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")
#: The TIFF tag that is 0 where the lowest value is white.
PHOTOMETRIC = 262
#: Most bytes that gzip can make of one.
UNPACKED = 1032


@guard.reads("image")
def read_raster(path: Path, frame: int = 0) -> np.ndarray:
    """Read a PNG, JPEG, TIFF or BMP file as 8-bit gray (height, width); ``frame`` is not used.

    Colour becomes luminance, an alpha channel is laid over black, 1-bit becomes 0 and 255, and
    deeper images are `stretched`. Where a camera noted how it was held, the picture is turned.
    """
    try:
        opened = Image.open(path, formats=FORMATS)
    except UnidentifiedImageError as error:
        if not path.stat().st_size:  # which the guard says
            raise
        known = ", ".join(FORMATS)
        raise DataError(
            f"{path}: none of {known}, whatever its name says; download it again or delete it."
        ) from error
    with opened as file:
        guard.bounded(path, file.size)
        pages = getattr(file, "n_frames", 1)
        if file.format == "TIFF" and pages > 1:
            raise DataError(f"{path}: {pages} pages are not one image; save each as its own file.")
        upright = ImageOps.exif_transpose(file)
        is_negative = getattr(file, "tag_v2", {}).get(PHOTOMETRIC) == 0
    if upright.mode.startswith("I") or upright.mode == "F":
        gray = stretched(np.asarray(upright))
        return 255 - gray if is_negative else gray  # Pillow turns 8 bits round, but not more
    if upright.mode in ("P", "PA", "LA", "RGBA") or "transparency" in upright.info:
        colours = upright.convert("RGBA")
        black = Image.new("RGBA", colours.size, (0, 0, 0, 255))
        upright = Image.alpha_composite(black, colours)
    return np.asarray(upright.convert("L"))


@guard.reads("DICOM image")
def read_dicom(path: Path, frame: int = 0, window: tuple[float, float] | None = None) -> np.ndarray:
    """Read a DICOM image as 8-bit gray (height, width); ``frame`` is not used.

    CT is shown in the lung window, an X-ray through its own table for display, in its own window
    or, without either, `stretched`, and ``MONOCHROME1`` (white is low) is inverted. Padding
    becomes black. ``window`` has the values that become black and white, where the rest of a CT
    series tells them.
    """
    import pydicom.pixels

    pixels, padding, header = _dicom(path)
    if header.get("Modality") == "CT":
        gray = to_uint8(pixels, *(window or _ct_window(path, pixels, header)))
    elif header.get("VOILUTSequence"):
        whole = np.nan_to_num(pixels).astype(np.int32)  # a table has entries for whole numbers
        gray = stretched(pydicom.pixels.apply_voi(whole, header), padding)
    elif own := _own_window(path, header):
        gray = to_uint8(pixels, *own)
    else:
        gray = stretched(pixels, padding)
    gray = 255 - gray if header.get("PhotometricInterpretation") == "MONOCHROME1" else gray
    return np.where(padding, 0, gray).astype(np.uint8)


@guard.reads("DICOM image")
def dicom_window(path: Path) -> tuple[tuple[float, float], bool]:
    """The values of a CT image that become black and white, and whether it `gray.holds_air`."""
    pixels, _, header = _dicom(path)
    window = _ct_window(path, pixels, header)
    return window, holds_air(pixels, window)


def _ct_window(path: Path, pixels: np.ndarray, header: pydicom.Dataset) -> tuple[float, float]:
    is_rescaled = header.get("RescaleIntercept") not in (None, "")
    if is_rescaled and (header.get("RescaleType") or "HU") == "HU":
        return LUNG_WINDOW
    try:
        return window_of(pixels, path)
    except DataError:
        if window := _own_window(path, header):
            return window
        raise


def _own_window(path: Path, header: pydicom.Dataset) -> tuple[float, float] | None:
    """The first window that a DICOM image asks for; None if it names none."""
    ends = []
    for name in ("WindowCenter", "WindowWidth"):
        value = header.get(name)
        is_several = isinstance(value, Sequence) and not isinstance(value, str)
        ends.append(_number(path, name, next(iter(value), None) if is_several else value))
    center, width = ends
    if center is None or width is None or width <= 1:
        return None
    return center - width / 2, center + width / 2 - 1


def _dicom(path: Path) -> tuple[np.ndarray, np.ndarray, pydicom.Dataset]:
    """Values after the modality transform, not-a-number in padding; the padding; and the header."""
    import pydicom

    header = pydicom.dcmread(path)
    guard.bounded(path, [header.get(at) or 1 for at in ("NumberOfFrames", "Rows", "Columns")])
    _assert_decoder(path, header)
    stored = _without_overlay(header.pixel_array, header)
    kind = header.get("PhotometricInterpretation")
    if stored.ndim != 2 or kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise DataError(
            f"{path}: pixels of {stored.shape}, {kind}, are not one gray image (height, width); "
            "save each frame as a gray DICOM file of its own or delete it."
        )
    names = ("RescaleSlope", "RescaleIntercept")
    slope, intercept = (_number(path, name, header.get(name)) for name in names)
    if slope == 0:
        raise DataError(f"{path}: RescaleSlope is 0, which leaves no image; download it again.")
    if "ModalityLUTSequence" in header:
        raise DataError(f"{path}: its values go through a table; save it with a rescale slope.")
    pixels = stored.astype(np.float32) * (slope or 1) + (intercept or 0)
    padding = _padding(stored, header)
    pixels[padding] = np.nan
    return pixels, padding, header


def _assert_decoder(path: Path, header: pydicom.Dataset) -> None:
    from pydicom.pixels import get_decoder

    syntax = header.file_meta.TransferSyntaxUID
    decoder = get_decoder(syntax)
    if not decoder.is_available:
        needs = [line.partition(" - requires ")[2] for line in decoder.missing_dependencies]
        packages = "; or ".join(needs)
        raise DataError(f"{path}: compressed ({syntax.name}); to read it install {packages}.")


def _number(path: Path, keyword: str, value: object) -> float | None:
    """The number of a tag; None if it is missing or blank."""
    try:
        number = None if value in (None, "") else float(value)
    except (TypeError, ValueError):
        number = np.nan
    if number is not None and not np.isfinite(number):
        raise DataError(f"{path}: its {keyword} is not one number; correct it or delete the file.")
    return number


def _without_overlay(stored: np.ndarray, header: pydicom.Dataset) -> np.ndarray:
    """Stored values without the bits above ``BitsStored``, where old files keep an overlay."""
    spare = stored.dtype.itemsize * 8 - int(header.get("BitsStored", 0) or 0)
    if not 0 < spare < stored.dtype.itemsize * 8:
        return stored
    return (stored << spare) >> spare  # of signed values the sign comes back


def _padding(stored: np.ndarray, header: pydicom.Dataset) -> np.ndarray:
    """Pixels that hold nothing, bool: one stored value, or a range of them."""
    value = header.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, bool)
    limit = header.get("PixelPaddingRangeLimit")
    ends = np.array([int(value), int(value if limit is None else limit)]).astype(stored.dtype)
    return (stored >= ends.min()) & (stored <= ends.max())


@guard.reads("DICOM file")
def read_dicom_header(path: Path, tags: Sequence[str]) -> pydicom.Dataset:
    """Read some tags of a DICOM file, by keyword, without its pixels."""
    import pydicom

    return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(tags))


def open_nifti(path: Path, fewest: int = 3) -> nibabel.spatialimages.SpatialImage:
    """A NIfTI volume of three axes, or the ``fewest``, not yet decoded; whoever asks is guarded."""
    volume = nibabel.load(path)
    guard.bounded(path, volume.shape)
    kind, need = volume.get_data_dtype(), math.prod(volume.shape)
    if kind.kind not in "iuf":
        raise DataError(f"{path}: voxels of type {kind} are not gray values; save it in gray.")
    if need * kind.itemsize > path.stat().st_size * UNPACKED:
        raise DataError(f"{path}: too short for its header's {need} voxels; download it again.")
    volume = nibabel.squeeze_image(volume) if volume.ndim > 3 else volume
    if not fewest <= volume.ndim <= 3:
        raise DataError(f"{path}: {volume.ndim} axes do not make a scan; download it again.")
    return volume


def orientation(affine: np.ndarray) -> np.ndarray | None:
    """Which stored axis is which, as nibabel codes it (3, 2); None if the matrix does not tell.

    The matrix leads from indices of voxels to millimetres towards the patient's right, front and
    head.
    """
    if not np.isfinite(affine).all():
        return None
    found = nibabel.io_orientation(affine)
    return found if np.isfinite(found).all() else None


def orientation_of(path: Path, volume: nibabel.spatialimages.SpatialImage) -> np.ndarray:
    """The same of a volume, which must tell it."""
    if (oriented := orientation(volume.affine)) is None:
        raise DataError(f"{path}: its affine matrix does not tell its axes; download it again.")
    return oriented


def upright(stored: np.ndarray, oriented: np.ndarray) -> np.ndarray:
    """View of stored voxels as slices from the feet, the front on top: (slices, height, width)."""
    # Rows run from the front to the back, columns from the patient's right to the left.
    return apply_orientation(stored, oriented)[::-1, ::-1].T


@guard.reads("NIfTI file")
def axial_slices(path: Path, like: Path | None = None) -> np.ndarray:
    """Values of all axial slices, counted and seen from the feet: (slices, height, width).

    The front of the chest is on top. The axes of a mask are those of the volume ``like``, which it
    must fit voxel by voxel.
    """
    volume = open_nifti(path)
    other = open_nifti(like) if like else volume
    if volume.shape != other.shape:
        raise DataError(
            f"{path}: a mask of {volume.shape} for a volume of {other.shape} (width, height, "
            "slices); take both from the same release."
        )
    return upright(np.asanyarray(volume.dataobj), orientation_of(like or path, other))
