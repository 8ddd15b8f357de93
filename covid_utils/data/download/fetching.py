"""Fetching whole data sets into a data folder, in the layout that the readers expect.

What is on its way lies in ``FOLDER/.partial``; a file gets its final name only when it is whole and
checked. ``FOLDER/checksums`` keeps the listings of the repositories and what each archive held, so
that a later run knows without a network what is there and right. A file of the same name that is
another one is not lost: it goes to ``FOLDER/replaced``.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock, Timeout

from covid_utils.data.download import git_listing
from covid_utils.data.download.catalogue import (
    SETS,
    ByHand,
    DataSet,
    Files,
    RemoteFile,
    Repository,
    Unpacking,
)
from covid_utils.data.download.checksums import GIT_BLOB, Checksum, Record
from covid_utils.data.download.failures import BlockedError, StoppedError, explained
from covid_utils.data.download.progress import Progress, free_space
from covid_utils.data.download.transfer import Transfer
from covid_utils.data.download.unpacking import unpack
from covid_utils.data.files import image_files
from covid_utils.errors import CompanionError, DataError, ParameterError
from covid_utils.writing import whole

#: Files fetched at the same time; more would be rude to the servers.
AT_A_TIME = 4
#: Names in the data folder that are ours.
STAGING, CHECKSUMS, REPLACED = ".partial", "checksums", "replaced"

Report = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What became of a set.

    Attributes:
        name: The set.
        is_complete: Whether it is in its folder, whole.
        message: What happened and, if it is not complete, what to do.
    """

    name: str
    is_complete: bool
    message: str


def fetch(
    names: Iterable[str],
    folder: Path,
    *,
    sets: Mapping[str, DataSet] = SETS,
    transfer: Transfer | None = None,
    report: Report = lambda line: None,
) -> list[Outcome]:
    """Fetch data sets; a set that fails does not stop the next.

    What is there and right is not fetched again, and what was cut is continued.

    Args:
        names: Names of sets, in any case of letters.
        folder: Data folder; each set gets the folder of its name in it.
        sets: The sets that are known.
        transfer: How files are fetched.
        report: Called with each line worth showing.

    Returns:
        One outcome a set, in the order of the names.

    Raises:
        ParameterError: A name is unknown; nothing was fetched.
        BlockedError: The data folder cannot be made.
    """
    chosen = _chosen(names, sets)
    folder = Path(folder).expanduser().absolute()
    with explained(folder):
        (folder / STAGING).mkdir(parents=True, exist_ok=True)
    transfer = transfer or Transfer()
    outcomes = []
    for data_set in chosen:
        report(f"{data_set.name}: {data_set.title}. Licence: {data_set.licence}.")
        try:
            with _locked(folder, data_set.name, report):
                outcome = _fetch_set(data_set, folder, transfer, report)
        except CompanionError as error:
            outcome = Outcome(data_set.name, False, str(error))
        report(f"  {outcome.message}")
        outcomes.append(outcome)
    return outcomes


def _chosen(names: Iterable[str], sets: Mapping[str, DataSet]) -> list[DataSet]:
    known = {name.casefold(): data_set for name, data_set in sets.items()}
    names = list(dict.fromkeys(name.casefold() for name in names))
    for name in names:
        if name not in known:
            raise ParameterError(f"{name}: no such data set; known are {', '.join(sets)}.")
    return [known[name] for name in names]


@contextmanager
def _locked(folder: Path, name: str, report: Report):
    """Let one process at a time fetch a set; the lock goes when its process does."""
    path = folder / STAGING / f"{name}.lock"
    with explained(path):
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            report("  Another process fetches this set; waiting for it.")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _fetch_set(data_set: DataSet, folder: Path, transfer: Transfer, report: Report) -> Outcome:
    delivery = data_set.delivery
    if isinstance(delivery, ByHand):
        return _by_hand(data_set, delivery, folder, report)
    files = _files(delivery, folder, transfer)
    missing = [file for file in files if not _is_there(file, folder)]
    if not missing:
        return Outcome(data_set.name, True, "Already there and right; nothing was fetched.")
    sizes = [file.size for file in missing]
    total = sum(sizes) if None not in sizes else data_set.size
    amount = f", {_amount(total)}" if total else ""
    report(f"  {len(missing)} of {_counted(len(files))} to fetch{amount}, into {folder}.")
    with explained(folder):
        free_space(folder, sum(size or 0 for size in sizes))
    others = sum((folder / file.path).is_file() for file in missing if file.unpacking is None)
    if others:
        named = f"{_counted(others)} of the same name and other content"
        report(f"  {named} will be moved to {folder / REPLACED}.")
    failed = _fetch_all(data_set.name, missing, folder, transfer)
    if failed:
        first = next(iter(failed.values()))
        message = f"{len(failed)} of {_counted(len(files))} missing: {first}"
        if len(failed) > 1:
            message += " Run the same command again; what is there is kept."
        return Outcome(data_set.name, False, message)
    shutil.rmtree(folder / STAGING / data_set.name, ignore_errors=True)
    return Outcome(data_set.name, True, f"Complete: {_counted(len(missing))} fetched and checked.")


