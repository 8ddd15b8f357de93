"""Confidence intervals and paired comparisons.

Images of one patient resemble each other, so 500 images of 100 patients say less than 500 patients
would. The bootstrap here therefore draws whole patients (the cluster bootstrap; Davison and Hinkley
1997, section 3.8) and reads percentiles. It is vectorised: counts are summed for each patient once,
and a matrix of draws times these sums gives the counts of every resample, to which a metric applies
as it does to any other counts.

A percentile bootstrap knows nothing beyond the patients it has: a set without a single error gives
an interval of width 0. For a plain proportion near 0 or 1 use `wilson`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from covid_utils.errors import DataError, ParameterError
from covid_utils.evaluation.metrics import Counts

#: Draws held in memory at a time; a block of 2**20 float64 weights takes 8 MB.
BLOCK = 2**20


class Interval(NamedTuple):
    """A value with its confidence limits.

    Attributes:
        value: The metric on all cases.
        low: Lower limit; NaN where it cannot be told.
        high: Upper limit; NaN where it cannot be told.
        n: Cases (images) that the value rests on. Patients, where they are fewer, are what the
            limits rest on. Value, limits and n are arrays where a metric gives one value a class.
    """

    value: float | np.ndarray
    low: float | np.ndarray
    high: float | np.ndarray
    n: int | np.ndarray


class McNemar(NamedTuple):
    """Two models compared on the same cases.

    Attributes:
        only_a: Cases that only the first model got right.
        only_b: Cases that only the second got right.
        p_value: Two-sided exact probability of a split at least as uneven if both were alike.
    """

    only_a: int
    only_b: int
    p_value: float


#: A metric: from counts, or an array of sums, with resamples on the first axis, to one value each;
#: a dictionary of such values gives a dictionary of intervals.
Statistic = Callable[..., "np.ndarray | dict[str, np.ndarray]"]


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson score interval of a proportion (Wilson 1927), sound close to 0 and 1 too.

    It takes the cases as independent: use it where each is another patient, or say so.

    Args:
        successes: Cases that came out right, 0 to n.
        n: Cases.
        level: Confidence level in (0, 1).

    Raises:
        DataError: There are no cases, or the successes are not between 0 and n.
        ParameterError: The level is not between 0 and 1.
    """
    from scipy.special import ndtri

    _check_level(level)
    if n <= 0 or not 0 <= successes <= n:
        raise DataError(
            f"{successes} of {n}: no proportion; give at least one case and 0 to n successes."
        )
    z2 = float(ndtri(0.5 + level / 2)) ** 2
    share = successes / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # At the ends the formula gives 0 and 1 exactly; rounding would leave 1e-17 beyond.
    low = 0.0 if successes == 0 else float(centre - half)
    high = 1.0 if successes == n else float(centre + half)
    return Interval(share, low, high, int(n))


def bootstrap(
    counts_per_unit: Counts | np.ndarray,
    groups: np.ndarray,
    statistic: Statistic,
    *,
    resamples: int = 2000,
    seed: int = 0,
    strata: np.ndarray | None = None,
    level: float = 0.95,
) -> Interval | dict[str, Interval]:
    """Percentile bootstrap of a metric of pooled counts, drawing whole patients.

    Args:
        counts_per_unit: Counts (units, ...) with one entry an image, or any array of numbers to be
            summed over images, such as `metrics.unit_confusion` (units, K, K).
        groups: Patient of each image (units,).
        statistic: Gets the counts (or the array) with resamples in place of units and returns one
            value for each, or several as a dictionary: `metrics.f1`, `metrics.multiclass_mcc`, or
            `metrics.scores` for all metrics from the same draws.
        resamples: Number of resamples.
        seed: Seed of the draws; the same seed and data give the same limits.
        strata: Stratum of each image (units,), for example its class or data set: patients are
            drawn within it, so that its size stays as it is. None draws from all.
        level: Confidence level in (0, 1).

    Returns:
        The interval, or one a name if the statistic returns a dictionary. Resamples in which the
        metric is undefined are left out of the percentiles. With one patient only (in every
        stratum) nothing can vary, and the limits are NaN rather than a width of 0.

    Raises:
        DataError: No images, lengths that differ, an image without patient, or a patient in two
            strata.
        ParameterError: The level or the number of resamples is out of range.
    """
    _check_level(level)
    table, build = _flatten(counts_per_unit)
    drawn, total = _resample(table, groups, strata, resamples, seed)
    return _intervals(statistic(build(total)), statistic(build(drawn)), level, len(table))


