"""Dice under every convention and beside the paper's gains, and on slices of other hospitals.

The paper states gains in Dice over other work, but neither its values nor how they were averaged.
That a value which a gain implies lies within an interval does not show that the paper used this
convention; that none lies within any shows that no convention alone explains the gain.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from covid_utils import paths, registry, runs
from covid_utils.report import claims as ledger
from covid_utils.report import tables
from covid_utils.report.style import DOUBLE, SMALL, finished, legend_below, spread

AVERAGES = {
    "pooled": "pooled pixels",
    "pooled_classes": "pooled pixels of all classes",
    "per_image": "mean over slices",
    "per_class": "mean over slices, by class",
}
#: Targets of the figure -> their title.
SHOWN = {"lesion": "Any lesion", registry.MEAN_OF_LESIONS: "Mean of manifestations"}
SHOWN |= {"ggo": "Ground-glass"}
OURS, PAPER = registry.stream_run("all"), registry.COLOURS["paper"]
#: Run -> name, shift of its line and mark.
MARKS = {
    OURS: ("ours", 0.15, {"fmt": "o", "color": registry.COLOURS["ours"]}),
    registry.PUBLISHED: ("published masks", -0.15, {"fmt": "D", "color": PAPER, "mfc": "white"}),
}
EMPTY = (
    "mean over slices: of those that have the class; with empty: of all, where a false alarm is 0\n"
    "and a slice in which the class is neither true nor predicted counts as stated"
)
CHOSEN = "other hospitals, volumes that settings were chosen on"
#: What is tested on -> its name, colour, mark and place beside the middle of a step.
SERIES = {
    "benchmark": ("benchmark", "others", "s", -0.16),
    registry.CHOSEN_ON: (CHOSEN, "validation", "^", 0.0),
    registry.EXTERNAL: ("other hospitals, no setting compared", "ours", "o", 0.16),
}
#: What each of `registry.STEPS` is called below the axis.
STEP_NAMES = {
    "E0": "as the benchmark",
    "E1": "lung crop",
    "E2": "gray scale",
    "E3": "cut to lungs",
    "E4": "many gray scales",
    "E5": "phantom",
    "E6": "average",
    "E7": "all slices",
}


def write(profile: str) -> pd.DataFrame:
    """Read ``tables/conventions.csv``, and write the `gains` beside it."""
    table = tables.read_scores(profile, "tables/conventions")
    tables.write(gains(table), paths.results(profile) / "tables" / "conventions_gains.csv")
    return table


def gains(scored: pd.DataFrame) -> pd.DataFrame:
    """Dice under each convention, beside each value that one of the paper's gains implies.

    To the columns of `write`'s table come the id of the ``claim``, the value ``implied`` by it, and
    whether it lies within the limits: ``holds``.
    """
    parts = []
    for claim in ledger.gains():
        part = runs.select(scored, metric="dice", class_=_targets(claim)).assign(claim=claim.id)
        parts += [part.assign(implied=value) for value in claim.implied]
    table = pd.concat(parts, ignore_index=True)
    # Without limits nothing is held: comparisons with NaN are false.
    return table.assign(holds=table["implied"].between(table["low"], table["high"]))


def _targets(claim: ledger.Claim) -> list[str]:
    """What a gain can be of: one overall, of the extent or of the mean of manifestations."""
    return [claim.class_] if claim.class_ else ["lesion", registry.MEAN_OF_LESIONS]


def words(average: str, background: str, empty: str, threshold: str) -> str:
    """A convention in words; a mean over slices is of those with the class, or says ``empty``."""
    is_accuracy = (average, background) == ("pooled_classes", "with")
    parts = [
        "pixel accuracy" if is_accuracy else AVERAGES[average],
        "with background" if background == "with" else "",
        "256 thresholds" if threshold == registry.MANY_THRESHOLDS else "",
        f"empty: {empty.removeprefix('as ')}" if empty in registry.EMPTY_CASES else "",
    ]
    return ", ".join(filter(None, parts))


def conventions(scored: pd.DataFrame) -> Figure | None:
    """Dice of the same outlines, from `write`: ours, if there are any, and the authors' masks."""
    dice = runs.select(scored, metric="dice", run=[*MARKS])
    if OURS not in set(dice["run"]):
        return None
    ways = dice[[*registry.CONVENTION]].itertuples(index=False)
    dice = dice.assign(words=[words(*way) for way in ways])
    targets = [name for name in SHOWN if name in set(dice["class"])]
    panels = [_lines(dice[dice["class"] == name]) for name in targets]
    heights = [part["line"].nunique() + 1.0 for part in panels]
    grid = {"figsize": (6.4, 0.9 + 0.16 * sum(heights)), "height_ratios": heights}
    drawn, axes = plt.subplots(len(panels), sharex=True, squeeze=False, **grid)
    ranges = {}
    for axis, target, part in zip(axes[:, 0], targets, panels, strict=True):
        ranges |= _draw_panel(axis, target, part)
    axes[-1, 0].set(xlabel="Dice", xlim=(0, 1.02))
    legend_below(drawn)
    drawn.suptitle(EMPTY, fontsize=SMALL)
    return finished(drawn, "Dice of the same outlines under every convention", ranges)


