"""One set of outlines scored under every convention of Dice and IoU.

"Dice" without further words can be the mean over slices or that of all pixels pooled, with
background as one of the classes or without, at one threshold or the mean over 256 of them; and an
empty case, a class that is in neither truth nor prediction of a slice, can be left out, or count as
1 or 0. Only the arithmetic differs: the range of these values is what a number can gain without a
better model.

Other conventions need what a run's file does not hold: IoU, counts and single classes at each of
the 256 thresholds, and counts at 0.5 of a lesion's probability.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from covid_utils.errors import DataError
from covid_utils.evaluation import intervals, metrics
from covid_utils.evaluation.scoring import row
from covid_utils.evaluation.stream_scores import PIXEL_METRICS, WEAK_CLASSES, slice_counts, sure
from covid_utils.registry import MANIFESTATIONS

#: Name of a target -> the classes that its value is taken over.
TARGETS = {
    "lesion": ("lesion",),
    **{name: (name,) for name in MANIFESTATIONS},
    "mean of lesions": MANIFESTATIONS,
}
#: What an empty case counts as.
EMPTY = {"left out": np.nan, "as 1": 1.0, "as 0": 0.0}
#: Why there is no empty case to count.
NONE_EMPTY, SUMMED = "none occur", "summed over slices"
#: Thresholds: the label of highest probability, or the mean that Inf-Net's program reports.
ONE, MANY = "one label a pixel", "mean over 256"
#: Columns that identify a convention, and all columns of `score`.
KEYS = ("class", "metric", "average", "background", "empty", "threshold", "labels")
COLUMNS = (*KEYS, "value", "low", "high", "n", "patients")


class Convention(NamedTuple):
    """A target and a way to score it.

    ``average`` is one of: pooled (all pixels together, then the mean over classes), pooled_classes
    (the pixels of all classes together; with background this is pixel accuracy), per_image (each
    slice's mean over its classes, then the mean over slices), per_class (the other way round).
    ``background`` says whether it is one of the classes: with, or without.
    """

    target: str
    metric: str
    average: str
    background: str
    empty: str = SUMMED
    threshold: str = ONE


class _Slices(NamedTuple):
    """Counts (slices, classes) of the classes ``names``, patients, mean Dice over thresholds."""

    names: list[str]
    counts: metrics.Counts
    groups: np.ndarray
    over_thresholds: dict[str, np.ndarray]


def score(pixels: pd.DataFrame) -> pd.DataFrame:
    """Score one set of outlines under every convention.

    Args:
        pixels: Of the slices to be scored, from `outlines.pixel_table`: the same slices of each
            class, in the same order.

    Returns:
        The columns `COLUMNS`, one row per convention, the highest value first. Where some labels
        are weak, manifestations are scored twice, as by `stream_scores.segmentation`. Limits are
        NaN where too few patients show a class. A class that occurs nowhere has no row.

    Raises:
        DataError: There are no slices, or not the same ones of all classes.
    """
    targets = [name for name, classes in TARGETS.items() if set(classes) <= set(pixels["class"])]
    if pixels.empty or not targets:
        raise DataError("conventions: no slices of any lesion; check which subset was chosen.")
    exact = pixels[pixels["label_quality"] == "exact"]
    weak = [name for name in targets if set(TARGETS[name]) & set(WEAK_CLASSES)]
    scopes = [("exact", pixels, [name for name in targets if name not in weak])]
    scopes.append(("exact", exact, weak))
    if len(exact) < len(pixels):
        scopes.append(("all", pixels, weak))
    rows = [
        scored
        for labels, part, chosen in scopes
        if len(part) and chosen
        for scored in _score_scope(_slices(part), chosen, labels)
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.sort_values("value", ascending=False, kind="stable", ignore_index=True)


def _slices(part: pd.DataFrame) -> _Slices:
    by_class = {str(name): rows for name, rows in part.groupby("class", sort=False)}
    first = next(iter(by_class.values()))
    if any(not np.array_equal(rows["image_id"], first["image_id"]) for rows in by_class.values()):
        raise DataError("conventions: the classes are not of the same slices; measure them anew.")
    thresholds = {name: rows["dice_thresholds"].to_numpy(float) for name, rows in by_class.items()}
    return _Slices(
        [*by_class],
        metrics.stack([slice_counts(rows) for rows in by_class.values()]),
        first["patient_id"].to_numpy(),
        {name: values for name, values in thresholds.items() if not np.isnan(values).all()},
    )


def _score_scope(slices: _Slices, targets: list[str], labels: str) -> Iterator[dict]:
    """Rows of some targets on the same slices."""
    shown = {name: _classes(slices.counts, slices.names, name, "without") for name in targets}
    occurring = [name for name in targets if _occurs(shown[name]).any()]
    cases = [(name, background) for name in occurring for background in ("without", "with")]
    if not cases:
        return
    limits = _pooled(slices, cases) | _per_image(slices, cases) | _per_class(slices, cases)
    for convention, interval in limits.items():
        keys = convention._asdict() | {"labels": labels}
        name, metric = keys.pop("target"), keys.pop("metric")
        limited = sure(interval, shown[name], slices.groups)
        yield row(name, metric, limited, len(np.unique(slices.groups)), **keys)


def _classes(
    counts: metrics.Counts, names: list[str], target: str, background: str
) -> metrics.Counts:
    """Counts (..., classes of the target), the background last where it is one of them.

    The background of a single class is all that is not this class.
    """
    chosen = counts[..., [names.index(name) for name in TARGETS[target]]]
    if background == "without":
        return chosen
    rest = metrics.Counts(chosen.tn, chosen.fn, chosen.fp, chosen.tp)
    if len(TARGETS[target]) > 1:
        rest = counts[..., [names.index("background")]]
    pairs = zip(chosen.parts, rest.parts, strict=True)
    return metrics.Counts(*(np.concatenate(pair, axis=-1) for pair in pairs))


def _occurs(counts: metrics.Counts) -> np.ndarray:
    """Whether each class is in any truth or prediction (classes,)."""
    whole = counts.sum(axis=0)
    return whole.tp + whole.fp + whole.fn > 0


def _pooled(slices: _Slices, cases: list[tuple[str, str]]) -> dict[Convention, intervals.Interval]:
    """Conventions that sum pixels over slices, where only a class that never occurs is empty."""
    occurs = {case: _occurs(_classes(slices.counts, slices.names, *case)) for case in cases}

    def values(sums: metrics.Counts) -> dict[Convention, np.ndarray]:
        scored = {}
        for (target, background), there in occurs.items():
            counts = _classes(sums, slices.names, target, background)
            for metric in PIXEL_METRICS:
                of, pooled = metrics.METRICS[metric], (target, metric, "pooled", background)
                # A resample without one of the classes would be another score: NaN, left out.
                scored[Convention(*pooled)] = of(counts)[..., there].mean(axis=-1)
                if len(there) > 1:
                    convention = Convention(target, metric, "pooled_classes", background)
                    scored[convention] = of(counts.sum(axis=-1))
        return scored

    return intervals.bootstrap(slices.counts, slices.groups, values)


def _per_image(
    slices: _Slices, cases: list[tuple[str, str]]
) -> dict[Convention, intervals.Interval]:
    """Means over slices of each slice's mean over its classes."""
    columns = {}
    for target, background in cases:
        counts = _classes(slices.counts, slices.names, target, background)
        for metric in PIXEL_METRICS:
            convention = Convention(target, metric, "per_image", background)
            columns |= _counting_empty(convention, metrics.METRICS[metric](counts), [*EMPTY])
        if background == "without" and target in slices.over_thresholds:
            convention = Convention(target, "dice", "per_image", background, threshold=MANY)
            values = slices.over_thresholds[target][:, None]
            columns |= _counting_empty(convention, values, ["left out", "as 0"])
    return intervals.bootstrap_mean(columns, slices.groups)


def _counting_empty(
    convention: Convention, values: np.ndarray, ways: list[str]
) -> dict[Convention, np.ndarray]:
    """Mean over classes of values (slices, classes) for each way to count empty cases (NaN)."""
    is_empty = np.isnan(values)
    if not is_empty.any():
        return {convention._replace(empty=NONE_EMPTY): metrics.macro(values)}
    return {
        convention._replace(empty=way): metrics.macro(np.where(is_empty, EMPTY[way], values))
        for way in ways
    }


def _per_class(
    slices: _Slices, cases: list[tuple[str, str]]
) -> dict[Convention, intervals.Interval]:
    """Means over classes of each one's mean over slices, empty cases left out."""
    limits = {}
    for target, background in cases:
        if len(TARGETS[target]) == 1:
            continue
        counts = _classes(slices.counts, slices.names, target, background)
        for metric in PIXEL_METRICS:
            values = metrics.METRICS[metric](counts)
            values = values[:, ~np.isnan(values).all(axis=0)]
            known = ~np.isnan(values)
            sums = np.stack([np.where(known, values, 0.0), known], axis=1)
            convention = Convention(target, metric, "per_class", background, "left out")
            limits[convention] = intervals.bootstrap(sums, slices.groups, _mean_of_means)
    return limits


def _mean_of_means(sums: np.ndarray) -> np.ndarray:
    return intervals.mean_of_sums(sums).mean(axis=-1)
