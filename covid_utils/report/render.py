"""Tables of scores: our numbers beside the paper's, and for people as text and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from covid_utils.evaluation.intervals import wilson
from covid_utils.report import claims as ledger
from covid_utils.runs import select
from covid_utils.writing import whole

LEGEND = (
    "ours: value and 95 % interval, where there are cases enough for one; n: test cases; paper: "
    "what the paper's prose states, the bodies of its tables are not available; claim: the entry "
    "of the ledger that states it, on which verdicts.csv has the verdicts; false alarms: share of "
    "the slices without the class, n, in which it is predicted; other means over slices are of "
    "those that have the class."
)
NOT_AVAILABLE = "not available"
#: What a cell says whose runs were left out.
NO_DATA = "no data"
#: What every table of scores ends with.
VALUES = ("metric", "unit", "ours", "low", "high", "n", "paper", "claim", "source_run", "note")
#: `VALUES` of a row for which nothing was measured.
NOTHING = dict.fromkeys(VALUES, "") | dict.fromkeys(("ours", "low", "high"), np.nan)
NOTHING |= {"n": 0, "paper": NOT_AVAILABLE, "note": f"{NO_DATA}: the runs behind it were left out"}
#: Wilson's limits, which take images as independent, in tables of recognition: the paper's own
#: interval can only be given so.
WILSON = ("wilson_low", "wilson_high")
#: Unit -> decimal places that a number of it is shown with; others have one.
DIGITS = {"fraction": 3, "s": 3, "images": 0}


def style() -> None:
    """Let notebooks show tables whole: every row, and no note cut short. Call it once."""
    pd.set_option("display.max_rows", None)
    pd.set_option("display.max_colwidth", None)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """A table of `VALUES` for people, all text: value and interval in one cell, rounded."""
    keys = [name for name in table.columns if name not in (*VALUES, *WILSON)]
    text = table[[*keys, "metric"]].copy()
    text["ours"] = [with_interval(row) for row in table.itertuples()]
    if set(WILSON) <= set(table.columns):
        limits = zip(*(table[name] for name in WILSON), strict=True)
        text["Wilson"] = ["" if pd.isna(a) else f"[{a:.1f}, {b:.1f}]" for a, b in limits]
    text["n"] = ["" if n == 0 else str(n) for n in table["n"]]
    text["paper"] = stated(table)
    for name in ("claim", "note"):
        if table[name].any():
            text[name] = table[name]
    return text


def stated(table: pd.DataFrame) -> pd.Series:
    """The column ``paper`` of a table, numbers with their ``unit``."""
    is_plain = pd.to_numeric(table["paper"], errors="coerce").isna() | (table["unit"] == "fraction")
    return table["paper"].where(is_plain, table["paper"].astype(str) + " " + table["unit"])


def wide(table: pd.DataFrame, keys: list[str], across: list[str]) -> pd.DataFrame:
    """A table of `VALUES` for people: a row per ``keys``, a column per score named ``across``."""
    text = readable(table)
    text.set_index([*keys, *across], verify_integrity=True)  # two scores in one cell would lose one
    form = {"index": keys, "columns": across, "values": "ours", "aggfunc": "first", "sort": False}
    return text.pivot_table(**form).fillna("")


def with_interval(row) -> str:
    """Value and interval of a row with the columns of `VALUES`, as text; '' if nothing is ours."""
    if pd.isna(row.ours) and row.n == 0:
        return NO_DATA if NO_DATA in getattr(row, "note", "") else ""
    if pd.isna(row.ours):
        return "undefined"
    value, low, high = (number(one, row.unit) for one in (row.ours, row.low, row.high))
    value += "" if row.unit == "fraction" else f" {row.unit}"
    return value if pd.isna(row.low) else f"{value} [{low}, {high}]"


def number(value: float, unit: str, sign: str = "") -> str:
    """A value with as many decimal places as its unit is shown with; a ``sign`` + or none."""
    return format(value, f"{sign}.{DIGITS.get(unit, 1)}f")


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, without a line end at the end; numbers with four digits."""
    text = table.map(lambda v: f"{v:.4g}" if isinstance(v, float) else str(v)).replace("nan", "")
    text = text.replace(r"\|", r"\\|", regex=True).replace("\n", " ", regex=True)
    lines = [table.columns, ["---"] * len(table.columns), *text.to_numpy()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write(table: pd.DataFrame, path: Path, title: str, profile: str) -> None:
    """Write a table in Markdown, whole or not at all; one of scores as people read it."""
    table = readable(table) if "metric" in table else table
    content = f"# {title}\n\n{markdown(table)}\n\nProfile `{profile}`. {LEGEND}\n"
    with whole(path) as partial:
        partial.write_text(content, encoding="utf8")


def beside(name: str, scored: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """The table ``name``: ``keys`` and `VALUES` of scores and of `quoted` rows.

    A row names the first claim of the ledger that stands beside it.
    """
    scored = scored.reset_index(drop=True)
    table = scored[[*keys, "metric", "unit"]].copy()
    factor = np.where(scored["unit"].isin(("%", "points")), 100.0, 1.0)
    for column, value in (("ours", "value"), ("low", "low"), ("high", "high")):
        table[column] = scored[value].astype(float) * factor
    table["n"] = scored["n"].astype(int)
    sources = scored["source_run"] if "source_run" in scored else scored["run"]
    table["source_run"] = sources.where(table["n"] > 0, "")
    table["note"] = scored["note"]
    for column, default in (("claim", ""), ("paper", NOT_AVAILABLE)):
        table[column] = scored[column].fillna(default) if column in scored else default
    for claim in ledger.load().values():
        for criteria in claim.rows(name):
            rows = select(table, **criteria, claim="").index
            table.loc[rows, ["claim", "paper"]] = claim.same_as or claim.id, claim.text
            remark = pd.Series(claim.remark, rows)
            table.loc[rows, "note"] = joined(table.loc[rows, "note"], remark)
    if not table["n"].any():
        first = dict.fromkeys(keys, "") | ({"work": "ours"} if "work" in keys else {})
        first |= dict.fromkeys({*WILSON} & {*keys}, np.nan)
        table = pd.concat([pd.DataFrame([first | NOTHING]), table], ignore_index=True)
    return table[[*keys, *VALUES]]


def quoted(published: pd.DataFrame) -> pd.DataFrame:
    """Published rows in the form of scores: nothing of ours."""
    rows = published.assign(value=np.nan, low=np.nan, high=np.nan, n=0, run="")
    rows["paper"] = [f"{value:g}" for value in published["value"]]
    return rows.assign(note="quoted, not run again; tested on: " + published["test_set"])


def ordered(table: pd.DataFrame, **wanted: Sequence) -> pd.DataFrame:
    """Rows with one of the values of each column, in their order; the first column comes first."""
    part = select(table, **{name: list(values) for name, values in wanted.items()})
    ranks = {name.rstrip("_"): list(values).index for name, values in wanted.items()}
    return part.sort_values(
        list(ranks), key=lambda column: column.map(ranks[column.name]), kind="stable"
    )


def joined(*columns: pd.Series) -> list[str]:
    """Notes of several columns as one text per row; empty ones are left out."""
    return ["; ".join(filter(None, notes)) for notes in zip(*columns, strict=True)]


def with_wilson(scored: pd.DataFrame) -> pd.DataFrame:
    """Scores with `WILSON`, per cent, of single trainings; augmented copies do not count."""
    limits = np.full((len(scored), 2), np.nan)
    for index, row in enumerate(scored.itertuples()):
        is_single = row.metric == "accuracy" and row.repeat and row.n
        if is_single and "augmented copies" not in row.note:
            limits[index] = wilson(round(row.value * row.n), row.n).limits
    return scored.assign(**dict(zip(WILSON, 100 * limits.T, strict=True)))


def sources(names: str) -> list[str]:
    """Folders of the runs behind a cell, of its ``source_run``."""
    return [name for name in names.split(", ") if name]
