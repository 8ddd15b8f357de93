"""One segmentation stream: its settings and its data (paper, section 3.5).

A stream is a network for one question: ``all`` tells four classes apart; ``ggo``,
``consolidation`` and ``effusion`` each find one manifestation; ``nodule`` finds lung nodules, and
its weights, without the last layer, are where the others may start.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from covid_utils import paths, runs
from covid_utils.data import augment, benchmark_lungs, cache
from covid_utils.data.collection import Collection
from covid_utils.data.images import Preprocessing, box
from covid_utils.errors import ParameterError
from covid_utils.models import unet
from covid_utils.registry import LESION_SETS, NODULE_SETS, stream_run

if TYPE_CHECKING:
    import tensorflow as tf

#: From a generator, a uint8 image (side, side) and its target to both as the network takes them.
Augmented = Callable[[np.random.Generator, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
#: Raise it whenever the same settings and slices would give different weights.
VERSION = 1


class StreamSettings(SimpleNamespace):
    """Parameters of `04_task3_stream` (``params/declarations.yaml``), and what follows from them.

    Two further attributes are not parameters: ``member`` says which of several trainings this is,
    ``gray`` is that of `Preprocessing`.
    """

    # Of the class, hence not in `vars`: weights of trainings that do not set it keep their names.
    gray = "as is"

    def __init__(self, **values: object):
        tuples = {name: tuple(v) for name, v in values.items() if isinstance(v, list)}
        super().__init__(**{"member": 0} | values | tuples)
        message = ""
        if self.stream == self.init == "nodule":
            message = "the nodule stream cannot start from itself; set init 'random'."
        elif self.init == "imagenet" and (self.model, self.width) != ("deeplab", 1):
            message = "init 'imagenet' fits model 'deeplab' of width 1 only."
        elif self.init == "imagenet" and not self.weights:
            message = "weights: name the file that init 'imagenet' starts from, or 'imagenet'."
        elif self.attenuation_margin and self.clahe_clip:
            message = "clahe_clip changes what attenuation_margin compares; set one of them to 0."
        elif self.refit and not self.average_last:
            message = "refit leaves no validation slice; set average_last to 1 or more."
        if message:
            raise ParameterError(message)

    def replace(self, **changes: object) -> StreamSettings:
        """The same settings, but for some."""
        return StreamSettings(**vars(self) | changes)

    @property
    def run_name(self) -> str:
        """Folder of the run below ``results/<profile>``; it names an unusual start."""
        usual = "nodule" if self.model == "deeplab" and self.stream != "nodule" else "random"
        return stream_run(self.stream, self.model, "" if self.init == usual else self.init)

    @property
    def preprocessing(self) -> Preprocessing:
        """How its slices are prepared."""
        return Preprocessing(self.image_size, self.clahe_clip, crop=self.crop, gray=self.gray)

    @property
    def draws(self) -> int:
        """Seed of the random draws of this member."""
        return self.seed + 1000 * self.member

    @property
    def side(self) -> int:
        """Side of the network's input in pixels."""
        if self.model == "deeplab":  # corners of all its resolutions align: the paper's 513
            return self.image_size + 1
        return -(-self.image_size // 2**unet.DEPTH) * 2**unet.DEPTH

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return 1 if self.model == "unet" else 3  # as in weights that were trained on colour


def settings_of(values: dict[str, object], **changes: object) -> StreamSettings:
    """Settings from a notebook's parameters but ``profile`` and ``data_dir``, with changes."""
    chosen = values | changes
    return StreamSettings(**{n: chosen[n] for n in chosen if n not in ("profile", "data_dir")})


def weights_path(profile: str, settings: StreamSettings, rows: pd.DataFrame) -> Path:
    """Where trained weights are kept; other settings or slices have another file."""
    about = [vars(settings), runs.data_hash(rows), (VERSION, cache.IMAGES, cache.MASKS)]
    # What the manifest says of the field and the gray scale is found by code that may change.
    if settings.crop == "field":
        about.append(rows["field"].tolist())
    if settings.gray != "as is":
        about.append(rows["gray"].tolist())
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]
    return paths.models(profile) / f"{settings.run_name}_{key}.weights.h5"


@dataclass(frozen=True)
class StreamData:
    """Rows, images and masks of a stream: uint8 (n, size, size) in the order of the rows."""

    rows: pd.DataFrame
    images: np.ndarray | cache.Rows
    masks: np.ndarray | cache.Rows

    def part(self, subset: str) -> tuple[np.ndarray, np.ndarray]:
        """Images and masks of one subset, each read or computed only when it is needed."""
        chosen = np.flatnonzero(self.rows["subset"] == subset)
        return cache.rows_of(self.images, chosen), cache.rows_of(self.masks, chosen)


