"""Recognition: which images each task is learned from, and the heads that learn it.

One table of features serves all heads (paper, sections 3.3 and 4.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from covid_utils import progress
from covid_utils.data import augment
from covid_utils.data.collection import Collection, recognition_rows, require_classes
from covid_utils.errors import DataError
from covid_utils.registry import (
    BOTH,
    CT_ALONE,
    HEAD,
    MULTIMODAL_CLASSES,
    PREDICTION_KEYS,
    RECOGNITION_CLASSES,
    SEEN,
    SUBSETS,
    TUNED,
    XRAY_SHARE,
)
from covid_utils.training import head

#: Steps at which a sweep keeps its heads, besides the last: up to the paper's 2800 about half a
#: power of ten apart, then about a factor of two.
CHECKPOINTS = (100, 300, 1000, 2800, 5000, 10_000)


@dataclass(frozen=True)
class Task:
    """One question, and the images that it is learned from and tested on.

    ``rows`` have ``target``, an index into the class ``names``, and ``subset``. Each ``run``, from
    1, has its own seed. ``split`` is ``prepared`` (by ``01_data``) or a condition's name.
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

    def predictions(self, predicted: np.ndarray, model: str) -> pd.DataFrame:
        """Predictions of a ``model`` for all rows, as a table from which every score is computed.

        ``predicted`` are probabilities (n, classes), or classes (n,) of a model that gives none.
        The table has `PREDICTION_KEYS`, ``truth`` and ``predicted`` (names), ``p_<class>`` if
        known, and what made them; ``drawn`` is False for images that are there only for comparison.
        """
        names, has_shares = np.array(self.names, dtype=object), predicted.ndim == 2
        marks = [name for name in SEEN if name in self.rows]
        table = self.rows[[*PREDICTION_KEYS, *marks]].assign(
            truth=names[self.rows["target"].to_numpy()],
            predicted=names[predicted.argmax(axis=1) if has_shares else predicted],
        )
        if has_shares:
            table[[f"p_{name}" for name in self.names]] = predicted.astype(np.float32)
        drawn = self.rows["drawn"].to_numpy() if "drawn" in self.rows else True
        made_by = {"task": self.name, "model": model, "split": self.split, "run": self.run}
        return table.assign(**made_by, drawn=drawn)

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


def xray_tasks(
    scans: Collection, totals: dict[int, dict[str, int]] | None = None, seed: int = 2020
) -> tuple[Task, Task]:
    """The two-class and the four-class task on X-rays.

    ``totals`` maps the number of classes and the subset to the images wanted, copies included (see
    `augment.expand`); ``seed`` is that of the copies.
    """
    require_classes(scans)

    def task(classes: int) -> Task:
        rows = recognition_rows(scans, classes)
        rows = augment.expand(rows, (totals or {}).get(classes, {}), seed)
        return Task(f"{classes} classes", rows, RECOGNITION_CLASSES[:classes])

    return task(2), task(4)


def all_rows(tasks: Iterable[Task]) -> pd.DataFrame:
    """The rows of several tasks, each image once, index from 0."""
    rows = pd.concat([task.rows for task in tasks])
    return rows.drop_duplicates("image_id").drop(columns="target").reset_index(drop=True)


def ct_tasks(scans: Collection) -> list[Task]:
    """The task on CT alone; none without CT images of both classes."""
    rows = scans.select(dataset="covid-ct", label=MULTIMODAL_CLASSES, subset=SUBSETS)
    rows = rows.assign(target=rows["label"].map(MULTIMODAL_CLASSES.index).astype("int64"))
    has_both = rows["target"].nunique() == len(MULTIMODAL_CLASSES)
    return [Task(CT_ALONE, rows, MULTIMODAL_CLASSES)] if has_both else []


def multimodal_tasks(scans: Collection, repeats: int, seed: int) -> tuple[list[Task], list[Task]]:
    """The runs on X-rays and CT (Table 4), and for each the same X-rays without the CT images.

    CT slices of the segmentation set take no part: all are COVID-19, so the modality would give
    them away. Run k draws as many X-rays as there are CT images, with ``seed`` + k - 1. Of those
    not drawn only the test images stay, with False in the column ``drawn``, so that all runs can be
    compared on the same images. Without CT images of both classes there are no runs.
    """
    ct = ct_tasks(scans)
    rows = pd.concat([recognition_rows(scans, 2), *(task.rows for task in ct)], ignore_index=True)
    together, twins = [], []
    for run in range(1, 1 + (repeats if ct else 0)):
        drawn = rows.index.isin(_undersample(rows, seed + run - 1))
        marked = rows.assign(drawn=drawn)[drawn | (rows["subset"] == "test")].reset_index(drop=True)
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


