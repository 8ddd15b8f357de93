"""From a predictions file to scores with intervals: one row a class and metric.

Every function returns the columns of `COLUMNS`. Intervals are at the 95 % level, from a bootstrap
that draws whole patients: images of one patient are not independent. Where (nearly) all is right,
or wrong, a bootstrap would claim (near) certainty: a proportion for which fewer than
`intervals.FEWEST` patients speak, or speak against, gets Wilson's interval by patient. Any other
score stands alone, with NaN for limits, where nothing varies between resamples.

The images of `recognition` were collected class by class, so patients are drawn within classes.
Those of `labels` were not.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from covid_utils.errors import DataError
from covid_utils.evaluation import intervals, metrics

COLUMNS = ("class", "metric", "average", "labels", "value", "low", "high", "n", "patients")
#: Metrics that the paper reports for a class (section 3.6).
CLASS_METRICS = ("sensitivity", "specificity", "precision", "f1", "mcc")
#: Patients (or slices, where patients are unknown) that must show a class before its segmentation
#: gets an interval, and that must show a label, and lack it, before its ranking gets one: what one
#: or two of them show cannot be resampled.
FEWEST_WITH_CLASS = 3
#: Scores of a ranking, which need no threshold.
CURVE_METRICS = ("roc_auc", "average_precision")
#: Weights of resamples held in memory at a time for `CURVE_METRICS`.
BLOCK = 2**20

#: Proportions: what speaks for each, and what speaks against it.
PROPORTIONS = {
    "sensitivity": lambda counts: (counts.tp, counts.fn),
    "specificity": lambda counts: (counts.tn, counts.fp),
    "precision": lambda counts: (counts.tp, counts.fp),
    "accuracy": lambda counts: (counts.tp + counts.tn, counts.fp + counts.fn),
}


def _honest(
    interval: intervals.Interval,
    metric: str,
    counts: metrics.Counts,
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


def row(name: str, metric: str, interval: intervals.Interval, patients: int, **more: str) -> dict:
    """One row of a score table; limits that coincide are left out."""
    base = {"class": name, "metric": metric, "average": "pooled", "labels": "exact"}
    if interval.low == interval.high:
        interval = interval._replace(low=np.nan, high=np.nan)
    return base | more | interval._asdict() | {"patients": patients}


def table_of(rows: Iterable[dict]) -> pd.DataFrame:
    """Rows as a table with the columns of `COLUMNS`."""
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
    units, groups, strata = _recognised(predictions, classes)
    patients = len(np.unique(groups))

    def per_class(confusion: np.ndarray) -> dict[str, np.ndarray]:
        counts = metrics.one_vs_rest(confusion)
        values = {name: metrics.METRICS[name](counts) for name in CLASS_METRICS}
        macro = {f"macro {name}": metrics.macro(value) for name, value in values.items()}
        return values | macro | {"all mcc": metrics.multiclass_mcc(confusion)}

    found = intervals.bootstrap(units, groups, per_class, seed=seed, strata=strata)
    counts = metrics.one_vs_rest(units)
    rows = [accuracy(predictions, classes, seed).to_dict()]
    for name in CLASS_METRICS:
        rows += _per_class(found[name], name, classes, counts, groups, strata)
    for name in CLASS_METRICS[:-1]:
        rows.append(row("macro", name, found[f"macro {name}"], patients))
    rows.append(row("all", "mcc", found["all mcc"], patients))
    return table_of(rows)


def accuracy(predictions: pd.DataFrame, classes: tuple[str, ...], seed: int = 0) -> pd.Series:
    """Accuracy of a task in which every image has one class: the first row of `recognition`.

    Args:
        predictions: As for `recognition`.
        classes: As for `recognition`.
        seed: Of the bootstrap.
    """
    units, groups, strata = _recognised(predictions, classes)
    hits = np.trace(units, axis1=1, axis2=2)
    right = metrics.Counts(hits, 1 - hits, 0 * hits, 0 * hits)
    found = intervals.bootstrap(right, groups, metrics.accuracy, seed=seed, strata=strata)
    found = _honest(found, "accuracy", right, groups, strata)
    return pd.Series(row("all", "accuracy", found, len(np.unique(groups))))


def _recognised(
    predictions: pd.DataFrame, classes: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Confusion matrix of each image (n, K, K), its patient (n,), and its stratum."""
    truth, found = predictions["truth"].to_numpy(), predictions["predicted"].to_numpy()
    groups = predictions["patient_id"].to_numpy()
    units = metrics.unit_confusion(truth, found, classes)
    return units, groups, intervals.class_strata(units.sum(axis=2).argmax(axis=1), groups)


