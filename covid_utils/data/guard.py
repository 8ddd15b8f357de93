"""The one guarded way to unpack, find and read a data set's files.

Whatever a decoder raises becomes one sentence: the file, the first cause, a remedy. `Problems`
collects these sentences for ``skipped.csv``, and the run goes on with what can be read.
"""

from __future__ import annotations

import math
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from itertools import islice
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Concatenate, ParamSpec, TypeVar

import pandas as pd

from covid_utils.errors import DataError

T, P = TypeVar("T"), ParamSpec("P")
Decoder = Callable[Concatenate[Path, P], T]

PROBLEM_COLUMNS = ("dataset", "path", "problem", "remedy")
#: Problems that leave a file out of the manifest.
UNREADABLE, MISSING, WRONG_ENDING = "unreadable", "missing", "wrong ending"
#: Most values of one image or volume: 16 CT volumes of 256 slices. A damaged header may ask for
#: more memory than there is.
LARGEST = 2**30
#: Longest side of one, in pixels or slices.
LONGEST = 2**14
#: Most files of an archive: 100 CT volumes of 1,000 slices.
MOST_FILES = 100_000
#: Causes whose remedy is not another download, first match first.
REMEDIES = (
    (PermissionError, "allow this user to read it"),
    (MemoryError, "free memory, or delete this file"),
    ((ImportError, NotImplementedError), "install the decoder that it needs"),
    (UnicodeDecodeError, "save it as UTF-8"),
)
#: Characters that no cell of a table may hold: a carriage return would end its line.
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
#: How images begin, whatever their names end in: PNG, JPEG, TIFF and, from byte 128 on, DICOM.
BEGINNINGS, DICOM = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*"), b"DICM"


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Make one sentence of whatever is raised while a file is read; ``kind`` is what it is."""
    try:
        str(path).encode()  # fails for a name that no table could hold
        if path.exists() and not path.is_file():
            raise DataError(f"{path}: a folder or device, not a file; move it away.")
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{printable(path)}: {_explain(path, kind, error)}.") from error


def read(path: Path, kind: str, decode: Callable[[Path], T]) -> T:
    """Read a file with whatever decoder."""
    with reading(path, kind):
        return decode(path)


def reads(kind: str, keep: int = 0) -> Callable[[Decoder], Decoder]:
    """Guard a function whose first argument is the file that it reads.

    What it makes of the last ``keep`` files is kept, until a file changes: however many threads
    ask, each is decoded once.
    """

    def guarded(decode: Decoder) -> Decoder:
        lock, kept = Lock(), {}

        @wraps(decode)
        def read_guarded(path: Path, *others: P.args, **named: P.kwargs) -> T:
            with reading(path, kind):
                if not keep:
                    return decode(path, *others, **named)
                about = path.stat()
                state = (path, about.st_ino, about.st_mtime_ns, about.st_size)
                with lock:
                    if state not in kept:
                        kept[state] = decode(path)
                    for oldest in list(kept)[:-keep]:
                        del kept[oldest]
                    return kept[state]

        return read_guarded

    return guarded


def _explain(path: Path, kind: str, error: Exception) -> str:
    if printable(path) != str(path):
        return "its name is not UTF-8; rename it"
    if not isinstance(error, PermissionError):
        if os.path.islink(path) and not os.path.exists(path):  # noqa: PTH110, PTH114 never raise
            return "a broken link; fetch the file it points to, or delete the link"
        if not os.path.exists(path):  # noqa: PTH110
            return "no such file; unpack the whole data set, and check the endings of its files"
        if not path.stat().st_size:
            return "an empty file; download it again or delete it"
    remedies = (remedy for types, remedy in REMEDIES if isinstance(error, types))
    remedy = next(remedies, "download this file again or delete it")
    cause = " ".join(str(error).replace(str(path), "it").split())[:300] or type(error).__name__
    return f"not a complete {kind} ({cause}); {remedy}"


def bounded(path: Path, shape: Sequence[int]) -> None:
    """Refuse an image or volume above `LARGEST` or `LONGEST`, before memory is taken for it."""
    sides = [int(size) for size in shape]
    if math.prod(sides) > LARGEST or max(sides) > LONGEST:
        sizes = " x ".join(map(str, shape))
        remedy = "download it again or delete it"
        raise DataError(f"{path}: {sizes} values are too many for a scan; {remedy}.")


def printable(path: Path | str) -> str:
    """A path as text that can be written, whatever bytes its name has."""
    return str(path).encode("utf8", "backslashreplace").decode()


class Problems:
    """What is not as it should be in one data set: `rows` with the keys `PROBLEM_COLUMNS`."""

    def __init__(self, dataset: str, root: Path):
        self.dataset, self.root = dataset, root
        self.rows: list[dict[str, str]] = []

    def add(self, path: Path | str, problem: str, remedy: str) -> None:
        """Note a problem of a file, which is named relative to the data folder."""
        name = printable(self.relative(path) if isinstance(path, Path) else path)
        row = {"dataset": self.dataset, "path": name, "problem": problem, "remedy": remedy}
        one_line = {key: CONTROL.sub(lambda it: repr(it[0])[1:-1], row[key]) for key in row}
        self.rows.append(one_line)

    def attempt(self, decode: Decoder, path: Path, *others: P.args) -> T | None:
        """Call a function guarded by `reads`; a file that cannot be read is noted: None."""
        try:
            return decode(path, *others)
        except DataError as error:
            self.note(path, error)
            return None

    def note(self, path: Path, error: DataError) -> None:
        """Note a file that could not be read."""
        self.add(path, UNREADABLE, f"{error} The run goes on without it.")

    def files(self, folder: Path, endings: tuple[str, ...], deep: bool = False) -> list[Path]:
        """The same as `files`; images that another ending keeps out are noted."""
        known = files(folder, endings, deep)
        others = sorted(set(files(folder, ("",), deep)) - set(known))
        images = [path for path in others if _is_image(path)]
        if images:
            more = f" and {len(images) - 1} more" if len(images) > 1 else ""
            remedy = f"an image whose name does not end in {' or '.join(endings)}; rename it{more}."
            self.add(images[0], WRONG_ENDING, f"{printable(images[0].name)}: {remedy}")
        return known

    def relative(self, path: Path) -> str:
        """A path as the manifest has it: from the data folder on, with forward slashes."""
        return path.relative_to(self.root).as_posix()

    def first(self) -> str:
        """The first file that could not be read, in brackets; '' if there is none."""
        costly = (UNREADABLE, WRONG_ENDING)
        causes = [row["remedy"] for row in self.rows if row["problem"] in costly]
        return f" (first: {causes[0]})" if causes else ""


def files(folder: Path, endings: tuple[str, ...], deep: bool = False) -> list[Path]:
    """Sorted files with one of some endings, not hidden; ``deep``: in the folders below too."""
    places = walk(folder) if deep else islice(walk(folder), 1)
    paths = (place / name for place, names in places for name in names)
    return sorted(p for p in paths if p.name.lower().endswith(endings) and p.name[0] != ".")


def _is_image(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError:  # a folder, or a file that this user may not read
        return False
    return start.startswith(BEGINNINGS) or start[128:] == DICOM


def walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Folders and the names of their files, through links, but no folder twice."""

    def unlisted(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            place, cause = printable(error.filename), error.strerror
            raise DataError(f"{place}: cannot be listed ({cause}); allow this user to read it.")

    seen = set()
    for place, inner, names in os.walk(folder, followlinks=True, onerror=unlisted):
        inner.sort()
        real = os.path.realpath(place)
        if real in seen:
            inner.clear()
        else:
            seen.add(real)
            yield Path(place), sorted(names)


@reads("CSV file")
def table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a CSV file that must have some columns as text, blank cells as ''."""
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    if not isinstance(rows.index, pd.RangeIndex):  # pandas would move the cells to the left
        raise DataError(f"{path}: its lines have more cells than its heading; correct it.")
    missing = [name for name in columns if name not in rows.columns]
    if missing:
        raise DataError(
            f"{path}: the columns {missing} are missing, the file has {list(rows.columns)}; "
            "use the file that comes with the data set."
        )
    return rows


def is_content(name: str) -> bool:
    """Whether an archive entry is content, not operating-system metadata."""
    path = PurePosixPath(name)
    is_note = path.name.startswith("._") or path.name == ".DS_Store"
    return not is_note and "__MACOSX" not in path.parts


def extract(
    source: Path, goal: Path, limit: int, is_wanted: Callable[[str], bool] = is_content
) -> None:
    """Extract the wanted entries, at most ``limit`` bytes in all by their headers, to a folder."""
    with zipfile.ZipFile(source) as opened:
        entries = [entry for entry in opened.infolist() if is_wanted(entry.filename)]
        if sum(entry.file_size for entry in entries) > limit or len(entries) > MOST_FILES:
            raise DataError(
                f"{source}: exceeds the limit of {limit:,} bytes or {MOST_FILES:,} files; "
                "delete it and get it from its publisher, or unpack it and name the folder."
            )
        opened.extractall(goal, entries)  # drops drives, leading slashes and ".."
