"""What is committed of real scans follows from the committed predictions, cell by cell."""

import shutil

import pandas as pd
import pytest

from covid_utils import paths, runs
from covid_utils.report import dice_conventions, figures, recognition_tables, render, tables

#: Files that are computed from predictions, without their ending.
COMPUTED = ("scores", "verdicts", "tables/conventions", "tables/conventions_gains")
COMPUTED += ("tables/calibration", *(f"tables/{name}" for name in tables.TITLES))


@pytest.fixture(scope="module")
def committed():
    """Every table of the profile ``sample`` as it is committed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COVID_HOME", raising=False)
        return {name: runs.read_table("sample", name) for name in COMPUTED}


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory):
    """The same, computed anew from the predictions alone."""
    home, sample = tmp_path_factory.mktemp("home"), paths.PROJECT / "results" / "sample"
    computed = shutil.ignore_patterns(
        "figures", "tables", "notebooks", "scores.csv", "verdicts.csv"
    )
    shutil.copytree(sample, home / "results" / "sample", ignore=computed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COVID_HOME", str(home))
        tables.write_all("sample")
        dice_conventions.write("sample")
        return {name: runs.read_table("sample", name) for name in COMPUTED}


@pytest.mark.parametrize("name", COMPUTED)
def test_every_cell_follows_from_the_predictions(committed, rebuilt, name):
    # Other processors may add in another order: numbers are the same up to the last digits.
    pd.testing.assert_frame_equal(committed[name], rebuilt[name], rtol=1e-5, check_dtype=False)


@pytest.mark.parametrize("name", tables.TITLES)
def test_every_page_shows_its_table(committed, tmp_path, name):
    page = paths.PROJECT / "results" / "sample" / "tables" / f"{name}.md"
    render.write(committed[f"tables/{name}"], tmp_path / page.name, tables.TITLES[name], "sample")
    assert page.read_text(encoding="utf8") == (tmp_path / page.name).read_text(encoding="utf8")


def test_figures_show_the_same_scores(committed):
    panels = {f"{n} classes": recognition_tables.rivals(committed["scores"], n) for n in (2, 4)}
    stated = recognition_tables.stated_accuracy()
    drawn = {
        "rivals": figures.forest(panels, "accuracy on test images, %", stated),
        "conventions": dice_conventions.figure(committed["tables/conventions"]),
    }
    for name, figure in drawn.items():
        words = paths.PROJECT / "results" / "sample" / "figures" / f"{name}.txt"
        assert words.read_text(encoding="utf8").strip() == figure.get_label()
