"""Tables for people: numbers rounded to what the data can carry, as text and Markdown."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from covid_utils.report.cells import NO_DATA, VALUES, WILSON
from covid_utils.writing import whole

LEGEND = (
    "ours: value and 95 % interval, where there are cases enough for one; n: test cases; paper: "
    "what the paper's prose states, the bodies of its tables are not available; claim: the entry "
    "of the ledger that states it, on which verdicts.csv has the verdicts; false alarms: share of "
    "the slices without the class, n, in which it is predicted; other means over slices are of "
    "those that have the class."
)
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
    is_number = pd.to_numeric(table["paper"], errors="coerce").notna()
    with_unit = table["paper"].astype(str) + table["unit"].map(_sign)
    return table["paper"].where(~is_number, with_unit)


def wide(table: pd.DataFrame, keys: list[str], across: list[str]) -> pd.DataFrame:
    """A table of `VALUES` for people: a row per ``keys``, a column per score named ``across``."""
    text = readable(table)
    rows, columns = (pd.MultiIndex.from_frame(text[of].drop_duplicates()) for of in (keys, across))
    rows, columns = (i.get_level_values(0) if i.nlevels == 1 else i for i in (rows, columns))
    pivoted = text.pivot(index=keys, columns=across, values="ours").fillna("")
    return pivoted.reindex(index=rows, columns=columns)


def with_interval(row) -> str:
    """Value and interval of a row with the columns of `VALUES`, as text; '' if nothing is ours."""
    if pd.isna(row.ours) and row.n == 0:
        return NO_DATA if NO_DATA in getattr(row, "note", "") else ""
    if pd.isna(row.ours):
        return "undefined"
    places = digits(row.unit)
    value = f"{row.ours:.{places}f}{_sign(row.unit)}"
    return value if pd.isna(row.low) else f"{value} [{row.low:.{places}f}, {row.high:.{places}f}]"


def digits(unit: str) -> int:
    """Decimal places that a number of a unit is shown with."""
    return DIGITS.get(unit, 1)


def _sign(unit: str) -> str:
    return "" if unit == "fraction" else f" {unit}"


def text_of(table: pd.DataFrame) -> pd.DataFrame:
    """A table with text in every cell; one of scores is made `readable` first."""
    table = readable(table) if set(VALUES) <= set(table.columns) else table
    return table.map(lambda v: f"{v:.4g}" if isinstance(v, float) else str(v)).replace("nan", "")


def markdown(table: pd.DataFrame) -> str:
    """A table of texts in Markdown, without a line end at the end."""
    lines = [table.columns, ["---"] * len(table.columns), *table.to_numpy()]
    safe = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in safe)


def write(table: pd.DataFrame, path: Path, title: str, profile: str) -> None:
    """Write a table in Markdown, whole or not at all."""
    content = f"# {title}\n\n{markdown(text_of(table))}\n\nProfile `{profile}`. {LEGEND}\n"
    with whole(path) as partial:
        partial.write_text(content, encoding="utf8")
