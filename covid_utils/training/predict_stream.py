"""Predictions of a trained stream: the probability of each of its classes in each pixel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.special import softmax

from covid_utils.data import augment, benchmark_lungs
from covid_utils.data.cache import Rows
from covid_utils.models.deeplab import resize_aligned
from covid_utils.training import networks
from covid_utils.training.streams import StreamSettings

if TYPE_CHECKING:
    import keras


BATCH = 8
#: Least probability that counts where several streams are averaged.
FLOOR = 1e-6


class Committee:
    """Trainings of one architecture, whose logits are averaged.

    What a network learns of a few dozen slices depends on their order, and the mean of several
    trainings less (Lakshminarayanan et al. 2017, who average probabilities). One network is in
    memory, traced once, and computes with the weights of each member in turn.
    """

    def __init__(self, network: keras.Model, members: list[list[np.ndarray]]):
        self.network, self.members = network, members
        self._others: dict[int, Committee] = {}

    def at(self, settings: StreamSettings) -> Committee:
        """The same members for slices of another ``image_size``, whose network is built once."""
        size = settings.image_size
        if size not in self._others:
            self._others[size] = Committee(networks.untrained(settings), self.members)
        return self._others[size]

    def predict_on_batch(self, inputs: np.ndarray) -> np.ndarray:
        """Mean of the members' logits, float32, shaped as the network's own."""
        logits, each = self._traced
        return sum(np.asarray(logits(*weights, inputs)) for weights in each) / len(each)

    @cached_property
    def _traced(self) -> tuple[Callable, list[tuple[list, list]]]:
        """From weights and images to logits, and each member's weights, trainable and others.

        Filling the network's own variables would take longer than the slice itself.
        """
        import tensorflow as tf

        network, filled = self.network, []
        for member in self.members:
            given = {v.path: tf.constant(w) for v, w in zip(network.weights, member, strict=True)}
            trainable = [given[v.path] for v in network.trainable_variables]
            # The state of dropout's generator is no weight, so no member has one.
            others = [given.get(v.path, v.value) for v in network.non_trainable_variables]
            filled.append((trainable, others))

        @tf.function(reduce_retracing=True)
        def logits(trainable: list, others: list, images: tf.Tensor) -> tf.Tensor:
            return network.stateless_call(trainable, others, images, training=False)[0]

        return logits, filled


def to_input(images: np.ndarray, settings: StreamSettings) -> np.ndarray:
    """Slices (n, size, size) as the network takes them: (n, side, side, channels)."""
    margin = settings.side - images.shape[1]
    around = ((0, 0), (0, margin), (0, margin))
    padded = np.pad(images, around, constant_values=augment.MEAN_GRAY)
    return np.repeat(padded[..., None], settings.channels, axis=-1)


def probabilities(
    model: keras.Model | Committee,
    images: np.ndarray | Rows,
    settings: StreamSettings,
    room: np.ndarray | Rows | None = None,
    batch: int = BATCH,
) -> Iterator[np.ndarray]:
    """Probabilities of the stream's classes for uint8 images (n, size, size), batch by batch.

    Each batch is float32 (batch, size, size, classes). Several ``test_scales`` need a committee.
    With an ``attenuation_margin``, what is not denser than the slice's healthy lung is background,
    and so is what lies outside the ``room``, boolean (n, size, size), if that is given.
    """
    for first in range(0, len(images), batch):
        part = images[first : first + batch]
        each = [_at_scale(model, part, settings, scale) for scale in settings.test_scales]
        probability, inside = np.mean(each, axis=0), np.ones(part.shape, bool)
        if settings.attenuation_margin:
            margin = settings.attenuation_margin
            for at, image in enumerate(part):
                inside[at] = benchmark_lungs.denser_than_healthy(image, margin)
        if room is not None:
            inside &= room[first : first + batch]
        probability[~inside] = np.eye(probability.shape[-1])[0]  # certain background
        yield probability


def _at_scale(
    model: keras.Model | Committee, images: np.ndarray, settings: StreamSettings, scale: float
) -> np.ndarray:
    size = images.shape[1]
    own = settings.replace(image_size=round(size * scale))
    if own.image_size != size:
        model, images = model.at(own), _resized(images, own.image_size)
    inputs, side = to_input(images, own), own.image_size

    def answer(inputs: np.ndarray) -> np.ndarray:
        # Of several devices each predicts the whole batch; the first replica's result is used.
        logits = model.predict_on_batch(inputs)[: len(inputs)]
        logits = np.asarray(resize_aligned(logits, inputs.shape[1:3]))
        return softmax(logits, axis=-1)[:, :side, :side]

    probability = answer(inputs)
    if settings.flip_test:
        # Only the slice is mirrored: what pads it stays at its right edge.
        mirrored = inputs.copy()
        mirrored[:, :, :side] = inputs[:, :, :side][:, :, ::-1]
        probability = (probability + answer(mirrored)[:, :, ::-1]) / 2
    return _resized(probability, size)


def _resized(arrays: np.ndarray, size: int) -> np.ndarray:
    if arrays.shape[1] == size:
        return arrays
    shape, how = (size, size), cv2.INTER_LINEAR
    return np.stack([cv2.resize(one, shape, interpolation=how) for one in arrays])


def together(parts: Sequence[Iterator[np.ndarray]], size: int) -> Iterator[np.ndarray]:
    """Geometric mean of several streams' probabilities, which is the mean of their logits.

    All are of the same classes, slices and crop; ``size`` is the side of the result in pixels,
    whatever size the slices were prepared at.
    """
    for batch in zip(*parts, strict=True):
        # A probability of 0, which float32 may have, would overrule all others.
        logs = [np.log(np.maximum(_resized(one, size), FLOOR)) for one in batch]
        yield softmax(np.mean(logs, axis=0), axis=-1)
