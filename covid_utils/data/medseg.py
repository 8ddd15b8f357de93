"""Reader of the COVID-19 CT Segmentation data set: axial slices in one NIfTI file (CC0).

Layout: ``medseg / tr_im.nii.gz, tr_mask.nii.gz``; with the published download comes
``Test-Images-Clinical-Details.csv``, which ties slices to cases, and where a study of the label
quality has been made, there is a ``slices.csv``. Slices lie on the last axis and each is stored
transposed. Labels: 0 background, 1 ground-glass, 2 consolidation, 3 pleural effusion.

``published_predictions.npz`` holds the segmentations that the authors of the paper published, each
turned back onto the slice that it shows.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd

from covid_utils.data.files import read_table
from covid_utils.data.manifest import Problem, Reading, build
from covid_utils.data.volumes import ct_to_uint8, missing_slice, read_voxels
from covid_utils.errors import DataError

NAME = "medseg"
FOLDER = "medseg"
IMAGES = "tr_im.nii.gz"
MASKS = "tr_mask.nii.gz"
SLICES = "slices.csv"
CASES = "Test-Images-Clinical-Details.csv"
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
#: Words of a heading that name the slice, and the case that it is of.
SLICE_WORDS = ("slice", "image", "index", "number", "no")
CASE_WORDS = ("patient", "case", "subject")

_decoding = Lock()


@lru_cache(maxsize=2)
def _decode(path: Path, changed: int, is_image: bool) -> np.ndarray:
    voxels = read_voxels(path)
    return ct_to_uint8(voxels) if is_image else voxels


def _volume(path: Path, is_image: bool) -> np.ndarray:
    """Whole file (columns, rows, slices), decoded once however many threads ask for slices."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; unpack the data set whole.")
    with _decoding:
        return _decode(path, path.stat().st_mtime_ns, is_image)


def _slice(volume: np.ndarray, path: Path, frame: int) -> np.ndarray:
    if not 0 <= frame < volume.shape[2]:
        raise missing_slice(path, frame, volume.shape[2])
    return np.ascontiguousarray(volume[:, :, frame].T)


def load_image(path: Path, frame: int) -> np.ndarray:
    """Slice of the images, upright: the front of the chest on top.

    Args:
        path: The NIfTI file.
        frame: Slice, from 0.

    Returns:
        uint8 image (height, width).

    Raises:
        DataError: The file is damaged or has no such slice.
    """
    return _slice(_volume(path, is_image=True), path, frame)


def load_mask(root: Path, row: Any) -> np.ndarray:
    """Labels of a slice, turned like its image.

    Args:
        root: Data folder.
        row: Row of the manifest.

    Returns:
        Labels (height, width) in the number type of the file.

    Raises:
        DataError: The file is damaged or has no such slice.
    """
    path = root / row.mask_path
    return _slice(_volume(path, is_image=False), path, int(row.frame))


