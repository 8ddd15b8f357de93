"""Preparing and augmenting images, compared with scikit-image, Keras, scipy and bare OpenCV."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import keras
import numpy as np
import tensorflow as tf
from scipy.ndimage import affine_transform
from skimage.exposure import equalize_adapthist
from skimage.transform import resize
from timing import chest, compare

from covid_utils.data import augment
from covid_utils.data.images import Preprocessing, preprocess, preprocess_mask
from covid_utils.data.readers.decoding import read_raster

SIDE = 512
SETTINGS, RANGES = Preprocessing(SIDE), augment.Ranges()


def run(rounds: int = 9) -> dict[str, dict]:
    """Measure all three comparisons: about a minute."""
    with tempfile.TemporaryDirectory() as folder:
        return {
            "preprocessing": preprocessing(rounds),
            "augmentation": augmentation(rounds),
            "whole way": whole_way(Path(folder), 3 * rounds),
        }


def preprocessing(rounds: int) -> dict[str, dict]:
    """Resizing and CLAHE of one 1024 px image."""
    image, _ = chest()

    def scikit_image() -> np.ndarray:
        small = resize(image, (SIDE, SIDE), anti_aliasing=True)
        return equalize_adapthist(small, kernel_size=SIDE // 8)

    candidates = {"ours": lambda: preprocess(image, SETTINGS), "scikit-image": scikit_image}
    return compare(candidates, rounds)


def augmentation(rounds: int) -> dict[str, dict]:
    """Rotation, shift, zoom and flip of one 512 px image and its mask."""
    image, mask = (cv2.resize(part, (SIDE, SIDE)) for part in chest())
    rng = np.random.default_rng(0)
    candidates = {
        "ours": lambda: augment.pair(rng, image, mask, RANGES),
        "four Keras layers": keras_layers(image, mask),
        "scipy": lambda: scipy_pair(rng, image, mask),
    }
    return compare(candidates, rounds)


def keras_layers(image: np.ndarray, mask: np.ndarray) -> Callable[[], object]:
    """Image and mask as two channels through four random layers, each of which resamples."""
    layers = [
        keras.layers.RandomRotation(RANGES.rotation / 360, fill_mode="constant"),
        keras.layers.RandomTranslation(RANGES.shift, RANGES.shift, fill_mode="constant"),
        keras.layers.RandomZoom(RANGES.zoom, fill_mode="constant"),
        keras.layers.RandomFlip("horizontal"),
    ]
    both = tf.constant(np.stack([image, mask], axis=-1)[None], tf.float32)

    @tf.function
    def augmented(batch: tf.Tensor) -> tf.Tensor:
        for layer in layers:
            batch = layer(batch, training=True)
        return batch

    return lambda: augmented(both).numpy()


def scipy_pair(rng: np.random.Generator, image: np.ndarray, mask: np.ndarray) -> tuple:
    """Image and mask moved by the map that `augment.pair` would draw, applied by scipy."""
    # scipy counts rows before columns, and maps from the result to the image.
    matrix = augment.draw_matrix(rng, SIDE, RANGES)[::-1][:, [1, 0, 2]]
    inverse = np.linalg.inv(matrix[:, :2])
    offset = -inverse @ matrix[:, 2]
    moved = affine_transform(image, inverse, offset, order=1)
    return moved, affine_transform(mask, inverse, offset, order=0)


def whole_way(folder: Path, rounds: int) -> dict[str, dict]:
    """From a file to an augmented pair, against direct calls of OpenCV."""
    image, mask = chest()
    path = folder / "chest.png"
    cv2.imwrite(str(path), image)
    rng = np.random.default_rng(0)
    matrix = augment.draw_matrix(rng, SIDE, RANGES)
    size, clahe = (SIDE, SIDE), cv2.createCLAHE(2.0, (8, 8))

    def ours() -> tuple:
        prepared = preprocess(read_raster(path), SETTINGS)
        return augment.pair(rng, prepared, preprocess_mask(mask, SETTINGS), RANGES)

    def bare() -> tuple:
        gray = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        prepared = clahe.apply(cv2.resize(gray, size, interpolation=cv2.INTER_AREA))
        small = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
        moved = cv2.warpAffine(prepared, matrix, size)
        return moved, cv2.warpAffine(small, matrix, size, flags=cv2.INTER_NEAREST)

    return compare({"ours": ours, "bare": bare}, rounds)
