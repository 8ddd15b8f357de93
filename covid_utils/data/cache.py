"""Cache of what is computed from scans: one ``.npy`` file per content and recipe.

A slice goes from `images` via `Recipe.filled` and `readers.load_image` to the decoder of its set,
then through `images.preprocess` into its file; `Rows` read that when a batch is made, which
`training.streams.batches` augments and feeds to the network.

Nothing is computed again when rows change their order or a set grows. Raise a version when the
code of its recipe gives other numbers.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from covid_utils import paths
from covid_utils.data import lung_field, readers
from covid_utils.data.images import Preprocessing, preprocess, preprocess_mask
from covid_utils.writing import whole

#: Versions of the recipes of this module: what decodes and prepares images and masks, and what
#: finds lung fields.
IMAGES, MASKS, FIELDS = 1, 1, 3
#: Bytes that NumPy writes before an array of few dimensions.
HEADER = 128


class Rows:
    """Looks like an array; ``row`` reads or makes one when it is asked for, and none is kept."""

    def __init__(self, shape: tuple[int, ...], dtype: type, row: Callable[[int], np.ndarray]):
        self.shape, self.dtype, self.row = tuple(shape), np.dtype(dtype), row

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice | Sequence | np.ndarray) -> np.ndarray:
        positions = np.arange(len(self))[index]
        if np.ndim(positions) == 0:
            return self.row(int(positions))
        rows = np.empty((len(positions), *self.shape[1:]), self.dtype)
        for place, position in enumerate(positions):
            rows[place] = self.row(int(position))
        return rows

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def of(self, positions: np.ndarray) -> Rows:
        """Some of the rows, still computed only when read."""
        shape = (len(positions), *self.shape[1:])
        return Rows(shape, self.dtype, lambda at: self.row(int(positions[at])))


def rows_of(array: np.ndarray | Rows, positions: np.ndarray) -> np.ndarray | Rows:
    """Rows of an array by position: `Rows` stay lazy, an array is copied."""
    return array.of(positions) if isinstance(array, Rows) else array[positions]


def stacked(first: np.ndarray | Rows, second: np.ndarray | Rows) -> Rows:
    """Rows of one array, then those of another of the same shape and type."""
    count = len(first)
    shape = (count + len(second), *first.shape[1:])
    return Rows(shape, first.dtype, lambda at: first[at] if at < count else second[at - count])


class Recipe:
    """Where the arrays of one recipe are kept, all of one shape and type."""

    def __init__(
        self, kind: str, version: int, settings: dict, shape: tuple[int, ...], dtype: type
    ):
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        text = json.dumps([version, settings, self.shape, self.dtype.str], sort_keys=True)
        self._folder = paths.cache() / kind / _hash(text)

    def path(self, content: str) -> Path:
        """File of one content."""
        return self._folder / f"{_hash(content)}.npy"

    def missing(self, contents: Sequence[str]) -> list[int]:
        """Positions of the contents that are not kept, or not whole; of equal ones the first."""
        size = HEADER + self.dtype.itemsize * int(np.prod(self.shape))
        lost, seen = [], set()
        for at, content in enumerate(contents):
            file = self.path(content)
            if content not in seen and not (file.is_file() and file.stat().st_size == size):
                lost.append(at)
            seen.add(content)
        return lost

    def write(self, content: str, array: np.ndarray) -> None:
        """Keep the array of one content; of two processes that do so at once, the later one's."""
        with whole(self.path(content)) as partial:
            np.save(partial, np.asarray(array, self.dtype).reshape(self.shape))

    def rows(self, contents: Sequence[str]) -> Rows:
        """Arrays of contents that are kept, in order; each is read when asked for."""
        files = [str(self.path(content)) for content in contents]

        def read(at: int) -> np.ndarray:
            # Without a look at the header it takes a third of the time.
            return np.fromfile(files[at], self.dtype, offset=HEADER).reshape(self.shape)

        return Rows((len(files), *self.shape), self.dtype, read)

    def filled(self, contents: Sequence[str], make: Callable[[int], np.ndarray]) -> Rows:
        """Arrays of contents; ``make`` makes those that are missing first, on all cores."""
        missing, part = self.missing(contents), 16 * (os.cpu_count() or 1)
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            for first in range(0, len(missing), part):  # no more are in memory
                some = missing[first : first + part]
                for at, array in zip(some, pool.map(make, some), strict=True):
                    self.write(contents[at], array)
        return self.rows(contents)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def contents(rows: pd.DataFrame, settings: Preprocessing, *further: str) -> list[str]:
    """What tells the prepared images of manifest rows apart, including ``further`` columns."""
    columns = ["dataset", "sha256", "frame", "lungs"]
    if settings.crop == "field":
        columns.append("field")
    if settings.gray != "as is":
        columns.append("gray")
    return ["/".join(each) for each in rows[[*columns, *further]].astype(str).to_numpy()]


def images(rows: pd.DataFrame, root: Path, settings: Preprocessing) -> Rows:
    """Prepared images of manifest rows, kept in the cache: uint8 (images, size, size)."""
    make = prepared(rows, root, settings).row
    return _recipe("images", IMAGES, settings).filled(contents(rows, settings), make)


def prepared(rows: pd.DataFrame, root: Path, settings: Preprocessing) -> Rows:
    """As `images`, but made at each reading and never kept: for what needs each image once."""
    listed, shape = list(rows.itertuples()), (len(rows), settings.size, settings.size)

    def row(at: int) -> np.ndarray:
        image = readers.load_image(root, listed[at])
        return preprocess(image, settings, place(listed[at], settings), listed[at].gray)

    return Rows(shape, np.uint8, row)


def masks(rows: pd.DataFrame, root: Path, settings: Preprocessing) -> Rows:
    """Label masks of manifest rows, in the geometry of `images`: uint8 (images, size, size)."""
    listed = list(rows.itertuples())

    def make(at: int) -> np.ndarray:
        mask = readers.load_mask(root, listed[at])
        return preprocess_mask(mask, settings, place(listed[at], settings))

    # A mask can be mended while its image stays the same.
    names = contents(rows, settings, "mask_sha256", "image_id")
    return _recipe("masks", MASKS, settings).filled(names, make)


def fields(rows: pd.DataFrame, root: Path, settings: Preprocessing) -> Rows:
    """Lung fields of CT slices, in the geometry of `images`: uint8 0 or 1 (images, size, size)."""
    listed = list(rows.itertuples())

    def make(at: int) -> np.ndarray:
        field = lung_field.field(readers.load_image(root, listed[at])).astype(np.uint8)
        return preprocess_mask(field, settings, place(listed[at], settings))

    return _recipe("fields", FIELDS, settings).filled(contents(rows, settings), make)


def place(row: Any, settings: Preprocessing) -> str:
    """Where a slice is cropped, by the manifest."""
    return row.field if settings.crop == "field" else row.lungs


def _recipe(kind: str, version: int, settings: Preprocessing) -> Recipe:
    return Recipe(kind, version, asdict(settings), (settings.size,) * 2, np.uint8)
