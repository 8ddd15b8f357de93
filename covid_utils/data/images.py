"""The one preprocessing function (paper, section 3.2).

Everything that trains, evaluates or reads a new scan goes through the same steps: a crop to the
lungs and the canonical gray scale (of CT slices, if wanted), a resize, contrast-limited adaptive
histogram equalisation.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from covid_utils.data import benchmark_lungs, gray_scale, lung_field
from covid_utils.errors import ParameterError

#: What a slice can be cropped to -> what finds it.
FINDERS = {"lungs": benchmark_lungs.rough_field, "field": lung_field.field}

#: A field below this share of the slice is none: what else is dark and round.
LEAST_FIELD = 0.02
#: What `box` leaves around the field, and once more below it, where fluid gathers; shares of the
#: field's larger side.
MARGIN = 0.08
#: What can be done to the gray values of a slice.
GRAY_SCALES = ("as is", "landmarks")


@dataclass(frozen=True)
class Preprocessing:
    """Settings of `preprocess`."""

    size: int = 512  # side of the square output in pixels; that of the paper
    clahe_clip: float = 2.0  # the paper gives none; 0 leaves the contrast alone
    clahe_tiles: int = 8  # along each side
    crop: str = "none"  # as in the paper; or `FINDERS`: the square of `box` around the field
    gray: str = "as is"  # or `landmarks`: brought to the canonical window, see `gray_scale`

    def __post_init__(self):
        if self.size < 1:
            raise ParameterError(f"size is {self.size}; an image has at least one pixel a side.")
        for name, known in (("crop", ("none", *FINDERS)), ("gray", GRAY_SCALES)):
            if getattr(self, name) not in known:
                message = f"{name} is {getattr(self, name)!r}; give one of {', '.join(known)}."
                raise ParameterError(message)


def preprocess(
    gray: np.ndarray, settings: Preprocessing, place: str = "", scale: str = ""
) -> np.ndarray:
    """Crop, resize and equalise a uint8 image (height, width); the result is (size, size).

    ``place`` is the manifest's ``lungs`` or ``field``, by which a slice is cropped, and ``scale``
    its ``gray``; '' finds them now.
    """
    if settings.crop != "none":
        place = place or place_of(FINDERS[settings.crop](gray))
    if settings.gray == "landmarks":  # of the whole slice, whose outside tells what air is
        found = gray_scale.Landmarks.parse(scale) if scale else gray_scale.landmarks(gray)
        gray = found.curve[gray]
    gray = np.ascontiguousarray(gray[window(settings, place)])
    how = cv2.INTER_AREA if max(gray.shape) > settings.size else cv2.INTER_LINEAR
    resized = cv2.resize(gray, (settings.size, settings.size), interpolation=how)
    if settings.clahe_clip <= 0:
        return resized
    return cv2.createCLAHE(settings.clahe_clip, (settings.clahe_tiles,) * 2).apply(resized)


def preprocess_mask(mask: np.ndarray, settings: Preprocessing, place: str = "") -> np.ndarray:
    """Crop and resize uint8 labels (height, width) as their image, so that no new label appears."""
    mask = np.ascontiguousarray(mask[window(settings, place)])
    return cv2.resize(mask, (settings.size,) * 2, interpolation=cv2.INTER_NEAREST_EXACT)


def window(settings: Preprocessing, place: str) -> tuple[slice, slice]:
    """Rows and columns of a slice that its crop keeps, by the manifest's text; all without one."""
    if settings.crop == "none":
        return slice(None), slice(None)
    top, left, side, _ = map(int, place.split())
    return slice(top, top + side), slice(left, left + side)


def place_of(field: np.ndarray) -> str:
    """Top, left and side of `box` around a lung field, and its pixels, as in the manifest."""
    return " ".join(map(str, (*box(field), np.count_nonzero(field))))


def box(field: np.ndarray) -> tuple[int, int, int]:
    """Top, left and side of the square around a lung field, with room for fluid behind the lungs.

    Fewer than 1 in 100,000 lesion pixels of all 100 public slices lie outside. Without lungs, it is
    the largest square from the top left.
    """
    most = min(field.shape)
    if np.count_nonzero(field) < LEAST_FIELD * field.size:
        return 0, 0, most
    rows, columns = np.flatnonzero(field.any(1)), np.flatnonzero(field.any(0))
    margin = MARGIN * (1 + max(np.ptp(rows), np.ptp(columns)))
    top, bottom = rows[0] - margin, rows[-1] + 1 + 2 * margin
    left, right = columns[0] - margin, columns[-1] + 1 + margin
    side = round(min(most, max(bottom - top, right - left)))
    starts = np.array([top + bottom - side, left + right - side]) / 2
    first, second = np.rint(np.clip(starts, 0, np.array(field.shape) - side)).astype(int).tolist()
    return first, second, side