def paired_bootstrap(
    counts_a: Counts | np.ndarray,
    counts_b: Counts | np.ndarray,
    groups: np.ndarray,
    statistic: Statistic,
    *,
    resamples: int = 2000,
    seed: int = 0,
    strata: np.ndarray | None = None,
    level: float = 0.95,
) -> Interval | dict[str, Interval]:
    """Percentile bootstrap of the difference of two models, first minus second, on the same images.

    Both models see the same draws, so what makes an image hard for both cancels out. For the
    difference of two means over images, give `bootstrap_mean` the differences.

    Args:
        counts_a: Counts of the first model, as for `bootstrap`.
        counts_b: Counts of the second model on the same images in the same order.
        groups: Patient of each image (units,).
        statistic: As for `bootstrap`.
        resamples: Number of resamples.
        seed: Seed of the draws.
        strata: As for `bootstrap`.
        level: Confidence level in (0, 1).

    Returns:
        As for `bootstrap`; an interval that holds 0 shows no difference.

    Raises:
        DataError: As for `bootstrap`, or the models' counts differ in shape.
        ParameterError: As for `bootstrap`.
    """
    _check_level(level)
    (table_a, build), (table_b, _) = _flatten(counts_a), _flatten(counts_b)
    if type(counts_a) is not type(counts_b) or counts_a.shape != counts_b.shape:
        raise DataError(
            f"the two models' counts have shapes {counts_a.shape} and {counts_b.shape}; "
            "evaluate both on the same images."
        )
    table, width = np.hstack([table_a, table_b]), table_a.shape[1]
    drawn, total = _resample(table, groups, strata, resamples, seed)

    def difference(sums: np.ndarray) -> np.ndarray | dict[str, np.ndarray]:
        first, second = statistic(build(sums[:, :width])), statistic(build(sums[:, width:]))
        if isinstance(first, dict):
            return {name: first[name] - second[name] for name in first}
        return first - second

    return _intervals(difference(total), difference(drawn), level, len(table))


