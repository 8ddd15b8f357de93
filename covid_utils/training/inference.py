"""What a trained stream says of slices: the probability of each of its classes in each pixel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from covid_utils.data import augment
from covid_utils.training.head import softmax
from covid_utils.training.predictions import time_per_item
from covid_utils.training.segmentation import StreamSettings

if TYPE_CHECKING:
    import keras

BATCH = 8


def channels(settings: StreamSettings) -> int:
    """Channels of the network's input: gray is repeated for weights that were trained on colour."""
    return 1 if settings.model == "unet" else 3


def to_input(images: np.ndarray, settings: StreamSettings) -> np.ndarray:
    """Slices as the network takes them.

    Args:
        images: uint8 (n, size, size).
        settings: Of the stream.

    Returns:
        uint8 (n, side, side, channels), mean gray beyond the slice.
    """
    margin = settings.side - images.shape[1]
    around = ((0, 0), (0, margin), (0, margin))
    padded = np.pad(images, around, constant_values=augment.MEAN_GRAY)
    return np.repeat(padded[..., None], channels(settings), axis=-1)


def probabilities(
    model: keras.Model, images: np.ndarray, settings: StreamSettings
) -> Iterator[np.ndarray]:
    """Probabilities of the stream's classes, batch by batch, at the slices' own size.

    Args:
        model: The stream's network.
        images: uint8 (n, size, size), an array or rows that are read when asked for.
        settings: Of the stream.

    Yields:
        float32 (batch, size, size, classes).
    """
    for first in range(0, len(images), BATCH):
        inputs = to_input(images[first : first + BATCH], settings)
        found = _softmax(model, inputs)
        if settings.flip_test:
            # Only the slice is mirrored: what pads it stays at its right edge.
            size = images.shape[1]
            mirrored = inputs.copy()
            mirrored[:, :, :size] = inputs[:, :, :size][:, :, ::-1]
            other = _softmax(model, mirrored)[:, :, :size][:, :, ::-1]
            found[:, :, :size] = (found[:, :, :size] + other) / 2
        yield found[:, : images.shape[1], : images.shape[2]]


def _softmax(model: keras.Model, inputs: np.ndarray) -> np.ndarray:
    """Class probabilities at the input's size, float32 (n, side, side, classes)."""
    from covid_utils.models.deeplab import resize_aligned

    # Of several devices each answers for the whole batch; the first is heard.
    logits = model.predict_on_batch(inputs)[: len(inputs)]
    return softmax(np.asarray(resize_aligned(logits, inputs.shape[1:3])))


def time_one_slice(
    model: keras.Model, images: np.ndarray, settings: StreamSettings
) -> dict[str, float]:
    """Time of one slice, from the prepared image to its labels; see `predictions.time_per_item`."""
    return time_per_item(
        lambda i: next(probabilities(model, images[i : i + 1], settings)).argmax(-1), len(images)
    )
