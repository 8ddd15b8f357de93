"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Write a file under a temporary name beside it; it gets its own when the block ends well.

    Args:
        path: The file wanted; its folder is made, an older file is replaced.

    Yields:
        Where to write. The name keeps its ending, which some writers go by.
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
def whole_folder(path: Path) -> Iterator[Path]:
    """Write a folder under a temporary name beside it; it replaces an older one when all is there.

    Args:
        path: The folder wanted.

    Yields:
        An empty folder to write to.
    """
    partial = path.with_name(f".partial-{os.getpid()}-{threading.get_ident()}-{path.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(path, ignore_errors=True)
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
