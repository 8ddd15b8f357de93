"""Reader of the nodule data set LUNA16 (Setio et al. 2017).

Layout: ``luna16 / annotations.csv`` and MetaImage volumes, ``*.mhd`` with ``*.raw``, also within
``subset0`` and so on. In masks 1 is nodule.

ITK ends the whole process on some damaged headers. So a header is read here, and must agree with
the size of the voxels' file before any of them is read; a slice is read without the rest.
"""

import math
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from covid_utils.data import gray_scale, guard
from covid_utils.data.readers import lidc
from covid_utils.data.readers.build import Source
from covid_utils.data.readers.decoding import read_dicom_header
from covid_utils.data.readers.gray import LUNG_WINDOW, to_uint8
from covid_utils.errors import DataError

NAME = "luna16"
ABOUT = {"modality": "CT", "view": "Axial", "label_quality": "weak", "licence": "CC BY 4.0"}
ABOUT |= {"gray": gray_scale.KNOWN}
ANNOTATIONS = "annotations.csv"
#: Diameter in mm above which a nodule is a mistake: LUNA16's are 3 to 33 mm.
LARGEST = 200
#: Types of voxels, and most bytes of a header.
TYPES = {"MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4"}
TYPES |= {"MET_FLOAT": "f4", "MET_DOUBLE": "f8"}
LONGEST = 2**16
#: Names under which a header may have its numbers, first the usual one.
NAMES = (("DimSize",), ("ElementSpacing", "ElementSize"), ("Offset", "Position", "Origin"))
NAMES += (("TransformMatrix", "Rotation", "Orientation"),)
#: What a header need not state.
USUAL = {"Orientation": "1 0 0 0 1 0 0 0 1", "ElementNumberOfChannels": "1", "HeaderSize": "0"}
_POSITION, _DIAMETER = ["coordX", "coordY", "coordZ"], "diameter_mm"


class Scan(NamedTuple):
    """A volume, none of whose voxels have been read; axes are columns, rows and slices, in mm."""

    size: tuple[int, ...]
    spacing: np.ndarray  # (3,)
    origin: np.ndarray  # position of the first voxel (3,)
    direction: np.ndarray  # a column for the direction of each axis (3, 3)
    dtype: np.dtype
    voxels: Path

    def plane(self, frame: int) -> np.ndarray:
        """One slice (rows, columns) as it is stored."""
        columns, rows, _ = self.size
        start = frame * rows * columns * self.dtype.itemsize
        values = np.fromfile(self.voxels, self.dtype, rows * columns, offset=start)
        return values.reshape(rows, columns)

    def indices(self, nodules: pd.DataFrame) -> np.ndarray:
        """Column, row and slice, not rounded, of the centres of nodules (n, 3)."""
        from_first = nodules[_POSITION].to_numpy() - self.origin
        return np.linalg.solve(self.direction * self.spacing, from_first.T).T

    def discs(self, nodules: pd.DataFrame, frame: int) -> np.ndarray:
        """Pixels of a slice whose centre lies in the sphere of a nodule, uint8 (rows, columns)."""
        mask = np.zeros(self.size[1::-1], np.uint8)
        row, column = np.ogrid[: self.size[1], : self.size[0]]
        for (x, y, z), diameter in zip(self.indices(nodules), nodules[_DIAMETER], strict=True):
            across, down = (column - x) * self.spacing[0], (row - y) * self.spacing[1]
            along = (frame - z) * self.spacing[2]
            mask[across**2 + down**2 + along**2 <= (diameter / 2) ** 2] = 1
        return mask

    def upright(self, plane: np.ndarray) -> np.ndarray:
        """A slice with the front on top: some scans are stored mirrored."""
        across, down, _ = self.direction.diagonal()
        return np.ascontiguousarray(plane[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1])


@guard.reads("scan")
def open_scan(path: Path) -> Scan:
    """Read a header and compare it with the file of voxels."""
    with path.open("rb") as file:
        lines = file.read(LONGEST).decode().splitlines()
    pairs = (line.partition("=") for line in lines)
    fields = USUAL | {name.strip(): value.strip() for name, _, value in pairs}
    words = [next((fields[name] for name in names if name in fields), "") for names in NAMES]
    numbers = [np.array(each.split(), np.float64) for each in words]
    if [len(each) for each in numbers] != [3, 3, 3, 9] or not np.isfinite(np.hstack(numbers)).all():
        wanted = ", ".join(names[0] for names in NAMES)
        raise DataError(f"{path}: numbers of {wanted} are missing; download it again.")
    counts, spacing, origin, axes = numbers
    size, direction = tuple(counts.astype(int).tolist()), axes.reshape(3, 3).T
    if min(size) < 1 or min(spacing) <= 0 or abs(abs(np.linalg.det(direction)) - 1) > 0.01:
        raise DataError(f"{path}: sizes, spacings or axes do not make a scan; download it again.")
    guard.bounded(path, size)
    dtype, voxels = _dtype(path, fields), path.parent / fields.get("ElementDataFile", "LOCAL")
    is_packed = fields.get("CompressedData", "").lower() == "true"
    if is_packed or fields["HeaderSize"] not in ("0", "-1") or voxels.suffix != ".raw":
        raise DataError(
            f"{path}: its voxels are not in one .raw file, uncompressed and without a header; "
            "save it as .mhd and .raw."
        )
    need = math.prod(size) * dtype.itemsize
    with guard.reading(voxels, "file of voxels"):
        have = voxels.stat().st_size
    if have != need:
        raise DataError(
            f"{voxels}: has {have} bytes, but by {path.name} it must have {need}; download both "
            "again."
        )
    return Scan(size, spacing, origin, direction, dtype, voxels)


