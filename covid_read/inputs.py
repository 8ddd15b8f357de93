"""What a user names becomes files: folders are walked, archives unpacked, kinds seen by content."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from covid_utils.data import guard
from covid_utils.data.readers.decoding import NIFTI_SUFFIXES, RASTER_SUFFIXES
from covid_utils.errors import DataError

#: Most bytes that an archive may hold: 40 CT volumes of 500 slices. Above the second number it may
#: hold at most the third number times its own size, which no archive of scans exceeds.
LARGEST_ARCHIVE, LARGE_ARCHIVE, PACKED = 10 * 2**30, 2**30, 50
ARCHIVE, DICOM, NIFTI, PICTURE, OTHER = "archive", "DICOM", "NIfTI", "picture", "other"
_ARCHIVE_BEGINNING = b"PK\x03\x04"


class File(NamedTuple):
    """A file as it is read, and what its user calls it: a path from the folder that was named."""

    path: Path
    name: str


class Refusal(NamedTuple):
    """Files that give no case, and one sentence that says why."""

    files: tuple[File, ...]
    reason: str

    @classmethod
    def of(cls, error: DataError, *files: File) -> Refusal:
        """What an error means for some files, which its sentence names as their user does."""
        text = str(error)
        for folder, name in {file.path.parent: file.name for file in files}.items():
            named = name.rpartition("/")[0]
            text = text.replace(f"{folder}/", f"{named}/" if named else "")
        return cls(files, guard.CONTROL.sub(" ", text))


def kind(path: Path) -> str:
    """What a file is, by its beginning or, if that says nothing, by the ending of its name."""
    with path.open("rb") as opened:
        start = opened.read(132)
    name = path.name.lower()
    if start.startswith(_ARCHIVE_BEGINNING):
        return ARCHIVE
    if start[128:] == guard.DICOM or name.endswith(".dcm"):
        return DICOM
    if name.endswith(NIFTI_SUFFIXES):
        return NIFTI
    is_picture = start.startswith(guard.BEGINNINGS) or name.endswith(RASTER_SUFFIXES)
    return PICTURE if is_picture else OTHER


def groups(inputs: Sequence[Path], without: Path) -> Iterator[dict[File, str] | Refusal]:
    """Files with their kinds: first all that are not archives, then those of each archive in turn.

    Args:
        inputs: Files, folders and ZIP archives, as their user names them.
        without: A folder that is left out: results of an earlier run may lie among the inputs.

    Yields:
        Files that may belong together, which are there until the next are asked for; or files
        that cannot be opened.
    """
    given: dict[Path, File] = {}
    for path in inputs:
        try:
            given |= {file.path.absolute(): file for file in _given(path, without)}
        except DataError as error:
            yield Refusal.of(error, File(path, path.name or str(path)))
    kinds: dict[File, str] = {}
    for file in given.values():
        try:
            kinds[file] = guard.read(file.path, "file", kind)
        except DataError as error:
            yield Refusal.of(error, file)
    yield {file: kind for file, kind in kinds.items() if kind != ARCHIVE}
    for file in (file for file, kind in kinds.items() if kind == ARCHIVE):
        with tempfile.TemporaryDirectory(prefix="covid-read-") as folder:
            try:
                yield _unpacked(file.path, Path(folder), file.name)
            except DataError as error:
                yield Refusal.of(error, file)


def _given(path: Path, without: Path) -> list[File]:
    """The files of a path that its user named."""
    if not path.is_dir() and not path.is_symlink() and not path.exists():
        raise DataError(f"{path}: no such file or folder; correct its name.")
    found = _listed(path, path.name, without)
    if not found:
        raise DataError(f"{path}: holds no files; name a folder with scans.")
    return found


def _listed(path: Path, name: str, without: Path | None = None) -> list[File]:
    """A file itself, or the files of a folder; hidden ones are left out."""
    if not path.is_dir():
        return [File(path, name)]
    return [
        File(file, f"{name}/{file.relative_to(path).as_posix()}".removeprefix("/"))
        for file in guard.files(path, ("",), deep=True)
        if not any(part.startswith(".") for part in file.relative_to(path).parts)
        if without is None or not file.resolve().is_relative_to(without.resolve())
    ]


@guard.reads("ZIP archive")
def _unpacked(path: Path, folder: Path, name: str) -> dict[File, str]:
    likely = max(LARGE_ARCHIVE, PACKED * path.stat().st_size)
    guard.extract(path, folder, min(LARGEST_ARCHIVE, likely))
    kinds = {file: kind(file.path) for file in _listed(folder, name)}
    if not kinds:
        raise DataError(f"{path}: holds no files; remove it from the input.")
    return kinds
