"""The table of the conditions under which networks were trained, selected from scores."""

from __future__ import annotations

import pandas as pd

from covid_utils.registry import CONDITIONS, condition_run
from covid_utils.report import cells
from covid_utils.report.recognition_tables import WEAK
from covid_utils.runs import select

KEYS = ("condition", "task", "model", "subset", "class", "labels", "average")


def conditions(scored: pd.DataFrame) -> pd.DataFrame:
    """Scores of all trainings of each condition together; those of single ones are in scores.csv.

    A stream that starts from other weights than most says so in its ``task``.
    """
    part = select(scored, run=[*map(condition_run, CONDITIONS)], repeat=0)
    part = cells.ordered(part, protocol=tuple(CONDITIONS))
    is_other = (part["model"] == "deeplab") & (part["start"] == "random")
    is_other &= (part["start"] == "nodule").any()
    task = part["task"].where(~is_other, part["task"] + ", random start")
    notes = cells.joined(part["labels"].map(WEAK), part["note"])
    return part.assign(condition=part["protocol"], task=task, note=notes)
