"""What the frozen network makes of an image, computed once (``retrain.py``'s bottlenecks).

The network before the last layer never changes, and so neither does its output for an image: 2800
training steps on cached features cost seconds instead of hours. Rows are kept by the content of
their image, so a set that grows costs only what is new.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from covid_utils import runs
from covid_utils.data import augment, cache
from covid_utils.data.cache import Rows
from covid_utils.data.images import Preprocessing
from covid_utils.data.lazy import Chosen, LazyRows
from covid_utils.data.store import Store
from covid_utils.errors import DataError
from covid_utils.models import inception
from covid_utils.training.predictions import time_per_item

if TYPE_CHECKING:
    import keras

BATCH = 32
#: Images that the batch-norm statistics of random weights are taken from.
CALIBRATION_IMAGES = 32
#: Batches prepared ahead of the network.
AHEAD = 2


@dataclass(frozen=True)
class Extraction:
    """Images, and the frozen network that looks at them.

    Attributes:
        rows: Manifest rows, with the copies of `augment.expand` if there are any; those are made
            on the way to the network and never stored.
        root: Data folder.
        settings: Preprocessing of the images.
        weights: See `inception.network`. Random weights are calibrated on a few training images of
            the rows, drawn at random.
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
        """The same network looking at other rows, or only as deep as another block."""
        import keras

        other = replace(self, rows=rows, last=last or self.last)
        end = self.network.get_layer(other.last).output
        network = keras.Model(self.network.input, end) if last else self.network
        other.__dict__.update({"network": network, "made_by": self.made_by})
        return other

    @cached_property
    def images(self) -> LazyRows:
        """uint8 (rows, size, size), each prepared when it is asked for."""
        sources = augment.originals(self.rows)
        prepared = cache.Prepared(sources, self.root, self.settings)
        return augment.Copies(prepared, self.rows, self.seed) if self._has_copies else prepared

    @cached_property
    def network(self) -> keras.Model:
        """The frozen network up to the deepest block.

        Raises:
            DataError: Random weights, and no training image to calibrate them on.
        """
        calibrate = None
        if self.weights == "none":
            calibrate = to_input(cache.Prepared(self._calibration, self.root, self.settings)[:])
        return inception.network(self.weights, self.last, self.seed, calibrate)

    def features(self, layers: tuple[str, ...], before: str = "") -> dict[str, Chosen]:
        """Averages of each map of some blocks: float32 (rows, channels) for each block.

        Args:
            layers: Blocks up to the deepest one; computed in one pass.
            before: Keep what enters this block too, in the same pass; see `maps`.
        """
        return dict(zip(layers, self._rows(layers, before), strict=False))

    def maps(self, before: str) -> Rows:
        """What enters a block, float16 (rows, side, side, channels): to train from that block on.

        Half precision keeps three digits, and half the disk. The rows are read and not mapped,
        because going through all of them would fill the memory.

        Args:
            before: The block, see `inception.block_below`.
        """
        (found,) = self._rows((), before)
        return Rows(found.table, found.positions)

    def _rows(self, layers: tuple[str, ...], before: str) -> list[Chosen]:
        """Rows of the features of each block, then of the maps; what is missing is computed."""
        stores = [self._feature_store(name) for name in layers]
        stores += [self._map_store(before)] if before else []
        with ExitStack() as locks:
            # Always in the same order, so that nobody waits in a ring.
            for lock in sorted((store.lock for store in stores), key=lambda lock: lock.lock_file):
                locks.enter_context(lock)
            lacking = [np.isin(np.arange(len(self.keys)), s.missing(self.keys)) for s in stores]
            absent = np.flatnonzero(np.any(lacking, axis=0))
            model = inception.outputs(self.network, layers, before) if len(absent) else None
            for chosen, outputs in extract(model, self.images, absent) if model else ():
                for store, is_new, rows in zip(stores, lacking, outputs, strict=True):
                    new = is_new[chosen]
                    store.add([(self.keys[chosen[new]], rows[new])])
            return [store.read(self.keys) for store in stores]

    def last_maps(self, positions: np.ndarray) -> np.ndarray:
        """Maps of the deepest block for some of the rows, float32 (n, side, side, channels)."""
        return np.concatenate(
            [maps for _, (maps,) in extract(self.network, self.images, positions)]
        )

    def _feature_store(self, layer: str) -> Store:
        _, channels = inception.BLOCKS[layer]
        return Store("features", self.made_by | {"layer": layer}, (channels,), code=self.code)

    def _map_store(self, before: str) -> Store:
        side, channels = inception.BLOCKS[inception.block_below(before)]
        shape = (side, side, channels)
        return Store("maps", self.made_by | {"before": before}, shape, np.float16, self.code)

    @cached_property
    def keys(self) -> np.ndarray:
        """What tells the images apart: their content, and for a copy how it was moved."""
        keys = (self.rows["dataset"] + "/" + self.rows["sha256"]).to_numpy(dtype=object)
        if not self._has_copies:
            return keys
        moved = f"~{self.seed}~{runs.code_hash('data/augment.py')}~" + self.rows["image_id"]
        named = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in moved]
        return np.where(self.rows["copy"].fillna(0) > 0, keys + np.array(named, object), keys)

    @cached_property
    def made_by(self) -> dict:
        """What the numbers depend on besides the image."""
        made = self.settings.as_dict() | {"weights": _identity(self.weights)}
        if self.weights == "none":
            made |= {"seed": self.seed, "calibrated on": self._calibration["sha256"].tolist()}
        return made

    @cached_property
    def code(self) -> str:
        """Hash of the code that features and maps are made by."""
        parts = ("models/inception.py", "models/checkpoints.py", "training/bottlenecks.py")
        return runs.code_hash("data", *parts, without=cache.NOT_READING)

    @property
    def _has_copies(self) -> bool:
        return "copy" in self.rows and bool((self.rows["copy"].fillna(0) > 0).any())

    @cached_property
    def _calibration(self) -> pd.DataFrame:
        sources = augment.originals(self.rows)
        chosen = sources[sources["subset"] == "train"]
        if chosen.empty:
            raise DataError("random weights are calibrated on training images, and there are none.")
        return chosen.sample(min(CALIBRATION_IMAGES, len(chosen)), random_state=self.seed)

    def time_one_image(self, layer: str, images: int = 8) -> dict[str, dict[str, float]]:
        """Time of one image, one at a time; see `predictions.time_per_item`.

        Args:
            layer: Block that is pooled.
            images: How many of the images to go round.

        Returns:
            Times of the steps ``decode and prepare`` and ``features``.
        """
        model = inception.outputs(self.network, (layer,))
        some = self.images[:images]
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


def extract(
    model: keras.Model, images: np.ndarray | LazyRows, positions: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Run a frozen network over images, in batches of one shape.

    While it works on a batch, the next ones are decoded and prepared.

    Args:
        model: From 299 px input to one output or several.
        images: uint8 (n, size, size).
        positions: Which of them; all if None.

    Yields:
        Positions of a batch, and the rows of each output for them.
    """
    import tensorflow as tf

    forward = tf.function(lambda batch: model(batch, training=False))
    positions = np.arange(len(images)) if positions is None else positions
    parts = [positions[first : first + BATCH] for first in range(0, len(positions), BATCH)]

    def prepare(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        batch = to_input(images[part])
        # A short last batch is padded: another shape would be traced anew.
        return part, np.pad(batch, ((0, BATCH - len(batch)), (0, 0), (0, 0), (0, 0)))

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
