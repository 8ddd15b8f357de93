"""Fetching the public data sets into the layout that the readers expect.

How sure the content is differs: ``medseg`` is checked against MD5 sums, repositories against Git's
own checksums of a pinned commit, archives without a checksum by the number of images in each
folder. What is on its way lies in ``FOLDER/.partial``; nothing that is there is overwritten.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from covid_utils.data.unpacking import Archive
from covid_utils.errors import CompanionError, DataError, ParameterError

#: Attempts per file; the wait in seconds after the first, after which it grows.
ATTEMPTS, PAUSE = 5, 1.0
#: Seconds to connect, and seconds of silence after that.
TIMEOUT = (15, 60)
#: Answers after which the same request may succeed; None is a broken connection.
_PASSING = (None, 408, 425, 429, 500, 502, 503, 504)


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
    import yaml

    sets = yaml.safe_load(Path(__file__).with_name("catalogue.yaml").read_text(encoding="utf8"))
    for fields in sets.values():
        fields["files"] = tuple(RemoteFile(**file) for file in fields.get("files", ()))
        fields["archives"] = tuple(Archive(**archive) for archive in fields.get("archives", ()))
    return {name: DataSet(name, **fields) for name, fields in sets.items()}


def fetch(names: Iterable[str], folder: Path, report: Callable[[str], None]) -> list[str]:
    """Fetch data sets into a data folder; a set that fails does not stop the next.

    ``report`` is called with each line worth showing; the names of incomplete sets are returned.
    """
    known = {name.casefold(): data_set for name, data_set in catalogue().items()}
    chosen = list(dict.fromkeys(name.casefold() for name in names))
    if unknown := [name for name in chosen if name not in known]:
        raise ParameterError(f"{unknown[0]}: no such data set; known are {', '.join(catalogue())}.")
    incomplete = []
    for data_set in (known[name] for name in chosen):
        report(f"{data_set.name}: {data_set.title}. Licence: {data_set.licence}.")
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
        report(f"  {message}")
    return incomplete


def _already(data_set: DataSet, folder: Path) -> str:
    """Why nothing needs to be fetched; '' if something does."""
    from pooch.hashes import hash_matches

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
        state = _git(goal, "status", "--porcelain=v2", "--branch", "--untracked-files=no")
        changes = [line for line in state.splitlines() if not line.startswith("#")]
        if changes or f"# branch.oid {data_set.commit}" not in state:
            raise DataError(
                f"{goal}: differs from commit {data_set.commit} ({len(changes)} changes); restore "
                "it with 'git checkout --force' and that commit, or move it away and run again."
            )
        return there
    needs = [folder / need for need in data_set.needs]
    if all(path.is_file() or (path.is_dir() and any(path.iterdir())) for path in needs):
        return "Already there, put there by hand; nothing was fetched or checked."
    if data_set.repository and goal.is_dir() and any(goal.iterdir()):
        raise DataError(f"{goal}: not the whole set; move it away and run again.")
    return ""


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
        _fetch_file(file.url, staging / file.path, file.checksum)
    names = [file.path for file in files]
    if data_set.repository:
        names = [data_set.name]
        _clone(data_set, staging / data_set.name)
    for name in names if not data_set.archives else ():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (folder / name).is_dir():
            (folder / name).rmdir()  # empty: `_already` refuses any other
        shutil.move(staging / name, folder / name)


def _fetch_file(url: str, path: Path, checksum: str | None) -> None:
    from pooch.hashes import hash_matches
    from requests.exceptions import RequestException

    partial = path.with_name(f"{path.name}.partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _continue(url, partial)
            break
        except RequestException as error:
            status = getattr(error.response, "status_code", None)
            if attempt == ATTEMPTS or status not in _PASSING:
                raise DataError(_refusal(url, path, error, status)) from error
            time.sleep(PAUSE * attempt)
    if not hash_matches(partial, checksum):
        partial.unlink()
        raise DataError(
            f"{url}: wrong content (its checksum is not {checksum}); it was deleted, run again, "
            "and if it stays wrong its publisher has changed it or something on the way does."
        )
    shutil.move(partial, path)


def _refusal(url: str, path: Path, error: Exception, status: int | None) -> str:
    if status:
        return (
            f"{url}: the server answers {status}; run again later, or fetch it with a browser and "
            f"save it as {path}."
        )
    return (
        f"{urlsplit(url).hostname} cannot be reached, or the connection breaks "
        f"({type(error).__name__}); check the network, the proxy (HTTPS_PROXY) and its "
        "certificate (REQUESTS_CA_BUNDLE) and run again, what was fetched is kept."
    )


def _continue(url: str, partial: Path) -> None:
    import requests
    from tqdm import tqdm

    start = partial.stat().st_size if partial.is_file() else 0
    # A body that is compressed on the way could not be continued.
    headers = {"User-Agent": "covid-companion", "Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={start}-"} if start else {}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        status, span = response.status_code, response.headers.get("Content-Range", "")
        if status == 416 or (status == 206 and not span.startswith(f"bytes {start}-")):
            partial.unlink(missing_ok=True)
            raise requests.exceptions.ConnectionError("another file than before")
        response.raise_for_status()
        length = int(response.headers.get("Content-Length", 0))
        bar = tqdm(total=length or None, unit="B", unit_scale=True, leave=False, disable=None)
        # Unbuffered, so that a killed process leaves what has arrived.
        with bar, partial.open("ab" if status == 206 else "wb", buffering=0) as sink:
            for block in response.iter_content(1 << 16):
                bar.update(sink.write(block))


def _clone(data_set: DataSet, goal: Path) -> None:
    shutil.rmtree(goal, ignore_errors=True)
    goal.mkdir(parents=True)
    _git(goal, "init", "--quiet")
    _git(goal, "remote", "add", "origin", data_set.repository)
    _git(goal, "sparse-checkout", "set", "--no-cone", *data_set.choose)
    _git(goal, "fetch", "--quiet", "--depth=1", "--filter=blob:none", "origin", data_set.commit)
    _git(goal, "checkout", "--quiet", "--detach", data_set.commit)


def _git(goal: Path, *arguments: str) -> str:
    """Output of git in a folder, whatever repository lies above it."""
    # Content as it is in the repository, and no link that could lead out of the folder.
    settings = ("-c", "core.autocrlf=false", "-c", "core.symlinks=false")
    command = ["git", f"--git-dir={goal / '.git'}", f"--work-tree={goal}", *settings, *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "GIT_INDEX_FILE"}
    environment["GIT_TERMINAL_PROMPT"] = "0"
    try:
        return subprocess.check_output(command, env=environment, stderr=subprocess.PIPE, text=True)
    except FileNotFoundError as error:
        raise DataError("git was not found; install it and run again.") from error
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["no reason given"])[0]
        raise DataError(
            f"{goal.name}: git {arguments[0]} failed ({reason}); check the network, the proxy "
            "(HTTPS_PROXY) and the space on the disk, and run again."
        ) from error
