"""Run folders and files: whole or nothing, and where each number comes from."""

import multiprocessing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from builders import manifest

from covid_utils import paths, runs
from covid_utils.errors import ResultsError
from covid_utils.writing import whole

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def rows():
    return manifest({"a": 2, "b": 1})


def make(rows, value=1, **parameters):
    with runs.record("quick", "task", parameters, rows) as run:
        run.write_metrics({"value": value})
        run.write_table("history", pd.DataFrame({"step": [1, 2], "loss": [0.5, 0.25]}))
        run.write_predictions(pd.DataFrame({"p": [0.1, 0.9]}))


def everything_in(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != ".task.lock")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_run_that_breaks_leaves_what_was_there_before(rows, error):
    def broken():
        with pytest.raises(error), runs.record("quick", "task", {}, rows) as run:
            run.write_metrics({"value": "new"})
            (run.folder / "masks.npz").write_bytes(b"half")
            raise error

    broken()
    assert everything_in(paths.results("quick")) == []
    make(rows, value="old")
    before = everything_in(paths.results("quick") / "task")
    broken()
    assert runs.read_metrics("quick", "task") == {"value": "old"}
    assert everything_in(paths.results("quick") / "task") == before
    assert everything_in(paths.results("quick")) == ["task"]


def record_often(value, rows):
    for _ in range(40):
        make(rows, value)


def test_readers_of_a_run_that_others_replace_never_see_half_of_it(rows, monkeypatch):
    monkeypatch.setattr(runs, "provenance", lambda *_: {})  # looking up versions takes longest
    make(rows, 0)
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=record_often, args=(value, rows)) for value in (1, 2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert runs.read_metrics("quick", "task")["value"] in (0, 1, 2)
        assert len(runs.read_predictions("quick", "task")) == 2
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert everything_in(paths.results("quick")) == ["task"]


def test_a_run_is_not_visible_before_it_ends_and_has_no_file_of_an_older_one(rows):
    nobody = 2**22 + 1  # above the largest process number of Linux
    leftover = paths.results("quick") / f".task.{nobody}.partial"
    leftover.mkdir(parents=True)
    (leftover / "predictions.parquet").write_bytes(b"half")
    with runs.record("quick", "task", {}, rows) as run:
        run.write_metrics({})
        with pytest.raises(ResultsError):
            runs.read_metrics("quick", "task")
    make(rows)
    with runs.record("quick", "task", {}, rows) as run:
        run.write_metrics({"value": 2})
    assert everything_in(paths.results("quick") / "task") == ["metrics.json", "provenance.json"]
    assert everything_in(paths.results("quick")) == ["task"]


def test_a_finished_run_is_read_back_with_its_provenance_and_no_absolute_path(rows, tmp_path):
    make(rows, 7, seed=3, weights="weights/inception.npz", data_dir=str(tmp_path / "scans"))
    assert runs.read_metrics("quick", "task") == {"value": 7}
    assert runs.read_predictions("quick", "task")["p"].tolist() == [0.1, 0.9]
    assert runs.read_table("quick", "task/history")["loss"].tolist() == [0.5, 0.25]
    assert everything_in(paths.results("quick")) == ["task"]
    facts = runs.read_provenance("quick", "task")
    recorded = {"seed": 3, "data_dir": "scans", "weights": "weights/inception.npz"}
    assert facts["parameters"] == recorded
    assert facts["images"] == 3
    assert facts["data_sha256"] == runs.data_hash(rows)
    assert facts["packages"]["numpy"] == np.__version__
    assert {"tensorflow", "tensorflow-cpu"} & set(facts["packages"])
    assert facts["peak_memory_mb"] > 10
    assert {"revision", "python", "threads", "processor"} <= set(facts)
    text = (paths.results("quick") / "task" / "provenance.json").read_text()
    assert str(tmp_path) not in text
    assert str(Path.home()) + "/" not in text


def test_the_opening_names_folders_and_what_a_run_replaces(rows, monkeypatch):
    given = {"profile": "quick", "data_dir": "/some/where/scans", "steps": 3, "rates": [0.1, 0.3]}
    folders = "Results: $COVID_HOME/results/quick. Code: ../covid_utils."
    monkeypatch.chdir(paths.NOTEBOOKS)
    assert runs.opening(given, "task") == folders
    make(rows, **given)
    assert runs.opening(given, "task", "other") == folders
    changed = runs.opening(given | {"steps": 4, "rates": [0.1], "data_dir": ""}, "task")
    assert changed.splitlines() == [
        folders,
        "This replaces the run task, made with data_dir 'scans', now '', steps 3, now 4, "
        "rates [0.1, 0.3], now [0.1].",
    ]
    monkeypatch.delenv("COVID_HOME")
    assert runs.opening(given).startswith("Results: ../results/quick. Code: ")
    assert "replaces" not in runs.opening(given)


# Files


def test_a_whole_file_gets_its_name_and_folder_and_a_failure_leaves_the_old_one(tmp_path):
    path = tmp_path / "new" / "a.csv"
    with whole(path) as partial:
        partial.write_text("old")
        assert partial.suffix == path.suffix
        assert not path.exists()
    with pytest.raises(RuntimeError, match="half"), whole(path) as partial:
        partial.write_text("ne")
        raise RuntimeError("half")
    assert path.read_text() == "old"
    assert [file.name for file in path.parent.iterdir()] == ["a.csv"]


def test_a_run_by_hand_takes_away_the_mark_that_the_graph_was_done(rows):
    mark = paths.results("quick") / ".done" / "task"
    mark.parent.mkdir(parents=True)
    mark.touch()
    make(rows)
    assert not mark.exists()
