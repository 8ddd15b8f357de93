"""The few pieces of HTML that Markdown has no word for: linked numbers, verdicts, tables, figures.

Every piece is free of blank lines, so that it can stand in a Markdown page as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

#: Page that tells where numbers come from.
PROVENANCE = "provenance.html"
#: Texts of more letters than this get a wider column.
LONG = 22


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What it shows.
        sort: What it is sorted by, if that is a number.
        href: Where a click on it leads, '' for nowhere.
        verdict: Verdict that it shows by word, colour and shape, '' for none.
    """

    text: str
    sort: float | None = None
    href: str = ""
    verdict: str = ""

    def html(self) -> str:
        """What stands between the tags of the cell."""
        shown = escape(self.text)
        if self.verdict:
            shown = f'<span class="verdict verdict-{slug(self.verdict)}">{shown}</span>'
        if self.href and self.text:
            kind = "origin" if self.href.startswith(PROVENANCE) else "reason"
            shown = f'<a class="{kind}" href="{escape(self.href)}">{shown}</a>'
        return shown


def slug(name: str) -> str:
    """A name as it may stand in an address: lower case, hyphens."""
    kept = "".join(sign if sign.isalnum() else "-" for sign in name.lower())
    return "-".join(part for part in kept.split("-") if part)


def run_anchor(run: str) -> str:
    """Anchor of a run on the page `PROVENANCE`."""
    return f"run-{slug(run)}"


def run_href(run: str) -> str:
    """Address of a run's provenance, as seen from a page of the first level."""
    return f"{PROVENANCE}#{run_anchor(run)}"


def claim_href(claim: str) -> str:
    """Address of the verdict on a statement, as seen from a page of the first level."""
    return f"index.html#{claim_anchor(claim)}"


def claim_anchor(claim: str) -> str:
    """Anchor of a statement in the table of verdicts."""
    return f"claim-{slug(claim)}"


def notes(texts: Sequence[str]) -> str:
    """What must be said below a table; '' if nothing."""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f'<ul class="notes" aria-label="Notes on the table above">{items}</ul>' if items else ""


def table(
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    anchors: Sequence[str] | None = None,
) -> str:
    """A table with a caption; the first cell of a row is its heading.

    Args:
        caption: What the table shows.
        columns: Headings.
        rows: As many cells as headings.
        anchors: Of each row, '' for none.
    """
    anchors = anchors or [""] * len(rows)
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = "".join(_row(row, anchor) for row, anchor in zip(rows, anchors, strict=True))
    return (
        f'<table class="results"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _row(row: Sequence[Cell], anchor: str) -> str:
    name = f' id="{escape(anchor)}"' if anchor else ""
    first, *others = row
    cells = [f'<th scope="row"{_marks(first)}>{first.html()}</th>']
    cells += [f"<td{_marks(cell)}>{cell.html()}</td>" for cell in others]
    return f"<tr{name}>{''.join(cells)}</tr>"


def _marks(cell: Cell) -> str:
    """What a cell is sorted by, and whether its text needs room."""
    order = "" if cell.sort is None else f' data-sort="{cell.sort:.10g}"'
    return order + (' class="long"' if len(cell.text) > LONG and not cell.href else "")


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """A list of named values, for what is no table."""
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in pairs)
    return f'<dl class="facts">{items}</dl>'


def figure(source: str, alt: str, caption: str) -> str:
    """A picture on a white ground, so that it reads in the dark theme too."""
    return (
        f'<figure class="card-figure"><a href="{escape(source)}" aria-label="Enlarge: '
        f'{escape(caption)}"><img src="{escape(source)}" alt="{escape(alt)}"></a>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def tally(counts: Sequence[tuple[str, int, str]]) -> str:
    """How many statements got which verdict, and what each verdict means.

    Args:
        counts: Verdict, number of statements, meaning.
    """
    items = "".join(
        f'<li class="verdict-{slug(verdict)}"><span class="count">{count}</span> '
        f'<span class="verdict verdict-{slug(verdict)}">{escape(verdict)}</span> '
        f'<span class="meaning">{escape(meaning)}</span></li>'
        for verdict, count, meaning in counts
    )
    return f'<ul class="tally">{items}</ul>'
