"""From the labels of a data set's masks to the classes of a segmentation stream, and back."""

from __future__ import annotations

import numpy as np

from covid_utils.registry import LESION, STREAMS


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
