"""One set of outlines scored under every convention of Dice and IoU.

Only the arithmetic differs: the range of these values is what a number can gain without a better
model. A slice that lacks a class can be left out, as in all tables; or a false alarm in it is a 0,
and an empty case, in which the class is not predicted either, is left out or counts as 1 or as 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from covid_utils import registry
from covid_utils.evaluation import bootstrap, intervals, metrics, stream_scores
from covid_utils.evaluation.scoring import row, scopes
from covid_utils.evaluation.stream_scores import PIXEL_METRICS

#: Name of a target -> the classes that its value is taken over.
TARGETS = {name: (name,) for name in ("lesion", *registry.MANIFESTATIONS)}
TARGETS[registry.MEAN_OF_LESIONS] = registry.MANIFESTATIONS
#: Columns of `score`.
COLUMNS = ("class", "metric", *registry.CONVENTION, "labels")
COLUMNS += ("value", "low", "high", "n", "patients")
#: (metric, average, empty, threshold) -> value and limits.
Limits = dict[tuple[str, ...], intervals.Interval]


def of_runs(profile: str) -> pd.DataFrame:
    """`score` of the test slices of every run that outlines manifestations, with ``run, work``."""
    rows = []
    for run in stream_scores.stream_runs(profile):
        pixels = stream_scores.test_pixels(profile, run)
        if set(registry.MANIFESTATIONS) & set(pixels["class"]):
            names = {"run": run, "work": registry.work(stream_scores.identity(profile, run))}
            rows += [names | line for line in score(pixels).to_dict("records")]
    return pd.DataFrame(rows, columns=["run", "work", *COLUMNS])


def score(pixels: pd.DataFrame) -> pd.DataFrame:
    """Score one set of outlines, of `outlines.pixel_table`, under every convention.

    The highest value comes first. Manifestations are scored on exactly labelled slices and, where
    some labels are weak, on ``all``. ``average`` is one of: pooled (all pixels together, then the
    mean over classes), pooled_classes (the pixels of all classes together; with background this is
    pixel accuracy), per_image (each slice's mean over its classes, then the mean over slices),
    per_class (the other way round).
    """
    rows = [*_of_scope("exact", pixels, ["lesion"])]
    for scope, part in scopes(pixels).items():
        rows += _of_scope(scope, part, [*TARGETS][1:])
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.sort_values("value", ascending=False, kind="stable", ignore_index=True)


def _of_scope(labels: str, pixels: pd.DataFrame, targets: list[str]) -> Iterator[dict]:
    parts = dict(iter(pixels.groupby("class", sort=False)))
    for target in (name for name in targets if set(TARGETS[name]) <= set(parts)):
        members = [parts[name] for name in TARGETS[target]]
        own, groups = stream_scores.slice_counts(members), members[0]["patient_id"].to_numpy()
        if np.isnan(metrics.score("dice", own.sum(axis=0))).all():  # in no truth and no prediction
            continue
        if is_mean := len(members) > 1:
            rest = stream_scores.slice_counts([parts["background"]])
        else:  # all that is not this class: its counts in reverse, true for false
            rest = own[..., ::-1]
        ways = {"without": own, "with": np.append(own, rest, axis=1)}
        for background, counts in ways.items():
            is_swept = background == "without" and not is_mean
            swept = members[0]["dice_thresholds"] if is_swept else None
            limits = _limits(counts, groups, swept, is_mean)
            for (metric, average, empty, threshold), interval in limits.items():
                keys = {"average": average, "background": background}
                keys |= {"empty": empty, "threshold": threshold, "labels": labels}
                yield row(target, metric, stream_scores.sure(interval, own, groups), groups, **keys)


def _limits(
    counts: np.ndarray, groups: np.ndarray, swept: pd.Series | None, is_mean: bool
) -> Limits:
    """Of counts (slices, classes, 4), and of Dice over thresholds (slices,), where it is wanted."""
    ways = {"pooled": counts}
    if counts.shape[1] > 1:
        ways["pooled_classes"] = counts.sum(axis=1, keepdims=True)
    limits, means, per_class, there = {}, {}, {}, stream_scores.has_class(counts)
    for average, of in ways.items():
        for metric, interval in stream_scores.pooled(of, groups).items():
            limits[metric, average, registry.SUMMED, registry.ONE_THRESHOLD] = interval
    for metric in PIXEL_METRICS:
        values = metrics.score(metric, counts)
        for empty, filled in _counting_absent(values, there, registry.EMPTY_CASES).items():
            means[metric, "per_image", empty, registry.ONE_THRESHOLD] = metrics.macro(filled)
            # With a number for every absent class, this is the mean over slices once more.
            if is_mean and there.any() and empty not in ("as 1", "as 0"):
                table = bootstrap.counted(filled[:, ~np.isnan(filled).all(axis=0)])[:, None]
                mean = bootstrap.score(table, groups, lambda s: bootstrap.quotient(s).mean(axis=-1))
                per_class[metric, "per_class", empty, registry.ONE_THRESHOLD] = mean
    if swept is not None and swept.notna().any():
        filled = _counting_absent(swept.to_numpy(float), swept.notna().to_numpy(), ("as 0",))
        for empty, values in filled.items():
            means["dice", "per_image", empty, registry.MANY_THRESHOLDS] = values
    return limits | bootstrap.means(means, groups) | per_class


def _counting_absent(
    values: np.ndarray, there: np.ndarray, ways: Iterable[str]
) -> dict[str, np.ndarray]:
    """The values for each way to count slices without a class; ``there`` says where it is."""
    if there.all():
        return {registry.NONE_EMPTY: values}
    filled = {way: np.where(np.isnan(values), registry.EMPTY_CASES[way], values) for way in ways}
    return {registry.WITH_CLASS: np.where(there, values, np.nan)} | filled
