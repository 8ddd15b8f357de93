"""Bootstrap of scores over whole patients, and over trainings where there are several.

Images of one patient resemble each other, so whole patients are drawn (the cluster bootstrap;
Davison and Hinkley 1997, section 3.8). Plain percentiles are too narrow for few patients; the
limits are *expanded* percentiles (Hesterberg 2015, The American Statistician 69, 371-386), as from
`scipy.stats.bootstrap` at that level. In simulations they hold the true value in 93 to 97 of 100
cases from 40 patients on and in 92 or more with 10.

A mean over several trainings has a second source of variation, the training itself. Trainings are
resampled too, separately on each side of a difference; patients are resampled jointly, because a
difficult patient is difficult for every training. Five trainings are too few to expand percentiles,
since the most extreme resample merely repeats the worst training. Instead, the plain percentiles
are scaled by Student's t with the degrees of freedom that patients and trainings have together
(Satterthwaite 1946). Where trainings have different test images, the spread between trainings
includes part of that between patients a second time, and limits are rather too wide (Owen 2007, The
Annals of Applied Statistics 1, 386-411).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from scipy.special import ndtr, stdtrit

from covid_utils.evaluation import metrics
from covid_utils.evaluation.intervals import BELOW, LEVEL, Interval, Z, sum_by_patient

#: Resamples of every bootstrap: with other draws, limits move by a fiftieth of the width.
RESAMPLES = 10_000
#: Draws per block, which limits memory.
BLOCK = 2**20
#: From sums (resamples, trainings, ...) to a value for each (resamples, trainings), or to several.
Statistic = Callable[[np.ndarray], np.ndarray | dict]


def score(
    table: np.ndarray, groups: np.ndarray, statistic: Statistic, strata: np.ndarray | None = None
) -> Interval | dict:
    """Bootstrap of a score of summed numbers, as a mean over the trainings that have it.

    Resamples in which the score is undefined are left out. With a single patient (in every stratum)
    the limits are NaN.

    Args:
        table: Numbers to be summed over images (images, trainings, ...), 0 where a training does
            not test an image.
        groups: Patient of each image (images,).
        statistic: The score, or several as a dictionary, all from the same draws.
        strata: Stratum of each image (images,): patients are drawn within it.
    """
    return contrast([table], [1.0], groups, statistic, strata)


def contrast(
    tables: Sequence[np.ndarray],
    weights: Sequence[float],
    groups: np.ndarray,
    statistic: Statistic,
    strata: np.ndarray | None = None,
) -> Interval | dict:
    """Bootstrap of a weighted sum of scores on the same images, such as a difference: 1 and -1.

    ``tables`` (images, trainings, ...) are one for each score; the rest is as in `score`.
    """
    scored: list[list] = []
    for table in tables:
        sums = _resample(table, groups, strata)
        with np.errstate(invalid="ignore"):
            scored.append([statistic(part) for part in sums])
    stratum_count = 1 if strata is None else len(np.unique(strata))
    if not isinstance(scored[0][0], dict):
        return _combined(scored, weights, stratum_count, len(groups))
    limited = {}
    for name in scored[0][0]:
        sides = [[part[name] for part in side] for side in scored]
        limited[name] = _combined(sides, weights, stratum_count, len(groups))
    return limited


def counted(values: np.ndarray) -> np.ndarray:
    """Numbers whose sums give the mean of the known values (..., 2), see `quotient`."""
    known = ~np.isnan(values)
    return np.stack([np.where(known, values, 0.0), known], axis=-1)


def quotient(sums: np.ndarray) -> np.ndarray:
    """First of two sums over the second, along the last axis; NaN where that is 0."""
    return metrics.ratio(sums[..., 0], sums[..., 1])


def mean(values: np.ndarray, groups: np.ndarray, strata: np.ndarray | None = None) -> Interval:
    """Bootstrap of a mean over images, and trainings if ``values`` are (images, trainings).

    NaN stands where there is no value; ``n`` is the number of images with one.
    """
    table = counted(values.reshape(len(values), -1))
    n = int(table[..., 1].any(axis=1).sum())
    return score(table, groups, quotient, strata)._replace(n=n)


def means(values: dict, groups: np.ndarray) -> dict:
    """`mean` of several values of each image (images,), by name, all from the same draws."""
    table = counted(np.stack([*values.values()], axis=1))[:, None]

    def quotients(sums: np.ndarray) -> dict:
        return dict(zip(values, np.moveaxis(quotient(sums), -1, 0), strict=True))

    limited = score(table, groups, quotients)
    return {name: limited[name]._replace(n=int((~np.isnan(values[name])).sum())) for name in values}


def _combined(sides: list[list], weights: Sequence[float], stratum_count: int, n: int) -> Interval:
    """Interval of a weighted sum of scores, one for each side.

    Each side holds the score on all images, in every resample, and with each patient left out.
    Trainings without a score are ignored.
    """
    sides = [[part[:, ~np.isnan(side[0][0])] for part in side] for side in sides]
    counts = np.array([side[0].shape[1] for side in sides])
    if not counts.min():
        return Interval(np.nan, np.nan, np.nan, n)
    if counts.tolist() == [1]:
        return _expanded(*(part[:, 0] for part in sides[0]), stratum_count, n)
    total, drawn, left_out = 0.0, 0.0, 0.0
    for position, (weight, side) in enumerate(zip(weights, sides, strict=True)):
        picks = np.random.default_rng([position, 1]).integers(counts[position], size=side[1].shape)
        again = np.take_along_axis(side[1], picks, axis=1)
        total = total + weight * float(side[0].mean())
        drawn = drawn + weight * metrics.macro(again)
        left_out = left_out + weight * metrics.macro(side[2])
    spread = [weight**2 * side[0].var() for weight, side in zip(weights, sides, strict=True)]
    low, high = _cut(drawn, (1 - LEVEL) / 2)
    scale = _scale(total, left_out, stratum_count, np.array(spread), counts)
    return Interval(total, *(float(total + scale * (limit - total)) for limit in (low, high)), n)


def _expanded(
    value: np.ndarray, drawn: np.ndarray, left_out: np.ndarray, stratum_count: int, n: int
) -> Interval:
    """Interval of one training's score (1,), with percentiles expanded for few patients."""
    patients = _changing(value, left_out)
    degrees = max(patients - stratum_count, 1)
    tail = ndtr(-np.sqrt(max(patients, 1) / degrees) * stdtrit(degrees, BELOW))
    return Interval(value[0], *_cut(drawn, tail), n)


