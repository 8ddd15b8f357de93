"""Scores with intervals from a predictions file: one row per class and metric.

Intervals are at the 95 % level, from a bootstrap over patients. A proportion that fewer than
`intervals.FEWEST` patients support, or contradict, gets Wilson's interval by patient; where nothing
varies between resamples, limits are NaN. The images of `recognition` were collected class by class,
so patients are drawn within classes; those of `labels` were not.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from covid_utils.evaluation import intervals, metrics, ranking

COLUMNS = ("class", "metric", "average", "labels", "value", "low", "high", "n", "patients")
#: Metrics that the paper reports for a class (section 3.6), and all that are proportions of cases.
CLASS_METRICS = ("sensitivity", "specificity", "precision", "f1", "mcc")
PROPORTIONS = ("sensitivity", "specificity", "precision", "accuracy")


def row(
    name: str, metric: str, interval: intervals.Interval, groups: np.ndarray, **more: str
) -> dict:
    """One row of a score table; limits that coincide are left out."""
    base = {"class": name, "metric": metric, "average": "pooled", "labels": "exact"}
    if interval.low == interval.high:
        interval = interval.without_limits()
    return base | more | interval._asdict() | {"patients": len(np.unique(groups))}


def scopes(predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Images with exact labels and, where some are weak, all of them."""
    exact = predictions[predictions["label_quality"] == "exact"]
    return {"exact": exact} | ({"all": predictions} if len(exact) < len(predictions) else {})


def recognition(predictions: pd.DataFrame, classes: tuple[str, ...]) -> pd.DataFrame:
    """Scores of a task in which every image has one class: `COLUMNS`, accuracy first."""
    units, groups, strata = _confusions(predictions, classes)

    def statistic(confusion: np.ndarray) -> dict[str, np.ndarray]:
        counts = metrics.one_vs_rest(confusion)
        values = {metric: metrics.score(metric, counts) for metric in CLASS_METRICS}
        macro = {f"macro {metric}": metrics.macro(value) for metric, value in values.items()}
        return values | macro | {"all mcc": metrics.multiclass_mcc(confusion)}

    scored = intervals.bootstrap(units, groups, statistic, strata=strata)
    counts = metrics.one_vs_rest(units)
    rows = [accuracy(predictions, classes)]
    for metric in CLASS_METRICS:
        rows += _of_classes(classes, metric, scored[metric], counts, groups, strata)
    rows += [row("macro", m, scored[f"macro {m}"], groups) for m in CLASS_METRICS[:-1]]
    rows.append(row("all", "mcc", scored["all mcc"], groups))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def accuracy(predictions: pd.DataFrame, classes: tuple[str, ...]) -> dict:
    """Accuracy of a task in which every image has one class: the first row of `recognition`."""
    units, groups, strata = _confusions(predictions, classes)
    hits = np.trace(units, axis1=1, axis2=2)
    counts = np.stack([hits, 1 - hits, 0 * hits, 0 * hits], axis=-1)
    interval = intervals.bootstrap(counts, groups, partial(metrics.score, "accuracy"), strata)
    return _of_classes(("all",), "accuracy", interval, counts[:, None], groups, strata)[0]


def _confusions(
    predictions: pd.DataFrame, classes: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    truth, predicted = predictions["truth"].to_numpy(), predictions["predicted"].to_numpy()
    groups = predictions["patient_id"].to_numpy()
    units = metrics.unit_confusion(truth, predicted, classes)
    return units, groups, intervals.class_strata(units.sum(axis=2).argmax(axis=1), groups)


def _of_classes(
    names: tuple[str, ...],
    metric: str,
    scored: intervals.Interval,
    counts: np.ndarray,
    groups: np.ndarray,
    strata: np.ndarray | None = None,
) -> list[dict]:
    """A row for each of several classes; counts are (images, classes, 4)."""
    rows = []
    for index, name in enumerate(names):
        value, low, high = (np.ravel(part)[index] for part in scored[:3])
        if metric in PROPORTIONS:
            hits, cases = metrics.fraction(metric, counts[:, index])
            shown = np.stack([hits, cases - hits], axis=1) > 0
            # Close to 0 or 1 a bootstrap would be too sure.
            if intervals.fewest_patients(shown, groups) < intervals.FEWEST:
                _, low, high, _ = intervals.wilson_by_patient(hits, cases, groups, strata=strata)
        rows.append(row(name, metric, intervals.Interval(value, low, high, scored.n), groups))
    return rows


def labels(predictions: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    """Scores of a task in which an image may have several labels, `COLUMNS`.

    ``overall`` pools all decisions; ``macro`` is the mean over the labels that have the metric.
    """
    truth, probability = label_arrays(predictions, names)
    counts = metrics.count(truth, probability >= 0.5, axis=())
    groups, wanted = predictions["patient_id"].to_numpy(), ("accuracy", *CLASS_METRICS)
    whole = counts.sum(axis=0)
    defined = {metric: ~np.isnan(metrics.score(metric, whole)) for metric in wanted}

    def statistic(part: np.ndarray) -> dict[str, np.ndarray]:
        scored = {}
        for metric in wanted:
            scored[metric] = metrics.score(metric, part)
            scored[f"macro {metric}"] = ranking.macro(scored[metric], defined[metric])
            scored[f"overall {metric}"] = metrics.score(metric, part.sum(axis=-2))
        return scored

    scored = intervals.bootstrap(counts, groups, statistic)
    pooled, rows = counts.sum(axis=1, keepdims=True), []
    for metric in wanted:
        rows += _of_classes(names, metric, scored[metric], counts, groups)
        rows += _of_classes(("overall",), metric, scored[f"overall {metric}"], pooled, groups)
        if metric in CLASS_METRICS:
            rows.append(row("macro", metric, scored[f"macro {metric}"], groups))
    curves = ranking.areas(truth, probability, groups, names)
    rows += [row(part, metric, area, groups) for (part, metric), area in curves.items()]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def label_arrays(
    predictions: pd.DataFrame, names: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Truth, bool, and probability, float64, of every image and label (images, labels)."""
    truth = predictions[[f"truth_{name}" for name in names]].to_numpy(bool)
    return truth, predictions[[f"p_{name}" for name in names]].to_numpy(np.float64)
