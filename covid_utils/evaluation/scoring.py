"""Scores with intervals from a predictions file: one row per class and metric.

Intervals are at the 95 % level, from a bootstrap over patients. A proportion that fewer than
`intervals.FEWEST` patients support, or contradict, gets Wilson's interval by patient; where nothing
varies between resamples, limits are NaN. The images of `recognition` were collected class by class,
so patients are drawn within classes; those of `labels` were not.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from covid_utils.evaluation import bootstrap, intervals, metrics, ranking
from covid_utils.evaluation.intervals import Interval

COLUMNS = ("class", "metric", "average", "labels", "value", "low", "high", "n", "patients")
#: Metrics that the paper reports for a class (section 3.6), and all that are proportions of cases.
CLASS_METRICS = ("sensitivity", "specificity", "precision", "f1", "mcc")
PROPORTIONS = ("sensitivity", "specificity", "precision", "accuracy")


def row(name: str, metric: str, interval: Interval, groups: np.ndarray, **more: str) -> dict:
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
    units, *drawn = _confusions(predictions, classes)
    of_classes = _scored(classes, metrics.one_vs_rest(units), *drawn, CLASS_METRICS)
    # The classes have an MCC together, so the mean of theirs is left out.
    rows = [row for row in of_classes if (row["class"], row["metric"]) != ("macro", "mcc")]
    rows.sort(key=lambda row: row["class"] == "macro")
    mcc = bootstrap.score(units[:, None], drawn[0], metrics.multiclass_mcc, drawn[1])
    rows = [accuracy(predictions, classes), *rows, row("all", "mcc", mcc, drawn[0])]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def accuracy(predictions: pd.DataFrame, classes: tuple[str, ...]) -> dict:
    """Accuracy of a task in which every image has one class: the first row of `recognition`."""
    units, groups, strata = _confusions(predictions, classes)
    hits = np.trace(units, axis1=1, axis2=2)[:, None]
    counts = np.stack([hits, 1 - hits, 0 * hits, 0 * hits], axis=-1)
    return _scored(("all",), counts, groups, strata, ("accuracy",))[0]


def _confusions(
    predictions: pd.DataFrame, classes: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    truth, predicted = predictions["truth"].to_numpy(), predictions["predicted"].to_numpy()
    groups = predictions["patient_id"].to_numpy()
    units = metrics.unit_confusion(truth, predicted, classes)
    return units, groups, intervals.class_strata(units.sum(axis=2).argmax(axis=1), groups)


def labels(predictions: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    """Scores of a task in which an image may have several labels, `COLUMNS`.

    ``overall`` pools all decisions; ``macro`` is the mean over the labels that have the metric.
    """
    truth, probability = label_arrays(predictions, names)
    counts, groups = metrics.count(truth, probability >= 0.5, axis=()), predictions["patient_id"]
    counts = np.append(counts, counts.sum(axis=1, keepdims=True), axis=1)
    wanted = ("accuracy", *CLASS_METRICS)
    rows = _scored((*names, "overall"), counts, groups.to_numpy(), None, wanted)
    curves = ranking.areas(truth, probability, groups.to_numpy(), names)
    rows += [row(part, metric, area, groups) for (part, metric), area in curves.items()]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def label_arrays(
    predictions: pd.DataFrame, names: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Truth, bool, and probability, float64, of every image and label (images, labels)."""
    truth = predictions[[f"truth_{name}" for name in names]].to_numpy(bool)
    return truth, predictions[[f"p_{name}" for name in names]].to_numpy(np.float64)


def _scored(
    names: tuple[str, ...],
    counts: np.ndarray,
    groups: np.ndarray,
    strata: np.ndarray | None,
    wanted: tuple[str, ...],
) -> list[dict]:
    """Rows of each metric by class, and of its mean over classes, but for ``accuracy``.

    ``counts`` are (images, classes, 4).
    """
    whole, is_class = counts.sum(axis=0), np.array(names) != "overall"
    defined = {m: is_class & ~np.isnan(metrics.score(m, whole)) for m in wanted}

    def statistic(sums: np.ndarray) -> dict[str, np.ndarray]:
        values = {metric: metrics.score(metric, sums) for metric in wanted}
        means = {f"macro {m}": metrics.macro_of(of, defined[m]) for m, of in values.items()}
        return values | means

    drawn, rows = bootstrap.score(counts[:, None], groups, statistic, strata), []
    for metric in wanted:
        for index, name in enumerate(names):
            value, low, high = (part[index] for part in drawn[metric][:3])
            if metric in PROPORTIONS:
                hits, cases = metrics.fraction(metric, counts[:, index])
                shown = np.stack([hits, cases - hits], axis=1) > 0
                # Close to 0 or 1 a bootstrap would be too sure.
                if intervals.fewest_patients(shown, groups) < intervals.FEWEST:
                    _, low, high, _ = intervals.wilson_by_patient(hits, cases, groups, strata)
            rows.append(row(name, metric, Interval(value, low, high, len(groups)), groups))
        if metric in CLASS_METRICS:
            rows.append(row("macro", metric, drawn[f"macro {metric}"], groups))
    return rows
