"""The first page: how many statements hold, the verdict on each, and the headline numbers."""

from __future__ import annotations

from typing import Any

import pandas as pd

from covid_utils.report import render
from covid_utils.report import verdicts as words
from covid_utils.report.site import markup, views
from covid_utils.report.site.contents import Results
from covid_utils.report.site.markup import Cell

#: What each verdict means; `verdicts` has the rules.
MEANINGS = {
    words.REPRODUCED: "The paper's value lies in our interval; or, where one thing is said to beat "
    "another, the interval of the difference lies above 0.",
    words.DIFFERS: "It does not. The reason says by how much.",
    words.NOT_COMPARABLE: "Other data, a number of images of a reduced profile, or too few cases: "
    "neither agreement nor difference would mean anything.",
    words.NOT_REPRODUCIBLE: "What it would take is missing, or our cases or trainings cannot "
    "decide.",
}


def tally(results: Results) -> str:
    """How many of the paper's own statements got which verdict."""
    counts = words.tally(results.verdicts)
    return markup.tally([(name, count, MEANINGS[name]) for name, count in counts.items()])


def verdict_table(results: Results, of_others: bool = False) -> str:
    """Statements with our number, the verdict and its reason.

    Args:
        results: What the site shows.
        of_others: The works that the paper quotes, in place of the paper's own statements.
    """
    is_quoted = words.is_quoted(results.verdicts)
    table = results.verdicts[is_quoted if of_others else ~is_quoted]
    if table.empty:
        return ""
    body, anchors, seen = [], [], set()
    for row, ours in zip(table.itertuples(), _ours(results, table), strict=True):
        body.append(_verdict_row(row, ours))
        # Several rows may share a statement; the first is where links lead.
        anchors.append("" if row.id in seen else markup.claim_anchor(row.id))
        seen.add(row.id)
    columns = ["where", "what", "ours", "paper", "verdict", "why"]
    caption = "Works that the paper quotes" if of_others else "What the paper states"
    return markup.table(f"{caption}, and what came out here", columns, body, anchors)


def _verdict_row(row: Any, ours: Cell) -> list[Cell]:
    return [
        Cell(views.unbroken(row.where)),
        Cell(views.phrase(row.metric)),
        ours,
        views.number(_with_unit(row.paper, row.unit)),
        Cell(row.verdict, verdict=row.verdict),
        Cell(row.reason),
    ]


def headline_table(results: Results) -> str:
    """The numbers that a reader looks for first."""
    table = results.headlines
    text = render.readable(table)
    numbers = views.number_cells(results, table)
    body = [
        [Cell(row.question), Cell(views.word(row.metric)), ours]
        + [views.number(value) for value in (row.n, row.paper)]
        + [Cell(getattr(row, "note", ""))]
        for row, ours in zip(text.itertuples(), numbers, strict=True)
    ]
    columns = ["question", "metric", "ours", "n", "paper", "note"]
    return markup.table("Headline numbers", columns, body)


def _ours(results: Results, table: pd.DataFrame) -> list[Cell]:
    """Our number of each verdict; what is no number stands as it is."""
    limits = ["ours", "low", "high"]
    numeric = table.assign(**table[limits].apply(pd.to_numeric, errors="coerce"))
    is_text = numeric["ours"].isna() & table["ours"].notna()
    return [
        Cell(str(text), href=cell.href) if is_words else cell
        for cell, text, is_words in zip(
            views.number_cells(results, numeric), table["ours"], is_text, strict=True
        )
    ]


def _with_unit(paper: str, unit: str) -> str:
    """The paper's number with its unit, if it is one number."""
    is_number = pd.notna(pd.to_numeric(paper, errors="coerce"))
    return f"{paper} {unit}" if is_number and unit not in ("fraction", "") else paper
