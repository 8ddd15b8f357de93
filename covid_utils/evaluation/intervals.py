"""Confidence intervals and paired comparisons.

Images of one patient resemble each other, so 500 images of 100 patients say less than 500 patients
would. The bootstrap here therefore draws whole patients (the cluster bootstrap; Davison and Hinkley
1997, section 3.8). It is vectorised: counts are summed for each patient once, and a matrix of draws
times these sums gives the counts of every resample, to which a metric applies as it does to any
other counts.

Plain percentiles are too narrow for few patients, for the same two reasons as a normal interval
that divides by n. The limits are therefore *expanded* percentiles (Hesterberg 2015, The American
Statistician 69, 371-386): further out, by Student's t in place of the normal distribution and
by the root of n / (n - 1). By simulation (``tests/test_intervals.py``) intervals at the 95 % level
hold the true value in 93 to 97 of 100 cases from 40 patients on, in 92 or more with 10 and about 90
with 5, where plain percentiles hold it in 82; F1, a ratio of small counts, only in 66 with 5. BCa
limits were tried too; they hold the pooled Dice, whose distribution has a long tail, less often.

A bootstrap knows nothing beyond the patients it has: a set without a single error gives an interval
of width 0, one with three errors too narrow an interval. For a proportion near 0 or 1 use
`wilson_by_patient`, or `wilson` where each case is another patient.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from covid_utils.errors import DataError, ParameterError
from covid_utils.evaluation.metrics import Counts

#: Resamples of every bootstrap: limits from other seeds then differ by a fiftieth of the width.
RESAMPLES = 10_000
#: Patients of a kind (who err, who are of a class) from whom on their spread can be estimated.
FEWEST = 10
#: Draws held in memory at a time; a block of 2**20 float64 weights takes 8 MB.
BLOCK = 2**20
#: Largest table of weights that is kept for the next metric: 4 MB as uint8.
KEPT = 2**22


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
    _check_level(level)
    if n <= 0 or not 0 <= successes <= n:
        raise DataError(
            f"{successes} of {n}: no proportion; give at least one case and 0 to n successes."
        )
    share = successes / n
    return Interval(share, *_wilson_limits(share, n, level), int(n))


def wilson_by_patient(
    successes: np.ndarray,
    cases: np.ndarray,
    groups: np.ndarray,
    *,
    strata: np.ndarray | None = None,
    level: float = 0.95,
) -> Interval:
    """Wilson score interval of a proportion whose cases belong to patients.

    Wilson's formula with the effective number of cases: as many independent ones as would be as
    unsure as these are (Korn and Graubard 1998; recommended by Franco et al. 2019, Journal of
    Survey Statistics and Methodology 7). How unsure they are is the variance between patients.
    Where all cases or none came out right it cannot be told, and each patient counts as one case.

    Args:
        successes: Cases of each image that came out right (units,).
        cases: Cases of each image (units,), 0 for an image that the proportion is not about.
        groups: Patient of each image (units,).
        strata: As for `bootstrap`.
        level: Confidence level in (0, 1).

    Returns:
        The interval, ``n`` being the cases; limits are NaN if the cases are of one patient and not
        all came out alike, or if there are none.

    Raises:
        DataError: As for `bootstrap`.
        ParameterError: The level is not between 0 and 1.
    """
    _check_level(level)
    table = np.stack([successes, cases], axis=1).astype(np.float64)
    per_patient, members = _per_group(table, groups, strata)
    held = per_patient[:, 1] > 0
    patients, n = int(held.sum()), per_patient[:, 1].sum()
    if not patients:
        return Interval(np.nan, np.nan, np.nan, 0)
    share = float(per_patient[:, 0].sum() / n)
    alike = share in (0, 1)
    if not alike and patients <= len(members):
        return Interval(share, np.nan, np.nan, int(n))
    effective = patients if alike else _effective(per_patient, held, members, level)
    return Interval(share, *_wilson_limits(share, effective, level), int(n))


def _effective(
    per_patient: np.ndarray, held: np.ndarray, members: list[np.ndarray], level: float
) -> float:
    """Independent cases that are as unsure as those of the patients (patients, 2)."""
    share = per_patient[:, 0].sum() / (n := per_patient[:, 1].sum())
    error = per_patient[:, 0] - share * per_patient[:, 1]
    variance = 0.0
    for member in members:
        within = error[member][held[member]]
        if len(within) > 1:
            variance += len(within) * within.var(ddof=1) / n**2
    if variance == 0:  # every patient is as often right as every other
        return float(n)
    degrees = held.sum() - len(members)
    # The variance is an estimate; Student's t tells how sure one can be of it.
    unsure = (_normal(level) / _student(degrees, level)) ** 2
    return float(min(n, share * (1 - share) / variance * unsure))


def _wilson_limits(share: float, n: float, level: float) -> tuple[float, float]:
    z2 = _normal(level) ** 2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # At the ends the formula gives 0 and 1 exactly; rounding would leave 1e-17 beyond.
    low = 0.0 if share == 0 else float(centre - half)
    return low, 1.0 if share == 1 else float(centre + half)


def _normal(level: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(0.5 + level / 2))


def bootstrap(
    counts_per_unit: Counts | np.ndarray,
    groups: np.ndarray,
    statistic: Statistic,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    strata: np.ndarray | None = None,
    level: float = 0.95,
) -> Interval | dict[str, Interval]:
    """Bootstrap of a metric of pooled counts, drawing whole patients.

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
        metric is undefined are left out of the percentiles. These are expanded by the number of
        patients that the metric rests on, which are those without whom it would be another. With
        one patient only (in every stratum) nothing can vary, and the limits are NaN rather than a
        width of 0.

    Raises:
        DataError: No images, lengths that differ, an image without patient, or a patient in two
            strata.
        ParameterError: The level or the number of resamples is out of range.
    """
    _check_level(level)
    table, build = _flatten(counts_per_unit)
    sums = _resample(table, groups, strata, resamples, seed)
    return _intervals(lambda rows: statistic(build(rows)), sums, level, len(table))


def paired_bootstrap(
    counts_a: Counts | np.ndarray,
    counts_b: Counts | np.ndarray,
    groups: np.ndarray,
    statistic: Statistic,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    strata: np.ndarray | None = None,
    level: float = 0.95,
) -> Interval | dict[str, Interval]:
    """Bootstrap of the difference of two models, first minus second, on the same images.

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
    sums = _resample(table, groups, strata, resamples, seed)

    def difference(rows: np.ndarray) -> np.ndarray | dict[str, np.ndarray]:
        first, second = statistic(build(rows[:, :width])), statistic(build(rows[:, width:]))
        if isinstance(first, dict):
            return {name: first[name] - second[name] for name in first}
        return first - second

    return _intervals(difference, sums, level, len(table))


