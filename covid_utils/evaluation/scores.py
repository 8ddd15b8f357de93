"""Every score of a profile in one long table, ``results/<profile>/scores.csv``.

Computed once, from prediction files; tables, verdicts, figures and site select from it. ``run`` may
name several folders, with commas; ``repeat`` is the number of the training, 0 for all together;
``labels`` is ``exact``, or ``all`` with weak ones; ``low`` and ``high`` are 95 % limits; values in
per cent or points (``unit``) are shares here; ``groups`` counts patients or groups of near copies.
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
from covid_utils.registry import TASK1, TASK2, stream_run
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
    return table.fillna(DEFAULTS).astype(dict.fromkeys(INTEGERS, int))


def write(profile: str) -> None:
    """Compute the scores and the `conventions` of a profile, and keep both with all digits."""
    tables = {"scores": compute(profile), "tables/conventions": conventions.of_runs(profile)}
    for name, table in tables.items():
        with whole(paths.results(profile) / f"{name}.csv") as partial:
            table.to_csv(partial, index=False)


def times(profile: str) -> Iterator[dict]:
    """Median and 95th percentile of the timed calls, by stage and, if all are there, in turn."""
    absent = left_out(profile)
    spent = {s: _calls(profile, run) for s, run in STAGES.items() if run not in absent}
    for stage, steps in spent.items():
        for step, each in steps.items():
            yield from _time(profile, each, STAGES[stage], stage, step)
    first, *_ = stages = list(STAGES)[:3]
    if not set(stages) <= set(spent):
        return
    every, turn = ", ".join(STAGES[stage] for stage in stages), "stages in turn"
    xray = np.sum([*spent[first].values()], axis=0)
    ct = np.sum([call for stage in stages for call in spent[stage].values()], axis=0)
    yield from _time(profile, xray, TASK1, "whole pipeline, one X-ray", turn)
    yield from _time(profile, ct, every, "whole pipeline, one CT slice", turn)
    slices, stand_in = _slices_per_case(profile)
    case = turn + (f", {slices:.1f} slices a case{stand_in}" if slices != 1 else "")
    yield from _time(profile, slices * ct, every, "whole pipeline, one case of CT", case)


def _calls(profile: str, run: str) -> dict[str, list[float]]:
    steps = runs.read_metrics(profile, run)["seconds_per_image"]
    return {step: measured["each"] for step, measured in steps.items()}


def _time(profile: str, each: list[float], run: str, stage: str, step: str) -> Iterator[dict]:
    median, p95 = np.percentile(each, [50, 95])
    # From order statistics: no shape of the distribution is assumed (scipy; Conover 1999, 3.2).
    limits = quantile_test(np.sort(each), q=median, p=0.5).confidence_interval(0.95)
    keys = {"run": run, "task": "time", "model": stage, "class": step, "n": len(each)}
    keys["note"] = runs.read_provenance(profile, run.split(", ", maxsplit=1)[0])["processor"]
    yield keys | {"metric": "median time", "value": median, "low": limits.low, "high": limits.high}
    yield keys | {"metric": "p95 time", "value": p95}


def _slices_per_case(profile: str) -> tuple[float, str]:
    slices = runs.select(saved_manifest(profile), dataset="medseg", subset="test")
    known = (slices["patient_basis"] == "given").all()
    note = "" if known else ", a group of near copies standing for one"
    return len(slices) / max(1, slices["patient_id"].nunique()), note
