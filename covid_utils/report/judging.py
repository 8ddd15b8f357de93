"""Judging: from one of our values and what the paper states to a verdict, and why.

*Reproduced*: the whole interval of the difference lies within the margin. *Differs*: it excludes 0,
and the difference is larger than the margin. That one method is better than another is reproduced
if the interval lies above 0, and differs if it lies below 0 or wholly within the margin.
*Undecided*: neither. *Not comparable*: other data or size. *Cannot be asked*: something is missing
for good. Work that the paper quotes is *quoted*, and what was not run has *no data*.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from covid_utils.evaluation.intervals import Interval, difference
from covid_utils.report import claims as ledger
from covid_utils.report import render

REPRODUCED, DIFFERS, UNDECIDED = "reproduced", "differs", "undecided"
NOT_COMPARABLE, CANNOT_BE_ASKED, NO_DATA = "not comparable", "cannot be asked", render.NO_DATA
VERDICTS = (REPRODUCED, DIFFERS, UNDECIDED, NOT_COMPARABLE, CANNOT_BE_ASKED, NO_DATA)
QUOTED = "quoted"
#: Of the verdicts on several rows the first of these that occurs is that of the claim.
WORST = (NO_DATA, NOT_COMPARABLE, DIFFERS, UNDECIDED, REPRODUCED)
#: How many times as many patients and trainings are tried, until they would decide.
TIMES = np.geomspace(1.1, 1000, 144)


def exact(value: float) -> dict:
    """A value without error, in the form of a row of a table."""
    return {"ours": value, "low": value, "high": value, "n": 0, "source_run": ""}


def interval(cell: Mapping) -> Interval:
    """Value and limits of a row of a table."""
    return Interval(cell["ours"], cell["low"], cell["high"], cell["n"])


def judge(cell: Mapping, claim: ledger.Claim, widened: float = 1.0) -> tuple[Interval, str, str]:
    """Difference to what a claim states, the verdict on it, and why.

    ``cell`` has ``ours``, ``low``, ``high``, ``n``, ``unit`` and ``metric`` of a row of a table;
    for a statement ``ours`` is a difference, which is compared with 0. ``widened`` is a factor of
    the margin.
    """
    ours, margin = interval(cell), widened * ledger.margins()[cell["metric"].split()[0]]
    is_statement = claim.unit == "statement"
    paper = interval(exact(0.0)) if is_statement else claim.stated(ours.value)
    gap, rule = difference(ours, paper), _superiority if is_statement else _agreement
    if np.isnan(gap.value):
        return gap, UNDECIDED, "no test case that this score is defined on"
    if np.isnan(gap.low):
        return gap, UNDECIDED, f"too few cases for an interval (n = {cell['n']:g})"
    value, low, high = (render.number(one, cell["unit"], "+") for one in gap[:3])
    unit = "" if cell["unit"] == "fraction" else " points"
    reason = f"{value}{unit} [{low}, {high}], margin {margin:g}"
    if verdict := rule(gap, margin):
        return gap, verdict, reason
    return gap, UNDECIDED, f"{reason}; {_deciding(ours, paper, lambda one: rule(one, margin))}"


def _agreement(gap: Interval, margin: float) -> str:
    if max(-gap.low, gap.high) <= margin:
        return REPRODUCED
    return DIFFERS if abs(gap.value) > margin and not gap.low <= 0 <= gap.high else ""


def _superiority(gap: Interval, margin: float) -> str:
    if gap.low > 0:
        return REPRODUCED
    return DIFFERS if gap.high < 0 or max(-gap.low, gap.high) <= margin else ""


def _deciding(ours: Interval, paper: Interval, decided: Callable[[Interval], str]) -> str:
    """How many more cases would decide, if they spread as those that we have."""
    value, low, high, n = ours
    for times in TIMES:
        near = (value + (limit - value) / np.sqrt(times) for limit in (low, high))
        if decided(difference(Interval(value, *near, n), paper)):
            return f"{float(f'{times:.2g}'):g} times as many patients and trainings would decide"
    return f"not even {TIMES[-1]:g} times as many patients and trainings would decide"