def _lines(part: pd.DataFrame) -> pd.DataFrame:
    """Values of one target with their ``line``, 0 for the lowest of ours."""
    if "all" in set(part["labels"]):
        part = part[part["labels"] == "all"]
    order = part.loc[part["run"] == OURS].sort_values("value", kind="stable")[["words"]]
    # A convention of the other outlines only, such as one of empty cases, has no line.
    return part.merge(order.assign(line=range(len(order))), on="words")


def _draw_panel(axis: Axes, target: str, part: pd.DataFrame) -> dict[str, list[str]]:
    """Draw the lines of one target; their ranges in words."""
    title, ranges = SHOWN[target], {}
    title += ", all labels" if "all" in set(part["labels"]) else ""
    for run, (name, shift, mark) in MARKS.items():
        rows = part[part["run"] == run].sort_values("value")
        if len(rows):
            limits = spread(rows["value"], rows["low"], rows["high"])
            look = {"markersize": 3.2, "elinewidth": 0.9, "label": f"{name}, 95 % interval"} | mark
            axis.errorbar(rows["value"], rows["line"] + shift, xerr=limits, **look)
            ends = rows.iloc[[0, -1]][["value", "words"]].to_numpy()
            between = " to ".join(f"{value:.2f} ({convention})" for value, convention in ends)
            ranges[f"{title}, {name}"] = [f"from {between}"]
    named = part.drop_duplicates("line").sort_values("line")
    axis.set_yticks(named["line"], named["words"])
    axis.set_ylim(-0.6, len(named) - 0.4)
    axis.grid(color="0.9", linewidth=0.5)
    for claim in ledger.gains():
        if target not in _targets(claim):
            continue
        look = {"color": PAPER, "alpha": 0.4, "linewidth": 0, "zorder": 1}
        # A single value would be a band without width.
        band = (min(claim.implied) - 0.0015, max(claim.implied) + 0.0015)
        axis.axvspan(*band, **look, label="the paper's value, as its gain implies")
        title += f" (paper: {ledger.span(claim.implied)})"
    axis.set_title(title, loc="left")
    return ranges


def hospitals(table: pd.DataFrame) -> Figure | None:
    """Mean Dice of lesions of the small network after each step, with 95 % intervals.

    ``table`` is `tables.build("hospitals", ...)`. None where it has no such scores.
    """
    part = runs.select(table, network="small", class_="lesion", metric="dice", average="per_image")
    if part.empty:
        return None
    part = part.assign(at=part["step"].map([*registry.STEPS].index))
    drawn, axis = plt.subplots(figsize=(DOUBLE, 3.3))
    words = {}
    for tested, (name, colour, mark, beside) in SERIES.items():
        rows = part[part["tested on"] == tested]
        if len(rows):
            limits = spread(rows["ours"], rows["low"], rows["high"])
            look = {"color": registry.COLOURS[colour], "markersize": 4.5, "elinewidth": 1.2}
            look |= {"fmt": f"{mark}-", "linewidth": 0.8, "label": name}
            axis.errorbar(rows["at"] + beside, rows["ours"], limits, **look)
            words[name] = map("{} {:.3f}".format, rows["step"], rows["ours"])
    volumes = part[part["tested on"].str.startswith(f"{registry.EXTERNAL} ")]
    look = {"color": registry.COLOURS["ours"], "markersize": 2.5, "alpha": 0.5}
    look["label"] = "one volume of another hospital"
    axis.plot(volumes["at"] + 0.32, volumes["ours"], ".", **look)
    ticks = [f"{step}\n{STEP_NAMES[step]}" for step in registry.STEPS]
    axis.set_xticks(range(len(ticks)), ticks)
    axis.tick_params(axis="x", labelsize=SMALL)
    axis.set(ylim=(0, 1), ylabel="mean Dice of lesions")
    axis.grid(axis="y")
    drawn.legend(loc="outside lower center", ncols=1)
    caption = "Mean Dice of lesions on the benchmark and on slices of other hospitals, step by step"
    return finished(drawn, caption, words)
