"""Predictions as tables: from here on no score needs a model again."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pandas as pd

#: What identifies a row in every predictions file.
KEYS = ("image_id", "patient_id", "dataset", "modality", "subset", "label_quality")


def class_table(
    rows: pd.DataFrame, probabilities: np.ndarray, names: tuple[str, ...]
) -> pd.DataFrame:
    """Predictions of a task in which every image has one class.

    Args:
        rows: Manifest rows with ``target``.
        probabilities: float (n, classes).
        names: Class names in the order of the columns.

    Returns:
        ``KEYS``, ``truth`` and ``predicted`` (names), and ``p_<class>`` for each class.
    """
    table = answer_table(rows, probabilities.argmax(axis=1), names)
    for index, name in enumerate(names):
        table[f"p_{name}"] = probabilities[:, index].astype(np.float32)
    return table


def answer_table(rows: pd.DataFrame, said: np.ndarray, names: tuple[str, ...]) -> pd.DataFrame:
    """Predictions of a model that gives an answer and no probability.

    Args:
        rows: Manifest rows with ``target``.
        said: int (n,), the class that it names.
        names: Class names in order.

    Returns:
        ``KEYS``, and ``truth`` and ``predicted`` (names).
    """
    order = np.array(names, dtype=object)
    answers = {"truth": order[rows["target"].to_numpy()], "predicted": order[said]}
    return rows[list(KEYS)].assign(**answers)


def label_table(
    rows: pd.DataFrame, truth: np.ndarray, probabilities: np.ndarray, names: tuple[str, ...]
) -> pd.DataFrame:
    """Predictions of a task in which an image may have several labels.

    Args:
        rows: Manifest rows.
        truth: bool (n, labels).
        probabilities: float (n, labels).
        names: Label names in the order of the columns.

    Returns:
        ``KEYS``, and ``truth_<label>`` (bool) and ``p_<label>`` for each label.
    """
    table = rows[list(KEYS)].copy()
    for index, name in enumerate(names):
        table[f"truth_{name}"] = truth[:, index].astype(bool)
        table[f"p_{name}"] = probabilities[:, index].astype(np.float32)
    return table


def time_per_item(one: Callable[[int], object], items: int, repeats: int = 20) -> dict[str, object]:
    """Measure how long one item takes, one at a time, after a warm-up.

    Args:
        one: Called with the position of an item.
        items: Number of items there are.
        repeats: Number of timed calls.

    Returns:
        ``median`` and ``p95`` in seconds of wall time, the ``calls`` that they are taken over, and
        ``each`` call's, in order, so that times of stages can be put together.
    """
    one(0)
    spent = []
    for call in range(repeats):
        start = time.perf_counter()
        one(call % items)
        spent.append(time.perf_counter() - start)
    median, p95 = np.percentile(spent, [50, 95])
    return {
        "median": round(float(median), 5),
        "p95": round(float(p95), 5),
        "calls": repeats,
        "each": [round(one, 5) for one in spent],
    }
