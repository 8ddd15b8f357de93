"""The paper's charts: confusion matrices, curves, maps of settings, reliability, intervals.

Notebooks draw with this module; it also offers the pictures of `sheets`, and `save` and `style`.
"""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from covid_utils.registry import COLOURS, DASHES, INK, MARKS, name_of
from covid_utils.report import alt_text
from covid_utils.report.alt_text import describe, with_limits
from covid_utils.report.sheets import heat_sheet, image_sheet, pair_sheet, segmentation_sheet
from covid_utils.report.style import (
    DOUBLE,
    SINGLE,
    SMALL,
    finished,
    readable_on,
    save,
    style,
)

__all__ = [
    "confusion_matrices",
    "forest",
    "heat_sheet",
    "image_sheet",
    "pair_sheet",
    "reliability",
    "save",
    "score_bars",
    "segmentation_sheet",
    "setting_maps",
    "style",
    "training_curves",
]

#: Letters per line of the names beside a forest, and beside a panel of usual height.
NAME_LETTERS, SIDE_LETTERS = 25, 24
#: Side of a matrix's cell in inches.
CELL = 0.55
POINTS = {"markersize": 4, "capsize": 2, "elinewidth": 1.2, "markeredgewidth": 0.8}


def confusion_matrices(matrices: dict[str, tuple[np.ndarray, tuple[str, ...]]]) -> Figure:
    """Confusion matrices with counts and row percentages (Figures 7 and 9).

    Args:
        matrices: Title -> counts (K, K) with true classes as rows, and the class names.
    """
    sides = [len(classes) for _, classes in matrices.values()]
    # Beside a matrix stand the names of its rows, below and above it those of columns and its own.
    widths = [CELL * side + 1.0 for side in sides]
    width = min(DOUBLE, sum(widths))
    size = (width, width / sum(widths) * CELL * max(sides) + 0.8)
    figure, axes = _panels(len(matrices), size, width_ratios=widths)
    for axis, (title, (counts, classes)) in zip(axes, matrices.items(), strict=True):
        n = counts.sum(axis=1, keepdims=True)
        share = counts / np.maximum(n, 1)
        text = [
            # A share of no image would be no number.
            f"{count}\n{part:.0%}" if total else f"{count}"
            for count, part, total in np.nditer([counts, share, n])
        ]
        _map(axis, share, np.array(text).reshape(counts.shape), (0, 1), square=True)
        names = [name_of(name).replace(" ", "\n") for name in classes]
        axis.set_xticklabels(names)
        axis.set_yticklabels([f"{a}\nn = {b}" for a, b in zip(names, n.ravel(), strict=True)])
        axis.set(xlabel="predicted", ylabel="", title=title, anchor="N")
    axes[0].set_ylabel("true")
    words = {title: alt_text.of_matrix(*matrix) for title, matrix in matrices.items()}
    return finished(figure, describe("Confusion matrices, true class by predicted class", words))


