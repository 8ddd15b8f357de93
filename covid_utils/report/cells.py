"""What all tables share: our number beside the paper's, and how both are shown to people."""

from __future__ import annotations

import numpy as np
import pandas as pd

from covid_utils.report import claims as ledger

NOT_AVAILABLE = "not available"
#: What every table of scores ends with.
VALUES = (
    "metric",
    "unit",
    "ours",
    "low",
    "high",
    "n",
    "paper",
    "claim",
    "verdict",
    "source_run",
    "note",
)
#: Wilson's limits, in tables of recognition, whose intervals are a bootstrap by patient.
WILSON = ("wilson_low", "wilson_high")


def cell(
    metric: str,
    score: pd.Series | None,
    claim: ledger.Claim | None,
    unit: str = "%",
    note: str = "",
    run: str = "",
) -> dict:
    """The columns of `VALUES`: our score, in the unit wanted, beside the paper's.

    Args:
        metric: What was measured.
        score: ``value, low, high`` (shares of 1 if the unit is a percentage) and ``n``; None where
            there is nothing of ours.
        claim: What the paper says of it; None for nothing.
        unit: Of the cell.
        note: What a reader must know.
        run: Folder of the run that it was computed from; two, with a comma, of a difference.

    Returns:
        The cell; its verdict is still open, see `verdicts.judged`.
    """
    factor = 100.0 if unit in ("%", "points") else 1.0
    ours = {"ours": np.nan, "low": np.nan, "high": np.nan, "n": 0}
    if score is not None:
        names = {"ours": "value", "low": "low", "high": "high"}
        ours = {key: score[name] * factor for key, name in names.items()}
        ours["n"] = int(score["n"])
    said = NOT_AVAILABLE if claim is None else str(claim.value)
    if claim is not None and claim.unit == "statement":
        said = "stated without a number"
    paper = {"paper": said, "claim": "" if claim is None else claim.id, "verdict": ""}
    source = {"source_run": run if ours["n"] else "", "note": note}
    return {"metric": metric, "unit": unit} | ours | paper | source


def sources(runs: str) -> list[str]:
    """Folders of the runs behind a cell, of its ``source_run``."""
    return [name for name in runs.split(", ") if name]


def quoted(row: pd.Series, note: str = "quoted, not run again") -> dict:
    """The columns of `VALUES` for a published row: nothing of ours."""
    text = f"{note}; tested on: {row['test_set']}"
    claim = row["claim"] if isinstance(row["claim"], str) else ""
    made = cell(row["metric"], None, None, row["unit"], text)
    return made | {"paper": f"{row['value']:g}", "claim": claim}


def pick(scores: pd.DataFrame, **criteria: str) -> pd.Series | None:
    """The one score with these values, or None if there is none."""
    for column, wanted in criteria.items():
        scores = scores[scores[column] == wanted]
    return scores.iloc[0] if len(scores) else None


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """A table for people: value and interval in one cell, rounded to what the data can carry.

    Args:
        table: A table that ends with the columns of `VALUES`.

    Returns:
        The leading columns, then ``metric``, ``ours``, ``Wilson`` (where a table has it), ``n``,
        ``paper``, and ``verdict`` and ``note`` (if there is any), as text.
    """
    keys = [name for name in table.columns if name not in (*VALUES, *WILSON)]
    text = table[[*keys, "metric"]].copy()
    text["ours"] = [with_interval(row) for row in table.itertuples()]
    if set(WILSON) <= set(table.columns):
        limits = zip(*(table[name] for name in WILSON), strict=True)
        text["Wilson"] = ["" if pd.isna(a) else f"[{a:.1f}, {b:.1f}]" for a, b in limits]
    text["n"] = ["" if n == 0 else str(n) for n in table["n"]]
    known = pd.to_numeric(table["paper"], errors="coerce").notna()
    text["paper"] = [
        f"{p}{_sign(u)}" if k else p
        for p, u, k in zip(table["paper"], table["unit"], known, strict=True)
    ]
    for name in ("verdict", "note"):
        if table[name].any():
            text[name] = table[name]
    return text


def wide(table: pd.DataFrame, keys: list[str], across: list[str]) -> pd.DataFrame:
    """A table for people with one column a kind of score, for rows that share their keys.

    Args:
        table: A table that ends with the columns of `VALUES`.
        keys: Columns that name a row.
        across: Columns that name a score, such as ``metric`` and ``average``.

    Returns:
        Value and interval as text, '' where there is none; rows and columns in their order.
    """
    text = readable(table)
    found = text.pivot(index=keys, columns=across, values="ours").fillna("")
    rows = pd.MultiIndex.from_frame(text[keys].drop_duplicates())
    columns = pd.MultiIndex.from_frame(text[across].drop_duplicates())
    rows, columns = (
        index.get_level_values(0) if index.nlevels == 1 else index for index in (rows, columns)
    )
    return found.reindex(index=rows, columns=columns)


def with_interval(row) -> str:
    """Value and interval of a row with the columns of `VALUES`, as text; '' if nothing is ours."""
    if pd.isna(row.ours):
        return "" if row.n == 0 else "undefined"
    places = digits(row.unit)
    value = f"{row.ours:.{places}f}{_sign(row.unit)}"
    return value if pd.isna(row.low) else f"{value} [{row.low:.{places}f}, {row.high:.{places}f}]"


def digits(unit: str) -> int:
    """Decimal places that a number of a unit is shown with."""
    return {"fraction": 3, "s": 3, "images": 0}.get(unit, 1)


def _sign(unit: str) -> str:
    """A unit as it stands behind a number."""
    return "" if unit == "fraction" else f" {unit}"
