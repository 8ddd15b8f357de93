"""What the gray values of a file mean, decided in this one place, and their way to 8 bit.

Not-a-number, padding and single outlying values decide nothing: scales are told apart by shares of
the values. What cannot be told is an error, which the guard reports. ``docs/data.md`` has the rules
as a table.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from covid_utils.data.gray_scale import LUNG_WINDOW
from covid_utils.errors import DataError

#: Hounsfield units of aerated lung and the air around a body, and of soft tissue.
AIR, TISSUE = (-1100, -700), (-150, 250)
#: Values below are Hounsfield units, too.
NEGATIVE = -200
#: The lowest value is padding if it is frequent, and so far below the next one.
GAP = 200
#: What an 8-bit picture that goes through a window reaches at least.
BRIGHT = 128
#: What scanners add to Hounsfield units where they store no negative values.
OFFSET = 1024
#: Share of a scan that is air, and tissue, at least.
SHARE = 0.02
#: Part of the values at either end that decides nothing.
TAIL = 0.005
#: An extreme value is an outlier, or padding, if its distance from the rest is this many times the
#: width of the rest.
FAR = 10


def to_uint8(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scale so that ``low`` becomes 0 and ``high`` 255; no number and what is flat become 0."""
    image = np.nan_to_num(np.asarray(image, np.float32), nan=low, posinf=high, neginf=low)
    if high <= low:
        return np.zeros(image.shape, np.uint8)
    return np.rint(np.clip((image - low) * (255.0 / (high - low)), 0, 255)).astype(np.uint8)


def stretched(image: np.ndarray, padding: np.ndarray | None = None) -> np.ndarray:
    """An image whose values have no unit, from its minimum to its maximum without outliers.

    ``padding`` (bool, shaped as the image) marks pixels that hold nothing: they become 0.
    """
    is_known = np.isfinite(image) if padding is None else np.isfinite(image) & ~padding
    if not is_known.any():
        return np.zeros(image.shape, np.uint8)
    values = image[is_known].astype(np.float64)
    levels, counts = np.unique(values, return_counts=True)
    first, last = 0, len(levels) - 1
    while last - first > 1:
        above, below = levels[last] - levels[last - 1], levels[first + 1] - levels[first]
        if above > FAR * (levels[last - 1] - levels[first]) and 2 * counts[last] < len(values):
            last -= 1
        elif below > FAR * (levels[last] - levels[first + 1]) and 2 * counts[first] < len(values):
            first += 1
        else:
            break
    gray = to_uint8(image, float(levels[first]), float(levels[last]))
    return np.where(is_known, gray, 0).astype(np.uint8)


def is_hounsfield(window: tuple[float, float]) -> bool:
    """Whether a `window` is of Hounsfield units, or of these plus `OFFSET`."""
    return window[1] - window[0] == LUNG_WINDOW[1] - LUNG_WINDOW[0]


def stored_window(window: tuple[float, float], shown: tuple[float, float]) -> tuple[float, float]:
    """A window in Hounsfield units as values of a file with a ``window`` of such, else that."""
    offset = window[0] - LUNG_WINDOW[0]
    return (shown[0] + offset, shown[1] + offset) if is_hounsfield(window) else window


def holds_air(voxels: np.ndarray, window: tuple[float, float]) -> bool:
    """Whether voxels hold air, as those of every chest do, if ``window`` is of Hounsfield units."""
    offset = window[0] - LUNG_WINDOW[0]
    return _has(voxels[np.isfinite(voxels)], (-np.inf, AIR[1]), offset)


def window_of(voxels: np.ndarray, path: Path) -> tuple[float, float]:
    """The values that become black and white in a CT of any scale, ``voxels`` of the whole file.

    The scale is Hounsfield units, which go through the lung window, these plus `OFFSET`, or 0 to
    255 or 0 to 1, which have been through a window before. ``path`` is for the message.
    """
    values = _without_padding(voxels[np.isfinite(voxels)])
    low, high = np.quantile(values, [TAIL, 1 - TAIL]) if values.size else (np.nan, np.nan)
    if _has(values, AIR):
        return LUNG_WINDOW
    if _has(values, AIR, OFFSET) and _has(values, TISSUE, OFFSET):
        return LUNG_WINDOW[0] + OFFSET, LUNG_WINDOW[1] + OFFSET
    if _has(values, (-np.inf, NEGATIVE)):
        return LUNG_WINDOW
    if (low >= -2 and BRIGHT <= high <= 257) or low == high == 0:
        return 0, 255
    some = values[:: values.size // 1000 + 1]
    if low >= -0.02 and high <= 1.02 and len(np.unique(some)) > 2:
        return 0, 1
    raise DataError(
        f"{path}: gray values from {low:g} to {high:g} are not a scale known for CT "
        "(Hounsfield units, 0 to 255, 0 to 1); save the scan in one of these."
    )


def _without_padding(values: np.ndarray) -> np.ndarray:
    if values.size == 0:
        return values
    lowest = values.min()
    rest = values[values > lowest]
    share = 1 - rest.size / values.size
    is_padding = SHARE / 2 <= share <= 0.5 and rest.min() - lowest >= GAP
    return rest if is_padding else values


def _has(values: np.ndarray, limits: tuple[float, float], offset: float = 0) -> bool:
    low, high = (limit + offset for limit in limits)
    return values.size > 0 and ((values >= low) & (values <= high)).mean() >= SHARE