def bootstrap_mean(
    values_per_unit: np.ndarray,
    groups: np.ndarray,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    strata: np.ndarray | None = None,
    level: float = 0.95,
) -> Interval:
    """Bootstrap of a mean over images, such as the mean Dice an image.

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
    resamples: int = RESAMPLES,
    seed: int = 0,
    strata: np.ndarray | None = None,
    level: float = 0.95,
) -> Interval:
    """Bootstrap of a mean over images and repeated runs, drawing patients and runs.

    Five trainings are five draws of what a training can give. Limits that keep them fixed tell how
    sure the mean of these five is, and not how sure the method is. Five runs are too few to expand
    their percentiles: the worst resample is five times the worst run. The plain percentiles are
    scaled instead, by Student's t with the degrees of freedom that patients and runs have together
    (Satterthwaite 1946).

    Args:
        values: (units, runs), such as differences between two models trained side by side.
        groups: Patient of each image (units,).
        resamples: Number of resamples.
        seed: Seed of the draws.
        strata: As for `bootstrap`.
        level: Confidence level in (0, 1).

    Returns:
        The interval of the mean over all; ``n`` is the number of images.

    Raises:
        DataError: As for `bootstrap`.
        ParameterError: As for `bootstrap`.
    """
    _check_level(level)
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or not values.shape[1]:
        raise DataError(f"bootstrap: values of shape {values.shape}; give (images, runs).")
    settings = {"resamples": resamples, "seed": seed, "strata": strata, "level": level}
    if values.shape[1] == 1:
        return bootstrap_mean(values[:, 0], groups, **settings)
    table = np.column_stack([values, np.ones(len(values))])
    sums = _resample(table, groups, strata, resamples, seed)
    total, drawn, left_out = (rows[:, :-1] / rows[:, -1:] for rows in sums[:3])
    if len(drawn) > 1:  # else nothing could vary
        picks = np.random.default_rng([seed, 1]).integers(values.shape[1], size=drawn.shape)
        drawn = np.take_along_axis(drawn, picks, axis=1)
    value = float(total.mean())
    limits = _limits(drawn.mean(axis=1)[:, None], np.array([(1 - level) / 2]))[:, 0]
    wider = _scale_of_two(left_out.mean(axis=1), total[0], sums.strata, level)
    low, high = value + wider * (limits - value)
    return Interval(value, float(low), float(high), len(values))


def class_strata(classes: np.ndarray, groups: np.ndarray) -> np.ndarray | None:
    """Strata for images that were collected class by class.

    How many images of each class a test set holds is then nobody's finding, and should not vary
    between resamples. Where images were collected as they came, classes are no strata.

    Args:
        classes: Number of the class of each image (units,).
        groups: Patient of each image (units,).

    Returns:
        Class of each image's patient (units,), the lowest of its images'; None, for drawing from
        all, if a class has fewer than `FEWEST` patients, of whom too few would be left out.
    """
    classes, codes = np.asarray(classes), _group_codes(groups, len(classes), "patient")
    lowest = np.full(codes.max(initial=-1) + 1, np.iinfo(np.int64).max)
    np.minimum.at(lowest, codes, classes)
    fewest = np.unique(lowest, return_counts=True)[1].min(initial=FEWEST)
    return lowest[codes] if fewest >= FEWEST else None


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


class _Sums(NamedTuple):
    """Sums over images.

    Attributes:
        total: Of all images (1, columns).
        drawn: Of every resample (resamples, columns).
        left_out: Of all images but those of one patient (patients, columns).
        strata: Number of strata that patients were drawn within.
    """

    total: np.ndarray
    drawn: np.ndarray
    left_out: np.ndarray
    strata: int


def _resample(
    table: np.ndarray,
    groups: np.ndarray,
    strata: np.ndarray | None,
    resamples: int,
    seed: int,
) -> _Sums:
    if resamples < 1:
        raise ParameterError(f"resamples: {resamples} is not a number of resamples; use 1 or more.")
    per_group, members = _per_group(table, groups, strata)
    total = per_group.sum(axis=0, keepdims=True)
    left_out = total - per_group
    if max(map(len, members)) == 1:
        return _Sums(total, np.full((1, table.shape[1]), np.nan), left_out, len(members))
    drawn = np.zeros((resamples, table.shape[1]))
    for number, member in enumerate(members):
        _add_draws(drawn, per_group[member], (seed, number))
    return _Sums(total, drawn, left_out, len(members))


def _per_group(
    table: np.ndarray, groups: np.ndarray, strata: np.ndarray | None
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Sums of each patient (patients, columns), and the patients of each stratum."""
    if len(table) == 0:
        raise DataError("bootstrap: no images; check which subset was evaluated.")
    codes = _group_codes(groups, len(table), "patient")
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    per_group = np.add.reduceat(table[order], starts, axis=0)
    return per_group, _strata_members(codes, order[starts], strata)


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


