"""The metric ladder: one set of outlines, scored under every convention that papers use.

"Dice" without further words can be the mean over slices or that of all pixels as one heap, with
background as one of the classes or without, at one threshold or the mean over 256 of them; and a
slice that neither shows a class nor is said to may count as 1, as 0, or not at all. Each choice is
a rung here. Nothing but the arithmetic changes from rung to rung: what lies between the lowest and
the highest is what a number can gain without any better model.

Some rungs need what the file of a run does not hold: see `MISSING`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from covid_utils.errors import DataError
from covid_utils.evaluation import intervals, metrics
from covid_utils.evaluation.scoring import row
from covid_utils.evaluation.stream_scores import PIXEL_METRICS, WEAK_CLASSES, slice_counts, sure
from covid_utils.registry import MANIFESTATIONS

#: Target of a rung -> classes that its value is taken over, in the words of `stream_scores`.
TARGETS = {
    "lesion": ("lesion",),
    **{name: (name,) for name in MANIFESTATIONS},
    "mean of lesions": MANIFESTATIONS,
}
#: How slices, and classes where there are several, become one number.
AVERAGES = {
    "pooled": "all pixels as one heap, then the mean over classes",
    "pooled_classes": "all pixels of all classes as one heap; with background, pixel accuracy",
    "per_image": "each slice's mean over its classes, then the mean over slices",
    "per_class": "each class's mean over slices, then the mean over classes",
}
#: What an empty case, a class that is neither in the truth nor in the outline, counts as.
EMPTY = {"left out": np.nan, "as 1": 1.0, "as 0": 0.0}
NONE_EMPTY, SUMMED = "none occur", "summed over slices"
#: Thresholds: the label of highest probability, or the mean that Inf-Net's program reports.
ONE, MANY = "one label a pixel", "mean over 256"
#: Rungs that are not here -> what a file of outlines would need to hold for them.
MISSING = {
    "mean over 256 thresholds, IoU": "iou_thresholds",
    "mean over 256 thresholds, pooled": "tp, fp and fn at each threshold",
    "mean over 256 thresholds, with background": "tn at each threshold as well",
    "mean over 256 thresholds, empty cases as 1": "share of thresholds that no pixel passes",
    "mean over 256 thresholds, other classes than the widest": "dice_thresholds of each class",
    "threshold 0.5 on the lesion's probability": "tp, fp, fn and tn at 0.5",
}
#: Columns that say what a rung is.
KEYS = ("class", "metric", "average", "background", "empty", "threshold", "labels")
COLUMNS = (*KEYS, "value", "low", "high", "n", "patients")


class Rung(NamedTuple):
    """One convention; the fields are those of `KEYS`, without ``labels``."""

    target: str
    metric: str
    average: str
    background: str
    empty: str = SUMMED
    threshold: str = ONE


class _Slices(NamedTuple):
    """Slices of one scope.

    Attributes:
        counts: Of every class, each of shape (slices,).
        groups: Patient of each slice (slices,).
        swept: Mean Dice over 256 thresholds of the class that it was measured for: name ->
            (slices,), NaN where the truth has no lesion.
    """

    counts: dict[str, metrics.Counts]
    groups: np.ndarray
    swept: dict[str, np.ndarray]


def rungs(pixels: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Score one set of outlines under every convention.

    Args:
        pixels: Of the slices to be scored, from `outlines.pixel_table`: the slices of each class in
            the same order.
        seed: Of the bootstrap, which draws whole patients.

    Returns:
        The columns `COLUMNS`, a row a rung, the highest value first. ``class`` is one of `TARGETS`
        whose classes the outlines have; ``background`` says whether it (of a single class: all
        that is not this class) is one of the classes averaged over; ``average`` is one of
        `AVERAGES`; ``empty`` one of `EMPTY`, or why it does not matter. Where some labels are weak,
        manifestations are scored twice, as by `stream_scores.segmentation`. Limits are NaN where
        too few patients show a class. Of a class that occurs nowhere there is no rung.

    Raises:
        DataError: There are no slices, or not the same ones of all classes.
    """
    targets = [name for name, names in TARGETS.items() if set(names) <= set(pixels["class"])]
    if pixels.empty or not targets:
        raise DataError("ladder: no slices of any lesion; check which subset was chosen.")
    exact = pixels[pixels["label_quality"] == "exact"]
    is_weak = {name: bool(set(TARGETS[name]) & set(WEAK_CLASSES)) for name in targets}
    if len(exact) == len(pixels):
        parts = [("exact", pixels, targets)]
    else:
        weak = [name for name in targets if is_weak[name]]
        sure_of = [name for name in targets if not is_weak[name]]
        parts = [("exact", pixels, sure_of), ("exact", exact, weak), ("all", pixels, weak)]
    rows = []
    for labels, part, chosen in parts:
        if len(part) and chosen:
            rows += _of_scope(_slices(part), chosen, labels, seed)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.sort_values("value", ascending=False, kind="stable", ignore_index=True)


def _slices(part: pd.DataFrame) -> _Slices:
    by_class = {str(name): rows for name, rows in part.groupby("class", sort=False)}
    first = next(iter(by_class.values()))
    for name, rows in by_class.items():
        if not np.array_equal(rows["image_id"], first["image_id"]):
            raise DataError(f"ladder: {name} is not of the same slices as the other classes.")
    swept = {name: rows["dice_thresholds"].to_numpy(float) for name, rows in by_class.items()}
    return _Slices(
        {name: slice_counts(rows) for name, rows in by_class.items()},
        first["patient_id"].to_numpy(),
        {name: values for name, values in swept.items() if not np.isnan(values).all()},
    )


