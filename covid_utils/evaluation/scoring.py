"""Scores with intervals from a predictions file: one row per class and metric.

Intervals are at the 95 % level, from a bootstrap over patients. A proportion that fewer than
`intervals.FEWEST` patients support, or contradict, gets Wilson's interval by patient; where nothing
varies between resamples, limits are NaN. The images of `recognition` were collected class by class,
so patients are drawn within classes; those of `labels` were not.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from covid_utils.errors import DataError
from covid_utils.evaluation import bootstrap, intervals, metrics
from covid_utils.evaluation.intervals import Interval

COLUMNS = ("class", "metric", "average", "labels", "value", "low", "high", "n", "patients")
#: Metrics that the paper reports for a class (section 3.6), and all that are proportions of cases.
CLASS_METRICS = ("sensitivity", "specificity", "precision", "f1", "mcc")
PROPORTIONS = ("sensitivity", "specificity", "precision", "accuracy")
#: Areas under curves: scores of a ranking, which need no threshold.
CURVES = ("roc_auc", "average_precision")


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
    counts, groups, strata = _one_vs_rest(predictions, classes)
    scored = _scored(classes, counts, groups, strata, CLASS_METRICS)
    each = [line for line in scored if line["class"] != "macro"]
    # The classes have an MCC together, so the mean of theirs is left out.
    means = [line for line in scored if line["class"] == "macro" and line["metric"] != "mcc"]
    mcc = bootstrap.score(counts[:, None], groups, metrics.multiclass_mcc, strata)
    rows = [accuracy(predictions, classes), *each, *means, row("all", "mcc", mcc, groups)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def accuracy(predictions: pd.DataFrame, classes: tuple[str, ...]) -> dict:
    """Accuracy of a task in which every image has one class: the first row of `recognition`."""
    counts, groups, strata = _one_vs_rest(predictions, classes)
    hits = counts[..., :1].sum(axis=1, keepdims=True)
    counts = np.concatenate([hits, 1 - hits, 0 * hits, 0 * hits], axis=-1)
    return _scored(("all",), counts, groups, strata, ("accuracy",))[0]


def _one_vs_rest(
    predictions: pd.DataFrame, classes: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Counts (images, classes, 4), patients, and classes as strata."""
    truth, called = (predictions[[name]].to_numpy(str) for name in ("truth", "predicted"))
    if unknown := {*truth.flat, *called.flat} - {*classes}:
        raise DataError(
            f"label '{min(unknown)}' is not among the classes {', '.join(classes)}; map or leave "
            "out such cases."
        )
    counts = metrics.count(truth == classes, called == classes, axis=())
    groups = predictions["patient_id"].to_numpy()
    return counts, groups, intervals.class_strata((truth == classes).argmax(axis=1), groups)


def labels(predictions: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    """Scores of a task in which an image may have several labels, `COLUMNS`.

    ``overall`` pools all decisions; ``macro`` is the mean over the labels that have the metric.
    """
    truth, probability = label_arrays(predictions, names)
    counts, groups = metrics.count(truth, probability >= 0.5, axis=()), predictions["patient_id"]
    counts = np.append(counts, counts.sum(axis=1, keepdims=True), axis=1)
    wanted = ("accuracy", *CLASS_METRICS)
    rows = _scored((*names, "overall"), counts, groups.to_numpy(), None, wanted)
    curves = areas(truth, probability, groups.to_numpy(), names)
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
    whole, defined = counts.sum(axis=0), dict.fromkeys(wanted)
    if "overall" in names:  # labels: a resample that lacks one has no mean over them
        is_label = np.array(names) != "overall"
        defined = {m: is_label & ~np.isnan(metrics.score(m, whole)) for m in wanted}

    def statistic(sums: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
        found = {}
        for metric in wanted:
            values = metrics.score(metric, sums)
            found |= {(name, metric): values[..., at] for at, name in enumerate(names)}
            found["macro", metric] = metrics.macro(values, defined[metric])
        return found

    drawn, rows = bootstrap.score(counts[:, None], groups, statistic, strata), []
    for metric in wanted:
        for index, name in enumerate(names):
            interval = drawn[name, metric]
            if metric in PROPORTIONS:
                hits, cases = metrics.fraction(metric, counts[:, index])
                interval = intervals.cautious(interval, hits, cases, groups, strata)
            rows.append(row(name, metric, interval, groups))
        if metric in CLASS_METRICS:
            rows.append(row("macro", metric, drawn["macro", metric], groups))
    return rows


def areas(
    truth: np.ndarray, score: np.ndarray, groups: np.ndarray, names: tuple[str, ...]
) -> dict[tuple[str, str], Interval]:
    """(label, metric) -> area; of all decisions pooled (``overall``), and the ``macro`` mean.

    ``truth``, bool, and ``score``, higher where more likely, are (images, labels). What the
    bootstrap sums is how often each patient was drawn: the weight of its images.
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
        for metric in CURVES:
            single = np.stack([found[name, metric] for name in names], axis=-1)
            found["macro", metric] = metrics.macro(single, has_curve)
        return found

    drawn = bootstrap.score(np.eye(len(patients))[:, None], np.arange(len(patients)), statistic)
    ordered = [(part, metric) for metric in CURVES for part in unsure]
    curves = {key: drawn[key]._replace(n=len(truth)) for key in ordered}
    return {key: of.without_limits() if unsure[key[0]] else of for key, of in curves.items()}


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
