"""Archives become folders: nothing lands outside, nothing fills the disk, nothing is half there."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from covid_utils.data import guard
from covid_utils.data.images import RASTER_SUFFIXES
from covid_utils.errors import DataError

# RuntimeError: encrypted, or an unknown compression; ValueError: names that no file can have.
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, RuntimeError, ValueError)


@dataclass(frozen=True)
class Archive:
    """A ZIP or (compressed) TAR archive and the folder that it becomes; see ``catalogue.yaml``."""

    path: str
    into: str
    limit: int
    top: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)

    def is_unpacked(self, folder: Path) -> bool:
        """Whether a data folder has the content.

        Raises:
            DataError: Something else is in its place.
        """
        goal = folder / self.into
        if not goal.is_dir() or not any(goal.iterdir()):
            return False
        self._check(goal, f"{goal}: not the whole set", "move it away")
        return True

    def unpack(self, source: Path, folder: Path) -> None:
        """Unpack into a data folder that lacks the content, whole or not at all.

        Raises:
            DataError: The archive is damaged, larger than allowed or not the expected one.
        """
        goal = folder / self.into
        beside = goal.with_name(f".{goal.name}.unpacking")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        try:
            self._extract(source, beside)
            content = self._content(beside)
            self._check(content, f"{source}: not the expected archive", "delete it")
            if goal.exists():
                goal.rmdir()
            content.replace(goal)
        except _DAMAGE as error:
            reason = str(error).split("\n")[0].rstrip(":")
            raise DataError(f"{source}: damaged ({reason}); delete it and run again.") from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _extract(self, source: Path, goal: Path) -> None:
        """Extract what is wanted; neither kind writes more of an entry than its header states."""
        if zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as opened:
                entries = [entry for entry in opened.infolist() if self._is_wanted(entry.filename)]
                self._bound(source, sum(entry.file_size for entry in entries))
                opened.extractall(goal, entries)  # drops drives, leading slashes and ".."
            return
        size = 0
        with tarfile.open(source) as opened:
            for entry in opened:
                if entry.isreg() and self._is_wanted(entry.name):
                    size += entry.size
                    self._bound(source, size)
                    opened.extract(entry, goal, filter="data")

    def _is_wanted(self, name: str) -> bool:
        path = PurePosixPath(name)
        if "__MACOSX" in path.parts or path.name.startswith("._") or path.name == ".DS_Store":
            return False
        return not self.top or not set(self.top).isdisjoint(path.parts)

    def _bound(self, source: Path, size: int) -> None:
        if size > self.limit:
            raise DataError(
                f"{source}: holds more than the {self.limit:,} bytes that it may; delete it and "
                "get it from its publisher."
            )

    def _content(self, unpacked: Path) -> Path:
        """Folder of what was unpacked that becomes the goal."""
        inside = list(unpacked.iterdir())
        is_above = len(inside) == 1 and inside[0].is_dir() and inside[0].name not in self.top
        return self._content(inside[0]) if is_above else unpacked

    def _check(self, content: Path, problem: str, remedy: str) -> None:
        lacking = [f"{name} is missing" for name in self.top if not (content / name).exists()]
        for name, expected in self.counts.items():
            number = len(guard.files(content / name, RASTER_SUFFIXES))
            if number != expected:
                lacking.append(f"{number} images where there should be {expected}: {name}")
        if lacking:
            raise DataError(f"{problem} ({lacking[0]}); {remedy} and run again.")
