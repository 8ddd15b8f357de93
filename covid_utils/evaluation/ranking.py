"""Areas under curves with intervals: how well probabilities rank images that show a label.

What the bootstrap sums here is how often each patient was drawn: the weight of its images.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from covid_utils.errors import DataError
from covid_utils.evaluation import bootstrap, intervals, metrics

#: Scores of a ranking, which need no threshold.
METRICS = ("roc_auc", "average_precision")


def areas(
    truth: np.ndarray, score: np.ndarray, groups: np.ndarray, names: tuple[str, ...]
) -> dict[tuple[str, str], intervals.Interval]:
    """(label, metric) -> area; of all decisions pooled (``overall``), and the ``macro`` mean.

    ``truth``, bool, and ``score``, higher where more likely, are (images, labels).
    """
    if not np.isfinite(score).all():
        raise DataError("score: a value is not a finite number; check the predictions file.")
    parts = {name: [index] for index, name in enumerate(names)} | {"overall": [*range(len(names))]}
    codes, patients = pd.factorize(groups, sort=True)
    ranked, unsure = {}, {}
    for part, columns in parts.items():
        order = np.argsort(-score[:, columns], axis=None, kind="stable")
        decisions = truth[:, columns], score[:, columns], np.repeat(codes, len(columns))
        ranked[part] = [values.ravel()[order] for values in decisions]
        outcomes = truth[:, columns].any(axis=1), ~truth[:, columns].all(axis=1)
        fewest = intervals.fewest_patients(np.stack(outcomes, axis=1), groups)
        unsure[part] = fewest < intervals.FEWEST_WITH_CLASS
    has_curve = truth.any(axis=0) & ~truth.all(axis=0)
    # The mean is as unsure as any label that it is taken over.
    unsure["macro"] = any(unsure[name] for name in np.array(names)[has_curve])

    def statistic(times_drawn: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
        found = {}
        for part, (is_true, likely, patient) in ranked.items():
            both = weighted_areas(is_true, likely, times_drawn[:, 0, patient])
            found |= {(part, metric): area[:, None] for metric, area in both.items()}
        for metric in METRICS:
            single = np.stack([found[name, metric] for name in names], axis=-1)
            found["macro", metric] = metrics.macro_of(single, has_curve)
        return found

    drawn = bootstrap.score(np.eye(len(patients))[:, None], np.arange(len(patients)), statistic)
    curves = {}
    for metric in METRICS:
        for part, is_unsure in unsure.items():
            area = drawn[part, metric]._replace(n=len(truth))
            curves[part, metric] = area.without_limits() if is_unsure else area
    return curves


def weighted_areas(
    truth: np.ndarray, score: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Both areas, in [0, 1], of many weightings (resamples, decisions) of the same decisions.

    Scores are finite, from the highest down; an area is NaN where one outcome has no weight.
    """
    starts = np.flatnonzero(np.diff(score, prepend=np.inf))  # equal scores are one step
    all_called = np.add.reduceat(weights, starts, axis=1)
    hits = np.add.reduceat(weights * truth, starts, axis=1)
    above, called = hits.cumsum(axis=1), all_called.cumsum(axis=1)
    positives = above[:, -1]
    pairs = positives * (called[:, -1] - positives)
    # A pair of equal scores counts half.
    ranked = ((all_called - hits) * (above - hits / 2)).sum(axis=1)
    # A step without hits adds nothing, and the first ones may have no weight at all.
    precision = np.divide(above, called, out=np.zeros_like(above), where=called > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_precision = (hits * precision).sum(axis=1) / positives
        both = {"roc_auc": ranked / pairs, "average_precision": mean_precision}
    return {metric: np.where(pairs > 0, area, np.nan) for metric, area in both.items()}
