"""What follows from a profile's predictions alone, computed anew; no scan is needed."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from covid_utils.data.manifest import left_out
from covid_utils.evaluation import scores
from covid_utils.registry import TASK1, condition_run
from covid_utils.report import dice_conventions, figures, staircase, style, tables
from covid_utils.report.recognition_tables import TASKS, rivals, stated_accuracy
from covid_utils.runs import read_predictions, read_table


def write(profile: str) -> list[str]:
    """Write scores, tables, verdicts and the figures of scores; the names of the figures."""
    scores.write(profile)
    scored = tables.write_all(profile)["scores"]
    dice_conventions.write(profile)
    drawn = drawings(profile, scored)
    for name, figure in drawn.items():
        style.save(figure, profile, name)
    return [*drawn]


def drawings(profile: str, scored: pd.DataFrame) -> dict[str, Figure]:
    """Figures of scores by name, of those runs that a profile has.

    ``scored`` are its scores; `dice_conventions.write` has written its conventions.
    """
    drawn = {
        "conventions": dice_conventions.figure(read_table(profile, "tables/conventions")),
        "staircase": staircase.figure(scored),
    }
    if (scored["protocol"] == "S0").any():
        steps = read_predictions(profile, condition_run("S0"))["steps"]
        drawn["condition_steps"] = staircase.curve(scored, int(steps.min()))
    if TASK1 not in left_out(profile):
        panels = {task: rivals(scored, classes) for task, classes in TASKS.items()}
        label = "accuracy on test images, %"
        drawn["rivals"] = figures.forest(panels, label, stated_accuracy())
    return {name: figure for name, figure in drawn.items() if figure}
