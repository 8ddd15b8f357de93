"""What a trained stream says of slices: the probability of each of its classes in each pixel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from covid_utils.data import augment, lungs
from covid_utils.training.head import softmax
from covid_utils.training.predictions import time_per_item
from covid_utils.training.segmentation import StreamSettings

if TYPE_CHECKING:
    import keras

BATCH = 8
#: Least probability that counts where several streams are asked.
FLOOR = 1e-6


def channels_of(images: np.ndarray, settings: StreamSettings) -> np.ndarray:
    """Slices with the channels that the network takes.

    Args:
        images: uint8 (n, size, size).
        settings: Of the stream.

    Returns:
        uint8 (n, size, size, channels): three windows, see `lungs.windows`, or the gray values,
        repeated for a network that takes colour.
    """
    if settings.windows:
        return np.stack([lungs.windows(np.asarray(image)) for image in images])
    return np.repeat(images[..., None], settings.channels, axis=-1)


def to_input(images: np.ndarray, settings: StreamSettings) -> np.ndarray:
    """Slices as the network takes them.

    Args:
        images: uint8 (n, size, size).
        settings: Of the stream.

    Returns:
        uint8 (n, side, side, channels), mean gray beyond the slice.
    """
    margin = settings.side - images.shape[1]
    around = ((0, 0), (0, margin), (0, margin), (0, 0))
    return np.pad(channels_of(images, settings), around, constant_values=augment.MEAN_GRAY)


def probabilities(
    model: keras.Model, images: np.ndarray, settings: StreamSettings
) -> Iterator[np.ndarray]:
    """Probabilities of the stream's classes, batch by batch, at the slices' own size.

    With an ``attenuation_margin`` what is not denser than the slice's healthy lung is background.

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
        found = found[:, : images.shape[1], : images.shape[2]]
        if settings.attenuation_margin:
            _keep_dense(found, images[first : first + BATCH], settings.attenuation_margin)
        yield found


def together(answers: Sequence[Iterator[np.ndarray]], size: int) -> Iterator[np.ndarray]:
    """What several streams say together: the geometric mean of their probabilities.

    It is what the mean of their logits would say (deep ensembles; Lakshminarayanan et al. 2017).

    Args:
        answers: From `probabilities`, of the same classes, slices and crop; slices may have been
            prepared at different sizes.
        size: Side of the answer in pixels.

    Yields:
        float32 (batch, size, size, classes), summing to 1 over classes.
    """
    for parts in zip(*answers, strict=True):
        # A probability of 0, which float32 may have, would silence all others.
        logs = [np.log(np.maximum(_resized(part, size), FLOOR)) for part in parts]
        yield softmax(np.mean(logs, axis=0))


def _resized(found: np.ndarray, size: int) -> np.ndarray:
    """Probabilities at another size, placed as slices are when they are prepared."""
    if found.shape[1] == size:
        return found
    return np.stack(
        [cv2.resize(one, (size, size), interpolation=cv2.INTER_LINEAR) for one in found]
    )


def _keep_dense(found: np.ndarray, images: np.ndarray, margin: float) -> None:
    """Give to background what a network sees in healthy lung; changes the probabilities."""
    dense = np.stack([lungs.denser_than_healthy(np.asarray(image), margin) for image in images])
    found[..., 1:] *= dense[..., None]
    found[..., 0] = np.where(dense, found[..., 0], 1)


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
