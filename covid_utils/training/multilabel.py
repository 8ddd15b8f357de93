"""Training of the multi-label CNN (paper, section 3.4): which manifestations does a slice show?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from covid_utils.data import augment
from covid_utils.models.ml_cnn import ml_cnn
from covid_utils.training import batches
from covid_utils.training.predictions import time_per_item

#: Labels of the CT segmentation set: 1 ground-glass, 2 consolidation, 3 pleural effusion.
MANIFESTATIONS = ("ggo", "consolidation", "effusion")


@dataclass(frozen=True)
class MultilabelSettings:
    """Settings of `train`.

    Attributes:
        epochs: Passes over the training slices; the paper trains 50.
        batch_size: Slices a step.
        learning_rate: Of Adam; the paper names Adam and no rate.
        seed: Of weights, order, dropout and augmentation.
    """

    epochs: int = 50
    batch_size: int = 32
    learning_rate: float = 0.001
    seed: int = 2020


def present(masks: np.ndarray, minimum_share: float = 0.0) -> np.ndarray:
    """Labels of slices: a manifestation is present if its mask is large enough.

    Args:
        masks: uint8 labels (n, size, size), 0 background, 1-3 as in `MANIFESTATIONS`.
        minimum_share: Smallest share of the slice's pixels that counts; 0 counts a single pixel.

    Returns:
        bool (n, 3).
    """
    shares = [(masks == label).mean(axis=(1, 2)) for label in (1, 2, 3)]
    return np.stack([(share > 0) & (share >= minimum_share) for share in shares], axis=1)


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
        validation: The same for the validation subset; for the curve only.
        settings: How.

    Returns:
        The Keras model after the last epoch, and the history: a row an epoch and subset with
        ``epoch, subset, loss, accuracy``.
    """
    import keras

    keras.utils.set_random_seed(settings.seed)
    model = ml_cnn(labels.shape[1], images.shape[1])
    model.compile(
        optimizer=keras.optimizers.Adam(settings.learning_rate),
        loss=summed_cross_entropy,
        metrics=["binary_accuracy"],
    )
    size = min(settings.batch_size, len(images))
    stream = batches.of_labels(images, labels, size, settings.seed, augment.Ranges())
    history = model.fit(
        stream,
        steps_per_epoch=int(np.ceil(len(images) / size)),
        epochs=settings.epochs,
        validation_data=(to_input(validation[0]), validation[1].astype(np.float32)),
        verbose=0,
    )
    return model, _long(history.history)


def _long(history: dict[str, list[float]]) -> pd.DataFrame:
    """Keras's history with a row an epoch and subset."""
    parts = []
    for subset, prefix in (("train", ""), ("validation", "val_")):
        loss, accuracy = history[f"{prefix}loss"], history[f"{prefix}binary_accuracy"]
        part = pd.DataFrame({"epoch": np.arange(1, len(loss) + 1), "subset": subset})
        parts.append(part.assign(loss=loss, accuracy=accuracy))
    return pd.concat(parts, ignore_index=True)


def summed_cross_entropy(truth, probability):
    """Binary cross entropy summed over the labels (paper, section 3.4), one value a slice."""
    import keras

    mean = keras.losses.binary_crossentropy(truth, probability)
    return mean * truth.shape[-1]


def to_input(images: np.ndarray) -> np.ndarray:
    """Gray images as the network takes them: float32 (n, size, size, 1) in [0, 1]."""
    return images[..., None].astype(np.float32) / np.float32(255)


def time_one_slice(model, images: np.ndarray) -> dict[str, float]:
    """Time of one slice, from the prepared image to its answers; see `time_per_item`."""
    return time_per_item(lambda i: model.predict_on_batch(to_input(images[i : i + 1])), len(images))


def predict(model, images: np.ndarray) -> np.ndarray:
    """Probabilities of the three manifestations, float32 (n, 3), for uint8 images."""
    return model.predict(to_input(images), batch_size=32, verbose=0)
