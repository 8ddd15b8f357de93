"""From a predictions file to scores with intervals: one row a class and metric.

Every function returns the columns of `COLUMNS`. Intervals are at the 95 % level, from a bootstrap
that draws whole patients: images of one patient are not independent. Where nothing varies between
resamples (all right, or all wrong), a bootstrap would claim certainty: a proportion then gets
Wilson's interval over the patients that it is taken over, and any other score stands alone, with
NaN for limits.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from covid_utils.evaluation import intervals, metrics

COLUMNS = ("class", "metric", "average", "labels", "value", "low", "high", "n", "patients")
#: Metrics that the paper reports for a class (section 3.6).
CLASS_METRICS = ("sensitivity", "specificity", "precision", "f1", "mcc")
#: Patients (or slices, where patients are unknown) that must show a class before its segmentation
#: gets an interval: what one or two of them show cannot be resampled.
FEWEST_WITH_CLASS = 3
#: Pixel metrics of a segmentation.
PIXEL_METRICS = ("dice", "iou")
#: Classes whose mask labels can be weak; the extent of disease is exact on every slice.
WEAK_CLASSES = ("ggo", "consolidation", "effusion", "background")


#: Proportions, and the cases that each is a proportion of.
DENOMINATORS = {
    "sensitivity": lambda counts: counts.tp + counts.fn,
    "specificity": lambda counts: counts.tn + counts.fp,
    "precision": lambda counts: counts.tp + counts.fp,
    "accuracy": lambda counts: counts.tp + counts.fp + counts.fn + counts.tn,
}


def _honest(
    interval: intervals.Interval, metric: str, counts: metrics.Counts, groups: np.ndarray
) -> intervals.Interval:
    """Wilson's limits over patients for a proportion that no resample moves from 0 or 1."""
    if metric not in DENOMINATORS or interval.low != interval.high or interval.value not in (0, 1):
        return interval
    patients = len(np.unique(groups[DENOMINATORS[metric](counts) > 0]))
    wilson = intervals.wilson(int(interval.value) * patients, patients)
    return interval._replace(low=wilson.low, high=wilson.high)


def _row(name: str, metric: str, interval: intervals.Interval, patients: int, **more: str) -> dict:
    base = {"class": name, "metric": metric, "average": "pooled", "labels": "exact"}
    if interval.low == interval.high:
        interval = interval._replace(low=np.nan, high=np.nan)
    return base | more | interval._asdict() | {"patients": patients}


def _table(rows: Iterable[dict]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(COLUMNS))


def recognition(predictions: pd.DataFrame, classes: tuple[str, ...], seed: int = 0) -> pd.DataFrame:
    """Scores of a task in which every image has one class.

    Args:
        predictions: ``truth``, ``predicted`` and ``patient_id`` of one subset.
        classes: Class names in order; with two, the first is the positive one.
        seed: Of the bootstrap.

    Returns:
        Accuracy (class ``all``), each class against the rest, their macro averages, and the
        multi-class MCC.
    """
    truth, found = predictions["truth"].to_numpy(), predictions["predicted"].to_numpy()
    groups = predictions["patient_id"].to_numpy()
    patients = len(np.unique(groups))
    units = metrics.unit_confusion(truth, found, classes)

    def per_class(confusion: np.ndarray) -> dict[str, np.ndarray]:
        counts = metrics.one_vs_rest(confusion)
        values = {name: metrics.METRICS[name](counts) for name in CLASS_METRICS}
        macro = {f"macro {name}": metrics.macro(value) for name, value in values.items()}
        whole = {"all mcc": metrics.multiclass_mcc(confusion)}
        return values | macro | whole | {"accuracy": metrics.multiclass_accuracy(confusion)}

    found_intervals = intervals.bootstrap(units, groups, per_class, seed=seed)
    hits = (truth == found).astype(float)
    right = metrics.Counts(hits, 1 - hits, np.zeros(len(hits)), np.zeros(len(hits)))
    accuracy = _honest(found_intervals["accuracy"], "accuracy", right, groups)
    rows = [_row("all", "accuracy", accuracy, patients)]
    counts = metrics.one_vs_rest(units)
    for name in CLASS_METRICS:
        rows += _per_class(found_intervals[name], name, classes, counts, groups)
    for name in CLASS_METRICS[:-1]:
        rows.append(_row("macro", name, found_intervals[f"macro {name}"], patients))
    rows.append(_row("all", "mcc", found_intervals["all mcc"], patients))
    return _table(rows)


def _per_class(
    interval: intervals.Interval,
    metric: str,
    classes: tuple[str, ...],
    counts: metrics.Counts,
    groups: np.ndarray,
) -> list[dict]:
    """One row a class from an interval whose values are arrays over classes.

    ``counts`` (cases, classes) and ``groups`` (cases,) are what the interval was made from.
    """
    rows = []
    patients = len(np.unique(groups))
    for index, name in enumerate(classes):
        one = intervals.Interval(*(np.atleast_1d(part)[index] for part in interval[:3]), interval.n)
        rows.append(_row(name, metric, _honest(one, metric, counts[:, index], groups), patients))
    return rows


