"""Training of a stream: from slices and settings to weights, in pieces that survive a kill."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from filelock import FileLock

from covid_utils.data import augment
from covid_utils.data.collection import Collection
from covid_utils.errors import DataError
from covid_utils.training import batches, inference, losses, networks, segmentation
from covid_utils.training.committee import Committee
from covid_utils.training.segmentation import StreamData, StreamSettings
from covid_utils.writing import whole

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@dataclass
class Progress:
    """What a training knows beside its network.

    Attributes:
        step: Gradient steps done.
        best: Best validation score so far; -1 before the first.
        weights: The network's weights at that score; none before.
        total: Sum of the weights at the last looks, where these are to be averaged.
        curve: Rows of the history.
    """

    step: int = 0
    best: float = -1.0
    weights: list[np.ndarray] = field(default_factory=list)
    total: list[np.ndarray] = field(default_factory=list)
    curve: list[dict] = field(default_factory=list)


def initialise(
    model: keras.Model, profile: str, settings: StreamSettings, collection: Collection
) -> pd.DataFrame:
    """Start a stream's network as its settings say.

    If it starts from nodules and that stream has not been trained yet, it is trained now, with the
    same settings.

    Args:
        model: From `networks.build`; changed.
        profile: Profile of the run.
        settings: The stream's.
        collection: The images.

    Returns:
        A row a layer, see `networks.fill`.
    """
    if settings.init != "nodule":
        return networks.fill(model, settings, root=collection.root)
    nodule = segmentation.nodule_settings(settings)
    data = segmentation.load_data(collection, "nodule", nodule.preprocessing)
    donor = trained(profile, nodule, data, collection)
    donor.network.set_weights(donor.members[0])
    weights = {layer.name: layer.get_weights() for layer in donor.network.layers}
    networks.reset(model, settings.draws)  # the donor may be the same network, used before
    return networks.fill(model, settings, weights)


def trained(
    profile: str, settings: StreamSettings, data: StreamData, collection: Collection
) -> Committee:
    """A stream as an earlier run left it; what there is not is trained now.

    Args:
        profile: Profile of the run.
        settings: The stream's.
        data: Its slices.
        collection: The images, for a start from nodules.

    Returns:
        Its members; their network is shared with other streams, see `networks.build`.
    """
    model = networks.build(settings)
    members = []
    for own in segmentation.members_of(settings):
        path = segmentation.weights_path(profile, own, data.rows)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):  # two notebooks may start from the same stream at once
            if path.is_file():
                model.load_weights(path)
            else:
                _train_one(profile, model, own, data, collection)
                state_path(path).unlink(missing_ok=True)
        members.append(model.get_weights())
    return Committee(model, members)


def train_members(
    profile: str, settings: StreamSettings, data: StreamData, collection: Collection
) -> tuple[Committee, pd.DataFrame]:
    """Train a stream anew: every member, each from random draws of its own.

    Args:
        profile: Profile of the run.
        settings: The stream's.
        data: Its slices.
        collection: The images, for a start from nodules.

    Returns:
        Its members, and their histories, see `train`, with the column ``member``. A training that
        was killed goes on where it was; members that were done by then are not trained again.
    """
    model = networks.build(settings)
    members, histories, states = [], [], []
    for own in segmentation.members_of(settings):
        history = _train_one(profile, model, own, data, collection)
        histories.append(history.assign(member=own.member))
        members.append(model.get_weights())
        states.append(state_path(segmentation.weights_path(profile, own, data.rows)))
    for state in states:
        state.unlink(missing_ok=True)
    return Committee(model, members), pd.concat(histories, ignore_index=True)


def _train_one(
    profile: str,
    model: keras.Model,
    own: StreamSettings,
    data: StreamData,
    collection: Collection,
) -> pd.DataFrame:
    """Start one member from its own draws, train it and keep its weights; its history."""
    path = segmentation.weights_path(profile, own, data.rows)
    networks.reset(model, own.draws)
    initialise(model, profile, own, collection)
    history = train(model, data, own, path)
    save(model, path)
    return history


def state_path(path: Path) -> Path:
    """File that the state of a training is kept in, beside that of its weights."""
    return path.with_name(path.name.replace(".weights.h5", ".state.npz"))


def save(model: keras.Model, path: Path) -> None:
    """Keep a network's weights, whole or not at all."""
    with whole(path) as partial:
        model.save_weights(partial)


def train(
    model: keras.Model, data: StreamData, settings: StreamSettings, path: Path
) -> pd.DataFrame:
    """Train a stream; the test is never looked at.

    The weights that do best on validation are kept, or, with ``average_last``, the mean of those at
    the last looks.

    After each look at the validation slices the whole state is kept beside ``path``, in the file
    that `state_path` names, and stays there for the caller to delete. A training that was killed
    goes on from it and ends as if nothing had happened.

    Args:
        model: From `networks.build`, started; changed.
        data: Slices with ``subset``.
        settings: How.
        path: Where its weights will be kept, see `segmentation.weights_path`: it names the
            settings, slices and code that a kept state must be of.

    Returns:
        A row an evaluation: ``step, loss, dice`` with the mean loss since the last row (the penalty
        on kernels included) and the validation Dice (mean over the scored classes that occur,
        pooled over slices; NaN without validation slices).
    """
    kept = state_path(path)
    progress = _restore(model, kept) if kept.is_file() else Progress()
    watched = data.part("validation")
    while progress.step < settings.steps:
        count = min(settings.evaluate_every, settings.steps - progress.step)
        taken = _dataset(data, settings, progress.step).take(count * settings.accumulate)
        history = model.fit(taken, epochs=1, verbose=0, shuffle=False).history
        progress.step += count
        score = _validate(model, *watched, settings) if len(watched[0]) else np.nan
        if score >= progress.best:
            progress.best, progress.weights = score, model.get_weights()
        row = {"step": progress.step, "loss": float(history["loss"][0]), "dice": score}
        progress.curve.append(row)
        _add_up(model, progress, settings)
        _keep(model, progress, kept)
    _choose(model, progress, settings)
    return pd.DataFrame(progress.curve)


