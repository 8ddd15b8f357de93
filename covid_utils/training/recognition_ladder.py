"""Recognition under each condition: the same last layer, and what memory alone gives.

The conditions (`registry.CONDITIONS`, R and M) differ in who trains and who is tested, never in
network, steps or seeds. What each is expected to show stands in docs/protocol.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from covid_utils import progress
from covid_utils.data.image_conditions import TASKS, TUNED, Conditions
from covid_utils.registry import ADULTS, RECOGNITION_TASKS, UNUSED
from covid_utils.training import baselines, finetune, recognition
from covid_utils.training.features import Extraction
from covid_utils.training.recognition import Task

#: Model of R5 beside the fine-tuned one: the head that it starts from, of fewer images than R0's.
FEWER = "head, as many images"


def tasks(condition: str, images: Conditions, repeats: int) -> list[Task]:
    """The trainings under a condition: ``repeats`` for each of its tasks, with their own seeds.

    ``split`` is the condition whose images are learned from: under R4 that is R3.
    """
    split = "R3" if condition == "R4" else condition

    def task(name: str, training: int) -> Task:
        rows = images.rows(condition, name, training)
        rows = rows[rows["subset"] != UNUSED].reset_index(drop=True)
        return Task(name, rows, RECOGNITION_TASKS[name], training, split)

    return [task(name, k) for name in TASKS[condition] for k in range(1, repeats + 1)]


def train(
    condition: str, images: Conditions, table: pd.DataFrame, settings: Mapping, repeats: int
) -> pd.DataFrame:
    """Train under one of the conditions R0 to R4 or M0 to M2 with a frozen network, and predict.

    R4 trains R3's heads again, which gives the same ones. ``table`` has the features of all images,
    (images, channels), by ``image_id``. Training k has the seed of the settings plus k - 1.

    Returns:
        `Task.predictions` of the heads, of the nearest neighbours and, for M2, of the rule that
        knows the modality only. Training images are kept of the first training's heads and rule,
        and under R4 only images that are new to them.
    """
    learned = tasks(condition, images, repeats)
    parts = [recognition.collect(recognition.study(table, learned, settings), settings)]
    for task in progress.bar(learned, desc="nearest neighbours"):
        parts += [baselines.nearest(table, task, standardise) for standardise in (False, True)]
        if condition == "M2":
            rule = baselines.majority(task, "modality")
            parts.append(rule if task.run == 1 else rule[rule["subset"] != "train"])
    predictions = pd.concat(parts, ignore_index=True)
    if condition == "R4":
        predictions = predictions[predictions["subset"].isin(("test", ADULTS))]
    return predictions.reset_index(drop=True)


def tune(
    images: Conditions,
    frozen: Extraction,
    settings: Mapping,
    before: str,
    most: int,
    epochs: int,
    rate: float,
) -> pd.DataFrame:
    """R5: train the last blocks too, on as many images of R0 as of R3, once for each task.

    Each starts from a head that was trained on these images only; the predictions of that head are
    `FEWER`. ``frozen`` is the network up to the block whose features the heads take. At ``most`` so
    many images train in each task; the rest is as in `finetune.train`.
    """
    learned, parts = [], []
    apart, copied = (tasks(condition, images, 1) for condition in TUNED)
    for pair in zip(apart, copied, strict=True):  # one task under R0 and under R3
        smaller = min((task.rows["subset"] == "train").sum() for task in pair)
        count = min(most, smaller)
        learned += [replace(task, rows=fewer(task.rows, images, count)) for task in pair]
    # In one pass for all tasks.
    blocks = finetune.trained_blocks(frozen.last, before)
    frozen.of(recognition.all_rows(learned)).compute((frozen.last,), before=blocks[0])
    for task in learned:
        own = frozen.of(task.rows)
        table = own.features((frozen.last,))[frozen.last]
        (studied,) = recognition.study(table, [task], settings)
        start = studied.fitted(settings["learning_rate"], settings["steps"], FEWER)
        tuned = finetune.train(own, task, start.head, before, epochs, rate, settings["seed"])
        parts += [start.predictions, tuned.predictions]
    return pd.concat(parts, ignore_index=True)


def fewer(rows: pd.DataFrame, images: Conditions, count: int) -> pd.DataFrame:
    """So many training images, and of the others those that they show as much of as all did.

    Of each class the same share is taken, in the order of the hash of the originals' names: an
    original goes with its copies, but for one of each class that the cut may divide. An image whose
    picture was shown and no longer is does not stay: of R3 remains a smaller R3, of R0 everything
    that is tested.
    """
    train = rows[rows["subset"] == "train"]
    order = train["original"].map(lambda name: hashlib.sha256(name.encode()).hexdigest())
    share = order.groupby(train["target"]).rank(method="first", pct=True)
    kept = rows.drop(index=share.sort_values(kind="stable").index[count:])
    seen = images.with_seen(kept)
    return seen[seen["seen_image"] | ~kept["seen_image"]].reset_index(drop=True)
