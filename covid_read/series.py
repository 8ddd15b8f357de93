"""DICOM files become stacks of slices: by series, by position, in one geometry, or with a warning.

Only tags that describe the image and where it lies are read; none tells who the patient is.
"""

from __future__ import annotations

import filecmp
import zlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from covid_utils.data import guard
from covid_utils.data.readers.decoding import read_dicom_header
from covid_utils.errors import DataError

#: Modalities that are read, and what the manifest calls them.
MODALITIES = {"CT": "CT", "CR": "X-ray", "DX": "X-ray", "RG": "X-ray"}
#: Largest angle in degrees between the steps from slice to slice and the normal of the slices that
#: is attributable to rounding; a larger one is gantry tilt.
TILT = 0.5
#: How far a slice may lie from where even steps put it, as a share of a step.
UNEVEN = 0.05
#: Digits of a position in mm, and of directions and spacings, that tell two apart.
POSITION, DIRECTION = 2, 3
#: Bytes of a file up to its description, whose length they hold; and most bytes that a deflated
#: file may become.
META, LARGEST_DEFLATED = 144, 2**29
_NUMBERS = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
_REFERRED = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_TAGS = ("SOPClassUID", "Modality", "ImageType", "InstanceNumber", "Rows", "Columns")
_TAGS += ("SliceThickness", "RescaleIntercept", *_NUMBERS, *_REFERRED)


@dataclass(frozen=True)
class Slice:
    """One DICOM image, of which no pixel has been read; positions and lengths are in mm.

    Attributes:
        path: The file.
        uid: Its own, '' if it has none.
        series: What it shares with the slices that it can be stacked with.
        modality: One of the values of `MODALITIES`.
        number: Among the images of its series.
        position: Of the centre of its first pixel (3,), towards left, back and head; empty if not
            stated.
        axes: Directions along its rows and along its columns (2, 3); empty likewise.
        spacing: Of rows and of columns (2,); empty likewise.
        thickness: nan if not known.
        is_referable: Whether it has all that a DICOM SEG refers to.
    """

    path: Path
    uid: str
    series: tuple
    modality: str
    number: int
    position: np.ndarray
    axes: np.ndarray
    spacing: np.ndarray
    thickness: float
    is_referable: bool

    @property
    def is_placed(self) -> bool:
        """Whether it states its position."""
        return bool(self.position.size and self.axes.size and self.spacing.size)

    @property
    def normal(self) -> np.ndarray:
        """Direction across the slice that leads towards the head."""
        across = np.cross(*self.axes)
        return across if across[2] >= 0 else -across

    @property
    def height(self) -> float:
        """Where it lies along its normal."""
        return float(self.position @ self.normal)


@dataclass(frozen=True)
class Stack:
    """Slices from the feet to the head.

    Attributes:
        slices: In order.
        affine: From stored voxels (column, row, slice) to mm towards right, front and head (4, 4);
            None if the slices do not state their positions.
        is_even: Whether the matrix holds for every slice, since none is missing.
        warnings: What a reader of the result must know.
    """

    slices: list[Slice]
    affine: np.ndarray | None
    is_even: bool = True
    warnings: tuple[str, ...] = ()


@guard.reads("DICOM file")
def open_slice(path: Path) -> Slice:
    """Read the header of a DICOM file; anything but a CT slice or an X-ray is refused."""
    _assert_inflates(path)
    header = read_dicom_header(path, _TAGS)
    modality = MODALITIES.get(str(header.get("Modality", "")))
    if not modality or not header.get("Rows"):
        raise DataError(f"{path}: its tags say neither CT nor X-ray; remove it from the input.")
    if modality == "CT" and "LOCALIZER" in (header.get("ImageType") or ()):
        raise DataError(
            f"{path}: a localizer, which shows the whole chest at once; remove it from the input."
        )
    position, axes, spacing = (_numbers(header, *each) for each in _NUMBERS.items())
    series = (
        str(header.get("SeriesInstanceUID") or path.parent),
        modality,
        int(header.get("Rows")),
        int(header.get("Columns") or 0),
        header.get("RescaleIntercept") in (None, ""),
        tuple(np.round(axes, DIRECTION)),
        tuple(np.round(spacing, DIRECTION)),
    )
    number, thickness = (_numbers(header, name, 1) for name in ("InstanceNumber", "SliceThickness"))
    return Slice(
        path,
        str(header.get("SOPInstanceUID") or ""),
        series,
        modality,
        int(number[0]) if number.size else 0,
        position,
        axes.reshape(-1, 3),
        spacing,
        float(thickness[0]) if thickness.size else np.nan,
        all(header.get(name) for name in _REFERRED),
    )


