"""Judging: from one of our values and what the paper states to a verdict, and why.

*Reproduced*: the whole interval of the difference lies within the margin. *Differs*: it excludes 0,
and the difference is larger than the margin. That one method is better than another is reproduced
if the interval lies above 0, and differs if it lies below 0 or wholly within the margin.
*Undecided*: neither. *Not comparable*: other data or size. *Cannot be asked*: something is missing
for good. Work that the paper quotes is *quoted*, and what was not run has *no data*.
"""

from __future__ import annotations

from collections.abc import Mapping

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
MORE = "times as many patients and trainings would decide"


def judge(cell: Mapping, claim: ledger.Claim, widened: float = 1.0) -> tuple[Interval, str, str]:
    """Difference to what a claim states, the verdict on it, and why.

    ``cell`` has ``ours``, ``low``, ``high``, ``n``, ``unit`` and ``metric`` of a row of a table;
    for a statement ``ours`` is a difference, which is compared with 0. ``widened`` is a factor of
    the margin.
    """
    ours = Interval(*(cell[name] for name in ("ours", "low", "high", "n")))
    margin = widened * ledger.read("margins")[cell["metric"].split()[0]]
    is_statement = claim.unit == "statement"
    paper = Interval(0.0, 0.0, 0.0, 0) if is_statement else claim.stated(ours.value)
    gap = difference(ours, paper)
    if np.isnan(gap.value):
        return gap, UNDECIDED, "no test case that this score is defined on"
    if np.isnan(gap.low):
        return gap, UNDECIDED, f"too few cases for an interval (n = {cell['n']:g})"
    value, low, high = (render.number(one, cell["unit"], "+") for one in gap[:3])
    unit = "" if cell["unit"] == "fraction" else " points"
    reason = f"{value}{unit} [{low}, {high}], margin {margin:g}"
    if verdict := _decided(gap, margin, is_statement):
        return gap, verdict, reason
    # How many more cases would decide, if they spread as those that we have.
    for times in TIMES:
        near = (ours.value + (limit - ours.value) / np.sqrt(times) for limit in ours[1:3])
        if _decided(difference(Interval(ours.value, *near, ours.n), paper), margin, is_statement):
            break
    else:
        return gap, UNDECIDED, f"{reason}; not even {times:g} {MORE}"
    return gap, UNDECIDED, f"{reason}; {float(f'{times:.2g}'):g} {MORE}"


def _decided(gap: Interval, margin: float, is_statement: bool) -> str:
    """The verdict on a difference, or that on one method being better; '' if undecided."""
    is_within, excludes_0 = max(-gap.low, gap.high) <= margin, not gap.low <= 0 <= gap.high
    if is_statement:
        differs = gap.high < 0 or is_within
        return REPRODUCED if gap.low > 0 else DIFFERS if differs else ""
    differs = abs(gap.value) > margin and excludes_0
    return REPRODUCED if is_within else DIFFERS if differs else ""
