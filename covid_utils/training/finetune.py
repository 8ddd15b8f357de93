"""Fine-tuning beyond the paper: the last blocks of Inception-v3 learn as well.

What lies below the first learning block is still frozen, so its maps are computed once and kept,
and an epoch costs only the blocks that learn. Images are therefore not augmented.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from covid_utils.data.lazy import LazyRows
from covid_utils.models import inception
from covid_utils.training import head, predictions
from covid_utils.training.bottlenecks import Extraction
from covid_utils.training.recognition import Task

if TYPE_CHECKING:
    import keras

MODEL = "fine-tuned"
EVALUATION_BATCH = 32


@dataclass(frozen=True)
class FinetuneSettings:
    """Settings of `train`; the paper does not fine-tune, so all of them are ours.

    Attributes:
        before: First block that learns, see `inception.FEATURE_LAYERS`; the last block of the
            network if this one lies behind it.
        epochs: Passes over the training images at most.
        patience: Epochs without a better validation cross entropy after which to stop.
        learning_rate: Of Adam, for the last block and the last layer.
        block_factor: The rate of each block is that of the block above times this: early blocks
            hold what all pictures share, and should move less (Howard and Ruder 2018, section 3.2).
        batch_size: Images a step.
        seed: Of the order.
    """

    before: str = "mixed10"
    epochs: int = 10
    patience: int = 2
    learning_rate: float = 1e-4
    block_factor: float = 0.3
    batch_size: int = 32
    seed: int = 2020


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned network with what it says of every image.

    Attributes:
        model: From the maps below the first learning block to probabilities.
        predictions: As `recognition.Fitted.predictions`.
        history: A row an epoch, from 0, the frozen network: ``epoch, subset, accuracy,
            cross_entropy``.
        rates: Name of a block, or ``last layer`` -> its learning rate.
        trained: Number of values that were trained.
    """

    model: keras.Model
    predictions: pd.DataFrame
    history: pd.DataFrame
    rates: dict[str, float]
    trained: int


def train(
    extraction: Extraction, task: Task, start: head.Head, settings: FinetuneSettings
) -> Finetuned:
    """Fine-tune the last blocks, from where the frozen network and its head stand.

    Batch norm keeps its statistics. The weights of the best epoch on validation are kept, which may
    be those of the start; without validation images, those of the last. The extraction's own
    network is not changed.

    Args:
        extraction: Of the task's rows, in their order, up to the block that ``start`` was trained
            on.
        task: What to learn.
        start: The head trained on the frozen features.
        settings: How.

    Raises:
        ParameterError: There is no such block, or only the stem lies below it.
    """
    inception.block_below(settings.before)
    before = inception.earlier(settings.before, extraction.last)
    blocks = _learning(before, extraction.last)
    maps, target = extraction.maps(before), task.rows["target"].to_numpy()
    model = build(extraction.network, before, start)
    rates = block_rates(blocks, settings)
    step = _train_step(model, inception.block_of(extraction.network), rates)
    train_rows, watched = task.parts()
    history = _run(model, step, (maps, target), (train_rows, watched), settings)
    found = predictions.class_table(task.rows, predict(model, maps), task.names)
    trained = int(sum(np.prod(variable.shape) for variable in model.trainable_variables))
    return Finetuned(model, task.mark(found, MODEL), history, rates, trained)


def _learning(before: str, last: str) -> list[str]:
    """Blocks that learn, in order."""
    names = inception.FEATURE_LAYERS
    return list(names[names.index(before) : names.index(last) + 1])


def block_rates(blocks: list[str], settings: FinetuneSettings) -> dict[str, float]:
    """Learning rate of each block and of the last layer.

    Args:
        blocks: Blocks that learn, from the first to the last.
        settings: With the rate of the last and the factor between them.
    """
    rate, factor = settings.learning_rate, settings.block_factor
    rates = {name: rate * factor**above for above, name in enumerate(reversed(blocks))}
    return rates | {"last layer": rate}


def build(network: keras.Model, before: str, start: head.Head) -> keras.Model:
    """The learning part as a network of its own, with the weights of the frozen one.

    Args:
        network: From `inception.network`; not changed.
        before: First block that learns.
        start: The last layer to start from.

    Returns:
        Model from maps (n, side, side, channels) to probabilities (n, classes); trainable.
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
            shares = model(maps, training=False)
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(target, shares))
        gradients = tape.gradient(loss, groups)
        for name, optimizer in optimizers.items():
            optimizer.apply(gradients[name], groups[name])
        return shares

    return step


def _run(
    model: keras.Model,
    step: Callable,
    data: tuple[LazyRows, np.ndarray],
    parts: tuple[np.ndarray, np.ndarray],
    settings: FinetuneSettings,
) -> pd.DataFrame:
    """Train epoch by epoch until validation stops getting better; the best weights stay."""
    (maps, target), (train_rows, watched) = data, parts
    rng = np.random.default_rng(settings.seed)
    curve = [_look(0, "validation", predict(model, maps, watched), target[watched])]
    best, best_weights, waited = curve[0]["cross_entropy"], model.get_weights(), 0
    for epoch in range(1, settings.epochs + 1):
        order, seen = rng.permutation(train_rows), []
        for first in range(0, len(order), settings.batch_size):
            part = order[first : first + settings.batch_size]
            # Half precision has no fast kernels on a processor, so it ends here.
            shares = step(maps[part].astype(np.float32), target[part])
            seen.append(np.asarray(shares))
        curve.append(_look(epoch, "train", np.concatenate(seen), target[order]))
        curve.append(_look(epoch, "validation", predict(model, maps, watched), target[watched]))
        loss, waited = curve[-1]["cross_entropy"], waited + 1
        if loss < best or not len(watched):
            best, best_weights, waited = loss, model.get_weights(), 0
        if waited >= settings.patience:
            break
    model.set_weights(best_weights)
    return pd.DataFrame(curve)


def predict(model: keras.Model, maps: LazyRows, positions: np.ndarray | None = None) -> np.ndarray:
    """Probabilities (n, classes) of some rows of the maps, of all if None."""
    positions = np.arange(len(maps)) if positions is None else positions
    found = [np.empty((0, model.output_shape[-1]), np.float32)]
    for first in range(0, len(positions), EVALUATION_BATCH):
        batch = maps[positions[first : first + EVALUATION_BATCH]].astype(np.float32)
        found.append(model.predict_on_batch(batch))
    return np.concatenate(found)


def _look(epoch: int, subset: str, shares: np.ndarray, target: np.ndarray) -> dict:
    """A point of the curve; NaN without images."""
    of_truth = shares[np.arange(len(target)), target]
    hits = shares.argmax(axis=1) == target
    return {
        "epoch": epoch,
        "subset": subset,
        "accuracy": float(hits.mean()) if len(hits) else np.nan,
        "cross_entropy": float(-np.log(np.maximum(of_truth, 1e-12)).mean())
        if len(hits)
        else np.nan,
    }
