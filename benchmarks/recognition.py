"""Speed of Task 1: features of the frozen network, heads trained on them, and a set that grows.

``make bench`` runs this through ``run.py``. Everything is written to a temporary folder, caches
too, and the candidates of a comparison take turns, as in ``speed.py``. Random weights do: what the
numbers are does not change how long they take.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import pandas as pd
import speed

#: Side of the X-rays in their files: that of the paper's preparation.
SIDE = 512
#: Images a round: what is given batches, and what is given one image at a time.
IMAGES, FEW = 64, 6
FEATURE_ROUNDS = 5
LAYER, CHANNELS = "mixed10", 2048
MATRIX = 2048

#: The heads: tasks of these many classes, seeds of each, learning rates of each seed.
CLASSES, SEEDS = (2, 4), 5
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
SEVENTH = 1.0
STEPS, BATCH = 2800, 100
TRAIN, VALIDATION = 2000, 100
HEAD_ROUNDS = 3
#: Steps of the sweeps that are compared by their number of rates.
SHORT_STEPS = 500

#: Images of the set that grows, before and in addition, and their side.
STORED, ADDED, SMALL = 500, 1000, 24

#: Rivals of `features`, as the page names them.
BATCHES, ALONE = "`model.predict`, batches of 32", "one image, `model(image)`"
ALONE_PREDICT, ALONE_TRACED = "one image, `model.predict`", "one image, traced `tf.function`"
#: Rival of `heads`.
FIT = "one head, Keras `fit`"


def run() -> dict[str, dict]:
    """Measure everything: about four minutes."""
    return {"features": features(), "heads": heads(), "growing": growing()}


@contextmanager
def temporary_home() -> Iterator[Path]:
    """A folder that is the library's home meanwhile, so that its caches start empty."""
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.dict(os.environ, {"COVID_HOME": folder}),
    ):
        yield Path(folder)


def write_xrays(root: Path, images: Iterator[np.ndarray]) -> pd.DataFrame:
    """Write X-rays as PNG files of a known data set.

    Args:
        root: Data folder.
        images: uint8 (height, width) each.

    Returns:
        Their manifest, all for training, in the order written.
    """
    from covid_utils.data import readers
    from covid_utils.data.readers import nih_adult

    folder = root / nih_adult.FOLDER / "No_findings"
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        cv2.imwrite(str(folder / f"{number:05d}_000.png"), image)
    return readers.read("nih-adult", root).rows.assign(subset="train")


def features(images: int = IMAGES, few: int = FEW, rounds: int = FEATURE_ROUNDS) -> dict:
    """From files to features: ours against Keras, in batches and one image at a time.

    Args:
        images: Images a round of the candidates in batches; whole batches.
        few: Images a round of those that take one at a time.
        rounds: How often each is timed.

    Returns:
        ``images``, ``few``, ``rounds``; ``candidates`` as `speed.compare` gives them, for one
        image; ``multiply_adds`` of one image; ``matmul_gflops``, what the machine reaches in a
        plain matrix multiplication; and ``start_s``, what the first round took longer.
    """
    from covid_utils.data.images import Preprocessing
    from covid_utils.models import inception
    from covid_utils.training.features import Extraction

    with temporary_home() as root:
        rows = write_xrays(root, (speed.chest(seed, SIDE)[0] for seed in range(images)))
        extraction = Extraction(rows, root, Preprocessing(SIDE), "none", LAYER)
        model = inception.outputs(extraction.network, (LAYER,))
        with closing(_passes(model, extraction.images, rounds + 2)) as ours:
            candidates = {"ours": lambda: next(ours)} | _keras(model, extraction.images, few)
            candidates["matmul"] = _matmul()
            first = {name: _seconds(call) for name, call in candidates.items()}
            taken = speed.compare(candidates, rounds, is_warm=True)
    matmul = taken.pop("matmul")["median_ms"]
    counts = {name: images if name in ("ours", BATCHES) else few for name in taken}
    return {
        "images": images,
        "few": few,
        "rounds": rounds,
        "candidates": {name: _per_image(one, counts[name]) for name, one in taken.items()},
        "multiply_adds": multiply_adds(model),
        "matmul_gflops": 2 * MATRIX**3 / matmul / 1e6,
        "start_s": {n: first[n] - taken[n]["median_ms"] / 1000 for n in ("ours", BATCHES)},
    }


