"""The one preprocessing function (paper, section 3.2).

Everything that trains, evaluates or reads a new scan goes through the same steps: a crop to the
lungs (of CT slices, if wanted), a resize, contrast-limited adaptive histogram equalisation.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from covid_utils.data import lungs
from covid_utils.errors import ParameterError


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

    def __post_init__(self):
        if self.size < 1:
            raise ParameterError(f"size is {self.size}; an image has at least one pixel a side.")


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