def _per_class(
    interval: intervals.Interval,
    metric: str,
    classes: tuple[str, ...],
    counts: metrics.Counts,
    groups: np.ndarray,
    strata: np.ndarray | None = None,
) -> list[dict]:
    """One row a class from an interval whose values are arrays over classes.

    ``counts`` (cases, classes), ``groups`` and ``strata`` (cases,) are what it was made from.
    """
    rows = []
    patients = len(np.unique(groups))
    for index, name in enumerate(classes):
        one = intervals.Interval(*(np.atleast_1d(part)[index] for part in interval[:3]), interval.n)
        one = _honest(one, metric, counts[:, index], groups, strata)
        rows.append(row(name, metric, one, patients))
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

    def score(part: metrics.Counts) -> dict[str, np.ndarray]:
        pooled = part.sum(axis=-1)
        each = {name: metrics.METRICS[name](part) for name in wanted}
        macro = {f"macro {name}": _macro(each[name], defined[name]) for name in CLASS_METRICS}
        return each | macro | {f"overall {name}": metrics.METRICS[name](pooled) for name in wanted}

    found = intervals.bootstrap(counts, groups, score, seed=seed)
    rows = []
    for metric in wanted:
        rows += _per_class(found[metric], metric, names, counts, groups)
        overall = _honest(found[f"overall {metric}"], metric, counts.sum(axis=-1), groups)
        rows.append(row("overall", metric, overall, patients))
        if metric in CLASS_METRICS:
            rows.append(row("macro", metric, found[f"macro {metric}"], patients))
    return table_of(rows + _rankings(predictions, names, seed))


def _macro(values: np.ndarray, defined: np.ndarray) -> np.ndarray:
    """Mean over the labels that have the metric on all images (..., labels), NaN without any.

    A resample that lacks one of them has no mean (NaN): over the others it would be another score,
    and jump.
    """
    chosen = values[..., defined]
    return np.where(np.isnan(chosen).any(axis=-1), np.nan, metrics.macro(chosen))


def _rankings(predictions: pd.DataFrame, names: tuple[str, ...], seed: int) -> list[dict]:
    """Rows of `CURVE_METRICS`: each label, all decisions pooled, and the mean over labels."""
    truth = predictions[[f"truth_{name}" for name in names]].to_numpy(bool)
    score = predictions[[f"p_{name}" for name in names]].to_numpy(np.float64)
    groups = predictions["patient_id"].to_numpy()
    parts = {name: [index] for index, name in enumerate(names)}
    parts["overall"] = list(range(len(names)))
    if not np.isfinite(score).all():
        raise DataError("score: a value is not a finite number; check the predictions file.")
    found = _ranking_limits(truth, score, groups, parts, seed)
    unsure = {part: _few_patients(truth[:, columns], groups) for part, columns in parts.items()}
    # The mean is as unsure as any label that it is taken over; one without a curve is left out.
    curves = [name for name in names if not np.isnan(found[f"{name} roc_auc"].value)]
    unsure["macro"] = any(unsure[name] for name in curves)
    rows = []
    for metric in CURVE_METRICS:
        for part in (*parts, "macro"):
            area = found[f"{part} {metric}"]._replace(n=len(truth))
            if unsure[part]:
                area = area._replace(low=np.nan, high=np.nan)
            rows.append(row(part, metric, area, len(np.unique(groups))))
    return rows


def _few_patients(truth: np.ndarray, groups: np.ndarray) -> bool:
    """Whether too few patients show, or lack, any of the labels (images, labels) to resample."""
    shown, lacking = truth.any(axis=1), ~truth.all(axis=1)
    fewest = min(len(np.unique(groups[which])) for which in (shown, lacking))
    return fewest < FEWEST_WITH_CLASS


