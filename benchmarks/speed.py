"""Speed of preparing and augmenting images, as ratios measured in one process.

``make bench`` runs this and its neighbours and writes ``results.json`` and ``README.md``.
Each figure is a median of several rounds; the candidates of a comparison take turns, so that a busy
machine slows all of them alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from covid_utils.data import augment
from covid_utils.data.images import Preprocessing, preprocess, preprocess_mask, read_raster

SIDE = 512
ROUNDS = 9


def compare(
    candidates: dict[str, Callable[[], object]], rounds: int = ROUNDS, is_warm: bool = False
) -> dict[str, dict]:
    """Time candidates in turns.

    Args:
        candidates: Name -> what to time.
        rounds: How often each is timed, after one call that does not count.
        is_warm: They have been called before, so leave that call out.

    Returns:
        Name -> ``median_ms`` of the wall clock and ``median_cpu_ms`` of the whole process.
    """
    if not is_warm:
        for run in candidates.values():
            run()
    taken = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            taken[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    medians = {name: 1000 * np.median(times, axis=0) for name, times in taken.items()}
    return {
        name: {"median_ms": float(wall), "median_cpu_ms": float(cpu)}
        for name, (wall, cpu) in medians.items()
    }


def chest(seed: int = 0, side: int = 1024) -> tuple[np.ndarray, np.ndarray]:
    """A smooth image of the size of an X-ray, and a mask of blobs."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(size=(side, side)), (0, 0), 12)
    image = cv2.normalize(noise, None, 0, 235, cv2.NORM_MINMAX)
    grain = rng.normal(0, 4, (side, side))
    return np.clip(image + grain, 0, 255).astype(np.uint8), (image > 160).astype(np.uint8)


def preprocessing() -> dict[str, dict]:
    """Resize and CLAHE of one 1024 px image: ours against scikit-image."""
    from skimage.exposure import equalize_adapthist
    from skimage.transform import resize

    image, _ = chest()
    settings = Preprocessing(SIDE)

    def scikit_image() -> np.ndarray:
        small = resize(image, (SIDE, SIDE), anti_aliasing=True)
        return equalize_adapthist(small, kernel_size=SIDE // 8)

    return compare({"ours": lambda: preprocess(image, settings), "scikit-image": scikit_image})


def augmentation() -> dict[str, dict]:
    """Rotation, shift, zoom and flip of one 512 px image and its mask."""
    image, mask = (cv2.resize(part, (SIDE, SIDE)) for part in chest())
    ranges, rng = augment.Ranges(), np.random.default_rng(0)
    return compare(
        {
            "ours": lambda: augment.pair(rng, image, mask, ranges),
            "four Keras layers": _keras_layers(image, mask),
            "scipy": lambda: _scipy(image, mask, rng, ranges),
        }
    )


def _keras_layers(image: np.ndarray, mask: np.ndarray) -> Callable[[], object]:
    """Image and mask as two channels through four random layers: each resamples anew."""
    import keras
    import tensorflow as tf

    layers = [
        keras.layers.RandomRotation(10 / 360, fill_mode="constant"),
        keras.layers.RandomTranslation(0.08, 0.08, fill_mode="constant"),
        keras.layers.RandomZoom(0.12, fill_mode="constant"),
        keras.layers.RandomFlip("horizontal"),
    ]
    both = tf.constant(np.stack([image, mask], axis=-1)[None], tf.float32)

    @tf.function
    def run(batch: tf.Tensor) -> tf.Tensor:
        for layer in layers:
            batch = layer(batch, training=True)
        return batch

    return lambda: run(both).numpy()


def _scipy(image: np.ndarray, mask: np.ndarray, rng, ranges: augment.Ranges) -> tuple:
    """The same composed map, applied by scipy."""
    from scipy.ndimage import affine_transform

    matrix = augment.draw_matrix(rng, SIDE, ranges)[::-1][:, [1, 0, 2]]
    inverse = np.linalg.inv(matrix[:, :2])
    offset = -inverse @ matrix[:, 2]
    return (
        affine_transform(image, inverse, offset, order=1),
        affine_transform(mask, inverse, offset, order=0),
    )


def whole_way(folder: Path) -> dict[str, dict]:
    """File to augmented pair, against decode, resize, CLAHE and warp called bare."""
    image, mask = chest()
    path = folder / "chest.png"
    cv2.imwrite(str(path), image)
    settings, ranges = Preprocessing(SIDE), augment.Ranges()
    rng = np.random.default_rng(0)

    def ours() -> tuple:
        ready = preprocess(read_raster(path), settings)
        return augment.pair(rng, ready, preprocess_mask(mask, settings), ranges)

    matrix = augment.draw_matrix(rng, SIDE, ranges)
    size, clahe = (SIDE, SIDE), cv2.createCLAHE(2.0, (8, 8))

    def bare() -> tuple:
        gray = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        ready = clahe.apply(cv2.resize(gray, size, interpolation=cv2.INTER_AREA))
        small = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
        return (
            cv2.warpAffine(ready, matrix, size),
            cv2.warpAffine(small, matrix, size, flags=cv2.INTER_NEAREST),
        )

    return compare({"ours": ours, "bare": bare}, rounds=25)
