"""What all tables of scores share: our numbers beside the paper's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from covid_utils.report import claims as ledger
from covid_utils.runs import select

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


def beside(name: str, scored: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """The table ``name``: ``keys`` and `VALUES` of scores and of `quoted` rows.

    A row names the first claim of the ledger that stands beside it.
    """
    table = scored[[*keys, "metric", "unit"]].reset_index(drop=True)
    scored = scored.reset_index(drop=True)
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
            rows = select(table, **criteria)
            rows = rows.index[rows["claim"] == ""]
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
    """Scores with `WILSON`, per cent, of single trainings; augmented copies are no images."""
    limits = np.full((len(scored), 2), np.nan)
    for index, row in enumerate(scored.itertuples()):
        is_single = row.metric == "accuracy" and row.repeat and row.n
        if is_single and "augmented copies" not in row.note:
            test = binomtest(round(row.value * row.n), row.n)
            limits[index] = test.proportion_ci(method="wilson")
    return scored.assign(**dict(zip(WILSON, 100 * limits.T, strict=True)))


def sources(names: str) -> list[str]:
    """Folders of the runs behind a cell, of its ``source_run``."""
    return [name for name in names.split(", ") if name]
