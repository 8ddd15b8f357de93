"""A verdict names the settings in which our runs depart from the paper, and no others."""

import pytest
from builders import manifest

from covid_utils import params, runs
from covid_utils.report import verdicts


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
