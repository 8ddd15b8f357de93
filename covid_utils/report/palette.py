"""Contrast of colours, and which ink can be read on one. The colours stand in `registry`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgb


def luminance(colour: str | Sequence[float]) -> float:
    """Relative luminance of WCAG 2, from 0 (black) to 1 (white)."""
    channels = np.array(to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def contrast(one: str | Sequence[float], other: str | Sequence[float]) -> float:
    """Contrast of WCAG 2, from 1 (none) to 21; text needs 4.5, a line or a mark 3."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def readable_on(colour: str | Sequence[float]) -> str:
    """Black or white, whichever can be read on a colour: one of them always has 4.5."""
    return max(("black", "white"), key=lambda ink: contrast(ink, colour))
