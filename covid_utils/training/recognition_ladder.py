"""Recognition under each condition: the same last layer, and what memory alone gives.

The conditions (`registry.CONDITIONS`, R and M) differ in who trains and who is tested, never in
network, steps or seeds. What each is expected to show stands in docs/protocol.md.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from covid_utils import progress
from covid_utils.data.image_conditions import TASKS, TUNED, Conditions
from covid_utils.registry import ADULTS, RECOGNITION_TASKS, UNUSED
from covid_utils.training import baselines, finetune, recognition
from covid_utils.training.features import Extraction
from covid_utils.training.head import HeadSettings
from covid_utils.training.recognition import Task

#: Model of R5 beside the fine-tuned one: the head that it starts from, of fewer images than R0's.
FEWER = "head, as many images"


def tasks(condition: str, images: Conditions, repeats: int) -> list[Task]:
    """The trainings under a condition: of each of its tasks so many, with their own seeds.

    ``split`` is the condition whose images are learned from: under R4 that is R3.
    """
    learned = []
    for name in TASKS[condition]:
        for training in range(1, repeats + 1):
            rows = images.rows(condition, name, training)
            rows = rows[rows["subset"] != UNUSED].reset_index(drop=True)
            split = "R3" if condition == "R4" else condition
            learned.append(Task(name, rows, RECOGNITION_TASKS[name], training, split))
    return learned


def train(
    condition: str, images: Conditions, table: pd.DataFrame, settings: HeadSettings, repeats: int
) -> pd.DataFrame:
    """Train under one of the conditions with a frozen network, and predict.

    Args:
        condition: R0 to R4 or M0 to M2. R4 trains R3's heads again, which gives the same ones.
        images: The images of the conditions.
        table: Features of all of them, (images, channels), index ``image_id``.
        settings: Those of the head; training k has their seed plus k - 1.
        repeats: Trainings of each task.

    Returns:
        `Task.predictions` of the heads, of the nearest neighbours and, for M2, of the rule that
        knows the modality only. Training images are kept of the first training's heads and rule,
        and under R4 only images that are new to them.
    """
    learned = tasks(condition, images, repeats)
    parts = [recognition.collect(recognition.study(table, learned, settings), settings)]
    for task in progress.bar(learned, desc="nearest neighbours"):
        parts += [nearest(table, task, standardise) for standardise in (False, True)]
        if condition == "M2":
            rule = baselines.majority(task, "modality")
            parts.append(rule if task.run == 1 else rule[rule["subset"] != "train"])
    predictions = pd.concat(parts, ignore_index=True)
    if condition == "R4":
        predictions = predictions[predictions["subset"].isin(("test", ADULTS))]
    return predictions.reset_index(drop=True)


def nearest(table: pd.DataFrame, task: Task, standardise: bool) -> pd.DataFrame:
    """The class of the training image with the nearest features: what memory alone gives.

    Training images are left out, since each is its own nearest. ``standardise`` divides each
    feature by its spread among training images, so that all weigh the same.
    """
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    values, target = task.values(table), task.rows["target"].to_numpy()
    train_rows, _ = task.parts()
    model, name = KNeighborsClassifier(1, algorithm="brute"), "nearest neighbour"
    if standardise:
        model, name = make_pipeline(StandardScaler(), model), f"{name}, standardised"
    model.fit(values[train_rows], target[train_rows])
    asked = np.flatnonzero(task.rows["subset"] != "train")
    predicted = model.predict(values[asked])
    return replace(task, rows=task.rows.iloc[asked]).predictions(predicted, name)


@dataclass(frozen=True)
class Tuning:
    """Fine-tuning of R5: the first block that is trained, and how.

    ``images`` are the training images of each task at most, ``epochs`` the passes over them at
    most, ``rate`` is that of Adam for the last block.
    """

    before: str
    images: int
    epochs: int
    rate: float


def tune(
    images: Conditions, frozen: Extraction, settings: HeadSettings, plan: Tuning
) -> pd.DataFrame:
    """R5: train the last blocks too, on as many images of R0 as of R3, once for each task.

    Each starts from a head that was trained on these images only; the predictions of that head are
    `FEWER`. ``frozen`` is the network up to the block whose features the heads take.
    """
    learned = []
    for pair in zip(*(tasks(condition, images, 1) for condition in TUNED), strict=True):
        count = min(plan.images, *((task.rows["subset"] == "train").sum() for task in pair))
        learned += [replace(task, rows=fewer(task.rows, images, count)) for task in pair]
    # In one pass for all tasks.
    blocks = finetune.trained_blocks(frozen.last, plan.before)
    frozen.of(recognition.all_rows(learned)).compute((frozen.last,), before=blocks[0])
    return pd.concat([_tuned(task, frozen, settings, plan) for task in learned], ignore_index=True)


def _tuned(task: Task, frozen: Extraction, settings: HeadSettings, plan: Tuning) -> pd.DataFrame:
    extraction = frozen.of(task.rows)
    table = extraction.features((frozen.last,))[frozen.last]
    (studied,) = recognition.study(table, [task], settings)
    start = studied.fitted(settings.learning_rate, settings.steps, FEWER)
    how = (plan.before, plan.epochs, plan.rate, settings.seed)
    tuned = finetune.train(extraction, task, start.head, *how)
    return pd.concat([start.predictions, tuned.predictions], ignore_index=True)


def fewer(rows: pd.DataFrame, images: Conditions, count: int) -> pd.DataFrame:
    """So many training images, and of the others those that they show as much of as all did.

    Of each class the same share is taken, originals with all their copies, in the order of the hash
    of their names. An image whose picture was shown and no longer is does not stay: of R3 remains a
    smaller R3, of R0 everything that is tested.
    """
    train = rows[rows["subset"] == "train"]
    order = train["original"].map(lambda name: hashlib.sha256(name.encode()).hexdigest())
    share = order.groupby(train["target"]).rank(method="first", pct=True)
    kept = rows.drop(index=share.sort_values(kind="stable").index[count:])
    seen = images.with_seen(kept)
    return seen[seen["seen_image"] | ~kept["seen_image"]].reset_index(drop=True)
