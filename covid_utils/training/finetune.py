"""Fine-tuning beyond the paper: the last blocks of Inception-v3 are trained as well.

What lies below the first trained block is still frozen, so its maps are computed once and kept,
and an epoch costs only the blocks that are trained. Images are therefore not augmented.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from covid_utils.data.cache import Rows
from covid_utils.models import inception
from covid_utils.training import head, predictions
from covid_utils.training.features import Extraction
from covid_utils.training.tasks import Task

if TYPE_CHECKING:
    import keras

MODEL = "fine-tuned"
BATCH = 32
#: Epochs without a lower validation cross entropy after which to stop.
PATIENCE = 2
#: The rate of each block is that of the block above times this: early blocks hold what all pictures
#: share, and should move less (Howard and Ruder 2018, section 3.2).
BLOCK_FACTOR = 0.3


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned network with its predictions for every image.

    Attributes:
        model: From the maps below the first trained block to probabilities.
        predictions: As `recognition.Fitted.predictions`.
        history: One row per epoch and subset; epoch 0 is the frozen network.
        rates: Name of a block, or ``last layer`` -> its learning rate.
        trained: Number of values that were trained.
    """

    model: keras.Model
    predictions: pd.DataFrame
    history: pd.DataFrame
    rates: dict[str, float]
    trained: int


def train(
    extraction: Extraction,
    task: Task,
    start: head.Head,
    before: str,
    epochs: int,
    rate: float,
    seed: int,
) -> Finetuned:
    """Fine-tune the last blocks, starting from the frozen network and its head.

    Batch norm keeps its statistics. The weights of the best epoch on validation are kept, which may
    be those of the start; without validation images, those of the last. The extraction's own
    network is not changed.

    Args:
        extraction: Of the task's rows, in their order, up to the block of ``start``.
        task: What to learn.
        start: The head trained on the frozen features.
        before: First block that is trained; the last of the network if this one lies behind it.
        epochs: Passes over the training images at most.
        rate: Of Adam, for the last block and the last layer.
        seed: Of the order.
    """
    inception.block_below(before)  # refuses what is no block
    before = inception.earlier(before, extraction.last)
    train_rows, watched = task.parts()
    maps, target = extraction.maps(before), task.rows["target"].to_numpy()
    model = build(extraction.network, before, start)
    rates = block_rates(before, extraction.last, rate)
    step = _train_step(model, inception.block_of(extraction.network), rates)
    rng = np.random.default_rng(seed)
    curve = [_point(0, "validation", predict(model, maps, watched), target[watched])]
    best, best_weights, waited = curve[0]["cross_entropy"], model.get_weights(), 0
    for epoch in range(1, epochs + 1):
        order, answers = rng.permutation(train_rows), []
        for first in range(0, len(order), BATCH):
            part = order[first : first + BATCH]
            # Half precision has no fast kernels on a processor, so it ends here.
            answers.append(np.asarray(step(maps[part].astype(np.float32), target[part])))
        curve.append(_point(epoch, "train", np.concatenate(answers), target[order]))
        curve.append(_point(epoch, "validation", predict(model, maps, watched), target[watched]))
        loss, waited = curve[-1]["cross_entropy"], waited + 1
        if loss < best or not len(watched):
            best, best_weights, waited = loss, model.get_weights(), 0
        if waited >= PATIENCE:
            break
    model.set_weights(best_weights)
    probabilities = predict(model, maps, np.arange(len(maps)))
    table = task.mark(predictions.class_table(task.rows, probabilities, task.names), MODEL)
    trained = int(sum(np.prod(variable.shape) for variable in model.trainable_variables))
    return Finetuned(model, table, pd.DataFrame(curve), rates, trained)


def block_rates(before: str, last: str, rate: float) -> dict[str, float]:
    """Learning rate of each block from ``before`` to ``last``, and of the last layer."""
    names = inception.FEATURE_LAYERS
    blocks = names[names.index(before) : names.index(last) + 1]
    rates = {name: rate * BLOCK_FACTOR**above for above, name in enumerate(reversed(blocks))}
    return rates | {"last layer": rate}


def build(network: keras.Model, before: str, start: head.Head) -> keras.Model:
    """The trained part as a network of its own, with copies of the weights of the frozen one.

    Returns:
        Trainable model from the maps that enter ``before`` to probabilities (n, classes).
    """
    import keras

    _, upper = inception.cut(network, before)
    copied = keras.models.clone_model(upper)
    copied.set_weights(upper.get_weights())
    for layer in copied.layers:
        layer.trainable = True
    pooled = keras.layers.GlobalAveragePooling2D()(copied.output)
    last = keras.layers.Dense(len(start.bias), activation="softmax", name="last_layer")
    model = keras.Model(copied.input, last(pooled))
    last.set_weights([start.kernel, start.bias])
    return model


def _train_step(
    model: keras.Model, block_of: dict[str, str], rates: dict[str, float]
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A traced function (maps, targets) -> probabilities; every block has its own rate."""
    import keras
    import tensorflow as tf

    groups: dict[str, list] = {name: [] for name in rates}
    for layer in model.layers:
        groups[block_of.get(layer.name, "last layer")] += layer.trainable_variables
    optimizers = {name: keras.optimizers.Adam(rate) for name, rate in rates.items()}
    for name, optimizer in optimizers.items():
        optimizer.build(groups[name])

    @tf.function(reduce_retracing=True)
    def step(maps: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            probabilities = model(maps, training=False)
            losses = keras.losses.sparse_categorical_crossentropy(target, probabilities)
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, groups)
        for name, optimizer in optimizers.items():
            optimizer.apply(gradients[name], groups[name])
        return probabilities

    return step


def predict(model: keras.Model, maps: Rows, positions: np.ndarray) -> np.ndarray:
    """Probabilities (n, classes) of some rows of the maps."""
    batches = [np.empty((0, model.output_shape[-1]), np.float32)]
    for first in range(0, len(positions), BATCH):
        batch = maps[positions[first : first + BATCH]].astype(np.float32)
        batches.append(model.predict_on_batch(batch))
    return np.concatenate(batches)


def _point(epoch: int, subset: str, probabilities: np.ndarray, target: np.ndarray) -> dict:
    """A point of the curve; NaN without images."""
    accuracy = loss = np.nan
    if len(target):
        of_truth = probabilities[np.arange(len(target)), target]
        accuracy = float((probabilities.argmax(axis=1) == target).mean())
        loss = float(-np.log(np.maximum(of_truth, 1e-12)).mean())
    return {"epoch": epoch, "subset": subset, "accuracy": accuracy, "cross_entropy": loss}