def _of_scope(slices: _Slices, targets: list[str], labels: str, seed: int) -> Iterator[dict]:
    """All rungs of some targets on the same slices."""
    stacks = {(t, b): _stacked(slices, TARGETS[t], b) for t in targets for b in (False, True)}
    shown = {target: stacks[target, False] for target in targets}
    occurring = {key: stack for key, stack in stacks.items() if _occurs(shown[key[0]]).any()}
    if not occurring:
        return
    found = _pooled(occurring, slices.groups, seed) | _averaged(occurring, slices, seed)
    for rung, interval in found.items():
        keys = rung._asdict() | {"labels": labels}
        name, metric = keys.pop("target"), keys.pop("metric")
        limited = sure(interval, shown[name], slices.groups)
        yield row(name, metric, limited, len(np.unique(slices.groups)), **keys)


def _stacked(slices: _Slices, names: tuple[str, ...], background: bool) -> metrics.Counts:
    """Counts (slices, classes), the background last where it is wanted.

    The background of a single class is all that is not this class.
    """
    chosen = [slices.counts[name] for name in names]
    if background and len(names) == 1:
        one = chosen[0]
        chosen.append(metrics.Counts(one.tn, one.fn, one.fp, one.tp))
    elif background:
        chosen.append(slices.counts["background"])
    parts = ("tp", "fp", "fn", "tn")
    return metrics.Counts(*(np.stack([getattr(c, part) for c in chosen], 1) for part in parts))


def _occurs(counts: metrics.Counts) -> np.ndarray:
    """Whether each class is in any truth or outline (classes,)."""
    whole = counts.sum(axis=0)
    return whole.tp + whole.fp + whole.fn > 0


def _pooled(
    stacks: dict[tuple[str, bool], metrics.Counts], groups: np.ndarray, seed: int
) -> dict[Rung, intervals.Interval]:
    """Rungs that sum pixels over slices, where no case is empty but a class that never occurs."""
    occurs = {key: np.flatnonzero(_occurs(stack)) for key, stack in stacks.items()}
    wholes = [np.stack([c.tp, c.fp, c.fn, c.tn], axis=1) for c in stacks.values()]
    ends = np.cumsum([whole.shape[2] for whole in wholes])[:-1]

    def score(sums: np.ndarray) -> dict[Rung, np.ndarray]:
        made = {}
        for (key, classes), part in zip(occurs.items(), np.split(sums, ends, axis=2), strict=True):
            counts = metrics.Counts(*np.moveaxis(part, 1, 0))
            for metric in PIXEL_METRICS:
                of = metrics.METRICS[metric]
                # A resample without one of the classes would be another score: NaN, left out.
                made[_rung(key, metric, "pooled")] = of(counts)[..., classes].mean(axis=-1)
                if part.shape[2] > 1:
                    made[_rung(key, metric, "pooled_classes")] = of(counts.sum(axis=-1))
        return made

    return intervals.bootstrap(np.concatenate(wholes, axis=2), groups, score, seed=seed)


def _averaged(
    stacks: dict[tuple[str, bool], metrics.Counts], slices: _Slices, seed: int
) -> dict[Rung, intervals.Interval]:
    """Rungs that are means over slices."""
    columns, by_class = {}, {}
    for key, stack in stacks.items():
        for metric in PIXEL_METRICS:
            values = metrics.METRICS[metric](stack)
            columns |= _filled(_rung(key, metric, "per_image"), values, EMPTY, metrics.macro)
            if len(TARGETS[key[0]]) > 1:
                by_class[_rung(key, metric, "per_class")._replace(empty="left out")] = values
        if key in {(name, False) for name in slices.swept}:
            rung = _rung(key, "dice", "per_image")._replace(threshold=MANY)
            known = {name: EMPTY[name] for name in ("left out", "as 0")}
            columns |= _filled(rung, slices.swept[key[0]], known, np.asarray)
    means = intervals.bootstrap_mean(np.stack([*columns.values()], 1), slices.groups, seed=seed)
    made = map(intervals.Interval._make, zip(*means, strict=True))
    found = dict(zip(columns, made, strict=True))
    return found | {rung: _class_by_class(v, slices.groups, seed) for rung, v in by_class.items()}


def _rung(key: tuple[str, bool], metric: str, average: str) -> Rung:
    target, background = key
    return Rung(target, metric, average, "with" if background else "without")


def _filled(
    rung: Rung, values: np.ndarray, empty: dict[str, float], reduce: Callable
) -> dict[Rung, np.ndarray]:
    """One column for each way to count empty cases; a single one where there is no such case."""
    is_empty = np.isnan(values)
    if not is_empty.any():
        return {rung._replace(empty=NONE_EMPTY): reduce(values)}
    return {
        rung._replace(empty=name): reduce(np.where(is_empty, counted, values))
        for name, counted in empty.items()
    }


def _class_by_class(values: np.ndarray, groups: np.ndarray, seed: int) -> intervals.Interval:
    """Mean over classes of each one's mean over slices; values (slices, classes), NaN left out."""
    values = values[:, ~np.isnan(values).all(axis=0)]
    known = ~np.isnan(values)
    sums = np.stack([np.where(known, values, 0.0), known.astype(float)], axis=1)

    def mean(pairs: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return (pairs[:, 0] / pairs[:, 1]).mean(axis=-1)

    return intervals.bootstrap(sums, groups, mean, seed=seed)
