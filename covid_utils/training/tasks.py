"""The recognition tasks: which images each is learned from and tested on (paper, section 4.1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from covid_utils.data import augment
from covid_utils.data.collection import Collection, recognition_rows
from covid_utils.errors import DataError
from covid_utils.registry import BOTH, MULTIMODAL_CLASSES, RECOGNITION_CLASSES, UNUSED, XRAY_SHARE


@dataclass(frozen=True)
class Task:
    """One question, and the images that it is learned from and tested on.

    Attributes:
        name: Name that the predictions carry.
        rows: Manifest rows with ``target`` and ``subset``.
        names: Class names in the order of ``target``.
        run: Number of the run, from 1; each has a seed of its own.
        split: ``prepared`` for the subsets that ``01_data`` made, else the kind of another split.
    """

    name: str
    rows: pd.DataFrame
    names: tuple[str, ...]
    run: int = 1
    split: str = "prepared"

    def runs(self, count: int) -> list[Task]:
        """The same task several times, to be trained with another seed each."""
        return [replace(self, run=number) for number in range(1, count + 1)]

    def mark(self, table: pd.DataFrame, model: str) -> pd.DataFrame:
        """A predictions table of all rows, with the columns that say whose it is.

        ``drawn`` is False for images that are there for comparison and not part of the task.
        """
        drawn = self.rows["drawn"].to_numpy() if "drawn" in self.rows else True
        marks = {"task": self.name, "model": model, "split": self.split, "run": self.run}
        return table.assign(**marks, drawn=drawn)

    def parts(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the training and of the validation rows.

        Raises:
            DataError: A class has no training image.
        """
        subset, target = self.rows["subset"].to_numpy(), self.rows["target"].to_numpy()
        train, validation = (np.flatnonzero(subset == name) for name in ("train", "validation"))
        absent = sorted(set(range(len(self.names))) - set(target[train]))
        if absent:
            raise DataError(
                f"task '{self.name}': no training image of "
                f"{', '.join(self.names[i] for i in absent)}; "
                "use more patients, or smaller validation and test shares."
            )
        return train, validation


def of_xrays(
    scans: Collection,
    split: str = "prepared",
    totals: dict[int, dict[str, int]] | None = None,
    seed: int = 2020,
) -> tuple[Task, Task]:
    """The two-class and the four-class task on the X-rays of a collection.

    Args:
        scans: The images, with subsets.
        split: As in `Task`.
        totals: Number of classes -> subset -> images wanted, copies included; see `augment.expand`.
        seed: Of the copies.
    """
    tasks = []
    for classes in (2, 4):
        rows = recognition_rows(scans, classes)
        rows = augment.expand(rows, (totals or {}).get(classes, {}), seed)
        names = RECOGNITION_CLASSES[:classes]
        tasks.append(Task(f"{classes} classes", rows, names, split=split))
    return tasks[0], tasks[1]


def all_rows(tasks: Iterable[Task]) -> pd.DataFrame:
    """The rows of several tasks, each image once, index from 0."""
    rows = pd.concat([task.rows for task in tasks])
    return rows.drop_duplicates("image_id").drop(columns="target").reset_index(drop=True)


def of_both_modalities(scans: Collection, repeats: int, seed: int) -> tuple[list[Task], list[Task]]:
    """The runs on X-rays and CT (Table 4), and for each the same X-rays without the CT images.

    The second is what the first must be compared with: heads that learn from more X-rays would
    differ from it in two ways at once. CT slices of the segmentation set take no part: they are all
    COVID-19, so modality and class would go together.

    Run k draws its X-rays with ``seed`` + k - 1. Those that were not drawn are left out, but the
    test images among them stay in the test, with False in the column ``drawn``, so that all runs
    can be compared on the same images.

    Returns:
        Task `BOTH` of each run, and its twin `XRAY_SHARE`.

    Raises:
        DataError: There are no CT images of one of the classes.
    """
    ct = scans.select(dataset="covid-ct", label=MULTIMODAL_CLASSES)
    ct = ct.assign(target=ct["label"].map(MULTIMODAL_CLASSES.index).astype("int64"))
    rows = pd.concat([recognition_rows(scans, 2), ct], ignore_index=True)
    if repeats and ct["target"].nunique() < len(MULTIMODAL_CLASSES):
        raise DataError(
            "the multi-modal study needs CT images with and without COVID-19; add the data set "
            "COVID-CT, or set multimodal_runs to 0."
        )
    together, twins = [], []
    for run in range(1, repeats + 1):
        drawn = np.zeros(len(rows), bool)
        drawn[_undersample(rows, seed + run - 1)] = True
        subset = rows["subset"].where(drawn | (rows["subset"] == "test"), UNUSED)
        marked = rows.assign(subset=subset, drawn=drawn)
        marked = marked[marked["subset"] != UNUSED].reset_index(drop=True)
        together.append(Task(BOTH, marked, MULTIMODAL_CLASSES, run))
        alone = marked[marked["modality"] == "X-ray"].reset_index(drop=True)
        twins.append(Task(XRAY_SHARE, alone, MULTIMODAL_CLASSES, run))
    return together, twins


def _undersample(rows: pd.DataFrame, seed: int) -> np.ndarray:
    """Positions of all CT images, and of as many X-rays in each subset and class, if there are."""
    rng = np.random.default_rng(seed)
    chosen = [np.flatnonzero(rows["modality"] == "CT")]
    for _, part in rows.groupby(["subset", "target"]):
        positions = part.index[part["modality"] == "X-ray"].to_numpy()
        wanted = int((part["modality"] == "CT").sum())
        chosen.append(rng.permutation(positions)[:wanted])
    return np.concatenate(chosen)
