"""Scores of a segmentation, with intervals, from the measures of its slices.

Two averages, and each score says which it has: ``pooled`` takes all pixels as one heap, so large
lesions weigh more; ``per_image`` is the mean over slices. The rule for empty cases: a class that is
neither in the truth nor in the prediction of a slice has no Dice and no IoU there, and the slice is
left out of the mean; one that is in either alone has 0. A Hausdorff distance needs both.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from covid_utils.evaluation import intervals, metrics
from covid_utils.evaluation.scoring import FEWEST_WITH_CLASS, row, table_of
from covid_utils.evaluation.surfaces import volume_error

#: Pixel metrics of a segmentation.
PIXEL_METRICS = ("dice", "iou")
#: Classes whose mask labels can be weak; the extent of disease is exact on every slice.
WEAK_CLASSES = ("ggo", "consolidation", "effusion", "background")
#: Name of the row for the mean over classes -> whether background is one of them. The authors' code
#: counts it (``mean_iou``), which lifts every score.
MEANS = {"mean": True, "mean of lesions": False}


def segmentation(pixels: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """All scores of a segmentation.

    Classes of lesions are scored twice where labels are weak: on exactly labelled slices
    (``labels`` = exact) and on all of them (``all``); the extent is exact on every slice.

    Args:
        pixels: Of one subset, from `outlines.pixel_table`.
        seed: Of the bootstrap.

    Returns:
        The columns of `scoring.COLUMNS`. For each class ``dice`` and ``iou``, pooled and per image,
        for lesions ``hd95`` (per cent of the slice's side) and ``volume_error`` (mean absolute
        difference, per cent of the lung field) per image, for the extent ``dice_thresholds``; and
        the classes' means of `MEANS`, pooled.
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
        rows += _mean_scores(chosen[chosen["class"] != "lesion"], scope, seed)
    return table_of(rows)


def sure(
    interval: intervals.Interval, counts: metrics.Counts, groups: np.ndarray
) -> intervals.Interval:
    """An interval without its limits where too few patients show a class that it is about.

    Args:
        interval: Of a score.
        counts: That it was made from, (slices,) or (slices, classes).
        groups: Patient of each slice.
    """
    shown = (counts.tp + counts.fn > 0).reshape(len(groups), -1)
    fewest = min(len(np.unique(groups[column])) for column in shown.T)
    return interval._replace(low=np.nan, high=np.nan) if fewest < FEWEST_WITH_CLASS else interval


def slice_counts(part: pd.DataFrame) -> metrics.Counts:
    """Pixel counts of one class, shape (slices,)."""
    return metrics.Counts(*(part[name].to_numpy() for name in ("tp", "fp", "fn", "tn")))


def _class_scores(part: pd.DataFrame, name: str, scope: str, seed: int) -> list[dict]:
    if part.empty:
        return []
    counts, groups = slice_counts(part), part["patient_id"].to_numpy()
    patients = len(np.unique(groups))
    pooled = intervals.bootstrap(counts, groups, _pixel_scores, seed=seed)
    each = _pixel_scores(counts) | _measures(part, counts)
    means = intervals.bootstrap_mean(np.stack([*each.values()], axis=1), groups, seed=seed)
    means = dict(zip(each, map(intervals.Interval._make, zip(*means, strict=True)), strict=True))
    found = []
    for metric, mean in means.items():
        if metric in pooled:
            found.append((metric, "pooled", pooled[metric]))
        if metric in pooled or mean.n:
            found.append((metric, "per_image", mean))
    return [
        row(name, metric, sure(of, counts, groups), patients, labels=scope, average=average)
        for metric, average, of in found
    ]


def _pixel_scores(counts: metrics.Counts) -> dict[str, np.ndarray]:
    """Each of `PIXEL_METRICS`, of the counts' shape."""
    return {metric: metrics.METRICS[metric](counts) for metric in PIXEL_METRICS}


def _measures(part: pd.DataFrame, counts: metrics.Counts) -> dict[str, np.ndarray]:
    """Values of each slice that are no function of the pooled counts; NaN where undefined."""
    if part["class"].iloc[0] == "background":
        return {}
    found = {name: part[name].to_numpy(float) for name in ("hd95", "dice_thresholds")}
    lung = part["lung_pixels"].to_numpy(float)
    truth, called = counts.tp + counts.fn, counts.tp + counts.fp
    return found | {"volume_error": np.abs(volume_error(truth, called, lung))}


def _mean_scores(part: pd.DataFrame, scope: str, seed: int) -> list[dict]:
    """Mean of Dice and IoU over the classes that occur, with background and without."""
    rows = []
    for name, has_background in MEANS.items():
        chosen = part if has_background else part[part["class"] != "background"]
        if chosen["class"].nunique() < 2:
            continue
        by_class = [slice_counts(of_one) for _, of_one in chosen.groupby("class", sort=False)]
        names = ("tp", "fp", "fn", "tn")
        stacked = metrics.Counts(*(np.stack([getattr(c, n) for c in by_class], 1) for n in names))
        groups = chosen[chosen["class"] == chosen["class"].iloc[0]]["patient_id"].to_numpy()
        occurs = stacked.sum(axis=0)
        occurs = np.flatnonzero(occurs.tp + occurs.fp + occurs.fn > 0)

        def means(counts: metrics.Counts, occurs: np.ndarray = occurs) -> dict[str, np.ndarray]:
            # A resample without one of the classes would be another score: NaN, left out.
            each = _pixel_scores(counts)
            return {metric: values[..., occurs].mean(axis=-1) for metric, values in each.items()}

        for metric, mean in intervals.bootstrap(stacked, groups, means, seed=seed).items():
            interval = sure(mean, stacked, groups)
            rows.append(row(name, metric, interval, len(np.unique(groups)), labels=scope))
    return rows
