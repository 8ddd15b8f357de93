"""Fitting recognition heads on one table of features (paper, sections 3.3 and 4.1)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from covid_utils.errors import DataError
from covid_utils.training import head, multimodal, predictions


@dataclass(frozen=True)
class FeatureTable:
    """Features with the images that they belong to.

    Attributes:
        image_id: Names, one a row of ``values``.
        values: float32 (images, channels).
    """

    image_id: pd.Index
    values: np.ndarray

    def of(self, rows: pd.DataFrame) -> np.ndarray:
        """Features of manifest rows, float32 (rows, channels), in their order.

        Raises:
            DataError: An image has no features here.
        """
        at = self.image_id.get_indexer(rows["image_id"])
        if (at < 0).any():
            unknown = rows["image_id"].to_numpy()[at < 0][0]
            raise DataError(f"{unknown}: no features of this image; compute them first.")
        return self.values[at]


@dataclass(frozen=True)
class Fitted:
    """A fitted head with what it says of every image.

    Attributes:
        head: The head.
        names: Class names in order.
        predictions: As `predictions.class_table` gives them, with the column ``task``.
        history: The head's curve, with the column ``task``.
    """

    head: head.Head
    names: tuple[str, ...]
    predictions: pd.DataFrame
    history: pd.DataFrame

    @property
    def test(self) -> pd.DataFrame:
        """Predictions of the test images."""
        return self.predictions[self.predictions["subset"] == "test"]


def fit(
    table: FeatureTable,
    rows: pd.DataFrame,
    names: tuple[str, ...],
    settings: head.HeadSettings,
    task: str,
) -> Fitted:
    """Train a head on the training rows and predict all rows.

    Args:
        table: Features of at least these rows.
        rows: Manifest rows with ``target`` and ``subset``.
        names: Class names in the order of ``target``.
        settings: Of the training.
        task: Name that the predictions carry.

    Raises:
        DataError: A class has no training image.
    """
    training, watched = (rows[rows["subset"] == name] for name in ("train", "validation"))
    absent = sorted(set(range(len(names))) - set(training["target"]))
    if absent:
        raise DataError(
            f"task '{task}': no training image of {', '.join(names[i] for i in absent)}; "
            "use more patients, or smaller validation and test shares."
        )
    targets = training["target"].to_numpy()
    validation = (table.of(watched), watched["target"].to_numpy())
    fitted = head.train(table.of(training), targets, len(names), settings, validation)
    found = predictions.class_table(rows, fitted.probabilities(table.of(rows)), names)
    return Fitted(fitted, names, found.assign(task=task), fitted.history.assign(task=task))


def fit_multimodal(
    table: FeatureTable, rows: pd.DataFrame, settings: head.HeadSettings, repeats: int
) -> list[Fitted]:
    """Train on X-rays and CT together, several times, each on other X-rays (Table 4).

    Args:
        table: Features of at least these rows.
        rows: From `multimodal.candidate_rows`.
        settings: Of the training; run k uses seed + k for the draw and the head.
        repeats: Number of runs; the paper has 5.

    Raises:
        DataError: There are no CT images.
    """
    if repeats and not (rows["modality"] == "CT").any():
        raise DataError(
            "the multi-modal study needs CT images with and without COVID-19; add the data set "
            "COVID-CT, or set multimodal_runs to 0."
        )
    fits = []
    for run in range(repeats):
        seeded = replace(settings, seed=settings.seed + run)
        chosen = rows.iloc[multimodal.undersample(rows, seeded.seed)].reset_index(drop=True)
        fits.append(fit(table, chosen, multimodal.CLASSES, seeded, f"multi-modal {run + 1}"))
    return fits
