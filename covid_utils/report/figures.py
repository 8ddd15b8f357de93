"""The paper's charts: confusion matrices, curves, maps of settings, reliability, intervals."""

from __future__ import annotations

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
from seaborn.utils import relative_luminance

from covid_utils.registry import COLOURS, DASHES, INK, MARKS, name_of
from covid_utils.report.style import DOUBLE, SINGLE, SMALL, finished, in_words, legend_below, spread

#: Letters per line of the names beside a panel.
LETTERS = 25
#: Largest side of a matrix's cell, and width of the names of its rows, in inches.
CELL, NAMES = 0.68, 1.05
#: Luminance (WCAG 2) from which black has more contrast with a colour than white has.
BRIGHT = 0.179
#: Frame of a cell of a map, with a white rim against any colour.
FRAME = {"edgecolor": COLOURS["paper"], "linewidth": 1.5}
FRAME |= {"path_effects": [patheffects.withStroke(linewidth=3, foreground="white")]}
POINTS = {"markersize": 4, "capsize": 2, "elinewidth": 1.2, "markeredgewidth": 0.8}


def confusion_matrices(matrices: dict[str, tuple[np.ndarray, tuple[str, ...]]]) -> Figure:
    """Confusion matrices with counts and row percentages (Figures 7 and 9).

    ``matrices``: title -> counts (K, K) with true classes as rows, and the class names.
    """
    sides = [len(classes) for _, classes in matrices.values()]
    size = min(DOUBLE, sum(CELL * side + NAMES for side in sides)), CELL * max(sides) + 1.05
    figure, axes = _panels(len(sides), size, width_ratios=sides)
    words = {}
    for axis, (title, (counts, classes)) in zip(axes, matrices.items(), strict=True):
        names, n, right = [name_of(name) for name in classes], counts.sum(axis=1), np.trace(counts)
        share = counts / np.maximum(n[:, None], 1)
        # A share of no image would be no number.
        shares = np.where(n[:, None] > 0, np.char.mod("\n%.0f %%", 100 * share), "")
        _map(axis, share, np.char.add(np.char.mod("%d", counts), shares), (0, 1))
        broken = [name.replace(" ", "\n") for name in names]
        axis.set_xticklabels(broken)
        axis.set_yticklabels(map("{}\nn = {}".format, broken, n))
        axis.set(xlabel="predicted", title=title, aspect="equal")
        part = f" ({100 * right / n.sum():.1f} %)" if n.any() else ""
        words[title] = [f"{right} of {n.sum()} images{part} on the diagonal"]
        for name, total, row in zip(names, n, counts, strict=True):
            predicted = ", ".join(map("{} as {}".format, row, names))
            words[title].append(f"of {total} {name}: {predicted}")
    axes[0].set_ylabel("true")
    meaning = "images and per cent of the true class; the darker, the more"
    figure.supxlabel(meaning, fontsize=SMALL)
    return finished(figure, "Confusion matrices, true class by predicted class", words)


