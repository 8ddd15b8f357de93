"""What is committed of real scans follows from the committed predictions, cell by cell."""

import shutil

import pandas as pd
import pytest

from covid_utils import paths, runs
from covid_utils.registry import CONDITIONS, condition_run
from covid_utils.report import recomputed, render, tables

SAMPLE = paths.PROJECT / "results" / "sample"
#: Tables -> file and title.
FILES = {name: (name, title) for name, title in tables.TITLES.items()}
if any((SAMPLE / condition_run(condition)).is_dir() for condition in CONDITIONS):
    FILES |= tables.OWN
#: Files that are computed from predictions, without their ending.
COMPUTED = ("scores", "verdicts", "tables/conventions", "tables/conventions_gains")
COMPUTED += ("tables/calibration", *(f"tables/{name}" for name, _ in FILES.values()))


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


@pytest.mark.parametrize(("name", "title"), FILES.values())
def test_every_page_shows_its_table(committed, tmp_path, name, title):
    page = SAMPLE / "tables" / f"{name}.md"
    render.write(committed[f"tables/{name}"], tmp_path / page.name, title, "sample")
    assert page.read_text(encoding="utf8") == (tmp_path / page.name).read_text(encoding="utf8")


def test_figures_show_the_same_scores(rebuilt):
    _, drawn = rebuilt
    assert {"rivals.txt", "conventions.txt"} <= set(drawn)
    for name, words in drawn.items():
        assert (SAMPLE / "figures" / name).read_text(encoding="utf8") == words
