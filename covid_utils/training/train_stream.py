"""Training of a stream: from slices and settings to weights, in pieces that survive a kill."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from covid_utils.data import augment, foreign, guard, labels
from covid_utils.data.collection import Collection
from covid_utils.models import imagenet
from covid_utils.progress import tell
from covid_utils.training import batches, networks, streams
from covid_utils.training.predict_stream import Committee, probabilities
from covid_utils.training.streams import StreamData, StreamSettings
from covid_utils.writing import whole

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


#: Parameter ``augmentation`` -> what it does to a slice and its labels.
AUGMENTATIONS: dict[str, batches.Augmented] = {
    "affine": augment.pair,
    "wide": partial(augment.pair, ranges=augment.WIDE),
    "foreign": foreign.pair,
    "published": augment.published_pair,
}


@dataclass
class Progress:
    """What a training knows beside its network."""

    step: int = 0
    best: float = -1.0  # best validation score so far
    # The weights at that score, or the sum of those of the last checkpoints.
    kept: list[np.ndarray] = field(default_factory=list)
    curve: list[dict] = field(default_factory=list)  # rows of the history


def train(
    profile: str,
    settings: StreamSettings,
    collection: Collection,
    data: StreamData | None = None,
    reuse: bool = False,
    longer: int = 1,
) -> tuple[Committee, pd.DataFrame]:
    """Train a stream, every member from random draws of its own; the test slices are never used.

    After each evaluation on the validation slices the whole state is kept beside the weights. A
    training that was killed continues from it and ends as if nothing had happened; members that
    were done by then are not trained again.

    With ``reuse``, members that an earlier run trained alike are read, and have no history.
    ``longer`` multiplies the steps, and those between two evaluations, but not those of the nodule
    stream that the network may start from.

    Returns:
        The members, and their histories: ``step, loss, dice, member`` with the mean loss since the
        last row (the penalty on kernels included) and `validation_dice`.
    """
    data = data or streams.load_data(collection, settings)
    members, histories, states = [], [pd.DataFrame()], []
    each = {name: longer * getattr(settings, name) for name in ("steps", "evaluate_every")}
    for member in range(settings.member, settings.member + settings.members):
        usual = settings.replace(members=1, member=member)
        own = usual.replace(**each)
        path = streams.weights_path(profile, own, data.rows)
        network = networks.build(own)
        if reuse and path.is_file():
            network.load_weights(path)
        else:
            start(network, profile, usual, collection)
            states.append(state_path(path))
            history = _fit(network, own, data, states[-1])
            with whole(path) as partial:
                network.save_weights(partial)
            histories.append(history.assign(member=member))
        members.append(network.get_weights())
    for state in states:
        state.unlink(missing_ok=True)
    return Committee(network, members), pd.concat(histories, ignore_index=True)


def is_trained(profile: str, settings: StreamSettings, data: StreamData) -> bool:
    """Whether `train` with ``reuse`` would find all members."""
    each = [settings.replace(members=1, member=number) for number in range(settings.members)]
    return all(streams.weights_path(profile, own, data.rows).is_file() for own in each)


def _fit(
    network: keras.Model, settings: StreamSettings, data: StreamData, state: Path
) -> pd.DataFrame:
    """Train a network, from the state of a training that was killed if there is one."""
    progress = _restore(network, state) if state.is_file() else Progress()
    images, masks = data.part("validation")
    while progress.step < settings.steps:
        count = min(settings.evaluate_every, settings.steps - progress.step)
        taken = training_batches(data, settings, progress.step).take(count)
        loss = network.fit(taken, epochs=1, verbose=0, shuffle=False).history["loss"][0]
        progress.step += count
        dice = validation_dice(network, images, masks, settings) if len(images) else np.nan
        _note(network, progress, settings, float(loss), dice)
        _keep(network, progress, state)
        what = f"stream {settings.stream}, training {settings.member + 1}, loss {loss:.2f}"
        tell(progress.step, settings.steps, f"{what}, step {progress.step} of {settings.steps}")
    network.set_weights(_chosen(network, progress, settings))
    return pd.DataFrame(progress.curve)


def start(
    network: keras.Model, profile: str, settings: StreamSettings, collection: Collection
) -> pd.DataFrame:
    """Draw a network's weights, and take all but the last layer's from where its settings say.

    If that is the nodule stream and it has not been trained yet, it is trained now.

    Returns:
        One row per layer considered: ``layer``, ``source`` and ``how``; none for ``random``.
    """
    donor = {}
    if settings.init == "nodule":
        one = {"refit": False, "members": 1, "member": 0}
        nodule = settings.replace(stream="nodule", init="random", weights="", **one)
        trained, _ = train(profile, nodule, collection, reuse=True)
        trained.network.set_weights(trained.members[0])
        donor = {layer.name: layer.get_weights() for layer in trained.network.layers}
    networks.reset(network, settings.draws)  # the donor may be the same network
    if settings.init == "imagenet":
        file = collection.root / Path(settings.weights).expanduser()
        source = imagenet.load_xception("imagenet" if settings.weights == "imagenet" else file)
        return imagenet.carry_over(network, source)
    rows = []
    for layer in network.layers if donor else ():
        if layer.weights and not layer.name.startswith("logits"):
            layer.set_weights(donor[layer.name])
            rows.append((layer.name, "stream nodule", "carried"))
    return pd.DataFrame(rows, columns=["layer", "source", "how"])


def state_path(path: Path) -> Path:
    """File that the state of a training is kept in, beside that of its weights."""
    return path.with_name(path.name.replace(".weights.h5", ".state.npz"))


def training_batches(data: StreamData, settings: StreamSettings, step: int) -> tf.data.Dataset:
    """Endless uint8 batches, from a gradient step on, with `augment.IGNORE` beyond the slice."""
    import tensorflow as tf

    images, masks = data.part("train")
    size = min(settings.batch_size, len(images))
    augmented = AUGMENTATIONS[settings.augmentation]
    if settings.train_images and settings.augmentation != "published":
        # Its fixed set of copies has been moved already.
        augmented = partial(augment.pair, ranges=augment.STILL)
    pairs = batches.of_pairs(images, masks, size, settings.draws, augmented, step)
    lookup = np.full(256, augment.IGNORE, np.uint8)
    lookup[:4] = labels.to_targets(np.arange(4), settings.stream)
    margin = settings.side - settings.image_size

    def shape(batch: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        around = [[0, 0], [0, margin], [0, margin]]
        batch = tf.pad(batch, around, constant_values=augment.MEAN_GRAY)
        truth = tf.gather(tf.constant(lookup), tf.cast(mask, tf.int32))
        truth = tf.pad(truth, around, constant_values=augment.IGNORE)
        return tf.repeat(batch[..., None], settings.channels, axis=-1), truth

    return pairs.map(shape).prefetch(2)


def validation_dice(
    model: keras.Model, images: np.ndarray, masks: np.ndarray, settings: StreamSettings
) -> float:
    """Mean over the scored classes that occur of the Dice pooled over slices; NaN if none does."""
    one = settings.replace(test_scales=(1.0,))  # in a training an evaluation is to be quick
    classes = [p.argmax(-1) for p in probabilities(model, images, one)]
    predicted = labels.to_labels(np.concatenate(classes), settings.stream)
    truth = masks[:]  # read once, not for each class
    scores = []
    for name, members in labels.scored_classes(settings.stream).items():
        is_true, is_called = np.isin(truth, members), np.isin(predicted, members)
        if name != "background" and is_true.any():
            scores.append(2 * (is_true & is_called).sum() / (is_true.sum() + is_called.sum()))
    return float(np.mean(scores)) if scores else float("nan")


def _note(
    model: keras.Model, progress: Progress, settings: StreamSettings, loss: float, dice: float
) -> None:
    progress.curve.append({"step": progress.step, "loss": loss, "dice": dice})
    evaluations_left = -(-(settings.steps - progress.step) // settings.evaluate_every)
    if not settings.average_last:
        if dice >= progress.best:
            progress.best, progress.kept = dice, model.get_weights()
    elif evaluations_left < settings.average_last:
        weights = model.get_weights()
        before = progress.kept or [np.zeros_like(array) for array in weights]
        progress.kept = [a + b for a, b in zip(before, weights, strict=True)]


def _chosen(model: keras.Model, progress: Progress, settings: StreamSettings) -> list[np.ndarray]:
    if settings.average_last:
        # Izmailov et al. 2018; the best of many on five slices is best by luck.
        count = min(settings.average_last, len(progress.curve))
        return [array / count for array in progress.kept]
    return progress.kept or model.get_weights()


def _state(model: keras.Model) -> list[keras.Variable]:
    """Everything that the next step depends on: weights, statistics, dropout's state, optimiser."""
    return [*model.variables, *model.optimizer.variables]


def _keep(model: keras.Model, progress: Progress, path: Path) -> None:
    arrays = {f"state_{i}": np.asarray(value) for i, value in enumerate(_state(model))}
    arrays |= {f"kept_{i}": value for i, value in enumerate(progress.kept)}
    note = {"step": progress.step, "best": progress.best, "curve": progress.curve}
    with whole(path) as partial, partial.open("wb") as file:
        np.savez(file, note=json.dumps(note), **arrays)


def _restore(model: keras.Model, path: Path) -> Progress:
    arrays = guard.read(path, "training state", lambda path: dict(np.load(path)))

    def listed(kind: str) -> list[np.ndarray]:
        return [arrays[f"{kind}_{i}"] for i in range(sum(n.startswith(kind) for n in arrays))]

    for variable, value in zip(_state(model), listed("state"), strict=True):
        variable.assign(value)
    return Progress(**json.loads(str(arrays["note"])), kept=listed("kept"))