def _add_up(model: keras.Model, progress: Progress, settings: StreamSettings) -> None:
    """Add the weights to the sum, if this look is among the last that are averaged."""
    looks_left = -(-(settings.steps - progress.step) // settings.evaluate_every)
    if looks_left < settings.average_last:
        weights = model.get_weights()
        before = progress.total or [np.zeros_like(array) for array in weights]
        progress.total = [a + b for a, b in zip(before, weights, strict=True)]


def _choose(model: keras.Model, progress: Progress, settings: StreamSettings) -> None:
    """Give the network the mean weights of the last looks, or those that did best on validation.

    Of two such rules the first is the better one where few validation slices are there: the best of
    many looks at five slices is best by luck.
    """
    if progress.total:
        count = min(settings.average_last, len(progress.curve))
        model.set_weights([array / count for array in progress.total])
    elif progress.weights:
        model.set_weights(progress.weights)


def _dataset(data: StreamData, settings: StreamSettings, step: int) -> tf.data.Dataset:
    """Batches as the network takes them, from the given gradient step on."""
    import tensorflow as tf

    images, masks = data.part("train")
    size = min(settings.batch_size, len(images))
    kinds = {"affine": augment.Ranges(), "wide": augment.WIDE, "published": None}
    ranges = kinds[settings.augmentation]
    if data.is_expanded and ranges is not None:
        ranges = augment.STILL  # a fixed set of copies has been moved already
    first = step * settings.accumulate
    stream = batches.of_pairs(images, masks, size, settings.draws, ranges, first)
    lookup = np.full(256, losses.IGNORE, np.uint8)
    lookup[:4] = segmentation.to_targets(np.arange(4), settings.stream)
    margin, channels = settings.side - settings.image_size, inference.channels(settings)

    def shape(batch: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        around = [[0, 0], [0, margin], [0, margin]]
        batch = tf.pad(batch, around, constant_values=augment.MEAN_GRAY)
        truth = tf.gather(tf.constant(lookup), tf.cast(labels, tf.int32))
        truth = tf.pad(truth, around, constant_values=losses.IGNORE)
        return tf.repeat(batch[..., None], channels, axis=-1), truth

    return stream.map(shape).prefetch(2)


def _validate(
    model: keras.Model, images: np.ndarray, masks: np.ndarray, settings: StreamSettings
) -> float:
    """Mean over the scored classes that occur of the Dice pooled over slices; NaN if none does."""
    one = replace(settings, test_scales=(1.0,))  # a look is to be quick
    said = [p.argmax(-1) for p in inference.probabilities(model, images, one)]
    found = segmentation.to_labels(np.concatenate(said), settings.stream)
    truth = masks[:]  # read once, not for each class
    scores = []
    for name, labels in segmentation.scored_classes(settings.stream).items():
        wanted, said = np.isin(truth, labels), np.isin(found, labels)
        if name != "background" and wanted.any():
            scores.append(2 * (wanted & said).sum() / (wanted.sum() + said.sum()))
    return float(np.mean(scores)) if scores else float("nan")


def _state(model: keras.Model) -> list[keras.Variable]:
    """Everything that the next step depends on: weights, statistics, dropout's state, optimiser."""
    return [*model.variables, *model.optimizer.variables]


def _keep(model: keras.Model, progress: Progress, path: Path) -> None:
    """Write the state of a training, whole or not at all."""
    arrays = {f"state_{i}": np.asarray(value) for i, value in enumerate(_state(model))}
    arrays |= {f"best_{i}": value for i, value in enumerate(progress.weights)}
    arrays |= {f"total_{i}": value for i, value in enumerate(progress.total)}
    note = {"step": progress.step, "best": progress.best, "curve": progress.curve}
    with whole(path) as partial, partial.open("wb") as file:
        np.savez(file, note=json.dumps(note), **arrays)


def _restore(model: keras.Model, path: Path) -> Progress:
    try:
        with np.load(path) as file:
            arrays = dict(file)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: a damaged training state; delete it to start anew.") from error
    for index, variable in enumerate(_state(model)):
        variable.assign(arrays[f"state_{index}"])
    note = json.loads(str(arrays["note"]))
    lists = {
        name: [arrays[f"{kind}_{i}"] for i in range(sum(n.startswith(f"{kind}_") for n in arrays))]
        for name, kind in (("weights", "best"), ("total", "total"))
    }
    return Progress(**note, **lists)