def labels(
    predictions: pd.DataFrame, names: tuple[str, ...], threshold: float = 0.5, seed: int = 0
) -> pd.DataFrame:
    """Scores of a task in which an image may have several labels.

    Args:
        predictions: ``truth_<label>``, ``p_<label>`` and ``patient_id`` of one subset.
        names: Labels.
        threshold: Probability from which a label counts as found.
        seed: Of the bootstrap.

    Returns:
        For each label and for ``overall`` (all decisions pooled): the class metrics, accuracy, and
        for each label the area under the ROC curve and average precision, without interval.
    """
    counts = label_counts(predictions, names, threshold)
    groups = predictions["patient_id"].to_numpy()
    patients = len(np.unique(groups))
    wanted = ("accuracy", *CLASS_METRICS)

    def score(part: metrics.Counts) -> dict[str, np.ndarray]:
        pooled = part.sum(axis=-1)
        each = {name: metrics.METRICS[name](part) for name in wanted}
        return each | {f"overall {name}": metrics.METRICS[name](pooled) for name in wanted}

    found = intervals.bootstrap(counts, groups, score, seed=seed)
    rows = []
    for metric in wanted:
        rows += _per_class(found[metric], metric, names, counts, groups)
        overall = _honest(found[f"overall {metric}"], metric, counts.sum(axis=-1), groups)
        rows.append(_row("overall", metric, overall, patients))
    for name in names:
        truth, score_of = predictions[f"truth_{name}"], predictions[f"p_{name}"]
        for metric in (metrics.roc_auc, metrics.average_precision):
            value = metric(truth.to_numpy(), score_of.to_numpy())
            bare = intervals.Interval(value, np.nan, np.nan, len(truth))
            rows.append(_row(name, metric.__name__, bare, patients))
    return _table(rows)


def label_counts(
    predictions: pd.DataFrame, names: tuple[str, ...], threshold: float = 0.5
) -> metrics.Counts:
    """Outcomes of every image and label, counts of shape (images, labels)."""
    truth = predictions[[f"truth_{name}" for name in names]].to_numpy(bool)
    found = predictions[[f"p_{name}" for name in names]].to_numpy() >= threshold
    return metrics.Counts(truth & found, ~truth & found, truth & ~found, ~truth & ~found)


def label_matrices(
    predictions: pd.DataFrame, names: tuple[str, ...], threshold: float = 0.5
) -> dict[str, np.ndarray]:
    """Two-by-two matrix of each label: rows truly present, truly absent; columns as predicted."""
    counts = label_counts(predictions, names, threshold)
    matrices = {}
    for index, name in enumerate(names):
        one = counts[:, index].sum()
        matrices[name] = np.array([[one.tp, one.fn], [one.fp, one.tn]]).astype(np.int64)
    return matrices


def always_positive(
    predictions: pd.DataFrame, names: tuple[str, ...], seed: int = 0
) -> pd.DataFrame:
    """Scores of the baseline that finds every label in every image."""
    said = {f"p_{name}": 1.0 for name in names}
    return labels(predictions.assign(**said), names, seed=seed)


def segmentation(pixels: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Dice and IoU of a segmentation.

    A class that is neither in the truth nor in the prediction of a slice has no Dice there: such
    slices are left out of the mean over slices. Classes of lesions are scored twice where labels
    are weak: on exactly labelled slices (``labels`` = exact) and on all of them (``all``).

    Args:
        pixels: ``class``, ``tp``, ``fp``, ``fn``, ``tn``, ``patient_id`` and ``label_quality`` of
            one subset, a row a slice and class (`training.predictions.pixel_table`).
        seed: Of the bootstrap.

    Returns:
        Rows for each class and for ``mean`` (mean IoU over the classes, background included, as in
        the authors' code), pooled over slices and, for each class, as the mean over slices.
    """
    rows = []
    exact = pixels[pixels["label_quality"] == "exact"]
    has_weak = len(exact) < len(pixels)
    for name, part in pixels.groupby("class", sort=False):
        scopes = {"exact": part}
        if has_weak and name in WEAK_CLASSES:
            scopes = {"exact": exact[exact["class"] == name], "all": part}
        for scope, chosen in scopes.items():
            rows += _class_scores(chosen, name, scope, seed)
    for scope, chosen in {"exact": exact, "all": pixels if has_weak else exact[:0]}.items():
        rows += _mean_iou(chosen[chosen["class"] != "lesion"], scope, seed)
    return _table(rows)


def slice_counts(part: pd.DataFrame) -> metrics.Counts:
    """Pixel counts of one class, shape (slices,)."""
    return metrics.Counts(*(part[name].to_numpy() for name in ("tp", "fp", "fn", "tn")))


def _class_scores(part: pd.DataFrame, name: str, scope: str, seed: int) -> list[dict]:
    if part.empty:
        return []
    counts, groups = slice_counts(part), part["patient_id"].to_numpy()
    patients = len(np.unique(groups))
    shown = len(np.unique(groups[counts.tp + counts.fn > 0]))
    rows = []
    for metric in PIXEL_METRICS:
        score = metrics.METRICS[metric]
        pooled = intervals.bootstrap(counts, groups, score, seed=seed)
        mean = intervals.bootstrap_mean(score(counts), groups, seed=seed)
        for average, found in (("pooled", pooled), ("per_image", mean)):
            unsure = {"low": np.nan, "high": np.nan} if shown < FEWEST_WITH_CLASS else {}
            interval = found._replace(**unsure)
            rows.append(_row(name, metric, interval, patients, labels=scope, average=average))
    return rows


def _mean_iou(part: pd.DataFrame, scope: str, seed: int) -> list[dict]:
    if part.empty:
        return []
    by_class = [slice_counts(rows) for _, rows in part.groupby("class", sort=False)]
    stacked = metrics.Counts(
        *(np.stack([getattr(c, name) for c in by_class], 1) for name in ("tp", "fp", "fn", "tn"))
    )
    groups = part[part["class"] == part["class"].iloc[0]]["patient_id"].to_numpy()
    interval = intervals.bootstrap(
        stacked, groups, lambda counts: metrics.macro(metrics.iou(counts)), seed=seed
    )
    patients = len(np.unique(groups))
    return [_row("mean", "iou", interval, patients, labels=scope)]
