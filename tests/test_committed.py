"""What is committed of real scans follows from the committed predictions, cell by cell."""

import shutil

import numpy as np
import pandas as pd
import pytest

from covid_utils import paths, runs
from covid_utils.errors import ResultsError
from covid_utils.registry import condition_run
from covid_utils.report import recomputed, render, tables

SAMPLE = paths.PROJECT / "results" / "sample"
#: Tables -> titles; those of runs of their own where such runs are committed.
TITLES = {
    name: title
    for name, title in tables.TITLES.items()
    if any((SAMPLE / run).is_dir() for run in tables.OWN_RUNS.get(name, ("data",)))
}
#: Files that are computed from predictions, without their ending.
COMPUTED = ("scores", "verdicts", "tables/conventions", "tables/conventions_gains")
COMPUTED += ("tables/calibration", *(f"tables/{name}" for name in TITLES))


@pytest.fixture(scope="module")
def committed():
    """Every table of the profile ``sample`` as it is committed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COVID_HOME", raising=False)
        return {name: runs.read_table("sample", name) for name in COMPUTED}


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory):
    """The same, computed anew from the predictions alone, as ``make recompute`` does."""
    home = tmp_path_factory.mktemp("home")
    computed = shutil.ignore_patterns(
        "figures", "tables", "notebooks", "scores.csv", "verdicts.csv"
    )
    shutil.copytree(SAMPLE, home / "results" / "sample", ignore=computed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COVID_HOME", str(home))
        recomputed.write("sample")
        words = (home / "results" / "sample" / "figures").glob("*.txt")
        drawn = {path.name: path.read_text(encoding="utf8") for path in words}
        return {name: runs.read_table("sample", name) for name in COMPUTED}, drawn


@pytest.mark.parametrize("name", COMPUTED)
def test_every_cell_follows_from_the_predictions(committed, rebuilt, name):
    # Other processors may add in another order: numbers are the same up to the last digits.
    found, _ = rebuilt
    pd.testing.assert_frame_equal(committed[name], found[name], rtol=1e-5, check_dtype=False)


@pytest.mark.parametrize(("name", "title"), TITLES.items())
def test_every_page_shows_its_table(committed, tmp_path, name, title):
    page = SAMPLE / "tables" / f"{name}.md"
    render.write(committed[f"tables/{name}"], tmp_path / page.name, title, "sample")
    assert page.read_text(encoding="utf8") == (tmp_path / page.name).read_text(encoding="utf8")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("labels", "another number of pixels of background"), ("probability", "below one half")],
)
def test_a_changed_map_is_refused(tmp_path, monkeypatch, name, reason):
    monkeypatch.setenv("COVID_HOME", str(tmp_path))
    run = condition_run("S0")
    folder = tmp_path / "results" / "sample" / run
    shutil.copytree(SAMPLE / run, folder)
    with np.load(folder / "maps.npz") as stored:
        maps = dict(stored)
    first = np.argwhere(maps["ggo_labels"])[0]
    maps[f"ggo_{name}"][tuple(first)] = 0
    np.savez(folder / "maps.npz", **maps)
    with pytest.raises(ResultsError, match=f"{run}/maps.npz: stream ggo .*{reason}"):
        recomputed.write("sample")


def test_figures_show_the_same_scores(rebuilt):
    _, drawn = rebuilt
    assert {"rivals.txt", "conventions.txt"} <= set(drawn)
    for name, words in drawn.items():
        assert (SAMPLE / "figures" / name).read_text(encoding="utf8") == words
