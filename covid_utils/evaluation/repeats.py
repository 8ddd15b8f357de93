"""Scores of several trainings, as means with intervals and as rows of ``scores.csv``; differences.

A score has two sources of chance: which patients are tested, and what a training happens to give
(its weights, batches and, where images are assigned at random, its test images). Both are drawn
with replacement: patients jointly for all trainings, for the same patient is as hard for each, and
trainings on each side of a difference.

Five trainings are too few to expand their percentiles, for the worst resample is five times the
worst training. The plain percentiles are scaled instead, by Student's t with the degrees of freedom
that patients and trainings have together (Satterthwaite 1946). Where each training has other test
images, the spread between trainings holds part of that between patients again, so that limits are
rather too wide (Owen 2007, The Annals of Applied Statistics 1, 386-411).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from covid_utils.evaluation import intervals, metrics
from covid_utils.evaluation.intervals import BELOW, FEWEST, LEVEL, Interval, Z
from covid_utils.evaluation.scoring import row
from covid_utils.registry import SEEN

#: From sums (resamples, trainings, ...) to a value for each (resamples, trainings), or to several.
Statistic = Callable[[np.ndarray], np.ndarray | dict]
#: Of a score, of all images, in the resamples and without each patient: (..., trainings).
Sides = list[list[np.ndarray]]
ONE, OWN = "one training: limits over patients", "each training has test images of its own"


def bootstrap_runs(
    values: np.ndarray, groups: np.ndarray, strata: np.ndarray | None = None
) -> Interval:
    """Bootstrap of a mean over images and trainings.

    ``values`` are (images, trainings), NaN where a training has none of an image.
    """
    if values.shape[1] == 1:
        return intervals.bootstrap_mean(values[:, 0], groups, strata)
    known = ~np.isnan(values)
    table = np.stack([np.where(known, values, 0.0), known], axis=-1)
    return bootstrap(table, groups, quotient, strata)


def quotient(sums: np.ndarray) -> np.ndarray:
    """First of two sums over the second, along the last axis; NaN where that is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums[..., 0] / sums[..., 1]


def bootstrap(
    table: np.ndarray, groups: np.ndarray, statistic: Statistic, strata: np.ndarray | None = None
) -> Interval | dict:
    """Bootstrap of a score of summed numbers, as a mean over the trainings that have it.

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

    ``tables`` (images, trainings, ...) are one for each score; the rest is as in `bootstrap`.
    """
    scored: list[list] = []
    for table in tables:
        *sums, number = intervals.resample(table, groups, strata)
        with np.errstate(invalid="ignore"):
            scored.append([statistic(part) for part in sums])
    if not isinstance(scored[0][0], dict):
        return _combined(scored, weights, number, len(groups))
    combined = {}
    for name in scored[0][0]:
        sides = [[part[name] for part in side] for side in scored]
        combined[name] = _combined(sides, weights, number, len(groups))
    return combined


def share(
    hits: np.ndarray, cases: np.ndarray, groups: np.ndarray, strata: np.ndarray | None = None
) -> Interval:
    """Share of cases that are hits, both (images, trainings), as a mean over trainings.

    Where few patients speak for it or against it, the limits are no narrower than Wilson's by
    patient, for close to 0 or 1 a bootstrap would be too sure.
    """
    found = bootstrap(np.stack([hits, cases], axis=-1), groups, quotient, strata)
    low, high = np.clip(found[1:3], 0, 1)
    right, total = hits.sum(axis=1), cases.sum(axis=1)
    shown = np.stack([right, total - right], axis=1) > 0
    if intervals.fewest_patients(shown, groups) < FEWEST:
        wilson = intervals.wilson_by_patient(right, total, groups, strata)
        low, high = np.fmin(low, wilson.low), np.fmax(high, wilson.high)
    return found._replace(low=float(low), high=float(high))


def _combined(sides: Sides, weights: Sequence[float], strata: int, n: int) -> Interval:
    """Interval of the weighted sum of scores; the trainings without a score are left out of it."""
    sides = [[part[:, ~np.isnan(side[0][0])] for part in side] for side in sides]
    counts = [side[0].shape[1] for side in sides]
    if not min(counts):
        return Interval(np.nan, np.nan, np.nan, n)
    if counts == [1]:
        return intervals.of_resamples(*(part[:, 0] for part in sides[0]), strata, n)
    total, drawn, left_out = 0.0, 0.0, 0.0
    for position, (weight, side) in enumerate(zip(weights, sides, strict=True)):
        total = total + weight * float(side[0].mean())
        drawn = drawn + weight * metrics.macro(_redrawn(side[1], position))
        left_out = left_out + weight * metrics.macro(side[2])
    spread = [weight**2 * side[0].var() for weight, side in zip(weights, sides, strict=True)]
    low, high = intervals.limits(drawn, (1 - LEVEL) / 2)
    scale = _scale(total, left_out, strata, np.array(spread), np.array(counts))
    return Interval(total, *(float(total + scale * (limit - total)) for limit in (low, high)), n)


