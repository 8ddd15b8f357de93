"""A table of numbers, one row an image, that grows: what is there is never computed twice.

Rows are found by a key made from the image's content, so it does not matter in which order, or in
how many runs, they were added. The numbers lie in one file and are read by memory map; a second
file lists the keys. Numbers are written first and keys after them, so a process that is killed
leaves at most rows that nothing points at, which the next one overwrites.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

from covid_utils import paths
from covid_utils.data.lazy import Chosen
from covid_utils.writing import whole


class Store:
    """Rows of one shape, in the cache, found by key.

    Attributes:
        shape: Shape of a row.
        dtype: Type of its numbers.
    """

    def __init__(
        self,
        kind: str,
        settings: dict,
        shape: tuple[int, ...],
        dtype: type = np.float32,
        code: str = "",
    ):
        """Open a store; its files are made when the first rows are added.

        Args:
            kind: Subfolder of the cache.
            settings: How the rows are made: other settings, another store.
            shape: Shape of a row.
            dtype: Type of its numbers.
            code: Hash of the code that makes the rows. Rows that other code made with the same
                settings are deleted when the first new ones are added: nothing asks for them again.
        """
        text = json.dumps([settings, list(shape), np.dtype(dtype).name], sort_keys=True)
        self._family = hashlib.sha256(text.encode()).hexdigest()[:20]
        self._values = paths.cache() / kind / f"{self._family}-{code}.rows"
        self._is_mended = False
        self._keys = self._values.with_suffix(".keys")
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self._row_bytes = self.dtype.itemsize * int(np.prod(shape))

    @property
    def lock(self) -> FileLock:
        """Lock to hold from asking what is missing until it is added: others then find it."""
        self._values.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(f"{self._values}.lock", is_singleton=True)

    def keys(self) -> pd.Index:
        """Keys of the rows that are there, in order."""
        if not self._keys.is_file() or not self._values.is_file():
            return pd.Index([], dtype=str)
        # A line without its end, or without its numbers, was cut short.
        lines = self._keys.read_text(encoding="ascii").split("\n")[:-1]
        whole = self._values.stat().st_size // self._row_bytes
        return pd.Index(lines[:whole], dtype=str)

    def missing(self, keys: Sequence[str]) -> np.ndarray:
        """Positions, in ``keys``, of those that are not there; of equal ones the first."""
        wanted = pd.Index(keys, dtype=str)
        return np.flatnonzero(~wanted.isin(self.keys()) & ~wanted.duplicated())

    def add(self, batches: Iterable[tuple[Sequence[str], np.ndarray]]) -> None:
        """Append rows, batch by batch; each batch is kept once it is written.

        Args:
            batches: Keys with their rows (n, *shape). Hold `lock` meanwhile.
        """
        self._mend()
        with self._values.open("ab") as values, self._keys.open("a", encoding="ascii") as names:
            for keys, rows in batches:
                numbers = np.ascontiguousarray(rows, self.dtype).reshape(len(keys), *self.shape)
                values.write(numbers.tobytes())
                values.flush()
                names.write("".join(f"{key}\n" for key in keys))
                names.flush()

    def _mend(self) -> None:
        """Drop what a killed process left behind the last whole row, and what other code made."""
        if self._is_mended:
            return
        self._values.parent.mkdir(parents=True, exist_ok=True)
        names = self.keys()
        text = "".join(f"{key}\n" for key in names)
        if not self._keys.is_file() or self._keys.stat().st_size != len(text):
            with whole(self._keys) as partial:
                partial.write_text(text, encoding="ascii")
        with self._values.open("ab") as values:
            values.truncate(len(names) * self._row_bytes)
        for other in self._values.parent.glob(f"{self._family}-*"):
            if not other.name.startswith(self._values.stem):
                other.unlink(missing_ok=True)
        self._is_mended = True

    def read(self, keys: Sequence[str]) -> Chosen:
        """Rows by their keys.

        Raises:
            KeyError: A key is not there.
        """
        at = self.keys().get_indexer(pd.Index(keys, dtype=str))
        if (at < 0).any():
            raise KeyError(np.asarray(keys)[at < 0][0])
        if not len(at):
            return Chosen(np.empty((0, *self.shape), self.dtype), at)
        return Chosen(_mapped(self._values, self.dtype, self.shape), at)

    def fill(
        self,
        keys: Sequence[str],
        make: Callable[[np.ndarray], Iterable[tuple[np.ndarray, np.ndarray]]],
    ) -> Chosen:
        """Rows by their keys; those that are not there are made and added first.

        Args:
            keys: Keys wanted.
            make: Called with positions in ``keys``; yields some of them with their rows.
        """
        keys = np.asarray(keys, dtype=object)
        with self.lock:
            absent = self.missing(keys)
            if len(absent):
                self.add((keys[some], rows) for some, rows in make(absent))
            return self.read(keys)


def _mapped(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    rows = path.stat().st_size // (dtype.itemsize * int(np.prod(shape)))
    return np.memmap(path, dtype, "r", shape=(rows, *shape))
