"""Pooled Inception-v3 features, computed once for each image (``retrain.py``'s bottlenecks).

The network before the last layer is frozen, so its output for an image never changes: 2800
training steps on cached features cost seconds instead of hours.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from covid_utils import runs
from covid_utils.data import augment, cache
from covid_utils.data.images import Preprocessing
from covid_utils.errors import DataError
from covid_utils.models import inception
from covid_utils.training.predictions import time_per_item

BATCH = 32
#: Images that the batch-norm statistics of random weights are taken from.
CALIBRATION_IMAGES = 32


def features(
    manifest: pd.DataFrame,
    root: Path,
    settings: Preprocessing,
    weights: str,
    feature_layer: str = "mixed10",
    seed: int = 2020,
) -> np.ndarray:
    """Features of a manifest's images, from the cache or computed now.

    Args:
        manifest: Rows, in the order of the result; with the copies of `augment.expand`, those
            are made on the way to the network and never stored.
        root: Data folder.
        settings: Preprocessing of the images.
        weights: See `inception.extractor`. Random weights are calibrated on the first training
            images of the manifest.
        feature_layer: Block that is pooled.
        seed: Of random weights and of copies.

    Returns:
        float32 array (images, channels), memory-mapped and read-only.
    """
    sources = augment.originals(manifest)
    images = cache.images(sources, root, settings)
    shown = augment.Copies(images, manifest, seed) if len(sources) < len(manifest) else images
    subsets = sources["subset"].to_numpy()
    calibration = np.flatnonzero(subsets == "train")[:CALIBRATION_IMAGES]

    if weights == "none" and not len(calibration):
        raise DataError("random weights are calibrated on training images, and there are none.")

    def write(target: Path) -> None:
        model = inception.extractor(weights, feature_layer, seed, to_input(images[calibration]))
        np.save(target, extract(model, shown))

    used = [*(manifest["image_id"] + manifest["sha256"])]
    if weights == "none":
        used += [f"calibrated on {i}" for i in calibration]
    made = settings.as_dict() | {"layer": feature_layer, "weights": _identity(weights)}
    parts = ("data", "models/inception.py", "training/bottlenecks.py")
    made["code"] = runs.code_hash(*parts, without=cache.NOT_READING)
    if shown is not images:
        made["augment"] = runs.code_hash("data/augment.py")
    if weights == "none" or shown is not images:
        made["seed"] = seed
    return cache.stored("features", used, made, write)


def time_one_image(
    rows: pd.DataFrame, root: Path, settings: Preprocessing, weights: str, feature_layer: str
) -> dict[str, dict[str, float]]:
    """Time of one image, one at a time; see `predictions.time_per_item`.

    Args:
        rows: Manifest rows of a few images.
        root: Data folder.
        settings: Preprocessing.
        weights: See `inception.extractor`.
        feature_layer: Block that is pooled.

    Returns:
        Times of the steps ``decode and prepare`` and ``features``.
    """
    images = np.stack([cache.prepared_image(root, row, settings) for _, row in rows.iterrows()])
    model = inception.extractor(weights, feature_layer, calibrate=to_input(images))
    return {
        "decode and prepare": time_per_item(
            lambda i: cache.prepared_image(root, rows.iloc[i], settings), len(rows)
        ),
        "features": time_per_item(
            lambda i: model.predict_on_batch(to_input(images[i : i + 1])), len(rows)
        ),
    }


def _identity(weights: str) -> str:
    """What tells weights apart: their name, and the content of a file."""
    path = Path(weights)
    if not path.is_file():
        return weights
    with path.open("rb") as file:
        return f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}"


def to_input(images: np.ndarray) -> np.ndarray:
    """Gray images as Inception-v3 takes them.

    Args:
        images: uint8 (n, size, size).

    Returns:
        float32 (n, 299, 299, 3) in [-1, 1], the three channels equal.
    """
    import tensorflow as tf

    gray = tf.cast(images[..., None], tf.float32)
    side = inception.INPUT_SIZE
    if images.shape[1] != side:
        gray = tf.image.resize(gray, (side, side), antialias=True)
    return np.repeat(gray.numpy() / 127.5 - 1.0, 3, axis=-1)


def extract(model, images: np.ndarray | augment.Copies) -> np.ndarray:
    """Run the extractor over all images in batches of one shape.

    Args:
        model: From `inception.extractor`.
        images: uint8 (n, size, size).

    Returns:
        float32 (n, channels).
    """
    import tensorflow as tf

    forward = tf.function(lambda batch: model(batch, training=False))
    out = np.empty((len(images), model.output_shape[-1]), np.float32)
    for first in range(0, len(images), BATCH):
        batch = to_input(images[first : first + BATCH])
        # A short last batch is padded: another shape would be traced anew.
        padded = np.pad(batch, ((0, BATCH - len(batch)), (0, 0), (0, 0), (0, 0)))
        out[first : first + len(batch)] = forward(padded).numpy()[: len(batch)]
    return out
