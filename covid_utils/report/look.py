"""How every figure looks and how it is kept: sizes, style, and files that say what they show.

A figure is drawn at the size at which it is printed, no wider than two columns of a page, so its
letters are as large as they say. It carries a text for people who cannot see it, and is not kept
without one.
"""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

import matplotlib as mpl
import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.figure import Figure

from covid_utils import paths
from covid_utils.errors import ParameterError
from covid_utils.registry import INK
from covid_utils.report import alt_text
from covid_utils.writing import whole

#: Widths of one and of two columns of a page, in inches (89 and 183 mm).
SINGLE, DOUBLE = 3.5, 7.2
#: Sizes of letters in points; nothing in a figure is smaller.
SMALL, PLAIN, LARGE = 7.0, 8.0, 9.0
DPI = 300


def style() -> None:
    """Set the look of every figure; call it once in a notebook."""
    sns.set_theme(context="paper", style="ticks")
    mpl.rcParams.update(
        {
            "font.size": PLAIN,
            "axes.titlesize": PLAIN,
            "axes.labelsize": PLAIN,
            "xtick.labelsize": SMALL,
            "ytick.labelsize": SMALL,
            "legend.fontsize": SMALL,
            "figure.titlesize": LARGE,
            "legend.frameon": False,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "figure.dpi": 130,
            "savefig.dpi": DPI,
            "figure.constrained_layout.use": True,
            # Same bytes from the same numbers, on machines with other fonts as well.
            "svg.hashsalt": "covid-companion",
            "font.sans-serif": ["DejaVu Sans"],
        }
    )


def finished(figure: Figure, alt: str) -> Figure:
    """Give a figure its text, and take it out of pyplot's hands.

    A notebook then shows it once, and its memory is freed.

    Args:
        figure: As drawn.
        alt: What it shows, for people who cannot see it; the first sentence serves as its title.
    """
    plt.close(figure)
    # The label of a figure is drawn nowhere, and travels with it.
    figure.set_label(alt)
    return figure


def text_of(figure: Figure) -> str:
    """What a figure shows, in words; empty if nobody said it."""
    # A sheet in parts names all that it shows.
    return figure.get_label() or (alt_text.read_out(figure) if figure.subfigs else "")


def save(figure: Figure, profile: str, name: str, alt: str = "") -> Figure:
    """Write a figure as ``results/<profile>/figures/<name>.png``, ``.svg`` and, in words, ``.txt``.

    The words are also in the PNG's ``Description`` and in the SVG's ``<desc>``.

    Args:
        figure: Drawn by this package, or with ``alt``.
        profile: Folder below ``results``.
        name: Of the files.
        alt: What the figure shows; what `finished` was told if empty.

    Returns:
        The figure, so that a cell can end with it.

    Raises:
        ParameterError: Nobody said what the figure shows.
    """
    text = (alt or text_of(figure)).strip()
    if not text:
        raise ParameterError(f"figure '{name}' says nothing to people who cannot see it; give alt.")
    folder = paths.results(profile) / "figures"
    words = {"Title": text.split(". ")[0].rstrip("."), "Description": text}
    with whole(folder / f"{name}.png") as partial:
        figure.savefig(partial, metadata=words | {"Software": None})
    with whole(folder / f"{name}.svg") as partial:
        figure.savefig(partial, metadata=words | {"Date": None})
        _describe(partial, name, text)
    with whole(folder / f"{name}.txt") as partial:
        partial.write_text(text + "\n", encoding="utf8")
    return figure


def _describe(path: Path, name: str, text: str) -> None:
    """Add what Matplotlib leaves out of an SVG: the description that screen readers look for."""
    svg = path.read_text(encoding="utf8")
    ids = f"{name}-title", f"{name}-desc"
    svg = svg.replace("<svg ", f'<svg role="img" aria-labelledby="{" ".join(ids)}" ', 1)
    svg = svg.replace("<title>", f'<title id="{ids[0]}">', 1)
    desc = f'</title>\n <desc id="{ids[1]}">{escape(text)}</desc>'
    path.write_text(svg.replace("</title>", desc, 1), encoding="utf8")
