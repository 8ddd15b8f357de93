"""Reader of the nodule data set LUNA16 (Setio et al. 2017).

Layout: ``luna16 / annotations.csv`` and ``*.mhd`` with ``*.raw``, also within ``subset0`` and so
on. In masks 1 is nodule.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK

from covid_utils.data import guard
from covid_utils.data.images import LUNG_WINDOW, read_dicom_header, to_uint8
from covid_utils.data.readers import lidc
from covid_utils.data.readers.volumes import check_frame
from covid_utils.errors import DataError

NAME = FOLDER = "luna16"
ANNOTATIONS = "annotations.csv"

_POSITION = ["coordX", "coordY", "coordZ"]


def candidates(root: Path, problems: guard.Problems) -> list[dict]:
    """Slices labelled ``nodule`` or ``no_nodule``.

    Of each scan every slice that a nodule touches is taken, and as many that none touches, evenly
    spaced from the first to the last: a scan of 300 slices with a nodule on six must not swamp a
    training set. Scans without a nodule add nothing. Nodules are known as spheres, so masks are
    discs and ``label_quality`` is ``weak``. LUNA16 is a part of LIDC-IDRI: a scan that is also in
    ``lidc-idri`` gets that patient, every other scan is its own patient. Annotated scans that are
    not on disk are problems (``missing``).
    """
    scans, patients = _scans(root / FOLDER), _lidc_patients(root)
    rows = []
    for series, nodules in _annotations(root / FOLDER / ANNOTATIONS).groupby("seriesuid"):
        path = scans.get(series)
        if path is None:
            remedy = "This scan has nodules but is not on disk; download its subset to use it."
            problems.add(f"{FOLDER}/{series}.mhd", guard.MISSING, remedy)
            continue
        frames = problems.attempt(path, "scan", lambda path, n=nodules: _frames(path, n))
        patient = patients.get(series, f"{NAME}/{series}")
        rows += [
            {
                "path": path,
                "frame": frame,
                "is_slice": True,
                "patient_id": patient,
                "modality": "CT",
                "view": "Axial",
                "label": "nodule" if has_nodule else "no_nodule",
                "mask_path": root / FOLDER / ANNOTATIONS,
                "label_quality": "weak",
                "licence": "CC BY 4.0",
            }
            for frame, has_nodule in (frames or {}).items()
        ]
    return rows


def _scans(folder: Path) -> dict[str, Path]:
    """Scans by series; the lung masks of LUNA16 carry the same names and are left out."""
    found = guard.files(folder, (".mhd",), deep=True)
    return {path.stem: path for path in found if not path.parent.name.startswith("seg-lungs")}


def _lidc_patients(root: Path) -> dict[str, str]:
    """Patients of the LIDC-IDRI series in the same data folder, from one header per folder."""
    unread = guard.Problems(lidc.NAME, root)  # the reader of that set reports them
    patients, done = {}, set()
    for path in guard.files(root / lidc.FOLDER, (".dcm",), deep=True):
        if path.parent in done:
            continue
        tags = unread.attempt(path, "DICOM file", _series_and_patient)
        if tags is not None:
            done.add(path.parent)
            patients[tags[0]] = f"{lidc.NAME}/{tags[1]}"
    return patients


def _series_and_patient(path: Path) -> tuple[str, str]:
    header = read_dicom_header(path, ("SeriesInstanceUID", "PatientID"))
    return str(header.SeriesInstanceUID), str(header.PatientID)


def _annotations(path: Path) -> pd.DataFrame:
    table = guard.table(path, ("seriesuid", *_POSITION, "diameter_mm"))
    try:
        return table.astype(dict.fromkeys([*_POSITION, "diameter_mm"], float))
    except ValueError as error:
        raise DataError(
            f"{path}: {error}; the positions must be numbers in mm, download it again."
        ) from error


def _frames(path: Path, nodules: pd.DataFrame) -> dict[int, bool]:
    """Slices to take of a scan, and whether a nodule touches them."""
    scan = _open(path)
    depth = _indices(scan, nodules)[:, 2]
    reach = nodules["diameter_mm"].to_numpy(float) / 2 / scan.GetSpacing()[2]
    count = scan.GetSize()[2]
    near = {
        frame
        for first, last in zip(np.ceil(depth - reach), np.floor(depth + reach), strict=True)
        for frame in range(max(0, int(first)), min(count, int(last) + 1))
    }
    touched = {frame for frame in near if sphere_mask(scan, nodules, frame).any()}
    free = [frame for frame in range(count) if frame not in touched]
    if len(free) > len(touched):
        free = [free[i] for i in np.linspace(0, len(free) - 1, len(touched)).round().astype(int)]
    return {frame: frame in touched for frame in sorted(touched.union(free))}


def _open(path: Path) -> SimpleITK.ImageFileReader:
    """A scan with its header read, and none of its voxels."""
    scan = SimpleITK.ImageFileReader()
    scan.SetFileName(str(path))
    scan.ReadImageInformation()
    if scan.GetDimension() != 3:
        raise DataError(f"{path}: {scan.GetDimension()} axes are no scan; download it again.")
    guard.bounded(path, scan.GetSize())
    return scan


def _indices(scan: SimpleITK.ImageFileReader, nodules: pd.DataFrame) -> np.ndarray:
    """Column, row and slice (n, 3), not rounded, of the centres of nodules."""
    grid = SimpleITK.Image(1, 1, 1, SimpleITK.sitkUInt8)
    grid.SetOrigin(scan.GetOrigin())
    grid.SetSpacing(scan.GetSpacing())
    grid.SetDirection(scan.GetDirection())
    centres = nodules[_POSITION].to_numpy(float).tolist()
    return np.array([grid.TransformPhysicalPointToContinuousIndex(centre) for centre in centres])


def sphere_mask(scan: SimpleITK.ImageFileReader, nodules: pd.DataFrame, frame: int) -> np.ndarray:
    """Cut the spheres of the annotated nodules with one slice.

    Args:
        scan: The scan, with its header read.
        nodules: Rows of ``annotations.csv`` of that scan, world coordinates and diameter in mm.
        frame: Slice, from 0.

    Returns:
        uint8 mask (height, width) in stored order, 1 where a pixel's centre is within a sphere.
    """
    (width, height, _), spacing = scan.GetSize(), scan.GetSpacing()
    mask = np.zeros((height, width), np.uint8)
    radii = nodules["diameter_mm"].to_numpy(float) / 2
    for (x, y, z), radius in zip(_indices(scan, nodules), radii, strict=True):
        across = (np.arange(width) - x) * spacing[0]
        down = (np.arange(height)[:, None] - y) * spacing[1]
        along = (frame - z) * spacing[2]
        mask[across**2 + down**2 + along**2 <= radius**2] = 1
    return mask


def _upright(plane: np.ndarray, scan: SimpleITK.ImageFileReader) -> np.ndarray:
    """Turn a slice so that the front is on top: some LUNA16 scans are stored mirrored."""
    direction = scan.GetDirection()
    plane = plane[:, ::-1] if direction[0] < 0 else plane
    plane = plane[::-1] if direction[4] < 0 else plane
    return np.ascontiguousarray(plane)


def load_image(path: Path, frame: int = 0) -> np.ndarray:
    """Slice of a scan in the lung window: uint8 (height, width), the front of the chest on top.

    Only the wanted slice of a ``.raw`` file is read, so no volume is ever held in memory.
    """

    def decode(path: Path) -> np.ndarray:
        scan = _open(path)
        width, height, count = scan.GetSize()
        check_frame(path, frame, count)
        scan.SetExtractIndex((0, 0, frame))
        scan.SetExtractSize((width, height, 0))
        plane = SimpleITK.GetArrayFromImage(scan.Execute())
        return _upright(to_uint8(plane, *LUNG_WINDOW), scan)

    return guard.read(path, f"scan at slice {frame}, with its .raw file", decode)


def load_mask(root: Path, row: Any) -> np.ndarray:
    """Mask of a LUNA16 slice by `sphere_mask`, turned like its image."""
    nodules = _annotations(root / row.mask_path)

    def decode(path: Path) -> np.ndarray:
        scan = _open(path)
        of_scan = nodules[nodules["seriesuid"] == path.stem]
        return _upright(sphere_mask(scan, of_scan, int(row.frame)), scan)

    return guard.read(root / row.path, "scan", decode)
