"""Files become cases: what is outlined as one, slice by slice as the readers of data sets do it.

A case holds no more than a picture, or the stored voxels of a NIfTI file; slices of a series are
read when they are asked for.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from nibabel.orientations import apply_orientation, ornt_transform
from PIL import Image

from covid_read import doubts, inputs, series
from covid_read.inputs import File, Refusal
from covid_utils.data import gray_scale, guard, lung_field
from covid_utils.data.readers import decoding, gray
from covid_utils.errors import DataError

#: Axes that run to the right, front and head, as nibabel codes them.
RIGHT_FRONT_HEAD = np.array([[0, 1], [1, 1], [2, 1]])
#: Fewest pixels of a slice along each side.
LEAST = 32
#: The gray scale of a volume is inferred from this many slices, subsampled by this stride.
TOLD_BY, STRIDE = 16, 4
#: Angle in degrees between the slices and the axial plane from which they look unlike axial ones.
OBLIQUE = 20
#: A picture is in colour if in this share of it channels differ by more than this in gray value.
COLOURED, DIFFERENT = 0.1, 40
#: Kinds of files that are not read, and why.
UNREAD = {inputs.ARCHIVE: "an archive in an archive; unpack it."}
UNREAD[inputs.OTHER] = "not a PNG, JPEG, TIFF, DICOM or NIfTI file; remove it from the input."
#: Where the gray scale of a case is known from.
HOUNSFIELD, ANATOMY, NOTHING = "Hounsfield units", "anatomy", "nothing"
INFERRED = (
    "Hounsfield units are not known; the gray scale is inferred from anatomy. If this is no axial "
    "CT slice of the chest, ignore what is said of it; `--xrays` is for X-rays."
)


class Batch(NamedTuple):
    """Some slices of a case, as networks are asked about them.

    Attributes:
        slices: uint8 (n, height, width).
        fields: The lung field in each, bool (n, height, width).
        scales: What brings each to the canonical window, as `images.preprocess` takes it, (n,); ''
            of a slice whose anatomy does not show it.
    """

    slices: np.ndarray
    fields: np.ndarray
    scales: np.ndarray


@dataclass(frozen=True)
class Case:
    """A picture, a volume or a stack of slices of one series.

    Attributes:
        name: What its user calls it, from the names of files and folders only.
        files: All that it was made of; of a series in the order of its slices.
        modality: ``CT``, ``X-ray`` or ``unknown``, as the file says.
        shape: Slices, height and width.
        load: One slice by its number, upright, uint8 (height, width). Where Hounsfield units are
            known, a second argument (low, high) names a window that is not the lung's.
        gray_scale: Where it is known from: `HOUNSFIELD`, `ANATOMY` or `NOTHING`; '' of an X-ray.
        oriented: Which stored axis is which (`decoding.orientation`); None of a picture.
        affine: From stored voxels to mm towards right, front and head (4, 4); None if not known.
        is_referable: Whether it is of DICOM slices that a DICOM SEG can refer to.
        warnings: What a reader of the result must know.
    """

    name: str
    files: tuple[File, ...]
    modality: str
    shape: tuple[int, ...]
    load: Callable[..., np.ndarray] = field(repr=False)
    gray_scale: str = ""
    oriented: np.ndarray | None = field(default=None, repr=False)
    affine: np.ndarray | None = field(default=None, repr=False)
    is_referable: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def voxel_ml(self) -> float | None:
        """Volume of a voxel in ml, if it is known."""
        return None if self.affine is None else abs(float(np.linalg.det(self.affine[:3, :3]))) / 1e3

    def slices(self, start: int, stop: int) -> np.ndarray:
        """Some slices, uint8 (slices, height, width).

        Where Hounsfield units are known they are in the lung window, else as the file has them, so
        that `images.preprocess` treats them as it treats the slices of data sets.
        """
        return np.stack([self.load(at) for at in range(start, min(stop, self.shape[0]))])

    def batch(self, start: int, stop: int) -> Batch:
        """The same slices with what networks must know of them."""
        slices = self.slices(start, stop)
        fields = np.stack([lung_field.field(each) for each in slices])
        if self.gray_scale == HOUNSFIELD:
            return Batch(slices, fields, np.full(len(slices), gray_scale.KNOWN))
        found = map(gray_scale.landmarks, slices)
        told = [str(each) if each.confidence >= gray_scale.SURE else "" for each in found]
        return Batch(slices, fields, np.array(told))

    def stored(self, labels: np.ndarray) -> np.ndarray:
        """Labels of all slices in the order of the stored voxels: (columns, rows, slices)."""
        if self.oriented is None:
            return labels.T
        back = ornt_transform(RIGHT_FRONT_HEAD, self.oriented)
        return apply_orientation(labels.T[::-1, ::-1], back)


def cases(paths: Sequence[Path], without: Path) -> Iterator[Case | Refusal]:
    """The cases of files, folders and ZIP archives, one at a time.

    Every file is in exactly one case or refusal, but for hidden ones and those in the folder
    ``without``. A case can be read until the next is asked for.
    """
    for group in inputs.groups(paths, without):
        if isinstance(group, Refusal):
            yield group
            continue
        headers: dict[File, series.Slice] = {}
        for file, kind in group.items():
            try:
                if kind == inputs.DICOM:
                    headers[file] = series.open_slice(file.path)
                elif kind in _READERS:
                    yield _READERS[kind](file.path, file)
                else:
                    raise DataError(f"{file.path}: {UNREAD[kind]}")
            except DataError as error:
                yield Refusal.of(error, file)
        yield from _stacked(headers)


def _stacked(headers: dict[File, series.Slice]) -> Iterator[Case | Refusal]:
    stacks, copies = series.stacks(headers.values())
    names = {file.path: file for file in headers}
    for path, reason in copies.items():
        yield Refusal((names[path],), f"{names[path].name}: {reason}")
    folders = Counter(each.slices[0].path.parent for each in stacks if len(each.slices) > 1)
    for stack in stacks:
        files = tuple(names[each.path] for each in stack.slices)
        others = folders[files[0].path.parent] - 1
        said = (f"Its folder holds {others} more series.",) if others > 0 and len(files) > 1 else ()
        read = _slices if stack.slices[0].modality == "CT" else _xray
        try:
            yield read(files[0].path, files, stack, said + stack.warnings)
        except DataError as error:
            yield Refusal.of(error, *files)


@guard.reads("DICOM series")
def _slices(
    path: Path, files: tuple[File, ...], stack: series.Stack, said: tuple[str, ...]
) -> Case:
    """A case of CT slices; the gray scale of all is inferred from the middle one."""
    name = files[0].name
    if len(files) > 1:
        name = os.path.commonpath([Path(file.name).parent for file in files]) or "series"
    oriented = None if stack.affine is None else decoding.orientation(stack.affine)
    if oriented is not None:
        if oriented[2, 0] != 2:
            raise DataError(f"{path}: not an axial slice; name the series of axial slices.")
        said += _slanted(stack.slices[0].normal)
    middle = len(files) // 2
    window, has_air = decoding.dicom_window(files[middle].path)

    def load(at: int, shown: tuple[float, float] = gray_scale.LUNG_WINDOW) -> np.ndarray:
        plane = decoding.read_dicom(files[at].path, window=gray.stored_window(window, shown))
        return plane if oriented is None else decoding.upright(plane.T[..., None], oriented)[0]

    picture = load(middle)
    shape = _sized(path, (len(files), *picture.shape))
    scale, words = _scaled(window, has_air, picture)
    affine = stack.affine if stack.is_even else None
    is_referable = oriented is not None and all(each.is_referable for each in stack.slices)
    return Case(name, files, "CT", shape, load, scale, oriented, affine, is_referable, said + words)


@guard.reads("DICOM image")
def _xray(path: Path, files: tuple[File, ...], _: series.Stack, said: tuple[str, ...]) -> Case:
    load = partial(decoding.read_dicom, path)
    shape = _sized(path, (1, *load().shape))
    return Case(files[0].name, files, "X-ray", shape, lambda *_: load(), warnings=said)


@guard.reads("picture")
def _picture(path: Path, file: File) -> Case:
    """A case of one PNG, JPEG or TIFF, which does not say what it shows."""
    picture = decoding.read_raster(path)
    shape = _sized(path, (1, *picture.shape))
    scale, words = NOTHING, ()
    with Image.open(path) as opened:
        colours = np.asarray(opened.convert("RGB").resize((64, 64)))
    if (np.ptp(colours, axis=-1) > DIFFERENT).mean() <= COLOURED:
        scale, words = _scaled((0, 255), True, picture)
    return Case(file.name, (file,), "unknown", shape, lambda *_: picture, scale, warnings=words)


@guard.reads("NIfTI file")
def _volume(path: Path, file: File) -> Case:
    """A case of a NIfTI volume or slice; voxels are scaled when they are asked for."""
    volume = decoding.open_nifti(path, fewest=2)
    oriented = decoding.orientation_of(path, volume)
    proxy = volume.dataobj
    # As stored, since scaled voxels would take four times the memory, or more.
    upright = decoding.upright(proxy.get_unscaled().reshape((*volume.shape, 1)[:3]), oriented)
    shape = _sized(path, upright.shape)

    def values(part: np.ndarray) -> np.ndarray:
        return part.astype(np.float32) * np.float32(proxy.slope) + np.float32(proxy.inter)

    some = values(upright[:: -(-shape[0] // TOLD_BY), ::STRIDE, ::STRIDE])
    window = gray.window_of(some, path)

    def load(at: int, shown: tuple[float, float] = gray_scale.LUNG_WINDOW) -> np.ndarray:
        return gray.to_uint8(values(upright[at]), *gray.stored_window(window, shown))

    scale, said = _scaled(window, gray.holds_air(some, window), load(shape[0] // 2))
    said += _slanted(volume.affine[:3, int(np.argmax(oriented[:, 0] == 2))])
    if not (volume.header["sform_code"] or volume.header["qform_code"]):
        said += ("The file does not state its orientation; the usual one is assumed.",)
    modality, affine = "CT" if scale == HOUNSFIELD else "unknown", volume.affine
    return Case(file.name, (file,), modality, shape, load, scale, oriented, affine, False, said)


_READERS = {inputs.PICTURE: _picture, inputs.NIFTI: _volume}


def _sized(path: Path, shape: tuple[int, ...]) -> tuple[int, ...]:
    guard.bounded(path, shape)
    if min(shape[1:]) < LEAST:
        size = " x ".join(map(str, shape[1:]))
        raise DataError(f"{path}: {size} pixels are too few; a scan has at least {LEAST} a side.")
    return tuple(shape)


def _scaled(
    window: tuple[float, float], has_air: bool, picture: np.ndarray
) -> tuple[str, tuple[str, ...]]:
    """Where the gray scale of a case is known from, by its middle slice, and what to say of it."""
    field = lung_field.field(picture)
    if gray.is_hounsfield(window):
        said = "Its Hounsfield units include no air, although those of a chest would."
        return HOUNSFIELD, doubts.of_anatomy(picture, field) if has_air else (said,)
    if doubts.is_inverted(picture):
        return NOTHING, (doubts.INVERTED,)
    if doubts.shows_chest(picture, field):
        return ANATOMY, (INFERRED, *doubts.of_anatomy(picture, field))
    return NOTHING, ()


def _slanted(normal: np.ndarray) -> tuple[str, ...]:
    angle = series.degrees(normal, np.array([0, 0, np.copysign(1, normal[2])]))
    said = f"Its slices are {angle:.0f} degrees off the axial plane; "
    said += "the networks were trained on axial slices only."
    return (said,) if angle > OBLIQUE else ()
