"""Reader of the nodule data set LUNA16 (Setio et al. 2017).

Layout: ``luna16 / annotations.csv`` and ``*.mhd`` with ``*.raw``, also within ``subset0`` and so
on. In masks 1 is nodule.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK

from covid_utils.data.files import read_table
from covid_utils.data.images import read_dicom_header
from covid_utils.data.manifest import MISSING, UNREADABLE, Problem, Reading, build
from covid_utils.data.volumes import hounsfield_to_uint8, missing_slice
from covid_utils.errors import DataError

NAME = "luna16"
FOLDER = "luna16"
ANNOTATIONS = "annotations.csv"
#: Name and folder of LIDC-IDRI, the collection that the scans of LUNA16 come from.
LIDC = "lidc-idri"

_POSITION = ["coordX", "coordY", "coordZ"]


@dataclass(frozen=True)
class Geometry:
    """Where the voxels of a scan lie: world = origin + direction @ (spacing * index), in mm.

    Attributes:
        size: Columns, rows, slices.
        origin: World position of the first voxel, LPS.
        spacing: Voxel size along each axis.
        direction: Unit vectors of the axes as columns (3, 3).
    """

    size: tuple[int, int, int]
    origin: np.ndarray
    spacing: np.ndarray
    direction: np.ndarray

    def index(self, world: np.ndarray) -> np.ndarray:
        """Voxel index (n, 3) as column, row and slice, not rounded, of world positions (n, 3)."""
        return (world - self.origin) @ np.linalg.inv(self.direction).T / self.spacing


def read(root: Path) -> Reading:
    """Read LUNA16.

    Of each scan every slice that a nodule touches is taken, and as many that none touches, evenly
    spaced from the first to the last: a scan of 300 slices with a nodule on six must not swamp a
    training set. Scans without a nodule add nothing. Nodules are known as spheres, so masks are
    discs and ``label_quality`` is ``weak``. LUNA16 is a part of LIDC-IDRI: a scan that is also in
    ``lidc-idri`` gets that patient, every other scan is its own patient. Annotated scans that are
    not on disk are problems (``missing``).

    Args:
        root: Data folder that contains ``luna16``.

    Returns:
        One row a slice taken, label ``nodule`` or ``no_nodule``.

    Raises:
        DataError: ``annotations.csv`` is missing or damaged, or no slice can be read.
    """
    scans = _scans(root / FOLDER)
    patients = _lidc_patients(root)
    candidates, problems = [], []
    for series, nodules in _annotations(root / FOLDER / ANNOTATIONS).groupby("seriesuid"):
        path = scans.get(series)
        if path is None:
            remedy = "This scan has nodules but is not on disk; download its subset to use it."
            problems.append(Problem(NAME, f"{FOLDER}/{series}.mhd", MISSING, remedy))
            continue
        try:
            touched = touched_frames(read_geometry(path), nodules)
        except DataError as error:
            relative = path.relative_to(root).as_posix()
            problems.append(Problem(NAME, relative, UNREADABLE, str(error)))
            continue
        patient = patients.get(series, f"{NAME}/{series}")
        candidates += [
            _candidate(root, path, patient, frame, frame in touched)
            for frame in sorted(touched | _spread(read_geometry(path).size[2], touched))
        ]
    return build(root, NAME, candidates, load_image, problems)


def _scans(folder: Path) -> dict[str, Path]:
    """Scans by series; the lung masks of LUNA16 carry the same names and are left out."""
    found = sorted(folder.rglob("*.mhd"))
    return {path.stem: path for path in found if not path.parent.name.startswith("seg-lungs")}


def _lidc_patients(root: Path) -> dict[str, str]:
    """Patients of the LIDC-IDRI series in the same data folder, from one header a folder."""
    folders: dict[Path, Path] = {}
    for path in sorted((root / LIDC).rglob("*.dcm")):
        folders.setdefault(path.parent, path)
    headers = [
        read_dicom_header(path, ("SeriesInstanceUID", "PatientID")) for path in folders.values()
    ]
    return {
        str(header.SeriesInstanceUID): f"{LIDC}/{header.PatientID}"
        for header in headers
        if header.get("SeriesInstanceUID") and header.get("PatientID")
    }


def _annotations(path: Path) -> pd.DataFrame:
    table = read_table(path, ("seriesuid", *_POSITION, "diameter_mm"))
    try:
        return table.astype(dict.fromkeys([*_POSITION, "diameter_mm"], float))
    except ValueError as error:
        raise DataError(
            f"{path}: {error}; the positions must be numbers in mm, download it again."
        ) from error


def _spread(count: int, touched: set[int]) -> set[int]:
    """As many frames without nodule as with one, evenly spaced; all if there are fewer."""
    free = [frame for frame in range(count) if frame not in touched]
    if len(free) <= len(touched):
        return set(free)
    return {free[i] for i in np.linspace(0, len(free) - 1, len(touched)).round().astype(int)}


def _candidate(root: Path, path: Path, patient: str, frame: int, has_nodule: bool) -> dict:
    return {
        "path": path.relative_to(root).as_posix(),
        "frame": frame,
        "is_slice": True,
        "patient_id": patient,
        "modality": "CT",
        "view": "Axial",
        "label": "nodule" if has_nodule else "no_nodule",
        "mask_path": f"{FOLDER}/{ANNOTATIONS}",
        "label_quality": "weak",
        "licence": "CC BY 4.0",
    }


def _reader(path: Path) -> SimpleITK.ImageFileReader:
    """Reader of a scan with its header read."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; unpack the data set whole.")
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise DataError(f"{path}: not the header of a scan; download it again.") from error
    if reader.GetDimension() != 3:
        raise DataError(f"{path}: {reader.GetDimension()} axes are no scan; download it again.")
    return reader


