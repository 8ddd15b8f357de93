"""A verdict names the settings in which our runs depart from the paper, and no others."""

import re

import pytest
from builders import manifest
from small_runs import PROFILE

from covid_utils import params, runs
from covid_utils.report import verdicts
from covid_utils.report.verdicts import DIFFERS, REPRODUCED, UNDECIDED


def departures(name, parameters):
    """Departures of a run with these parameters."""
    with runs.record("sample", name, parameters, manifest({"a": 2})):
        pass
    return sorted(verdicts.departures("sample", name))


@pytest.mark.parametrize(
    ("run", "notebook"),
    [("task1", "02_task1_inception"), ("stream_all_deeplab_random", "04_task3_stream")],
)
def test_published_settings_are_no_departure_nor_is_the_place_of_a_run(home, run, notebook):
    published = params.load("paper", notebook)
    assert departures(run, published) == []
    neutral = {name: "other" for name in verdicts.NEUTRAL if name in published}
    assert {"profile", "seed"} <= set(neutral)
    assert departures(run, published | neutral | {"layer": "mixed8"}) == []


def test_departures_name_what_differs_from_the_paper_and_nothing_else(home):
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
    seen = 0
    for prefix in verdicts.PREFIXES.values():
        answers = verdicts.answers(found, prefix)
        compared = answers["verdict"].isin((REPRODUCED, DIFFERS, UNDECIDED))
        assert set(answers[~compared]["departures"]) <= {""}
        for row in answers[compared].to_dict("records"):
            if row["source_run"] == "task1":
                seen += 1
                assert set(named(row["departures"])) == differing("02_task1_inception"), row["id"]
    assert seen


def test_streams_under_a_condition_have_the_settings_of_their_own_notebook():
    found = ", ".join(verdicts.departures(PROFILE, "condition_S0"))
    # Each training is scored alone there, and validation slices teach nothing.
    assert set(named(found)) == differing("04_task3_stream") - {"members", "refit"}
