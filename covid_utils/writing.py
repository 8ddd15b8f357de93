"""Files and folders that are written whole or not at all, and the hash of a file."""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import psutil


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Write a file under a temporary name beside it; it gets its own when the block ends well.

    Its folder is made, and an older file is replaced. What to write to keeps the ending of the
    name, which some writers go by.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Processes and threads that write the same file at once must not share it.
    partial = path.with_name(f".partial-{os.getpid()}-{threading.get_ident()}-{path.name}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path, lock: AbstractContextManager | None = None) -> Iterator[Path]:
    """Write to an empty folder beside this one, which it replaces when the block ends well.

    A ``lock`` is held while it does.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    old = path.with_name(f".{path.name}.old")
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        owner = int(leftover.name.split(".")[-2])
        if owner == os.getpid() or not psutil.pid_exists(owner):  # a killed process left it
            shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        with lock or nullcontext():
            if path.exists():  # else a process was killed here, and the older one is all there is
                shutil.rmtree(old, ignore_errors=True)
                path.rename(old)
            partial.rename(path)
            shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
