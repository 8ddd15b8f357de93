"""Does a probability mean what it says? Reliability, calibration error and temperature scaling.

A classifier that says 0.9 should be right nine times in ten. Everything here works on the
probabilities of a predictions file, so it applies to any model that wrote one.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from covid_utils.errors import DataError
from covid_utils.evaluation import intervals

BINS = 10
#: Smallest probability whose logarithm is taken: float32 underflows below.
LEAST = 1e-12
#: Temperatures that are looked through: from ten times as sure to ten times as unsure.
RANGE = (0.1, 10.0)


def confidence(probabilities: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probability of the class that is named, and whether it is the true one.

    Args:
        probabilities: (n, classes), rows that sum to 1.
        truth: int (n,), the true class.

    Raises:
        DataError: A row is no set of probabilities, or the lengths differ.
    """
    probabilities, truth = np.asarray(probabilities, np.float64), np.asarray(truth)
    if probabilities.ndim != 2 or len(truth) != len(probabilities):
        raise DataError(
            f"calibration: probabilities {probabilities.shape} and {len(truth)} truths; "
            "give one row of class probabilities for each case."
        )
    if (probabilities < 0).any() or not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
        raise DataError("calibration: a case's probabilities are negative or do not sum to 1.")
    if len(truth) and not 0 <= truth.min() <= truth.max() < probabilities.shape[1]:
        raise DataError(f"calibration: a truth is none of the {probabilities.shape[1]} classes.")
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == truth


def _bin(sure: np.ndarray, bins: int) -> np.ndarray:
    """Number of the bin of each confidence; a bin holds its upper edge."""
    # Rounded, because 0.07 x 100 is a little above 7.
    return np.clip(np.ceil(np.round(sure * bins, 9)).astype(int) - 1, 0, bins - 1)


def reliability(probabilities: np.ndarray, truth: np.ndarray, bins: int = BINS) -> pd.DataFrame:
    """Reliability diagram (DeGroot and Fienberg 1983) as a table.

    Args:
        probabilities: (n, classes).
        truth: int (n,).
        bins: Number of bins of equal width.

    Returns:
        A row a bin that holds a case: ``low, high`` (its edges), ``n``, ``confidence`` (mean),
        ``accuracy``, and Wilson's limits of the accuracy, ``accuracy_low`` and ``accuracy_high``.
    """
    sure, right = confidence(probabilities, truth)
    at = _bin(sure, bins)
    rows = []
    for index in np.unique(at):
        here = at == index
        found = intervals.wilson(int(right[here].sum()), int(here.sum()))
        edges = {"low": index / bins, "high": (index + 1) / bins, "n": found.n}
        limits = {"accuracy_low": found.low, "accuracy_high": found.high}
        rows.append(edges | {"confidence": sure[here].mean(), "accuracy": found.value} | limits)
    return pd.DataFrame(rows)


def scores(
    probabilities: np.ndarray,
    truth: np.ndarray,
    groups: np.ndarray,
    bins: int = BINS,
    seed: int = 0,
) -> dict[str, intervals.Interval]:
    """Calibration of a model, with intervals from a bootstrap of whole patients within classes.

    Args:
        probabilities: (n, classes).
        truth: int (n,).
        groups: Patient of each case (n,).
        bins: Of the calibration error.
        seed: Of the bootstrap.

    Returns:
        ``ece``: expected calibration error (Naeini et al. 2015), the mean distance between
        confidence and accuracy over bins, in [0, 1]. It is never below 0 and so leans upwards, the
        more the fewer cases there are; resamples lean further, so it has no limits (NaN).
        ``brier``: squared distance to the truth, in [0, 2]. ``nll``: mean negative logarithm of the
        probability of the true class.
    """
    probabilities, truth = np.asarray(probabilities, np.float64), np.asarray(truth)
    sure, right = confidence(probabilities, truth)
    at, cases = _bin(sure, bins), np.arange(len(truth))
    table = np.zeros((len(truth), 2 * bins + 3))
    # What is summed over cases: in each bin the confidence minus the hits; squares; logarithms.
    table[cases, at] = sure - right
    wanted = np.eye(probabilities.shape[1])[truth]
    table[:, -3] = ((probabilities - wanted) ** 2).sum(axis=1)
    table[:, -2] = -np.log(np.maximum(probabilities[cases, truth], LEAST))
    table[:, -1] = 1

    def statistic(sums: np.ndarray) -> dict[str, np.ndarray]:
        total = sums[:, -1]
        gap = np.abs(sums[:, :bins]).sum(axis=1)
        return {"ece": gap / total, "brier": sums[:, -3] / total, "nll": sums[:, -2] / total}

    strata = intervals.class_strata(truth, groups)
    found = intervals.bootstrap(table, groups, statistic, seed=seed, strata=strata)
    return found | {"ece": found["ece"]._replace(low=np.nan, high=np.nan)}


def fit_temperature(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Temperature that makes the probabilities fit best (Guo et al. 2017, section 4.2).

    Args:
        probabilities: (n, classes) of validation cases, never of the test.
        truth: int (n,).

    Returns:
        Temperature in `RANGE`: above 1 where the model is too sure of itself.

    Raises:
        DataError: There are no cases.
    """
    from scipy.optimize import minimize_scalar

    if not len(truth):
        raise DataError("temperature: no validation case to fit it on.")

    def loss(log_temperature: float) -> float:
        scaled = apply_temperature(probabilities, float(np.exp(log_temperature)))
        return float(-np.log(np.maximum(scaled[np.arange(len(truth)), truth], LEAST)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=np.log(RANGE), method="bounded").x))


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities at another temperature; which class is the most probable stays.

    A softmax's logits are the logarithms of its output up to a constant that cancels, so no logits
    need to be kept.

    Args:
        probabilities: (n, classes).
        temperature: Above 1 softer, below 1 harder.
    """
    logits = np.log(np.maximum(np.asarray(probabilities, np.float64), LEAST)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
