"""Drawing whole patients: sums over images, in every resample of the patients."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import sparse

from covid_utils.errors import DataError

#: Resamples of every bootstrap: limits from other draws then differ by a fiftieth of the width.
RESAMPLES = 10_000
#: Draws in memory at a time, and draws that are kept for the next metric.
BLOCK, KEPT = 2**20, 2**22


def resample(
    table: np.ndarray, groups: np.ndarray, strata: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Resample patients, with replacement and within strata, for sums of numbers (images, ...).

    Returns:
        Sums over all images (1, ...), of every resample (resamples, ...; one of NaN if each stratum
        has a single patient, so that nothing can vary), over all but each patient (patients, ...);
        and the number of strata.
    """
    per_patient, members = sum_by_patient(table, groups, strata)
    total = per_patient.sum(axis=0, keepdims=True)
    drawn = np.full_like(total, np.nan)
    if max(map(len, members)) > 1:
        flat = per_patient.reshape(len(per_patient), -1)
        draws = (_draw(flat[member], stratum) for stratum, member in enumerate(members))
        drawn = sum(draws).reshape(RESAMPLES, *table.shape[1:])
    return total, drawn, total - per_patient, len(members)


def sum_by_patient(
    table: np.ndarray, groups: np.ndarray, strata: np.ndarray | None
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Sums of each patient (patients, ...), and the row numbers of each stratum's patients."""
    if len(table) == 0:
        raise DataError("bootstrap: no images; check which subset was evaluated.")
    # Sorted, so that limits do not depend on the order of the rows.
    codes = pd.factorize(np.asarray(groups), sort=True)[0]
    if len(codes) != len(table) or (codes < 0).any():
        raise DataError("bootstrap: give one patient for each image, each unknown one of its own.")
    of_patient = sparse.csr_array((np.ones(len(table)), (codes, np.arange(len(table)))))
    sums = (of_patient @ table.reshape(len(table), -1)).reshape(-1, *table.shape[1:])
    strata = np.zeros(len(table)) if strata is None else strata
    return sums, [np.unique(codes[strata == stratum]) for stratum in np.unique(strata)]


def _draw(per_patient: np.ndarray, stratum: int) -> np.ndarray:
    """Sums (resamples, columns) of as many patients as there are, drawn with replacement."""
    size = len(per_patient)
    blocks = _kept_weights if size * RESAMPLES <= KEPT else _weights
    parts = [part.astype(np.float64) @ per_patient for part in blocks(size, RESAMPLES, stratum)]
    return np.concatenate(parts)


@lru_cache(maxsize=12)
def _kept_weights(size: int, resamples: int, stratum: int) -> list[np.ndarray]:
    return [*_weights(size, resamples, stratum)]


def _weights(size: int, resamples: int, stratum: int) -> Iterator[np.ndarray]:
    """How often each patient is drawn, in blocks (rows, size) of the resamples.

    Counting equal draws gives these multinomial weights at a fifth of the cost of drawing them.
    """
    rng, step = np.random.default_rng([0, stratum]), max(1, BLOCK // size)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        picks = rng.integers(size, size=(rows, size), dtype=np.uint32)
        cells = picks + np.arange(rows, dtype=np.int64)[:, None] * size
        weights = np.bincount(cells.ravel(), minlength=rows * size).reshape(rows, size)
        yield weights.astype(np.uint8 if size < 256 else np.uint16)
