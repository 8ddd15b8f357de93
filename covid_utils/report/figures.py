"""Figures 2, 3 and 7 to 11 of the paper in one visual language, as PNG and SVG.

One colour for each class, manifestation and subset, everywhere, from the colour-blind-safe palette
of Okabe and Ito (2008).
"""

from __future__ import annotations

from collections.abc import Iterable

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from skimage.transform import resize

from covid_utils import paths
from covid_utils.writing import whole

COLOURS = {
    "covid": "#D55E00",
    "normal": "#0072B2",
    "viral": "#009E73",
    "bacterial": "#CC79A7",
    "ggo": "#56B4E9",
    "consolidation": "#E69F00",
    "effusion": "#CC79A7",
    "nodule": "#F0E442",
    "lesion": "#D55E00",
    "train": "#0072B2",
    "validation": "#E69F00",
    "test": "#009E73",
    "found": "#009E73",
    "missed": "#0072B2",
    "false alarm": "#D55E00",
}
NAMES = {
    "covid": "COVID-19",
    "normal": "normal",
    "viral": "viral pneumonia",
    "bacterial": "bacterial pneumonia",
    "non_covid": "not COVID-19",
    "ggo": "ground-glass",
    "consolidation": "consolidation",
    "effusion": "pleural effusion",
    "nodule": "nodule",
    "all": "all classes",
}
#: Mask labels of the CT segmentation set, in the colours of their manifestations.
LABEL_CLASSES = {1: "ggo", 2: "consolidation", 3: "effusion"}
DPI = 160


def style() -> None:
    """Set the look of every figure; call it once in a notebook."""
    sns.set_theme(context="notebook", style="ticks", font_scale=0.9)
    mpl.rcParams.update(
        {
            "figure.dpi": 100,
            "savefig.dpi": DPI,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "figure.constrained_layout.use": True,
            # Same bytes from the same numbers.
            "svg.hashsalt": "covid-companion",
        }
    )


def save(figure: Figure, profile: str, name: str) -> Figure:
    """Write a figure as ``results/<profile>/figures/<name>.png`` and ``.svg``.

    Returns:
        The figure, so that a cell can end with it.
    """
    folder = paths.results(profile) / "figures"
    for ending, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        with whole(folder / f"{name}.{ending}") as partial:
            figure.savefig(partial, metadata=metadata)
    return figure


def _finished(figure: Figure) -> Figure:
    """Take a figure out of pyplot's hands, so that a notebook shows it once and memory is freed."""
    plt.close(figure)
    return figure


def image_sheet(rows: dict[str, list[np.ndarray]], title: str) -> Figure:
    """A sheet of gray images, a labelled row a class (Figure 2).

    Args:
        rows: Row name -> uint8 images (height, width), as many in each row.
        title: Heading.
    """
    across = max(len(images) for images in rows.values())
    figure, axes = _grid(len(rows), across, 1.7)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, images, strict=False):
            axis.imshow(image, cmap="gray", vmin=0, vmax=255)
        _row_name(line[0], name)
    figure.suptitle(title)
    return _finished(figure)


def pair_sheet(
    pairs: list[tuple[np.ndarray, np.ndarray]],
    names: list[str],
    title: str,
    classes: dict[int, str] | None = None,
    row_name: str = "mask",
) -> Figure:
    """Images above, the same images with their masks below (Figures 3 and 11).

    Args:
        pairs: uint8 image and uint8 label mask, both (size, size).
        names: A heading for each pair.
        title: Heading of the figure.
        classes: Label -> name of its colour; the CT manifestations if None.
        row_name: Of the lower row.
    """
    figure, axes = _grid(2, len(pairs), 1.9)
    for column, ((image, mask), name) in enumerate(zip(pairs, names, strict=True)):
        axes[0, column].imshow(image, cmap="gray", vmin=0, vmax=255)
        axes[0, column].set_title(name, fontsize=9)
        axes[1, column].imshow(overlay(image, mask, classes))
    _row_name(axes[0, 0], "image")
    _row_name(axes[1, 0], row_name)
    _mask_legend(figure, (classes or LABEL_CLASSES).values())
    figure.suptitle(title)
    return _finished(figure)


