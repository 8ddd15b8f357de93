"""The table of conditions, and the figures of what each step is worth, of the committed scores."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from builders import one, value

from covid_utils import runs
from covid_utils.evaluation import intervals
from covid_utils.registry import COLOURS, CONDITIONS, condition_run
from covid_utils.report import render, staircase, style
from covid_utils.report import tables as written

PANELS = tuple(staircase.STAIRCASES)
_, KEYS = written.SCORED["conditions"]


@pytest.fixture(scope="module")
def scored():
    """Scores of trainings under every condition that a figure shows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COVID_HOME", raising=False)
        style.use()
        yield runs.read_table("sample", "scores")


def texts(axis):
    return [text.get_text() for text in axis.texts]


def test_a_row_of_the_table_is_named_by_its_keys(scored):
    table = written.select("conditions", scored)
    assert list(table) == [*KEYS, *render.VALUES]
    assert not table.duplicated([*KEYS, "metric", "source_run"]).any()
    keys = {"task": "2 classes", "subset": "test", "class_": "all"}
    keys |= {"metric": "accuracy", "model": "head"}
    row = one(table, **keys, condition="R3")
    mean = value(scored, **keys, protocol="R3", repeat=0)
    assert (row["ours"], row["unit"]) == (pytest.approx(100 * mean), "%")
    tuned = runs.select(table, model="fine-tuned", metric="accuracy")
    assert set(tuned["condition"]) == {"R0", "R3"}
    assert set(tuned["source_run"]) == {condition_run("R5")}
    starts = runs.select(table, condition="S0", class_="lesion", metric="dice", average="pooled")
    named = {"stream all", "stream all, random start", "stream all, 1400 steps"}
    assert named <= set(starts["task"])
    assert len(runs.select(starts, task="stream all", model="deeplab")) == 1


def test_a_step_is_the_difference_of_neighbours_as_if_independent(scored):
    steps = staircase.steps(scored)
    assert tuple(steps) == PANELS
    rows = steps[PANELS[0]]
    assert rows["condition"].tolist() == [*staircase.XRAYS]
    assert np.isnan(rows["change"].iloc[0])
    limits = rows[["ours", "low", "high"]].to_numpy()
    for at in range(1, len(rows)):
        gap = intervals.difference(*(intervals.Interval(*limits[i], 0) for i in (at, at - 1)))
        own = rows.iloc[at][["change", "change_low", "change_high"]].to_numpy(float)
        assert own == pytest.approx(gap[:3])
    assert rows["neighbour"].notna().all()
    changes = staircase.changes(scored)
    assert changes["step"].tolist()[:4] == ["R0 to R1", "R1 to R2", "R2 to R3", "R3 to R4"]
    assert changes["what is new"].iloc[0] == CONDITIONS["R1"]


def test_a_staircase_shows_values_changes_and_what_the_paper_states(scored):
    drawn = staircase.figure(scored)
    axes = drawn.axes
    assert [axis.get_title(loc="left") for axis in axes] == [*PANELS]
    steps = staircase.steps(scored)
    for axis, (title, rows) in zip(axes, steps.items(), strict=True):
        (points,) = [line for line in axis.lines if line.get_marker() == "o"]
        assert points.get_ydata() == pytest.approx(rows["ours"].to_numpy())
        for row in rows[1:].to_dict("records"):
            assert "\n".join(staircase.change(row)) in texts(axis)
        stated = staircase.paper(title)
        lines = [line.get_ydata()[0] for line in axis.lines if line.get_color() == COLOURS["paper"]]
        assert {*lines} == {min(stated), max(stated)}
        assert {"patients apart", "as published"} <= {*texts(axis)}
        low, high = axis.get_ylim()
        assert low < min(rows["low"].min(), *stated) < max(*stated, *rows["high"]) <= high
    label = drawn.get_label()
    for word in (*PANELS, "as if the two were independent", "the paper 99.4", "the paper 0.811 to"):
        assert word in label
    for words in drawn.findobj(plt.Text):
        assert words.get_fontsize() >= style.SMALL


def test_what_was_not_run_has_no_panel(scored):
    only = scored[scored["protocol"].isin(["R0", "R3"])]
    drawn = staircase.figure(only[only["task"] == "2 classes"])
    assert [axis.get_title(loc="left") for axis in drawn.axes if axis.axison] == [PANELS[0]]
    assert staircase.figure(scored[:0]) is None
    assert staircase.curve(scored[:0], 350) is None
    assert staircase.changes(scored[:0]).empty


def test_the_curve_has_each_number_of_steps_and_the_distance(scored):
    found = staircase.longer(scored, 350)
    assert tuple(found) == PANELS[2:]
    rows = found[PANELS[2]]
    assert rows["steps"].tolist() == [350, 1400, 5600] * 2
    first, copied = rows["ours"].to_numpy()[:3], rows["ours"].to_numpy()[3:]
    assert rows["change"].to_numpy()[3:] == pytest.approx(copied - first)
    keys = {"protocol": "S3", "task": "stream all, 5600 steps", "class": "lesion", "repeat": 0}
    assert copied[2] == value(scored, **keys, metric="dice", average="per_image")
    drawn = staircase.curve(scored, 350)
    for axis in drawn.axes:
        ticks = [label.get_text() for label in axis.get_xticklabels()]
        assert ticks == ["350", "1,400", "5,600", "50,000"]
    assert "after 5600 steps" in drawn.get_label()
