"""Arrays whose rows are read or made only when they are asked for."""

from __future__ import annotations

import numpy as np


class LazyRows:
    """Rows that look like an array and take no memory until they are used.

    A subclass sets the attributes and defines `_row`; where several rows at once come cheaper, it
    defines `_some` as well.

    Attributes:
        shape: As of an array: rows first.
        dtype: Type of the numbers.
    """

    shape: tuple[int, ...]
    dtype: np.dtype

    def __len__(self) -> int:
        """Number of rows."""
        return self.shape[0]

    def __getitem__(self, index: int | slice | np.ndarray) -> np.ndarray:
        """One row, or an array of several."""
        if np.ndim(index) == 0 and not isinstance(index, slice):
            return self._row(range(len(self))[int(index)])
        return self._some(np.arange(len(self))[index])

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        """All rows at once, in memory."""
        return self[:].astype(dtype or self.dtype, copy=False)

    def _row(self, position: int) -> np.ndarray:
        """The row at a position from 0 on."""
        raise AttributeError(f"{type(self).__name__} defines no row")

    def _some(self, positions: np.ndarray) -> np.ndarray:
        """The rows at these positions, as one array."""
        rows = np.empty((len(positions), *self.shape[1:]), self.dtype)
        for place, position in enumerate(positions):
            rows[place] = self._row(int(position))
        return rows


class Chosen(LazyRows):
    """Some rows of an array, taken out of it when they are used.

    Attributes:
        table: The array.
        positions: Of the rows in it.
    """

    def __init__(self, table: np.ndarray | LazyRows, positions: np.ndarray):
        """Choose rows.

        Args:
            table: The array; in memory, mapped, or lazy itself.
            positions: Of the rows, in the order wanted.
        """
        self.table, self.positions = table, positions
        self.shape, self.dtype = (len(positions), *table.shape[1:]), table.dtype

    def _row(self, position: int) -> np.ndarray:
        return self.table[self.positions[position]]

    def _some(self, positions: np.ndarray) -> np.ndarray:
        return self.table[self.positions[positions]]
