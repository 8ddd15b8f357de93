"""What copies made before the split are worth as training goes on."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from covid_utils import params, runs
from covid_utils.registry import COLOURS, condition_run
from covid_utils.report import condition_steps
from covid_utils.report.condition_steps import change, paper
from covid_utils.report.staircase import NAMES, POINT, paper_line, write_changes
from covid_utils.report.style import DOUBLE, SMALL, finished, spread

#: Lines of S0 and of S3.
LINES = (
    {"fmt": "o", "linestyle": "-", "color": COLOURS["ours"]},
    {"fmt": "s", "linestyle": "--", "color": COLOURS["ours"], "markerfacecolor": "white"},
)


def figure(scored: pd.DataFrame, profile: str) -> Figure | None:
    """Dice of the all-class stream against its steps, under S0 and S3.

    The profile's predictions say how many steps are the usual ones. None without scores.
    """
    if not (scored["protocol"] == "S0").any():
        return None
    usual = int(runs.read_predictions(profile, condition_run("S0"))["steps"].min())
    panels, words = condition_steps.curve(scored, usual), {}
    if not panels:
        return None
    published = params.load("paper", "04_task3_stream")["steps"]
    drawn, axes = plt.subplots(1, len(panels), figsize=(DOUBLE, 2.8), squeeze=False)
    for axis, (title, table) in zip(axes[0], panels.items(), strict=True):
        for (condition, rows), look in zip(table.groupby("condition"), LINES, strict=False):
            name = f"{condition}, {NAMES[condition]}".replace("\n", " ")
            limits = spread(rows["ours"], rows["low"], rows["high"])
            # Beside each other, so that no interval hides another.
            at = rows["steps"] * (1.05 if look["fmt"] == "s" else 0.95)
            axis.errorbar(at, rows["ours"], limits, **POINT | look, label=name)
            words[f"{title}, {name}"] = _words(rows)
        paper_line(axis, paper(title))
        write_changes(axis, table.dropna(subset="change"), "steps")
        ticks = [*sorted(table["steps"].unique()), published]
        axis.set(xscale="log", xlim=(ticks[0] / 2.2, 1.2 * ticks[-1]), xlabel="steps")
        axis.set_xticks(ticks, [f"{step:,}" for step in ticks])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.get_xticklabels()[-1].set_color(COLOURS["paper"])
        axis.set_title(title, loc="left", fontweight="bold", pad=4)
    entries = axes[0, 0].get_legend_handles_labels()
    note = f"below: S3 minus S0, 95 % interval as if independent; the paper: {published:,} steps"
    drawn.legend(*entries, loc="outside lower center", ncols=3, title=note, title_fontsize=SMALL)
    return finished(drawn, "Dice of the all-class stream against the steps of its training", words)


def _words(rows: pd.DataFrame) -> list[str]:
    return [
        f"{row['ours']:.2f} ({row['low']:.2f} to {row['high']:.2f}) after {row['steps']} steps"
        + (
            f", {' '.join(change(row))} against S0"
            if np.isfinite(row.get("change", np.nan))
            else ""
        )
        for row in rows.to_dict("records")
    ]
