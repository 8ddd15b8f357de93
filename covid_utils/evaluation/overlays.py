"""Masks laid over gray images, in the colours of the registry."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import to_rgb
from scipy.ndimage import binary_erosion

from covid_utils.registry import COLOURS, LABEL_CLASSES

#: Weight of a mask's colour inside a patch.
MASK_WEIGHT = 0.45


def overlay(
    image: np.ndarray,
    mask: np.ndarray,
    classes: dict[int, str] = LABEL_CLASSES,
    weights: np.ndarray | float = MASK_WEIGHT,
) -> np.ndarray:
    """Lay a mask's colours over a gray image.

    The edge of each patch has its full colour, because few people can distinguish the blends with
    gray inside it.

    Args:
        image: uint8 (height, width).
        mask: Labels (height, width).
        classes: Label -> name of its colour.
        weights: Of the colours inside the patches, 0 to 1, one or as many as pixels.

    Returns:
        float (height, width, 3) in [0, 1].
    """
    picture = np.repeat(image[..., None] / 255.0, 3, axis=-1)
    weights = np.broadcast_to(weights, mask.shape)
    for label, name in classes.items():
        where = mask == label
        edge = where & ~binary_erosion(where, border_value=1)
        weight = np.where(edge, 1.0, weights)[where][:, None]
        picture[where] = (1 - weight) * picture[where] + weight * np.array(to_rgb(COLOURS[name]))
    return picture
