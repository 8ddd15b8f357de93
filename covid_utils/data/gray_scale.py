"""Any chest CT picture in the canonical lung window, by landmarks of anatomy.

A picture of unknown window, gamma or equalised contrast still shows air around the body, aerated
lung, fat and muscle, whose Hounsfield units are known. A rising line from landmark to landmark
brings its gray values to those that `readers.gray.LUNG_WINDOW` gives.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np

from covid_utils.data import body
from covid_utils.data.readers.gray import LUNG_WINDOW

#: Landmark -> Hounsfield units: air, healthy lung (its mode), fat, and muscle or unenhanced blood.
HOUNSFIELD = {"air": -1000.0, "lung": -870.0, "fat": -100.0, "tissue": 50.0}
#: Part of the way from the threshold of air to soft tissue that holds no fat.
FAT_SPAN = 0.15
#: Pixels that a landmark is read from, at least.
FEWEST = 40


def to_gray(hounsfield: float) -> float:
    """Gray value of Hounsfield units in the canonical window; below 0 or above 255 is outside."""
    low, high = LUNG_WINDOW
    return (hounsfield - low) * 255 / (high - low)


@dataclass(frozen=True)
class Landmarks:
    """Gray values of the landmarks of a picture, nan where one is missing.

    Attributes:
        air: Around the body.
        lung: Most frequent gray value of aerated lung.
        fat: Below the skin.
        tissue: Muscle and other soft tissue.
        confidence: 0 to 1; below `SURE` the map is a guess.
    """

    air: float
    lung: float
    fat: float
    tissue: float
    confidence: float

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the landmarks that were not found."""
        return tuple(name for name in HOUNSFIELD if np.isnan(getattr(self, name)))

    @property
    def curve(self) -> np.ndarray:
        """Canonical gray value of each of the 256 gray values, uint8; it never falls."""
        known = [name for name in HOUNSFIELD if name not in self.missing]
        if len(known) < 2:
            return np.arange(256, dtype=np.uint8)
        source = np.array([getattr(self, name) for name in known])
        target = np.array([to_gray(HOUNSFIELD[name]) for name in known])
        slope = (target[-1] - target[0]) / (source[-1] - source[0])
        gray = np.arange(256)
        curve = np.interp(gray, source, target)
        curve += slope * (np.minimum(gray - source[0], 0) + np.maximum(gray - source[-1], 0))
        return np.rint(np.clip(curve, 0, 255)).astype(np.uint8)

    def __str__(self) -> str:
        values = [getattr(self, part.name) for part in fields(self)]
        return " ".join("-" if np.isnan(value) else f"{value:.4g}" for value in values)

    @classmethod
    def parse(cls, text: str) -> Landmarks:
        """Landmarks from their text, as a manifest has it."""
        return cls(*(np.nan if word == "-" else float(word) for word in text.split()))


#: Landmarks of an image whose Hounsfield units are known: its map changes nothing.
CANONICAL = Landmarks(*map(to_gray, HOUNSFIELD.values()), confidence=1.0)
#: Confidence from which a map can be trusted.
SURE = 0.5


def canonical(gray: np.ndarray, found: Landmarks | None = None) -> np.ndarray:
    """A uint8 slice in the canonical window, by its landmarks, which are found now if not given."""
    return (found or landmarks(gray)).curve[gray]


def landmarks(gray: np.ndarray) -> Landmarks:
    """Find the landmarks of a uint8 slice (height, width)."""
    parts = body.parts(gray)
    is_dark = parts.gray <= parts.threshold
    near_body = cv2.dilate(parts.body.astype(np.uint8), np.ones((7, 7)))
    air = _mode(parts.gray[is_dark & (near_body == 0) & ~parts.padding])
    lung = parts.lung if np.count_nonzero(parts.core) >= FEWEST else np.nan
    fat, tissue = _dense(parts)
    if not air < lung:
        air = np.nan
    return _judged(air, lung, fat, tissue)


def _judged(air: float, lung: float, fat: float, tissue: float) -> Landmarks:
    found = 1 - np.isnan([lung, tissue, fat, air]) @ [0.4, 0.4, 0.1, 0.1]
    is_wide = np.isnan(tissue - lung) or tissue - lung >= 20
    return Landmarks(air, lung, fat, tissue, confidence=round(float(found * is_wide), 2))


def _dense(parts: body.Parts) -> tuple[float, float]:
    """Gray values of fat and soft tissue: modes below the skin, and deeper in the body."""
    dense = parts.body & (body.distance(parts.gray <= parts.threshold) > 2)
    tissue = _mode(parts.gray[dense & (parts.depth > 0.12)])
    limit = tissue - FAT_SPAN * (tissue - parts.threshold)
    fat = _mode(parts.gray[dense & (parts.depth < 0.12) & (parts.gray < limit)])
    return (fat if fat < limit - 2 else np.nan), tissue


def _mode(values: np.ndarray) -> float:
    """Most frequent of some gray values; nan if they are too few."""
    return body.mode(values) if values.size >= FEWEST else np.nan
