"""Rows of ``scores.csv`` for the measured times."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.stats import quantile_test

from covid_utils import runs
from covid_utils.data.manifest import left_out, saved_manifest
from covid_utils.registry import TASK1, TASK2, stream_run

#: Stages of the pipeline and their runs; the first three in turn are the pipeline.
STAGES = {
    "recognition": TASK1,
    "manifestations": TASK2,
    "segmentation, DeepLab-v3+": stream_run("all"),
    "segmentation, U-Net": stream_run("all", "unet"),
}


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