@dataclass(frozen=True)
class Fitted:
    """A trained head, and its `Task.predictions`."""

    task: Task
    head: head.Head
    predictions: pd.DataFrame

    def part(self, subset: str) -> pd.DataFrame:
        """Predictions of the images of one subset."""
        return self.predictions[self.predictions["subset"] == subset]


@dataclass(frozen=True)
class Study:
    """A task trained on a table of features, with what `head.sweep` gives."""

    task: Task
    table: pd.DataFrame
    heads: dict[tuple[float, int], head.Head]
    accuracy: dict[tuple[float, int], float]
    curve: pd.DataFrame

    def fitted(self, rate: float, steps: int, model: str = HEAD) -> Fitted:
        """The head of one rate and number of steps, with its predictions of all rows."""
        one = self.heads[rate, steps]
        probabilities = one.probabilities(self.task.values(self.table))
        return Fitted(self.task, one, self.task.predictions(probabilities, model))

    def history(self, rate: float) -> pd.DataFrame:
        """The curve of one rate, with the name of its task."""
        chosen = self.curve[self.curve["rate"] == rate]
        return chosen.assign(task=self.task.name, run=self.task.run)


def study(
    table: pd.DataFrame,
    tasks: Iterable[Task],
    settings: Mapping,
    rates: tuple[float, ...] = (),
    last_step: int = 0,
) -> list[Study]:
    """Train the heads of several tasks.

    Run k has the seed of the settings plus k - 1. Besides the settings' own rate and steps there
    are further ``rates``, and `CHECKPOINTS` as far as ``last_step``.
    """
    rates = tuple(sorted({settings["learning_rate"], *rates}))
    kept = [step for step in (*CHECKPOINTS, last_step) if 0 < step <= last_step]
    steps = (settings["steps"], *kept)

    def trained(task: Task) -> Study:
        target = task.rows["target"].to_numpy()
        data = head.Examples(task.values(table), *task.parts(), target, len(task.names))
        seeded = settings | {"seed": settings["seed"] + task.run - 1}
        return Study(task, table, *head.sweep(data, seeded, rates, steps))

    return [trained(task) for task in progress.bar([*tasks], desc="trainings")]


def collect(studies: Iterable[Study], settings: Mapping) -> pd.DataFrame:
    """Predictions of the heads at the settings' rate and steps, one table.

    Training images are kept of first runs only: runs differ on the others.
    """
    fits = [one.fitted(settings["learning_rate"], settings["steps"]).predictions for one in studies]
    every = pd.concat(fits, ignore_index=True)
    return every[(every["run"] == 1) | (every["subset"] != "train")].reset_index(drop=True)


def validation_accuracy(studies: Iterable[Study]) -> pd.DataFrame:
    """Accuracy on all validation images: one row per task, run, learning rate and steps."""
    rows = [
        (one.task.name, one.task.run, *setting, accuracy)
        for one in studies
        for setting, accuracy in one.accuracy.items()
    ]
    return pd.DataFrame(rows, columns=["task", "run", "rate", "steps", "accuracy"])


def choose(studies: list[Study], settings: Mapping) -> dict[str, dict[str, float]]:
    """For each task, the ``rate`` and ``steps`` that do best on validation, on average over runs.

    Of equally good ones the fewest steps, then the smallest rate. Without validation images there
    is nothing to choose by, and those of the settings stay.
    """
    paper = {"rate": settings["learning_rate"], "steps": settings["steps"]}
    chosen = {one.task.name: paper for one in studies}
    for task, accuracy in validation_accuracy(studies).groupby("task"):
        mean = accuracy.groupby(["steps", "rate"])["accuracy"].mean().round(9)
        steps, rate = mean.idxmax()
        chosen[task] = {"rate": float(rate), "steps": int(steps)}
    return chosen


def at_chosen(studies: Iterable[Study], chosen: dict[str, dict[str, float]]) -> dict[str, Fitted]:
    """For each task, the head of the first run at the setting from `choose`."""
    first = {one.task.name: one for one in studies if one.task.run == 1}
    return {name: one.fitted(**chosen[name], model=TUNED) for name, one in first.items()}


def best_layer(
    tables: dict[str, pd.DataFrame], tasks: list[Task], settings: Mapping
) -> tuple[str, pd.DataFrame]:
    """The block whose features do best on validation, on average over tasks; of equals the first.

    The table has the accuracy on all validation images for each block (rows) and task (columns).
    """
    columns = {}
    for layer, table in tables.items():
        accuracy = validation_accuracy(study(table, tasks, settings))
        columns[layer] = accuracy.groupby("task")["accuracy"].mean()
    compared = pd.DataFrame(columns).T
    # Without validation images there is nothing to compare: the deepest is the paper's choice.
    best = compared.mean(axis=1).round(9).idxmax() if compared.size else list(tables)[-1]
    return str(best), compared