def read_geometry(path: Path) -> Geometry:
    """Read where the voxels of a scan lie, without reading the voxels.

    Args:
        path: The ``.mhd`` file.

    Returns:
        The geometry in the order in which the voxels are stored.

    Raises:
        DataError: The file is missing or damaged.
    """
    reader = _reader(path)
    direction = np.array(reader.GetDirection()).reshape(3, 3)
    return Geometry(
        reader.GetSize(), np.array(reader.GetOrigin()), np.array(reader.GetSpacing()), direction
    )


def sphere_mask(geometry: Geometry, nodules: pd.DataFrame, frame: int) -> np.ndarray:
    """Cut the spheres of the annotated nodules with one slice.

    Args:
        geometry: Geometry of the scan.
        nodules: Rows of ``annotations.csv`` of that scan, world coordinates and diameter in mm.
        frame: Slice, from 0.

    Returns:
        uint8 mask (height, width) in stored order, 1 where a pixel's centre is within a sphere.
    """
    width, height, _ = geometry.size
    mask = np.zeros((height, width), np.uint8)
    centres = geometry.index(nodules[_POSITION].to_numpy(float))
    radii = nodules["diameter_mm"].to_numpy(float) / 2
    for (x, y, z), radius in zip(centres, radii, strict=True):
        across = (np.arange(width) - x) * geometry.spacing[0]
        down = (np.arange(height)[:, None] - y) * geometry.spacing[1]
        along = (frame - z) * geometry.spacing[2]
        mask[across**2 + down**2 + along**2 <= radius**2] = 1
    return mask


def touched_frames(geometry: Geometry, nodules: pd.DataFrame) -> set[int]:
    """Slices on which `sphere_mask` is not empty."""
    depth = geometry.index(nodules[_POSITION].to_numpy(float))[:, 2]
    reach = nodules["diameter_mm"].to_numpy(float) / 2 / geometry.spacing[2]
    near = {
        frame
        for centre, half in zip(depth, reach, strict=True)
        for frame in range(int(np.ceil(centre - half)), int(np.floor(centre + half)) + 1)
        if 0 <= frame < geometry.size[2]
    }
    return {frame for frame in near if sphere_mask(geometry, nodules, frame).any()}


def _upright(plane: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Turn a slice so that the front is on top: some LUNA16 scans are stored mirrored."""
    plane = plane[:, ::-1] if direction[0, 0] < 0 else plane
    plane = plane[::-1] if direction[1, 1] < 0 else plane
    return np.ascontiguousarray(plane)


def load_image(path: Path, frame: int = 0) -> np.ndarray:
    """Slice of a scan, in the lung window.

    Only the wanted slice of a ``.raw`` file is read, so no volume is ever held in memory.

    Args:
        path: The ``.mhd`` file.
        frame: Slice in stored order, from 0.

    Returns:
        uint8 image (height, width), the front of the chest on top.

    Raises:
        DataError: The file is missing or damaged, or has no such slice.
    """
    reader = _reader(path)
    width, height, count = reader.GetSize()
    if not 0 <= frame < count:
        raise missing_slice(path, frame, count)
    reader.SetExtractIndex((0, 0, frame))
    reader.SetExtractSize((width, height, 0))
    try:
        plane = SimpleITK.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise DataError(
            f"{path}: slice {frame} is not whole; download this scan and its .raw file again."
        ) from error
    direction = np.array(reader.GetDirection()).reshape(3, 3)
    return _upright(hounsfield_to_uint8(plane), direction)


def load_mask(root: Path, row: Any) -> np.ndarray:
    """Mask of a LUNA16 slice by `sphere_mask`, turned like its image.

    Args:
        root: Data folder.
        row: Row of the manifest.

    Returns:
        uint8 mask (height, width), 1 nodule.

    Raises:
        DataError: A file is missing or damaged.
    """
    path = root / row.path
    geometry = read_geometry(path)
    table = _annotations(root / row.mask_path)
    mask = sphere_mask(geometry, table[table["seriesuid"] == path.stem], int(row.frame))
    return _upright(mask, geometry.direction)
