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
    source: Path,
    goal: Path,
    limit: int,
    is_wanted: Callable[[str], bool] = is_content,
    remedy: str = "unpack it and name the folder",
) -> None:
    """Extract the wanted entries into a folder, never more of one than its header states.

    Args:
        source: The archive.
        goal: Folder, which must exist.
        limit: Bytes that all of them may have together.
        is_wanted: Tells it from an entry's name.
        remedy: What to do about a larger archive, for the message.
    """
    with zipfile.ZipFile(source) as opened:
        entries = [entry for entry in opened.infolist() if is_wanted(entry.filename)]
        if sum(entry.file_size for entry in entries) > limit or len(entries) > MOST_FILES:
            raise DataError(
                f"{source}: holds more than the {limit:,} bytes or {MOST_FILES:,} files that it "
                f"may; {remedy}."
            )
        opened.extractall(goal, entries)  # drops drives, leading slashes and ".."
