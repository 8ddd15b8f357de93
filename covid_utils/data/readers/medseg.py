"""Reader of the COVID-19 CT Segmentation data set: axial slices in one NIfTI file (CC0).

Layout: ``medseg / tr_im.nii.gz, tr_mask.nii.gz`` and, where a study of the label quality has been
made, ``slices.csv``. Slices lie on the last axis and each is stored transposed. Labels: 0
background, 1 ground-glass, 2 consolidation, 3 pleural effusion.

``published_predictions.npz`` holds the segmentations that the authors of the paper published, each
turned back onto the slice that it shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd

from covid_utils.data import guard
from covid_utils.data.readers.volumes import check_frame, ct_to_uint8, read_voxels
from covid_utils.errors import DataError

NAME = FOLDER = "medseg"
IMAGES = "tr_im.nii.gz"
MASKS = "tr_mask.nii.gz"
SLICES = "slices.csv"
PUBLISHED = "published_predictions.npz"
#: Labels of the published colours 1 red, 2 green, 3 olive, 4 navy, by the colours of an image.
#: The gray values of the labels were stretched to 255 in each image, so red is the highest label
#: there: navy is half of it (1 of 2), green a third and olive two thirds (1 and 2 of 3). Where the
#: prediction lacks a colour, those that it has still tell the scale.
COLOURS = {
    frozenset(): {},
    frozenset({1}): {1: 1},
    frozenset({4}): {4: 1},
    frozenset({1, 4}): {4: 1, 1: 2},
    frozenset({1, 2}): {2: 1, 1: 3},
    frozenset({1, 2, 3}): {2: 1, 3: 2, 1: 3},
}
#: Values that the columns of ``slices.csv`` may have.
NOTES = {"labels": {"exact", "weak"}, "infnet_subset": {"train", "test", ""}}

_decoding = Lock()


@lru_cache(maxsize=2)
def _decode(path: Path, changed: int, is_image: bool) -> np.ndarray:
    voxels = read_voxels(path)
    return ct_to_uint8(voxels) if is_image else voxels


def _volume(path: Path, is_image: bool) -> np.ndarray:
    """Whole file (columns, rows, slices), decoded once however many threads ask for slices."""
    with _decoding:
        return guard.read(
            path, "NIfTI file", lambda path: _decode(path, path.stat().st_mtime_ns, is_image)
        )


def _slice(path: Path, frame: int, is_image: bool) -> np.ndarray:
    volume = _volume(path, is_image)
    check_frame(path, frame, volume.shape[2])
    return np.ascontiguousarray(volume[:, :, frame].T)


def load_image(path: Path, frame: int) -> np.ndarray:
    """Slice of the images, upright: uint8 (height, width), the front of the chest on top."""
    return _slice(path, frame, is_image=True)


def load_mask(root: Path, row: Any) -> np.ndarray:
    """Labels of a slice (height, width), turned like its image, in the file's number type."""
    return _slice(root / row.mask_path, int(row.frame), is_image=False)


def candidates(root: Path, problems: guard.Problems) -> list[dict]:
    """One image per slice, label ``covid``; ``label_quality`` from ``slices.csv``, else ``exact``.

    Patients are those of the column ``patient`` of ``slices.csv``. Without it every slice is its
    own group, and ``patient_basis`` is ``none``.

    Raises:
        DataError: A file is missing or damaged, or images, masks and ``slices.csv`` do not match.
    """
    images, masks = root / FOLDER / IMAGES, root / FOLDER / MASKS
    shape, mask_shape = _volume(images, True).shape, _volume(masks, False).shape
    if shape != mask_shape:
        raise DataError(
            f"{masks}: masks of {mask_shape} (width, height, slices) do not fit the images of "
            f"{shape} in {IMAGES}; download both files again."
        )
    notes = _notes(root)
    if notes is None:
        notes = pd.DataFrame({"labels": "exact"}, index=range(shape[2]))
    if notes.index.tolist() != list(range(shape[2])):
        raise DataError(
            f"{root / FOLDER / SLICES}: the column slice must count from 0 to {shape[2] - 1}, one "
            f"line for each slice of {IMAGES}; take the files from the same release."
        )
    patients = notes["patient"].str.strip() if "patient" in notes else [""] * shape[2]
    return [
        {
            "path": images,
            "frame": frame,
            "is_slice": True,
            "patient_id": f"{NAME}/{patient or f'slice-{frame:03d}'}",
            "patient_basis": "given" if patient else "none",
            "modality": "CT",
            "view": "Axial",
            "label": "covid",
            "mask_path": masks,
            "label_quality": quality,
            "licence": "CC0",
        }
        for frame, (patient, quality) in enumerate(zip(patients, notes["labels"], strict=True))
    ]


