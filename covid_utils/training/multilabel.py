"""Training of the multi-label CNN (paper, section 3.4): which manifestations does a slice show?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from covid_utils.data import augment
from covid_utils.data.cache import Rows
from covid_utils.errors import DataError, ParameterError
from covid_utils.models.ml_cnn import ml_cnn
from covid_utils.training import batches
from covid_utils.training.predictions import time_per_item

#: How present labels can weigh in the loss: as absent ones, or as `balanced_weights` computes.
POSITIVE_WEIGHTS = ("none", "balanced")
#: Column of the history -> what Keras calls it.
CURVE = {"loss": "loss", "accuracy": "binary_accuracy"}


@dataclass(frozen=True)
class MultilabelSettings:
    """Settings of `train`; the paper names 50 epochs and Adam, no rate and no weights."""

    epochs: int = 50
    batch_size: int = 32
    learning_rate: float = 0.001
    seed: int = 2020
    positive_weight: str = "none"

    def __post_init__(self) -> None:
        if self.positive_weight not in POSITIVE_WEIGHTS:
            choices = ", ".join(POSITIVE_WEIGHTS)
            raise ParameterError(f"positive_weight '{self.positive_weight}' is none of {choices}.")


def present(masks: np.ndarray | Rows, minimum_share: float = 0.0) -> np.ndarray:
    """Labels of slices, bool (n, 3): a manifestation is present if its mask is large enough.

    Args:
        masks: uint8 labels (n, size, size), 0 background, 1-3 as in `MANIFESTATIONS`.
        minimum_share: Smallest share of the slice's pixels that counts; 0 counts a single pixel.
    """
    shares = [[(mask == label).mean() for label in (1, 2, 3)] for mask in masks]
    shares = np.array(shares).reshape(-1, 3)
    return (shares > 0) & (shares >= minimum_share)


def balanced_weights(labels: np.ndarray) -> np.ndarray:
    """Weight of each present label that makes present and absent slices count alike.

    It is the ratio of the training slices without the label to those with it (King and Zeng 2001,
    section 4.2, up to a common factor).

    Args:
        labels: bool (n, labels) of the training subset.

    Returns:
        float32 (labels,): 1 for a label that all or none show, where there is nothing to balance.
    """
    labels = np.asarray(labels, bool)
    if not len(labels):
        raise DataError("no slices to count labels in; check the subset column for 'train'.")
    present_in, absent_from = labels.sum(axis=0), (~labels).sum(axis=0)
    varies = (present_in > 0) & (absent_from > 0)
    return np.where(varies, absent_from / np.maximum(present_in, 1), 1).astype(np.float32)


def train(
    images: np.ndarray,
    labels: np.ndarray,
    validation: tuple[np.ndarray, np.ndarray],
    settings: MultilabelSettings,
):
    """Train the network.

    Args:
        images: uint8 (n, size, size) of the training subset.
        labels: bool (n, 3).
        validation: The same for the validation subset; for the curve only. Its loss has the
            weights of the training subset, so that both curves measure the same.
        settings: How.

    Returns:
        The Keras model after the last epoch, and the history: one row per epoch and subset with
        ``epoch, subset, loss, accuracy``.
    """
    import keras

    keras.utils.set_random_seed(settings.seed)
    model = ml_cnn(labels.shape[1], images.shape[1])
    weights = balanced_weights(labels) if settings.positive_weight == "balanced" else 1.0

    def loss(truth, probability):
        return summed_cross_entropy(truth, probability, weights)

    optimizer = keras.optimizers.Adam(settings.learning_rate)
    model.compile(optimizer=optimizer, loss=loss, metrics=["binary_accuracy"])
    size = min(settings.batch_size, len(images))
    history = model.fit(
        batches.of_labels(images, labels, size, settings.seed, augment.Ranges()),
        steps_per_epoch=int(np.ceil(len(images) / size)),
        epochs=settings.epochs,
        validation_data=(to_input(validation[0]), validation[1].astype(np.float32)),
        verbose=0,
    ).history
    epoch, parts = np.arange(1, settings.epochs + 1), []
    for subset, prefix in (("train", ""), ("validation", "val_")):
        curve = {name: history[prefix + of] for name, of in CURVE.items()}
        parts.append(pd.DataFrame({"epoch": epoch, "subset": subset} | curve))
    return model, pd.concat(parts, ignore_index=True)


def summed_cross_entropy(truth, probability, positive_weight: np.ndarray | float = 1.0):
    """Binary cross entropy in nats, summed over the labels (paper, section 3.4): float32 (n,).

    The terms of present labels have a weight, (labels,) or one for all; those of absent ones 1.
    """
    from keras import ops

    each = ops.binary_crossentropy(truth, probability)
    return ops.sum((1 + (positive_weight - 1) * truth) * each, axis=-1)


def to_input(images: np.ndarray) -> np.ndarray:
    """Gray images as the network takes them: float32 (n, size, size, 1) in [0, 1]."""
    return images[..., None].astype(np.float32) / np.float32(255)


def time_one_slice(model, images: np.ndarray | Rows) -> dict[str, object]:
    """Time of one slice, from the prepared image to its answers; see `time_per_item`."""
    return time_per_item(lambda i: model.predict_on_batch(to_input(images[i : i + 1])), len(images))


def predict(model, images: np.ndarray | Rows) -> np.ndarray:
    """Probabilities of the three manifestations, float32 (n, 3), for uint8 images."""
    return model.predict(to_input(images[:]), batch_size=32, verbose=0)
