"""How every figure looks and how it is written: sizes, fonts, files, and a text for each.

A figure is drawn at the size at which it is printed, no wider than two columns of a page, so its
letters have the size that they state. It carries a text for people who cannot see it, and is not
written without one. Colours are in `registry`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from covid_utils import paths
from covid_utils.errors import ParameterError
from covid_utils.registry import INK
from covid_utils.writing import whole

#: Widths of one and of two columns of a page, in inches (89 and 183 mm).
SINGLE, DOUBLE = 3.5, 7.2
#: Sizes of letters in points; nothing in a figure is smaller.
SMALL, PLAIN, LARGE = 7.0, 8.0, 9.0
SETTINGS = {
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
    "savefig.dpi": 300,
    "figure.constrained_layout.use": True,
    # The same bytes from the same numbers, on machines with other fonts too.
    "svg.hashsalt": "covid-companion",
    "font.sans-serif": ["DejaVu Sans"],
}


def style() -> None:
    """Set the look of every figure; call it once in a notebook."""
    mpl.rcdefaults()
    sns.set_theme(context="paper", style="ticks", rc=SETTINGS)


def finished(figure: Figure, alt: str) -> Figure:
    """Attach a figure's text, and detach the figure from pyplot, which frees its memory.

    Args:
        figure: As drawn.
        alt: What it shows, for people who cannot see it; the first sentence serves as its title.
    """
    plt.close(figure)
    # The label of a figure is drawn nowhere, and stays with it.
    figure.set_label(alt)
    return figure


def save(figure: Figure, profile: str, name: str, alt: str = "") -> Figure:
    """Write a figure as ``results/<profile>/figures/<name>.png``, ``.svg`` and, in words, ``.txt``.

    The words are also in the PNG's ``Description`` and in the SVG's ``<desc>``.

    Args:
        figure: Drawn by this package, or with ``alt``.
        profile: Folder below ``results``.
        name: Name of the files.
        alt: What the figure shows; the text given to `finished` if empty.

    Returns:
        The figure, so that a cell can end with it.

    Raises:
        ParameterError: The figure has no text.
    """
    text = (alt or figure.get_label()).strip()
    if not text:
        raise ParameterError(f"figure '{name}' has no text for people who cannot see it; give alt.")
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
    """Add the description that screen readers look for, which Matplotlib leaves out of an SVG."""
    svg = path.read_text(encoding="utf8")
    ids = f"{name}-title", f"{name}-desc"
    svg = svg.replace("<svg ", f'<svg role="img" aria-labelledby="{" ".join(ids)}" ', 1)
    svg = svg.replace("<title>", f'<title id="{ids[0]}">', 1)
    desc = f'</title>\n <desc id="{ids[1]}">{escape(text)}</desc>'
    path.write_text(svg.replace("</title>", desc, 1), encoding="utf8")


def contrast(one: str | Sequence[float], other: str | Sequence[float]) -> float:
    """Contrast of WCAG 2, from 1 (none) to 21; text needs 4.5, a line or a mark 3."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str | Sequence[float]) -> float:
    """Relative luminance of WCAG 2, from 0 (black) to 1 (white)."""
    channels = np.array(to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def readable_on(colour: str | Sequence[float]) -> str:
    """Black or white, whichever has more contrast with a colour: at least 4.5."""
    return max(("black", "white"), key=lambda ink: contrast(ink, colour))
