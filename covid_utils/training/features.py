"""What the frozen network makes of an image, computed once (``retrain.py``'s bottlenecks).

The network before the last layer never changes, and so neither does its output for an image: 2800
training steps on cached features cost seconds instead of hours.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from covid_utils.data import augment, cache
from covid_utils.data.images import Preprocessing
from covid_utils.errors import DataError
from covid_utils.models import inception
from covid_utils.training.predictions import time_per_item

if TYPE_CHECKING:
    import keras

#: Version of the features in the cache: of the code of preprocessing, network and copies.
VERSION = 1
BATCH = 32
#: Images that the batch-norm statistics of random weights are taken from.
CALIBRATION_IMAGES = 32
#: Batches prepared ahead of the network.
AHEAD = 2
#: Images that are timed one at a time.
TIMED = 8


@dataclass(frozen=True)
class FeatureTable:
    """Features, float32 (images, channels), with the names of their images."""

    image_id: pd.Index
    values: np.ndarray

    def positions(self, rows: pd.DataFrame) -> np.ndarray:
        """Where the features of manifest rows lie, in their order.

        Raises:
            DataError: An image has no features here.
        """
        at = self.image_id.get_indexer(rows["image_id"])
        if (at < 0).any():
            unknown = rows["image_id"].to_numpy()[at < 0][0]
            raise DataError(f"{unknown}: no features of this image; compute them first.")
        return at

    def of(self, rows: pd.DataFrame) -> np.ndarray:
        """Features of manifest rows, float32 (rows, channels), in their order."""
        return self.values[self.positions(rows)]


@dataclass(frozen=True)
class Extraction:
    """Images and the frozen network that is applied to them.

    Attributes:
        rows: Manifest rows; copies of `augment.expand` are made on the way to the network.
        root: Data folder.
        settings: Preprocessing of the images.
        weights: See `inception.network`. Random ones are calibrated on some training images.
        last: Deepest block that is wanted.
        seed: Of random weights and of copies.
    """

    rows: pd.DataFrame
    root: Path
    settings: Preprocessing
    weights: str
    last: str = "mixed10"
    seed: int = 2020

    def of(self, rows: pd.DataFrame, last: str = "") -> Extraction:
        """The same network on other rows, or only up to an earlier block."""
        import keras

        other = replace(self, rows=rows, last=last or self.last)
        end = self.network.get_layer(other.last).output
        network = keras.Model(self.network.input, end) if last else self.network
        other.__dict__.update({"network": network, "made_by": self.made_by})
        return other

    @cached_property
    def images(self) -> cache.Rows:
        """uint8 (rows, size, size), each prepared when it is asked for."""
        sources = augment.originals(self.rows)
        prepared = cache.prepared(sources, self.root, self.settings)
        return augment.copies(prepared, self.rows, self.seed) if "copy" in self.rows else prepared

    @cached_property
    def network(self) -> keras.Model:
        """The frozen network up to the deepest block."""
        calibrate = None
        if self.weights == "none":
            calibrate = to_input(cache.prepared(self._calibration, self.root, self.settings)[:])
        return inception.network(self.weights, self.last, self.seed, calibrate)

    def features(self, layers: tuple[str, ...], before: str = "") -> dict[str, FeatureTable]:
        """Averages of each map of some blocks, float32 (rows, channels), computed in one pass.

        Args:
            layers: Blocks up to the deepest one.
            before: Keep what enters this block too, in the same pass; see `maps`.
        """
        recipes, names = self._computed(layers, before), pd.Index(self.rows["image_id"])
        return {
            layer: FeatureTable(names, recipe.rows(self.contents)[:])
            for layer, recipe in zip(layers, recipes, strict=False)
        }

    def maps(self, before: str) -> cache.Rows:
        """What enters a block, to train from there on: float16 (rows, side, side, channels)."""
        (recipe,) = self._computed((), before)
        return recipe.rows(self.contents)

    def _recipe(self, kind: str, block: str) -> cache.Recipe:
        """Recipe of the features of a block, or of the maps that enter it."""
        made_by = self.made_by | {"block": block}
        if kind == "features":
            return cache.Recipe(kind, VERSION, made_by, inception.BLOCKS[block][1:], np.float32)
        side, channels = inception.BLOCKS[inception.block_below(block)]
        return cache.Recipe(kind, VERSION, made_by, (side, side, channels), np.float16)

    def _computed(self, layers: tuple[str, ...], before: str) -> list[cache.Recipe]:
        """Recipes of the features of some blocks, then of the maps; what is missing is computed."""
        recipes = [self._recipe("features", layer) for layer in layers]
        recipes += [self._recipe("maps", before)] if before else []
        lacking = [set(recipe.missing(self.contents)) for recipe in recipes]
        absent = np.array(sorted(set().union(*lacking)), int)
        model = inception.outputs(self.network, layers, before) if len(absent) else None
        for chosen, outputs in extract(model, self.images, absent):
            for recipe, missing, rows in zip(recipes, lacking, outputs, strict=True):
                for position, row in zip(chosen, rows, strict=True):
                    if position in missing:
                        recipe.write(self.contents[position], row)
        return recipes

    def last_maps(self, positions: np.ndarray) -> np.ndarray:
        """Maps of the deepest block for some of the rows, float32 (n, side, side, channels)."""
        batches = extract(self.network, self.images, np.asarray(positions))
        return np.concatenate([maps for _, (maps,) in batches])

    @cached_property
    def contents(self) -> list[str]:
        """What tells the images apart: their content, and for a copy how it was moved."""
        known = cache.contents(self.rows)
        if "copy" not in self.rows:
            return known
        moved = self.rows["image_id"].where(self.rows["copy"].fillna(0) > 0)
        return [
            f"{content}~{self.seed}~{name}" if isinstance(name, str) else content
            for content, name in zip(known, moved, strict=True)
        ]

    @cached_property
    def made_by(self) -> dict:
        """What the numbers depend on besides the image."""
        made = asdict(self.settings) | {"weights": _identity(self.weights)}
        if self.weights == "none":
            made |= {"seed": self.seed, "calibrated on": self._calibration["sha256"].tolist()}
        return made

    @cached_property
    def _calibration(self) -> pd.DataFrame:
        sources = augment.originals(self.rows)
        chosen = sources[sources["subset"] == "train"]
        if chosen.empty:
            raise DataError("random weights are calibrated on training images, and there are none.")
        return chosen.sample(min(CALIBRATION_IMAGES, len(chosen)), random_state=self.seed)

    def time_one_image(self, layer: str) -> dict[str, dict[str, object]]:
        """Times of ``decode and prepare`` and ``features`` up to a block, one image at a time."""
        model = inception.outputs(self.network, (layer,))
        some = self.images[:TIMED]
        return {
            "decode and prepare": time_per_item(lambda i: self.images[i], len(some)),
            "features": time_per_item(
                lambda i: model.predict_on_batch(to_input(some[i : i + 1])), len(some)
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
    """Gray images, uint8 (n, size, size), as Inception-v3 takes them.

    Returns:
        float32 (n, 299, 299, 3) in [-1, 1], the three channels equal.
    """
    import tensorflow as tf

    gray = tf.cast(images[..., None], tf.float32)
    side = inception.INPUT_SIZE
    if images.shape[1] != side:
        gray = tf.image.resize(gray, (side, side), antialias=True)
    return np.repeat(gray.numpy() / 127.5 - 1.0, 3, axis=-1)


def extract(
    model: keras.Model, images: np.ndarray | cache.Rows, positions: np.ndarray
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Apply a frozen network to some of the images, uint8 (n, size, size), in batches.

    While it works on a batch, the next ones are decoded and prepared.

    Yields:
        Positions of a batch, and the rows of each output for them.
    """
    import tensorflow as tf

    forward = tf.function(lambda batch: model(batch, training=False))

    def prepare(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        batch = to_input(images[part])
        # A short last batch is padded: another shape would be traced anew.
        return part, np.pad(batch, ((0, BATCH - len(batch)), (0, 0), (0, 0), (0, 0)))

    parts = [positions[first : first + BATCH] for first in range(0, len(positions), BATCH)]
    for part, batch in _ahead(prepare, parts):
        outputs = tf.nest.flatten(forward(batch))
        yield part, [output.numpy()[: len(part)] for output in outputs]


def _ahead(make: Callable, items: list) -> Iterator:
    """What ``make`` makes of each item, in order, a few of them ahead in a thread of its own."""
    waiting: deque = deque()
    with ThreadPoolExecutor(max_workers=1) as pool:
        for item in items:
            waiting.append(pool.submit(make, item))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
