"""Reader of the COVID-19 CT Segmentation data set: axial slices in one NIfTI file (CC0).

Layout: ``medseg / tr_im.nii.gz, tr_mask.nii.gz`` and, where they are, ``slices.csv``, a study of
the label quality, and ``published_predictions.npz``, the segmentations that the authors of the
paper published. Slices lie on the last axis and each is stored transposed. Labels: 0 background,
1 ground-glass, 2 consolidation, 3 pleural effusion.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from covid_utils.data import guard
from covid_utils.data.gray_scale import KNOWN
from covid_utils.data.readers.build import Source
from covid_utils.data.readers.decoding import open_nifti
from covid_utils.data.readers.gray import is_hounsfield, to_uint8, window_of
from covid_utils.errors import DataError

NAME = "medseg"
ABOUT = {"modality": "CT", "view": "Axial", "label": "covid", "licence": "CC0"}
IMAGES, MASKS = "tr_im.nii.gz", "tr_mask.nii.gz"
SLICES, PUBLISHED = "slices.csv", "published_predictions.npz"
#: Labels of the published colours 1 red, 2 green, 3 olive, 4 navy, by the colours of an image.
#: The gray values of the labels were stretched to 255 in each image, so red is the highest label
#: there: navy is half of it (1 of 2), green a third and olive two thirds (1 and 2 of 3). Where the
#: prediction lacks a colour, those that it has still tell the scale. Red alone is read as
#: ground-glass, as it is on all slices but one (slice 22, a single small consolidation).
COLOURS = {
    frozenset(): {},
    frozenset({1}): {1: 1},
    frozenset({4}): {4: 1},
    frozenset({1, 4}): {4: 1, 1: 2},
    frozenset({1, 2}): {2: 1, 1: 3},
    frozenset({1, 2, 3}): {2: 1, 3: 2, 1: 3},
}


class PublishedMasks(NamedTuple):
    """The segmentations that the authors published, N = 270 of 100 slices; 2 to 4 share a slice."""

    image_id: np.ndarray  # str (N,), as in the manifest
    labels: np.ndarray  # uint8 (N, height, width), like `load_mask`


def _image_id(frame: int) -> str:
    return f"{NAME}/{IMAGES}#{frame:03d}"


@guard.reads("NIfTI file", keep=2)
def _volume(path: Path) -> tuple[np.ndarray, str]:
    """Whole file (columns, rows, slices), images as uint8; and what tells their gray scale."""
    voxels = np.asanyarray(open_nifti(path).dataobj)
    if path.name != IMAGES:
        return voxels, ""
    window = window_of(voxels, path)
    return to_uint8(voxels, *window), KNOWN if is_hounsfield(window) else ""


def load_image(path: Path, frame: int) -> np.ndarray:
    """Slice of images or masks, upright (height, width), the front of the chest on top."""
    return np.ascontiguousarray(_volume(path)[0][:, :, frame].T)


def load_mask(root: Path, row: Any) -> np.ndarray:
    """Labels of a slice (height, width), turned like its image, in the file's number type."""
    return load_image(root / row.mask_path, int(row.frame))


def candidates(root: Path, problems: guard.Problems) -> list[dict]:
    """One image per slice; without the column ``patient`` of ``slices.csv`` each is a group."""
    images, masks = root / NAME / IMAGES, root / NAME / MASKS
    theirs, ours = (guard.read(path, "NIfTI file", open_nifti) for path in (images, masks))
    near = {"atol": 1e-3, "equal_nan": True}
    if ours.shape != theirs.shape or not np.allclose(ours.affine, theirs.affine, **near):
        raise DataError(
            f"{masks}: its voxels, {ours.shape}, do not lie on those of {IMAGES}, {theirs.shape} "
            "(width, height, slices); take both from the same release."
        )
    _volume(masks)  # a damaged file is known before anything is trained
    notes = _notes(root)
    patients = notes.get("patient", pd.Series("", notes.index)).str.strip()
    return [
        {
            "path": images,
            "frame": frame,
            "patient_id": f"{NAME}/{patient or f'slice-{frame:03d}'}",
            "patient_basis": "given" if patient else "none",
            "mask_path": masks,
            "label_quality": quality,
            "gray": _volume(images)[1],
        }
        for frame, (patient, quality) in enumerate(zip(patients, notes["labels"], strict=True))
    ]


def _notes(root: Path) -> pd.DataFrame:
    """``slices.csv`` by slice number; without one, every slice has exact labels."""
    path, count = root / NAME / SLICES, _volume(root / NAME / IMAGES)[0].shape[2]
    if not path.is_file():
        return pd.DataFrame({"labels": "exact"}, index=range(count))
    table = guard.table(path, ("slice", "labels", "infnet_subset"))
    table = table.set_index(pd.to_numeric(table["slice"], errors="coerce")).sort_index()
    is_known = table["labels"].isin(("exact", "weak"))
    is_known &= table["infnet_subset"].isin(("train", "test", ""))
    if table.index.tolist() != list(range(count)) or not is_known.all():
        raise DataError(
            f"{path}: must have one line for each slice, 0 to {count - 1}, with labels exact or "
            "weak and infnet_subset train, test or empty; correct it."
        )
    return table


def infnet_subset(root: Path) -> dict[str, str]:
    """Subset of each ``image_id`` in the Inf-Net benchmark (Fan et al. 2020), '' if unused."""
    has_notes = (root / NAME / SLICES).is_file()
    return _notes(root)["infnet_subset"].rename(_image_id).to_dict() if has_notes else {}


def published_predictions(root: Path) -> PublishedMasks | None:
    """The published segmentations in the coding of the data set; None where there is no file.

    The files number their colours anew in each image, see `COLOURS`. Nothing is resampled.
    """
    path = root / NAME / PUBLISHED
    if not path.is_file():
        return None
    frames, labels = _published(path)
    width, height, count = _volume(root / NAME / MASKS)[0].shape
    if labels.shape != (len(frames), height, width) or not set(frames) <= set(range(count)):
        raise DataError(f"{path}: does not fit the slices in {MASKS}; take both from one release.")
    return PublishedMasks(np.array([_image_id(frame) for frame in frames]), labels)


@guard.reads("file of published segmentations")
def _published(path: Path) -> tuple[list[int], np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        frames, images = arrays["slice"].ravel().tolist(), arrays["index"]
    labels = np.zeros_like(images)
    for image, target in zip(images, labels, strict=True):
        for colour, label in COLOURS[frozenset(np.unique(image).tolist()) - {0}].items():
            target[image == colour] = label
    return frames, labels


SOURCE = Source(NAME, ABOUT, candidates, load_image, load_mask)
