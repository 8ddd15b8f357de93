"""MetaImage volumes: a header ``.mhd`` and its voxels in one ``.raw`` file.

ITK ends the whole process on some damaged headers. Here a header must agree with the size of the
voxels' file before any of them is read, and a slice is read without the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from covid_utils.data import guard
from covid_utils.errors import DataError

TYPES = {"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2"}
TYPES |= {"MET_INT": "i4", "MET_UINT": "u4", "MET_FLOAT": "f4", "MET_DOUBLE": "f8"}
#: Most bytes of a header.
LONGEST = 2**16
_AXES = "1 0 0 0 1 0 0 0 1"


@dataclass(frozen=True)
class Scan:
    """A volume, none of whose voxels have been read; axes are columns, rows and slices.

    Attributes:
        size: Voxels along each axis.
        spacing: Distance of voxels along each axis in mm (3,).
        origin: Position of the first voxel in mm (3,).
        direction: A column for the direction of each axis (3, 3).
        dtype: Type of a voxel.
        voxels: The ``.raw`` file.
        start: Its first byte that is a voxel.
    """

    size: tuple[int, ...]
    spacing: np.ndarray
    origin: np.ndarray
    direction: np.ndarray
    dtype: np.dtype
    voxels: Path
    start: int

    def plane(self, frame: int) -> np.ndarray:
        """One slice (rows, columns) as it is stored."""
        columns, rows, _ = self.size
        start = self.start + frame * rows * columns * self.dtype.itemsize
        values = np.fromfile(self.voxels, self.dtype, rows * columns, offset=start)
        return values.reshape(rows, columns)

    def indices(self, positions: np.ndarray) -> np.ndarray:
        """Column, row and slice, not rounded, of positions in mm (n, 3)."""
        steps = self.direction * self.spacing
        return np.linalg.solve(steps, (positions - self.origin).T).T


@guard.reads("scan")
def open_scan(path: Path) -> Scan:
    """Read a header and compare it with the file of voxels."""
    fields = _fields(path)
    size = tuple(int(value) for value in _values(fields, ("DimSize",), path))
    spacing, origin = (
        _values(fields, names, path)
        for names in (("ElementSpacing", "ElementSize"), ("Offset", "Position", "Origin"))
    )
    names = ("TransformMatrix", "Rotation", "Orientation")
    direction = _values(fields | {names[-1]: fields.get(names[-1], _AXES)}, names, path, 9)
    direction = direction.reshape(3, 3).T
    if min(size) < 1 or min(spacing) <= 0 or abs(abs(np.linalg.det(direction)) - 1) > 0.01:
        raise DataError(f"{path}: its sizes, spacings or axes are no scan's; download it again.")
    guard.bounded(path, size)
    dtype, voxels = _dtype(fields, path), path.parent / fields["ElementDataFile"]
    need, have = math.prod(size) * dtype.itemsize, _size(voxels)
    skipped = int(fields.get("HeaderSize", 0))
    start = have - need if skipped == -1 else skipped
    if start < 0 or (skipped != -1 and start + need != have):
        raise DataError(
            f"{voxels}: has {have} bytes, but by {path.name} it must have {max(start, 0) + need}; "
            "download both again."
        )
    return Scan(size, spacing, origin, direction, dtype, voxels, start)


def _fields(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        lines = file.read(LONGEST).decode().splitlines()
    pairs = (line.partition("=") for line in lines)
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    name = fields.get("ElementDataFile", "LOCAL")
    is_packed = fields.get("CompressedData", "False").lower() == "true"
    if is_packed or name in ("", "LOCAL", "LIST") or "%" in name:
        raise DataError(f"{path}: its voxels are not in one .raw file; save it as .mhd and .raw.")
    return fields


def _values(
    fields: dict[str, str], names: tuple[str, ...], path: Path, count: int = 3
) -> np.ndarray:
    words = next((fields[name] for name in names if name in fields), "").split()
    values = np.array(words, np.float64)
    if len(values) != count or not np.isfinite(values).all():
        raise DataError(f"{path}: {names[0]} must have {count} numbers; download it again.")
    return values


def _dtype(fields: dict[str, str], path: Path) -> np.dtype:
    kind, channels = fields.get("ElementType"), fields.get("ElementNumberOfChannels", "1")
    if kind not in TYPES or channels != "1":
        raise DataError(f"{path}: voxels of type {kind} x {channels} are no CT; download it again.")
    order = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False"))
    return np.dtype((">" if order.lower() == "true" else "<") + TYPES[kind])


@guard.reads("file of voxels")
def _size(path: Path) -> int:
    return path.stat().st_size