def _ranking_limits(
    truth: np.ndarray,
    score: np.ndarray,
    groups: np.ndarray,
    parts: dict[str, list[int]],
    seed: int,
) -> dict[str, intervals.Interval]:
    """Intervals of `CURVE_METRICS` for parts of the labels and for ``macro``, by patient.

    Areas are no function of counts summed over patients, so what is summed here is how often each
    patient was drawn: that is the weight of its images.

    Args:
        truth: bool (images, labels).
        score: float64 (images, labels).
        groups: Patient of each image (images,).
        parts: Name -> columns of the labels that are pooled under it; each label, then ``overall``.
        seed: Of the bootstrap.

    Returns:
        Interval of ``"<part> <metric>"`` and ``"macro <metric>"``; its n is the patients.
    """
    codes, patients = pd.factorize(groups, sort=True)
    defined = truth.any(axis=0) & ~truth.all(axis=0)
    ranked = {part: _ranked(truth[:, at], score[:, at], codes) for part, at in parts.items()}

    def of_block(times_drawn: np.ndarray) -> dict[str, np.ndarray]:
        found = {}
        for part, (hit, said, patient) in ranked.items():
            made = _weighted_areas(hit, said, times_drawn[:, patient])
            found |= {f"{part} {metric}": area for metric, area in made.items()}
        for metric in CURVE_METRICS:
            single = [found[f"{part} {metric}"] for part in parts if part != "overall"]
            found[f"macro {metric}"] = _macro(np.stack(single, axis=1), defined)
        return found

    def areas(times_drawn: np.ndarray) -> dict[str, np.ndarray]:
        rows = max(1, BLOCK // truth.size)
        blocks = [of_block(times_drawn[at : at + rows]) for at in range(0, len(times_drawn), rows)]
        return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}

    drawn = np.eye(len(patients))
    return intervals.bootstrap(drawn, np.arange(len(patients)), areas, seed=seed)


def _ranked(
    truth: np.ndarray, score: np.ndarray, codes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decisions (images, labels) as one list from the highest score down, and their patients."""
    order = np.argsort(-score, axis=None, kind="stable")
    return truth.ravel()[order], score.ravel()[order], np.repeat(codes, truth.shape[1])[order]


def _weighted_areas(
    truth: np.ndarray, score: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Both areas of many weightings of the same decisions at once.

    They are scikit-learn's `roc_auc_score` and `average_precision_score` with sample weights, for
    all resamples from one sorting.

    Args:
        truth: bool (decisions,).
        score: float64 (decisions,), finite, from the highest down; equal ones are one step.
        weights: float64 (resamples, decisions), 0 or more.

    Returns:
        Metric -> (resamples,) in [0, 1]; NaN where one outcome has no weight.
    """
    starts = np.flatnonzero(np.diff(score, prepend=np.inf))
    all_called = np.add.reduceat(weights, starts, axis=1)
    hits = np.add.reduceat(weights * truth, starts, axis=1)
    above, called = hits.cumsum(axis=1), all_called.cumsum(axis=1)
    positives = above[:, -1]
    negatives = called[:, -1] - positives
    # A pair of equal scores counts half.
    ranked = ((all_called - hits) * (above - hits / 2)).sum(axis=1)
    # A step without hits adds nothing, and the first ones may have no weight at all.
    precision = np.divide(above, called, out=np.zeros_like(above), where=called > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {
            "roc_auc": ranked / (positives * negatives),
            "average_precision": (hits * precision).sum(axis=1) / positives,
        }
    both = positives * negatives > 0
    return {metric: np.where(both, area, np.nan) for metric, area in found.items()}


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


def prevalence(
    predictions: pd.DataFrame, training: pd.DataFrame, names: tuple[str, ...], seed: int = 0
) -> pd.DataFrame:
    """Scores of the baseline that answers with each label's share of the training images.

    It finds the labels that at least half of the training images show, in every image. It ranks no
    image above another, so a label's ROC area is 0.5; but it ranks frequent labels above rare ones,
    which the ``overall`` areas reward.

    Args:
        predictions: As for `labels`; what the network said is not looked at.
        training: ``truth_<label>`` of the training subset.
        names: Labels.
        seed: Of the bootstrap.

    Returns:
        As `labels`.

    Raises:
        DataError: As for `labels`, or there are no training images.
    """
    truth = training[[f"truth_{name}" for name in names]].to_numpy(bool)
    if not len(truth):
        raise DataError("no slices to count labels in; check the subset column for 'train'.")
    shares = truth.mean(axis=0).astype(np.float32)
    said = {f"p_{name}": shares[index] for index, name in enumerate(names)}
    return labels(predictions.assign(**said), names, seed=seed)