def _dtype(path: Path, fields: dict[str, str]) -> np.dtype:
    kind, channels = fields.get("ElementType"), fields["ElementNumberOfChannels"]
    if kind not in TYPES or channels != "1":
        raise DataError(f"{path}: voxels of type {kind} x {channels} are not CT; download again.")
    order = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", ""))
    return np.dtype((">" if order.lower() == "true" else "<") + TYPES[kind])


def candidates(root: Path, problems: guard.Problems) -> list[dict]:
    """Slices labelled ``nodule`` or ``no_nodule``.

    Of each scan every slice that a nodule touches is taken, and as many that none touches, evenly
    spaced from the first to the last: a scan of 300 slices with a nodule on six must not swamp a
    training set. Nodules are known as spheres, so masks are discs and weak. LUNA16 is a part of
    LIDC-IDRI: a scan that is also in ``lidc-idri`` gets that patient, any other its own.
    """
    scans = {
        path.stem: path
        for path in problems.files(root / NAME, (".mhd",), deep=True)
        if not path.parent.name.startswith("seg-lungs")  # masks with the names of the scans
    }
    patients, annotations = _lidc_patients(root), root / NAME / ANNOTATIONS
    rows = []
    for series, nodules in _nodules(annotations).groupby("seriesuid"):
        if series not in scans:
            remedy = "This scan has nodules but is not on disk; download its subset to use it."
            problems.add(f"{NAME}/{series}.mhd", guard.MISSING, remedy)
            continue
        about = {"path": scans[series], "mask_path": annotations}
        about["patient_id"] = patients.get(series, f"{NAME}/{series}")
        frames = problems.attempt(_frames, scans[series], nodules) or {}
        rows += [about | {"frame": frame, "label": label} for frame, label in frames.items()]
    return rows


def _lidc_patients(root: Path) -> dict[str, str]:
    """Patients of the LIDC-IDRI series in the same data folder, from one header per folder."""
    patients = {}
    for paths in lidc.folders(root).values():
        for path in paths:
            with suppress(DataError):  # the reader of that set reports it
                header = read_dicom_header(path, ("SeriesInstanceUID", "PatientID"))
                patient = f"{lidc.NAME}/{header.get('PatientID')}"
                patients[header.get("SeriesInstanceUID")] = patient
                break
    return patients


@guard.reads("table of positions in mm")
def _nodules(path: Path) -> pd.DataFrame:
    numbers = dict.fromkeys([*_POSITION, _DIAMETER], float)
    table = guard.table(path, ("seriesuid", *numbers)).astype(numbers)
    is_known = np.isfinite(table[_POSITION]).all(axis=1) & table[_DIAMETER].between(0.1, LARGEST)
    if not is_known.all():
        line = int(np.argmin(is_known)) + 2
        raise DataError(f"{path}: line {line} has no position or size of a nodule; correct it.")
    return table


@guard.reads("scan")
def _frames(path: Path, nodules: pd.DataFrame) -> dict[int, str]:
    scan = open_scan(path)
    centres = scan.indices(nodules)
    if ((centres < -0.5) | (centres > np.array(scan.size) - 0.5)).any():
        raise DataError(
            f"{path}: a nodule of {ANNOTATIONS} lies outside; take both from the same release."
        )
    frames = np.arange(scan.size[2])
    reach = nodules[_DIAMETER].to_numpy() / 2 / scan.spacing[2]
    is_near = (abs(frames[:, None] - centres[:, 2]) <= reach).any(axis=1)
    touched = [frame for frame in frames[is_near] if scan.discs(nodules, frame).any()]
    free = np.setdiff1d(frames, touched)
    spread = np.linspace(0, len(free) - 1, min(len(free), len(touched))).round().astype(int)
    labels = dict.fromkeys(free[spread].tolist(), "no_nodule")
    return dict(sorted((labels | dict.fromkeys(map(int, touched), "nodule")).items()))


@guard.reads("scan")
def load_image(path: Path, frame: int) -> np.ndarray:
    """Slice of a scan in the lung window: uint8 (height, width), the front of the chest on top.

    Only the wanted slice of a ``.raw`` file is read, so no volume is ever held in memory.
    """
    scan = open_scan(path)
    return scan.upright(to_uint8(scan.plane(frame), *LUNG_WINDOW))


def load_mask(root: Path, row: Any) -> np.ndarray:
    """Mask of a slice, turned like its image: 1 where a nodule's sphere holds a pixel's centre."""
    nodules, scan = _nodules(root / row.mask_path), open_scan(root / row.path)
    of_scan = nodules[nodules["seriesuid"] == Path(row.path).stem]
    return scan.upright(scan.discs(of_scan, int(row.frame)))


SOURCE = Source(NAME, ABOUT, candidates, load_image, load_mask)