def _add_draws(drawn: np.ndarray, sums: np.ndarray, seed: tuple[int, int]) -> None:
    """Draw len(sums) groups with replacement for every row of ``drawn``, and add what they hold."""
    resamples, size = len(drawn), len(sums)
    if resamples * size <= KEPT:
        weights = _kept_weights(size, resamples, seed)
    rows, rng = max(1, BLOCK // size), np.random.default_rng(seed)
    for start in range(0, resamples, rows):
        block = slice(start, min(start + rows, resamples))
        if resamples * size <= KEPT:
            part = weights[block]
        else:
            part = _weights(size, block.stop - start, rng)
        drawn[block] += part.astype(np.float64) @ sums


@lru_cache(maxsize=12)
def _kept_weights(size: int, resamples: int, seed: tuple[int, int]) -> np.ndarray:
    """How often each group is drawn in each resample, to be shared by all metrics of a table."""
    rng, rows = np.random.default_rng(seed), max(1, BLOCK // size)
    weights = np.empty((resamples, size), np.uint8 if size < 256 else np.uint16)
    for start in range(0, resamples, rows):
        block = slice(start, min(start + rows, resamples))
        weights[block] = _weights(size, block.stop - start, rng)
    weights.setflags(write=False)
    return weights


def _weights(size: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Multinomial weights (resamples, size), int64.

    Counting equal draws gives them at a fraction of the cost of drawing them as such.
    """
    picks = rng.integers(size, size=(resamples, size), dtype=np.uint32)
    offsets = np.arange(resamples, dtype=np.int64)[:, None] * size
    return np.bincount((picks + offsets).ravel(), minlength=resamples * size).reshape(
        resamples, size
    )


def _intervals(
    statistic: Callable, sums: _Sums, level: float, n: int
) -> Interval | dict[str, Interval]:
    value, drawn, left_out = (statistic(rows) for rows in sums[:3])
    if isinstance(value, dict):
        return {
            name: _interval(value[name], drawn[name], left_out[name], sums.strata, level, n)
            for name in value
        }
    return _interval(value, drawn, left_out, sums.strata, level, n)


def _interval(
    value: np.ndarray, drawn: np.ndarray, left_out: np.ndarray, strata: int, level: float, n: int
) -> Interval:
    """Interval of a metric (1, ...) from its resamples and from leaving out each patient."""
    # Who changes nothing when left out tells nothing of the metric: a patient without the lesion.
    same = np.abs(left_out - value) <= 1e-12 * np.abs(value)
    patients = (~same).reshape(len(left_out), -1).sum(axis=0)
    limits = _limits(drawn.reshape(len(drawn), -1), _tail(patients, strata, level))
    low, high = limits.reshape(2, *drawn.shape[1:])
    return Interval(_plain(value[0]), _plain(low), _plain(high), n)


def _tail(patients: np.ndarray, strata: int, level: float) -> np.ndarray:
    """Share of resamples below the lower limit: Hesterberg's expanded percentile."""
    from scipy.special import ndtr

    degrees = np.maximum(patients - strata, 1)
    return ndtr(-np.sqrt(np.maximum(patients, 1) / degrees) * _student(degrees, level))


def _student(degrees: float | np.ndarray, level: float) -> float | np.ndarray:
    from scipy.special import stdtrit

    return stdtrit(degrees, 0.5 + level / 2)


def _scale_of_two(
    without_patient: np.ndarray, of_run: np.ndarray, strata: int, level: float
) -> float:
    """How much too narrow the percentiles of a mean over patients and runs are; 1 is right.

    Args:
        without_patient: Mean without each patient (patients,).
        of_run: Mean of each run (runs,).
        strata: Number of strata of patients.
        level: Confidence level.
    """
    patients, runs = len(without_patient), len(of_run)
    degrees = np.array([max(patients - strata, 1), max(runs - 1, 1)])
    # The variance of the mean that patients make (by the jackknife), and that runs make.
    drawn = np.array([(patients - 1) * without_patient.var(), of_run.var() / runs])
    whole = drawn * np.array([patients, runs]) / degrees
    if not whole.sum() > 0:  # nothing varies
        return 1.0
    joint = whole.sum() ** 2 / (whole**2 / degrees).sum()
    return float(np.sqrt(whole.sum() / drawn.sum()) * _student(joint, level) / _normal(level))


def _limits(drawn: np.ndarray, tails: np.ndarray) -> np.ndarray:
    """Quantiles of each column, its own tail cut off at both ends.

    Args:
        drawn: (resamples, columns), NaN where undefined, which is left out.
        tails: Share to cut off at each end (columns,).

    Returns:
        (2, columns), interpolated linearly; NaN for a column without any number.
    """
    ordered = np.sort(np.ascontiguousarray(drawn.T), axis=1)  # NaN come last
    last = np.maximum((~np.isnan(ordered)).sum(axis=1) - 1, 0)
    at = np.stack([tails, 1 - tails]) * last
    below = np.floor(at).astype(np.int64)
    columns = np.arange(len(ordered))
    low, high = ordered[columns, below], ordered[columns, np.minimum(below + 1, last)]
    return low + (high - low) * (at - below)


def _plain(value: np.ndarray) -> float | int | np.ndarray:
    """A Python number for a single value, the array itself for several."""
    return np.asarray(value).item() if np.ndim(value) == 0 else np.asarray(value)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ParameterError(f"level: {level} is not between 0 and 1; use 0.95 for 95 %.")
