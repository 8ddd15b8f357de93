"""The progress bar of a data set, and the room that is left on the disk."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from covid_utils.data.download.failures import BlockedError


class Progress:
    """One bar of bytes for all files of a set, on standard error if that is a terminal.

    Args:
        name: What is fetched.
        is_shown: Show the bar; None for where standard error is a terminal.
    """

    def __init__(self, name: str, is_shown: bool | None = None) -> None:
        is_shown = sys.stderr.isatty() if is_shown is None else is_shown
        self._lock = threading.Lock()
        self._bar = tqdm(
            desc=f"  {name}",
            total=0,
            unit="B",
            unit_scale=True,
            disable=not is_shown,
            leave=False,
            file=sys.stderr,
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def account(self, size: int | None) -> Callable[[int, int | None], None]:
        """Open an account for a file.

        Args:
            size: Its bytes if they are known beforehand.

        Returns:
            To be called with the bytes that are there and the bytes in all (None if unknown); the
            bytes that are there may become fewer when a file starts anew.
        """
        state = {"position": 0, "total": 0}
        self._change(state, 0, size)
        return lambda position, total: self._change(state, position, total)

    def _change(self, state: dict[str, int], position: int, total: int | None) -> None:
        with self._lock:
            if total is not None:
                self._bar.total = (self._bar.total or 0) + total - state["total"]
                state["total"] = total
            self._bar.update(position - state["position"])
            state["position"] = position


def free_space(folder: Path, needed: int) -> None:
    """Make sure that a folder's disk has room.

    Args:
        folder: An existing folder.
        needed: Bytes to be written.

    Raises:
        BlockedError: There is less.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise BlockedError(
            f"{folder}: {needed / 1e9:.2f} GB are needed and {free / 1e9:.2f} GB are free; free "
            "some space or choose another folder with --to, and run again."
        )
