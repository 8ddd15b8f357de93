"""What a trained stream says of slices: the probability of each of its classes in each pixel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from covid_utils.data import augment, lungs
from covid_utils.training.head import softmax
from covid_utils.training.predictions import time_per_item
from covid_utils.training.segmentation import StreamSettings

if TYPE_CHECKING:
    import keras

    from covid_utils.training.committee import Committee

BATCH = 8
#: Least probability that counts where several streams are asked.
FLOOR = 1e-6


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
    model: keras.Model | Committee, images: np.ndarray, settings: StreamSettings
) -> Iterator[np.ndarray]:
    """Probabilities of the stream's classes, batch by batch, at the slices' own size.

    With an ``attenuation_margin`` what is not denser than the slice's healthy lung is background.

    Args:
        model: The stream's network; a committee where other ``test_scales`` than 1 are asked for.
        images: uint8 (n, size, size), an array or rows that are read when asked for.
        settings: Of the stream.

    Yields:
        float32 (batch, size, size, classes).
    """
    for first in range(0, len(images), BATCH):
        part = images[first : first + BATCH]
        each = [_at_scale(model, part, settings, scale) for scale in settings.test_scales]
        found = np.mean(each, axis=0)
        if settings.attenuation_margin:
            _keep_dense(found, part, settings.attenuation_margin)
        yield found


def _at_scale(
    model: keras.Model | Committee, images: np.ndarray, settings: StreamSettings, scale: float
) -> np.ndarray:
    """Probabilities at the slices' size, of slices that the network sees larger or smaller."""
    size = images.shape[1]
    own = replace(settings, image_size=round(size * scale))
    if own.image_size == size:
        return _answer(model, images, settings)
    return _resized(_answer(model.at(own), _resized(images, own.image_size), own), size)


def _answer(
    model: keras.Model | Committee, images: np.ndarray, settings: StreamSettings
) -> np.ndarray:
    """Probabilities at the slices' size, the mean over mirror images if that is asked for."""
    inputs, size = to_input(images, settings), images.shape[1]
    found = _softmax(model, inputs)[:, :size, :size]
    if not settings.flip_test:
        return found
    # Only the slice is mirrored: what pads it stays at its right edge.
    mirrored = inputs.copy()
    mirrored[:, :, :size] = inputs[:, :, :size][:, :, ::-1]
    other = _softmax(model, mirrored)[:, :size, :size][:, :, ::-1]
    return (found + other) / 2


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
    """Slices or probabilities at another size, placed as slices are when they are prepared."""
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
    model: keras.Model | Committee, images: np.ndarray, settings: StreamSettings
) -> dict[str, float]:
    """Time of one slice, from the prepared image to its labels; see `predictions.time_per_item`."""
    return time_per_item(
        lambda i: next(probabilities(model, images[i : i + 1], settings)).argmax(-1), len(images)
    )
