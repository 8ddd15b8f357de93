"""The listing of a Git repository at one commit, checked against itself as Git does.

Git names a folder by the SHA-1 of its entries, so names, modes and checksums of everything below a
folder follow from the folder's own checksum. The top folder has none in the listing: that it is the
top folder of the commit is GitHub's word, given over an encrypted connection.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from covid_utils.data.download.unpacking import safe_path
from covid_utils.errors import DataError

#: Modes of plain files; links have 120000 and submodules 160000.
_FILE_MODES = ("100644", "100755", "100664")


@dataclass(frozen=True)
class Blob:
    """A plain file of a repository.

    Attributes:
        path: Path in the repository.
        sha: Git's checksum of its content.
        size: Bytes.
    """

    path: str
    sha: str
    size: int


def blobs(listing: Any, repository: str) -> list[Blob]:
    """Plain files of a recursive listing, as GitHub's ``git/trees/COMMIT?recursive=1`` gives it.

    Args:
        listing: The answer, parsed.
        repository: Name for messages.

    Returns:
        The files in the order of the listing.

    Raises:
        DataError: The listing is cut off, malformed, contradicts itself or has a path that leads
            out of the repository.
    """
    if not isinstance(listing, dict) or not isinstance(listing.get("tree"), list):
        raise DataError(f"{repository}: the answer is no listing of files; run again later.")
    if listing.get("truncated", True):
        raise DataError(
            f"{repository}: the listing of files is cut off; clone the repository with git instead."
        )
    try:
        _check(listing["tree"], repository)
        return [
            Blob(entry["path"], entry["sha"], int(entry["size"]))
            for entry in listing["tree"]
            if entry["type"] == "blob" and entry["mode"] in _FILE_MODES
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _contradiction(repository, f"an entry is malformed ({error!r})") from error


def tree_hash(entries: list[dict[str, str]]) -> str:
    """Git's checksum of a folder.

    Args:
        entries: Its entries with ``mode``, ``type``, ``sha`` and ``path``, whose last part is the
            name.

    Returns:
        40 hexadecimal digits.
    """
    lines = []
    for entry in entries:
        name = entry["path"].rsplit("/", 1)[-1].encode("utf8")
        # Git sorts a folder as if its name ended in a slash, and writes no leading zero.
        place = name + b"/" if entry["type"] == "tree" else name
        mode = entry["mode"].lstrip("0").encode("ascii")
        lines.append((place, mode + b" " + name + b"\0" + bytes.fromhex(entry["sha"])))
    body = b"".join(line for _, line in sorted(lines))
    return hashlib.sha1(b"tree %d\0" % len(body) + body, usedforsecurity=False).hexdigest()


def _check(entries: list[dict[str, str]], repository: str) -> None:
    children, folders = defaultdict(list), {"": None}
    for entry in entries:
        path = entry["path"]
        if safe_path(path) is None or str(safe_path(path)) != path:
            raise _contradiction(repository, f"the path {path!r} leads out of the repository")
        children[path.rpartition("/")[0]].append(entry)
        if entry["type"] == "tree":
            folders[path] = entry["sha"]
    for parent in children:
        if parent not in folders:
            raise _contradiction(repository, f"the folder {parent!r} is not listed")
        names = [entry["path"] for entry in children[parent]]
        if len(set(names)) < len(names):
            raise _contradiction(repository, f"a name in {parent!r} is listed twice")
    for path, sha in folders.items():
        if sha is not None and tree_hash(children[path]) != sha:
            raise _contradiction(repository, f"the checksum of the folder {path!r} is wrong")


def _contradiction(repository: str, reason: str) -> DataError:
    return DataError(
        f"{repository}: the listing of files contradicts itself, {reason}; run again, and if it "
        "stays so, something on the way changes it."
    )
