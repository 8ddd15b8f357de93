"""Speed of Task 1: features of the frozen network, last layers trained on them, a growing set.

Everything is written to a temporary folder, caches too. Random weights are enough: their values do
not change the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import cv2
import keras
import numpy as np
import pandas as pd
import tensorflow as tf
import timing

from covid_utils.data import cache, readers
from covid_utils.data.images import Preprocessing
from covid_utils.models import inception
from covid_utils.training import head
from covid_utils.training.features import BATCH as TOGETHER
from covid_utils.training.features import Extraction, extract, to_input

#: Side of the X-rays in their files, as in the paper; block of the network, and its channels.
SIDE, LAYER, CHANNELS = 512, "mixed10", 2048
#: Last layers: tasks with these numbers of classes, seeds of each, learning rates of each seed.
CLASSES, SEEDS, RATES = (2, 4), 5, (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
#: Rows of features that they are trained and validated on, and rows per batch.
TRAIN, VALIDATION, BATCH = 2000, 100, 100
#: Competitors of `features` and of `heads`, as in the results.
IN_BATCHES = "`model.predict`, batches of 32"
ALONE = (
    "one image, `model(image)`",
    "one image, `model.predict`",
    "one image, traced `tf.function`",
)
FIT = "one head, Keras `fit`"


def run() -> dict[str, dict]:
    """Measure everything: about four minutes."""
    return {"features": features(), "heads": heads(), "growing": growing()}


def write_xrays(root: Path, images: Iterator[np.ndarray]) -> pd.DataFrame:
    """Write uint8 images as PNG files of a known data set, and read their manifest."""
    folder = root / "nih-adult" / "No_findings"
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        cv2.imwrite(str(folder / f"{number:05d}_000.png"), image)
    return readers.read("nih-adult", root).rows.assign(subset="train")


def features(images: int = 64, few: int = 6, rounds: int = 5) -> dict:
    """Time ``images`` files to features in whole batches, ``few`` one at a time."""
    counts = {"ours": images, IN_BATCHES: images} | dict.fromkeys(ALONE, few)
    with timing.temporary_home() as root:
        rows = write_xrays(root, (timing.chest(seed, SIDE)[0] for seed in range(images)))
        extraction = Extraction(rows, root, Preprocessing(SIDE), "none", LAYER)
        model = inception.outputs(extraction.network, (LAYER,))
        with closing(passes(model, extraction.images, rounds + 2)) as ours:
            candidates = {"ours": lambda: next(ours)} | competitors(model, extraction.images, few)
            candidates["matmul"] = timing.matrix_products()
            first = {name: timing.clocked(call)[0] for name, call in candidates.items()}
            times = timing.compare(candidates, rounds, is_warm=True)
    return {
        "images": images,
        "few": few,
        "rounds": rounds,
        "candidates": {name: timing.per_item(times[name], n) for name, n in counts.items()},
        "multiply_adds": timing.multiply_adds(model),
        "matmul_gflops": timing.matmul_gflops(times["matmul"]),
        # What the first call takes longer, of ours and of `model.predict`.
        "start_s": {
            name: first[name] - times[name]["median_ms"] / 1000 for name in ("ours", IN_BATCHES)
        },
    }


def passes(model, images, count: int) -> Iterator[None]:
    """Passes over the images within one call of `extract`, as in a real run.

    Each pass finds as many batches ready as it leaves for the next one.
    """
    positions = np.tile(np.arange(len(images)), count)
    with closing(extract(model, images, positions)) as stream:
        for batch, _ in enumerate(stream, start=1):
            if batch % (len(images) // TOGETHER) == 0:
                yield


def competitors(model, images, few: int) -> dict[str, Callable[[], object]]:
    """Ways to call Keras; all of them decode and prepare with our own functions."""
    traced = tf.function(lambda image: model(image, training=False))
    called, predicted, as_a_graph = ALONE

    def alone(call: Callable) -> Callable[[], list]:
        return lambda: [call(to_input(images[at : at + 1])) for at in range(few)]

    return {
        IN_BATCHES: lambda: model.predict(to_input(images[:]), batch_size=TOGETHER, verbose=0),
        called: alone(lambda image: tf.nest.flatten(model(image, training=False))[0].numpy()),
        predicted: alone(lambda image: model.predict(image, verbose=0)),
        as_a_graph: alone(lambda image: tf.nest.flatten(traced(image))[0].numpy()),
    }


def heads(steps: int = 2800, short: int = 500, rounds: int = 3) -> dict:
    """Time all last layers against one by Keras, and a short sweep by its number of rates."""
    values, target = example()
    with timing.temporary_home():
        stored = timing.cached("features", values)[:]
    fit = keras_head(values[:TRAIN], target[:TRAIN])
    fit(20)
    sweep_all(stored, target, 20)
    long = {"ours": lambda: sweep_all(stored, target, steps), FIT: lambda: fit(steps)}
    some = (RATES[:1], RATES, (*RATES, 1.0))
    each = {str(len(rates)): sweep_of(stored, target, rates, short) for rates in some}
    return {
        "heads": len(CLASSES) * SEEDS * len(RATES),
        "steps": steps,
        "rounds": rounds,
        "short_steps": short,
        "candidates": timing.compare(long, rounds, is_warm=True),
        "rates": timing.compare(each),
    }


def example(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features like those of the network, float32 (images, channels), and one of four classes."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 4, TRAIN + VALIDATION)
    values = np.abs(rng.normal(0.3, 0.2, (len(target), CHANNELS)))
    values += 0.05 * (np.arange(CHANNELS) % 4 == target[:, None])
    return values.astype(np.float32), target


def sweep_all(values: np.ndarray, target: np.ndarray, steps: int) -> list:
    """A sweep over the learning rates for every task and seed."""
    tasks = [(classes, seed) for classes in CLASSES for seed in range(SEEDS)]
    return [sweep_of(values, target % n, RATES, steps, seed, n)() for n, seed in tasks]


def sweep_of(
    values: np.ndarray, target: np.ndarray, rates: tuple, steps: int, seed: int = 0, classes=4
) -> Callable[[], object]:
    """A sweep over some rates, with the settings of a real run: standardised, curves kept."""
    train, validation = np.split(np.arange(len(target)), [TRAIN])
    data = head.Examples(values, train, validation, target, classes)
    settings = head.PAPER | {"batch_size": BATCH, "standardise": True, "seed": seed}
    return lambda: head.sweep(data, settings, rates, (steps,))


def keras_head(values: np.ndarray, target: np.ndarray) -> Callable[[int], object]:
    """One last layer in Keras, in memory, without validation or standardisation; takes the steps.

    One epoch of batches from ``tf.data``: arrays, over many epochs, take Keras longer.
    """
    layer = keras.layers.Dense(4, activation="softmax")
    model = keras.Sequential([keras.Input((CHANNELS,)), layer])
    model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
    rows = tf.data.Dataset.from_tensor_slices((values, target))
    batches = rows.shuffle(len(values)).repeat().batch(BATCH).prefetch(tf.data.AUTOTUNE)
    return lambda steps: model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)


def growing(stored: int = 500, added: int = 1000, side: int = 24) -> dict[str, int]:
    """Count what is computed for a cached set, for the set grown, and for the same set again.

    A stand-in network of one convolution replaces Inception; all else is as in a real run.
    """
    network, passed = stand_in(side)
    rng, counts = np.random.default_rng(0), []
    noise = (rng.integers(0, 256, (side, side), np.uint8) for _ in range(stored + added))
    with (
        timing.temporary_home() as root,
        patch.object(inception, "network", lambda *_, **__: network),
        patch.object(cache, "preprocess", wraps=cache.preprocess) as decoded,
    ):
        rows = write_xrays(root, noise)
        for some in (rows[:stored], rows, rows):
            Extraction(some, root, Preprocessing(side), "stand-in").features((LAYER,))
            counts.append((decoded.call_count, int(passed)))
    (computed, through), (again, _) = np.diff(counts, axis=0).tolist()
    numbers = {"computed": computed, "passed": through, "again": again}
    return {"stored": stored, "added": added} | numbers


def stand_in(side: int):
    """A small network that ends as Inception-v3 does, and the count of rows passed through it."""
    passed = tf.Variable(0)

    class Counted(keras.layers.Layer):
        def call(self, images):
            passed.assign_add(tf.shape(images)[0])
            return images

    image = keras.Input((side, side, 3))
    coarse = keras.layers.AveragePooling2D(side // 8)(Counted()(image))
    maps = keras.layers.Conv2D(CHANNELS, 1, name=LAYER)(coarse)
    return keras.Model(image, maps), passed
