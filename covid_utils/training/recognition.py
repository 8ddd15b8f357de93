"""Fitting recognition heads on one table of features (paper, sections 3.3 and 4.1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from covid_utils.data import augment
from covid_utils.data.collection import Collection, recognition_rows
from covid_utils.data.lazy import Chosen, LazyRows
from covid_utils.errors import DataError
from covid_utils.registry import RECOGNITION_CLASSES
from covid_utils.training import head, predictions

#: Steps at which a sweep keeps its heads, besides the last: evenly apart on a logarithmic scale.
CHECKPOINTS = (100, 300, 1000, 2800, 5000, 10_000)


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


@dataclass(frozen=True)
class FeatureTable:
    """Features with the images that they belong to.

    Attributes:
        image_id: Names, one a row of ``values``.
        values: float32 (images, channels).
    """

    image_id: pd.Index
    values: np.ndarray | LazyRows

    def positions(self, rows: pd.DataFrame) -> np.ndarray:
        """Where the features of manifest rows lie, in their order.

        Raises:
            DataError: An image has no features here.
        """
        at = self.image_id.get_indexer(rows["image_id"])
        if (at < 0).any():
            unknown = rows["image_id"].to_numpy()[at < 0][0]
            raise DataError(f"{unknown}: no features of this image; compute them first.")
        return at

    def of(self, rows: pd.DataFrame) -> Chosen:
        """Features of manifest rows, float32 (rows, channels), in their order."""
        return Chosen(self.values, self.positions(rows))

    def lesson(self, task: Task) -> head.Lesson:
        """A task as a head learns it."""
        at, parts = self.positions(task.rows), task.parts()
        target = np.zeros(len(self.image_id), np.int64)
        target[at] = task.rows["target"]
        return head.Lesson(self.values, *(at[part] for part in parts), target, len(task.names))


@dataclass(frozen=True)
class Fitted:
    """A fitted head with what it says of every image.

    Attributes:
        task: What it learned.
        head: The head.
        predictions: As `predictions.class_table` gives them, with the marks of `Task.mark`.
    """

    task: Task
    head: head.Head
    predictions: pd.DataFrame

    def part(self, subset: str) -> pd.DataFrame:
        """Predictions of the images of one subset."""
        return self.predictions[self.predictions["subset"] == subset]


@dataclass(frozen=True)
class Study:
    """A task learned with several learning rates, looked at after several numbers of steps."""

    task: Task
    sweep: head.Sweep
    table: FeatureTable

    def fitted(self, rate: float, steps: int, model: str = "head") -> Fitted:
        """The head of one rate and number of steps, with its predictions of all rows."""
        one, task = self.sweep.heads[rate, steps], self.task
        shares = one.probabilities(self.table.of(task.rows))
        found = predictions.class_table(task.rows, shares, task.names)
        return Fitted(task, one, task.mark(found, model))

    def history(self, rate: float) -> pd.DataFrame:
        """The curve of one rate, with the name of its task."""
        chosen = self.sweep.history
        return chosen[chosen["rate"] == rate].assign(task=self.task.name, run=self.task.run)


def tasks_of(
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


def study(
    table: FeatureTable,
    tasks: Iterable[Task],
    settings: head.HeadSettings,
    rates: tuple[float, ...] = (),
    last_step: int = 0,
) -> list[Study]:
    """Train the heads of several tasks.

    Args:
        table: Features of at least the tasks' images.
        tasks: What to learn; run k has the seed of the settings plus k - 1.
        settings: Of the training; its own rate and number of steps are always among those kept.
        rates: Further learning rates.
        last_step: Train as far as this, and keep the heads at `CHECKPOINTS` too.

    Raises:
        DataError: A class has no training image, or an image no features.
    """
    rates = tuple(sorted({settings.learning_rate, *rates}))
    kept = [step for step in (*CHECKPOINTS, last_step) if 0 < step <= last_step]
    steps = tuple(sorted({settings.steps, *kept}))
    studies = []
    for task in tasks:
        seeded = replace(settings, seed=settings.seed + task.run - 1)
        studies.append(Study(task, head.sweep(table.lesson(task), seeded, rates, steps), table))
    return studies


def collect(studies: Iterable[Study], settings: head.HeadSettings) -> pd.DataFrame:
    """Predictions of the heads at the settings' rate and steps, one table.

    Training images are kept of first runs only: what runs differ in shows on the others.
    """
    kept = []
    for one in studies:
        found = one.fitted(settings.learning_rate, settings.steps).predictions
        kept.append(found if one.task.run == 1 else found[found["subset"] != "train"])
    return pd.concat(kept, ignore_index=True)


def choose(studies: list[Study], settings: head.HeadSettings) -> dict[str, dict[str, float]]:
    """For each task, the ``rate`` and ``steps`` that `best_setting` finds.

    Without validation images there is nothing to choose by, and those of the settings stay.
    """
    chosen = {}
    for task in {one.task.name: None for one in studies}:
        accuracy = validation_accuracy(one for one in studies if one.task.name == task)
        rate, steps = settings.learning_rate, settings.steps
        if len(accuracy):
            rate, steps = best_setting(accuracy)
        chosen[task] = {"rate": rate, "steps": steps}
    return chosen


def at_chosen(studies: Iterable[Study], chosen: dict[str, dict[str, float]]) -> dict[str, Fitted]:
    """For each task, the head of the first run at the setting that `choose` found."""
    found = {}
    for one in studies:
        setting = chosen.get(one.task.name)
        if one.task.run == 1 and setting:
            rate, steps = setting["rate"], int(setting["steps"])
            found[one.task.name] = one.fitted(rate, steps, "head, chosen")
    return found


def validation_accuracy(studies: Iterable[Study]) -> pd.DataFrame:
    """Accuracy of all validation images: a row a task, run, learning rate and number of steps."""
    rows = []
    for one in studies:
        for (rate, steps), accuracy in one.sweep.accuracy.items():
            keys = {"task": one.task.name, "run": one.task.run, "rate": rate, "steps": steps}
            rows.append(keys | {"accuracy": accuracy})
    return pd.DataFrame(rows, columns=["task", "run", "rate", "steps", "accuracy"])


def best_setting(accuracy: pd.DataFrame) -> tuple[float, int]:
    """Learning rate and number of steps that do best on validation, on average over runs.

    Args:
        accuracy: From `validation_accuracy`, of one task.

    Returns:
        Rate and steps; of equally good ones the fewest steps, then the smallest rate.

    Raises:
        DataError: There were no validation images.
    """
    if accuracy.empty:
        raise DataError("no validation image to choose on; give validation_percent a share.")
    mean = accuracy.groupby(["steps", "rate"])["accuracy"].mean().round(9)
    steps, rate = mean.idxmax()
    return float(rate), int(steps)


def best_layer(
    tables: dict[str, FeatureTable], tasks: list[Task], settings: head.HeadSettings
) -> tuple[str, pd.DataFrame]:
    """The block whose features do best on validation, on average over tasks.

    Args:
        tables: Block -> features.
        tasks: What to compare on.
        settings: Of the training.

    Returns:
        The block (the first of equally good ones), and the accuracy of all validation images for
        each block (rows) and task (columns).
    """
    columns = {}
    for layer, table in tables.items():
        found = validation_accuracy(study(table, tasks, settings))
        columns[layer] = found.groupby("task")["accuracy"].mean()
    compared = pd.DataFrame(columns).T
    # Without validation images there is nothing to compare: the deepest is the paper's choice.
    best = compared.mean(axis=1).round(9).idxmax() if compared.size else list(tables)[-1]
    return str(best), compared
