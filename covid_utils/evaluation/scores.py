"""Every score of a profile in one long table, ``results/<profile>/scores.csv``.

It is computed once, from prediction files; tables, verdicts, figures and site select from it. A row
is one number:

* ``run``: folder that it comes from; several with a comma between them, of a difference two.
* ``protocol``, ``split``, ``task``, ``model``, ``start`` (of a stream's weights) and ``repeat``
  (number of the training, 0 for all together): what was trained.
* ``subset``, ``labels`` (``exact``, or ``all`` with weak ones), ``class``: what it was tested on.
* ``metric``, ``average``, ``value``, ``low``, ``high``: the number and its 95 % limits. What a
  table shows in per cent or points (``unit``) is a share here.
* ``n``, ``groups``: images, and patients or groups of near copies.
* ``note``: what a reader must know of this number.
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
    """Scores from the prediction files of a profile.

    Args:
        profile: Profile of the runs.
        *parts: ``task1``, ``task2``, ``streams``, ``times``; all if none is named.

    Raises:
        ResultsError: A run is not there.
    """
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


def load(profile: str) -> pd.DataFrame:
    """Scores as `write` left them."""
    return read(profile, "scores")


def read(profile: str, name: str) -> pd.DataFrame:
    """A written table of scores, or one that was selected from them; empty texts are ''.

    Args:
        profile: Profile of the runs.
        name: File below ``results/<profile>`` without its ending, such as ``tables/table2``.

    Raises:
        ResultsError: It is not there.
    """
    path = paths.results(profile) / f"{name}.csv"
    if not path.is_file():
        raise ResultsError(
            f"{paths.shown(path)}: not there yet; 'make reproduce PROFILE={profile}' makes it."
        )
    table = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype={"paper": str})
    return table.fillna(dict.fromkeys(TEXTS & set(table), ""))


def select(table: pd.DataFrame, **criteria: object) -> pd.DataFrame:
    """Rows whose columns have these values.

    Args:
        table: Any table.
        **criteria: Column -> value, or a list or tuple of which each will do; ``class_`` is the
            column ``class``.
    """
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
