"""The staircase: what each step from patients apart to the paper's apparent protocol is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from covid_utils import params
from covid_utils.evaluation.intervals import Interval, difference
from covid_utils.registry import COLOURS, COMPARED, CONDITIONS
from covid_utils.report import claims as ledger
from covid_utils.report import tables
from covid_utils.report.render import number
from covid_utils.report.style import DOUBLE, SMALL, finished, in_words, legend_below, spread
from covid_utils.runs import select

#: Whose steps are shown, from left to right.
XRAYS, SLICES = ("R0", "R1", "R2", "R3", "R4"), ("S0", "S1", "S2", "S3")
#: Title of a panel -> headline claim, and the conditions under which it is answered.
STAIRCASES = {
    "COVID-19 or normal, accuracy in %": ("p01", XRAYS),
    "Four classes, accuracy in %": ("p06", XRAYS),
    "Any lesion, mean Dice": ("p25b", SLICES),
    "Ground-glass by its own stream, mean Dice": ("p23a", SLICES),
}
#: What one of them is called in the curve, where all classes have one stream.
IN_THE_CURVE = {
    "Ground-glass by its own stream, mean Dice": "Ground-glass by the all-class stream, mean Dice",
}
#: Condition -> what it is called below its tread.
NAMES = {
    "R0": "patients\napart",
    "R1": "normals of\none source",
    "R2": "images by\nhash of path",
    "R3": "copies,\nthen split",
    "R4": "patients\nnever seen",
    "S0": "near copies\napart",
    "S1": "near copies\nin training",
    "S2": "slices\nat random",
    "S3": "copies,\nthen split",
}
#: The conditions that give the two answers to a claim, by number -> words and colour.
ANSWERS = {"0": ("patients apart", "ours"), "3": ("as published", "paper")}
#: Height of the strip of changes below the treads, as a share of what is above it.
STRIP = 0.32
OURS = COLOURS["ours"]
POINT = {"fmt": "o", "markersize": 4.5, "elinewidth": 1.3, "capsize": 0, "zorder": 4, "color": OURS}
NEAR = {"textcoords": "offset points", "fontsize": SMALL}
#: Entries of the legend, in order, and its title.
ENTRIES = ("ours, 95 % interval", "nearest neighbour, same features", "the paper")
INDEPENDENT = (
    "between the steps: change from the condition before and its 95 % interval, as if the two were "
    "independent"
)
CAPTION = (
    "Staircases from patients apart to the paper's apparent protocol: what each step is worth. "
    "Changes are from the condition before, with 95 % intervals as if the two were independent. "
    "Dice is the mean over slices"
)
#: White rim of numbers that a line may cross.
RIM = [patheffects.withStroke(linewidth=2, foreground="white")]
#: Lines of S0 and of S3.
LINES = ({"linestyle": "-"}, {"fmt": "s", "linestyle": "--", "markerfacecolor": "white"})


def _rule(title: str) -> dict:
    """What names the rows behind one of `STAIRCASES`, whatever the condition."""
    (rule,) = ledger.load()[STAIRCASES[title][0]].cells("patients_apart")
    return {key: value for key, value in rule.items() if key not in ("table", "condition")}


def paper(title: str) -> tuple[float, ...]:
    """What the paper states for one of `STAIRCASES`, or all that its gain implies."""
    claim = ledger.load()[STAIRCASES[title][0]]
    return claim.implied or (float(claim.value),)


def steps(scored: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Of each of `STAIRCASES` that has scores its conditions, from left to right.

    Beside the columns of the table of conditions: ``neighbour``, the value of a nearest neighbour
    on the same features; and ``change``, ``change_low``, ``change_high`` from the condition before,
    as if independent.
    """
    table, found = tables.select("conditions", scored), {}
    for title, (_, conditions) in STAIRCASES.items():
        rule = _rule(title)
        rows = select(table, **rule, condition=conditions)
        others = select(table, **rule | {"model": "nearest neighbour"}).set_index("condition")
        rows = rows.assign(neighbour=rows["condition"].map(others["ours"]))
        if len(rows):
            found[title] = _with_changes(rows, rows.shift())
    return found