def load_data(collection: Collection, settings: StreamSettings) -> StreamData:
    """Slices that a stream learns from, with fixed copies where the settings give their number."""
    stream = settings.stream
    names = NODULE_SETS if stream == "nodule" else LESION_SETS
    others = ", where others start unless init is 'random'," if stream == "nodule" else ""
    rows = collection.training_rows(names, f"stream '{stream}'{others}")
    if settings.refit:
        rows["subset"] = rows["subset"].replace("validation", "train")
    if stream != "nodule":
        rows["lung_pixels"] = lung_pixels(rows, collection, settings.preprocessing)
    return data_of(rows, collection, settings)


def data_of(rows: pd.DataFrame, collection: Collection, settings: StreamSettings) -> StreamData:
    """Images and masks of slices, and of the copies that the settings ask for if there are none."""
    totals = {"train": settings.train_images, "test": settings.test_images}
    # The paper gives no counts for nodules.
    if "copy" not in rows and settings.stream != "nodule" and any(totals.values()):
        rows = augment.expand(rows, totals, settings.seed)
    return prepared(rows, collection.root, settings.preprocessing, settings.seed)


def prepared(rows: pd.DataFrame, root: Path, preprocessing: Preprocessing, seed: int) -> StreamData:
    """Images and masks of slices and their copies, moved alike as the ``seed`` says."""
    if "lung_pixels" in rows and "copy" in rows:  # a copy is moved and zoomed, and so is its lung
        rows = rows.assign(lung_pixels=rows["lung_pixels"].where(rows["copy"] == 0))
    plain = augment.originals(rows)
    images = cache.images(plain, root, preprocessing)
    masks = cache.masks(plain, root, preprocessing)
    if "copy" in rows:
        images = augment.copies(images, rows, seed)
        masks = augment.copies(masks, rows, seed, is_mask=True)
    return StreamData(rows, images, masks)


def lung_pixels(rows: pd.DataFrame, collection: Collection, settings: Preprocessing) -> np.ndarray:
    """Size of each slice's lung field, int64 (n,), in pixels of the prepared slice."""
    if settings.crop == "field":
        _, _, side, pixels = rows["field"].str.split(expand=True).astype(float).to_numpy().T
        return np.rint(pixels * (settings.size / side) ** 2).astype(np.int64)
    # On the whole slice, whose outside tells what is body, and before contrast is equalised.
    plain = cache.images(rows, collection.root, replace(settings, clahe_clip=0.0, crop="none"))
    areas = np.zeros(len(rows))
    for index in range(len(rows)):
        field = benchmark_lungs.rough_field(plain[index])
        side = box(field)[2] if settings.crop == "lungs" else settings.size
        areas[index] = np.count_nonzero(field) * (settings.size / side) ** 2  # a crop enlarges
    return np.rint(areas).astype(np.int64)


def batches(
    images: np.ndarray | cache.Rows,
    targets: np.ndarray | cache.Rows,
    batch_size: int,
    seed: int,
    augmented: Augmented,
    first: int = 0,
) -> tf.data.Dataset:
    """Endless augmented batches of images and their masks or labels, from the ``first`` on.

    They are made on all cores while the network trains on the previous batch. Each image comes once
    per round and is read when its turn comes, so memory does not grow with their number; and each
    draw has its own seed, so the number of threads changes nothing.
    """
    import tensorflow as tf

    count = len(images)

    @lru_cache(maxsize=2)  # a batch may reach into the next round, which has a new order
    def order(number: int) -> np.ndarray:
        return np.random.default_rng([seed, number]).permutation(count)

    def drawn(draw: np.ndarray) -> tuple[np.ndarray, ...]:
        at = order(int(draw) // count)[int(draw) % count]
        return augmented(np.random.default_rng([seed, int(draw)]), images[at], targets[at])

    example = drawn(0)

    def make(draw: tf.Tensor) -> tuple[tf.Tensor, ...]:
        # A draw depends on its number alone; called stateful, they would run one by one.
        parts = tf.numpy_function(drawn, [draw], [one.dtype for one in example], stateful=False)
        return tuple(map(tf.ensure_shape, parts, [one.shape for one in example]))

    draws = tf.data.Dataset.range(first * batch_size, np.iinfo(np.int64).max)
    items = draws.map(make, num_parallel_calls=os.cpu_count(), deterministic=True)
    return items.batch(batch_size, drop_remainder=True).prefetch(2)
