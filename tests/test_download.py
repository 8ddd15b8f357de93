"""Downloads: continued, checked, never half, never outside their folder; from a local server."""

import hashlib
import io
import json
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from filelock import FileLock

from covid_utils import __main__ as command
from covid_utils import paths
from covid_utils.data import download, sources
from covid_utils.data.download import fetching, git_listing, unpacking
from covid_utils.data.download.checksums import Checksum, digest
from covid_utils.errors import DataError, ParameterError

CONTENT = bytes(range(256)) * 2000
LIMIT = 10**6


class Server:
    """Serves what `contents` holds; `mischief` lists what to do wrong, one item a request."""

    def __init__(self):
        self.contents, self.etags, self.mischief, self.seen = {}, {}, {}, []
        self.honours_range = True
        self.stalled, self.resume = threading.Event(), threading.Event()
        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.httpd.daemon_threads = True
        threading.Thread(target=self.httpd.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.httpd.server_port}"

    def put(self, path, content, etag='"1"'):
        self.contents[path], self.etags[path] = content, etag
        return self.url + path

    def handler(server):  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                server.answer(self)

        return Handler

    def answer(self, request):
        path = request.path.removeprefix(self.url)  # a proxy is asked for the whole address
        asked = request.headers.get("Range")
        self.seen.append((request.path, asked))
        todo = self.mischief.get(path, [])
        deed = todo.pop(0) if todo else None
        content, etag = self.contents.get(path), self.etags.get(path)
        if deed is None and content is None:
            deed = 404
        if isinstance(deed, int):
            return self.send(request, deed, b"no")
        start, status, headers = 0, 200, {"ETag": etag}
        is_same = request.headers.get("If-Range", etag) == etag
        if asked and self.honours_range and is_same:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                headers["Content-Range"] = f"bytes */{len(content)}"
                return self.send(request, 416, b"", headers)
            status = 206
        if deed == "wrong offset":
            start, status = 7, 206
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return self.send(request, status, content[start:], headers, deed)

    def send(self, request, status, body, headers=(), deed=None):
        is_cut = deed in ("cut", "stall")
        request.send_response(status)
        for name, value in dict(headers).items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[: len(body) // 2] if is_cut else body)
        if deed == "stall":
            self.stalled.set()
            self.resume.wait(10)
        request.close_connection = request.close_connection or is_cut


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = Server()
    yield running
    running.httpd.shutdown()
    running.httpd.server_close()


@pytest.fixture
def root(tmp_path):
    return tmp_path / "scans"


def md5(content):
    return Checksum("md5", hashlib.md5(content).hexdigest())


def one(url, content=CONTENT, **changes):
    """Set ``toy`` of one file."""
    file = download.RemoteFile(url, "toy/a.bin", md5(content), **changes)
    return {"toy": download.DataSet("toy", "a toy", "CC0", "here", download.Files((file,)))}


def fetch(sets, root, name="toy", pauses=None, **settings):
    pause = (lambda seconds: None) if pauses is None else pauses.append
    transfer = download.Transfer(attempts=3, timeout=(2, 2), pause=pause, **settings)
    return download.fetch([name], root, sets=sets, transfer=transfer)[0]


def leftovers(root):
    """Files of the data folder without locks, listings and what is on its way."""
    return sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and path.relative_to(root).parts[0] not in (".partial", "checksums")
    )


# One file


def test_a_file_lands_in_its_folder_and_is_fetched_once(server, root):
    sets = one(server.put("/a", CONTENT))
    assert fetch(sets, root).is_complete
    assert (root / "toy/a.bin").read_bytes() == CONTENT
    assert "nothing was fetched" in fetch(sets, root).message
    assert len(server.seen) == 1
    assert not list(root.rglob("*.partial*"))[1:], "only the folder .partial is left"


