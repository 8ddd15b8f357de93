"""Any chest CT picture in the canonical lung window, by landmarks of anatomy.

A picture of unknown window, gamma or equalised contrast still shows air around the body, aerated
lung, fat and muscle, whose Hounsfield units are known. A rising line from landmark to landmark
brings its gray values to those that `LUNG_WINDOW` gives. Lung serves as a landmark
only where the others do not lie on a line: healthy lungs differ by more than 100 HU.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import cv2
import numpy as np
from scipy.signal import find_peaks

from covid_utils.data import body

#: Lung window in Hounsfield units: level -600, width 1500, the usual reading window; the canonical
#: one here.
LUNG_WINDOW = (-1350.0, 150.0)
#: Landmark -> Hounsfield units: air, healthy lung (its mode), fat, and muscle or unenhanced blood.
HOUNSFIELD = {"air": -1000.0, "lung": -870.0, "fat": -100.0, "tissue": 50.0}
#: Text of the landmarks of a file that has Hounsfield units.
KNOWN = "HU"
#: Pixels that a landmark is read from, at least.
FEWEST = 40
#: Wall of the chest, where fat and muscle lie side by side: depth below the skin, in roots of the
#: body's area; and the pixels that it has at least, else all that is dense serves.
WALL, FEWEST_WALL = (0.02, 0.12), 300
#: From this gray value on, white hides what it is; unless this share of the values is below.
WHITE, SHARE = 250, 0.2
#: Smoothing of the histogram in gray values, and prominence of a peak as a share of the highest.
SMOOTHING, PROMINENCE = 2.0, 0.08
#: Fat and tissue differ by this part of the way from the threshold of air to tissue at least.
APART = 0.06
#: Between air (0) and tissue (1) fat lies here if gray values are linear in Hounsfield units.
LINEAR, TOLERANCE = 6 / 7, 0.03
#: What the lung of a linear picture can be: healthy lung differs with breath and scanner.
LUNG = (-960.0, -650.0)
#: Confidence from which a map can be trusted.
SURE = 0.5


def to_gray(hounsfield: float) -> float:
    """Gray value of Hounsfield units in the canonical window; below 0 or above 255 is outside."""
    low, high = LUNG_WINDOW
    return (hounsfield - low) * 255 / (high - low)


#: Gray values of the landmarks in the canonical window.
TARGETS = [*map(to_gray, HOUNSFIELD.values())]


@dataclass(frozen=True)
class Landmarks:
    """Gray values of the landmarks of a picture, nan where one is missing."""

    air: float  # around the body
    lung: float  # most frequent gray value of aerated lung
    fat: float  # below the skin
    tissue: float  # muscle and other soft tissue
    confidence: float  # 0 to 1; below `SURE` the map is a guess

    @property
    def is_linear(self) -> bool:
        """Whether the others lie on a line, so that the lung's own density needs no correction."""
        span, units = self.tissue - self.air, HOUNSFIELD["tissue"] - HOUNSFIELD["air"]
        lung = HOUNSFIELD["air"] + (self.lung - self.air) * units / span
        fat = LINEAR if np.isnan(self.fat) else (self.fat - self.air) / span
        return LUNG[0] < lung < LUNG[1] and abs(fat - LINEAR) < TOLERANCE

    @property
    def curve(self) -> np.ndarray:
        """Canonical gray value of each of the 256 gray values, uint8; it never falls."""
        values = np.array([self.air, self.lung, self.fat, self.tissue])
        is_known = np.isfinite(values)
        if self.is_linear:
            is_known[1] = False  # the lung's own density stays
        if is_known.sum() < 2:
            return np.arange(256, dtype=np.uint8)
        source, target = values[is_known], np.array(TARGETS)[is_known]
        slope = (target[-1] - target[0]) / (source[-1] - source[0])
        gray = np.arange(256)
        curve = np.interp(gray, source, target)
        curve += slope * (np.minimum(gray - source[0], 0) + np.maximum(gray - source[-1], 0))
        return np.rint(np.clip(curve, 0, 255)).astype(np.uint8)

    def __str__(self) -> str:
        return " ".join("-" if np.isnan(value) else f"{value:.4g}" for value in astuple(self))

    @classmethod
    def parse(cls, text: str) -> Landmarks:
        """Landmarks from their text, as a manifest has it."""
        if text == KNOWN:
            return CANONICAL
        return cls(*(np.nan if word == "-" else float(word) for word in text.split()))


#: Landmarks of an image whose Hounsfield units are known: its map changes nothing.
CANONICAL = Landmarks(*TARGETS, confidence=1.0)


def landmarks(gray: np.ndarray) -> Landmarks:
    """Find the landmarks of a uint8 slice (height, width).

    Confidence falls by 0.4 without lung or tissue, and by 0.1 without fat or air around the body;
    by 0.3 if tissue is white, which says no more than that it is brighter than all else; to 0 if
    lung and tissue hardly differ.
    """
    parts = body.parts(gray)
    is_dark = parts.gray <= parts.threshold
    near_body = cv2.dilate(parts.body.astype(np.uint8), np.ones((7, 7)))
    air = _mode(parts.gray[is_dark & (near_body == 0) & ~parts.padding])
    lung = parts.lung if np.count_nonzero(parts.core) >= FEWEST else np.nan
    fat, tissue = _dense(parts)
    air = air if np.isnan(lung) or air < lung else np.nan
    lost = np.isnan([lung, tissue, fat, air]) @ [0.4, 0.4, 0.1, 0.1] + 0.3 * (tissue >= WHITE)
    is_flat = tissue - lung < 20
    return Landmarks(air, lung, fat, tissue, 0.0 if is_flat else round(max(0.0, 1 - lost), 2))


def _dense(parts: body.Parts) -> tuple[float, float]:
    """Gray values of fat and soft tissue: the two peaks of the chest wall.

    If it shows one peak, what lies deeper tells whether that is fat.
    """
    dense = parts.solid
    in_wall = dense & (parts.depth > WALL[0]) & (parts.depth < WALL[1])
    wall = _without_white(parts.gray[in_wall])
    deep = _mode(_without_white(parts.gray[dense & (parts.depth >= WALL[1])]))
    if wall.size < FEWEST_WALL:
        wall = _without_white(parts.gray[dense])
    if wall.size < FEWEST:
        return np.nan, deep
    counts = body.histogram(wall, SMOOTHING)
    peaks, about = find_peaks(np.pad(counts, 1), prominence=PROMINENCE * counts.max())
    pair = np.sort(peaks[np.argsort(about["prominences"])[-2:]] - 1)
    if len(pair) == 2 and np.ptp(pair) >= max(4, APART * (pair[1] - parts.threshold)):
        return float(pair[0]), float(pair[1])
    highest = float(np.argmax(counts))
    if highest < deep - 2 * APART * (deep - parts.threshold):
        return highest, deep
    return np.nan, highest


def _without_white(values: np.ndarray) -> np.ndarray:
    dark = values[values < WHITE]
    return dark if dark.size > SHARE * values.size else values


def _mode(values: np.ndarray) -> float:
    """Most frequent of some gray values; nan if they are too few."""
    return body.mode(values) if values.size >= FEWEST else np.nan
