"""The lung field of an axial CT slice from anywhere: any gray scale, table in view, either way up.

Where `lungs` reads fixed gray values of the canonical lung window, this takes a threshold from the
picture (`body`); benchmark networks keep the crops of `lungs`, which they were trained on.
"""

from __future__ import annotations

import cv2
import numpy as np

from covid_utils.data import body, lungs

#: Radius that closes the outline over vessels and lesions; share of the root of the body's area.
CLOSING = 0.05


def find(gray: np.ndarray) -> str:
    """Top, left and side of `lungs.box` around the field, and its pixels, as in the manifest."""
    found = field(gray)
    return " ".join(map(str, (*lungs.box(found), np.count_nonzero(found))))


def field(gray: np.ndarray) -> np.ndarray:
    """Lung field, boolean (height, width), of a uint8 slice; all False without aerated lung."""
    parts = body.parts(gray)
    closed = _closed(parts.aerated, CLOSING * parts.scale) & parts.body
    whole = cv2.resize(closed.astype(np.float32), gray.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return whole >= 0.5


def _closed(mask: np.ndarray, radius: float) -> np.ndarray:
    """Closing with a disk; the picture's edge does not count as a wall."""
    if not mask.any():
        return mask
    rim = int(radius) + 2
    wide = np.pad(mask, rim)
    near = cv2.distanceTransform((~wide).astype(np.uint8), cv2.DIST_L2, 5) <= radius
    kept = cv2.distanceTransform(near.astype(np.uint8), cv2.DIST_L2, 5) > radius
    return kept[rim:-rim, rim:-rim] | mask
