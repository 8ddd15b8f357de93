"""Unpacking of archives from strangers: nothing lands outside the folder, nothing fills the disk.

`zipfile` and `tarfile` trust an archive more or less, depending on Python's version, so each entry
is judged here. What is no plain file or folder, has a name that leads out, or is larger than the
set can be, refuses the whole archive.
"""

from __future__ import annotations

import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from covid_utils.data.download.failures import BlockedError, explained
from covid_utils.errors import DataError

#: More entries than any set has; a million empty files would fill a disk's table of files.
MOST_ENTRIES = 200_000
#: More than any archive of images unpacks to, as a multiple of its own size.
MOST_RATIO = 200

_DRIVE = re.compile(r"^[A-Za-z]:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, RuntimeError, ValueError)


@dataclass(frozen=True)
class _Entry:
    name: str
    size: int
    is_folder: bool
    open: Callable[[], IO[bytes]]


def unpack(
    archive: Path, goal: Path, limit: int, is_wanted: Callable[[str], bool] = lambda name: True
) -> None:
    """Unpack a ZIP or (compressed) TAR archive into a folder that does not exist yet.

    Entries that macOS adds (``__MACOSX``, ``._x``, ``.DS_Store``) are left out. If anything is
    wrong, the folder is removed again.

    Args:
        archive: The archive.
        goal: Folder to make.
        limit: Largest sum of the unpacked files in bytes; nor more than `MOST_RATIO` times the
            archive.
        is_wanted: Says of a name in the archive whether to unpack it.

    Raises:
        DataError: The archive is damaged, no archive, leads out of the folder, holds links or
            devices, or is larger than allowed.
        BlockedError: The disk is full, or the folder cannot be written.
    """
    limit = min(limit, max(MOST_RATIO * archive.stat().st_size, 1 << 20))
    with explained(goal):
        goal.mkdir(parents=True)
    try:
        with _opened(archive) as entries:
            _extract(archive, entries, goal, limit, is_wanted)
    except BaseException:
        shutil.rmtree(goal, ignore_errors=True)
        raise


def safe_path(name: str) -> PurePosixPath | None:
    """Path of a name from an archive or a listing, None if it leads out of its folder.

    Absolute paths, drive letters, ``..`` and control characters lead out; a backslash separates.
    """
    plain = name.replace("\\", "/")
    if plain.startswith("/") or _DRIVE.match(plain) or _CONTROL.search(plain):
        return None
    path = PurePosixPath(plain)
    return None if ".." in path.parts or not path.parts else path


@contextmanager
def _opened(archive: Path) -> Iterator[Iterator[_Entry]]:
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                yield _zip_entries(archive, opened)
        else:
            with tarfile.open(archive) as opened:
                yield _tar_entries(archive, opened)
    except _DAMAGE as error:
        raise DataError(
            f"{archive}: no archive, or damaged ({error}); delete it and run again."
        ) from error


def _zip_entries(archive: Path, opened: zipfile.ZipFile) -> Iterator[_Entry]:
    for info in opened.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _hostile(archive, info.filename, "is a link or a device")
        if info.flag_bits & 1:
            raise _hostile(archive, info.filename, "is encrypted")

        def content(info: zipfile.ZipInfo = info) -> IO[bytes]:
            return opened.open(info)

        yield _Entry(info.filename, info.file_size, info.is_dir(), content)


def _tar_entries(archive: Path, opened: tarfile.TarFile) -> Iterator[_Entry]:
    for info in opened:
        if not (info.isreg() or info.isdir()):
            raise _hostile(archive, info.name, "is a link or a device")

        def content(info: tarfile.TarInfo = info) -> IO[bytes]:
            return opened.extractfile(info)

        yield _Entry(info.name, info.size, info.isdir(), content)


def _extract(
    archive: Path,
    entries: Iterator[_Entry],
    goal: Path,
    limit: int,
    is_wanted: Callable[[str], bool],
) -> None:
    left, free = limit, shutil.disk_usage(goal).free
    for number, entry in enumerate(entries):
        path = safe_path(entry.name)
        if path is None and entry.name.strip("./"):
            raise _hostile(archive, entry.name, "leads out of the folder")
        if path is None or entry.is_folder or _is_clutter(path) or not is_wanted(entry.name):
            continue
        if number >= MOST_ENTRIES or entry.size > left:
            raise _too_large(archive, limit)
        if entry.size > free:
            raise BlockedError(f"{goal.parent}: the disk is full; free some space and run again.")
        written = _write(archive, entry, goal / path, left)
        left, free = left - written, free - written


def _write(archive: Path, entry: _Entry, path: Path, left: int) -> int:
    """Write an entry; what comes out is counted, since the size in the archive may be a lie."""
    written = 0
    if path.exists():
        raise _hostile(archive, entry.name, "is there twice")
    with entry.open() as source, explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as sink:
            while block := source.read(1 << 20):
                written += len(block)
                if written > left:
                    raise _too_large(archive, left)
                sink.write(block)
    return written


def _is_clutter(path: PurePosixPath) -> bool:
    is_hidden = path.name.startswith("._") or path.name == ".DS_Store"
    return is_hidden or "__MACOSX" in path.parts


def _hostile(archive: Path, name: str, reason: str) -> DataError:
    return DataError(
        f"{archive}: not unpacked, because the entry {name!r} {reason}; delete the archive and "
        "get it from its publisher."
    )


def _too_large(archive: Path, limit: int) -> DataError:
    return DataError(
        f"{archive}: not unpacked, because it holds more than the {limit:,} bytes or "
        f"{MOST_ENTRIES:,} files that it may; delete the archive and get it from its publisher."
    )
