"""Three specialists put together into one label map, to answer the all-class stream's question."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from covid_utils.evaluation.calibration import fit_sigmoid

#: Pixels of each kind, at most, that a calibration is fitted on.
PIXELS = 20_000
#: Probabilities are stored in 256 steps; the ends are no certainty.
EDGE = 1 / 512


class Calibration(NamedTuple):
    """Platt's logistic calibration of one specialist (Platt 1999): slope x logit + offset."""

    slope: float = 1.0
    offset: float = 0.0
    is_fitted: bool = False  # else it changes nothing: validation lacked the manifestation

    def __call__(self, probability: np.ndarray) -> np.ndarray:
        """Calibrated probability in (0, 1) of a stored one, uint8."""
        return 1 / (1 + np.exp(-(self.slope * _logit(probability) + self.offset)))


def _logit(probability: np.ndarray) -> np.ndarray:
    share = np.clip(probability.astype(np.float32) / 255, EDGE, 1 - EDGE)
    return np.log(share / (1 - share))


def calibrate(truth: np.ndarray, probability: np.ndarray, seed: int = 0) -> Calibration:
    """Fit one specialist's calibration on validation slices, if it does not reverse the order.

    ``truth`` says whether a pixel shows the manifestation, bool (n, size, size); ``probability`` is
    the specialist's, uint8 of the same shape, 255 is certain.
    """
    flat, rng = truth.ravel(), np.random.default_rng(seed)
    chosen, weights = [], []
    for value in (False, True):
        there = np.flatnonzero(flat == value)
        taken = rng.choice(there, min(PIXELS, len(there)), replace=False)
        chosen.append(taken)
        weights.append(np.full(len(taken), len(there) / max(1, len(taken))))
    pixels = np.concatenate(chosen)
    logits = _logit(probability.ravel()[pixels])
    fitted = fit_sigmoid(logits, flat[pixels], np.concatenate(weights))
    return Calibration(*fitted, True) if fitted else Calibration()


def fuse(probability: dict[int, np.ndarray], threshold: float) -> np.ndarray:
    """One map of uint8 labels: in each pixel the label of the highest calibrated probability.

    A pixel whose highest probability is below the threshold is background.
    """
    labels = np.array([*probability], np.uint8)
    stacked = np.stack([*probability.values()])
    winner = np.where(stacked.max(axis=0) >= threshold, labels[stacked.argmax(axis=0)], 0)
    return winner.astype(np.uint8)