def test_a_cut_connection_is_continued_where_it_broke(server, root):
    sets = one(server.put("/a", CONTENT))
    server.mischief["/a"] = ["cut", "cut"]
    assert fetch(sets, root).is_complete
    half = len(CONTENT) // 2
    assert [asked for _, asked in server.seen] == [
        None,
        f"bytes={half}-",
        f"bytes={half + half // 2}-",
    ]
    assert (root / "toy/a.bin").read_bytes() == CONTENT


def test_a_later_run_continues_what_an_earlier_one_left(server, root):
    sets = one(server.put("/a", CONTENT))
    server.mischief["/a"] = ["cut", 500, 500, 500]
    outcome = fetch(sets, root)
    assert not outcome.is_complete
    assert "500, 3 times" in outcome.message
    assert leftovers(root) == []
    assert fetch(sets, root).is_complete
    assert server.seen[-1][1] == f"bytes={len(CONTENT) // 2}-"


def test_a_killed_process_leaves_what_arrived(server, root):
    url = server.put("/a", CONTENT)
    server.mischief["/a"] = ["stall"]
    code = (
        "from covid_utils.data import download as d\n"
        f"file = d.RemoteFile({url!r}, 'toy/a.bin', d.Checksum('md5', {md5(CONTENT).value!r}))\n"
        "sets = {'toy': d.DataSet('toy', '', '', '', d.Files((file,)))}\n"
        f"d.fetch(['toy'], {str(root)!r}, sets=sets)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=paths.PROJECT)
    partial, half = root / ".partial/toy/toy/a.bin.partial", len(CONTENT) // 2
    assert server.stalled.wait(30)
    deadline = time.monotonic() + 5
    while not (partial.is_file() and partial.stat().st_size == half):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    server.resume.set()
    assert leftovers(root) == []
    assert fetch(one(url), root).is_complete
    assert server.seen[-1][1] == f"bytes={half}-"
    assert not (root / ".partial/toy").exists()


def test_a_changed_file_is_not_glued_to_its_old_half(server, root):
    url = server.put("/a", CONTENT)
    server.mischief["/a"] = ["cut", 500, 500, 500]
    fetch(one(url), root)
    new = CONTENT[::-1]
    server.put("/a", new, '"2"')
    assert fetch(one(url, new), root).is_complete
    assert (root / "toy/a.bin").read_bytes() == new


def test_a_server_that_ignores_ranges_starts_again(server, root):
    server.honours_range = False
    server.mischief["/a"] = ["cut"]
    assert fetch(one(server.put("/a", CONTENT)), root).is_complete
    assert (root / "toy/a.bin").read_bytes() == CONTENT


def test_a_rest_from_the_wrong_byte_is_thrown_away(server, root):
    server.mischief["/a"] = ["cut", "wrong offset"]
    assert fetch(one(server.put("/a", CONTENT)), root).is_complete
    assert server.seen[-1][1] is None


def test_a_range_beyond_the_end_starts_again(server, root):
    url = server.put("/a", CONTENT)
    server.mischief["/a"] = ["cut", 500, 500, 500]
    fetch(one(url), root)
    short = CONTENT[:100]
    server.put("/a", short)
    assert fetch(one(url, short), root).is_complete
    assert (root / "toy/a.bin").read_bytes() == short


def test_errors_that_pass_are_waited_for_longer_each_time(server, root):
    server.mischief["/a"] = [503, 500]
    pauses = []
    assert fetch(one(server.put("/a", CONTENT)), root, pauses=pauses).is_complete
    assert len(pauses) == 2
    assert pauses[0] < pauses[1]


def test_a_missing_file_is_not_asked_for_again(server, root):
    outcome = fetch(one(f"{server.url}/gone"), root)
    assert "404" in outcome.message
    assert len(server.seen) == 1


def test_wrong_content_is_named_and_deleted_and_the_old_file_stays(server, root):
    url = server.put("/a", b"something else")
    (root / "toy").mkdir(parents=True)
    (root / "toy/a.bin").write_bytes(b"old")
    outcome = fetch(one(url), root)
    assert not outcome.is_complete
    for part in ("toy/a.bin", md5(CONTENT).value, md5(b"something else").value, "run again"):
        assert part in outcome.message
    assert (root / "toy/a.bin").read_bytes() == b"old"
    assert not list((root / ".partial/toy").rglob("*.partial"))


def test_another_file_of_the_same_name_is_kept(server, root):
    sets = one(server.put("/a", CONTENT))
    (root / "toy").mkdir(parents=True)
    for content in (b"mine", b"mine too"):
        (root / "toy/a.bin").write_bytes(content)
        said = []
        download.fetch(["toy"], root, sets=sets, report=said.append)
        assert any("1 file of the same name" in line for line in said)
        assert (root / "toy/a.bin").read_bytes() == CONTENT
    kept = {path.name: path.read_bytes() for path in (root / "replaced/toy").iterdir()}
    assert kept == {"a.bin": b"mine", "2-a.bin": b"mine too"}


def test_no_network_is_one_sentence(server, root):
    server.httpd.shutdown()
    server.httpd.server_close()
    outcome = fetch(one(f"{server.url}/a"), root)
    assert "127.0.0.1 cannot be reached" in outcome.message
    assert "HTTPS_PROXY" in outcome.message


def test_a_full_disk_is_one_sentence_and_leaves_no_file(server, root, monkeypatch):
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    outcome = fetch(one(server.put("/a", CONTENT)), root)
    assert "free some space" in outcome.message
    assert leftovers(root) == []


def test_a_file_in_place_of_the_folder_is_one_sentence(root):
    root.write_text("a file")
    with pytest.raises(download.BlockedError, match="--to"):
        fetch(one("http://127.0.0.1:1/a"), root)


def test_a_proxy_of_the_environment_is_used(server, root, monkeypatch):
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("http_proxy", server.url)
    server.put("http://scans.invalid/a", CONTENT)
    assert fetch(one("http://scans.invalid/a"), root).is_complete
    assert server.seen[0][0] == "http://scans.invalid/a"


def test_a_second_process_waits_for_the_first(server, root):
    sets, lines = one(server.put("/a", CONTENT)), []
    lock = FileLock(root / ".partial/toy.lock", thread_local=False)
    (root / ".partial").mkdir(parents=True)
    lock.acquire()
    timer = threading.Timer(0.2, lock.release)

    def report(line):
        lines.append(line)
        if "waiting" in line:
            timer.start()

    worker = threading.Thread(
        target=download.fetch, args=(["toy"], root), kwargs={"sets": sets, "report": report}
    )
    worker.start()
    worker.join(5)
    assert any("Another process" in line for line in lines)
    assert (root / "toy/a.bin").is_file()


# Archives


def zipped(entries):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return stream.getvalue()


def link():
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    return info


def tarred(name, kind=tarfile.REGTYPE, content=b"x"):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc/passwd"
        info.size = len(content) if kind == tarfile.REGTYPE else 0
        archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


HOSTILE = {
    "parent": zipped({"good": b"x", "../evil": b"x"}),
    "absolute": zipped({"/evil": b"x"}),
    "drive": zipped({"C:/evil": b"x"}),
    "backslash": zipped({"..\\evil": b"x"}),
    "link": zipped({link(): b"/etc/passwd"}),
    "bomb": zipped({"bomb": b"\0" * (LIMIT + 1)}),
    "many bombs": zipped({f"bomb{n}": b"\0" * (LIMIT // 2) for n in range(3)}),
    "damaged": zipped({"a": CONTENT})[:-40],
    "page": b"<!DOCTYPE html>",
    "tar parent": tarred("../evil"),
    "tar absolute": tarred("/evil"),
    "tar symlink": tarred("evil", tarfile.SYMTYPE),
    "tar hardlink": tarred("evil", tarfile.LNKTYPE),
    "tar device": tarred("evil", tarfile.CHRTYPE),
    "tar bomb": tarred("bomb", content=b"\0" * (LIMIT + 1)),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive_leaves_nothing(content, tmp_path):
    archive, goal = tmp_path / "a.zip", tmp_path / "inner" / "goal"
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip"):
        unpacking.unpack(archive, goal, LIMIT)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.zip"]
    assert not goal.exists()


def test_a_good_archive_loses_only_what_macos_added(tmp_path):
    (tmp_path / "a.zip").write_bytes(
        zipped({"d/a.png": b"1", "__MACOSX/d/._a.png": b"2", "d/._b": b"3", "d/.DS_Store": b"4"})
    )
    (tmp_path / "b.tar.gz").write_bytes(tarred("d/b.png"))
    for name in ("a.zip", "b.tar.gz"):
        unpacking.unpack(tmp_path / name, tmp_path / name[0], LIMIT)
    files = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.png")}
    assert files == {"a/d/a.png", "b/d/b.png"}
    assert not list(tmp_path.rglob(".*"))


def kermany(extra=b""):
    names = [f"{s}/{k}/1.jpeg" for s in ("train", "test") for k in ("NORMAL", "PNEUMONIA")]
    return zipped({f"chest_xray/{name}": name.encode() + extra for name in names})


def archive_set(url, count=1):
    counts = {f"{s}/{k}": count for s in ("train", "test") for k in ("NORMAL", "PNEUMONIA")}
    how = download.Unpacking("chest_xray", LIMIT, ("train", "test"), counts=counts)
    file = download.RemoteFile(url, "chest_xray/Chest.zip", unpacking=how)
    return {"toy": download.DataSet("toy", "a toy", "CC0", "here", download.Files((file,)))}


def test_an_archive_becomes_the_readers_folder_and_is_checked_later(server, root):
    sets = archive_set(server.put("/z", kermany()))
    assert fetch(sets, root).is_complete
    assert len(leftovers(root)) == 4
    assert (root / "chest_xray/train/NORMAL/1.jpeg").is_file()
    assert "nothing was fetched" in fetch(sets, root).message
    (root / "chest_xray/test/NORMAL/1.jpeg").write_bytes(b"damaged")
    assert fetch(sets, root).is_complete
    assert (root / "chest_xray/test/NORMAL/1.jpeg").read_bytes() == b"test/NORMAL/1.jpeg"
    assert len(server.seen) == 2


def test_an_archive_with_the_wrong_count_is_not_put_in_place(server, root):
    outcome = fetch(archive_set(server.put("/z", kermany()), count=2), root)
    assert "1 images where there should be 2" in outcome.message
    assert leftovers(root) == []


def test_another_archive_than_the_first_time_is_refused(server, root):
    sets = archive_set(server.put("/z", kermany()))
    fetch(sets, root)
    (root / "chest_xray/test/NORMAL/1.jpeg").unlink()
    server.put("/z", kermany(b"!"), '"2"')
    assert "not the archive of the earlier download" in fetch(sets, root).message


def test_an_archive_fetched_with_a_browser_is_used(root):
    root.mkdir()
    (root / "Chest.zip").write_bytes(kermany())
    assert fetch(archive_set("http://127.0.0.1:1/z"), root).is_complete
    assert (root / "chest_xray/train/NORMAL/1.jpeg").is_file()


def test_a_folder_that_somebody_made_is_not_touched(server, root):
    (root / "chest_xray/train/NORMAL").mkdir(parents=True)
    (root / "chest_xray/train/NORMAL/mine.jpeg").write_bytes(b"mine")
    outcome = fetch(archive_set(server.put("/z", kermany())), root)
    assert "move it away" in outcome.message
    assert leftovers(root) == ["chest_xray/train/NORMAL/mine.jpeg"]


# Git


def blob_sha(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


CT = {f"Images-processed/{k}.zip": zipped({f"{k}/1.png": k.encode()}) for k in ("CT_A", "CT_B")}
XRAYS = {
    "metadata.csv": b"a,b\n",
    "README.md": b"read",
    "code.py": b"pass",
    "images/1 é#.jpg": b"one",
    "images/2.png": b"two",
    "images/sub.d/3.png": b"three",
}


def listing(files):
    """What GitHub answers; folders get the checksum that Git gives them."""
    tree = [
        {
            "path": path,
            "mode": "100644",
            "type": "blob",
            "sha": blob_sha(content),
            "size": len(content),
        }
        for path, content in files.items()
    ]
    folders = {p.rsplit("/", n)[0] for p in files for n in range(1, p.count("/") + 1)}
    for folder in sorted(folders, key=lambda name: -name.count("/")):
        inside = [entry for entry in tree if entry["path"].rpartition("/")[0] == folder]
        sha = git_listing.tree_hash(inside)
        tree.append({"path": folder, "mode": "040000", "type": "tree", "sha": sha})
    return {"sha": "0" * 40, "tree": tree, "truncated": False}


def repository(server, files, **changes):
    from urllib.parse import quote

    server.put("/listing", json.dumps(listing(files)).encode())
    for path, content in files.items():
        server.put(f"/raw/{quote(path)}", content)
    choose = changes.pop("choose", ("metadata.csv", "README*", "images/*"))
    delivery = download.Repository(
        "someone",
        "toy",
        "c" * 40,
        "toy",
        choose,
        listing_url=f"{server.url}/listing",
        content_url=f"{server.url}/raw/{{path}}",
        **changes,
    )
    return {"toy": download.DataSet("toy", "a toy", "CC0", "here", delivery)}


def test_git_names_a_folder_as_git_does(tmp_path):
    # Git's own empty tree and the blob of 'hello' are known everywhere.
    assert git_listing.tree_hash([]) == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
    (tmp_path / "a").write_bytes(b"hello\n")
    assert digest(tmp_path / "a", "git-blob") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_a_folder_sorts_as_if_its_name_ended_in_a_slash():
    sha = blob_sha(b"")
    entries = [
        {"path": "a", "mode": "040000", "type": "tree", "sha": sha},
        {"path": "a.b", "mode": "100644", "type": "blob", "sha": sha},
    ]
    raw = bytes.fromhex(sha)
    body = b"100644 a.b\0" + raw + b"40000 a\0" + raw
    expected = hashlib.sha1(b"tree %d\0" % len(body) + body).hexdigest()
    assert git_listing.tree_hash(entries) == expected


def test_chosen_files_of_a_repository_are_fetched_once(server, root):
    sets = repository(server, XRAYS)
    assert fetch(sets, root).is_complete
    assert leftovers(root) == sorted(f"toy/{path}" for path in XRAYS if path != "code.py")
    assert (root / "toy/images/1 é#.jpg").read_bytes() == b"one"
    before = len(server.seen)
    assert "nothing was fetched" in fetch(sets, root).message
    assert len(server.seen) == before, "not even the listing"


def test_one_bad_file_does_not_stop_the_others_and_the_next_run_gets_it(server, root):
    sets = repository(server, XRAYS)
    server.put("/raw/images/2.png", b"bad")
    outcome = fetch(sets, root)
    assert outcome.message.startswith("1 of 5 files missing: toy/images/2.png: wrong content")
    assert len(leftovers(root)) == 4
    server.put("/raw/images/2.png", b"two")
    server.seen.clear()
    assert fetch(sets, root).is_complete
    assert [path for path, _ in server.seen] == ["/raw/images/2.png"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda found: found.update(truncated=True), "cut off"),
        (lambda found: found["tree"][-1].update(sha="0" * 40), "checksum of the folder"),
        (lambda found: found["tree"][4].update(sha="0" * 40), "checksum of the folder"),
        (lambda found: found["tree"][4].update(path="images/../../x"), "leads out"),
        (lambda found: found["tree"].pop(), "not listed"),
        (lambda found: found["tree"].append(found["tree"][0]), "twice"),
        (lambda found: found["tree"][0].pop("sha"), "malformed"),
        (lambda found: found.pop("tree"), "no listing"),
    ],
)
def test_a_listing_that_cannot_be_true_is_refused(server, root, change, words):
    sets = repository(server, XRAYS)
    found = listing(XRAYS)
    change(found)
    server.put("/listing", json.dumps(found).encode())
    assert words in fetch(sets, root).message
    assert leftovers(root) == []


def test_archives_of_a_repository_become_folders(server, root):
    how = {path: download.Unpacking(f"COVID-CT/{path[-8:-4]}", LIMIT) for path in CT}
    sets = repository(server, CT, choose=tuple(CT), unpacking=how)
    assert fetch(sets, root).is_complete
    assert leftovers(root) == ["COVID-CT/CT_A/1.png", "COVID-CT/CT_B/1.png"]
    assert "nothing was fetched" in fetch(sets, root).message


def test_a_repository_without_one_of_its_archives_is_not_complete(server, root):
    paths = [*CT, "Images-processed/CT_Absent.zip"]
    how = {path: download.Unpacking(f"COVID-CT/{path[-8:-4]}", LIMIT) for path in paths}
    outcome = fetch(repository(server, CT, choose=tuple(paths), unpacking=how), root)
    assert not outcome.is_complete
    assert "CT_Absent.zip is not in the listing" in outcome.message


def test_an_archive_that_grows_beyond_all_measure_is_refused(tmp_path):
    path = tmp_path / "zeros.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(20_000_000))
    with pytest.raises(DataError, match="it holds more than"):
        unpacking.unpack(path, tmp_path / "out", limit=10**9)
    assert not (tmp_path / "out").exists()


# The catalogue and the command


def test_every_set_lands_where_a_reader_looks():
    assert set(download.SETS) == {source.folder for source in sources.SOURCES.values()}


def test_an_unknown_name_lists_the_known_ones(root):
    with pytest.raises(ParameterError, match="no such data set; known are medseg, "):
        download.fetch(["medseg", "chest"], root)
    assert not root.exists()


def test_a_set_by_hand_says_what_to_do(root, capsys):
    assert command.main(["download", "rsna", "--to", str(root)]) == 1
    shown = capsys.readouterr().err
    assert "accept the rules" in shown
    assert f"kaggle competitions download -c rsna-pneumonia-detection-challenge -p {root}" in shown
    assert "Not complete: rsna" in shown


def test_the_archive_of_kaggle_is_unpacked(root, capsys):
    root.mkdir()
    names = ["stage_2_train_images/1.dcm", "stage_2_test_images/2.dcm"]
    names += ["stage_2_train_labels.csv", "stage_2_detailed_class_info.csv"]
    content = zipped(dict.fromkeys(names, b"x"))
    (root / "rsna-pneumonia-detection-challenge.zip").write_bytes(content)
    assert command.main(["download", "RSNA", "--to", str(root)]) == 0
    assert (root / "rsna/stage_2_train_images/1.dcm").is_file()
    assert not (root / "rsna/stage_2_test_images").exists()
    assert f"DATA={root}" in capsys.readouterr().out
    assert [source.folder for source in sources.find(root)] == ["rsna"]


def test_without_names_the_sets_are_listed(capsys):
    assert command.main(["download"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in download.SETS)
    assert "by hand" in shown


def test_a_disk_that_fills_while_unpacking_keeps_the_archive(server, root, monkeypatch):
    def full(*args):
        raise download.BlockedError("the disk is full; free some space")

    sets = archive_set(server.put("/z", kermany()))
    with monkeypatch.context() as patched:
        patched.setattr(fetching, "unpack", full)
        assert "disk is full" in fetch(sets, root).message
    assert fetch(sets, root).is_complete
    assert len(server.seen) == 1
