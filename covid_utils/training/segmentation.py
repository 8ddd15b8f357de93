"""One segmentation stream: its data, its targets, its training, its predictions (section 3.5).

A stream is a network for one question: ``all`` tells four classes apart; ``ggo``,
``consolidation`` and ``effusion`` each find one manifestation; ``nodule`` finds lung nodules, and
its weights, without the last layer, are where the others may start.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from covid_utils import paths, runs
from covid_utils.data import augment, cache
from covid_utils.data.collection import Collection
from covid_utils.data.images import Preprocessing
from covid_utils.errors import DataError, ParameterError
from covid_utils.models.unet import DEPTH, LOGITS, unet
from covid_utils.training import batches
from covid_utils.training.predictions import time_per_item
from covid_utils.training.schedules import poly_optimizer
from covid_utils.writing import whole

#: Stream -> names of its classes and the mask labels that count as each; the first is background.
STREAMS = {
    "nodule": {"background": (0,), "nodule": (1,)},
    "all": {"background": (0,), "ggo": (1,), "consolidation": (2,), "effusion": (3,)},
    "ggo": {"background": (0, 2, 3), "ggo": (1,)},
    "consolidation": {"background": (0, 1, 3), "consolidation": (2,)},
    "effusion": {"background": (0, 1, 2), "effusion": (3,)},
}
#: Any of the three manifestations: the extent of disease.
LESION = {"lesion": (1, 2, 3)}
NODULE_SETS = ("lidc-idri", "luna16")
LESION_SETS = ("medseg",)
EVALUATION_BATCH = 8


@dataclass(frozen=True)
class StreamSettings:
    """Settings of a stream.

    Attributes:
        stream: One of `STREAMS`.
        model: ``unet``.
        init: ``random`` or ``nodule``.
        size: Side of the network's input in pixels.
        base: Channels of the network's first level.
        steps: Gradient steps; the paper trains 50,000.
        batch_size: Slices a step.
        optimizer: ``adam`` or ``sgd``; the paper has ``sgd`` with momentum.
        learning_rate: At the first step; the paper has 1e-4.
        momentum: Of ``sgd``.
        power: Of the polynomial decay.
        weight_decay: Factor of the L2 penalty on convolution kernels; the paper has 4e-5.
        lesion_weight: Weight of lesion pixels in the cross entropy; 1 weighs all pixels alike.
        evaluate_every: Steps between two looks at the validation slices.
        seed: Of weights, order and augmentation.
    """

    stream: str = "all"
    model: str = "unet"
    init: str = "nodule"
    size: int = 512
    base: int = 64
    steps: int = 50_000
    batch_size: int = 4
    optimizer: str = "sgd"
    learning_rate: float = 1e-4
    momentum: float = 0.9
    power: float = 0.9
    weight_decay: float = 4e-5
    lesion_weight: float = 1.0
    evaluate_every: int = 500
    seed: int = 2020

    def __post_init__(self):
        choices = {"stream": tuple(STREAMS), "model": ("unet",), "init": ("random", "nodule")}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                value = getattr(self, name)
                raise ParameterError(f"{name} '{value}' is none of {', '.join(allowed)}.")
        if self.size % 2**DEPTH:
            raise ParameterError(f"image_size {self.size}: a U-Net needs a multiple of {2**DEPTH}.")
        if self.stream == "nodule" and self.init == "nodule":
            raise ParameterError("the nodule stream cannot start from itself; set init 'random'.")

    @property
    def run_name(self) -> str:
        """Folder of the run below ``results/<profile>``."""
        return f"stream_{self.stream}_{self.model}"


@dataclass(frozen=True)
class StreamData:
    """Rows, images and masks of a stream: uint8 (n, size, size) in the order of the rows."""

    rows: pd.DataFrame
    images: np.ndarray | augment.Copies
    masks: np.ndarray | augment.Copies

    @property
    def is_expanded(self) -> bool:
        """Whether there is a fixed set of augmented copies."""
        return isinstance(self.images, augment.Copies)

    def part(self, subset: str) -> tuple[np.ndarray, np.ndarray]:
        """Images and masks of one subset, each read or made only when it is asked for."""
        chosen = np.flatnonzero(self.rows["subset"] == subset)
        if self.is_expanded:
            return self.images.of(chosen), self.masks.of(chosen)
        return cache.rows_of(self.images, chosen), cache.rows_of(self.masks, chosen)


def load_data(
    collection: Collection,
    stream: str,
    settings: Preprocessing,
    totals: dict[str, int] | None = None,
    seed: int = 2020,
) -> StreamData:
    """Slices that a stream learns from.

    Args:
        collection: The images.
        stream: One of `STREAMS`.
        settings: Preprocessing.
        totals: Images wanted in a subset, see `augment.expand`; the nodule stream, whose counts
            the paper does not give so, takes its slices as they are.
        seed: Of the copies.

    Raises:
        DataError: The collection has no such slices.
    """
    names = NODULE_SETS if stream == "nodule" else LESION_SETS
    rows = collection.select(dataset=names)
    if not (rows["subset"] == "train").any():
        raise DataError(
            f"stream '{stream}' needs slices of {' or '.join(names)} to train on; "
            "add that data set (docs/data.md), or set init to 'random' if the nodules are missing."
        )
    images = cache.images(rows, collection.root, settings)
    masks = cache.masks(rows, collection.root, settings)
    if stream == "nodule" or not any((totals or {}).values()):
        return StreamData(rows, images, masks)
    everything = np.arange(len(rows))
    images, masks = (cache.rows_of(array, everything) for array in (images, masks))
    rows = augment.expand(rows, totals, seed)
    copies = augment.Copies(images, rows, seed)
    return StreamData(rows, copies, augment.Copies(masks, rows, seed, is_mask=True))


def to_targets(masks: np.ndarray, stream: str) -> np.ndarray:
    """Mask labels as the stream's class indices, uint8 of the same shape; 0 is background."""
    targets = np.zeros_like(masks)
    for index, labels in enumerate(STREAMS[stream].values()):
        targets[np.isin(masks, labels)] = index
    return targets


