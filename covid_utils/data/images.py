"""Decoding to 8-bit gray, and the one preprocessing function (paper, section 3.2).

Everything that trains, evaluates or reads a new scan goes through the same steps: a crop to the
lungs (of CT slices, if wanted), a resize, contrast-limited adaptive histogram equalisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from covid_utils.data import guard, lungs
from covid_utils.errors import DataError

if TYPE_CHECKING:
    import pydicom

#: Lung window in Hounsfield units: level -600, width 1500, the usual reading window.
LUNG_WINDOW = (-1350.0, 150.0)
RASTER_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True)
class Preprocessing:
    """Settings of `preprocess`.

    Attributes:
        size: Side of the square output in pixels; the paper uses 512.
        clahe_clip: Clip limit of CLAHE; the paper gives none, 2.0 is OpenCV's habit. 0 leaves the
            contrast alone.
        clahe_tiles: CLAHE tiles along each side.
        crop: ``none``, as in the paper, or ``lungs``, see `lungs.box`.
    """

    size: int = 512
    clahe_clip: float = 2.0
    clahe_tiles: int = 8
    crop: str = "none"


def to_uint8(image: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """Scale so that ``low`` (the minimum) becomes 0 and ``high`` (the maximum) 255; flat is 0."""
    image = np.asarray(image, dtype=np.float32)
    low = float(image.min()) if low is None else low
    high = float(image.max()) if high is None else high
    if high <= low:
        return np.zeros(image.shape, np.uint8)
    return np.rint(np.clip((image - low) * (255.0 / (high - low)), 0, 255)).astype(np.uint8)


def read_raster(path: Path, frame: int = 0) -> np.ndarray:
    """Read a PNG, JPEG, TIFF or BMP file as 8-bit gray (height, width); ``frame`` is not used.

    Colour becomes luminance, an alpha channel is laid over black, 1-bit becomes 0 and 255, and
    deeper images are stretched from their minimum to their maximum.
    """
    return guard.read(path, "image", _decode_raster)


def _decode_raster(path: Path) -> np.ndarray:
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


def read_dicom(path: Path, frame: int = 0) -> np.ndarray:
    """Read a DICOM image as 8-bit gray (height, width); ``frame`` is not used.

    CT is shown in the lung window, an X-ray from its minimum to its maximum, and ``MONOCHROME1``
    (white is low) is inverted.
    """
    return guard.read(path, "DICOM image", _decode_dicom)


def _decode_dicom(path: Path) -> np.ndarray:
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


def read_dicom_header(path: Path, tags: Sequence[str]) -> pydicom.Dataset:
    """Read some tags of a DICOM file, by keyword, without its pixels."""
    import pydicom

    wanted = {"stop_before_pixels": True, "specific_tags": list(tags)}
    return guard.read(path, "DICOM file", lambda path: pydicom.dcmread(path, **wanted))


def preprocess(gray: np.ndarray, settings: Preprocessing, field: str = "") -> np.ndarray:
    """Crop, resize and equalise a uint8 image (height, width); the result is (size, size).

    ``field`` is the manifest's ``lungs``, by which a slice is cropped; '' finds them now.
    """
    if settings.crop == "lungs":
        gray = _cropped(gray, field or lungs.find(gray))
    how = cv2.INTER_AREA if max(gray.shape) > settings.size else cv2.INTER_LINEAR
    resized = cv2.resize(gray, (settings.size, settings.size), interpolation=how)
    if settings.clahe_clip <= 0:
        return resized
    return cv2.createCLAHE(settings.clahe_clip, (settings.clahe_tiles,) * 2).apply(resized)


def preprocess_mask(mask: np.ndarray, settings: Preprocessing, field: str = "") -> np.ndarray:
    """Crop and resize uint8 labels (height, width) as their image, so that no new label appears."""
    if settings.crop == "lungs":
        mask = _cropped(mask, field)
    return cv2.resize(mask, (settings.size,) * 2, interpolation=cv2.INTER_NEAREST_EXACT)


def _cropped(array: np.ndarray, field: str) -> np.ndarray:
    top, left, side, _ = map(int, field.split())
    return np.ascontiguousarray(array[top : top + side, left : left + side])