def training_curves(history: pd.DataFrame, panels: dict[str, str], x: str = "step") -> Figure:
    """Training curves, one panel per quantity, one colour per subset (Figure 8).

    ``history`` has the columns ``x``, ``subset`` and those named in ``panels``, column -> label of
    its axis; a subset has no curve of a quantity that it lacks.
    """
    panels = {name: label for name, label in panels.items() if history[name].notna().any()}
    figure, axes = _panels(len(panels), (SINGLE if len(panels) == 1 else DOUBLE, 2.4))
    words, is_smoothed = {}, False
    for axis, (column, label) in zip(axes, panels.items(), strict=True):
        for subset, part in history.dropna(subset=[column]).groupby("subset", sort=False):
            values = part.set_index(x)[column]
            window = max(1, len(values) // 15)
            smooth = values.rolling(window, 1, center=True).mean()
            is_smoothed = is_smoothed or window > 1
            look = {"color": COLOURS[subset], "linestyle": DASHES[subset]}
            axis.plot(values.index, values, color=COLOURS[subset], alpha=0.25, linewidth=0.5)
            axis.plot(smooth.index, smooth, linewidth=1.5, label=subset, **look)
            ends = ("", smooth.index[0]), ("", smooth.index[-1])
            ends += ("lowest ", smooth.idxmin()), ("highest ", smooth.idxmax())
            texts = [f"{word}{smooth[at]:.3g} at {x} {at}" for word, at in ends]
            words[f"{label}, {subset}"] = texts
        axis.set(xlabel=x, ylabel=fill(label, LETTERS))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if is_smoothed:
        axes[-1].plot([], [], color="0.7", linewidth=0.5, label="single values; thick: mean")
    legend_below(figure)
    return finished(figure, "Training curves; numbers are of the smoothed ones", words)


def setting_maps(tables: dict[str, pd.DataFrame], marked: tuple[float, int]) -> Figure:
    """Accuracy against learning rate and number of steps, one map per task.

    ``tables``: title -> accuracy in [0, 1]; rows are learning rates, columns numbers of steps. The
    cell of the paper's rate and steps, ``marked``, gets a frame.
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
        text = np.char.mod("%.1f", 100 * table.to_numpy())
        _map(axis, below[title].to_numpy(), text, (lowest, -0.5 * lowest))
        axis.set_xticklabels(table.columns, rotation=90)
        axis.set_yticklabels([f"{rate:g}" for rate in table.index])
        axis.set(xlabel="steps", title=title)
        cells = table.stack()
        named = {"highest": cells.idxmax(), "lowest": cells.idxmin()}
        if marked in cells.index:
            named["the paper's setting"] = marked
            cell = table.columns.get_loc(marked[1]), table.index.get_loc(marked[0])
            axis.add_patch(Rectangle(cell, 1, 1, fill=False, **FRAME))
        words[title] = [
            f"{word} {100 * cells[at]:.1f} % at rate {at[0]:g} after {at[1]} steps"
            for word, at in named.items()
        ]
    axes[0].set_ylabel("learning rate")
    meaning = "%; the darker, the nearer to the task's best; framed: the paper's setting"
    figure.suptitle(f"accuracy of all validation images, {meaning}", fontsize=SMALL)
    caption = "Maps of validation accuracy against learning rate and number of steps"
    return finished(figure, caption, words)


def reliability(tables: dict[str, pd.DataFrame]) -> Figure:
    """Reliability diagrams: how often a prediction is right, against its confidence.

    ``tables``: title -> table of `evaluation.calibration.reliability`.
    """
    width = min(DOUBLE, 2.7 * len(tables) + 0.4)
    figure, axes = _panels(len(tables), (width, width / len(tables) + 0.6), sharey=True)
    words = {}
    for axis, (title, table) in zip(axes, tables.items(), strict=True):
        right, share = table["accuracy"], table["n"] / table["n"].sum()
        limits = spread(right, table["accuracy_low"], table["accuracy_high"])
        axis.plot([0, 1], [0, 1], "--", color=INK, linewidth=0.8, label="share right = confidence")
        look = POINTS | {"fmt": "o-", "color": COLOURS["ours"]}
        look["label"] = "share that is right, 95 % interval"
        axis.errorbar(table["confidence"], right, limits, **look)
        look = {"width": table["high"] - table["low"], "color": "0.82", "zorder": 0}
        middle = (table["low"] + table["high"]) / 2
        axis.bar(middle, share, **look, label="share of all predictions")
        axis.set(xlabel="confidence", title=title, xlim=(0, 1), ylim=(-0.02, 1.03), aspect="equal")
        gap, top = table["confidence"] - right, 100 * table.assign(share=share).iloc[-1]
        words[title] = [
            f"{table['n'].sum()} predictions",
            f"confidence too high in {(gap > 0).sum()} of {len(table)} bins, "
            f"{100 * (share * gap.abs()).sum():.1f} points off on average",
            f"highest bin: {top['share']:.0f} % of the predictions, confidence "
            f"{top['confidence']:.0f} %, right {top['accuracy']:.0f} %",
        ]
    axes[0].set_ylabel("share")
    legend_below(figure)
    return finished(figure, "Reliability diagrams", words)


def forest(panels: dict[str, pd.DataFrame], label: str, paper: dict[str, float]) -> Figure:
    """Scores with their intervals, one line each, one panel per question.

    ``panels``: title -> columns ``name``, ``ours``, ``low`` and ``high``, from top to bottom;
    ``label`` is of the horizontal axis; ``paper``: title -> the paper's value, a dashed line.
    """
    height = 1.0 + 0.3 * max(len(rows) for rows in panels.values())
    figure, axes = _panels(len(panels), (SINGLE if len(panels) == 1 else DOUBLE, height))
    words = {}
    for axis, (title, rows) in zip(axes, panels.items(), strict=True):
        at = np.arange(len(rows))[::-1]
        is_ours = rows["name"].str.startswith("ours").to_numpy()
        kinds = (is_ours, "ours", "ours", None), (~is_ours, "others", "baselines", "white")
        for chosen, role, name, inside in kinds:
            part = rows[chosen]
            limits = spread(part["ours"], part["low"], part["high"])
            look = POINTS | {"fmt": "o", "color": COLOURS[role], "markerfacecolor": inside}
            look["label"] = f"{name}, 95 % interval"
            axis.errorbar(part["ours"], at[chosen], xerr=limits, **look)
        words[title] = _words(rows, "name", "ours", ".1f")
        if title in paper:
            colour, stated = COLOURS["paper"], paper[title]
            look = {"color": colour, "linestyle": "--", "linewidth": 1}
            axis.axvline(stated, **look, label="the paper's value")
            look = {"color": colour, "ha": "right", "fontsize": SMALL}
            axis.text(stated, len(rows) - 0.45, f"paper {stated:g} ", **look)
            words[title].append(f"the paper {stated:g}")
        axis.set(yticks=at, ylim=(-0.6, len(rows)), xlabel=label, title=title)
        axis.set_yticklabels([fill(name, LETTERS) for name in rows["name"]])
        axis.grid(axis="x")
    legend_below(figure)
    return finished(figure, f"Scores with 95 % intervals, {label}", words)


def score_bars(scores: pd.DataFrame, label: str) -> Figure:
    """Scores as points with their intervals, one group per metric, one colour per class.

    ``scores`` has ``metric``, ``class``, ``value``, ``low`` and ``high``; ``label`` is of the
    vertical axis.
    """
    metrics, kinds = list(scores["metric"].unique()), list(scores["class"].unique())
    figure, (axis,) = _panels(1, (min(DOUBLE, 1.6 + 1.0 * len(metrics)), 2.4))
    words = {}
    for index, kind in enumerate(kinds):
        part = scores[scores["class"] == kind]
        at = part["metric"].map(metrics.index) + (index - (len(kinds) - 1) / 2) * 0.16
        look = POINTS | {"fmt": MARKS[index % len(MARKS)], "color": COLOURS[kind]}
        # The rim makes a light colour visible on white.
        look |= {"markeredgecolor": INK, "label": name_of(kind)}
        axis.errorbar(at, part["value"], spread(part["value"], part["low"], part["high"]), **look)
        words[name_of(kind)] = _words(part, "metric", "value", ".2f")
    name = fill(f"{label}, 95 % interval", LETTERS)
    axis.set(xticks=range(len(metrics)), ylabel=name, ylim=(-0.02, 1.03))
    axis.set_xticklabels([name_of(metric) for metric in metrics])
    axis.grid(axis="y")
    legend_below(figure)
    return finished(figure, f"{label} with 95 % intervals", words)


def _panels(count: int, size: tuple[float, float], **grid: object) -> tuple[Figure, list[Axes]]:
    figure, axes = plt.subplots(1, count, figsize=size, squeeze=False, layout="constrained", **grid)
    return figure, list(axes[0])


def _map(axis: Axes, values: np.ndarray, text: np.ndarray, limits: tuple) -> None:
    """A table as a map of blues; each cell's text in black or white, whichever can be read."""
    look = {"cmap": "Blues", "vmin": limits[0], "vmax": limits[1], "cbar": False, "linewidths": 0.8}
    sns.heatmap(values, annot=text, fmt="", annot_kws={"size": SMALL}, ax=axis, **look)
    for written, colour in zip(axis.texts, axis.collections[0].get_facecolors(), strict=True):
        written.set_color("black" if relative_luminance(colour) > BRIGHT else "white")
    axis.tick_params(rotation=0, length=0)


def _words(rows: pd.DataFrame, name: str, value: str, form: str) -> list[str]:
    """Scores with their intervals, where there are any."""
    table = rows[[value, "low", "high"]].map(f"{{:{form}}}".format).to_numpy()
    return [f"{name_of(of)} {in_words(*row)}" for of, row in zip(rows[name], table, strict=True)]
