"""Bytes from elsewhere: a file over HTTP, continued where it was cut; a commit of a repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

from covid_utils.errors import DataError

#: Attempts per file; the wait in seconds after the first, after which it grows.
ATTEMPTS, PAUSE = 5, 1.0
#: Seconds to connect, and seconds of silence after that.
TIMEOUT = (15, 60)
#: Answers after which the same request may succeed; None is a broken connection.
_PASSING = (None, 408, 425, 429, 500, 502, 503, 504)


def fetch_file(url: str, path: Path, checksum: str | None) -> None:
    """Fetch a file; it gets its name only when it is whole and its checksum is right.

    What has arrived lies in ``NAME.partial`` and is continued, by a later call too. The checksum is
    ``ALGORITHM:DIGITS``, None if the publisher states none.
    """
    import pooch
    from requests import exceptions as errors

    partial = path.with_name(f"{path.name}.partial")

    def download(url: str, output_file: str, _: object) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _continue(url, partial)
                break
            except errors.RequestException as error:
                status = getattr(error.response, "status_code", None)
                if attempt == ATTEMPTS or status not in _PASSING:
                    raise
                time.sleep(PAUSE * attempt)
        shutil.move(partial, output_file)

    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(url, checksum, path.name, path.parent, downloader=download)
    except errors.HTTPError as error:
        raise DataError(
            f"{url}: the server answers {error.response.status_code}; run again later, or fetch it "
            f"with a browser and save it as {path}."
        ) from error
    except errors.RequestException as error:
        raise DataError(
            f"{urlsplit(url).hostname} cannot be reached, or the connection breaks "
            f"({type(error).__name__}); check the network, the proxy (HTTPS_PROXY) and its "
            "certificate (REQUESTS_CA_BUNDLE) and run again, what was fetched is kept."
        ) from error
    except ValueError as error:
        raise DataError(
            f"{url}: wrong content ({str(error).split('. ')[0]}); it was deleted, run again, and "
            "if it stays wrong its publisher has changed it or something on the way does."
        ) from error


def _continue(url: str, partial: Path) -> None:
    """Append to a partial file what it lacks."""
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


def clone(url: str, commit: str, choose: tuple[str, ...], goal: Path) -> None:
    """Check out chosen files (patterns of ``.gitignore``) of one commit into a new folder."""
    shutil.rmtree(goal, ignore_errors=True)
    goal.mkdir(parents=True)
    git(goal, "init", "--quiet")
    git(goal, "remote", "add", "origin", url)
    git(goal, "sparse-checkout", "set", "--no-cone", *choose)
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
