"""Fetch public data sets into the layout that the readers expect; without a name, list them.

An interrupted download goes on when it is run again.

How sure the content is differs: ``medseg`` is checked against MD5 sums, repositories against Git's
own checksums of a pinned commit, archives without a checksum by the number of images in each
folder. What is on its way lies in ``FOLDER/.partial``; nothing that is there is overwritten.
"""

from __future__ import annotations

import argparse
import functools
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import transfer
import yaml
from pooch.hashes import hash_matches
from unpacking import Archive

from covid_utils import paths
from covid_utils.errors import CompanionError, DataError, ParameterError


@dataclass(frozen=True)
class RemoteFile:
    """A file with an address of its own."""

    url: str
    path: str
    checksum: str | None = None


@dataclass(frozen=True)
class DataSet:
    """A data set and the way to get it; ``catalogue.yaml`` explains the fields."""

    name: str
    title: str
    licence: str
    source: str
    size: int | None = None
    files: tuple[RemoteFile, ...] = ()
    repository: str | None = None
    commit: str = ""
    choose: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    archives: tuple[Archive, ...] = ()
    needs: tuple[str, ...] = ()


@functools.cache
def catalogue() -> dict[str, DataSet]:
    """The known data sets by name, from ``catalogue.yaml``."""
    sets = yaml.safe_load(Path(__file__).with_name("catalogue.yaml").read_text(encoding="utf8"))
    for fields in sets.values():
        fields["files"] = tuple(RemoteFile(**file) for file in fields.get("files", ()))
        fields["archives"] = tuple(Archive(**archive) for archive in fields.get("archives", ()))
    return {name: DataSet(name, **fields) for name, fields in sets.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; errors are one sentence on standard error, and the status 1 or 130."""
    arguments = _parser().parse_args(argv)
    if not arguments.names:
        print(_listing())
        return 0
    folder = arguments.to.expanduser().absolute()
    try:
        incomplete = fetch(arguments.names, folder)
    except CompanionError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on where it was.", file=sys.stderr)
        return 130
    if incomplete:
        print(f"Not complete: {', '.join(incomplete)}; see above.", file=sys.stderr)
        return 1
    print(f"Next: make reproduce PROFILE=paper DATA={shlex.quote(str(folder))}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\nHow sure")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="data set; none lists all")
    parser.add_argument(
        "--to",
        type=Path,
        default=paths.home() / "data" / "downloads",
        metavar="FOLDER",
        help="data folder (default: data/downloads in the project)",
    )
    return parser


def _listing() -> str:
    lines = []
    for data_set in catalogue().values():
        size = f", {data_set.size / 1e9:.1f} GB" if data_set.size else ""
        way = "by hand" if data_set.steps else f"fetched{size}"
        lines.append(f"{data_set.name:<24} {data_set.title}")
        lines.append(f"{'':<24} {way}; licence: {data_set.licence}; {data_set.source}")
    lines.append("\nFetch with: .venv/bin/python workflow/download.py NAME ... [--to FOLDER]")
    return "\n".join(lines)


def fetch(names: Iterable[str], folder: Path) -> list[str]:
    """Fetch data sets into a data folder; a set that fails does not stop the next.

    Returns:
        Names of the sets that are not complete.
    """
    known = {name.casefold(): data_set for name, data_set in catalogue().items()}
    chosen = list(dict.fromkeys(name.casefold() for name in names))
    if unknown := [name for name in chosen if name not in known]:
        raise ParameterError(f"{unknown[0]}: no such data set; known are {', '.join(catalogue())}.")
    incomplete = []
    for data_set in (known[name] for name in chosen):
        _report(f"{data_set.name}: {data_set.title}. Licence: {data_set.licence}.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            message = _already(data_set, folder) or _complete(data_set, folder)
        except CompanionError as error:
            incomplete.append(data_set.name)
            message = str(error)
        except OSError as error:
            incomplete.append(data_set.name)
            message = (
                f"{error.filename or folder}: {error.strerror or error}; free some space or choose "
                "another folder with --to and run again, what was fetched is kept."
            )
        _report(f"  {message}")
    return incomplete


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _already(data_set: DataSet, folder: Path) -> str:
    """Why nothing needs to be fetched; '' if something does."""
    goal = folder / data_set.name
    there = "Already there; nothing was fetched."
    if data_set.archives:
        return there if all(archive.is_unpacked(folder) for archive in data_set.archives) else ""
    if data_set.files:
        present = [file for file in data_set.files if (folder / file.path).exists()]
        for path, checksum in ((folder / file.path, file.checksum) for file in present):
            if not hash_matches(path, checksum):
                raise DataError(f"{path}: its checksum is not {checksum}; move it away, run again.")
        return there if len(present) == len(data_set.files) else ""
    if (goal / ".git").is_dir():
        _require_commit(goal, data_set.commit)
        return there
    needs = [folder / need for need in data_set.needs]
    if all(path.is_file() or (path.is_dir() and any(path.iterdir())) for path in needs):
        return "Already there, put there by hand; nothing was fetched or checked."
    if data_set.repository and goal.is_dir() and any(goal.iterdir()):
        raise DataError(f"{goal}: not the whole set; move it away and run again.")
    return ""


def _require_commit(goal: Path, commit: str) -> None:
    state = transfer.git(goal, "status", "--porcelain=v2", "--branch", "--untracked-files=no")
    changes = [line for line in state.splitlines() if not line.startswith("#")]
    if changes or f"# branch.oid {commit}" not in state:
        raise DataError(
            f"{goal}: differs from commit {commit} ({len(changes)} changes); restore it with "
            "'git checkout --force' and that commit, or move it away and run again."
        )


def _complete(data_set: DataSet, folder: Path) -> str:
    staging = folder / ".partial" / data_set.name
    archives = data_set.archives
    given = [folder / Path(archive.path).name for archive in archives]
    is_given = bool(given) and all(path.is_file() for path in given)
    if data_set.steps and not is_given:
        steps = (step.format(folder=folder) for step in data_set.steps)
        lines = (f"\n    {number}. {step}" for number, step in enumerate(steps, 1))
        raise DataError(f"To be fetched by hand:{''.join(lines)}")
    if not is_given:
        _fetch_into(staging, data_set, folder)
    for archive, path in zip(archives, given, strict=True):
        if not archive.is_unpacked(folder):
            archive.unpack(path if is_given else staging / archive.path, folder)
    shutil.rmtree(staging, ignore_errors=True)
    if is_given:
        return f"Complete: unpacked; {', '.join(path.name for path in given)} may be deleted now."
    return "Complete: fetched and checked."


def _fetch_into(staging: Path, data_set: DataSet, folder: Path) -> None:
    """Fetch what is missing; what is no archive moves to its place when all is there."""
    files = [file for file in data_set.files if not (folder / file.path).exists()]
    for file in files:
        transfer.fetch_file(file.url, staging / file.path, file.checksum)
    names = [file.path for file in files]
    if data_set.repository:
        names = [data_set.name]
        goal = staging / data_set.name
        transfer.clone(data_set.repository, data_set.commit, data_set.choose, goal)
    for name in names if not data_set.archives else ():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (folder / name).is_dir():
            (folder / name).rmdir()  # empty: `_already` refuses any other
        shutil.move(staging / name, folder / name)


if __name__ == "__main__":
    sys.exit(main())