def overlay(
    image: np.ndarray, mask: np.ndarray, classes: dict[int, str] | None = None, alpha: float = 0.55
) -> np.ndarray:
    """Lay a mask's colours over a gray image.

    Args:
        image: uint8 (size, size).
        mask: uint8 labels (size, size).
        classes: Label -> name of its colour; the CT manifestations if None.
        alpha: Weight of the colour.

    Returns:
        float (size, size, 3) in [0, 1].
    """
    picture = np.repeat(image[..., None] / 255.0, 3, axis=-1)
    for label, name in (classes or LABEL_CLASSES).items():
        where = mask == label
        picture[where] = (1 - alpha) * picture[where] + alpha * np.array(to_rgb(COLOURS[name]))
    return picture


def confusion_matrices(matrices: dict[str, tuple[np.ndarray, tuple[str, ...]]]) -> Figure:
    """Confusion matrices with counts and row percentages (Figure 7).

    Args:
        matrices: Title -> counts (K, K) with true classes as rows, and the class names.
    """
    width = sum(1.2 + 1.35 * max(3, len(classes)) for _, classes in matrices.values())
    figure, axes = plt.subplots(1, len(matrices), figsize=(width, 4.8), squeeze=False)
    for axis, (title, (counts, classes)) in zip(axes[0], matrices.items(), strict=True):
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        text = np.array(
            [f"{c}\n{s:.0%}" for c, s in zip(counts.ravel(), share.ravel(), strict=True)]
        ).reshape(counts.shape)
        labels = [NAMES.get(name, name).replace(" ", "\n") for name in classes]
        sns.heatmap(
            share,
            annot=text,
            fmt="",
            cmap="Blues",
            vmin=0,
            vmax=1,
            cbar=False,
            square=True,
            linewidths=1.5,
            xticklabels=labels,
            yticklabels=labels,
            ax=axis,
        )
        axis.tick_params(rotation=0, length=0)
        axis.set(xlabel="predicted", ylabel="true", title=title)
    return _finished(figure)


