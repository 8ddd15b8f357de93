"""`make fuzz`: its committed table, and that it counts what ends or blocks a process."""

import os
import re
import signal
import sys
import time

import pytest
from builders import modules_of

from covid_utils import paths

linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems limit no address space")
FOLDER = paths.PROJECT / "benchmarks"


@pytest.fixture(scope="module")
def fuzz():
    with modules_of("benchmarks", "fuzz") as (module,):
        yield module


@pytest.mark.parametrize(("page", "formats"), [("PAGE", "FORMATS"), ("SCANS_PAGE", "SCANS")])
def test_no_file_crashed_in_the_committed_tables(fuzz, page, formats):
    text = getattr(fuzz, page).read_text(encoding="utf8")
    rows = [re.split(r"\s*\|\s*", line)[1:6] for line in text.splitlines() if "0 |" in line]
    assert [row[0] for row in rows] == list(getattr(fuzz, formats))
    for name, files, *counts in rows:
        read, refused, crashed = (int(count.replace(",", "")) for count in counts)
        assert (files, read + refused, crashed) == ("10,000", 10_000, 0)
        # Checksums cover all of a pack and of what an archive holds.
        assert read > {"ZIP": 10, "pack": -1}.get(name, 100)


@linux
def test_a_few_damaged_files_of_each_format_are_read_or_refused(fuzz, tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "GIB", 32)  # earlier tests may have taken most of the usual three
    root = fuzz.whole_files(tmp_path / "phantom")
    rows = [fuzz.run(name, 24, root) for name in fuzz.FORMATS]
    assert [row["crashed"] for row in rows] == [0] * 8
    assert sum(row["read"] for row in rows) > 20 < sum(row["refused"] for row in rows)


@linux
def test_what_ends_or_blocks_a_process_is_counted_and_kept_and_the_rest_is_read(
    fuzz, tmp_path, monkeypatch
):
    path = tmp_path / "a.png"
    path.write_bytes(b"whole")
    faults = [lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: time.sleep(9)]
    faults += [lambda: bytearray(4 * 2**30), lambda: None]
    monkeypatch.setattr(fuzz, "SECONDS", 0.5)
    monkeypatch.setattr(fuzz, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(fuzz, "FORMATS", {"case": ("*.png",)})
    monkeypatch.setattr(fuzz, "damaged", lambda content, rng: bytes([rng.integers(4)]))
    monkeypatch.setattr(fuzz, "read", lambda root, path: faults[path.read_bytes()[0]]())
    row = fuzz.run("case", 12, tmp_path)
    crashed = {kept.read_bytes()[0] for kept in (tmp_path / "kept").iterdir()}
    assert crashed == {0, 1, 2}
    assert row["read"] + row["crashed"] == 12
    assert row["read"] > 0
    assert path.read_bytes() == b"whole"
