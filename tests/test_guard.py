"""Reading a file is guarded in one place: whatever a decoder raises becomes one sentence."""

import os

import pandas as pd
import pytest
from builders import prepare, recognition_sets

from covid_utils import paths
from covid_utils.data import collection, guard
from covid_utils.errors import DataError


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "scan.x"
    path.write_bytes(b"content")
    return path


def raising(error):
    def decode(path):
        raise error

    return decode


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("bad\n  header"), r"not a complete scan \(bad header\); download this file"),
        (KeyError(), r"not a complete scan \(KeyError\)"),
        (MemoryError(), r"\(MemoryError\); free memory"),
        (PermissionError("denied"), r"\(denied\); allow this user"),
        (ImportError("no codec"), r"\(no codec\); install the decoder"),
        (DataError("said already."), "^said already.$"),
    ],
)
def test_any_error_of_a_decoder_names_file_cause_and_remedy(path, error, message):
    with pytest.raises(DataError, match=message) as caught:
        guard.read(path, "scan", raising(error))
    assert str(path) in str(caught.value) or isinstance(error, DataError)


def test_what_is_kept_of_files_is_the_last_few_until_one_changes(tmp_path):
    decoded = []

    @guard.reads("scan", keep=2)
    def decode(path):
        decoded.append(path.name)
        return path.read_text()

    a, b, c = (tmp_path / name for name in "abc")
    for path in (a, b, c):
        path.write_text(path.name)
    assert [decode(path) for path in (a, b, a, c, a)] == ["a", "b", "a", "c", "a"]
    assert decoded == ["a", "b", "c", "a"], "two files are kept, not three"
    a.write_text("changed")
    assert decode(a) == "changed"


def test_sizes_that_no_scan_has_are_refused_before_memory_is_taken(path):
    guard.bounded(path, (512, 512, 600))
    with pytest.raises(DataError, match=r"scan\.x: 65535 x 65535 values are too many for a scan"):
        guard.bounded(path, (65535, 65535))


def test_files_are_found_behind_links_and_in_any_spelling_but_not_hidden_or_twice(tmp_path):
    inside, outside = tmp_path / "set", tmp_path / "store"
    for folder in (inside, outside):
        folder.mkdir()
    for name in ("set/b.DCM", "set/a.dcm", "set/._a.dcm", "set/notes.txt", "store/c.dcm"):
        (tmp_path / name).touch()
    (inside / "linked").symlink_to(outside)
    (outside / "loop").symlink_to(inside)
    names = [path.name for path in guard.files(inside, (".dcm",))]
    assert names == ["a.dcm", "b.DCM"]
    deep = guard.files(inside, (".dcm",), deep=True)
    assert [path.name for path in deep] == ["a.dcm", "b.DCM", "c.dcm"]
    assert guard.files(tmp_path / "absent", (".dcm",)) == []


def test_odd_names_and_links_in_a_data_folder_cost_only_themselves(tmp_path, home):
    root = recognition_sets(tmp_path / "scans")
    folder = root / "chest_xray/train/NORMAL"
    (folder / "IM-9999-0001.jpeg").symlink_to("nothing")
    whole = (folder / "IM-0000-0001.jpeg").read_bytes()
    (folder / os.fsdecode(b"IM-0777-\xe9.jpeg")).write_bytes(whole)
    made = prepare(root)
    assert len(made.manifest) == 30
    skipped = pd.read_csv(paths.results("quick") / "data" / "skipped.csv").set_index("path")
    assert skipped["problem"].tolist() == ["unreadable", "unreadable"]
    remedies = skipped["remedy"].sort_index().tolist()
    assert "its name is not UTF-8; rename it" in remedies[0]
    assert "a broken link; fetch" in remedies[1]
    assert len(collection.open_or_prepare("quick", str(root)).manifest) == 30