def _counted(number: int) -> str:
    return f"{number} file" if number == 1 else f"{number} files"


def _amount(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _fetch_all(
    name: str, files: list[RemoteFile], folder: Path, transfer: Transfer
) -> dict[str, DataError]:
    """Fetch files side by side; gives the path and error of each that failed."""
    failed: dict[str, DataError] = {}
    with Progress(name) as progress, ThreadPoolExecutor(AT_A_TIME) as pool:
        jobs = {
            pool.submit(_fetch_file, file, name, folder, transfer, progress): file for file in files
        }
        try:
            for job in as_completed(jobs):
                try:
                    job.result()
                except BlockedError:
                    raise
                except CompanionError as error:
                    failed[jobs[job].path] = error
        except BaseException:
            # What stopped one would stop the others too.
            transfer.stop.set()
            pool.shutdown(cancel_futures=True)
            transfer.stop.clear()
            raise
    return failed


def _fetch_file(
    file: RemoteFile, name: str, folder: Path, transfer: Transfer, progress: Progress
) -> None:
    """Fetch a file, or unpack it if the archive lies in the data folder already."""
    if transfer.stop.is_set():
        raise StoppedError("Stopped.")
    staging = (folder / STAGING / name / file.path).parent
    given = folder / file.name
    if file.unpacking is not None and given.is_file():
        if file.checksum is not None and not file.checksum.matches(given):
            raise DataError(f"{given}: wrong content; delete it and run again to have it fetched.")
        _install(given, file.unpacking, folder)
        return
    saved = transfer.save(file, staging, progress)
    if file.unpacking is None:
        _set_aside(folder, file.path)
        _move(saved, folder / file.path)
        return
    try:
        _install(saved, file.unpacking, folder)
    except BlockedError:
        # A whole archive is worth keeping until there is room: put back where it is found.
        _move(saved, given)
        raise
    finally:
        saved.unlink(missing_ok=True)


# Which files


def _files(
    delivery: Files | Repository, folder: Path, transfer: Transfer
) -> tuple[RemoteFile, ...]:
    if isinstance(delivery, Files):
        return delivery.files
    names = {"owner": delivery.owner, "name": delivery.name, "commit": delivery.commit}
    label = f"github.com/{delivery.owner}/{delivery.name}"
    kept = folder / CHECKSUMS / f"{delivery.owner}-{delivery.name}-{delivery.commit}.json"
    blobs = _kept_blobs(kept, label)
    if blobs is None:
        listing = transfer.json(delivery.listing_url.format(**names))
        blobs = git_listing.blobs(listing, label)
        # A commit never changes, so its listing is asked for once.
        with explained(kept), whole(kept) as half:
            half.write_text(json.dumps(listing), encoding="utf8")
    files = tuple(
        _repository_file(delivery, blob, names) for blob in blobs if delivery.is_chosen(blob.path)
    )
    absent = set(delivery.unpacking) - {blob.path for blob in blobs}
    if absent or not files:
        wanted = ", ".join(sorted(absent)) or "none of the wanted files"
        raise DataError(f"{label}: {wanted} is not in the listing of the commit; report this.")
    return files


def _kept_blobs(path: Path, label: str) -> list[git_listing.Blob] | None:
    with suppress(OSError, ValueError, DataError):
        return git_listing.blobs(json.loads(path.read_text(encoding="utf8")), label)
    return None


def _repository_file(
    delivery: Repository, blob: git_listing.Blob, names: dict[str, str]
) -> RemoteFile:
    return RemoteFile(
        delivery.content_url.format(**names, path=quote(blob.path, safe="/")),
        f"{delivery.into}/{blob.path}",
        Checksum(GIT_BLOB, blob.sha),
        blob.size,
        delivery.unpacking.get(blob.path),
    )


# What is there


def _is_there(file: RemoteFile, folder: Path) -> bool:
    """Whether a file, or what an archive held, is in the data folder and right.

    Raises:
        DataError: A folder is in the way that we did not make.
    """
    if file.unpacking is None:
        goal = folder / file.path
        return file.checksum.matches(goal) if file.checksum else goal.is_file()
    goal = folder / file.unpacking.into
    record = Record.read(_record_path(folder, file.unpacking))
    if record is not None and goal.is_dir():
        return not record.damaged(folder)
    if not goal.is_dir() or not any(goal.iterdir()):
        return False
    try:
        _check_counts(goal, file.unpacking, goal)
    except DataError as error:
        raise DataError(
            f"{error} It was not made by this command: move it away and run again."
        ) from error
    return True


def _record_path(folder: Path, unpacking: Unpacking) -> Path:
    return folder / CHECKSUMS / f"{unpacking.into.replace('/', '-')}.sha256"


def _check_counts(content: Path, unpacking: Unpacking, shown: Path) -> None:
    for name, expected in unpacking.counts.items():
        found = len(image_files(content / name))
        if found != expected:
            raise DataError(
                f"{shown / name}: {found} images where there should be {expected}; the archive is "
                "not the expected one or the folder is not whole."
            )


# Unpacking into place


def _install(archive: Path, unpacking: Unpacking, folder: Path) -> None:
    """Unpack an archive beside its goal, check it, and rename it."""
    goal = folder / unpacking.into
    beside = goal.with_name(f".{goal.name}.unpacking")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        unpack(archive, beside, unpacking.limit, unpacking.is_wanted)
        content = _content(beside, unpacking.top, archive)
        _check_counts(content, unpacking, archive)
        record = Record.of_folder(archive, content, unpacking.into)
        path = _record_path(folder, unpacking)
        _compare(record, path, archive)
        # The record first: a goal without it would pass for whole.
        record.write(path)
        _place(content, goal)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _content(unpacked: Path, top: tuple[str, ...], archive: Path) -> Path:
    """Folder of what was unpacked that becomes the goal."""
    content = unpacked
    while True:
        inside = sorted(content.iterdir())
        names = {path.name for path in inside}
        if top and set(top) <= names:
            return content
        folders = [path for path in inside if path.is_dir()]
        if len(inside) == 1 and folders:
            content = folders[0]
        elif top or not inside:
            raise DataError(
                f"{archive}: {', '.join(top) or 'any file'} was not found in it; delete it and "
                "get it from its publisher."
            )
        else:
            return content


def _compare(record: Record, path: Path, archive: Path) -> None:
    earlier = Record.read(path)
    if earlier is not None and earlier.archive != record.archive:
        raise DataError(
            f"{archive.name}: not the archive of the earlier download (sha256 {earlier.archive}, "
            f"now {record.archive}); if its publisher has changed it, delete {path} and run again."
        )


def _place(content: Path, goal: Path) -> None:
    """Give a whole folder its name; in a folder that is there, replace file by file."""
    with explained(goal):
        with suppress(OSError):
            goal.rmdir()  # only if empty
        if not goal.exists():
            goal.parent.mkdir(parents=True, exist_ok=True)
            content.replace(goal)
            return
    for path in sorted(content.rglob("*")):
        if path.is_file():
            _move(path, goal / path.relative_to(content))


def _set_aside(folder: Path, path: str) -> None:
    """Move a file that is in the way, and not the one that its set has, out of the way."""
    found = folder / path
    if found.is_file():
        kept = folder / REPLACED / path
        number = 1
        while kept.exists():
            number += 1
            kept = (folder / REPLACED / path).with_name(f"{number}-{found.name}")
        _move(found, kept)


def _move(source: Path, goal: Path) -> None:
    """Rename a file; onto another disk (a linked folder) by way of a hidden name."""
    with explained(goal):
        goal.parent.mkdir(parents=True, exist_ok=True)
        try:
            source.replace(goal)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with whole(goal) as half:
                shutil.copyfile(source, half)
            source.unlink()


# By hand


def _by_hand(data_set: DataSet, delivery: ByHand, folder: Path, report: Report) -> Outcome:
    archive = folder / delivery.archive if delivery.archive else None
    if _has_all(delivery, folder):
        return Outcome(data_set.name, True, "There already; its content is not checked.")
    if archive is not None and archive.is_file():
        report(f"  Unpacking {archive.name} ...")
        _install(archive, delivery.unpacking, folder)
        return Outcome(data_set.name, True, f"Unpacked; {archive.name} may be deleted now.")
    steps = [step.format(folder=folder) for step in delivery.steps]
    lines = [f"  {number}. {step}" for number, step in enumerate(steps, 1)]
    return Outcome(data_set.name, False, "\n  ".join(["To be fetched by hand:", *lines]))


def _has_all(delivery: ByHand, folder: Path) -> bool:
    paths = [folder / need for need in delivery.needs]
    return all(path.is_file() or (path.is_dir() and any(path.iterdir())) for path in paths)
