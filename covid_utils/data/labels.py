"""Labels of masks: the classes of a segmentation stream for them, and back; their colours."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_erosion

from covid_utils.registry import COLOURS, LABEL_CLASSES, LESION, STREAMS

#: Weight of a mask's colour inside a patch.
MASK_WEIGHT = 0.45


def to_targets(masks: np.ndarray, stream: str) -> np.ndarray:
    """Mask labels as the stream's class indices, uint8 of the same shape; 0 is background."""
    lookup = np.zeros(256, np.uint8)
    for index, labels in enumerate(STREAMS[stream].values()):
        lookup[list(labels)] = index
    return lookup[np.asarray(masks)]


def to_labels(classes: np.ndarray, stream: str) -> np.ndarray:
    """A stream's class indices as mask labels: what it calls 1 may be label 3 of the data set."""
    return np.array([labels[0] for labels in STREAMS[stream].values()], np.uint8)[classes]


def label_names(stream: str) -> dict[int, str]:
    """Mask label -> class, for the lesions that a stream segments."""
    return {labels[0]: name for name, labels in STREAMS[stream].items() if name != "background"}


def scored_classes(stream: str) -> dict[str, tuple[int, ...]]:
    """Classes that a stream is scored on: its own, and the extent where it knows all three."""
    return STREAMS[stream] | (LESION if stream == "all" else {})


def overlay(
    image: np.ndarray,
    mask: np.ndarray,
    classes: dict[int, str] = LABEL_CLASSES,
    weights: np.ndarray | float = MASK_WEIGHT,
) -> np.ndarray:
    """Colours of labels over a gray image, uint8 (height, width): float (height, width, 3) in 0-1.

    The edge of each patch has its full colour, because few people can distinguish the blends with
    gray inside it. ``classes`` name the colours; ``weights`` inside the patches are 0 to 1, one or
    as many as pixels.
    """
    picture = np.repeat(image[..., None] / 255.0, 3, axis=-1)
    weights = np.broadcast_to(weights, mask.shape)
    for label, name in classes.items():
        colour = np.array([*bytes.fromhex(COLOURS[name][1:])]) / 255
        where = mask == label
        edge = where & ~binary_erosion(where, border_value=1)
        weight = np.where(edge, 1.0, weights)[where][:, None]
        picture[where] = (1 - weight) * picture[where] + weight * colour
    return picture
