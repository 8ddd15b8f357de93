"""What stops a download, in words: the disk, the permissions, the network."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from covid_utils.errors import DataError

_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "your disk quota is used up; free some space",
    errno.EACCES: "no permission to write here; choose another folder with --to",
    errno.EPERM: "no permission to write here; choose another folder with --to",
    errno.EROFS: "this disk is read-only; choose another folder with --to",
    errno.ENOTDIR: "a file is where a folder is needed; choose another folder with --to",
    errno.EEXIST: "a file is where a folder is needed; choose another folder with --to",
}


class BlockedError(DataError):
    """Nothing more can be fetched, because the next file would meet the same obstacle."""


class StoppedError(DataError):
    """The download was told to stop."""


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an error of the file system into one sentence that says what to do.

    Args:
        path: The file or folder to name.

    Raises:
        BlockedError: The disk is full, or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno, f"{error.strerror or error}; see to it")
        raise BlockedError(f"{path}: {remedy} and run again; what was fetched is kept.") from error
