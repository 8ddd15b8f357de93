"""What the frozen network makes of an image, computed once (``retrain.py``'s bottlenecks)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from covid_utils import progress
from covid_utils.data import augment, cache
from covid_utils.data.images import Preprocessing
from covid_utils.errors import DataError
from covid_utils.models import inception
from covid_utils.writing import digest

if TYPE_CHECKING:
    import keras

#: Version of the features in the cache: of the code of preprocessing, network and copies.
VERSION = 2
BATCH = 32
#: Images that the batch-norm statistics of random weights are taken from.
CALIBRATION_IMAGES = 32


@dataclass(frozen=True)
class Extraction:
    """Images and the frozen network, up to the block ``last``, that is applied to them.

    ``weights`` are ``imagenet``, ``none`` or a file below ``root``. Random ones are calibrated on
    some training images; ``seed`` is theirs and that of the copies of `augment.expand`.
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
        network = keras.Model(self.network.input, self.network.get_layer(other.last).output)
        # Cached properties, filled in: random weights would be calibrated on the other rows.
        other.__dict__.update({"network": network, "made_by": self.made_by})
        return other

    @cached_property
    def images(self) -> cache.Rows:
        """uint8 (rows, size, size), each prepared when it is asked for."""
        prepared = cache.prepared(augment.originals(self.rows), self.root, self.settings)
        return augment.copies(prepared, self.rows, self.seed) if "copy" in self.rows else prepared

    @cached_property
    def network(self) -> keras.Model:
        """The frozen network up to the deepest block."""
        side = inception.input_side(self.settings.size)
        if self.weights == "none":
            shown = to_input(cache.prepared(self._calibration, self.root, self.settings)[:])
            return inception.network("none", self.last, self.seed, shown, side)
        weights = self.weights if self.weights == "imagenet" else str(self.root / self.weights)
        return inception.network(weights, self.last, self.seed, side=side)

    def compute(self, layers: tuple[str, ...], before: str = "") -> list[cache.Recipe]:
        """Compute what the cache lacks of `features` and `maps`, in one pass; gives recipes.

        Asking for maps builds the network, which tells their shape.
        """
        recipes = [self._recipe("features", b, (inception.BLOCKS[b],), np.float32) for b in layers]
        if before:
            shape = self.network.get_layer(inception.block_below(before)).output.shape[1:]
            recipes.append(self._recipe("maps", before, shape, np.float16))
        lacking = [set(recipe.missing(self.contents)) for recipe in recipes]
        absent = np.array(sorted(set().union(*lacking)), int)
        model = inception.outputs(self.network, layers, before) if len(absent) else None
        shown = progress.bar(total=len(absent), desc="features of images")
        for chosen, outputs in extract(model, self.images, absent):
            shown.update(len(chosen))
            for recipe, missing, rows in zip(recipes, lacking, outputs, strict=True):
                for position, row in zip(chosen, rows, strict=True):
                    if position in missing:
                        recipe.write(self.contents[position], row)
        shown.close()
        return recipes

    def features(self, layers: tuple[str, ...]) -> dict[str, pd.DataFrame]:
        """For each block the averages of its maps, float32 (rows, channels); index ``image_id``."""
        values = [recipe.rows(self.contents)[:] for recipe in self.compute(layers)]
        tables = [pd.DataFrame(part, self.rows["image_id"], copy=False) for part in values]
        return dict(zip(layers, tables, strict=True))

    def maps(self, before: str) -> cache.Rows:
        """What enters a block: float16 (rows, side, side, channels)."""
        return self.compute((), before)[0].rows(self.contents)

    def _recipe(self, kind: str, block: str, shape: tuple[int, ...], dtype: type) -> cache.Recipe:
        return cache.Recipe(kind, VERSION, self.made_by | {"block": block}, shape, dtype)

    def last_maps(self, positions: np.ndarray) -> np.ndarray:
        """Maps of the deepest block for some of the rows, float32 (n, side, side, channels)."""
        batches = extract(self.network, self.images, np.asarray(positions))
        return np.concatenate([maps for _, (maps,) in batches])

    @cached_property
    def contents(self) -> list[str]:
        """What tells the images apart: their content, and for a copy how it was moved."""
        known = cache.contents(self.rows, self.settings)
        if "copy" not in self.rows:
            return known
        moved = f"~{self.seed}~" + self.rows["image_id"].astype(str)
        moved = moved.where(self.rows["copy"].fillna(0) > 0, "")
        return [content + name for content, name in zip(known, moved, strict=True)]

    @cached_property
    def made_by(self) -> dict:
        """What the numbers depend on besides the image."""
        file = self.root / self.weights
        weights = f"{file.name} {digest(file)}" if file.is_file() else self.weights
        recipe = asdict(self.settings) | {"weights": weights}
        if weights == "none":
            recipe |= {"seed": self.seed, "calibrated on": self._calibration["sha256"].tolist()}
        return recipe

    @cached_property
    def _calibration(self) -> pd.DataFrame:
        sources = augment.originals(self.rows)
        chosen = sources[sources["subset"] == "train"]
        if chosen.empty:
            raise DataError("random weights are calibrated on training images, and there are none.")
        return chosen.sample(min(CALIBRATION_IMAGES, len(chosen)), random_state=self.seed)

    def time_one_image(self, layer: str) -> dict[str, dict[str, object]]:
        """Times of ``decode and prepare`` and ``features`` up to a block, one image at a time."""
        model, some = inception.outputs(self.network, (layer,)), self.images[:8]

        def forward(at: int) -> object:
            return model.predict_on_batch(to_input(some[at : at + 1]))

        calls = {"decode and prepare": self.images.__getitem__, "features": forward}
        return {stage: progress.time_per_item(call, len(some)) for stage, call in calls.items()}


def to_input(images: np.ndarray) -> np.ndarray:
    """Gray images, uint8 (n, size, size), as float32 (n, side, side, 3) in [-1, 1].

    Images larger than `inception.INPUT_SIZE` are resized to it, as the paper's 512 pixels are.
    """
    import tensorflow as tf

    gray = tf.cast(images[..., None], tf.float32)
    side = inception.input_side(images.shape[1])
    if images.shape[1] != side:
        gray = tf.image.resize(gray, (side, side), antialias=True)
    return np.repeat(gray.numpy() / 127.5 - 1.0, 3, axis=-1)


def extract(
    model: keras.Model, images: np.ndarray | cache.Rows, positions: np.ndarray
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Apply a frozen network to some of the images, uint8 (n, size, size), in batches.

    While it works on a batch, the next ones are decoded and prepared. Yields the positions of each
    batch, and the rows of each output for them.
    """
    import tensorflow as tf

    forward = tf.function(lambda batch: model(batch, training=False))
    parts = [positions[first : first + BATCH] for first in range(0, len(positions), BATCH)]

    def prepare(part: np.ndarray) -> np.ndarray:
        # A short last batch is padded: another shape would be traced anew.
        return np.pad(to_input(images[part]), ((0, BATCH - len(part)), (0, 0), (0, 0), (0, 0)))

    with ThreadPoolExecutor(max_workers=1) as pool:
        later = iter(parts)
        waiting = deque(pool.submit(prepare, part) for part in islice(later, 2))
        for part in parts:
            waiting.extend(pool.submit(prepare, one) for one in islice(later, 1))
            outputs = tf.nest.flatten(forward(waiting.popleft().result()))
            yield part, [output.numpy()[: len(part)] for output in outputs]