def to_labels(classes: np.ndarray, stream: str) -> np.ndarray:
    """A stream's class indices as mask labels: what it calls 1 may be label 3 of the data set."""
    lookup = [labels[0] for labels in STREAMS[stream].values()]
    return np.array([0, *lookup[1:]], np.uint8)[classes]


def label_names(stream: str) -> dict[int, str]:
    """Mask label -> class, for the lesions that a stream outlines."""
    classes = STREAMS[stream].items()
    return {labels[0]: name for name, labels in classes if name != "background"}


def to_input(images: np.ndarray) -> np.ndarray:
    """Gray images as the network takes them: float32 (n, size, size, 1) in [-1, 1]."""
    return images[..., None].astype(np.float32) / np.float32(127.5) - 1


def build(settings: StreamSettings):
    """The stream's network, with random weights from the settings' seed."""
    import keras

    keras.utils.set_random_seed(settings.seed)
    return unet(len(STREAMS[settings.stream]), settings.size, settings.base)


def weights_path(profile: str, settings: StreamSettings, rows: pd.DataFrame) -> Path:
    """Where a stream's trained weights are kept: other settings, slices or code, another file.

    Args:
        profile: Profile of the run.
        settings: Settings of the stream.
        rows: Its slices.
    """
    code = runs.code_hash("data", "models/unet.py", "training", without=("data/download",))
    text = json.dumps([asdict(settings), runs.data_hash(rows), code], sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:12]
    return paths.models(profile) / f"{settings.run_name}_{key}.weights.h5"


def initialise(model, profile: str, settings: StreamSettings, collection: Collection) -> list[str]:
    """Start a network from the nodule stream: every weight but those of the last layer.

    If the nodule stream has not been trained yet, it is trained now, with the same settings.

    Args:
        model: The stream's network; changed.
        profile: Profile of the run.
        settings: The stream's settings.
        collection: The images.

    Returns:
        Names of the layers that were filled; none for ``init='random'``.
    """
    if settings.init == "random":
        return []
    nodule = replace(settings, stream="nodule", init="random")
    data = load_data(collection, "nodule", Preprocessing(settings.size))
    path = weights_path(profile, nodule, data.rows)
    donor = build(nodule)
    if path.is_file():
        donor.load_weights(path)
    else:
        train(donor, data, nodule)
        save(donor, path)
    filled = []
    for layer in model.layers:
        if layer.weights and layer.name != LOGITS:
            layer.set_weights(donor.get_layer(layer.name).get_weights())
            filled.append(layer.name)
    return filled


def save(model, path: Path) -> None:
    """Keep a network's weights, whole or not at all."""
    with whole(path) as partial:
        model.save_weights(partial)


