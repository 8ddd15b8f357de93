"""Fine-tuning beyond the paper: the last blocks of Inception-v3 are trained as well.

What lies below the first trained block is still frozen, so its maps are computed once and kept,
and an epoch costs only the blocks that are trained. Images are therefore not augmented.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from covid_utils import progress
from covid_utils.data.cache import Rows
from covid_utils.models import inception
from covid_utils.training.features import Extraction
from covid_utils.training.head import Head, quality
from covid_utils.training.recognition import Task

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

BATCH = 32
#: Epochs without a lower validation cross entropy after which to stop.
PATIENCE = 2
#: The rate of each block is that of the block above times this: early blocks hold what all pictures
#: share, and should move less (Howard and Ruder 2018, section 3.2).
BLOCK_FACTOR = 0.3


@dataclass(frozen=True)
class Finetuned:
    """A network from the maps below the first trained block to probabilities.

    Epoch 0 of ``history`` is the frozen network; ``rates`` are the learning rates of each block and
    of the last layer, ``trained`` is the number of trained values.
    """

    model: keras.Model
    predictions: pd.DataFrame
    history: pd.DataFrame
    rates: dict[str, float]
    trained: int


def train(
    extraction: Extraction,
    task: Task,
    start: Head,
    before: str,
    epochs: int,
    rate: float,
    seed: int,
) -> Finetuned:
    """Fine-tune the last blocks, starting from the frozen network and its head.

    Batch norm keeps its statistics. Kept are the weights of the best epoch on validation, which may
    be those of the start; without validation images, those of the last.

    ``extraction`` is of the task's rows, up to the block whose features the head ``start`` takes.
    Training begins with the block ``before``, or with the last one if ``before`` lies behind it.
    ``rate`` is that of Adam for the last block and the last layer.
    """
    blocks = trained_blocks(extraction.last, before)
    rates = {name: rate * BLOCK_FACTOR**above for above, name in enumerate(reversed(blocks))}
    rates["last layer"] = rate
    maps, target = extraction.maps(blocks[0]), task.rows["target"].to_numpy()
    train_rows, validation = task.parts()
    model = build(extraction.network, blocks[0], start)
    step, rng = _train_step(model, rates), np.random.default_rng(seed)
    curve, best, best_weights, waited = [], np.inf, [], 0

    def add_point(
        epoch: int, subset: str, probabilities: np.ndarray, positions: np.ndarray
    ) -> float:
        accuracy, entropy = map(float, quality(probabilities, target[positions]))
        curve.append((epoch, subset, accuracy, entropy))
        return entropy

    for epoch in progress.bar(range(epochs + 1), desc="epochs"):
        if epoch:
            order = rng.permutation(train_rows)
            outputs = [np.asarray(step(b, target[part])) for part, b in _batches(maps, order)]
            add_point(epoch, "train", np.concatenate(outputs), order)
        loss = -epoch  # without validation images the last is the best
        if len(validation):
            loss = add_point(epoch, "validation", predict(model, maps, validation), validation)
        waited += 1
        if loss < best or not epoch:
            best, best_weights, waited = loss, model.get_weights(), 0
        if waited >= PATIENCE:
            break
    model.set_weights(best_weights)
    table = task.predictions(predict(model, maps, np.arange(len(maps))), "fine-tuned")
    history = pd.DataFrame(curve, columns=["epoch", "subset", "accuracy", "cross_entropy"])
    trained = int(sum(np.prod(variable.shape) for variable in model.trainable_variables))
    return Finetuned(model, table, history, rates, trained)


def trained_blocks(last: str, before: str) -> tuple[str, ...]:
    """Blocks from ``before``, or from the last one if that is earlier, to the last."""
    names = inception.FEATURE_LAYERS
    first = min(names.index(before), names.index(last))
    return names[first : names.index(last) + 1]


def build(network: keras.Model, before: str, start: Head) -> keras.Model:
    """The part from the maps that enter ``before`` to probabilities, with copies of the weights."""
    import keras

    below = network.get_layer(inception.block_below(before)).output
    upper = keras.Model(below, network.output)
    copied = keras.models.clone_model(upper)
    copied.set_weights(upper.get_weights())
    for layer in copied.layers:
        layer.trainable = True
    pooled = keras.layers.GlobalAveragePooling2D()(copied.output)
    last = keras.layers.Dense(len(start.bias), activation="softmax", name="last_layer")
    model = keras.Model(copied.input, last(pooled))
    last.set_weights([start.kernel, start.bias])
    return model


def by_block(model: keras.Model, blocks: Iterable[str]) -> dict[str, list]:
    """Trainable variables of each block, and under ``last layer`` of what follows the last one."""
    groups: dict[str, list] = {name: [] for name in blocks}
    rest: list = []
    for layer in model.layers:  # from the input to the output
        rest += layer.trainable_variables
        if layer.name in groups:
            groups[layer.name], rest = rest, []
    return groups | {"last layer": rest}


def _train_step(
    model: keras.Model, rates: dict[str, float]
) -> Callable[[np.ndarray, np.ndarray], tf.Tensor]:
    """A traced function (maps, targets) -> probabilities; every block has its own rate."""
    import keras
    import tensorflow as tf

    groups = by_block(model, rates)
    optimizers = {name: keras.optimizers.Adam(rate) for name, rate in rates.items()}
    for name, optimizer in optimizers.items():
        optimizer.build(groups[name])

    # One trace for whole batches and the last, shorter one.
    signature = [tf.TensorSpec((None, *model.input.shape[1:])), tf.TensorSpec((None,), tf.int64)]

    @tf.function(input_signature=signature)
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
    return np.concatenate([model.predict_on_batch(b) for _, b in _batches(maps, positions)])


def _batches(maps: Rows, positions: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for first in range(0, len(positions), BATCH):
        part = positions[first : first + BATCH]
        # Half precision has no fast kernels on a processor, so it ends here.
        yield part, maps[part].astype(np.float32)
