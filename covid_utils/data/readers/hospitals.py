"""Readers of slices of other hospitals, which test networks and never train one.

* ``COVID-19-CT-Seg_20cases`` (Ma et al. 2021, Zenodo 3757476): volumes as NIfTI, and of the same
  names below ``Infection_Mask`` and ``Lung_Mask`` (1 left, 2 right), beside that folder or in it.
* ``covid19-ct-external``: pictures of such slices in ``ct``, masks of the same names in
  ``infection`` and ``lungs``, and ``slices.csv`` with the volume of each.

Masks tell the extent of disease but no class, so ``label_quality`` is ``none``.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from covid_utils.data import guard
from covid_utils.data.gray_scale import KNOWN
from covid_utils.data.readers.build import Source
from covid_utils.data.readers.decoding import (
    NIFTI_SUFFIXES,
    RASTER_SUFFIXES,
    axial_slices,
    read_raster,
)
from covid_utils.data.readers.gray import is_hounsfield, to_uint8, window_of
from covid_utils.errors import DataError

CASES, INFECTION, LUNGS = "COVID-19-CT-Seg_20cases", "Infection_Mask", "Lung_Mask"
EXPORT, SLICES = "covid19-ct-external", "slices.csv"
#: Slices that are taken of a volume at most. A lung is about 25 cm tall, so they lie some 12 mm
#: apart: closer ones look alike and cost memory and time without another look at the disease.
MOST_SLICES = 20
#: The gray scale of a volume is inferred from its pixels, subsampled by this stride.
STRIDE = 4
ABOUT = {"modality": "CT", "view": "Axial", "label": "covid"}


class _Scan(NamedTuple):
    """The slices that are taken of a volume, upright: uint8 (slices, height, width)."""

    frames: tuple[int, ...]
    images: np.ndarray
    infection: np.ndarray
    lungs: np.ndarray
    gray: str


@guard.reads("volume with its masks", keep=20)  # 15 MB for each of the 20 volumes
def _scan(path: Path) -> _Scan:
    masks = [_mask(path, kind) for kind in (INFECTION, LUNGS)]
    voxels = axial_slices(path)
    # Masks were drawn on the stored array, so the axes of the volume are theirs.
    infection, lungs = (axial_slices(mask, like=path) > 0 for mask in masks)
    shown = np.flatnonzero(lungs.any(axis=(1, 2)))
    if not len(shown):
        raise DataError(f"{masks[1]}: shows no lungs; take it from the release of {path.name}.")
    # The middle slice of each of equal parts, so not the very ends of the lungs.
    parts = min(len(shown), MOST_SLICES)
    taken = [int(shown[(2 * k + 1) * len(shown) // (2 * parts)]) for k in range(parts)]
    window = window_of(voxels[:, ::STRIDE, ::STRIDE], path)
    return _Scan(
        tuple(taken),
        to_uint8(voxels[taken], *window),
        infection[taken].astype(np.uint8),
        lungs[taken].astype(np.uint8),
        KNOWN if is_hounsfield(window) else "",
    )


def _mask(volume: Path, kind: str) -> Path:
    """Mask of a volume, which may not be there: in a folder of the set's name, or beside it."""
    named = [folder for folder in volume.parents if folder.name == CASES]
    places = [place / kind / volume.name for each in named for place in (each, each.parent)]
    return next((place for place in places if place.is_file()), places[0])


def volumes(root: Path, problems: guard.Problems) -> list[dict]:
    """At most `MOST_SLICES` slices with lung of each volume that has both masks."""
    found = problems.files(root / CASES, NIFTI_SUFFIXES, deep=True)
    rows = []
    for path in (path for path in found if path.parent.name not in (INFECTION, LUNGS)):
        absent = [kind for kind in (INFECTION, LUNGS) if not _mask(path, kind).is_file()]
        if absent:
            remedy = f"{' and '.join(absent)} has no file of this name; unpack it beside {CASES}."
            problems.add(path, guard.MISSING, f"{remedy} The run goes on without this volume.")
            continue
        scan = problems.attempt(_scan, path)
        patient = f"{CASES.lower()}/{path.name.split('.')[0]}"
        about = {"path": path, "patient_id": patient, "mask_path": _mask(path, INFECTION)}
        rows += [about | {"frame": at, "gray": scan.gray} for at in (scan.frames if scan else ())]
    return rows


def _slice_of(path: Path, frame: int, part: str) -> np.ndarray:
    scan = _scan(path)
    return getattr(scan, part)[scan.frames.index(frame)]


def _picture(path: Path, kind: str) -> Path:
    return path.parents[1] / kind / path.name


def pictures(root: Path, problems: guard.Problems) -> list[dict]:
    """The pictures that ``slices.csv`` names the volume of and that have both masks."""
    folder = root / EXPORT
    table = guard.table(folder / SLICES, ("slice", "volume"))
    volume = dict(zip(table["slice"], table["volume"], strict=True))
    rows, paths = [], problems.files(folder / "ct", RASTER_SUFFIXES)
    for name in sorted(volume.keys() - {path.stem for path in paths}):
        remedy = f"{SLICES} names it, but it is not on disk; unpack the whole data set."
        problems.add(f"{EXPORT}/ct/{name}", guard.MISSING, remedy)
    for path in paths:
        if not volume.get(path.stem):
            problems.add(path, "unlabelled", f"{SLICES} names no volume of it; it is not used.")
        elif problems.attempt(_assert_masks, path):
            about = {"path": path, "mask_path": _picture(path, "infection")}
            rows.append(about | {"patient_id": f"{EXPORT}/{volume[path.stem]}"})
    return rows


@guard.reads("picture with its masks")
def _assert_masks(path: Path) -> bool:
    size = read_raster(path).shape
    for mask in (_picture(path, kind) for kind in ("infection", "lungs")):
        if read_raster(mask).shape != size:
            raise DataError(f"{mask}: not of the size of its picture; take both from one release.")
    return True


def _extent(path: Path) -> np.ndarray:
    return (read_raster(path) > 0).astype(np.uint8)


VOLUMES = Source(
    CASES,
    ABOUT | {"licence": "CC BY-NC-SA"},
    volumes,
    lambda path, frame: _slice_of(path, frame, "images"),
    lambda root, row: _slice_of(root / row.path, int(row.frame), "infection"),
    lambda root, row: _slice_of(root / row.path, int(row.frame), "lungs"),
)
PICTURES = Source(
    EXPORT,
    ABOUT,
    pictures,
    read_raster,
    lambda root, row: _extent(root / row.mask_path),
    lambda root, row: _extent(_picture(root / row.path, "lungs")),
)
