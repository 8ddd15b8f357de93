"""Reader of the nodule data set LUNA16 (Setio et al. 2017).

Layout: ``luna16 / annotations.csv`` and ``*.mhd`` with ``*.raw``, also within ``subset0`` and so
on. In masks 1 is nodule.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from covid_utils.data import guard
from covid_utils.data.readers import lidc
from covid_utils.data.readers.build import Source
from covid_utils.data.readers.decoding import read_dicom_header
from covid_utils.data.readers.gray import LUNG_WINDOW, to_uint8
from covid_utils.data.readers.metaimage import Scan, open_scan
from covid_utils.errors import DataError

NAME = "luna16"
ABOUT = {"modality": "CT", "view": "Axial", "label_quality": "weak", "licence": "CC BY 4.0"}
ANNOTATIONS = "annotations.csv"
#: Diameter in mm above which a nodule is a mistake: LUNA16's are 3 to 33 mm.
LARGEST = 200
_POSITION, _DIAMETER = ["coordX", "coordY", "coordZ"], "diameter_mm"


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
        frames = problems.attempt(_frames, scans[series], nodules)
        rows += [
            {
                "path": scans[series],
                "frame": frame,
                "patient_id": patients.get(series, f"{NAME}/{series}"),
                "label": "nodule" if has_nodule else "no_nodule",
                "mask_path": annotations,
            }
            for frame, has_nodule in (frames or {}).items()
        ]
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
def _frames(path: Path, nodules: pd.DataFrame) -> dict[int, bool]:
    """Slices to take of a scan, and whether a nodule touches them."""
    scan = open_scan(path)
    centres = _indices(scan, nodules)
    if ((centres < -0.5) | (centres > np.array(scan.size) - 0.5)).any():
        raise DataError(
            f"{path}: a nodule of {ANNOTATIONS} lies outside; take both from the same release."
        )
    frames = np.arange(scan.size[2])
    reach = nodules[_DIAMETER].to_numpy() / 2 / scan.spacing[2]
    is_near = (abs(frames[:, None] - centres[:, 2]) <= reach).any(axis=1)
    touched = [frame for frame in frames[is_near] if _discs(scan, nodules, frame).any()]
    free = np.setdiff1d(frames, touched)
    spread = np.linspace(0, len(free) - 1, min(len(free), len(touched))).round().astype(int)
    return {int(frame): frame in touched for frame in sorted([*touched, *free[spread]])}


def _indices(scan: Scan, nodules: pd.DataFrame) -> np.ndarray:
    return scan.indices(nodules[_POSITION].to_numpy())


def _discs(scan: Scan, nodules: pd.DataFrame, frame: int) -> np.ndarray:
    (width, height, _), spacing = scan.size, scan.spacing
    mask = np.zeros((height, width), np.uint8)
    for (x, y, z), diameter in zip(_indices(scan, nodules), nodules[_DIAMETER], strict=True):
        across = (np.arange(width) - x) * spacing[0]
        down = (np.arange(height)[:, None] - y) * spacing[1]
        along = (frame - z) * spacing[2]
        mask[across**2 + down**2 + along**2 <= (diameter / 2) ** 2] = 1
    return mask


def _upright(plane: np.ndarray, scan: Scan) -> np.ndarray:
    """Turn a slice so that the front is on top: some LUNA16 scans are stored mirrored."""
    across, down, _ = scan.direction.diagonal()
    return np.ascontiguousarray(plane[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1])


def load_image(path: Path, frame: int) -> np.ndarray:
    """Slice of a scan in the lung window: uint8 (height, width), the front of the chest on top.

    Only the wanted slice of a ``.raw`` file is read, so no volume is ever held in memory.
    """
    kind = f"scan at slice {frame}, with its .raw file"
    return guard.read(path, kind, lambda path: _plane(path, frame))


def _plane(path: Path, frame: int) -> np.ndarray:
    scan = open_scan(path)
    return _upright(to_uint8(scan.plane(frame), *LUNG_WINDOW), scan)


def load_mask(root: Path, row: Any) -> np.ndarray:
    """Mask of a slice, turned like its image: 1 where a nodule's sphere holds a pixel's centre."""
    nodules, scan = _nodules(root / row.mask_path), open_scan(root / row.path)
    of_scan = nodules[nodules["seriesuid"] == Path(row.path).stem]
    return _upright(_discs(scan, of_scan, int(row.frame)), scan)


SOURCE = Source(NAME, ABOUT, candidates, load_image, load_mask, has_hounsfield=lambda path: True)
