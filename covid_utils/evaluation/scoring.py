"""Scores with intervals from a predictions file: one row per class and metric.

Every function returns the columns of `COLUMNS`. Intervals are at the 95 % level, from a bootstrap
that draws whole patients, because images of one patient are not independent. Where (nearly) all is
right, or wrong, a bootstrap would claim (near) certainty: a proportion that fewer than
`intervals.FEWEST` patients support, or contradict, gets Wilson's interval by patient. Any other
score has NaN for limits where nothing varies between resamples.

The images of `recognition` were collected class by class, so patients are drawn within classes.
Those of `labels` were not.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from covid_utils.errors import DataError
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


def row(name: str, metric: str, interval: intervals.Interval, patients: int, **more: str) -> dict:
    """One row of a score table; limits that coincide are left out."""
    base = {"class": name, "metric": metric, "average": "pooled", "labels": "exact"}
    if interval.low == interval.high:
        interval = interval._replace(low=np.nan, high=np.nan)
    return base | more | interval._asdict() | {"patients": patients}


def table_of(rows: Iterable[dict]) -> pd.DataFrame:
    """Rows as a table with the columns of `COLUMNS`."""
    return pd.DataFrame(rows, columns=list(COLUMNS))


def recognition(predictions: pd.DataFrame, classes: tuple[str, ...]) -> pd.DataFrame:
    """Scores of a task in which every image has one class.

    Args:
        predictions: ``truth``, ``predicted`` and ``patient_id`` of one subset.
        classes: Class names in order; with two, the first is the positive one.

    Returns:
        Accuracy (class ``all``), each class against the rest, their macro averages, and the
        multi-class MCC.
    """
    units, groups, strata = _confusions(predictions, classes)
    patients = len(np.unique(groups))

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
    rows += [row("macro", m, scored[f"macro {m}"], patients) for m in CLASS_METRICS[:-1]]
    rows.append(row("all", "mcc", scored["all mcc"], patients))
    return table_of(rows)


def accuracy(predictions: pd.DataFrame, classes: tuple[str, ...]) -> pd.Series:
    """Accuracy of a task in which every image has one class: the first row of `recognition`."""
    units, groups, strata = _confusions(predictions, classes)
    hits = np.trace(units, axis1=1, axis2=2)
    right = Counts(hits, 1 - hits, 0 * hits, 0 * hits)
    interval = intervals.bootstrap(right, groups, metrics.accuracy, strata=strata)
    interval = _honest(interval, "accuracy", right, groups, strata)
    return pd.Series(row("all", "accuracy", interval, len(np.unique(groups))))


def _confusions(
    predictions: pd.DataFrame, classes: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Confusion matrix of each image (n, K, K), its patient (n,), and its stratum."""
    truth, said = predictions["truth"].to_numpy(), predictions["predicted"].to_numpy()
    groups = predictions["patient_id"].to_numpy()
    units = metrics.unit_confusion(truth, said, classes)
    return units, groups, intervals.class_strata(units.sum(axis=2).argmax(axis=1), groups)


def _honest(
    interval: intervals.Interval,
    metric: str,
    counts: Counts,
    groups: np.ndarray,
    strata: np.ndarray | None = None,
) -> intervals.Interval:
    """Wilson's limits by patient for a proportion too close to 0 or 1 for a bootstrap."""
    if metric not in PROPORTIONS:
        return interval
    hits, misses = PROPORTIONS[metric](counts)
    fewest = min(len(np.unique(groups[part > 0])) for part in (hits, misses))
    if fewest >= intervals.FEWEST:
        return interval
    wilson = intervals.wilson_by_patient(hits, hits + misses, groups, strata=strata)
    return interval._replace(low=wilson.low, high=wilson.high)


def _per_class(
    interval: intervals.Interval,
    metric: str,
    classes: tuple[str, ...],
    counts: Counts,
    groups: np.ndarray,
    strata: np.ndarray | None = None,
) -> list[dict]:
    """One row per class from an interval over classes of ``counts`` (cases, classes)."""
    rows = []
    patients = len(np.unique(groups))
    for index, name in enumerate(classes):
        one = intervals.Interval(*(np.atleast_1d(part)[index] for part in interval[:3]), interval.n)
        one = _honest(one, metric, counts[:, index], groups, strata)
        rows.append(row(name, metric, one, patients))
    return rows


def labels(
    predictions: pd.DataFrame, names: tuple[str, ...], threshold: float = 0.5
) -> pd.DataFrame:
    """Scores of a task in which an image may have several labels.

    Args:
        predictions: ``truth_<label>``, ``p_<label>`` and ``patient_id`` of one subset.
        names: Labels.
        threshold: Probability from which a label counts as predicted.

    Returns:
        For each label and for ``overall`` (all decisions pooled): the class metrics, accuracy, area
        under the ROC curve and average precision. ``macro`` is the mean over the labels that have
        the metric; it has no accuracy, which would be the overall one. A ranking gets an interval
        where at least `FEWEST_WITH_CLASS` patients show the label and as many lack it.

    Raises:
        DataError: There are no images, an image has no patient, or a probability is not finite.
    """
    counts = label_counts(predictions, names, threshold)
    groups = predictions["patient_id"].to_numpy()
    patients = len(np.unique(groups))
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
        overall = _honest(scored[f"overall {metric}"], metric, counts.sum(axis=-1), groups)
        rows.append(row("overall", metric, overall, patients))
        if metric in CLASS_METRICS:
            rows.append(row("macro", metric, scored[f"macro {metric}"], patients))
    rows += [row(part, metric, area, patients) for (part, metric), area in curves.items()]
    return table_of(rows)


def label_arrays(
    predictions: pd.DataFrame, names: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Truth, bool, and probability, float64, of every image and label (images, labels)."""
    truth = predictions[[f"truth_{name}" for name in names]].to_numpy(bool)
    return truth, predictions[[f"p_{name}" for name in names]].to_numpy(np.float64)


def label_counts(
    predictions: pd.DataFrame, names: tuple[str, ...], threshold: float = 0.5
) -> Counts:
    """Outcomes of every image and label, counts of shape (images, labels)."""
    truth, probability = label_arrays(predictions, names)
    said = probability >= threshold
    return Counts(truth & said, ~truth & said, truth & ~said, ~truth & ~said)


def label_matrices(predictions: pd.DataFrame, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Two-by-two matrix of each label: rows truly present, truly absent; columns as predicted."""
    counts = label_counts(predictions, names).sum(axis=0)
    parts = np.array([[counts.tp, counts.fn], [counts.fp, counts.tn]]).astype(np.int64)
    return {name: parts[..., index] for index, name in enumerate(names)}


def always_positive(predictions: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    """Predictions of the baseline that sees every label in every image."""
    return predictions.assign(**{f"p_{name}": 1.0 for name in names})


def prevalence(
    predictions: pd.DataFrame, training: pd.DataFrame, names: tuple[str, ...]
) -> pd.DataFrame:
    """Predictions of the baseline that gives each label's share of the training images.

    It ranks no image above another, so a label's ROC area is 0.5; but it ranks frequent labels
    above rare ones, which the ``overall`` areas reward.

    Raises:
        DataError: There are no training images.
    """
    if training.empty:
        raise DataError("no slices to count labels in; check the subset column for 'train'.")
    return predictions.assign(**{f"p_{n}": training[f"truth_{n}"].mean() for n in names})
