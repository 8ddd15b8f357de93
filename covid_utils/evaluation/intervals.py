"""95 % confidence intervals from formulas, paired comparisons, and who is drawn with whom."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.special import ndtri, stdtrit
from scipy.stats import binomtest

from covid_utils.errors import DataError

LEVEL = 0.95
#: Probability below the upper limit, and its standard normal quantile.
BELOW = 0.5 + LEVEL / 2
Z = float(ndtri(BELOW))
#: Patients of a kind (with errors, of a class) from whom on their spread can be estimated.
FEWEST = 10
#: Patients (or slices, where patients are unknown) that must show a class before its segmentation
#: gets an interval, and that must show a label, and lack it, before its ranking gets one.
FEWEST_WITH_CLASS = 3


class Interval(NamedTuple):
    """A value of n images with its limits (NaN: none can be told); arrays for several classes."""

    value: float | np.ndarray
    low: float | np.ndarray
    high: float | np.ndarray
    n: int

    @property
    def limits(self) -> np.ndarray:
        """The lower and the upper limit."""
        return np.array([self.low, self.high])

    def without_limits(self) -> Interval:
        """The same value, of which no limits can be told."""
        return self._replace(low=np.nan, high=np.nan)


def wilson(successes: int, n: int) -> Interval:
    """Wilson score interval (1927) of a proportion; it takes the cases as independent."""
    limits = binomtest(successes, n).proportion_ci(LEVEL, method="wilson")
    return Interval(successes / n, float(limits.low), float(limits.high), n)


def wilson_by_patient(
    successes: np.ndarray, cases: np.ndarray, groups: np.ndarray, strata: np.ndarray | None = None
) -> Interval:
    """Wilson score interval of a proportion whose cases, numbers per image, belong to patients.

    Wilson's formula with the number of independent cases that would be as uncertain as these are
    (Korn and Graubard 1998; Franco et al. 2019), from the variance between patients. Where all
    cases or none are successes, each patient counts as one. The limits are NaN without cases, or if
    those of a single patient differ.
    """
    per_patient, members = sum_by_patient(np.stack([successes, cases], axis=1), groups, strata)
    hits, n = per_patient.sum(axis=0)
    if not n:
        return Interval(np.nan, np.nan, np.nan, 0)
    share, has_cases = float(hits / n), per_patient[:, 1] > 0
    patients = int(has_cases.sum())
    if share in (0, 1):
        return wilson(int(share) * patients, patients)._replace(n=int(n))
    if patients <= len(members):
        return Interval(share, np.nan, np.nan, int(n))
    error = per_patient[:, 0] - share * per_patient[:, 1]
    parts = [error[member][has_cases[member]] for member in members]
    variance = sum(len(part) * part.var(ddof=1) for part in parts if len(part) > 1) / n**2
    m = n
    if variance > 0:  # an estimate; Student's t accounts for its own uncertainty
        factor = (Z / stdtrit(patients - len(members), BELOW)) ** 2
        m = min(n, share * (1 - share) / variance * factor)
    centre, half = share + Z**2 / (2 * m), Z * np.sqrt((share * (1 - share) + Z**2 / (4 * m)) / m)
    low, high = (centre + np.array([-half, half])) / (1 + Z**2 / m)
    return Interval(share, float(low), float(high), int(n))


def cautious(
    interval: Interval,
    hits: np.ndarray,
    cases: np.ndarray,
    groups: np.ndarray,
    strata: np.ndarray | None = None,
    widens: bool = False,
) -> Interval:
    """A bootstrap's interval of a share of hits among cases, both (images,).

    Close to 0 or 1 a bootstrap would be too sure: where few patients support the share, or
    contradict it, limits are Wilson's by patient, or if that only ``widens``, no narrower.
    """
    if fewest_patients(np.stack([hits, cases - hits], axis=1) > 0, groups) >= FEWEST:
        return interval
    _, low, high, _ = wilson_by_patient(hits, cases, groups, strata)
    if widens:
        low, high = np.fmin(interval.low, low), np.fmax(interval.high, high)
    return interval._replace(low=low, high=high)


def difference(ours: Interval, paper: Interval) -> Interval:
    """Interval of ``ours`` minus ``paper``, two values of different cases, from those of each.

    The method of variance estimates recovery, MOVER (Zou and Donner 2008, Statistics in Medicine
    27, 1693-1702); a value that is known exactly has limits equal to itself. ``n`` is that of ours.
    """
    (value, low, high, n), (other, lowest, highest, _) = ours, paper
    below, above = np.hypot(value - low, highest - other), np.hypot(high - value, other - lowest)
    gap = value - other
    return Interval(gap, gap - below, gap + above, n)


def class_strata(classes: np.ndarray, groups: np.ndarray) -> np.ndarray | None:
    """Strata (images,) for images that were collected class by class.

    The stratum of a patient is the lowest class number of its images. None, for drawing from all,
    if a class has fewer than `FEWEST` patients.
    """
    lowest = pd.Series(classes).groupby(np.asarray(groups)).transform("min").to_numpy()
    fewest = pd.Series(groups).groupby(lowest).nunique().min()
    return lowest if fewest >= FEWEST else None


def fewest_patients(shown: np.ndarray, groups: np.ndarray) -> int:
    """Patients that show the rarest of several kinds; ``shown`` is bool (images, kinds)."""
    return min(len(np.unique(groups[kind])) for kind in shown.T)


def mcnemar(correct_a: np.ndarray, correct_b: np.ndarray) -> tuple[int, int, float]:
    """McNemar's exact test (1947): cases that only one of two models got right, and the p-value."""
    only_a = int(np.count_nonzero(correct_a & ~correct_b))
    only_b = int(np.count_nonzero(correct_b & ~correct_a))
    differ = only_a + only_b
    return only_a, only_b, float(binomtest(only_a, differ).pvalue) if differ else 1.0


def sum_by_patient(
    table: np.ndarray, groups: np.ndarray, strata: np.ndarray | None
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Sums of each patient (patients, ...), and the row numbers of each stratum's patients."""
    if len(table) == 0:
        raise DataError("bootstrap: no images; check which subset was evaluated.")
    # Sorted, so that limits do not depend on the order of the rows.
    codes = pd.factorize(np.asarray(groups), sort=True)[0]
    of_patient = sparse.csr_array((np.ones(len(table)), (codes, np.arange(len(table)))))
    sums = (of_patient @ table.reshape(len(table), -1)).reshape(-1, *table.shape[1:])
    strata = np.zeros(len(table)) if strata is None else strata
    return sums, [np.unique(codes[strata == stratum]) for stratum in np.unique(strata)]
