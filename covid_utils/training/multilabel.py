"""Training of the multi-label CNN (paper, section 3.4): which manifestations does a slice show?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from covid_utils import progress
from covid_utils.data import augment, image_conditions
from covid_utils.data.cache import Rows, rows_of
from covid_utils.data.collection import Collection
from covid_utils.data.images import Preprocessing
from covid_utils.models.ml_cnn import ml_cnn
from covid_utils.registry import LESION_SETS, MANIFESTATIONS, PREDICTION_KEYS, SEEN
from covid_utils.training import streams

if TYPE_CHECKING:
    import keras


def present(masks: np.ndarray | Rows, minimum_share: float = 0.0) -> np.ndarray:
    """Labels of slices, bool (n, 3): a manifestation is present if its mask is large enough.

    ``masks`` are uint8 (n, size, size), with 1 to 3 for `MANIFESTATIONS`. ``minimum_share`` is the
    smallest share of a slice's pixels that counts; 0 counts a single pixel.
    """
    shares = [[(mask == label).mean() for label in (1, 2, 3)] for mask in masks]
    shares = np.array(shares).reshape(-1, 3)
    return (shares > 0) & (shares >= minimum_share)


def _moved(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    return augment.warp(image, augment.draw_matrix(rng, image.shape[0], augment.Ranges()))


def train(
    images: np.ndarray | Rows,
    labels: np.ndarray,
    validation: tuple[np.ndarray, np.ndarray] | None,
    values: Mapping[str, Any],
    epoch_steps: int = 0,
    changed: Callable[[np.random.Generator, np.ndarray], np.ndarray] = _moved,
) -> tuple[keras.Model, pd.DataFrame]:
    """Train the network on uint8 images (n, size, size) and their labels, bool (n, 3).

    ``values`` are parameters of ``03_task2_multilabel``. Images and labels for ``validation`` make
    only the curve. An epoch shows each slice once, unless ``epoch_steps`` says how many steps it
    has, and each time ``changed`` in another way.

    Returns:
        The network after the last epoch, and the history: one row per epoch and subset with
        ``epoch, subset, loss, accuracy``.
    """
    import keras

    def augmented(rng: np.random.Generator, image: np.ndarray, label: np.ndarray) -> tuple:
        return to_input(changed(rng, image)), label.astype(np.float32)

    keras.utils.set_random_seed(values["seed"])
    model = _compiled(labels.shape[1], images.shape[1], values["learning_rate"])
    size, epochs = min(values["batch_size"], len(images)), values["epochs"]
    if validation:
        validation = to_input(validation[0]), validation[1].astype(np.float32)
    with progress.bar(total=epochs, desc="epochs") as shown:
        curves = model.fit(
            streams.batches(images, labels, size, values["seed"], augmented),
            steps_per_epoch=epoch_steps or -(-len(images) // size),
            epochs=epochs,
            shuffle=False,  # the batches are shuffled already
            validation_data=validation,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: shown.update())],
            verbose=0,
        ).history
    parts = []
    for subset, of in (("train", ""), ("validation", "val_")):
        if of + "loss" in curves:
            part = pd.DataFrame({name: curves[of + name] for name in ("loss", "accuracy")})
            part.insert(0, "subset", subset)
            part.insert(0, "epoch", part.index + 1)
            parts.append(part)
    return model, pd.concat(parts, ignore_index=True)


def _compiled(count: int, side: int, learning_rate: float) -> keras.Model:
    """The untrained network for a number of labels, ready for `keras.Model.fit`."""
    import keras

    def loss(truth, probability):  # cross entropy in nats, summed over the labels (section 3.4)
        each = keras.ops.binary_crossentropy(truth, probability)
        return keras.ops.sum(each, axis=-1)

    model = ml_cnn(count, side)
    metrics = [keras.metrics.BinaryAccuracy("accuracy")]
    model.compile(keras.optimizers.Adam(learning_rate), loss, metrics=metrics)
    return model


def under_condition(
    condition: str,
    collection: Collection,
    parameters: Mapping[str, Any],
    copies: int,
    tests: int,
    trainings: int,
) -> pd.DataFrame:
    """Train the network several times under T0 or T3 and predict the test slices.

    A training takes as many steps under T3 as under T0. Slices, and copies, are augmented anew each
    time that they are shown. ``parameters`` are those of ``03_task2_multilabel``, ``copies`` and
    ``tests`` those of `image_conditions.divide`.

    Returns:
        `prediction_table` of test slices with `SEEN`, and ``repeat``, the number of the training.
    """
    seed, size = parameters["seed"], parameters["batch_size"]
    rows = collection.training_rows(LESION_SETS, f"condition {condition}", near_copies=True)
    usual = image_conditions.divide(rows, "T0", 1, seed, copies, tests)["subset"]
    slices = (usual == "train").sum()
    steps = -(-slices // min(size, slices))
    each = [
        image_conditions.divide(rows, condition, number, seed, copies, tests)
        for number in range(1, trainings + 1)
    ]
    # Trainings differ in which slices, or copies, are in which subset.
    data = streams.prepared(each[0], collection.root, Preprocessing(parameters["image_size"]), seed)
    truth = present(data.masks, parameters["minimum_share"])
    tables = []
    for number, own in enumerate(each, start=1):
        trained, tested = (np.flatnonzero(own["subset"] == name) for name in ("train", "test"))
        values = parameters | {"seed": seed + 1000 * (number - 1)}
        network, _ = train(rows_of(data.images, trained), truth[trained], None, values, steps)
        found = predict(network, rows_of(data.images, tested))
        table = prediction_table(own.iloc[tested], truth[tested], found)
        tables.append(table.join(own[[*SEEN]]).assign(repeat=number))
    return pd.concat(tables, ignore_index=True)


def to_input(images: np.ndarray) -> np.ndarray:
    """Gray images as the network takes them: float32 (n, size, size, 1) in [0, 1]."""
    return images[..., None].astype(np.float32) / np.float32(255)


def predict(model: keras.Model, images: np.ndarray | Rows) -> np.ndarray:
    """Probabilities of the three manifestations, float32 (n, 3), for uint8 images."""
    return model.predict(to_input(images[:]), batch_size=32, verbose=0)


def prediction_table(
    rows: pd.DataFrame, truth: np.ndarray, probabilities: np.ndarray
) -> pd.DataFrame:
    """Predictions of slices, from arrays (n, 3): ``truth_<label>`` and ``p_<label>``."""
    columns = {}
    for index, name in enumerate(MANIFESTATIONS):
        columns[f"truth_{name}"] = truth[:, index].astype(bool)
        columns[f"p_{name}"] = probabilities[:, index].astype(np.float32)
    return rows[[*PREDICTION_KEYS]].assign(**columns)
