"""What each step from one condition of training to the next is worth."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd

from covid_utils.evaluation.condition_streams import COMPARED
from covid_utils.evaluation.intervals import Interval, difference
from covid_utils.registry import CONDITIONS
from covid_utils.report import claims as ledger
from covid_utils.report import render, tables
from covid_utils.runs import select

MINUS = "\N{MINUS SIGN}"
#: Whose steps are shown, from left to right.
XRAYS, SLICES = ("R0", "R1", "R2", "R3", "R4"), ("S0", "S1", "S2", "S3")


class Staircase(NamedTuple):
    """A headline claim, the rows of the table that answer it, and the conditions in their order."""

    claim: str
    rows: dict[str, str]
    conditions: tuple[str, ...]


_HEAD = {"model": "head", "subset": "test", "class": "all", "metric": "accuracy"}
_DICE = {"model": "deeplab", "subset": "test", "labels": "exact", "average": "per_image"}
_DICE |= {"metric": "dice"}
STAIRCASES = {
    "COVID-19 or normal, accuracy in %": Staircase("p01", {"task": "2 classes"} | _HEAD, XRAYS),
    "Four classes, accuracy in %": Staircase("p06", {"task": "4 classes"} | _HEAD, XRAYS),
    "Any lesion, Dice as mean over slices": Staircase(
        "p25b", {"task": "stream all", "class": "lesion"} | _DICE, SLICES
    ),
    "Ground-glass, Dice as mean over slices": Staircase(
        "p23a", {"task": "stream ggo", "class": "ggo"} | _DICE, SLICES
    ),
}


def steps(scored: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Of each of `STAIRCASES` that has scores its conditions, from left to right.

    Columns: ``condition``, ``unit``, ``ours``, ``low``, ``high``; ``neighbour``, the value of a
    nearest neighbour on the same features; and ``change``, ``change_low``, ``change_high`` from the
    condition before, as if independent.
    """
    table = tables.select("conditions", scored)
    found = {title: _steps(table, staircase) for title, staircase in STAIRCASES.items()}
    return {title: rows for title, rows in found.items() if len(rows)}


def _steps(table: pd.DataFrame, staircase: Staircase) -> pd.DataFrame:
    rows = select(table, **staircase.rows, condition=[*staircase.conditions])
    rows = rows[["condition", "unit", "ours", "low", "high"]].reset_index(drop=True)
    others = select(table, **staircase.rows | {"model": "nearest neighbour"})
    rows["neighbour"] = rows["condition"].map(others.set_index("condition")["ours"])
    return _with_changes(rows, rows.shift())


def _with_changes(rows: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """Rows with their change from those ``before``, in the same order; NaN from none."""
    sides = ([*part[["ours", "low", "high"]].to_numpy(float)] for part in (rows, before))
    gaps = [
        difference(*(Interval(*side, 0) for side in pair))[:3] for pair in zip(*sides, strict=True)
    ]
    changes = ["change", "change_low", "change_high"]
    return rows.assign(**dict(zip(changes, np.transpose(gaps), strict=True))) if gaps else rows


def paper(title: str) -> tuple[float, ...]:
    """What the paper states for one of `STAIRCASES`, or all that its gain implies."""
    claim = ledger.load()[STAIRCASES[title].claim]
    return claim.implied if claim.over else (float(claim.value),)


def changes(scored: pd.DataFrame) -> pd.DataFrame:
    """What each step is worth, as texts: one row a step."""
    lines = []
    for title, rows in steps(scored).items():
        for before, after in pairwise(rows.to_dict("records")):
            values = (f"{row['ours']:.{render.digits(row['unit'])}f}" for row in (before, after))
            ends = before["condition"], after["condition"]
            between = [name for name in CONDITIONS if ends[0] < name <= ends[1]]
            names = " to ".join(ends), "; ".join(CONDITIONS[name] for name in between)
            lines.append((title, *names, *values, " ".join(change(after))))
    columns = ["question", "step", "what is new", "before", "after", "change"]
    return pd.DataFrame(lines, columns=columns)


def change(row: dict) -> tuple[str, str]:
    """Change from the condition before and its interval, as texts; '' for none."""
    form = f".{min(render.digits(row['unit']), 2)}f"
    low, high = (f"{row[name]:z{form}}" for name in ("change_low", "change_high"))
    value = f"{row['change']:+z{form}}" if np.isfinite(row["change"]) else ""
    limits = f"[{low}, {high}]" if np.isfinite(row["change_low"]) else ""
    return value.replace("-", MINUS), limits.replace("-", MINUS)


def curve(scored: pd.DataFrame, usual: int) -> dict[str, pd.DataFrame]:
    """Dice of the all-class stream against its steps, under S0 and S3: `STAIRCASES` of Dice.

    Columns: ``condition``, ``steps`` (``usual`` where the task does not say), ``ours``, ``low``,
    ``high``; on the rows of S3 with their change from S0, as in `steps`.
    """
    table, found = tables.select("conditions", scored), {}
    longer = table["task"].str.extract(r"^stream all, (\d+) steps$", expand=False)
    table = table.assign(steps=longer.fillna(usual).astype(int))
    table = table[longer.notna() | (table["task"] == "stream all")]
    for title, staircase in STAIRCASES.items():
        of_class = {"class": staircase.rows["class"]} | _DICE
        first, copied = (
            select(table, **of_class, condition=name).sort_values("steps") for name in COMPARED
        )
        if len(first) and len(copied):
            before = first.set_index("steps").reindex(copied["steps"])
            found[title] = pd.concat([first, _with_changes(copied, before)])
    return found
