"""What all tables of scores share: our numbers beside the paper's."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from covid_utils.report import claims as ledger

NOT_AVAILABLE = "not available"
#: What every table of scores ends with.
VALUES = ("metric", "unit", "ours", "low", "high", "n", "paper", "claim", "verdict")
VALUES += ("source_run", "note")
#: Wilson's limits, which take images as independent, in tables of recognition: the paper's own
#: interval can only be given so.
WILSON = ("wilson_low", "wilson_high")


def beside(scored: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The columns ``keys`` and `VALUES` of scores; verdicts are still open.

    ``claim`` names the entry of the ledger that a row answers, '' for none; ``paper``, where it is
    not '', replaces its value.
    """
    claims, scored = ledger.load(), scored.reset_index(drop=True)
    table = scored[keys].copy()
    table["metric"], table["unit"] = scored["metric"], scored["unit"]
    factor = np.where(scored["unit"].isin(("%", "points")), 100.0, 1.0)
    for name, column in (("ours", "value"), ("low", "low"), ("high", "high")):
        table[name] = scored[column].astype(float) * factor
    table["n"] = scored["n"].astype(int)
    table["claim"] = scored.get("claim", "")
    table["paper"] = [stated(claims[name]) if name else NOT_AVAILABLE for name in table["claim"]]
    if "paper" in scored:
        table["paper"] = scored["paper"].where(scored["paper"] != "", table["paper"])
    table["verdict"], table["note"] = "", scored["note"]
    table["source_run"] = scored["run"].where(scored["n"] > 0, "")
    return table[[*keys, *VALUES]]


def stated(claim: ledger.Claim) -> str:
    """What the paper says of a claim, as a cell shows it."""
    return "stated without a number" if claim.unit == "statement" else str(claim.value)


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


def quoted(published: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Published rows with the columns ``keys`` and `VALUES`: nothing of ours."""
    table = published.assign(value=np.nan, low=np.nan, high=np.nan, n=0, run="")
    table["paper"] = [f"{value:g}" for value in published["value"]]
    table["note"] = "quoted, not run again; tested on: " + published["test_set"]
    return beside(table, keys)
