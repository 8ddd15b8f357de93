"""Scores of networks trained under different conditions (`registry.CONDITIONS`).

A row with ``repeat`` 0 is the mean over all trainings, with limits over patients and trainings; one
with ``repeat`` k is training k alone, without limits. ``protocol`` is the condition, ``split`` (of
recognition) the one whose images a network learned from. ``n`` is the number of test images of a
training, on average: where images are assigned at random, each training has others.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from covid_utils import paths, runs
from covid_utils.evaluation import bootstrap, condition_streams, repeats
from covid_utils.evaluation.scoring import label_arrays, scopes
from covid_utils.evaluation.task_scores import HEAD, OTHERS
from covid_utils.registry import ADULTS, CONDITIONS, MANIFESTATIONS, condition_run

#: The condition whose rows belong to others: those that its networks learned from.
FINE_TUNED = "R5"
#: Score of adult normals from another source: the share that is not called normal.
FALSE_POSITIVES = "false positives"


def conditions(profile: str) -> Iterator[dict]:
    """Rows of `scores.COLUMNS` of the conditions that have been run."""
    kinds = {
        "R": _recognition,
        "M": _recognition,
        "T": _labels,
        "S": condition_streams.segmentation,
    }
    for condition in CONDITIONS:
        run = condition_run(condition)
        if (paths.results(profile) / run / "predictions.parquet").is_file():
            base = {"run": run, "protocol": condition}
            yield from kinds[condition[0]](runs.read_predictions(profile, run), base)


def _recognition(table: pd.DataFrame, base: dict) -> Iterator[dict]:
    """Accuracy of each task, model and subset; what training had seen of the test images."""
    table = table[table["drawn"]].rename(columns={"run": "repeat"})
    for names, part in table.groupby(["task", "model", "split", "subset"]):
        keys = base | dict(zip(("task", "model", "split", "subset"), names, strict=True))
        keys |= {"class": "all", "metric": "accuracy"}
        if base["protocol"] == FINE_TUNED:
            keys["protocol"] = keys["split"]
        right = (part["truth"] == part["predicted"]).to_numpy()
        if keys["subset"] == ADULTS:
            right, keys["metric"] = ~right, FALSE_POSITIVES
        is_test, learns = keys["subset"] in ("test", ADULTS), keys["model"] in (HEAD, OTHERS[0])
        if is_test or learns:
            yield from _share(part, right, np.ones(len(part)), keys)
        if keys["subset"] == "test" and learns:
            yield from repeats.seen(part, keys)


def _labels(table: pd.DataFrame, base: dict) -> Iterator[dict]:
    """Accuracy of the multi-label network, by manifestation and of all decisions."""
    test = table[table["subset"] == "test"]
    base = base | {"task": "manifestations", "model": "network", "subset": "test"}
    for scope, part in scopes(test).items():
        if len(part):
            truth, probability = label_arrays(part, MANIFESTATIONS)
            right, keys = truth == (probability >= 0.5), {"metric": "accuracy", "labels": scope}
            decided = dict(zip(MANIFESTATIONS, right.T, strict=True))
            decided["overall"] = right.sum(axis=1)
            for name, hits in decided.items():
                cases = np.full(len(part), len(MANIFESTATIONS) if name == "overall" else 1)
                yield from _share(part, hits, cases, base | keys | {"class": name})
    yield from repeats.seen(test, base)


def _share(part: pd.DataFrame, hits: np.ndarray, cases: np.ndarray, keys: dict) -> Iterator[dict]:
    """Share of cases that are hits, both (rows,): of each training, and the mean with its limits.

    Nothing can be resampled of classes with too few patients: the limits are those with all of
    their images wrong, and with all of them right.
    """
    tested = repeats.by_training(part, np.stack([hits, cases], axis=1).astype(float))
    each = bootstrap.quotient(tested.table.sum(axis=0))
    yield from repeats.rows(keys, each, tested.table[..., 1] > 0, tested, *repeats.share(tested))
