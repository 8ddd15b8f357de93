"""How figures look and how they are written: sizes, fonts, files, and a text for each.

A figure is drawn at the size at which it is printed, so its letters have the size that they state.
It carries a text for people who cannot see it. Colours are in `registry`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from xml.sax.saxutils import escape

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from covid_utils import paths
from covid_utils.registry import INK
from covid_utils.writing import whole

#: Widths of one and of two columns of a page, in inches (89 and 183 mm).
SINGLE, DOUBLE = 3.5, 7.2
#: Sizes of letters in points; nothing in a figure is smaller.
SMALL, PLAIN, LARGE = 7.0, 8.0, 9.0
SETTINGS = {
    **dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize"), PLAIN),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), SMALL),
    "figure.titlesize": LARGE,
    "legend.frameon": False,
    **dict.fromkeys(("text.color", "axes.labelcolor"), INK),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right"), False),
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "figure.dpi": 130,
    "savefig.dpi": 300,
    "figure.constrained_layout.use": True,
    # The same bytes from the same numbers, on machines with other fonts too.
    "svg.hashsalt": "covid-companion",
    "font.sans-serif": ["DejaVu Sans"],
}


def use() -> None:
    """Set the look of every figure; call it once in a notebook."""
    mpl.rcdefaults()
    sns.set_theme(context="paper", style="ticks", rc=SETTINGS)


def spread(value: pd.Series, low: pd.Series, high: pd.Series) -> list[pd.Series]:
    """Lengths of error bars below and above; none where there is no interval."""
    return [side.clip(lower=0).fillna(0) for side in (value - low, high - value)]


def in_words(value: str, low: str, high: str) -> str:
    """A score with its interval, where there are any, for the text of a figure."""
    score = "without value" if value == "nan" else value
    return score if low == "nan" else f"{score} ({low} to {high})"


def legend_below(figure: Figure, order: Iterable[str] = (), title: str = "") -> None:
    """One legend for all panels, below them, where it hides nothing."""
    named = {}
    for axis in figure.axes:
        handles, words = axis.get_legend_handles_labels()
        named |= dict(zip(words, handles, strict=True))
    words = [word for word in order or named if word in named]
    look = {"loc": "outside lower center", "ncols": len(words), "title_fontsize": SMALL}
    figure.legend([named[word] for word in words], words, title=title or None, **look)


def finished(
    figure: Figure, caption: str, parts: Mapping[str, Iterable[str]] | None = None
) -> Figure:
    """Attach a figure's text, and detach the figure from pyplot, which frees its memory.

    The first sentence of the caption serves as title; ``parts``: title of a panel or row -> its
    numbers, in words.
    """
    plt.close(figure)
    texts = [caption, *(f"{title}: {'; '.join(items)}" for title, items in (parts or {}).items())]
    lines = (" ".join(text.split()).rstrip(".") for text in texts)
    # The label of a figure is drawn nowhere, and stays with it.
    figure.set_label(" ".join(f"{line[:1].upper()}{line[1:]}." for line in lines))
    return figure


def save(figure: Figure, profile: str, name: str) -> Figure:
    """Write a figure as ``results/<profile>/figures/<name>.png``, ``.svg`` and, in words, ``.txt``.

    The words are also in the PNG's ``Description`` and in the SVG's ``<desc>``. Returns the figure,
    so that a cell can end with it.
    """
    text = figure.get_label()
    folder = paths.results(profile) / "figures"
    words = {"Title": text.split(". ")[0].rstrip("."), "Description": text}
    with whole(folder / f"{name}.png") as partial:
        figure.savefig(partial, metadata=words | {"Software": None})
    with whole(folder / f"{name}.svg") as partial:
        figure.savefig(partial, metadata=words | {"Date": None})
        # The description that screen readers look for, which Matplotlib leaves out of an SVG.
        svg = partial.read_text(encoding="utf8")
        role = f'role="img" aria-labelledby="{name}-title {name}-desc"'
        desc = f'</title>\n <desc id="{name}-desc">{escape(text)}</desc>'
        svg = svg.replace("<svg ", f"<svg {role} ", 1).replace("</title>", desc, 1)
        svg = svg.replace("<title>", f'<title id="{name}-title">', 1)
        partial.write_text(svg, encoding="utf8")
    with whole(folder / f"{name}.txt") as partial:
        partial.write_text(text + "\n", encoding="utf8")
    return figure
