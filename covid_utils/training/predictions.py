"""Predictions as tables: from here on no score needs a model again."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from covid_utils.registry import PREDICTION_KEYS

#: Calls that a time is the median of.
CALLS = 20


def class_table(
    rows: pd.DataFrame, probabilities: np.ndarray, names: tuple[str, ...]
) -> pd.DataFrame:
    """As `answer_table` for the most probable class, with a column ``p_<class>`` for each."""
    table = answer_table(rows, probabilities.argmax(axis=1), names)
    shares = {f"p_{name}": probabilities[:, at] for at, name in enumerate(names)}
    return table.assign(**{name: share.astype(np.float32) for name, share in shares.items()})


def answer_table(rows: pd.DataFrame, predicted: np.ndarray, names: tuple[str, ...]) -> pd.DataFrame:
    """Predictions of a model that gives no probability.

    Args:
        rows: Manifest rows with ``target``.
        predicted: int (n,), classes.
        names: Class names in order.

    Returns:
        `PREDICTION_KEYS`, and ``truth`` and ``predicted`` (names).
    """
    order = np.array(names, dtype=object)
    answers = {"truth": order[rows["target"].to_numpy()], "predicted": order[predicted]}
    return rows[list(PREDICTION_KEYS)].assign(**answers)


def label_table(
    rows: pd.DataFrame, truth: np.ndarray, probabilities: np.ndarray, names: tuple[str, ...]
) -> pd.DataFrame:
    """Predictions of a task in which an image may have several labels, arrays (n, labels).

    Returns:
        `PREDICTION_KEYS`, and ``truth_<label>`` (bool) and ``p_<label>`` for each label.
    """
    table = rows[list(PREDICTION_KEYS)].copy()
    for index, name in enumerate(names):
        table[f"truth_{name}"] = truth[:, index].astype(bool)
        table[f"p_{name}"] = probabilities[:, index].astype(np.float32)
    return table


def time_per_item(one: Callable[[int], object], items: int) -> dict[str, object]:
    """Measure how long ``one`` takes with the position of an item, after a warm-up.

    Returns:
        ``median`` and ``p95`` in seconds of wall time, the ``calls`` that they are taken over, and
        ``each`` call's, in order, so that times of stages can be put together.
    """
    one(0)
    spent = []
    for call in range(CALLS):
        start = time.perf_counter()
        one(call % items)
        spent.append(time.perf_counter() - start)
    median, p95 = (round(float(part), 5) for part in np.percentile(spent, [50, 95]))
    each = [round(seconds, 5) for seconds in spent]
    return {"median": median, "p95": p95, "calls": CALLS, "each": each}