def training_curves(history: pd.DataFrame, panels: dict[str, str], x: str = "step") -> Figure:
    """Curves of a training, one panel a quantity, one colour a subset (Figure 8).

    Args:
        history: Columns ``x``, ``subset`` and those named in ``panels``.
        panels: Column -> label of its axis.
        x: Column of the horizontal axis.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(4.6 * len(panels), 3.3), squeeze=False)
    for axis, (column, label) in zip(axes[0], panels.items(), strict=True):
        for subset, part in history.groupby("subset", sort=False):
            colour = COLOURS[subset]
            axis.plot(part[x], part[column], color=colour, alpha=0.25, linewidth=0.8)
            smooth = part[column].rolling(max(1, len(part) // 15), 1, center=True).mean()
            axis.plot(part[x], smooth, color=colour, linewidth=2, label=subset)
        axis.set(xlabel=x, ylabel=label)
    axes[0, 0].legend(frameon=False)
    return _finished(figure)


def setting_maps(tables: dict[str, pd.DataFrame], marked: tuple[float, int]) -> Figure:
    """Accuracy against learning rate and number of steps, a map a task.

    Args:
        tables: Title -> accuracy in [0, 1]; rows are learning rates, columns numbers of steps.
        marked: Rate and steps that the paper has; their cell gets a frame.
    """
    if not tables:  # without validation images there is nothing to map
        return _finished(plt.figure(figsize=(1, 1)))
    first = next(iter(tables.values()))
    width = 0.7 + 0.58 * len(first.columns)
    size = (width * len(tables), 1.7 + 0.42 * len(first))
    figure, axes = plt.subplots(1, len(tables), figsize=size, squeeze=False)
    low = min(table.min(axis=None) for table in tables.values())
    high = max(table.max(axis=None) for table in tables.values())
    for axis, (title, table) in zip(axes[0], tables.items(), strict=True):
        look = {"cmap": "viridis", "vmin": low, "vmax": high, "cbar": False, "linewidths": 1}
        sns.heatmap(table, annot=100 * table, fmt=".1f", annot_kws={"size": 8}, ax=axis, **look)
        if marked[0] in table.index and marked[1] in table.columns:
            cell = table.columns.get_loc(marked[1]), table.index.get_loc(marked[0])
            axis.add_patch(Rectangle(cell, 1, 1, fill=False, edgecolor=COLOURS["covid"], lw=2.5))
        axis.set_yticklabels([f"{rate:g}" for rate in table.index])
        axis.tick_params(rotation=0, length=0)
        axis.set(xlabel="steps", ylabel="", title=title)
    axes[0, 0].set_ylabel("learning rate")
    figure.suptitle("accuracy of all validation images, per cent")
    return _finished(figure)


def reliability(tables: dict[str, pd.DataFrame]) -> Figure:
    """Reliability diagrams: how often an answer is right, against how sure it was.

    Args:
        tables: Title -> table of `evaluation.calibration.reliability`.
    """
    figure, axes = plt.subplots(
        1, len(tables), figsize=(3.4 * len(tables), 4.0), sharey=True, squeeze=False
    )
    for axis, (title, table) in zip(axes[0], tables.items(), strict=True):
        spread = [
            table["accuracy"] - table["accuracy_low"],
            table["accuracy_high"] - table["accuracy"],
        ]
        axis.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--")
        axis.errorbar(
            table["confidence"],
            table["accuracy"],
            np.maximum(spread, 0),
            fmt="o-",
            color=COLOURS["normal"],
            capsize=3,
        )
        axis.bar(
            (table["low"] + table["high"]) / 2,
            table["n"] / table["n"].sum(),
            width=table["high"] - table["low"],
            color="0.88",
            zorder=0,
        )
        axis.set(xlabel="confidence", title=title, xlim=(0, 1), ylim=(0, 1.03), aspect="equal")
    axes[0, 0].set_ylabel("share that is right")
    return _finished(figure)


def heat_sheet(
    rows: dict[str, list[tuple[np.ndarray, np.ndarray, str]]], title: str, alpha: float = 0.45
) -> Figure:
    """Images with the heat of a class activation laid over them.

    Args:
        rows: Row name -> images (uint8, size x size), their heat (any size, 0 or above) and a
            caption each.
        title: Heading.
        alpha: Weight of the colour where the heat is greatest.
    """
    across = max(len(cells) for cells in rows.values())
    figure, axes = _grid(len(rows), across, 2.1)
    for line, (name, cells) in zip(axes, rows.items(), strict=True):
        for axis, (image, heat, caption) in zip(line, cells, strict=False):
            side = image.shape[0]
            share = heat / max(float(heat.max()), 1e-12)
            smooth = resize(share, (side, side), order=1)
            axis.imshow(image, cmap="gray", vmin=0, vmax=255)
            axis.imshow(smooth, cmap="inferno", vmin=0, vmax=1, alpha=alpha * smooth**0.5)
            axis.set_title(caption, fontsize=8)
        _row_name(line[0], name)
    figure.suptitle(title)
    return _finished(figure)


def forest(panels: dict[str, pd.DataFrame], label: str, paper: dict[str, float]) -> Figure:
    """Scores with their intervals, one line each, a panel a question.

    Args:
        panels: Title -> columns ``name``, ``ours``, ``low`` and ``high``, from top to bottom.
        label: Of the horizontal axis.
        paper: Title -> what the paper states, drawn as a dashed line.
    """
    height = 1.1 + 0.3 * max(len(rows) for rows in panels.values())
    figure, axes = plt.subplots(1, len(panels), figsize=(5.6 * len(panels), height), squeeze=False)
    for axis, (title, rows) in zip(axes[0], panels.items(), strict=True):
        at = np.arange(len(rows))[::-1]
        spread = [(rows["ours"] - rows["low"]).fillna(0), (rows["high"] - rows["ours"]).fillna(0)]
        is_ours = rows["name"].str.startswith("ours").to_numpy()
        for chosen, colour in ((is_ours, COLOURS["normal"]), (~is_ours, "0.45")):
            limits = [side[chosen].clip(lower=0) for side in spread]
            axis.errorbar(
                rows["ours"][chosen], at[chosen], xerr=limits, fmt="o", color=colour, capsize=3
            )
        if title in paper:
            axis.axvline(paper[title], color=COLOURS["covid"], linestyle="--", linewidth=1.2)
            axis.text(paper[title], len(rows) - 0.4, "paper ", color=COLOURS["covid"], ha="right")
        axis.set(yticks=at, ylim=(-0.6, len(rows)), xlabel=label, title=title)
        axis.set_yticklabels(rows["name"])
    return _finished(figure)


def score_bars(scores: pd.DataFrame, x: str, hue: str, label: str) -> Figure:
    """Scores as points with their intervals.

    Args:
        scores: Columns ``x``, ``hue``, ``value``, ``low`` and ``high``.
        x: Column of the horizontal axis.
        hue: Column of the colour; its values are keys of `COLOURS` or get their own.
        label: Of the vertical axis.
    """
    groups, kinds = list(scores[x].unique()), list(scores[hue].unique())
    spare = sns.color_palette("colorblind", len(kinds))
    figure, axis = plt.subplots(figsize=(1.5 + 1.1 * len(groups), 3.4))
    for index, kind in enumerate(kinds):
        part = scores[scores[hue] == kind]
        at = [groups.index(g) + (index - (len(kinds) - 1) / 2) * 0.16 for g in part[x]]
        low = (part["value"] - part["low"]).clip(lower=0).fillna(0)
        high = (part["high"] - part["value"]).clip(lower=0).fillna(0)
        colour = COLOURS.get(kind, spare[index])
        name = NAMES.get(kind, kind)
        axis.errorbar(at, part["value"], [low, high], fmt="o", color=colour, capsize=3, label=name)
    axis.set(xticks=range(len(groups)), ylabel=label, ylim=(0, 1.03))
    axis.set_xticklabels([NAMES.get(group, group) for group in groups])
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return _finished(figure)


def segmentation_sheet(
    images: np.ndarray,
    columns: dict[str, np.ndarray],
    title: str,
    classes: dict[int, str] | None = None,
) -> Figure:
    """Slices with the truth and predictions side by side (Figures 10 and 11).

    Args:
        images: uint8 (n, size, size).
        columns: Heading -> uint8 labels (n, size, size).
        title: Heading of the figure.
        classes: Label -> name of its colour; the CT manifestations if None.
    """
    figure, axes = _grid(len(images), 1 + len(columns), 1.9)
    for row, image in enumerate(images):
        axes[row, 0].imshow(image, cmap="gray", vmin=0, vmax=255)
        for column, masks in enumerate(columns.values(), start=1):
            axes[row, column].imshow(overlay(image, masks[row], classes))
    for axis, name in zip(axes[0], ("image", *columns), strict=True):
        axis.set_title(name, fontsize=9)
    _mask_legend(figure, (classes or LABEL_CLASSES).values())
    figure.suptitle(title)
    return _finished(figure)


def _grid(rows: int, columns: int, inches: float) -> tuple[Figure, np.ndarray]:
    """A grid of bare axes for images."""
    size = (inches * columns + 0.4, inches * rows + 0.8)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for axis in axes.ravel():
        axis.set(xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set_visible(False)
    return figure, axes


def _row_name(axis, name: str) -> None:
    axis.set_ylabel(NAMES.get(name, name), fontsize=9)


def _mask_legend(figure: Figure, names: Iterable[str]) -> None:
    patches = [Patch(color=COLOURS[name], label=NAMES.get(name, name)) for name in names]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), frameon=False)
