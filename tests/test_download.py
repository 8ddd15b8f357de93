"""Downloads: continued, checked, never half, never outside their folder; from a local server."""

import contextlib
import errno
import functools
import hashlib
import io
import subprocess
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest.mock import patch

import download
import pytest
import transfer
from unpacking import Archive

from covid_utils.data import readers
from covid_utils.errors import DataError, ParameterError

CONTENT = bytes(range(256)) * 2000
LIMIT = 10**6


class Handler(BaseHTTPRequestHandler):
    """Serves ``server.contents``; ``server.mischief`` says what to do wrong, request by request."""

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.server.requests.append(self.headers.get("Range"))
        deed = self.server.mischief.pop(0) if self.server.mischief else None
        content = self.server.contents.get(self.path)
        if isinstance(deed, int) or content is None:
            return self.send_error(deed or 404)
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        start = {"no range": 0, "wrong offset": 7}.get(deed, start)
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = (start + len(content)) // 2 if deed == "cut" else len(content)
        return self.wfile.write(content[start:end])


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(transfer, "PAUSE", 0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.contents, running.mischief, running.requests = {"/a": CONTENT}, [], []
        running.url = f"http://127.0.0.1:{running.server_port}"
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def root(tmp_path):
    return tmp_path / "scans"


def data_set(**fields):
    return download.DataSet("toy", "a toy", "CC0", "here", **fields)


def one(server, content=CONTENT):
    """A set of one file that should have this content."""
    checksum = f"md5:{hashlib.md5(content).hexdigest()}"
    return data_set(files=(download.RemoteFile(f"{server.url}/a", "toy/a.bin", checksum),))


def fetch(chosen, root, **others):
    """What was reported, with ``FAILED`` in front for each set that is not complete."""
    sets = {"toy": chosen} | others
    shown = io.StringIO()
    with patch.object(download, "catalogue", lambda: sets), contextlib.redirect_stderr(shown):
        incomplete = download.fetch(sets, root)
    return "FAILED\n" * len(incomplete) + shown.getvalue()


def files(root):
    """Files of the data folder without Git's and what is on its way."""
    paths = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in paths if path.parts[0] != ".partial")


@pytest.mark.parametrize("deeds", [["cut"] * 2, ["cut", "no range"], ["cut", "wrong offset"]])
def test_a_file_is_whole_whatever_breaks_and_is_fetched_once(server, root, deeds):
    server.mischief = [503, *deeds]
    assert "Complete" in fetch(one(server), root)
    assert (root / "toy/a.bin").read_bytes() == CONTENT
    requests = len(server.requests)
    assert "nothing was fetched" in fetch(one(server), root)
    assert len(server.requests) == requests
    assert not any((root / ".partial").iterdir())


@pytest.mark.parametrize("new", [CONTENT, CONTENT[::-1], CONTENT[:100]])
def test_a_later_run_continues_the_same_file_and_no_other(server, root, monkeypatch, new):
    server.mischief = ["cut"]
    with monkeypatch.context() as patched:
        patched.setattr(transfer, "ATTEMPTS", 1)
        assert "run again, what was fetched is kept" in fetch(one(server), root)
    assert files(root) == []
    size = (root / ".partial/toy/toy/a.bin.partial").stat().st_size
    assert size > 0
    server.contents["/a"] = new
    if new == CONTENT[::-1]:
        assert "wrong content" in fetch(one(server, new), root)
    assert "Complete" in fetch(one(server, new), root)
    assert server.requests[1] == f"bytes={size}-"
    assert (root / "toy/a.bin").read_bytes() == new


