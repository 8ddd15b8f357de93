"""Every score of a profile in one long table, ``results/<profile>/scores.csv``.

Computed once, from prediction files; tables, verdicts, figures and site select from it. ``run`` may
name several folders, with commas; ``repeat`` is the number of the training, 0 for all together;
``labels`` is ``exact``, or ``all`` with weak ones; ``low`` and ``high`` are 95 % limits; values in
per cent or points (``unit``) are shares here; ``groups`` counts patients or groups of near copies.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from covid_utils import paths
from covid_utils.errors import ResultsError
from covid_utils.registry import FUSION, NETWORKS, PUBLISHED, STARTS, stream_run
from covid_utils.writing import whole

KEYS = ("run", "protocol", "split", "task", "model", "start", "repeat", "subset", "labels")
KEYS += ("class", "metric", "average")
COLUMNS = (*KEYS, "value", "low", "high", "n", "groups", "unit", "note")
#: Columns -> what holds where a row does not say.
DEFAULTS = dict.fromkeys(("split", "task", "model", "start", "subset", "note"), "")
DEFAULTS |= {"protocol": "split_first", "repeat": 1, "labels": "exact", "average": "pooled"}
DEFAULTS |= {"n": 0, "groups": 0}
INTEGERS = ("repeat", "n", "groups")
#: Columns of texts that can be empty, of scores and of what is selected from them.
TEXTS = {"task", "model", "start", "split", "subset", "unit", "note", "claim", "verdict"}
TEXTS |= {"source_run", "reason", "departures"}


def compute(profile: str, *parts: str) -> pd.DataFrame:
    """Scores from the prediction files of a profile."""
    from covid_utils.evaluation import stream_scores, task_scores, times

    known = {
        "task1": task_scores.recognition,
        "task2": task_scores.labels,
        "streams": stream_scores.rows_of_runs,
        "times": times.times,
    }
    rows = [row for part in parts or known for row in known[part](profile)]
    table = pd.DataFrame(rows).reindex(columns=list(COLUMNS))
    return table.fillna(DEFAULTS).astype(dict.fromkeys(INTEGERS, int))


def write(profile: str) -> pd.DataFrame:
    """Compute all scores of a profile and keep them, with all digits."""
    table = compute(profile)
    with whole(paths.results(profile) / "scores.csv") as partial:
        table.to_csv(partial, index=False)
    return table


def read(profile: str, name: str) -> pd.DataFrame:
    """``scores``, ``verdicts`` or ``tables/<name>``, as written; empty texts are ''."""
    path = paths.results(profile) / f"{name}.csv"
    if not path.is_file():
        raise ResultsError(
            f"{paths.shown(path)}: not there yet; 'make reproduce PROFILE={profile}' makes it."
        )
    table = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype={"paper": str})
    return table.fillna(dict.fromkeys(TEXTS & set(table), ""))


def select(table: pd.DataFrame, **criteria: object) -> pd.DataFrame:
    """Rows with these values, or one of a list of them; ``class_`` is the column ``class``."""
    for name, wanted in criteria.items():
        column = table[name.rstrip("_")]
        several = isinstance(wanted, list | tuple)
        table = table[column.isin(wanted) if several else column == wanted]
    return table


def work(row: Mapping[str, object]) -> str:
    """A run that outlines slices in words, from its ``run``, ``model``, ``task`` and ``start``."""
    if row["run"] == PUBLISHED:
        return "EL-Bana 2020, published masks, scored here"
    if row["run"] == FUSION:
        return f"ours, {NETWORKS['deeplab']}, specialists together"
    if row["run"] == STARTS:
        return f"ours, {NETWORKS['deeplab']}, stream all, all starts together"
    words = f"ours, {NETWORKS[row['model']]}, {row['task']}"
    usual = row["run"] == stream_run(row["task"].removeprefix("stream "), row["model"])
    return words if usual else f"{words}, from {row['start']}"
