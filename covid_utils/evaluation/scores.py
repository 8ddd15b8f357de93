"""Every score of a profile in one long table, ``results/<profile>/scores.csv``.

Computed once, from prediction files; tables, verdicts, figures and site select from it. ``run`` may
name several folders, with commas; ``repeat`` is the number of the training, 0 for all together;
``labels`` is ``exact``, or ``all`` with weak ones; ``low`` and ``high`` are 95 % limits; values in
per cent or points (``unit``) are shares here; ``groups`` counts patients or groups of near copies.
"""

from __future__ import annotations

import pandas as pd

from covid_utils import paths
from covid_utils.evaluation import (
    condition_scores,
    conventions,
    hospital_scores,
    stream_scores,
    task_scores,
    times,
)
from covid_utils.writing import whole

KEYS = ("run", "protocol", "split", "task", "model", "start", "repeat", "subset", "labels")
KEYS += ("class", "metric", "average")
COLUMNS = (*KEYS, "value", "low", "high", "n", "groups", "unit", "note")
#: Columns -> what holds where a row does not say.
DEFAULTS = dict.fromkeys(("split", "task", "model", "start", "subset", "note"), "")
DEFAULTS |= {"protocol": "split_first", "repeat": 1, "labels": "exact", "average": "pooled"}
DEFAULTS |= {"n": 0, "groups": 0}
INTEGERS = ("repeat", "n", "groups")
#: Metric -> unit in which people are shown it; others are per cent.
UNITS = dict.fromkeys(("mcc", "roc_auc", "average_precision", "ece", "brier", "nll"), "fraction")
UNITS |= dict.fromkeys(("dice", "iou", "dice_thresholds"), "fraction")
UNITS |= dict.fromkeys(("dice difference", "iou difference"), "fraction")
UNITS |= {"hd95": "% of side", "volume_error": "% of lung", "accuracy difference": "points"}
UNITS |= {"median time": "s", "p95 time": "s"}


def compute(profile: str, *parts: str) -> pd.DataFrame:
    """Scores from the prediction files of a profile; of runs that are `left_out` there are none."""
    known = {
        "task1": task_scores.recognition,
        "task2": task_scores.labels,
        "streams": stream_scores.rows_of_runs,
        "conditions": condition_scores.conditions,
        "hospitals": hospital_scores.hospitals,
        "times": times.times,
    }
    rows = [row for part in parts or known for row in known[part](profile)]
    table = pd.DataFrame(rows).rename(columns={"patients": "groups"})
    table = table.reindex(columns=list(COLUMNS))
    table["unit"] = table["metric"].map(UNITS).fillna("%")
    return table.fillna(DEFAULTS).astype(dict.fromkeys(INTEGERS, int))


def write(profile: str) -> None:
    """Compute the scores and the `conventions` of a profile, and keep both with all digits."""
    tables = {"scores": compute(profile), "tables/conventions": conventions.of_runs(profile)}
    for name, table in tables.items():
        with whole(paths.results(profile) / f"{name}.csv") as partial:
            table.to_csv(partial, index=False)
