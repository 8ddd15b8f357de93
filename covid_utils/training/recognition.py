"""Training recognition heads on one table of features (paper, sections 3.3 and 4.1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import pandas as pd

from covid_utils.training import head
from covid_utils.training.tasks import Task

#: Steps at which a sweep keeps its heads, besides the last: evenly apart on a logarithmic scale.
CHECKPOINTS = (100, 300, 1000, 2800, 5000, 10_000)


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
    """A task trained with several learning rates, each kept after several numbers of steps."""

    task: Task
    sweep: head.Sweep
    table: pd.DataFrame

    def fitted(self, rate: float, steps: int, model: str = "head") -> Fitted:
        """The head of one rate and number of steps, with its predictions of all rows."""
        one = self.sweep.heads[rate, steps]
        probabilities = one.probabilities(self.task.values(self.table))
        return Fitted(self.task, one, self.task.predictions(probabilities, model))

    def history(self, rate: float) -> pd.DataFrame:
        """The curve of one rate, with the name of its task."""
        chosen = self.sweep.history
        return chosen[chosen["rate"] == rate].assign(task=self.task.name, run=self.task.run)


def study(
    table: pd.DataFrame,
    tasks: Iterable[Task],
    settings: head.HeadSettings,
    rates: tuple[float, ...] = (),
    last_step: int = 0,
) -> list[Study]:
    """Train the heads of several tasks.

    Run k has the seed of the settings plus k - 1. Besides the settings' own rate and steps there
    are further ``rates``, and `CHECKPOINTS` as far as ``last_step``.
    """
    rates = tuple(sorted({settings.learning_rate, *rates}))
    kept = [step for step in (*CHECKPOINTS, last_step) if 0 < step <= last_step]
    steps = (settings.steps, *kept)
    studies = []
    for task in tasks:
        target = task.rows["target"].to_numpy()
        data = head.Examples(task.values(table), *task.parts(), target, len(task.names))
        seeded = replace(settings, seed=settings.seed + task.run - 1)
        studies.append(Study(task, head.sweep(data, seeded, rates, steps), table))
    return studies


def collect(studies: Iterable[Study], settings: head.HeadSettings) -> pd.DataFrame:
    """Predictions of the heads at the settings' rate and steps, one table.

    Training images are kept of first runs only: runs differ on the others.
    """
    kept = []
    for one in studies:
        answers = one.fitted(settings.learning_rate, settings.steps).predictions
        kept.append(answers if one.task.run == 1 else answers[answers["subset"] != "train"])
    return pd.concat(kept, ignore_index=True)


def validation_accuracy(studies: Iterable[Study]) -> pd.DataFrame:
    """Accuracy on all validation images: one row per task, run, learning rate and steps."""
    rows = [
        (one.task.name, one.task.run, rate, steps, accuracy)
        for one in studies
        for (rate, steps), accuracy in one.sweep.accuracy.items()
    ]
    return pd.DataFrame(rows, columns=["task", "run", "rate", "steps", "accuracy"])


def choose(studies: list[Study], settings: head.HeadSettings) -> dict[str, dict[str, float]]:
    """For each task, the ``rate`` and ``steps`` that do best on validation, on average over runs.

    Of equally good ones the fewest steps, then the smallest rate. Without validation images there
    is nothing to choose by, and those of the settings stay.
    """
    paper = {"rate": settings.learning_rate, "steps": settings.steps}
    chosen = {one.task.name: paper for one in studies}
    for task, accuracy in validation_accuracy(studies).groupby("task"):
        mean = accuracy.groupby(["steps", "rate"])["accuracy"].mean().round(9)
        steps, rate = mean.idxmax()
        chosen[task] = {"rate": float(rate), "steps": int(steps)}
    return chosen


def at_chosen(studies: Iterable[Study], chosen: dict[str, dict[str, float]]) -> dict[str, Fitted]:
    """For each task, the head of the first run at the setting from `choose`."""
    first = {one.task.name: one for one in studies if one.task.run == 1}
    return {name: one.fitted(**chosen[name], model="head, chosen") for name, one in first.items()}


def best_layer(
    tables: dict[str, pd.DataFrame], tasks: list[Task], settings: head.HeadSettings
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