def _changing(value: np.ndarray | float, left_out: np.ndarray) -> int:
    """Patients whose omission changes a score; one without the lesion, for example, does not."""
    return np.count_nonzero(~(np.abs(left_out - value) <= 1e-12 * np.abs(value)))


def _cut(drawn: np.ndarray, tail: float) -> np.ndarray:
    """The two quantiles that cut off a tail at each end, undefined resamples left out."""
    known = drawn[~np.isnan(drawn)]
    return np.quantile(known, [tail, 1 - tail]) if len(known) else np.full(2, np.nan)


def _scale(
    value: float, left_out: np.ndarray, stratum_count: int, spread: np.ndarray, counts: np.ndarray
) -> float:
    """By how much the percentiles of a mean over patients and trainings are too narrow.

    ``spread`` is the variance between the trainings of each side, ``counts`` their number.
    """
    left_out = left_out[~np.isnan(left_out)]
    number = np.array([max(_changing(value, left_out), 1), *counts])
    degrees = np.maximum(number - [stratum_count, *np.ones_like(counts)], 1)
    # The variance of the value that is due to patients (by the jackknife), and to trainings.
    by_patients = (len(left_out) - 1) * left_out.var() if len(left_out) else 0.0
    drawn = np.array([by_patients, *(spread / counts)])
    whole = drawn * number / degrees
    if not whole.sum() > 0:  # nothing varies
        return 1.0
    joint = whole.sum() ** 2 / (whole**2 / degrees).sum()
    return float(np.sqrt(whole.sum() / drawn.sum()) * stdtrit(joint, BELOW) / Z)


def _resample(
    table: np.ndarray, groups: np.ndarray, strata: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums over all images (1, ...), in every resample of the patients, and without each patient.

    If each stratum has one patient, so that nothing can vary, there is a single resample of NaN.
    """
    per_patient, members = sum_by_patient(table, groups, strata)
    total = per_patient.sum(axis=0, keepdims=True)
    if max(map(len, members)) == 1:
        return total, np.full_like(total, np.nan), total - per_patient
    flat = per_patient.reshape(len(per_patient), -1)
    drawn = np.zeros((RESAMPLES, flat.shape[1]))
    for stratum, member in enumerate(members):
        blocks = _weights(len(member), RESAMPLES, stratum)
        drawn += np.concatenate([each.astype(float) @ flat[member] for each in blocks])
    return total, drawn.reshape(RESAMPLES, *table.shape[1:]), total - per_patient


@lru_cache(maxsize=12)  # the next metric has the same draws
def _weights(size: int, resamples: int, stratum: int) -> list[np.ndarray]:
    """How often each patient is drawn, in blocks (rows, size) of the resamples.

    Counting equal draws gives these multinomial weights at a fifth of the cost of drawing them.
    """
    rng, step, blocks = np.random.default_rng([0, stratum]), max(1, BLOCK // size), []
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        picks = rng.integers(size, size=(rows, size), dtype=np.uint32)
        cells = picks + np.arange(rows, dtype=np.int64)[:, None] * size
        weights = np.bincount(cells.ravel(), minlength=rows * size).reshape(rows, size)
        blocks.append(weights.astype(np.uint8 if size < 256 else np.uint16))
    return blocks
