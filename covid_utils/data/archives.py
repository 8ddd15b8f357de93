"""ZIP archives become folders: nothing lands outside, and nothing fills the disk."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from covid_utils.errors import DataError

#: Most files of an archive: 100 CT volumes of 1,000 slices.
MOST_FILES = 100_000


def is_content(name: str) -> bool:
    """Whether an entry is more than what a system notes beside the files."""
    path = PurePosixPath(name)
    is_note = path.name.startswith("._") or path.name == ".DS_Store"
    return not is_note and "__MACOSX" not in path.parts


def extract(
    source: Path, goal: Path, limit: int, is_wanted: Callable[[str], bool] = is_content
) -> None:
    """Extract entries with the wanted names into a folder, never more than their headers state.

    All of them together may have ``limit`` bytes.
    """
    with zipfile.ZipFile(source) as opened:
        entries = [entry for entry in opened.infolist() if is_wanted(entry.filename)]
        if sum(entry.file_size for entry in entries) > limit or len(entries) > MOST_FILES:
            raise DataError(
                f"{source}: holds more than the {limit:,} bytes or {MOST_FILES:,} files that it "
                "may; delete it and get it from its publisher, or unpack it and name the folder."
            )
        opened.extractall(goal, entries)  # drops drives, leading slashes and ".."