def train(model, data: StreamData, settings: StreamSettings) -> pd.DataFrame:
    """Train a stream; the weights that do best on validation are kept, the test is never looked at.

    Args:
        model: The stream's network; changed.
        data: Slices with ``subset``.
        settings: How.

    Returns:
        A row an evaluation: ``step, loss, dice`` with the mean loss since the last row and the
        validation Dice (mean over the lesion classes, pooled over slices; NaN without validation
        slices).
    """
    images, masks = data.part("train")
    watched, watched_masks = data.part("validation")
    size = min(settings.batch_size, len(images))
    # A fixed set of copies is augmented already; else each showing is a new draw.
    ranges = augment.STILL if data.is_expanded else augment.Ranges()
    stream = batches.of_pairs(images, masks, size, settings.seed, ranges)
    step_once = _train_step(model, settings)
    best, best_weights, curve, losses = -1.0, None, [], []
    for step, (batch, labels) in enumerate(stream.take(settings.steps), start=1):
        losses.append(step_once(batch, to_targets(labels.numpy(), settings.stream)))
        if step % settings.evaluate_every and step != settings.steps:
            continue
        score = np.nan
        if len(watched):
            found = predict_classes(model, watched)
            score = _mean_dice(to_targets(watched_masks, settings.stream), found)
            if score >= best:
                best, best_weights = score, model.get_weights()
        curve.append({"step": step, "loss": float(np.mean(losses)), "dice": score})
        losses = []
    if best_weights is not None:
        model.set_weights(best_weights)
    return pd.DataFrame(curve)


def _train_step(model, settings: StreamSettings):
    """A traced function (uint8 images, uint8 targets) -> loss that updates the model once."""
    import tensorflow as tf

    optimizer = poly_optimizer(
        settings.optimizer,
        settings.learning_rate,
        settings.steps,
        settings.power,
        settings.momentum,
    )
    optimizer.build(model.trainable_variables)
    kernels = [v for v in model.trainable_variables if v.path.endswith("kernel")]
    classes = len(STREAMS[settings.stream])

    @tf.function
    def step(batch, truth):
        inputs = tf.cast(batch[..., None], tf.float32) / 127.5 - 1.0
        with tf.GradientTape() as tape:
            logits = model(inputs, training=True)
            loss = dice_cross_entropy(tf.one_hot(truth, classes), logits, settings.lesion_weight)
            penalty = tf.add_n([tf.nn.l2_loss(kernel) for kernel in kernels])
            total = loss + settings.weight_decay * penalty
        gradients = tape.gradient(total, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    return step


def dice_cross_entropy(truth, logits, lesion_weight: float = 1.0):
    """Cross entropy plus one minus the soft Dice of the lesion classes.

    The paper trains with cross entropy alone. In short runs, with two per cent of lesion pixels,
    that ends in "no lesion anywhere", so ours adds Dice.

    Args:
        truth: float32 one-hot (n, height, width, classes).
        logits: float32 of the same shape.
        lesion_weight: Weight of a lesion pixel in the cross entropy; a background pixel has 1.

    Returns:
        Scalar loss.
    """
    import tensorflow as tf

    weight = tf.where(truth[..., 0] > 0, 1.0, lesion_weight)
    entropy = tf.nn.softmax_cross_entropy_with_logits(truth, logits)
    entropy = tf.reduce_sum(weight * entropy) / tf.reduce_sum(weight)
    probability = tf.nn.softmax(logits)[..., 1:]
    wanted = truth[..., 1:]
    overlap = tf.reduce_sum(probability * wanted, axis=(0, 1, 2))
    total = tf.reduce_sum(probability + wanted, axis=(0, 1, 2))
    # One pixel of smoothing: a class that is absent and not found costs nothing.
    dice = (2 * overlap + 1) / (total + 1)
    return entropy + 1 - tf.reduce_mean(dice)


def _mean_dice(truth: np.ndarray, found: np.ndarray) -> float:
    """Mean over the lesion classes that occur of the pooled Dice; NaN if none occurs."""
    scores = []
    for index in range(1, int(truth.max(initial=0)) + 1):
        size = (truth == index).sum() + (found == index).sum()
        if (truth == index).any():
            scores.append(2 * ((truth == index) & (found == index)).sum() / size)
    return float(np.mean(scores)) if scores else float("nan")


def predict_classes(model, images: np.ndarray) -> np.ndarray:
    """The stream's most probable class of each pixel, uint8 (n, size, size), for uint8 images."""
    found = np.empty(images.shape, np.uint8)
    for first in range(0, len(images), EVALUATION_BATCH):
        part = slice(first, first + EVALUATION_BATCH)
        logits = model.predict_on_batch(to_input(images[part]))
        found[part] = logits.argmax(axis=-1)
    return found


def predict(model, images: np.ndarray, stream: str) -> np.ndarray:
    """Predicted mask labels, uint8 (n, size, size), in the data set's coding."""
    return to_labels(predict_classes(model, images), stream)


def time_one_slice(model, images: np.ndarray, stream: str) -> dict[str, float]:
    """Time of one slice, from the prepared image to its labels; see `predictions.time_per_item`."""
    return time_per_item(lambda i: predict(model, images[i : i + 1], stream), len(images))


def scored_classes(stream: str) -> dict[str, tuple[int, ...]]:
    """Classes that a stream is scored on: its own, and the extent where it knows all three."""
    return STREAMS[stream] | (LESION if stream == "all" else {})