def _notes(root: Path) -> pd.DataFrame | None:
    """``slices.csv`` by slice number, or None where there is none."""
    path = root / FOLDER / SLICES
    if not path.is_file():
        return None
    table = guard.table(path, ("slice", *NOTES))
    for column, allowed in NOTES.items():
        strange = sorted(set(table[column]) - allowed)
        if strange:
            raise DataError(f"{path}: {column} {strange} not among {sorted(allowed)}; correct it.")
    numbers = pd.to_numeric(table["slice"], errors="coerce")
    return table.set_index(numbers).sort_index()


def infnet_subset(root: Path) -> dict[str, str]:
    """Subset of the Inf-Net benchmark (Fan et al. 2020) that each slice belongs to.

    Returns:
        ``image_id`` to ``train``, ``test`` or '' (unused); empty where there is no ``slices.csv``.
    """
    notes = _notes(root)
    if notes is None:
        return {}
    subsets = notes["infnet_subset"].items()
    return {f"{FOLDER}/{IMAGES}#{int(frame):03d}": subset for frame, subset in subsets}


@dataclass(frozen=True, eq=False)
class PublishedMasks:
    """The segmentations that the authors published, N = 270 of 100 slices.

    Attributes:
        image_id: Slice that each is of, str (N,), as in the manifest; 2 to 4 masks share a slice.
        frame: The same as the number of the slice, from 0, int64 (N,).
        labels: Labels in the coding of the data set, uint8 (N, height, width), turned like
            `load_mask` and of the same size.
    """

    image_id: np.ndarray
    frame: np.ndarray
    labels: np.ndarray


def published_predictions(root: Path) -> PublishedMasks | None:
    """The published segmentations in the coding of the data set; None where there is no file.

    The published files number their colours anew in each image; see `COLOURS`. That reading is
    borne out by the masks: in the images of red alone, of navy with red, and of green, olive and
    red, each colour covers the lesion that it stands for here more often than any other lesion.
    Red alone could in principle be any one label: it is ground-glass on all slices but one (the
    three copies of slice 22, which has a single small consolidation), and is read as that.
    The masks have the size of the slices, so nothing is resampled before they are compared. A slice
    has two to four copies, which count as often in a mean over the N.
    """
    path = root / FOLDER / PUBLISHED
    if not path.is_file():
        return None
    colours, frames = guard.read(path, "file of published segmentations", _published)
    width, height, count = _volume(root / FOLDER / MASKS, is_image=False).shape
    is_whole = colours.dtype == np.uint8 and colours.shape == (len(frames), height, width)
    if not is_whole or not ((frames >= 0) & (frames < count)).all():
        raise DataError(f"{path}: does not fit the slices in {MASKS}; take both from one release.")
    labels = np.stack([_labels(image, path) for image in colours])
    image_id = np.array([f"{FOLDER}/{IMAGES}#{frame:03d}" for frame in frames])
    return PublishedMasks(image_id, frames, labels)


def _published(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Colour indices (N, height, width) and slices int64 (N,) as they are in the file."""
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["index"], arrays["slice"].astype(np.int64).ravel()


def _labels(colours: np.ndarray, path: Path) -> np.ndarray:
    present = frozenset(np.flatnonzero(np.bincount(colours.ravel())).tolist()) - {0}
    if present not in COLOURS:
        raise DataError(
            f"{path}: the colours {sorted(present)} in one image have no known meaning; download "
            "it again."
        )
    table = np.zeros(256, np.uint8)
    for colour, label in COLOURS[present].items():
        table[colour] = label
    return table[colours]
