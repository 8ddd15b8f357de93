"""What each step towards slices of other hospitals gives, as a figure."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from covid_utils.registry import CHOSEN_ON, COLOURS, EXTERNAL, STEPS
from covid_utils.report.style import DOUBLE, SMALL, finished, spread
from covid_utils.runs import select

#: What is tested on -> its name, colour, mark and place beside the middle of a step.
SERIES = {
    "benchmark": ("benchmark", "others", "s", -0.16),
    CHOSEN_ON: ("other hospitals, volumes that settings were chosen on", "validation", "^", 0.0),
    EXTERNAL: ("other hospitals, no setting compared", "ours", "o", 0.16),
}
#: Step -> what it is called below the axis.
WORDS = {
    "E0": "as the benchmark",
    "E1": "lung crop",
    "E2": "gray scale",
    "E3": "cut to lungs",
    "E4": "many gray scales",
    "E5": "phantom",
    "E6": "average",
    "E7": "all slices",
}


def steps(table: pd.DataFrame, network: str = "small") -> Figure | None:
    """Mean Dice of lesions after each step, with 95 % intervals, and of each volume.

    ``table`` is `tables.build("hospitals", ...)`. None where it has no such scores.
    """
    keys = {"network": network, "class_": "lesion", "metric": "dice", "average": "per_image"}
    part = select(table, **keys)
    if part.empty:
        return None
    figure, axis = plt.subplots(figsize=(DOUBLE, 3.3))
    words = {}
    for tested, (name, colour, mark, beside) in SERIES.items():
        rows = select(part, **{"tested on": tested})
        if len(rows):
            words[name] = _series(axis, rows, name, COLOURS[colour], mark, beside)
    _volumes(axis, part[part["tested on"].str.startswith(f"{EXTERNAL} ")])
    axis.set_xticks(range(len(STEPS)), [f"{step}\n{WORDS[step]}" for step in STEPS])
    axis.tick_params(axis="x", labelsize=SMALL)
    axis.set(ylim=(0, 1), ylabel="mean Dice of lesions")
    axis.grid(axis="y")
    figure.legend(loc="outside lower center", ncols=1)
    caption = "Mean Dice of lesions on the benchmark and on slices of other hospitals, step by step"
    return finished(figure, caption, words)


def _series(
    axis: Axes, rows: pd.DataFrame, name: str, colour: str, mark: str, beside: float
) -> list[str]:
    at = np.array([[*STEPS].index(step) for step in rows["step"]]) + beside
    limits = spread(rows["ours"], rows["low"], rows["high"])
    look = {"color": colour, "markersize": 4.5, "elinewidth": 1.2, "linewidth": 0.8}
    axis.errorbar(at, rows["ours"], limits, fmt=f"{mark}-", label=name, **look)
    return [f"{step} {value:.3f}" for step, value in zip(rows["step"], rows["ours"], strict=True)]


def _volumes(axis: Axes, rows: pd.DataFrame) -> None:
    if rows.empty:
        return
    at = np.array([[*STEPS].index(step) for step in rows["step"]]) + 0.32
    look = {"color": COLOURS["ours"], "markersize": 2.5, "alpha": 0.5}
    axis.plot(at, rows["ours"], ".", label="one volume of another hospital", **look)
