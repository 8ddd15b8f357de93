"""What each figure shows, in words made from its data, for people who cannot see it.

The first sentence of a text says what the figure is; the others say what it shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from covid_utils.registry import name_of


def of_images(rows: Mapping[str, Sequence[np.ndarray]], title: str) -> str:
    """Of a sheet of images, a row a class."""
    counts = [f"{name_of(name)}, {_count(len(images), 'image')}" for name, images in rows.items()]
    return f"{_sentence(title)} A row of gray images for each of: {'; '.join(counts)}."


def of_masks(
    columns: Mapping[str, np.ndarray], classes: Mapping[int, str], title: str, scores: str = ""
) -> str:
    """Of images with masks laid over them: how much of the picture each colour covers.

    Args:
        columns: Heading -> labels (n, height, width).
        classes: Label -> what it means.
        title: Heading of the figure.
        scores: What else the figure says, as a sentence.
    """
    n = max((len(masks) for masks in columns.values()), default=0)
    over = f", mean of {n} images" if n > 1 else ""
    parts = []
    for heading, masks in columns.items():
        shares = [
            f"{name_of(name)} {np.mean(np.asarray(masks) == label):.1%}"
            for label, name in classes.items()
            if np.any(np.asarray(masks) == label)
        ]
        parts.append(f"{heading}: {', '.join(shares) or 'nothing'}")
    covered = f"Share of the pixels coloured{over}: {'; '.join(parts)}."
    return " ".join(part for part in (_sentence(title), covered.replace("%", " %"), scores) if part)


def of_heat(rows: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray, str]]], title: str) -> str:
    """Of images with heat laid over them: what each is said to be, and where its heat is."""
    parts = []
    for name, cells in rows.items():
        said = [f"{_line(caption)}, most heat {_place(heat)}" for _, heat, caption in cells]
        parts.append(f"{_capital(name_of(name))}: {'; '.join(said)}.")
    return " ".join((_sentence(title), *parts))


def of_confusion(matrices: Mapping[str, tuple[np.ndarray, tuple[str, ...]]]) -> str:
    """Of confusion matrices: what is on the diagonal, and the most frequent mistake."""
    parts = []
    for title, (counts, classes) in matrices.items():
        n, right = int(counts.sum()), int(np.trace(counts))
        each = [
            f"{name_of(name)} {counts[at, at]} of {counts[at].sum() or 'none'}"
            for at, name in enumerate(classes)
        ]
        share = f" ({right / n:.1%})".replace("%", " %") if n else ""
        parts.append(
            f"{_capital(title)}: of {_count(n, 'image')} {right}{share} are on the diagonal; "
            f"by true class: {', '.join(each)}. {_mistake(counts, classes)}"
        )
    return f"Confusion matrices: {_listed(matrices)}. {' '.join(parts)}"


def _mistake(counts: np.ndarray, classes: Sequence[str]) -> str:
    off = counts - np.diag(np.diag(counts))
    if not off.max():
        return "No mistake."
    true, said = np.unravel_index(off.argmax(), off.shape)
    return (
        f"Most frequent mistake: {off[true, said]} of {counts[true].sum()} "
        f"{name_of(classes[true])} taken for {name_of(classes[said])}."
    )


def of_curves(curves: Mapping[str, Mapping[str, pd.Series]], x: str) -> str:
    """Of curves of a training.

    Args:
        curves: Label of a panel -> subset -> smoothed values, indexed by ``x``.
        x: Name of the horizontal axis.
    """
    parts = []
    for label, lines in curves.items():
        for subset, values in lines.items():
            first, last = values.index[0], values.index[-1]
            parts.append(
                f"{_capital(label)}, {name_of(subset)}: {values.iloc[0]:.3g} at {x} {first}, "
                f"{values.iloc[-1]:.3g} at {x} {last}; lowest {values.min():.3g} at {x} "
                f"{values.idxmin()}, highest {values.max():.3g} at {x} {values.idxmax()}."
            )
    smoothed = "Thin lines are single values, thick ones are smoothed; of these:"
    return f"Curves of a training: {_listed(curves)}. {smoothed} {' '.join(parts)}"


def of_settings(tables: Mapping[str, pd.DataFrame], marked: tuple[float, int]) -> str:
    """Of maps of accuracy against learning rate and number of steps.

    Args:
        tables: Title -> accuracy in [0, 1]; rows are learning rates, columns numbers of steps.
        marked: Rate and steps of the paper.
    """
    if not tables:
        return "An empty figure: there are no validation images."
    parts = []
    for title, table in tables.items():
        cells = table.stack()
        said = [
            f"{word} {_setting(cells, at)}"
            for word, at in (("highest", cells.idxmax()), ("lowest", cells.idxmin()))
        ]
        if marked in cells.index:
            said.append(f"framed, the paper's setting: {_setting(cells, marked)}")
        parts.append(f"{_capital(title)}: {'; '.join(said)}.")
    first = "Maps of validation accuracy against learning rate and number of steps"
    return f"{first}: {_listed(tables)}. {' '.join(parts)}"


def _setting(cells: pd.Series, at: tuple[float, int]) -> str:
    return f"{100 * cells[at]:.1f} % at rate {at[0]:g} after {at[1]} steps"


def of_reliability(tables: Mapping[str, pd.DataFrame]) -> str:
    """Of reliability diagrams: how far confidence is from the share that is right."""
    parts = []
    for title, table in tables.items():
        share = table["n"] / table["n"].sum()
        gap = table["confidence"] - table["accuracy"]
        top = table.iloc[-1]
        parts.append(
            f"{_capital(title)}: {table['n'].sum()} answers; confidence is too high in "
            f"{(gap > 0).sum()} of {len(table)} bins, and {100 * (share * gap.abs()).sum():.1f} "
            f"points off on average. The surest bin holds {100 * share.iloc[-1]:.0f} % of the "
            f"answers: confidence {100 * top['confidence']:.0f} %, right "
            f"{100 * top['accuracy']:.0f} %."
        )
    return f"Reliability diagrams: {_listed(tables)}. {' '.join(parts)}"


def of_forest(panels: Mapping[str, pd.DataFrame], label: str, paper: Mapping[str, float]) -> str:
    """Of scores with their intervals, one line each.

    Args:
        panels: Title -> columns ``name``, ``ours``, ``low`` and ``high``.
        label: Of the horizontal axis.
        paper: Title -> what the paper states.
    """
    parts = []
    for title, rows in panels.items():
        values = zip(rows["name"], rows["ours"], rows["low"], rows["high"], strict=True)
        said = [f"{name} {_interval(*score, '.1f')}" for name, *score in values]
        if title in paper:
            said.append(f"the paper states {paper[title]:g}")
        parts.append(f"{_capital(title)}: {'; '.join(said)}.")
    return f"Scores with 95 % intervals, {label}: {_listed(panels)}. {' '.join(parts)}"


def of_scores(scores: pd.DataFrame, x: str, hue: str, label: str) -> str:
    """Of scores as points with their intervals; arguments as of `figures.score_bars`."""
    parts = []
    for kind, part in scores.groupby(hue, sort=False):
        values = zip(part[x], part["value"], part["low"], part["high"], strict=True)
        said = [f"{name_of(name)} {_interval(*score, '.2f')}" for name, *score in values]
        parts.append(f"{_capital(name_of(kind))}: {', '.join(said)}.")
    kinds = _listed(name_of(kind) for kind in scores[hue].unique())
    return f"{_capital(label)} with 95 % intervals: {kinds}. {' '.join(parts)}"


def read_out(figure: Figure) -> str:
    """What a sheet in parts says itself: its headings, and what is named in its pictures."""
    parts = [_sentence(figure.get_suptitle())] if figure.get_suptitle() else []
    for part in figure.subfigs:
        pictures = []
        for axis in part.axes:
            # Single letters are marks, for instance of the patient's right and left.
            named = [text.get_text() for text in axis.texts if len(text.get_text()) > 1]
            pictures.append(_line(axis.get_title()) + (f" ({', '.join(named)})" if named else ""))
        legend = [text.get_text() for one in part.legends for text in one.get_texts()]
        colours = f" Colours: {', '.join(legend)}." if legend else ""
        parts.append(f"{part.get_suptitle()}: {'; '.join(pictures)}.{colours}")
    return " ".join(parts)


def _interval(value: float, low: float, high: float, form: str) -> str:
    """A score with its interval, or without where there is none."""
    if not np.isfinite(value):
        return "without value"
    known = np.isfinite(low) and np.isfinite(high)
    return f"{value:{form}}" + (f" ({low:{form}} to {high:{form}})" if known else "")


def _place(heat: np.ndarray) -> str:
    """Ninth of a picture with the most heat, in words."""
    if not heat.max() > 0:
        return "nowhere"
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    height = ("upper", "middle", "lower")[int(3 * row / heat.shape[0])]
    side = ("left", "middle", "right")[int(3 * column / heat.shape[1])]
    return "in the middle" if height == side else f"at the {height} {side}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _listed(names: Iterable[str]) -> str:
    return "; ".join(_line(name) for name in names)


def _line(text: str) -> str:
    """A text on one line."""
    return " ".join(text.split())


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sentence(text: str) -> str:
    return _capital(_line(text)).rstrip(".") + "."
