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
from covid_utils.training import predictions


@dataclass(frozen=True)
class Task:
    """One question, and the images that it is learned from and tested on.

    ``rows`` have ``target``, an index into the class ``names``, and ``subset``. Each ``run``, from
    1, has a seed of its own. ``split`` is ``prepared`` for the subsets that ``01_data`` made.
    """

    name: str
    rows: pd.DataFrame
    names: tuple[str, ...]
    run: int = 1
    split: str = "prepared"

    def runs(self, count: int) -> list[Task]:
        """The same task several times, to be trained with another seed each."""
        return [replace(self, run=number) for number in range(1, count + 1)]

    def values(self, table: pd.DataFrame) -> np.ndarray:
        """Features of the rows, (rows, channels), from a table whose index is ``image_id``."""
        return table.loc[self.rows["image_id"]].to_numpy()

    def predictions(self, answers: np.ndarray, model: str) -> pd.DataFrame:
        """`predictions.class_table` of all rows, with the columns that say whose answers they are.

        ``drawn`` is False for images that are there only for comparison.
        """
        table = predictions.class_table(self.rows, answers, self.names)
        drawn = self.rows["drawn"].to_numpy() if "drawn" in self.rows else True
        marks = {"task": self.name, "model": model, "split": self.split, "run": self.run}
        return table.assign(**marks, drawn=drawn)

    def parts(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the training and of the validation rows."""
        subset, target = self.rows["subset"].to_numpy(), self.rows["target"].to_numpy()
        train, validation = (np.flatnonzero(subset == name) for name in ("train", "validation"))
        absent = [name for at, name in enumerate(self.names) if at not in target[train]]
        if absent:
            raise DataError(
                f"task '{self.name}': no training image of {', '.join(absent)}; "
                "use more patients, or smaller validation and test shares."
            )
        return train, validation


def of_xrays(
    scans: Collection,
    split: str = "prepared",
    totals: dict[int, dict[str, int]] | None = None,
    seed: int = 2020,
) -> tuple[Task, Task]:
    """The two-class and the four-class task on X-rays.

    ``totals`` maps the number of classes and the subset to the images wanted, copies included (see
    `augment.expand`); ``seed`` is that of the copies.
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

    Compared with heads that learn from more X-rays, the first would differ in two ways at once. CT
    slices of the segmentation set take no part: all are COVID-19, so modality would tell the class.

    Run k draws its X-rays with ``seed`` + k - 1. Of those not drawn only the test images stay, with
    False in the column ``drawn``, so that all runs can be compared on the same images.
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