def _passes(model, images, count: int) -> Iterator[None]:
    """Passes over the images within one run of `extract`, which a real run calls but once.

    When a pass ends, as many batches are ready for the next one as it found ready itself.
    """
    from covid_utils.training import features

    positions = np.tile(np.arange(len(images)), count)
    with closing(features.extract(model, images, positions)) as stream:
        for batch, _ in enumerate(stream, start=1):
            if batch % (len(images) // features.BATCH) == 0:
                yield


def _keras(model, images, few: int) -> dict[str, Callable[[], object]]:
    """The rivals; all of them decode and prepare with our own functions."""
    import tensorflow as tf

    from covid_utils.training.features import BATCH as TOGETHER
    from covid_utils.training.features import to_input

    traced = tf.function(lambda image: model(image, training=False))

    def alone(call: Callable) -> Callable[[], list]:
        return lambda: [call(to_input(images[at : at + 1])) for at in range(few)]

    return {
        BATCHES: lambda: model.predict(to_input(images[:]), batch_size=TOGETHER, verbose=0),
        ALONE: alone(lambda image: tf.nest.flatten(model(image, training=False))[0].numpy()),
        ALONE_PREDICT: alone(lambda image: model.predict(image, verbose=0)),
        ALONE_TRACED: alone(lambda image: tf.nest.flatten(traced(image))[0].numpy()),
    }


def _matmul() -> Callable[[], object]:
    import tensorflow as tf

    matrix = tf.random.normal((MATRIX, MATRIX))
    return lambda: tf.matmul(matrix, matrix).numpy()


def _per_image(taken: dict[str, float], images: int) -> dict[str, float]:
    return {name: taken[name] / images for name in ("median_ms", "median_cpu_ms")}


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def multiply_adds(model) -> int:
    """Multiply-adds of the convolutions of a network, for one image."""
    import keras

    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            height, width = layer.output.shape[1:3]
            total += int(np.prod(layer.kernel.shape)) * height * width
    return total


def heads(steps: int = STEPS, short: int = SHORT_STEPS, rounds: int = HEAD_ROUNDS) -> dict:
    """Train all heads against one by Keras, and one sweep with one, six and seven rates.

    The features are read from the cache and gathered as in a real run. NumPy has one thread, as
    everywhere in the graph; Keras has all.

    Args:
        steps: Of each head.
        short: Of the sweeps that differ in their number of rates.
        rounds: How often the long ones are timed.

    Returns:
        ``heads``, ``steps``, ``rounds``, ``short_steps``; ``candidates`` and ``rates`` as
        `speed.compare` gives them.
    """
    from threadpoolctl import threadpool_limits

    values, target = cached()
    with temporary_home(), threadpool_limits(1, "blas"):
        stored = _stored(values)
        fit = keras_head(values[:TRAIN], target[:TRAIN])
        fit(20)
        sweep_all(stored, target, 20)
        long = {"ours": lambda: sweep_all(stored, target, steps), FIT: lambda: fit(steps)}
        candidates = speed.compare(long, rounds, is_warm=True)
        some = (RATES[:1], RATES, (*RATES, SEVENTH))
        each = {str(len(rates)): _sweep_of(stored, target, rates, short) for rates in some}
        by_rates = speed.compare(each)
    return {
        "heads": len(CLASSES) * SEEDS * len(RATES),
        "steps": steps,
        "rounds": rounds,
        "short_steps": short,
        "candidates": candidates,
        "rates": by_rates,
    }


def cached(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features like those of the network, float32 (images, channels), and one of four classes."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 4, TRAIN + VALIDATION)
    values = np.abs(rng.normal(0.3, 0.2, (len(target), CHANNELS)))
    values += 0.05 * (np.arange(CHANNELS) % 4 == target[:, None])
    return values.astype(np.float32), target


def _stored(values: np.ndarray):
    """The same features, as a run finds them in its cache."""
    from covid_utils.data.cache import Recipe

    recipe = Recipe("features", 1, {}, (CHANNELS,), np.float32)
    return recipe.filled([str(at) for at in range(len(values))], values.__getitem__)[:]


def sweep_all(values, target: np.ndarray, steps: int) -> list:
    """A sweep over the learning rates for every task and seed."""
    return [
        _sweep_of(values, target % classes, RATES, steps, seed, classes)()
        for classes in CLASSES
        for seed in range(SEEDS)
    ]


def _sweep_of(
    values, target: np.ndarray, rates: tuple, steps: int, seed: int = 0, classes: int = 4
) -> Callable[[], object]:
    """A sweep over some rates, with the settings of a real run: standardised, curves kept."""
    from covid_utils.training import head

    train, validation = np.split(np.arange(len(target)), [TRAIN])
    data = head.Examples(values, train, validation, target, classes)
    settings = head.HeadSettings(steps, BATCH, standardise=True, seed=seed)
    return lambda: head.sweep(data, settings, rates, (steps,))


def keras_head(values: np.ndarray, target: np.ndarray) -> Callable[[int], object]:
    """One head in Keras, in memory, without validation or standardisation; given the steps.

    One epoch of batches from ``tf.data``: arrays, over many epochs, take Keras longer.
    """
    import keras
    import tensorflow as tf

    head = keras.layers.Dense(4, activation="softmax")
    model = keras.Sequential([keras.Input((CHANNELS,)), head])
    model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
    rows = tf.data.Dataset.from_tensor_slices((values, target))
    batches = rows.shuffle(len(values)).repeat().batch(BATCH).prefetch(tf.data.AUTOTUNE)
    return lambda steps: model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)


def growing(stored: int = STORED, added: int = ADDED) -> dict[str, int]:
    """Count what is computed for a cached set, for the set grown, and for the same set again.

    A stand-in network of one convolution passes the images on; all else is the real thing.

    Args:
        stored: Images of the set.
        added: Images that are added to it.

    Returns:
        ``stored`` and ``added``; ``computed``, the images decoded for the added ones; ``passed``,
        the rows that went through the network for them, padding too; ``again``, the images
        decoded when the grown set is asked for once more.
    """
    from covid_utils.data import cache
    from covid_utils.data.images import Preprocessing
    from covid_utils.models import inception
    from covid_utils.training.features import Extraction

    network, passed = stand_in()
    rng = np.random.default_rng(0)
    noise = (rng.integers(0, 256, (SMALL, SMALL), np.uint8) for _ in range(stored + added))
    with (
        temporary_home() as root,
        patch.object(inception, "network", lambda *_, **__: network),
        patch.object(cache, "prepared_image", wraps=cache.prepared_image) as decoded,
    ):
        rows, counts = write_xrays(root, noise), []
        for some in (rows[:stored], rows, rows):
            Extraction(some, root, Preprocessing(SMALL), "stand-in").features((LAYER,))
            counts.append((decoded.call_count, int(passed)))
    (before, passed_before), (after, passed_after), (last, _) = counts
    found = {"computed": after - before, "passed": passed_after - passed_before}
    return {"stored": stored, "added": added} | found | {"again": last - after}


def stand_in():
    """A small network that ends as Inception-v3 does, and the count of rows passed through it."""
    import keras
    import tensorflow as tf

    passed = tf.Variable(0)

    class Counted(keras.layers.Layer):
        def call(self, images):
            passed.assign_add(tf.shape(images)[0])
            return images

    image = keras.Input((299, 299, 3))
    coarse = keras.layers.AveragePooling2D(37)(Counted()(image))
    maps = keras.layers.Conv2D(CHANNELS, 1, name=LAYER)(coarse)
    return keras.Model(image, maps), passed
