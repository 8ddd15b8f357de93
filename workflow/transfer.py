"""Files over HTTP and commits of Git repositories: continued when interrupted, and checked."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import requests
from pooch.hashes import hash_matches
from requests.exceptions import RequestException
from tqdm import tqdm

from covid_utils.errors import DataError

#: Attempts per file; the wait in seconds after the first, after which it grows.
ATTEMPTS, PAUSE = 5, 1.0
#: Seconds to connect, and seconds of silence after that.
TIMEOUT = (15, 60)
#: Status codes after which the same request may succeed; None is a broken connection.
_PASSING = (None, 408, 425, 429, 500, 502, 503, 504)


def fetch_file(url: str, path: Path, checksum: str | None) -> None:
    """Fetch a file; it has its name once it is complete and its checksum is right."""
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
    start = partial.stat().st_size if partial.is_file() else 0
    # A body that is compressed on the way could not be continued.
    headers = {"User-Agent": "covid-companion", "Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={start}-"} if start else {}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        status, span = response.status_code, response.headers.get("Content-Range", "")
        if status == 416 and span == f"bytes */{start}":
            return  # all of it had arrived
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


def clone(repository: str, commit: str, patterns: tuple[str, ...], goal: Path) -> None:
    """Check out one commit of a repository, of it the files that match Git's patterns."""
    shutil.rmtree(goal, ignore_errors=True)
    goal.mkdir(parents=True)
    git(goal, "init", "--quiet")
    git(goal, "remote", "add", "origin", repository)
    git(goal, "sparse-checkout", "set", "--no-cone", *patterns)
    git(goal, "fetch", "--quiet", "--depth=1", "--filter=blob:none", "origin", commit)
    git(goal, "checkout", "--quiet", "--detach", commit)


def git(goal: Path, *arguments: str) -> str:
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
