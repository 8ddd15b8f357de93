"""Texts of figures for people who cannot see them, from the numbers that are drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from covid_utils.registry import name_of


def describe(caption: str, parts: Mapping[str, Iterable[str]]) -> str:
    """Text of a figure: its caption, then for each panel or row its title and its numbers."""
    sentences = [_sentence(caption)]
    sentences += [_sentence(f"{title}: {'; '.join(items)}") for title, items in parts.items()]
    return " ".join(sentences)


def _sentence(text: str) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line[:1].upper() + line[1:] + "."


def with_limits(value: float, low: float, high: float, form: str) -> str:
    """A score with its interval, or without where there is none."""
    if not np.isfinite(value):
        return "without value"
    known = np.isfinite(low) and np.isfinite(high)
    return f"{value:{form}}" + (f" ({low:{form}} to {high:{form}})" if known else "")


def of_matrix(counts: np.ndarray, classes: Sequence[str]) -> list[str]:
    """Totals of a confusion matrix, and each of its rows."""
    n, right = int(counts.sum()), int(np.trace(counts))
    share = f" ({100 * right / n:.1f} %)" if n else ""
    predicted = [name_of(name) for name in classes]
    rows = [
        f"{true}: " + ", ".join(f"{k} as {name}" for k, name in zip(row, predicted, strict=True))
        for true, row in zip(predicted, counts, strict=True)
    ]
    return [f"{right} of {n} images{share} on the diagonal", *rows]


def of_settings(cells: pd.Series, marked: tuple[float, int]) -> list[str]:
    """Best and worst setting, and the paper's, of accuracies by rate and steps."""
    named = {"highest": cells.idxmax(), "lowest": cells.idxmin(), "the paper's setting": marked}
    return [
        f"{word} {100 * cells[at]:.1f} % at rate {at[0]:g} after {at[1]} steps"
        for word, at in named.items()
        if at in cells.index
    ]


def of_reliability(table: pd.DataFrame) -> list[str]:
    """How far confidence is from the share that is right."""
    share = table["n"] / table["n"].sum()
    gap = table["confidence"] - table["accuracy"]
    top = table.iloc[-1]
    return [
        f"{table['n'].sum()} predictions",
        f"confidence too high in {(gap > 0).sum()} of {len(table)} bins, "
        f"{100 * (share * gap.abs()).sum():.1f} points off on average",
        f"highest bin: {100 * share.iloc[-1]:.0f} % of the predictions, confidence "
        f"{100 * top['confidence']:.0f} %, right {100 * top['accuracy']:.0f} %",
    ]


def of_curve(smooth: pd.Series, x: str) -> list[str]:
    """First, last, lowest and highest value of a curve.

    Args:
        smooth: Values indexed by the horizontal axis.
        x: Name of that axis.
    """
    first, last = smooth.index[0], smooth.index[-1]
    return [
        f"{smooth[first]:.3g} at {x} {first}",
        f"{smooth[last]:.3g} at {x} {last}",
        f"lowest {smooth.min():.3g} at {x} {smooth.idxmin()}",
        f"highest {smooth.max():.3g} at {x} {smooth.idxmax()}",
    ]


def of_masks(columns: Mapping[str, np.ndarray], classes: Mapping[int, str]) -> dict[str, list[str]]:
    """Share of the pixels that each colour covers.

    Args:
        columns: Heading -> labels (n, height, width).
        classes: Label -> its name.
    """
    words = {}
    for heading, masks in columns.items():
        shares = {name: np.mean(np.asarray(masks) == label) for label, name in classes.items()}
        items = [f"{name_of(name)} {100 * part:.1f} %" for name, part in shares.items() if part]
        words[f"{heading}, share of the pixels"] = items or ["nothing"]
    return words


def of_place(heat: np.ndarray) -> str:
    """Ninth of a picture with the most heat, in words."""
    if not heat.max() > 0:
        return "nowhere"
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    height = ("upper", "middle", "lower")[int(3 * row / heat.shape[0])]
    side = ("left", "middle", "right")[int(3 * column / heat.shape[1])]
    return "in the middle" if height == side else f"at the {height} {side}"
