"""A verdict names the settings in which our runs depart from the paper, and no others."""

import re

import pytest
from builders import manifest
from small_runs import PROFILE

from covid_utils import params, runs
from covid_utils.data.manifest import saved_manifest
from covid_utils.report import tables, verdicts
from covid_utils.report.verdicts import DIFFERS, REPRODUCED


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("COVID_HOME", str(tmp_path))


def departures(name, parameters):
    """Departures of a run with these parameters."""
    with runs.record("sample", name, parameters, manifest({"a": 2})):
        pass
    return sorted(verdicts.departures("sample", name))


@pytest.mark.parametrize(
    ("run", "notebook"),
    [("task1", "02_task1_inception"), ("stream_all_deeplab_random", "04_task3_stream")],
)
def test_published_settings_are_no_departure_nor_is_the_place_of_a_run(elsewhere, run, notebook):
    published = params.load("paper", notebook)
    assert departures(run, published) == []
    neutral = {name: "other" for name in verdicts.NEUTRAL if name in published}
    assert {"profile", "seed"} <= set(neutral)
    assert departures(run, published | neutral | {"layer": "mixed8"}) == []


def test_departures_name_what_differs_from_the_paper_and_nothing_else(elsewhere):
    changes = {
        "atrous_rates": ([2, 4, 6], "2/4/6"),
        "class_weights": ([1.0, 3.5, 3.0, 3.0], "1/3.5/3/3"),
        "flip_test": (True, "true"),
        "learning_rate": (0.003, "0.003"),
        "optimizer": ("adam", "adam"),
        "steps": (600, "600"),
    }
    changed = {name: value for name, (value, _) in changes.items()}
    found = departures("stream_ggo_deeplab", params.load("paper", "04_task3_stream") | changed)
    assert found == [f"{name} {text}" for name, (_, text) in changes.items()]


def differing(notebook):
    """Names of settings in which the profile of the small runs is not the paper's."""
    used, published = (params.load(profile, notebook) for profile in (PROFILE, "paper"))
    idle = {*verdicts.NEUTRAL, *verdicts.IDLE.get(used.get("model", ""), ())}
    return {name for name in used if used[name] != published[name]} - idle


def named(departures):
    """Names in a cell of departures; values may hold a comma, names come first in each part."""
    return re.findall(r"(?:^|, )(\w+) ", departures)


def test_a_comparison_names_its_departures_and_what_is_none_does_not(built):
    found = built["verdicts"]
    compared = found["verdict"].isin((REPRODUCED, DIFFERS))
    assert set(found[~compared]["departures"]) == {""}
    notebooks = {"task1": "02_task1_inception", "stream_all_deeplab": "04_task3_stream"}
    assert set(found[compared]["source_run"]) == set(notebooks)
    for row in found[compared].to_dict("records"):
        assert set(named(row["departures"])) == differing(notebooks[row["source_run"]]), row["id"]


def test_two_runs_of_a_difference_name_each_departure_once(built):
    decided = runs.select(built["table6"], claim="c03").assign(note="", low=0.1)
    judged = {name: built[name].iloc[:0] for name in tables.TITLES}
    judged["table6"] = verdicts.judged("table6", decided, PROFILE, saved_manifest(PROFILE))
    row = verdicts.collect(judged, PROFILE).set_index("id").loc["c03"]
    assert (row["verdict"], row["source_run"].count(",")) == (REPRODUCED, 1)
    names = named(row["departures"])
    assert len(names) == len(set(names))
    assert differing("04_task3_stream") <= set(names)