def read(root: Path) -> Reading:
    """Read the data set.

    Patients are those of the column ``patient`` of ``slices.csv``, else the cases of
    ``Test-Images-Clinical-Details.csv``. Without either every slice is its own group, and
    ``patient_basis`` is ``none``. A table of cases that cannot be tied to the slices is a problem
    in the reading, and not used.

    Args:
        root: Data folder that contains ``medseg``.

    Returns:
        One row a slice, label ``covid``; ``label_quality`` from ``slices.csv``, else ``exact``.

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
    if notes is not None and notes.index.tolist() != list(range(shape[2])):
        raise DataError(
            f"{root / FOLDER / SLICES}: the column slice must count from 0 to {shape[2] - 1}, one "
            f"line for each slice of {IMAGES}; take the files from the same release."
        )
    cases, problems = _cases(root, shape[2])
    if notes is not None and "patient" in notes:
        cases = notes["patient"].str.strip().to_dict()
    candidates = [_candidate(frame, notes, cases.get(frame, "")) for frame in range(shape[2])]
    return build(root, NAME, candidates, load_image, problems)


def _cases(root: Path, count: int) -> tuple[dict[int, str], list[Problem]]:
    """Case of each slice, from the published table; nothing where it is missing or unclear."""
    path = root / FOLDER / CASES
    if not path.is_file():
        return {}, []
    try:
        table = read_table(path, ())
    except DataError as error:
        return {}, [Problem(NAME, f"{FOLDER}/{CASES}", "no cases", f"{error} Not used.")]
    slices, cases = (_column(table, words) for words in (SLICE_WORDS, CASE_WORDS))
    numbers = pd.Series(range(len(table))) if slices is None else pd.to_numeric(slices, "coerce")
    numbers = numbers - numbers.min()  # counted from 0 or from 1
    if cases is None or (cases.str.strip() == "").any() or numbers.tolist() != list(range(count)):
        remedy = (
            f"It needs one line for each of the {count} slices in order, and a column whose "
            f"heading contains {' or '.join(CASE_WORDS)}. Groups of near copies stand in."
        )
        return {}, [Problem(NAME, f"{FOLDER}/{CASES}", "no cases", remedy)]
    return dict(enumerate("case-" + cases.str.strip())), []


def _column(table: pd.DataFrame, words: tuple[str, ...]) -> pd.Series | None:
    """The first column with one of the words in its heading."""
    headings = {name: re.findall(r"[a-z]+", name.lower()) for name in table.columns}
    for word in words:
        for name, parts in headings.items():
            if any(part in (word, f"{word}s") for part in parts):
                return table[name]
    return None


def _candidate(frame: int, notes: pd.DataFrame | None, case: str) -> dict:
    patient = case or f"slice-{frame:03d}"
    return {
        "path": f"{FOLDER}/{IMAGES}",
        "frame": frame,
        "is_slice": True,
        "patient_id": f"{NAME}/{patient}",
        "patient_basis": "given" if case else "none",
        "modality": "CT",
        "view": "Axial",
        "label": "covid",
        "mask_path": f"{FOLDER}/{MASKS}",
        "label_quality": "exact" if notes is None else notes.at[frame, "labels"],
        "licence": "CC0",
    }


def _notes(root: Path) -> pd.DataFrame | None:
    """``slices.csv`` by slice number, or None where there is none."""
    path = root / FOLDER / SLICES
    if not path.is_file():
        return None
    table = read_table(path, ("slice", "labels", "infnet_subset"))
    for column, allowed in (
        ("labels", {"exact", "weak"}),
        ("infnet_subset", {"train", "test", ""}),
    ):
        strange = sorted(set(table[column]) - allowed)
        if strange:
            raise DataError(f"{path}: {column} {strange} not among {sorted(allowed)}; correct it.")
    numbers = pd.to_numeric(table["slice"], errors="coerce")
    return table.set_index(numbers).sort_index()


def infnet_subset(root: Path) -> dict[str, str]:
    """Subset of the Inf-Net benchmark (Fan et al. 2020) that each slice belongs to.

    Args:
        root: Data folder that contains ``medseg``.

    Returns:
        ``image_id`` to ``train``, ``test`` or '' (unused); empty where there is no ``slices.csv``.

    Raises:
        DataError: ``slices.csv`` is damaged.
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
    """The published segmentations in the coding of the data set.

    The published files number their colours anew in each image; see `COLOURS`. That reading is
    borne out by the masks: in the images of red alone, of navy with red, and of green, olive and
    red, each colour covers the lesion that it stands for here more often than any other lesion.
    Red alone could in principle be any one label: it is ground-glass on all slices but one (the
    three copies of slice 22, which has a single small consolidation), and is read as that.
    The masks have the size of the slices, so nothing is resampled before they are compared. A slice
    has two to four copies, which count as often in a mean over the N.

    Args:
        root: Data folder that contains ``medseg``.

    Returns:
        The masks, or None where there is no ``published_predictions.npz``.

    Raises:
        DataError: The file is damaged, does not fit the slices, or has colours of no known meaning.
    """
    path = root / FOLDER / PUBLISHED
    if not path.is_file():
        return None
    colours, frames = _published(path)
    width, height, count = _volume(root / FOLDER / MASKS, is_image=False).shape
    is_whole = colours.dtype == np.uint8 and colours.shape == (len(frames), height, width)
    if not is_whole or not ((frames >= 0) & (frames < count)).all():
        raise DataError(f"{path}: does not fit the slices in {MASKS}; take both from one release.")
    labels = np.stack([_labels(image, path) for image in colours])
    image_id = np.array([f"{FOLDER}/{IMAGES}#{frame:03d}" for frame in frames])
    return PublishedMasks(image_id, frames, labels)


def _published(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Colour indices (N, height, width) and slices int64 (N,) as they are in the file."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays["index"], arrays["slice"].astype(np.int64).ravel()
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path}: no file of published segmentations; download it again."
        ) from error


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
