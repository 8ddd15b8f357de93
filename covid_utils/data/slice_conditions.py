"""Which slices train and which are tested under a condition, and what its test has seen before.

The conditions are S0 to S3 of `registry.CONDITIONS`, and T0 and T3, which divide slices as S0 and
S3 do.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from covid_utils.data import augment
from covid_utils.data.manifest import without_near_copies
from covid_utils.errors import ParameterError
from covid_utils.registry import SEEN, UNUSED


def divide(
    rows: pd.DataFrame, condition: str, training: int, seed: int, copies: int, tests: int
) -> pd.DataFrame:
    """Slices as one training under a condition has them.

    S0 and S1 follow the ``subset`` of the prepared slices, S0 without near copies of test slices;
    S2 assigns at random as many slices to each subset; S3 makes copies of all of them first, and
    then assigns these at random to training and test. Each training of S2 and S3 has an assignment
    of its own. Slices that are `UNUSED` stay so under S1 and S2, and S3 leaves them out.

    Args:
        rows: Slices with ``subset`` as prepared; index from 0.
        condition: One of `registry.CONDITIONS` that begin with S or T.
        training: Number of the training, from 1.
        seed: Of copies and assignments.
        copies: Under S3, slices in all, copies among them.
        tests: Under S3, those of them to test on; no slice is for validation.

    Returns:
        The rows with their ``subset`` and `SEEN`; S3 adds ``copy`` and ``original``, see
        `augment.expand`.
    """
    rng = np.random.default_rng([seed, training])
    if condition.endswith("0"):
        rows = without_near_copies(rows)
    if condition.endswith("2"):
        used, subset = rows["subset"] != UNUSED, rows["subset"].copy()
        subset[used] = rng.permutation(subset[used])
        rows = rows.assign(subset=subset)
    if condition.endswith("3"):
        rows = _copied(rows[rows["subset"] != UNUSED].reset_index(drop=True), seed, copies, tests)
        rows["subset"] = rng.permutation(rows["subset"].to_numpy(object))
    return with_seen(rows)


def _copied(rows: pd.DataFrame, seed: int, copies: int, tests: int) -> pd.DataFrame:
    """The slices, then their copies; some are tested on, and all others train."""
    if copies < len(rows) or tests >= copies:
        raise ParameterError(
            f"copies_slices is {copies}, test_slices {tests}, and there are {len(rows)} slices; "
            "make copies_slices at least as many as there are, and more than test_slices."
        )
    rows = augment.expand(rows.assign(subset="train"), {"train": copies}, seed)
    return rows.assign(subset=np.where(np.arange(copies) < tests, "test", "train"))


def with_seen(rows: pd.DataFrame) -> pd.DataFrame:
    """Add whether the training subset shows a row's slice or a copy of it, and its patient."""
    trains, seen = rows["subset"] == "train", {}
    for name, column in zip(SEEN, ("original", "patient_id"), strict=True):
        shown = rows[column] if column in rows else rows["image_id"]
        seen[name] = shown.isin(shown[trains])
    return rows.assign(**seen)