def _redrawn(drawn: np.ndarray, position: int) -> np.ndarray:
    """Values (resamples, trainings) of trainings that are drawn anew in each resample."""
    if len(drawn) == 1:  # nothing can vary
        return drawn
    picks = np.random.default_rng([position, 1]).integers(drawn.shape[1], size=drawn.shape)
    return np.take_along_axis(drawn, picks, axis=1)


def _scale(
    value: float, left_out: np.ndarray, strata: int, spread: np.ndarray, counts: np.ndarray
) -> float:
    """By how much the percentiles of a mean over patients and trainings are too narrow.

    ``spread`` is the variance between the trainings of each side, ``counts`` their number.
    """
    left_out = left_out[~np.isnan(left_out)]
    # A patient whose omission changes nothing, such as one without the lesion, tells nothing.
    patients = np.count_nonzero(~(np.abs(left_out - value) < 1e-12 * np.abs(value)))
    number = np.array([max(patients, 1), *counts])
    degrees = np.maximum(number - [strata, *np.ones_like(counts)], 1)
    # The variance of the value that is due to patients (by the jackknife), and to trainings.
    by_patients = (len(left_out) - 1) * left_out.var() if len(left_out) else 0.0
    drawn = np.array([by_patients, *(spread / counts)])
    whole = drawn * number / degrees
    if not whole.sum() > 0:  # nothing varies
        return 1.0
    joint = whole.sum() ** 2 / (whole**2 / degrees).sum()
    return float(np.sqrt(whole.sum() / drawn.sum()) * stdtrit(joint, BELOW) / Z)


class Trainings(NamedTuple):
    """Numbers of what several trainings tested."""

    table: np.ndarray  # float (images, trainings, ...), 0 where a training does not test an image
    images: pd.DataFrame  # the first row of each image, by name
    numbers: np.ndarray  # of the trainings (trainings,)

    @property
    def groups(self) -> np.ndarray:
        """Patient of each image (images,)."""
        return self.images["patient_id"].to_numpy()


def by_training(
    part: pd.DataFrame, values: np.ndarray, images: pd.DataFrame | None = None
) -> Trainings:
    """Numbers (rows, ...) of predictions, a row per ``image_id`` and ``repeat``.

    ``images`` are those of the table, by name, if not all that are among the predictions.
    """
    images = images_of(part) if images is None else images
    training, numbers = pd.factorize(part["repeat"], sort=True)
    table = np.zeros((len(images), len(numbers), *values.shape[1:]))
    table[images.index.get_indexer(part["image_id"]), training] = values
    return Trainings(table, images, np.asarray(numbers))


def images_of(part: pd.DataFrame) -> pd.DataFrame:
    """The first row of each image, by name and in the order of names."""
    return part.drop_duplicates("image_id").set_index("image_id", drop=False).sort_index()


def rows(
    keys: dict,
    each: np.ndarray,
    counted: np.ndarray,
    of: Trainings,
    limits: Sequence[float] = (np.nan, np.nan),
    note: str = "",
) -> Iterator[dict]:
    """Rows of a score: the value of each training, and their mean with its limits.

    Args:
        keys: What all rows share.
        each: Values (trainings,), NaN of a training that has none.
        counted: Images that each value is of, bool (images, trainings).
        of: What was tested.
        limits: Of the mean.
        note: What else must be known of the mean.
    """
    for number, value, has in zip(of.numbers, each, counted.T, strict=True):
        patients = len(np.unique(of.groups[has]))
        yield keys | {"repeat": number, "value": value, "n": int(has.sum()), "patients": patients}
    known = each[~np.isnan(each)]
    mean = Interval(float(known.mean()) if len(known) else np.nan, *limits, 0)
    n = round(counted[:, ~np.isnan(each)].sum() / max(len(known), 1))
    own = row(keys["class"], keys["metric"], mean._replace(n=n), of.groups[counted.any(axis=1)])
    few = ONE if len(each) == 1 and np.isfinite(mean.low) else ""
    differs = (counted.any(axis=1) & ~counted.all(axis=1)).any()
    notes = (note, few or _spread(each, keys["metric"]), OWN if differs else "")
    yield own | keys | {"repeat": 0, "note": "; ".join(filter(None, notes))}


def _spread(each: np.ndarray, metric: str) -> str:
    """How many trainings have a score, and the lowest and highest of them."""
    known = each[~np.isnan(each)]
    if len(each) == 1:
        return ""
    has = f"{len(known)} of {len(each)}" if len(known) < len(each) else f"{len(each)}"
    if not len(known):
        return f"{has} trainings"
    factor, form, unit = (1, ".3f", "") if metric in ("dice", "iou") else (100, ".1f", " %")
    low, high = factor * known.min(), factor * known.max()
    return f"{has} trainings, {low:{form}} to {high:{form}}{unit}"


def seen(part: pd.DataFrame, keys: dict) -> Iterator[dict]:
    """Share of a training's test images whose original, or patient, its training images show."""
    for column in [name for name in SEEN if name in part]:
        values = np.stack([part[column], np.ones(len(part))], axis=1).astype(float)
        tested = by_training(part, values)
        each = quotient(tested.table.sum(axis=0))
        own = keys | {"class": "all", "metric": column.replace("_", " ")}
        yield from rows(own, each, tested.table[..., 1] > 0, tested)