def bootstrap_mean(
    values_per_unit: np.ndarray,
    groups: np.ndarray,
    *,
    resamples: int = 2000,
    seed: int = 0,
    strata: np.ndarray | None = None,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap of a mean over images, such as the mean Dice an image.

    Args:
        values_per_unit: Values (units, ...); NaN where undefined, left out of sum and number alike.
            For two models on the same images give the differences: the interval is then paired.
        groups: Patient of each image (units,).
        resamples: Number of resamples.
        seed: Seed of the draws.
        strata: As for `bootstrap`.
        level: Confidence level in (0, 1).

    Returns:
        The interval; ``n`` is the number of images that have a value.

    Raises:
        DataError: As for `bootstrap`.
        ParameterError: As for `bootstrap`.
    """
    values = np.asarray(values_per_unit, dtype=np.float64)
    if values.ndim == 0:
        raise DataError("bootstrap: one pooled number cannot be resampled; give one an image.")
    known = ~np.isnan(values)
    sums = np.stack([np.where(known, values, 0.0), known.astype(np.float64)], axis=1)

    def mean(pairs: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return pairs[:, 0] / pairs[:, 1]

    settings = {"resamples": resamples, "seed": seed, "strata": strata, "level": level}
    interval = bootstrap(sums, groups, mean, **settings)
    return interval._replace(n=_plain(known.sum(axis=0)))


def bootstrap_runs(
    values: np.ndarray,
    groups: np.ndarray,
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap of a mean over images and repeated runs, drawing patients and runs.

    Five trainings are five draws of what a training can give. Limits that keep them fixed tell how
    sure the mean of these five is, and not how sure the method is.

    Args:
        values: (units, runs), such as differences between two models trained side by side.
        groups: Patient of each image (units,).
        resamples: Number of resamples.
        seed: Seed of the draws.
        level: Confidence level in (0, 1).

    Returns:
        The interval of the mean over all; ``n`` is the number of images.

    Raises:
        DataError: As for `bootstrap`.
        ParameterError: As for `bootstrap`.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or not values.shape[1]:
        raise DataError(f"bootstrap: values of shape {values.shape}; give (images, runs).")
    runs = values.shape[1]
    rng = np.random.default_rng([seed, 1])

    def mean(sums: np.ndarray) -> np.ndarray:
        each = sums[:, :runs] / sums[:, -1:]
        if len(each) == 1:  # all images, or nothing that could vary
            return each.mean(axis=1)
        return np.take_along_axis(each, rng.integers(runs, size=each.shape), axis=1).mean(axis=1)

    table = np.column_stack([values, np.ones(len(values))])
    return bootstrap(table, groups, mean, resamples=resamples, seed=seed, level=level)


def mcnemar(correct_a: np.ndarray, correct_b: np.ndarray) -> McNemar:
    """McNemar's exact test of two models on the same cases (McNemar 1947; binomial form).

    Only the cases count that one model got right and the other wrong. It takes cases as
    independent: give one a patient, or read it next to `paired_bootstrap`.

    Args:
        correct_a: Whether the first model was right (N,), boolean.
        correct_b: Whether the second was, on the same cases.

    Returns:
        The two counts and the p-value; 1 if the models never differ.

    Raises:
        DataError: No cases, or the lengths differ.
    """
    from scipy.stats import binomtest

    correct_a, correct_b = np.asarray(correct_a, bool), np.asarray(correct_b, bool)
    if correct_a.shape != correct_b.shape or correct_a.size == 0:
        raise DataError(
            f"McNemar: {correct_a.shape} and {correct_b.shape} cases; "
            "give both models' answers to the same cases, at least one."
        )
    only_a = int(np.count_nonzero(correct_a & ~correct_b))
    only_b = int(np.count_nonzero(correct_b & ~correct_a))
    differ = only_a + only_b
    return McNemar(only_a, only_b, float(binomtest(only_a, differ).pvalue) if differ else 1.0)


def _flatten(counts: Counts | np.ndarray) -> tuple[np.ndarray, Callable]:
    """Counts as a table (units, columns), and the way back from sums to counts."""
    if len(np.shape(counts.tp if isinstance(counts, Counts) else counts)) == 0:
        raise DataError("bootstrap: one pooled number cannot be resampled; give one an image.")
    if isinstance(counts, Counts):
        parts = np.stack([counts.tp, counts.fp, counts.fn, counts.tn], axis=1)
    else:
        parts = np.asarray(counts, dtype=np.float64)
    shape = parts.shape[1:]
    table = parts.reshape(len(parts), int(np.prod(shape)))

    def build(sums: np.ndarray) -> Counts | np.ndarray:
        whole = sums.reshape(len(sums), *shape)
        return Counts(*np.moveaxis(whole, 1, 0)) if isinstance(counts, Counts) else whole

    return table, build


def _resample(
    table: np.ndarray,
    groups: np.ndarray,
    strata: np.ndarray | None,
    resamples: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Column sums of every resample (resamples, columns), and of all units (1, columns)."""
    if resamples < 1:
        raise ParameterError(f"resamples: {resamples} is not a number of resamples; use 1 or more.")
    if len(table) == 0:
        raise DataError("bootstrap: no images; check which subset was evaluated.")
    codes = _group_codes(groups, len(table), "patient")
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    per_group = np.add.reduceat(table[order], starts, axis=0)
    members = _strata_members(codes, order[starts], strata)
    total = per_group.sum(axis=0, keepdims=True)
    if max(map(len, members)) == 1:
        return np.full((1, table.shape[1]), np.nan), total
    rng = np.random.default_rng(seed)
    drawn = sum(_draw(per_group[member], resamples, rng) for member in members)
    return drawn, total


def _group_codes(labels: np.ndarray, units: int, role: str) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape != (units,):
        raise DataError(
            f"bootstrap: {units} images but {role} labels of shape {labels.shape}; "
            "give one for each image."
        )
    # Sorted, so that limits do not depend on the order of the rows.
    codes, _ = pd.factorize(labels, sort=True)
    if (codes < 0).any():
        raise DataError(f"bootstrap: an image has no {role}; give each unknown one its own name.")
    return codes


def _strata_members(
    codes: np.ndarray, first_unit: np.ndarray, strata: np.ndarray | None
) -> list[np.ndarray]:
    """Group numbers of each stratum."""
    groups = len(first_unit)
    if strata is None:
        return [np.arange(groups)]
    stratum = _group_codes(strata, len(codes), "stratum")
    of_group = stratum[first_unit]
    torn = np.unique(codes[stratum != of_group[codes]])
    if len(torn):
        raise DataError(
            f"bootstrap: {len(torn)} patients lie in more than one stratum; "
            "stratify by what is the same for all images of a patient."
        )
    return [np.flatnonzero(of_group == value) for value in np.unique(of_group)]


def _draw(sums: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Draw len(sums) groups with replacement, many times, and add up what they hold.

    Counting equal draws gives multinomial weights, at a fraction of the cost of drawing these.
    """
    size = len(sums)
    rows = min(resamples, max(1, BLOCK // size))
    offsets = np.arange(rows, dtype=np.int64)[:, None] * size
    drawn = np.empty((resamples, sums.shape[1]))
    for start in range(0, resamples, rows):
        block = min(rows, resamples - start)
        picks = rng.integers(size, size=(block, size)) + offsets[:block]
        weights = np.bincount(picks.ravel(), minlength=block * size).reshape(block, size)
        drawn[start : start + block] = weights.astype(np.float64) @ sums
    return drawn


def _intervals(
    value: np.ndarray | dict, drawn: np.ndarray | dict, level: float, n: int
) -> Interval | dict[str, Interval]:
    if isinstance(value, dict):
        return {name: _intervals(value[name], drawn[name], level, n) for name in value}
    columns = drawn.reshape(len(drawn), -1)
    limits = np.full((2, columns.shape[1]), np.nan)
    # nanquantile warns where a column has no number at all; that column is NaN, as it should be.
    known = ~np.isnan(columns).all(axis=0)
    if known.any():
        tails = [(1 - level) / 2, (1 + level) / 2]
        limits[:, known] = np.nanquantile(columns[:, known], tails, axis=0)
    low, high = limits.reshape(2, *drawn.shape[1:])
    return Interval(_plain(value[0]), _plain(low), _plain(high), n)


def _plain(value: np.ndarray) -> float | int | np.ndarray:
    """A Python number for a single value, the array itself for several."""
    return np.asarray(value).item() if np.ndim(value) == 0 else np.asarray(value)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ParameterError(f"level: {level} is not between 0 and 1; use 0.95 for 95 %.")