def _with_changes(rows: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """Rows with their change from those ``before``, in the same order; NaN from none."""
    limits = (part[["ours", "low", "high"]].to_numpy(float).T for part in (rows, before))
    gap = difference(*(Interval(*each, 0) for each in limits))
    return rows.assign(change=gap.value, change_low=gap.low, change_high=gap.high)


def changes(scored: pd.DataFrame) -> pd.DataFrame:
    """What each step is worth, as texts: one row a step."""
    lines = []
    for title, rows in steps(scored).items():
        for before, after in pairwise(rows.to_dict("records")):
            ends = before["condition"], after["condition"]
            new = [name for name in CONDITIONS if ends[0] < name <= ends[1]]
            line = {"question": title, "step": " to ".join(ends)}
            line |= {"what is new": "; ".join(CONDITIONS[name] for name in new)}
            values = (number(row["ours"], row["unit"]) for row in (before, after))
            line |= dict(zip(("before", "after"), values, strict=True))
            lines.append(line | {"change": " ".join(change(after))})
    return pd.DataFrame(lines)


def change(row: Mapping) -> tuple[str, str]:
    """Change from the condition before and its interval, as texts; '' for none."""
    form = "z.2f" if row["unit"] == "fraction" else "z.1f"
    low, high = (format(row[name], form) for name in ("change_low", "change_high"))
    value = format(row["change"], f"+{form}") if np.isfinite(row["change"]) else ""
    limits = f"[{low}, {high}]" if np.isfinite(row["change_low"]) else ""
    return value.replace("-", "\N{MINUS SIGN}"), limits.replace("-", "\N{MINUS SIGN}")


def longer(scored: pd.DataFrame, usual: int) -> dict[str, pd.DataFrame]:
    """Dice of the all-class stream against its steps, under S0 and S3: `STAIRCASES` of Dice.

    Beside the columns of the table of conditions: ``steps`` (``usual`` where the task does not
    say); on the rows of S3 their change from S0, as in `steps`.
    """
    table, found = tables.select("conditions", scored), {}
    more = table["task"].str.extract(r"^stream all, (\d+) steps$", expand=False)
    table = table.assign(steps=more.fillna(usual).astype(int))
    table = table[more.notna() | (table["task"] == "stream all")].assign(task="stream all")
    for title in STAIRCASES:
        rule = _rule(title) | {"task": "stream all"}
        first, copied = (
            select(table, **rule, condition=name).sort_values("steps") for name in COMPARED
        )
        if len(first) and len(copied):
            before = first.set_index("steps").reindex(copied["steps"])
            found[title] = pd.concat([first, _with_changes(copied, before)])
    return found


def figure(scored: pd.DataFrame) -> Figure | None:
    """One panel per headline claim that has scores; each condition is a tread of its staircase."""
    panels, words = steps(scored), {}
    if not panels:
        return None
    rows = -(-len(panels) // 2)
    drawn, axes = plt.subplots(rows, 2, figsize=(DOUBLE, 2.75 * rows + 0.5), squeeze=False)
    for axis, (title, treads) in zip(axes.flat, panels.items(), strict=False):
        _treads(axis, treads)
        paper_line(axis, paper(title))
        write_changes(axis, treads[1:], np.arange(1, len(treads)) - 0.5)
        _names(axis, treads)
        axis.set_title(title, loc="left", fontweight="bold", pad=4)
        words[title] = [*map(_words, treads.to_dict("records"))]
        words[title].append(f"the paper {ledger.span(paper(title))}")
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    legend_below(drawn, ENTRIES, INDEPENDENT)
    return finished(drawn, CAPTION, words)


def _treads(axis: Axes, steps: pd.DataFrame) -> None:
    at = np.arange(len(steps))
    axis.hlines(steps["ours"], at - 0.42, at + 0.42, color=OURS, linewidth=2.2, zorder=3)
    risers = np.repeat(np.arange(len(steps) + 1), 2)[1:-1] - 0.5
    axis.plot(risers, np.repeat(steps["ours"], 2), color=OURS, linewidth=0.8, zorder=2)
    limits = spread(steps["ours"], steps["low"], steps["high"])
    axis.errorbar(at, steps["ours"], limits, **POINT, label=ENTRIES[0])
    look = {"color": COLOURS["others"], "label": ENTRIES[1]}
    if steps["neighbour"].notna().any():
        axis.plot(at + 0.22, steps["neighbour"], "D", markersize=3.5, zorder=5, **look)


def paper_line(axis: Axes, stated: Sequence[float]) -> None:
    """The paper's value as a line; the values that its gain implies as a band."""
    low, high, colour = min(stated), max(stated), COLOURS["paper"]
    look = {"color": colour, "linestyle": (0, (4, 2)), "linewidth": 1.1, "zorder": 1}
    axis.axhline(high, label=ENTRIES[2], **look)
    if high > low:
        axis.axhline(low, **look)
        axis.axhspan(low, high, color=colour, alpha=0.18, linewidth=0, zorder=0)
    place = {"xy": (0.008, high), "xycoords": ("axes fraction", "data"), "xytext": (0, 2)}
    look = NEAR | {"color": colour, "ha": "left", "va": "bottom"}
    axis.annotate(f"paper {ledger.span(stated)}", **place, **look)


def write_changes(axis: Axes, changes: pd.DataFrame, at: Sequence[float]) -> None:
    """Write changes (of `steps`) below what is drawn, at these places."""
    bottom, top = axis.get_ylim()
    height = top - bottom
    axis.set_ylim(bottom - STRIP * height, top + 0.08 * height)
    ticks = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(bottom, top)
    axis.set_yticks([tick for tick in ticks if bottom <= tick <= min(top, 100)])
    axis.grid(axis="y")
    look = {"ha": "center", "va": "center", "fontsize": SMALL}
    for x, row in zip(at, changes.to_dict("records"), strict=True):
        axis.text(x, bottom - 0.55 * STRIP * height, "\n".join(change(row)), **look)


def _names(axis: Axes, steps: pd.DataFrame) -> None:
    """Values, names of the conditions, and the two that give the answers to a claim."""
    for x, row in enumerate(steps.to_dict("records")):
        look = NEAR | {"color": OURS, "path_effects": RIM, "ha": "center", "zorder": 6}
        value = number(row["ours"], row["unit"])
        axis.annotate(value, xy=(x - 0.24, row["ours"]), xytext=(0, 2.5), **look)
        if row["condition"][1] in ANSWERS:
            word, name = ANSWERS[row["condition"][1]]
            axis.axvspan(x - 0.5, x + 0.5, color=COLOURS[name], alpha=0.07, linewidth=0, zorder=0)
            below = {"xycoords": ("data", "axes fraction"), "xytext": (0, -34), "ha": "center"}
            look = NEAR | {"color": COLOURS[name], "fontweight": "bold", "va": "top"}
            axis.annotate(word, (x, 0), **below, **look)
    axis.set_xticks(range(len(steps)), [f"{c}\n{NAMES[c]}" for c in steps["condition"]])
    axis.tick_params(axis="x", length=0)
    axis.set_xlim(-0.5, len(steps) - 0.5)


def _words(row: Mapping) -> str:
    text = f"{row['condition']} {NAMES[row['condition']]} {_value(row)}"
    if np.isfinite(row["neighbour"]):
        text += f", nearest neighbour {number(row['neighbour'], row['unit'])}"
    gap = " ".join(change(row)).strip()
    return f"{text}, change {gap}" if gap else text


def _value(row: Mapping) -> str:
    """A value and its interval, if there is one."""
    return in_words(*(number(row[name], row["unit"]) for name in ("ours", "low", "high")))


def curve(scored: pd.DataFrame, usual: int) -> Figure | None:
    """Dice of the all-class stream against its steps, under S0 and S3.

    ``usual`` are the steps of trainings that are no longer than others. None without scores.
    """
    panels, words = longer(scored, usual), {}
    if not panels:
        return None
    published = params.load("paper", "04_task3_stream")["steps"]
    drawn, axes = plt.subplots(1, len(panels), figsize=(DOUBLE, 2.8), squeeze=False)
    for axis, (title, table) in zip(axes[0], panels.items(), strict=True):
        words |= _curve_panel(axis, title, table)
        ticks = [*sorted(table["steps"].unique()), published]
        axis.set(xscale="log", xlim=(ticks[0] / 2.2, 1.2 * ticks[-1]), xlabel="steps")
        axis.set_xticks(ticks, [f"{step:,}" for step in ticks])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.get_xticklabels()[-1].set_color(COLOURS["paper"])
    note = f"below: S3 minus S0, 95 % interval as if independent; the paper: {published:,} steps"
    legend_below(drawn, title=note)
    return finished(drawn, "Dice of the all-class stream against the steps of its training", words)


def _curve_panel(axis: Axes, title: str, table: pd.DataFrame) -> dict[str, list[str]]:
    """One claim: a line for each condition and their distance; gives the panel in words."""
    words, shown = {}, IN_THE_CURVE.get(title, title)
    for (condition, rows), look in zip(table.groupby("condition"), LINES, strict=False):
        name = f"{condition}, {NAMES[condition]}".replace("\n", " ")
        limits = spread(rows["ours"], rows["low"], rows["high"])
        # Beside each other, so that no interval hides another.
        at = rows["steps"] * (1.05 if "fmt" in look else 0.95)
        axis.errorbar(at, rows["ours"], limits, **POINT | look, label=name)
        words[f"{shown}, {name}"] = [
            f"{_value(row)} after {row['steps']} steps" for row in rows.to_dict("records")
        ]
    paper_line(axis, paper(title))
    gaps = table.dropna(subset="change")
    write_changes(axis, gaps, gaps["steps"])
    words[f"{shown}, S3 minus S0"] = [
        f"{' '.join(change(row))} after {row['steps']} steps" for row in gaps.to_dict("records")
    ]
    axis.set_title(shown, loc="left", fontweight="bold", pad=4)
    return words
