"""Training of a stream: from slices and settings to weights, in pieces that survive a kill."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from covid_utils import progress
from covid_utils.data import augment, foreign, guard, labels
from covid_utils.data.collection import Collection
from covid_utils.models import imagenet
from covid_utils.training import networks, streams
from covid_utils.training.predict_stream import Committee, probabilities, to_input
from covid_utils.training.streams import StreamData, StreamSettings
from covid_utils.writing import whole

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


#: Parameter ``augmentation`` -> what it does to a slice and its labels.
AUGMENTATIONS: dict[str, streams.Augmented] = {
    "affine": augment.pair,
    "wide": partial(augment.pair, ranges=augment.WIDE),
    "foreign": foreign.pair,
    "published": augment.published_pair,
}


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
    steps = {name: longer * getattr(settings, name) for name in ("steps", "evaluate_every")}
    members, histories, states = [], [pd.DataFrame()], []
    for member in range(settings.member, settings.member + settings.members):
        usual = settings.replace(members=1, member=member)
        own = usual.replace(**steps)
        path = streams.weights_path(profile, own, data.rows)
        states.append(path.with_suffix("").with_suffix(".state.npz"))
        network = networks.build(own)
        if reuse and path.is_file():
            network.load_weights(path)
        else:
            start(network, profile, usual, collection)
            histories.append(_fit(network, own, data, states[-1]).assign(member=member))
            with whole(path) as unfinished:
                network.save_weights(unfinished)
        members.append(network.get_weights())
    for state in states:
        state.unlink(missing_ok=True)
    return Committee(network, members), pd.concat(histories, ignore_index=True)


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


def _fit(
    network: keras.Model, settings: StreamSettings, data: StreamData, state: Path
) -> pd.DataFrame:
    """Train a network, from the state of a training that was killed if there is one.

    Kept are its best weights so far, or the sum of those of the last checkpoints.
    """
    curve, kept = _restore(network, state) if state.is_file() else ([], [])
    done = curve[-1]["step"] if curve else 0
    best = max((row["dice"] for row in curve), default=-1)
    images, masks = data.part("validation")
    what = f"stream {settings.stream}, training {settings.member + 1}"
    with progress.bar(total=settings.steps, initial=done, desc=what) as shown:
        for step in range(done, settings.steps, settings.evaluate_every):
            count = min(settings.evaluate_every, settings.steps - step)
            taken = training_batches(data, settings, step).take(count)
            loss = network.fit(taken, epochs=1, verbose=0, shuffle=False).history["loss"][0]
            dice = validation_dice(network, images, masks, settings) if len(images) else np.nan
            curve.append({"step": step + count, "loss": float(loss), "dice": dice})
            checkpoints_left = -(-(settings.steps - step - count) // settings.evaluate_every)
            if checkpoints_left < settings.average_last:
                weights = network.get_weights()
                kept = [a + b for a, b in zip(kept, weights, strict=True)] if kept else weights
            elif not settings.average_last and dice >= best:
                best, kept = dice, network.get_weights()
            _keep(network, curve, kept, state)
            shown.update(count)
    # Izmailov et al. 2018; the best of many on five slices is best by luck.
    summed = min(settings.average_last, len(curve)) or 1
    network.set_weights([array / summed for array in kept] or network.get_weights())
    return pd.DataFrame(curve)


def _state(network: keras.Model) -> list[keras.Variable]:
    """Everything that the next step depends on: weights, statistics, dropout's state, optimiser."""
    return [*network.variables, *network.optimizer.variables]


def _keep(network: keras.Model, curve: list[dict], kept: list[np.ndarray], path: Path) -> None:
    arrays = [*map(np.asarray, _state(network)), *kept]
    with whole(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, *arrays, curve=json.dumps(curve))


def _restore(network: keras.Model, path: Path) -> tuple[list[dict], list[np.ndarray]]:
    def decode(path: Path) -> tuple[list[dict], list[np.ndarray]]:
        with np.load(path) as file:
            arrays = [file[f"arr_{number}"] for number in range(len(file) - 1)]
            return json.loads(str(file["curve"])), arrays

    curve, arrays = guard.read(path, "training state", decode)
    variables = _state(network)
    for variable, value in zip(variables, arrays, strict=False):  # what is kept follows
        variable.assign(value)
    return curve, arrays[len(variables) :]


def training_batches(data: StreamData, settings: StreamSettings, step: int) -> tf.data.Dataset:
    """Endless uint8 batches, from a gradient step on, with `augment.IGNORE` beyond the slice."""
    images, masks = data.part("train")
    augmented = AUGMENTATIONS[settings.augmentation]
    if settings.train_images and settings.augmentation != "published":
        # Its fixed set of copies has been moved already.
        augmented = partial(augment.pair, ranges=augment.STILL)
    lookup = np.full(256, augment.IGNORE, np.uint8)
    lookup[:4] = labels.to_targets(np.arange(4), settings.stream)
    margin = (0, settings.side - settings.image_size)

    def example(rng: np.random.Generator, image: np.ndarray, mask: np.ndarray) -> tuple:
        image, mask = augmented(rng, image, mask)
        truth = np.pad(lookup[mask], (margin, margin), constant_values=augment.IGNORE)
        return to_input(image[None], settings)[0], truth

    size = min(settings.batch_size, len(images))
    return streams.batches(images, masks, size, settings.draws, example, step)


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
