"""Learning from X-rays and CT together (paper, section 4.1, Table 4)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from covid_utils.data.collection import Collection, recognition_rows
from covid_utils.errors import DataError
from covid_utils.registry import BOTH, XRAY_SHARE
from covid_utils.registry import MULTIMODAL_CLASSES as CLASSES
from covid_utils.training.recognition import Task


def candidate_rows(collection: Collection) -> pd.DataFrame:
    """All X-rays of the two-class task and all CT images with the same two classes.

    Args:
        collection: The images.

    Returns:
        Manifest rows with ``target`` (0 COVID-19, 1 not). CT slices of the segmentation set are
        left out: they are all COVID-19, so modality and class would go together.
    """
    ct = collection.select(dataset="covid-ct", label=CLASSES)
    ct = ct.assign(target=ct["label"].map(CLASSES.index).astype("int64"))
    return pd.concat([recognition_rows(collection, 2), ct], ignore_index=True)


def undersample(rows: pd.DataFrame, seed: int) -> np.ndarray:
    """Draw as many X-rays as there are CT images, in each subset and class.

    Args:
        rows: From `candidate_rows`, with ``subset``.
        seed: Of the draw.

    Returns:
        Sorted positions of the chosen rows: every CT image, and X-rays as far as there are any.
    """
    rng = np.random.default_rng(seed)
    rows = rows.reset_index(drop=True)
    is_ct = (rows["modality"] == "CT").to_numpy()
    chosen = [np.flatnonzero(is_ct)]
    for _, part in rows.groupby(["subset", "target"]):
        positions = part.index[part["modality"] == "X-ray"].to_numpy()
        wanted = int((part["modality"] == "CT").sum())
        chosen.append(rng.permutation(positions)[:wanted])
    return np.sort(np.concatenate(chosen))


def tasks(rows: pd.DataFrame, repeats: int, seed: int) -> tuple[list[Task], list[Task]]:
    """The multi-modal runs, and for each the same X-rays without the CT images.

    The second is what the first must be compared with: heads that learn from more X-rays would
    differ from it in two ways at once.

    Args:
        rows: From `candidate_rows`, with ``subset``.
        repeats: Number of runs; the paper has 5.
        seed: Run k draws its X-rays with ``seed`` + k - 1.

    Returns:
        Task `BOTH` of each run, and its twin `XRAY_SHARE`. X-rays that were not drawn are left out,
        but the test images among them stay in the test, with False in the column ``drawn``, so
        that all runs can be compared on the same images.

    Raises:
        DataError: There are no CT images of one of the classes.
    """
    if repeats and rows.loc[rows["modality"] == "CT", "target"].nunique() < len(CLASSES):
        raise DataError(
            "the multi-modal study needs CT images with and without COVID-19; add the data set "
            "COVID-CT, or set multimodal_runs to 0."
        )
    together, twins = [], []
    for run in range(1, repeats + 1):
        drawn = np.zeros(len(rows), bool)
        drawn[undersample(rows, seed + run - 1)] = True
        subset = rows["subset"].where(drawn | (rows["subset"] == "test"), "unused")
        marked = rows.assign(subset=subset, drawn=drawn)
        marked = marked[marked["subset"] != "unused"].reset_index(drop=True)
        together.append(Task(BOTH, marked, CLASSES, run))
        alone = marked[marked["modality"] == "X-ray"].reset_index(drop=True)
        twins.append(Task(XRAY_SHARE, alone, CLASSES, run))
    return together, twins
