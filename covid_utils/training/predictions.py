"""Predictions as tables: from here on no score needs a model again."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from covid_utils.registry import PREDICTION_KEYS

#: Calls that a time is the median of.
CALLS = 20


def class_table(rows: pd.DataFrame, answers: np.ndarray, names: tuple[str, ...]) -> pd.DataFrame:
    """Predictions of one class per image, of manifest rows with ``target``.

    Args:
        rows: Manifest rows.
        answers: Probabilities (n, classes), or classes (n,) of a model that gives none.
        names: Class names in order.

    Returns:
        `PREDICTION_KEYS`, ``truth`` and ``predicted`` (names), and ``p_<class>`` if known.
    """
    order = np.array(names, dtype=object)
    predicted = answers if answers.ndim == 1 else answers.argmax(axis=1)
    table = rows[list(PREDICTION_KEYS)].assign(
        truth=order[rows["target"].to_numpy()], predicted=order[predicted]
    )
    shares = [] if answers.ndim == 1 else answers.T.astype(np.float32)
    return table.assign(**{f"p_{name}": share for name, share in zip(names, shares, strict=False)})


def label_table(
    rows: pd.DataFrame, truth: np.ndarray, probabilities: np.ndarray, names: tuple[str, ...]
) -> pd.DataFrame:
    """Predictions of several labels per image, arrays (n, labels): ``truth_<label>, p_<label>``."""
    table = rows[list(PREDICTION_KEYS)].copy()
    for index, name in enumerate(names):
        table[f"truth_{name}"] = truth[:, index].astype(bool)
        table[f"p_{name}"] = probabilities[:, index].astype(np.float32)
    return table


def time_per_item(one: Callable[[int], object], items: int) -> dict[str, object]:
    """Seconds of wall time that ``one`` takes with the position of an item, after a warm-up.

    ``each`` call's time is kept in order, so that times of stages can be added.
    """
    one(0)
    spent = []
    for call in range(CALLS):
        start = time.perf_counter()
        one(call % items)
        spent.append(time.perf_counter() - start)
    median, p95 = (round(float(part), 5) for part in np.percentile(spent, [50, 95]))
    return {"median": median, "p95": p95, "calls": CALLS, "each": [round(s, 5) for s in spent]}
