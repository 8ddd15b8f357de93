"""Archives become folders: nothing lands outside, nothing fills the disk, nothing is half there."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from covid_utils.data import guard
from covid_utils.data.readers.decoding import RASTER_SUFFIXES
from covid_utils.errors import DataError

# RuntimeError: encrypted, or an unknown compression; ValueError: names that no file can have.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)


@dataclass(frozen=True)
class Archive:
    """A ZIP archive and the folder that it becomes; ``catalogue.yaml`` explains the fields."""

    path: str
    into: str
    limit: int
    top: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)

    def is_unpacked(self, folder: Path) -> bool:
        """Whether a data folder has the content; an error if it has another one."""
        goal = folder / self.into
        if not goal.is_dir() or not any(goal.iterdir()):
            return False
        self._check(goal, f"{goal}: not the whole set", "move it away")
        return True

    def unpack(self, source: Path, folder: Path) -> None:
        """Unpack into a data folder that lacks the content, whole or not at all."""
        goal = folder / self.into
        beside = goal.with_name(f".{goal.name}.unpacking")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        try:
            content = self._extract(source, beside)
            self._check(content, f"{source}: not the expected archive", "delete it")
            if goal.exists():
                goal.rmdir()
            content.replace(goal)
        except _DAMAGE as error:
            reason = str(error).split("\n")[0].rstrip(":")
            raise DataError(f"{source}: damaged ({reason}); delete it and run again.") from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _extract(self, source: Path, goal: Path) -> Path:
        """Extract what is wanted; folders that hold nothing but one folder are left out."""
        guard.extract(source, goal, self.limit, self._is_wanted)
        while True:
            inside = list(goal.iterdir())
            if len(inside) != 1 or not inside[0].is_dir() or inside[0].name in self.top:
                return goal
            goal = inside[0]

    def _is_wanted(self, name: str) -> bool:
        if not guard.is_content(name):
            return False
        parts = PurePosixPath(name).parts
        return not self.top or not set(self.top).isdisjoint(parts)

    def _check(self, content: Path, problem: str, remedy: str) -> None:
        lacking = [f"{name} is missing" for name in self.top if not (content / name).exists()]
        for name, expected in self.counts.items():
            number = len(guard.files(content / name, RASTER_SUFFIXES))
            if number != expected:
                lacking.append(f"{number} images where there should be {expected}: {name}")
        if lacking:
            raise DataError(f"{problem} ({lacking[0]}); {remedy} and run again.")
