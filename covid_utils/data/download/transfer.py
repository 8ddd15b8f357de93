"""Fetching one file over HTTP: continued where it was cut, checked before it gets its name.

`pooch.retrieve` gives a file its name only once its checksum is right, but begins anew after each
cut. The downloader that it is handed here continues instead. What has arrived lies in
``NAME.partial``, and beside it ``NAME.partial.json`` tells which version of the file that is, so
that the second half of a changed file is never glued to the first half of the old one.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from covid_utils.data.download.catalogue import RemoteFile
from covid_utils.data.download.checksums import digest
from covid_utils.data.download.failures import BlockedError, StoppedError, explained
from covid_utils.data.download.progress import Progress, free_space
from covid_utils.errors import DataError

_RANGE = re.compile(r"bytes (?P<first>\d+)-\d+/(?P<total>\d+|\*)")
_BLOCK = 1 << 16
#: Answers after which the same request may succeed.
_PASSING = (408, 425, 429, 500, 502, 503, 504)


class _PassingError(Exception):
    """An attempt failed in a way that may pass."""


class _OfflineError(_PassingError):
    """No connection came about."""


@dataclass
class Transfer:
    """How files are fetched.

    Attributes:
        attempts: Attempts in a row that may bring nothing new.
        timeout: Seconds to connect, and seconds of silence after that.
        pause: Waits a number of seconds between attempts.
        stop: Set from outside to end all transfers soon.
    """

    attempts: int = 5
    timeout: tuple[float, float] = (15.0, 60.0)
    pause: Callable[[float], Any] = time.sleep
    stop: threading.Event = field(default_factory=threading.Event)
    _local: threading.local = field(default_factory=threading.local, repr=False)

    def save(self, file: RemoteFile, staging: Path, progress: Progress) -> Path:
        """Fetch a file into a folder of its own and check it.

        Args:
            file: The file.
            staging: Folder for what is on its way; a ``.partial`` file in it is continued.
            progress: Is told of the bytes.

        Returns:
            The whole file in ``staging``, its checksum right.

        Raises:
            BlockedError: The server cannot be reached, the disk is full or cannot be written.
            DataError: The server refuses, keeps breaking off, or sends the wrong content.
        """
        import pooch

        pooch.get_logger().setLevel("WARNING")
        with explained(staging):
            staging.mkdir(parents=True, exist_ok=True)

        def downloader(url: str, output_file: str, _: Any) -> None:
            partial = _Partial(staging / f"{file.name}.partial")
            self._complete(file, partial, progress)
            _verify(file, partial)
            with explained(partial.path):
                partial.path.replace(output_file)
            partial.discard()

        known = file.checksum.known_hash if file.checksum else None
        with explained(staging):
            (staging / file.name).unlink(missing_ok=True)
            saved = pooch.retrieve(file.url, known, file.name, staging, downloader=downloader)
        return Path(saved)

    def json(self, url: str) -> Any:
        """Fetch a JSON document.

        Raises:
            BlockedError: The server cannot be reached.
            DataError: The server refuses or sends no JSON.
        """
        import requests

        def attempt() -> tuple[Any, bool]:
            with self._open(url, {"Accept": "application/json"}) as response:
                if response.status_code != 200:
                    raise _refusal(url, response)
                try:
                    return response.json(), True
                except requests.exceptions.JSONDecodeError as error:
                    raise DataError(f"{url}: the answer is no JSON; run again later.") from error

        return self._repeat(url, attempt, lambda: 0)

    def _complete(self, file: RemoteFile, partial: _Partial, progress: Progress) -> None:
        """Bring the partial file to its full length."""
        account = progress.account(file.size)

        def attempt() -> tuple[None, bool]:
            return None, self._advance(file, partial, account)

        self._repeat(file.url, attempt, lambda: partial.size)

    def _repeat(self, url: str, attempt: Callable, arrived: Callable[[], int]) -> Any:
        """Attempt until it is done; only attempts that bring no new byte are counted."""
        most, failures = arrived(), 0
        while True:
            try:
                result, is_done = _passing(attempt)
                reason = _PassingError("the connection was cut")
            except _PassingError as error:
                is_done, reason = False, error
            if is_done:
                return result
            failures = 0 if arrived() > most else failures + 1
            most = max(most, arrived())
            # Without a network nobody wants to wait; in the midst of a file it may come back.
            is_offline = isinstance(reason, _OfflineError) and not most
            if failures >= (min(2, self.attempts) if is_offline else self.attempts):
                raise _given_up(url, reason, failures) from reason
            self.pause(min(2.0**failures, 30.0))
            if self.stop.is_set():
                raise StoppedError("Stopped.")

    def _advance(self, file: RemoteFile, partial: _Partial, account: Callable) -> bool:
        """One request for what is missing; says whether the file is whole now."""
        start, headers = partial.resumption(can_check=file.checksum is not None)
        if start and start == partial.total:
            account(start, partial.total)
            return True
        with self._open(file.url, {"Accept-Encoding": "identity", **headers}) as response:
            status = response.status_code
            if status == 416 and start:
                # The file ends before the place asked for: another file, or one without a length.
                partial.discard()
                return False
            if status == 206 and not (start and partial.continues(response, start)):
                partial.discard()
                return False
            if status not in (200, 206):
                raise _refusal(file.url, response, file)
            return self._write(response, partial, start if status == 206 else 0, account)

    def _write(self, response: Any, partial: _Partial, start: int, account: Callable) -> bool:
        total = partial.total if start else partial.begin(response)
        account(start, total)
        with explained(partial.path):
            free_space(partial.path.parent, (total or 0) - start)
            # Unbuffered, so that a killed process leaves what has arrived.
            sink = partial.path.open("ab" if start else "wb", buffering=0)
        position = start
        with sink:
            # read1 gives what there is; read would drop a last block that the cut left short.
            while block := response.raw.read1(_BLOCK, decode_content=not start):
                if self.stop.is_set():
                    raise StoppedError("Stopped.")
                with explained(partial.path):
                    sink.write(block)
                position += len(block)
                account(position, total)
        return total is None or position == total

    def _open(self, url: str, headers: dict[str, str]) -> Any:
        """Answer to a request, redirections followed, proxies taken from the environment."""
        import requests

        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.headers["User-Agent"] = "covid-companion"
        response = self._local.session.get(url, headers=headers, stream=True, timeout=self.timeout)
        if response.status_code in _PASSING:
            response.close()
            raise _PassingError(f"the server answers {response.status_code}")
        return response


class _Partial:
    """The bytes of a file that have arrived, and the version of the file that they are of."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._note = path.with_name(f"{path.name}.json")
        self._state = {}
        with suppress(OSError, ValueError):
            self._state = dict(json.loads(self._note.read_text(encoding="utf8")))

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self.path.stat().st_size if self.path.is_file() else 0

    @property
    def total(self) -> int | None:
        """Bytes of the whole file, None if the server did not say."""
        return self._state.get("total")

    def resumption(self, can_check: bool) -> tuple[int, dict[str, str]]:
        """Where to go on, and the headers that ask for it.

        A server that gives its file no version mark can only be trusted if a checksum is known.
        """
        etag, modified = self._state.get("etag"), self._state.get("modified")
        mark = etag if etag and not etag.startswith("W/") else modified
        if not self.size or not self._state or not (mark or can_check):
            return 0, {}
        headers = {"Range": f"bytes={self.size}-"}
        return self.size, headers | ({"If-Range": mark} if mark else {})

    def continues(self, response: Any, start: int) -> bool:
        """Whether an answer is the rest of the same file, from the right byte."""
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if found is None or int(found["first"]) != start:
            return False
        if self.total is not None and found["total"] not in ("*", str(self.total)):
            return False
        etag, known = response.headers.get("ETag"), self._state.get("etag")
        return not (etag and known) or etag == known

    def begin(self, response: Any) -> int | None:
        """Note the version of a file that starts anew; gives its length."""
        headers = response.headers
        is_plain = headers.get("Content-Encoding", "identity") == "identity"
        length = headers.get("Content-Length", "") if is_plain else ""
        # A body that was compressed for the way has offsets of its own: it cannot be continued.
        self._state = {}
        if is_plain:
            self._state = {
                "total": int(length) if length.isdigit() else None,
                "etag": headers.get("ETag"),
                "modified": headers.get("Last-Modified"),
            }
        with explained(self._note):
            self.path.unlink(missing_ok=True)
            self._note.write_text(json.dumps(self._state), encoding="utf8")
        return self.total

    def discard(self) -> None:
        """Forget the file."""
        self._state = {}
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