def _assert_inflates(path: Path) -> None:
    """Refuse a deflated file that would fill the memory, since pydicom inflates one at once."""
    from pydicom.filereader import read_file_meta_info
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    about = read_file_meta_info(path)
    if about.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    inflater, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    rest = path.read_bytes()[META + about.FileMetaInformationGroupLength :]
    while rest:
        total += len(inflater.decompress(rest, 2**20))
        if total > LARGEST_DEFLATED:
            raise DataError(f"{path}: inflates to more than one image; save it uncompressed.")
        rest = inflater.unconsumed_tail


def _numbers(header: Any, name: str, count: int) -> np.ndarray:
    """The finite numbers of a tag; empty if their count is wrong or they are not a geometry."""
    try:
        found = np.atleast_1d(np.array(header.get(name), np.float64))
    except (TypeError, ValueError):
        return np.empty(0)
    is_known = found.shape == (count,) and np.isfinite(found).all()
    if is_known and name == "ImageOrientationPatient":
        rows, columns = found.reshape(2, 3)
        gram = np.array([rows @ rows, columns @ columns, rows @ columns])
        is_known = np.allclose(gram, (1, 1, 0), atol=0.01)
    elif is_known and name in ("PixelSpacing", "SliceThickness"):
        is_known = (found > 0).all()
    return found if is_known else np.empty(0)


def stacks(slices: Iterable[Slice]) -> tuple[list[Stack], dict[Path, str]]:
    """Slices sorted into stacks, and why further copies of one belong to none."""
    groups: dict[tuple, list[Slice]] = defaultdict(list)
    copies: dict[Path, str] = {}
    first: dict[str, Path] = {}
    for each in slices:
        original = first.setdefault(each.uid or str(each.path), each.path)
        if original != each.path and filecmp.cmp(original, each.path, shallow=False):
            copies[each.path] = f"a copy of {original.name}, which is read."
        elif each.modality == "CT":
            groups[each.series].append(each)
        else:
            groups[(each.path,)].append(each)  # every X-ray is an image of its own
    return [stack for group in groups.values() for stack in _in_order(group)], copies


def _in_order(group: list[Slice]) -> list[Stack]:
    """Stacks of a series: more than one where it shows the same position again."""
    ordered = sorted(group, key=lambda each: (each.number, each.path))
    if group[0].modality != "CT" or not all(each.is_placed for each in group):
        reason = "The slices do not state their positions, so they are sorted by their numbers."
        return [Stack(ordered, None, is_even=False, warnings=(reason,) * (len(group) > 1))]
    at_height: dict[float, list[Slice]] = defaultdict(list)
    for each in ordered:
        at_height[round(each.height, POSITION)].append(each)
    passes = [[*filter(None, each)] for each in zip_longest(*at_height.values())]
    said = (f"Its series shows a position {len(passes)} times; each pass is a case of its own.",)
    said *= len(passes) > 1
    return [_placed(sorted(part, key=lambda each: each.height), said) for part in passes]


def _placed(slices: list[Slice], said: tuple[str, ...]) -> Stack:
    """A stack of slices that are in order and state their positions."""
    first, count = slices[0], len(slices)
    if count == 1:
        is_known = np.isfinite(first.thickness)
        step = first.normal * (first.thickness if is_known else 1)
        unknown = "The slice states no thickness, so volumes cannot be computed."
        said += () if is_known else (unknown,)
        return Stack(slices, _affine(first, step), bool(is_known), said)
    positions = np.array([each.position for each in slices])
    step = (positions[-1] - positions[0]) / (count - 1)
    gaps = np.diff(positions @ first.normal)
    usual = float(np.median(gaps))
    strays = positions - positions[0] - np.arange(count)[:, None] * step
    is_even = np.linalg.norm(strays, axis=1).max() <= UNEVEN * usual
    if not is_even:
        missing = int((np.rint(gaps / usual) - 1).clip(0).sum())
        what = "1 slice is missing" if missing == 1 else f"{missing} slices are missing"
        what = what if missing else "the slices are not evenly spaced"
        said += (
            f"Judging by the positions, {what} (gaps of {gaps.min():.2f} to {gaps.max():.2f} mm), "
            "so volumes cannot be computed and no NIfTI mask is written.",
        )
    tilt = degrees(step, first.normal)
    if tilt > TILT:
        said += (f"The gantry was tilted by {tilt:.1f} degrees, so the slices lie staggered.",)
    return Stack(slices, _affine(first, step), bool(is_even), said)


def degrees(one: np.ndarray, other: np.ndarray) -> float:
    """Angle between two directions."""
    cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _affine(first: Slice, step: np.ndarray) -> np.ndarray:
    affine = np.eye(4)
    along_row, along_column = first.axes * first.spacing[::-1, None]
    affine[:3] = np.column_stack([along_row, along_column, step, first.position])
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
