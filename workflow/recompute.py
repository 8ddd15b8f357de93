"""Rebuild all that follows from a profile's predictions: scores, tables, verdicts, their figures.

Neither scans nor networks are needed, so a clean clone can do it with the committed predictions of
``sample``; ``git diff results/sample`` then shows what came out otherwise.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import one_profile
import pandas as pd
from matplotlib.figure import Figure

from covid_utils import paths
from covid_utils.data.manifest import left_out
from covid_utils.evaluation import scores
from covid_utils.registry import TASK1, condition_run
from covid_utils.report import dice_figures, figures, recognition_tables, staircase, style, tables
from covid_utils.runs import read_predictions, read_table


def recompute(profile: str) -> str:
    """Rebuild it; returns what was written."""
    style.use()
    scores.write(profile)
    built = tables.write_all(profile)
    dice_figures.write(profile)
    drawn = {name: figure for name, figure in drawings(profile, built).items() if figure}
    for name, figure in drawn.items():
        style.save(figure, profile, name)
    shown = paths.shown(paths.results(profile))
    return f"{shown}: scores.csv, verdicts.csv, tables/ and of figures/ {', '.join(drawn)}."


def drawings(profile: str, built: Mapping[str, pd.DataFrame]) -> dict[str, Figure | None]:
    """Figures of scores by name, of those runs that a profile has."""
    scored = built["scores"]
    drawn = {
        "conventions": dice_figures.conventions(read_table(profile, "tables/conventions")),
        "staircase": staircase.figure(scored),
    }
    if (scored["protocol"] == "S0").any():
        steps = read_predictions(profile, condition_run("S0"))["steps"]
        drawn["condition_steps"] = staircase.curve(scored, int(steps.min()))
    if "hospitals" in built:
        drawn["other_hospitals"] = dice_figures.hospitals(built["hospitals"])
    if TASK1 not in left_out(profile):
        stated = recognition_tables.stated_accuracy()
        panels = {f"{n} classes": recognition_tables.rivals(scored, n) for n in (2, 4)}
        drawn["rivals"] = figures.forest(panels, "accuracy on test images, %", stated)
    return drawn


if __name__ == "__main__":
    sys.exit(one_profile.run(recompute))
