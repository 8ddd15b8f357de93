"""Scores with intervals from a predictions file: one row per class and metric.

Intervals are at the 95 % level, from a bootstrap over patients. A proportion that fewer than
`intervals.FEWEST` patients support, or contradict, gets Wilson's interval by patient; where nothing
varies between resamples, limits are NaN. The images of `recognition` were collected class by class,
so patients are drawn within classes; those of `labels` were not.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from covid_utils.evaluation import intervals, metrics, ranking
from covid_utils.evaluation.metrics import Counts

COLUMNS = ("class", "metric", "average", "labels", "value", "low", "high", "n", "patients")
FEWEST_WITH_CLASS = ranking.FEWEST_WITH_CLASS
#: Metrics that the paper reports for a class (section 3.6).
CLASS_METRICS = ("sensitivity", "specificity", "precision", "f1", "mcc")
#: Proportions: the counts that support each, and those that contradict it.
PROPORTIONS = {
    "sensitivity": lambda counts: (counts.tp, counts.fn),
    "specificity": lambda counts: (counts.tn, counts.fp),
    "precision": lambda counts: (counts.tp, counts.fp),
    "accuracy": lambda counts: (counts.tp + counts.tn, counts.fp + counts.fn),
}


def row(
    name: str, metric: str, interval: intervals.Interval, groups: np.ndarray, **more: str
) -> dict:
    """One row of a score table; limits that coincide are left out."""
    base = {"class": name, "metric": metric, "average": "pooled", "labels": "exact"}
    if interval.low == interval.high:
        interval = interval._replace(low=np.nan, high=np.nan)
    return base | more | interval._asdict() | {"patients": len(np.unique(groups))}


def recognition(predictions: pd.DataFrame, classes: tuple[str, ...]) -> pd.DataFrame:
    """Scores of a task in which every image has one class: `COLUMNS`, accuracy first."""
    units, groups, strata = _confusions(predictions, classes)

    def per_class(confusion: np.ndarray) -> dict[str, np.ndarray]:
        counts = metrics.one_vs_rest(confusion)
        values = {name: metrics.METRICS[name](counts) for name in CLASS_METRICS}
        macro = {f"macro {name}": metrics.macro(value) for name, value in values.items()}
        return values | macro | {"all mcc": metrics.multiclass_mcc(confusion)}

    scored = intervals.bootstrap(units, groups, per_class, strata=strata)
    counts = metrics.one_vs_rest(units)
    rows = [accuracy(predictions, classes).to_dict()]
    for name in CLASS_METRICS:
        rows += _per_class(scored[name], name, classes, counts, groups, strata)
    rows += [row("macro", m, scored[f"macro {m}"], groups) for m in CLASS_METRICS[:-1]]
    rows.append(row("all", "mcc", scored["all mcc"], groups))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def accuracy(predictions: pd.DataFrame, classes: tuple[str, ...]) -> pd.Series:
    """Accuracy of a task in which every image has one class: the first row of `recognition`."""
    units, groups, strata = _confusions(predictions, classes)
    hits = np.trace(units, axis1=1, axis2=2)
    right = Counts(hits, 1 - hits, 0 * hits, 0 * hits)
    interval = intervals.bootstrap(right, groups, metrics.accuracy, strata=strata)
    return pd.Series(_bounded("all", "accuracy", interval, right, groups, strata))


def _confusions(
    predictions: pd.DataFrame, classes: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    truth, predicted = predictions["truth"].to_numpy(), predictions["predicted"].to_numpy()
    groups = predictions["patient_id"].to_numpy()
    units = metrics.unit_confusion(truth, predicted, classes)
    return units, groups, intervals.class_strata(units.sum(axis=2).argmax(axis=1), groups)


def _bounded(
    name: str,
    metric: str,
    interval: intervals.Interval,
    counts: Counts,
    groups: np.ndarray,
    strata: np.ndarray | None = None,
) -> dict:
    if metric in PROPORTIONS:
        hits, misses = PROPORTIONS[metric](counts)
        fewest = min(len(np.unique(groups[part > 0])) for part in (hits, misses))
        if fewest < intervals.FEWEST:  # a bootstrap would be too sure so close to 0 or 1
            wilson = intervals.wilson_by_patient(hits, hits + misses, groups, strata=strata)
            interval = interval._replace(low=wilson.low, high=wilson.high)
    return row(name, metric, interval, groups)


def _per_class(
    interval: intervals.Interval,
    metric: str,
    classes: tuple[str, ...],
    counts: Counts,
    groups: np.ndarray,
    strata: np.ndarray | None = None,
) -> list[dict]:
    each = zip(classes, *np.atleast_2d(interval[:3]), strict=True)
    return [
        _bounded(name, metric, intervals.Interval(*one, interval.n), counts[:, i], groups, strata)
        for i, (name, *one) in enumerate(each)
    ]


def labels(predictions: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    """Scores of a task in which an image may have several labels, `COLUMNS`.

    ``overall`` pools all decisions; ``macro`` is the mean over the labels that have the metric.
    """
    counts = label_counts(predictions, names)
    groups = predictions["patient_id"].to_numpy()
    wanted = ("accuracy", *CLASS_METRICS)
    whole = counts.sum(axis=0)
    defined = {name: ~np.isnan(metrics.METRICS[name](whole)) for name in CLASS_METRICS}

    def score(part: Counts) -> dict[str, np.ndarray]:
        pooled = part.sum(axis=-1)
        each = {name: metrics.METRICS[name](part) for name in wanted}
        macro = {
            f"macro {name}": ranking.macro(each[name], defined[name]) for name in CLASS_METRICS
        }
        return each | macro | {f"overall {name}": metrics.METRICS[name](pooled) for name in wanted}

    scored = intervals.bootstrap(counts, groups, score)
    curves = ranking.areas(*label_arrays(predictions, names), groups, names)
    rows = []
    for metric in wanted:
        rows += _per_class(scored[metric], metric, names, counts, groups)
        overall = scored[f"overall {metric}"]
        rows.append(_bounded("overall", metric, overall, counts.sum(axis=-1), groups))
        if metric in CLASS_METRICS:
            rows.append(row("macro", metric, scored[f"macro {metric}"], groups))
    rows += [row(part, metric, area, groups) for (part, metric), area in curves.items()]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def label_arrays(
    predictions: pd.DataFrame, names: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Truth, bool, and probability, float64, of every image and label (images, labels)."""
    truth = predictions[[f"truth_{name}" for name in names]].to_numpy(bool)
    return truth, predictions[[f"p_{name}" for name in names]].to_numpy(np.float64)


def label_counts(predictions: pd.DataFrame, names: tuple[str, ...]) -> Counts:
    """Outcomes of every image and label, counts of shape (images, labels)."""
    truth, probability = label_arrays(predictions, names)
    called = probability >= 0.5
    return Counts(truth & called, ~truth & called, truth & ~called, ~truth & ~called)


def label_matrices(predictions: pd.DataFrame, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Two-by-two matrix of each label: rows truly present, truly absent; columns as predicted."""
    counts = label_counts(predictions, names).sum(axis=0)
    parts = np.array([[counts.tp, counts.fn], [counts.fp, counts.tn]]).astype(np.int64)
    return {name: parts[..., index] for index, name in enumerate(names)}


def constant(predictions: pd.DataFrame, shares: Mapping[str, float]) -> pd.DataFrame:
    """Predictions of a baseline that gives each label the same probability in every image.

    It ranks no image above another, so a label's ROC area is 0.5; but it ranks frequent labels
    above rare ones, which the ``overall`` areas reward.
    """
    return predictions.assign(**{f"p_{name}": share for name, share in shares.items()})