def training_curves(history: pd.DataFrame, panels: dict[str, str], x: str = "step") -> Figure:
    """Training curves, one panel per quantity, one colour per subset (Figure 8).

    Args:
        history: Columns ``x``, ``subset`` and those named in ``panels``; a subset has no curve of
            a quantity that it lacks.
        panels: Column -> label of its axis; what no subset has gets no panel.
        x: Column of the horizontal axis.
    """
    panels = {name: label for name, label in panels.items() if history[name].notna().any()}
    size = (SINGLE if len(panels) == 1 else DOUBLE, 2.4)
    figure, axes = _panels(len(panels), size)
    words: dict[str, list[str]] = {}
    for axis, (column, label) in zip(axes, panels.items(), strict=True):
        for subset, part in history.dropna(subset=[column]).groupby("subset", sort=False):
            values = part.set_index(x)[column]
            smooth = values.rolling(max(1, len(values) // 15), 1, center=True).mean()
            look = {"color": COLOURS[subset], "linestyle": DASHES[subset]}
            axis.plot(values.index, values, color=COLOURS[subset], alpha=0.25, linewidth=0.5)
            axis.plot(smooth.index, smooth, linewidth=1.5, label=subset, **look)
            words[f"{label}, {subset}"] = alt_text.of_curve(smooth, x)
        axis.set(xlabel=x, ylabel=fill(label, SIDE_LETTERS))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    _legend_below(figure, axes)
    return finished(figure, describe("Training curves; numbers are of the smoothed ones", words))


def setting_maps(tables: dict[str, pd.DataFrame], marked: tuple[float, int]) -> Figure:
    """Accuracy against learning rate and number of steps, one map per task.

    Args:
        tables: Title -> accuracy in [0, 1]; rows are learning rates, columns numbers of steps.
        marked: Rate and steps that the paper has; their cell gets a frame.
    """
    if not tables:  # without validation images there is nothing to map
        return finished(plt.figure(figsize=(1, 1)), "An empty figure: no validation images.")
    # One scale for all: a point is a point in each task, however far apart tasks are.
    below = {title: 100 * (table - table.max(axis=None)) for title, table in tables.items()}
    lowest = min(-1.0, *(table.min(axis=None) for table in below.values()))
    rows = max(len(table) for table in tables.values())
    size = (min(DOUBLE, 0.6 + 2.2 * len(tables)), 1.0 + 0.24 * rows)
    figure, axes = _panels(len(tables), size)
    words = {}
    for axis, (title, table) in zip(axes, tables.items(), strict=True):
        text = np.vectorize("{:.1f}".format)(100 * table.to_numpy())
        _map(axis, below[title].to_numpy(), text, (lowest, -0.5 * lowest))
        axis.set_xticklabels(table.columns, rotation=90)
        axis.set_yticklabels([f"{rate:g}" for rate in table.index])
        if marked[0] in table.index and marked[1] in table.columns:
            _frame(axis, (table.columns.get_loc(marked[1]), table.index.get_loc(marked[0])))
        axis.set(xlabel="steps", ylabel="", title=title)
        words[title] = alt_text.of_settings(table.stack(), marked)
    axes[0].set_ylabel("learning rate")
    figure.suptitle(
        "accuracy of all validation images, %; the darker, the nearer to the task's best; "
        "framed: the paper's setting",
        fontsize=SMALL,
    )
    caption = "Maps of validation accuracy against learning rate and number of steps"
    return finished(figure, describe(caption, words))


def reliability(tables: dict[str, pd.DataFrame]) -> Figure:
    """Reliability diagrams: how often a prediction is right, against its confidence.

    Args:
        tables: Title -> table of `evaluation.calibration.reliability`.
    """
    width = min(DOUBLE, 2.7 * len(tables) + 0.4)
    size = (width, width / len(tables) + 0.6)
    figure, axes = _panels(len(tables), size, sharey=True)
    for axis, (title, table) in zip(axes, tables.items(), strict=True):
        spread = [
            table["accuracy"] - table["accuracy_low"],
            table["accuracy_high"] - table["accuracy"],
        ]
        points = table["confidence"], table["accuracy"], np.maximum(spread, 0)
        look = POINTS | {"fmt": "o-", "color": COLOURS["ours"]}
        axis.plot([0, 1], [0, 1], "--", color=INK, linewidth=0.8, label="share right = confidence")
        axis.errorbar(*points, **look, label="share that is right, 95 % interval")
        middle, share = (table["low"] + table["high"]) / 2, table["n"] / table["n"].sum()
        look = {"width": table["high"] - table["low"], "color": "0.82", "zorder": 0}
        axis.bar(middle, share, **look, label="share of all predictions")
        axis.set(xlabel="confidence", title=title, xlim=(0, 1), ylim=(-0.02, 1.03), aspect="equal")
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes[0].set_ylabel("share")
    axes[0].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    _legend_below(figure, axes)
    words = {title: alt_text.of_reliability(table) for title, table in tables.items()}
    return finished(figure, describe("Reliability diagrams", words))


def forest(panels: dict[str, pd.DataFrame], label: str, paper: dict[str, float]) -> Figure:
    """Scores with their intervals, one line each, one panel per question.

    Args:
        panels: Title -> columns ``name``, ``ours``, ``low`` and ``high``, from top to bottom.
        label: Of the horizontal axis.
        paper: Title -> the paper's value, drawn as a dashed line.
    """
    height = 0.75 + 0.3 * max(len(rows) for rows in panels.values())
    figure, axes = _panels(len(panels), (SINGLE if len(panels) == 1 else DOUBLE, height))
    for axis, (title, rows) in zip(axes, panels.items(), strict=True):
        at = np.arange(len(rows))[::-1]
        is_ours = rows["name"].str.startswith("ours").to_numpy()
        for chosen, role, inside in ((is_ours, "ours", None), (~is_ours, "others", "white")):
            limits = _spread(rows[chosen], "ours")
            look = POINTS | {"fmt": "o", "color": COLOURS[role], "markerfacecolor": inside}
            axis.errorbar(rows["ours"][chosen], at[chosen], xerr=limits, **look)
        if title in paper:
            colour, stated = COLOURS["paper"], paper[title]
            axis.axvline(stated, color=colour, linestyle="--", linewidth=1)
            place = (stated, len(rows) - 0.45)
            axis.text(*place, f"paper {stated:g} ", color=colour, ha="right", fontsize=SMALL)
        axis.set(yticks=at, ylim=(-0.6, len(rows)), xlabel=label, title=title)
        axis.set_yticklabels([fill(name, NAME_LETTERS) for name in rows["name"]])
        axis.grid(axis="x", color="0.9", linewidth=0.6)
        axis.set_axisbelow(True)
    words = {
        title: [
            f"{row.name} {with_limits(row.ours, row.low, row.high, '.1f')}"
            for row in rows.itertuples(name="Row", index=False)
        ]
        + ([f"the paper {paper[title]:g}"] if title in paper else [])
        for title, rows in panels.items()
    }
    return finished(figure, describe(f"Scores with 95 % intervals, {label}", words))


def score_bars(scores: pd.DataFrame, x: str, hue: str, label: str) -> Figure:
    """Scores as points with their intervals.

    Args:
        scores: Columns ``x``, ``hue``, ``value``, ``low`` and ``high``.
        x: Column of the horizontal axis.
        hue: Column of the colour; its values are keys of `COLOURS`, others are drawn in ink.
        label: Of the vertical axis.
    """
    groups, kinds = list(scores[x].unique()), list(scores[hue].unique())
    figure, (axis,) = _panels(1, (min(DOUBLE, 1.6 + 1.0 * len(groups)), 2.4))
    for index, kind in enumerate(kinds):
        part = scores[scores[hue] == kind]
        at = [groups.index(g) + (index - (len(kinds) - 1) / 2) * 0.16 for g in part[x]]
        look = POINTS | {"fmt": MARKS[index % len(MARKS)], "color": COLOURS.get(kind, INK)}
        # The rim makes a light colour visible on white.
        look |= {"markeredgecolor": INK, "label": name_of(kind)}
        axis.errorbar(at, part["value"], _spread(part, "value"), **look)
    axis.set(xticks=range(len(groups)), ylabel=label, ylim=(-0.02, 1.03))
    axis.set_xticklabels([name_of(group) for group in groups])
    axis.grid(axis="y", color="0.9", linewidth=0.6)
    axis.set_axisbelow(True)
    _legend_below(figure, [axis])
    words = {
        name_of(kind): [
            f"{name_of(row[x])} {with_limits(row['value'], row['low'], row['high'], '.2f')}"
            for _, row in part.iterrows()
        ]
        for kind, part in scores.groupby(hue, sort=False)
    }
    return finished(figure, describe(f"{label} with 95 % intervals", words))


def _panels(count: int, size: tuple[float, float], **grid: object) -> tuple[Figure, list[Axes]]:
    """Axes side by side."""
    figure, axes = plt.subplots(1, count, figsize=size, squeeze=False, layout="constrained", **grid)
    return figure, list(axes[0])


def _map(
    axis: Axes,
    values: np.ndarray,
    text: np.ndarray,
    limits: tuple[float, float],
    square: bool = False,
) -> None:
    """A table as a map of blues; each cell's text in black or white, whichever can be read."""
    low, high = limits
    look = {"cmap": "Blues", "vmin": low, "vmax": high, "cbar": False, "linewidths": 0.8}
    look |= {"annot_kws": {"size": SMALL}, "square": square}
    sns.heatmap(values, annot=text, fmt="", ax=axis, **look)
    colours = axis.collections[0].get_facecolors()
    for written, colour in zip(axis.texts, colours, strict=True):
        written.set_color(readable_on(colour[:3]))
    axis.tick_params(rotation=0, length=0)


def _frame(axis: Axes, cell: tuple[int, int]) -> None:
    """A frame around a cell of a map, with a white rim against any colour."""
    frame = Rectangle(cell, 1, 1, fill=False, edgecolor=COLOURS["paper"], linewidth=1.5)
    frame.set_path_effects([patheffects.withStroke(linewidth=3, foreground="white")])
    axis.add_patch(frame)


def _spread(rows: pd.DataFrame, column: str) -> list[pd.Series]:
    """Lengths of error bars below and above; none where there is no interval."""
    sides = rows[column] - rows["low"], rows["high"] - rows[column]
    return [side.clip(lower=0).fillna(0) for side in sides]


def _legend_below(figure: Figure, axes: Iterable[Axes]) -> None:
    """One legend for all panels, below them, where it hides nothing."""
    handles: dict[str, object] = {}
    for axis in axes:
        for handle, word in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(word, handle)
    if handles:
        look = {"loc": "outside lower center", "ncols": len(handles), "frameon": False}
        figure.legend(handles.values(), handles.keys(), fontsize=SMALL, **look)
