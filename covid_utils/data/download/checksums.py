"""Checksums of downloaded files, and records of what an archive held."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from covid_utils.data.download.failures import explained
from covid_utils.errors import DataError
from covid_utils.writing import whole

#: Name under which Git's own checksum of a file goes here.
GIT_BLOB = "git-blob"


@dataclass(frozen=True)
class Checksum:
    """What a file's content must add up to.

    Attributes:
        algorithm: ``md5``, ``sha1``, ``sha256`` or ``git-blob``: the SHA-1 of ``blob SIZE``, a zero
            byte and the content, by which Git names a file.
        value: Lower-case hexadecimal digits.
    """

    algorithm: str
    value: str

    @property
    def known_hash(self) -> str | None:
        """The checksum as pooch takes it, None for the kind that pooch does not know."""
        return None if self.algorithm == GIT_BLOB else f"{self.algorithm}:{self.value}"

    def matches(self, path: Path) -> bool:
        """Whether a file is there and has this checksum."""
        return path.is_file() and digest(path, self.algorithm) == self.value


def digest(path: Path, algorithm: str) -> str:
    """Checksum of a file in hexadecimal digits.

    Args:
        path: The file.
        algorithm: As in `Checksum`.

    Returns:
        The digits, lower case.
    """
    if algorithm == GIT_BLOB:
        hashed = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    else:
        hashed = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            hashed.update(block)
    return hashed.hexdigest()


@dataclass(frozen=True)
class Record:
    """What an unpacked archive held, so that it need not be kept to check its files later.

    On disk it has the format of ``sha256sum``: ``sha256sum -c`` in the data folder checks it too.

    Attributes:
        archive: SHA-256 of the archive.
        files: Path from the data folder to SHA-256, of every file.
    """

    archive: str
    files: dict[str, str]

    _HEAD = "# sha256 of the archive: "

    @classmethod
    def of_folder(cls, archive: Path, unpacked: Path, into: str) -> Record:
        """Record an archive that was unpacked to a folder and belongs in ``into``."""
        files = {
            f"{into}/{path.relative_to(unpacked).as_posix()}": digest(path, "sha256")
            for path in sorted(unpacked.rglob("*"))
            if path.is_file()
        }
        return cls(digest(archive, "sha256"), files)

    def write(self, path: Path) -> None:
        """Write the record, whole or not at all."""
        lines = [f"{self._HEAD}{self.archive}"]
        lines += [f"{value}  {name}" for name, value in self.files.items()]
        with explained(path), whole(path) as half:
            half.write_text("\n".join(lines) + "\n", encoding="utf8")

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """Read a record, None where there is none.

        Raises:
            DataError: The file is no such record.
        """
        if not path.is_file():
            return None
        try:
            head, *lines = path.read_text(encoding="utf8").splitlines()
            files = {name: value for value, name in (line.split("  ", 1) for line in lines)}
        except ValueError:
            head, files = "", {}
        if not head.startswith(cls._HEAD):
            raise DataError(f"{path}: not a list of checksums; delete it and run again.")
        return cls(head.removeprefix(cls._HEAD), files)

    def damaged(self, folder: Path) -> list[str]:
        """Recorded files that are missing in a data folder or have another content."""
        return [
            name
            for name, value in self.files.items()
            if not Checksum("sha256", value).matches(folder / name)
        ]
