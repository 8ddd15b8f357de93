"""What is committed of real scans follows from the committed predictions, cell by cell."""

import numpy as np
import pandas as pd
import pytest
import recompute
from builders import copy_sample

from covid_utils import paths, runs
from covid_utils.data.labels import scored_classes
from covid_utils.report import render, tables

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
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COVID_HOME", str(home))
        copy_sample("tables", "scores.csv", "verdicts.csv")
        recompute.recompute("sample")
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
    "path", sorted(SAMPLE.glob("*/maps.npz")), ids=lambda path: path.parent.name
)
def test_maps_show_the_pixels_that_were_counted(path):
    counts = pd.read_parquet(path.with_name("predictions.parquet"))
    counts = runs.select(counts, **counts.iloc[0][["model", "start", "steps", "repeat"]])
    counts = counts.set_index(["stream", "class", "image_id"]).sort_index()
    with np.load(path) as maps:
        for stream in counts.index.unique("stream"):
            predicted, probability = maps[f"{stream}_labels"], maps[f"{stream}_probability"]
            assert (probability[predicted > 0] >= 128).all(), stream
            for name, members in scored_classes(stream).items():
                called = counts.loc[(stream, name)].loc[maps["image_id"], ["tp", "fp"]].sum(axis=1)
                shown = np.isin(predicted, members).sum(axis=(1, 2))
                np.testing.assert_array_equal(shown, called, f"{stream}, {name}")


def test_figures_show_the_same_scores(rebuilt):
    _, drawn = rebuilt
    assert {"rivals.txt", "conventions.txt"} <= set(drawn)
    for name, words in drawn.items():
        assert (SAMPLE / "figures" / name).read_text(encoding="utf8") == words