def _passing(attempt: Callable) -> Any:
    """Run an attempt; the many names of a broken connection become one."""
    import requests
    import urllib3

    try:
        return attempt()
    except requests.exceptions.SSLError as error:
        raise BlockedError(
            f"The server's certificate is not trusted ({_host(error.request)}); if your network "
            "uses a certificate of its own, name its file in REQUESTS_CA_BUNDLE and run again."
        ) from error
    except requests.exceptions.ReadTimeout as error:
        raise _PassingError("the server is silent") from error
    except (requests.exceptions.ChunkedEncodingError, urllib3.exceptions.HTTPError) as error:
        raise _PassingError("the connection was cut") from error
    except requests.exceptions.ConnectionError as error:
        is_cut = "aborted" in str(error).lower()
        raise (_PassingError if is_cut else _OfflineError)("the connection failed") from error
    except requests.exceptions.RequestException as error:
        raise DataError(f"The request failed ({error}); report this.") from error


def _host(request: Any) -> str:
    return urlsplit(getattr(request, "url", None) or "").hostname or "unknown host"


def _given_up(url: str, reason: Exception, failures: int) -> DataError:
    host = urlsplit(url).hostname
    if isinstance(reason, _OfflineError):
        return BlockedError(
            f"{host} cannot be reached; check the network and the proxy (HTTPS_PROXY) and run "
            "again, what was fetched is kept."
        )
    return DataError(
        f"{url}: {reason}, {failures} times in a row; run again later, what was fetched is kept."
    )


def _refusal(url: str, response: Any, file: RemoteFile | None = None) -> DataError:
    status = response.status_code
    if status in (403, 429) and response.headers.get("X-RateLimit-Remaining") == "0":
        return BlockedError(
            f"{urlsplit(url).hostname} answers no more requests from this address for now; "
            "run again in an hour."
        )
    if status == 404:
        return DataError(f"{url}: no such file there any more (404); look at the set's page.")
    by_hand = ""
    if file is not None:
        place = file.name if file.unpacking else file.path
        by_hand = f", or fetch it with a browser, save it as {place} in the data folder"
    return DataError(f"{url}: the server answers {status}; run again later{by_hand} and run again.")


def _verify(file: RemoteFile, partial: _Partial) -> None:
    """Delete a partial file with the wrong content, and say so."""
    if file.checksum is None:
        return
    got = digest(partial.path, file.checksum.algorithm)
    if got == file.checksum.value:
        return
    partial.discard()
    raise DataError(
        f"{file.path}: wrong content from {file.url} ({file.checksum.algorithm} expected "
        f"{file.checksum.value}, got {got}); it was deleted, run again, and if it stays wrong the "
        "publisher has changed the file or something on the way does."
    )
