"""Every score of a profile in one long table, ``results/<profile>/scores.csv``.

Computed once, from prediction files; tables, verdicts, figures and site select from it.

* ``run``: the folder of the predictions, or several with commas.
* ``protocol``: the condition; the step on other hospitals; ``as_published`` for the masks of the
  authors; or ``split_first``, where subsets are assigned before anything is copied.
* ``repeat``: the number of the training, 0 for all together.
* ``labels``: ``exact``, or ``all`` with weak ones.
* ``value``, ``low``, ``high``: with 95 % limits. What has the ``unit`` per cent or points is a
  share here.
* ``groups``: the number of patients, or of groups of near copies.

A Dice of Table 6 goes from its predictions via `stream_scores.rows_of_runs`, `segmentation` and
`pooled` to `bootstrap.score`, and as a row of the file via `tables.build`, `stream_tables.table6`
and `render.beside` to its cell.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.stats import quantile_test

from covid_utils import paths, runs
from covid_utils.data.manifest import left_out, saved_manifest
from covid_utils.evaluation import (
    condition_scores,
    conventions,
    hospital_scores,
    stream_scores,
    task_scores,
)
from covid_utils.evaluation.intervals import LEVEL
from covid_utils.registry import TASK1, TASK2, stream_run
from covid_utils.writing import whole

KEYS = ("run", "protocol", "split", "task", "model", "start", "repeat", "subset", "labels")
KEYS += ("class", "metric", "average")
COLUMNS = (*KEYS, "value", "low", "high", "n", "groups", "unit", "note")
INTEGERS = {"repeat": int, "n": int, "groups": int}
#: Columns -> what holds where a row does not say.
DEFAULTS = dict.fromkeys(("split", "task", "model", "start", "subset", "note"), "")
DEFAULTS |= {"protocol": "split_first", "repeat": 1, "labels": "exact", "average": "pooled"}
DEFAULTS |= {"n": 0, "groups": 0}
#: Metric -> unit in which people are shown it; others are per cent.
UNITS = {
    **dict.fromkeys(("dice", "iou", "dice_thresholds", "mcc", "roc_auc"), "fraction"),
    **dict.fromkeys(("average_precision", "ece", "brier", "nll"), "fraction"),
    **dict.fromkeys(("dice difference", "iou difference"), "fraction"),
    "accuracy difference": "points",
    "hd95": "% of side",
    "volume_error": "% of lung",
    "median time": "s",
    "p95 time": "s",
}
#: Stages of the pipeline and their runs; the first three in turn are the pipeline.
STAGES = {
    "recognition": TASK1,
    "manifestations": TASK2,
    "segmentation, DeepLab-v3+": stream_run("all"),
    "segmentation, U-Net": stream_run("all", "unet"),
}


def compute(profile: str, *parts: str) -> pd.DataFrame:
    """Scores from the prediction files of a profile; of runs that are `left_out` there are none."""
    known = {
        "task1": task_scores.recognition,
        "task2": task_scores.labels,
        "streams": stream_scores.rows_of_runs,
        "conditions": condition_scores.conditions,
        "hospitals": hospital_scores.hospitals,
        "times": times,
    }
    rows = [row for part in parts or known for row in known[part](profile)]
    table = pd.DataFrame(rows).rename(columns={"patients": "groups"})
    table = table.reindex(columns=list(COLUMNS))
    table["unit"] = table["metric"].map(UNITS).fillna("%")
    return table.fillna(DEFAULTS).astype(INTEGERS)


def write(profile: str) -> None:
    """Compute the scores and the `conventions` of a profile, and keep both with all digits."""
    tables = {"scores": compute(profile), "tables/conventions": conventions.of_runs(profile)}
    for name, table in tables.items():
        with whole(paths.results(profile) / f"{name}.csv") as partial:
            table.to_csv(partial, index=False)


def times(profile: str) -> Iterator[dict]:
    """Median and 95th percentile of the timed calls, by stage and, if all are there, in turn."""
    absent, spent = left_out(profile), {}
    for stage, run in STAGES.items():
        if run not in absent:
            steps = runs.read_metrics(profile, run)["seconds_per_image"]
            spent[stage] = [measured["each"] for measured in steps.values()]
            for step, each in zip(steps, spent[stage], strict=True):
                yield from _time(profile, each, run, stage, step)
    pipeline = list(STAGES)[:3]
    if not set(pipeline) <= set(spent):
        return
    every, turn = ", ".join(STAGES[stage] for stage in pipeline), "stages in turn"
    xray = np.sum(spent[pipeline[0]], axis=0)
    ct = np.sum([call for stage in pipeline for call in spent[stage]], axis=0)
    yield from _time(profile, xray, TASK1, "whole pipeline, one X-ray", turn)
    yield from _time(profile, ct, every, "whole pipeline, one CT slice", turn)
    slices = runs.select(saved_manifest(profile), dataset="medseg", subset="test")
    per_case = len(slices) / max(1, slices["patient_id"].nunique())
    case = f"{turn}, {per_case:.1f} slices a case"
    if not (slices["patient_basis"] == "given").all():
        case += ", a group of near copies standing for one"
    yield from _time(profile, per_case * ct, every, "whole pipeline, one case of CT", case)


def _time(profile: str, each: list[float], run: str, stage: str, step: str) -> Iterator[dict]:
    median, p95 = np.percentile(each, [50, 95])
    # From order statistics: no shape of the distribution is assumed (scipy; Conover 1999, 3.2).
    limits = quantile_test(each, q=median, p=0.5).confidence_interval(LEVEL)
    keys = {"run": run, "task": "time", "model": stage, "class": step, "n": len(each)}
    keys["note"] = runs.read_provenance(profile, run.split(", ", maxsplit=1)[0])["processor"]
    yield keys | {"metric": "median time", "value": median, "low": limits.low, "high": limits.high}
    yield keys | {"metric": "p95 time", "value": p95}