def test_what_had_arrived_whole_is_not_fetched_again(server, root):
    partial = root / ".partial/toy/toy/a.bin.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(CONTENT)
    assert "Complete" in fetch(one(server), root)
    assert server.requests == [f"bytes={len(CONTENT)}-"]
    assert (root / "toy/a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "requests"), [(403, 1), (500, transfer.ATTEMPTS)])
def test_a_refusal_says_what_to_do_and_does_not_stop_the_next_set(server, root, status, requests):
    server.mischief = [status] * requests
    next_set = data_set(files=(download.RemoteFile(f"{server.url}/a", "next/a.bin"),))
    text = fetch(one(server), root, next=next_set)
    assert len(server.requests) == requests + 1
    assert files(root) == ["next/a.bin"]
    assert f"the server answers {status}; run again later, or fetch it with a browser" in text
    assert str(root / ".partial/toy/toy/a.bin") in text


def test_other_content_is_named_and_a_file_of_that_name_is_not_touched(server, root):
    text = fetch(one(server, b"expected"), root)
    for part in ("FAILED", "wrong content", hashlib.md5(b"expected").hexdigest(), "run again"):
        assert part in text
    assert not (root / "toy").exists(), "an empty folder would pass for the set"
    (root / "toy").mkdir()
    (root / "toy/a.bin").write_bytes(b"mine")
    assert "move it away" in fetch(one(server), root)
    assert (root / "toy/a.bin").read_bytes() == b"mine"


def test_what_stands_in_the_way_is_one_sentence(server, root):
    full = OSError(errno.ENOSPC, "No space left on device")
    with patch.object(download.shutil, "move", side_effect=full):
        assert "No space left on device; free some space" in fetch(one(server), root)
    (root.parent / "file").touch()
    assert "choose another folder with --to" in fetch(one(server), root.parent / "file")
    server.shutdown()
    server.server_close()
    text = fetch(one(server), root)
    assert "127.0.0.1 cannot be reached" in text
    assert "HTTPS_PROXY" in text
    assert files(root) == []


# Archives


def zipped(entries):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (zipped({f"bomb{number}": bytes(LIMIT // 2) for number in range(3)}), "exceeds the limit"),
        (zipped({"a": CONTENT})[:-40], "damaged"),
        (b"<!DOCTYPE html>", "damaged"),
        (zipped({"other/a.png": b"x"}), "1 images where there should be 2"),
    ],
)
def test_a_bad_archive_leaves_nothing_and_no_archive_leaves_its_folder(content, reason, tmp_path):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.zip: .*{reason}.*delete it and"):
        Archive("a.zip", "toy", LIMIT, counts={".": 2}).unpack(tmp_path / "a.zip", tmp_path)
    assert files(tmp_path) == ["a.zip"]
    (tmp_path / "a.zip").write_bytes(zipped(dict.fromkeys(("../evil", "/evil2", "C:/evil3"), b"x")))
    Archive("a.zip", "toy", LIMIT).unpack(tmp_path / "a.zip", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip", "toy"}


@pytest.mark.parametrize("by_hand", [False, True])
def test_an_archive_becomes_the_folder_of_the_reader(server, root, by_hand):
    kinds = [f"{part}/{kind}" for part in ("train", "test") for kind in ("NORMAL", "PNEUMONIA")]
    clutter = ["__MACOSX/chest_xray/train/NORMAL/._1.jpeg", "chest_xray/.DS_Store"]
    names = [f"chest_xray/{kind}/1.jpeg" for kind in kinds]
    server.contents["/z"] = zipped(dict.fromkeys([*names, *clutter], b"x"))
    root.mkdir()
    if by_hand:
        (root / "Chest.zip").write_bytes(server.contents["/z"])
    counts = dict.fromkeys(kinds, 1)
    chosen = data_set(
        files=(download.RemoteFile(f"{server.url}/z", "Chest.zip"),),
        archives=(Archive("Chest.zip", "chest_xray", LIMIT, ("train", "test"), counts),),
    )
    assert "Complete" in fetch(chosen, root)
    assert files(root) == ["Chest.zip"] * by_hand + sorted(names)
    assert "nothing was fetched" in fetch(chosen, root)
    assert len(server.requests) == (not by_hand)
    (root / names[0]).unlink()
    assert "0 images where there should be 1" in fetch(chosen, root)


# Git


@pytest.fixture
def remote(tmp_path):
    """Address and first commit of a repository."""
    folder = tmp_path / "remote"
    packed = zipped({"A/1.png": b"x"})
    content = {"a.csv": b"a\r\n", "b.py": b"", "images/1 é.jpg": b"one", "packed/A.zip": packed}
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)

    user = ("-c", "user.name=a", "-c", "user.email=a@localhost", "-c", "core.autocrlf=false")
    git = functools.partial(subprocess.check_output, cwd=folder, text=True)
    git(["git", "init", "--quiet"])
    git(["git", *user, "add", "--all"])
    git(["git", *user, "commit", "--quiet", "--message=first"])
    commit = git(["git", "rev-parse", "HEAD"]).strip()
    git(["git", *user, "commit", "--quiet", "--allow-empty", "--message=later"])
    git(["git", "config", "uploadpack.allowFilter", "true"])
    return {"repository": folder.as_uri(), "commit": commit}


def test_chosen_files_of_a_commit_are_fetched_once(remote, root, tmp_path):
    chosen = data_set(**remote, choose=("/a.csv", "/images/"), needs=("toy/images",))
    assert "Complete" in fetch(chosen, root)
    assert {path.name for path in (root / "toy").iterdir()} == {".git", "a.csv", "images"}
    assert (root / "toy/a.csv").read_bytes() == b"a\r\n"
    assert (root / "toy/images/1 é.jpg").read_bytes() == b"one"
    (tmp_path / "remote").rename(tmp_path / "offline")
    assert "nothing was fetched" in fetch(chosen, root)
    (root / "toy/a.csv").write_text("changed")
    assert "(1 changes); restore it with" in fetch(chosen, root)


def test_a_copy_put_there_by_hand_is_taken_and_a_part_of_one_refused(remote, root, tmp_path):
    chosen = data_set(**remote, choose=("/images/",), needs=("toy/images",))
    (tmp_path / "remote").rename(tmp_path / "offline")
    text = fetch(chosen, root)
    assert "FAILED" in text
    assert "check the network" in text
    assert files(root) == []
    (root / "toy/other").mkdir(parents=True)
    assert "move it away" in fetch(chosen, root)
    (root / "toy/images/1.png").mkdir(parents=True)
    assert "put there by hand" in fetch(chosen, root)


# The catalogue and the command


def test_every_set_lands_where_a_reader_looks_and_is_listed(root, capsys):
    assert set(download.catalogue()) == {source.folder for source in readers.SOURCES.values()}
    assert download.main([]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in [*download.catalogue(), "by hand", "1.2 GB"])
    with pytest.raises(ParameterError, match="no such data set; known are medseg, "):
        download.fetch(["medseg", "chest"], root)
    assert not root.exists()


def test_a_set_by_hand_says_what_to_do_and_its_archive_is_unpacked(root, capsys):
    assert download.main(["RSNA", "--to", str(root)]) == 1
    shown = capsys.readouterr().err
    assert f"kaggle competitions download -c rsna-pneumonia-detection-challenge -p {root}" in shown
    assert "Not complete: rsna" in shown
    wanted = ["detailed_class_info.csv", "train_images/1.dcm", "train_labels.csv"]
    content = zipped({f"stage_2_{name}": b"x" for name in [*wanted, "test_images/2.dcm"]})
    (root / "rsna-pneumonia-detection-challenge.zip").write_bytes(content)
    assert download.main(["RSNA", "--to", str(root)]) == 0
    assert files(root)[1:] == [f"rsna/stage_2_{name}" for name in wanted]
    assert f"DATA={root}" in capsys.readouterr().out
