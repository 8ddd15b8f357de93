"""Preprocessed images and masks as memory-mapped arrays, made once for each content and setting.

The name of a cache file is a hash of the images' content, their order and the settings, so a
changed setting, changed code, or content that the manifest says has changed, is never served an
old array.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

from covid_utils import paths, runs
from covid_utils.data import sources
from covid_utils.data.images import Preprocessing, preprocess, preprocess_mask
from covid_utils.data.lazy import LazyRows
from covid_utils.writing import whole

#: Modules of this floor that no prepared image depends on.
NOT_READING = (
    "data/augment.py",
    "data/collection.py",
    "data/download.py",
    "data/groups.py",
    "data/lazy.py",
    "data/similarity.py",
    "data/splits.py",
    "data/store.py",
    "data/transfer.py",
    "data/unpacking.py",
)


def images(manifest: pd.DataFrame, root: Path, settings: Preprocessing) -> np.ndarray:
    """Preprocessed images of a manifest.

    Args:
        manifest: Rows to read.
        root: Data folder that their paths are relative to.
        settings: Preprocessing.

    Returns:
        uint8 array (images, size, size), memory-mapped and read-only, in the order of the rows.
    """
    return _rows("images", manifest, settings, lambda row: prepared_image(root, row, settings))


def prepared_image(root: Path, row: pd.Series, settings: Preprocessing) -> np.ndarray:
    """One image of a manifest, decoded and preprocessed: uint8 (size, size)."""
    return preprocess(sources.load_image(root, row), settings)


def masks(manifest: pd.DataFrame, root: Path, settings: Preprocessing) -> np.ndarray:
    """Label masks of a manifest, in the geometry of `images`.

    Returns:
        uint8 labels (images, size, size), memory-mapped and read-only.
    """

    def one(row: pd.Series) -> np.ndarray:
        gray = sources.load_image(root, row) if settings.crop != "none" else None
        return preprocess_mask(sources.load_mask(root, row), settings, gray)

    return _rows("masks", manifest, settings, one)


def _rows(
    kind: str,
    manifest: pd.DataFrame,
    settings: Preprocessing,
    one: Callable[[pd.Series], np.ndarray],
) -> np.ndarray:
    """Array of one prepared image a row, from the cache or made now."""

    def write(target: Path) -> None:
        shape = (len(manifest), settings.size, settings.size)
        array = np.lib.format.open_memmap(target, "w+", np.uint8, shape)
        rows = [row for _, row in manifest.iterrows()]
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            for index, image in enumerate(pool.map(one, rows)):
                array[index] = image
        array.flush()

    # A mask can be mended while its image stays the same, so its content counts as well.
    stamp = manifest["image_id"] + manifest["sha256"] + manifest["mask_sha256"]
    made = settings.as_dict() | {"code": runs.code_hash("data", without=NOT_READING)}
    return stored(kind, [*stamp], made, write)


class Rows(LazyRows):
    """Some rows of a stored array, read from its file each time they are asked for.

    Pages of a memory-mapped array count as memory once they are touched, so a training that goes
    through all of them would hold them all. Reading keeps memory flat however many rows there are.
    """

    def __init__(self, array: np.memmap, chosen: np.ndarray):
        """Choose rows.

        Args:
            array: From `stored`, C-ordered.
            chosen: Positions of the rows.
        """
        self._path, self._start, self._chosen = Path(array.filename), array.offset, chosen
        self.dtype, self.shape = array.dtype, (len(chosen), *array.shape[1:])
        self._numbers = int(np.prod(array.shape[1:]))

    def _row(self, position: int) -> np.ndarray:
        return self._some(np.array([position]))[0]

    def _some(self, positions: np.ndarray) -> np.ndarray:
        rows = np.empty((len(positions), *self.shape[1:]), self.dtype)
        with self._path.open("rb", buffering=0) as file:
            for place, row in enumerate(self._chosen[positions]):
                file.seek(self._start + int(row) * self._numbers * self.dtype.itemsize)
                values = np.fromfile(file, self.dtype, self._numbers)
                rows[place] = values.reshape(self.shape[1:])
        return rows


class Prepared(LazyRows):
    """Images of a manifest, decoded and preprocessed each time they are asked for; none is kept.

    For what looks at each image once: uint8 (images, size, size).
    """

    def __init__(self, manifest: pd.DataFrame, root: Path, settings: Preprocessing):
        """Lay a manifest's images out.

        Args:
            manifest: Rows to read.
            root: Data folder that their paths are relative to.
            settings: Preprocessing.
        """
        self._manifest, self._root, self._settings = manifest, root, settings
        self.shape, self.dtype = (len(manifest), settings.size, settings.size), np.dtype(np.uint8)

    def _row(self, position: int) -> np.ndarray:
        return prepared_image(self._root, self._manifest.iloc[position], self._settings)


def rows_of(array: np.ndarray, chosen: np.ndarray) -> np.ndarray | Rows:
    """Rows of an array: from its file if it is a stored one, else a copy in memory."""
    # A slice of a mapped array still names the file, but no longer starts where it says.
    is_whole = isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap)
    return Rows(array, chosen) if is_whole else array[chosen]


def stored(
    kind: str, contents: list[str], settings: dict, write: Callable[[Path], None]
) -> np.ndarray:
    """An array from the cache; if it is not there, ``write`` makes it, once.

    Args:
        kind: Subfolder of the cache.
        contents: What the array is made from, as texts, in order.
        settings: How it is made.
        write: Called with the file to write an ``.npy`` array to.

    Returns:
        The array, memory-mapped and read-only.
    """
    text = json.dumps([contents, settings], sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:24]
    path = paths.cache() / kind / f"{key}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two notebooks may want the same array at once: the second waits and then finds it.
    with FileLock(f"{path}.lock"):
        if path.is_file():
            try:
                return np.load(path, mmap_mode="r")
            except (EOFError, ValueError, OSError):
                path.unlink()  # cut short by a full disk or a copy; it is only a cache
        with whole(path) as partial:
            write(partial)
        return np.load(path, mmap_mode="r")
