"""Two networks that outline nothing, on slices of other hospitals: task 2's, and CT recognition.

Each is trained once for either preparation of slices (`registry.PREPARATIONS`), on the images and
with the settings of its own notebook. Nothing of another hospital ever trains.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from covid_read.other_hospitals import PREPARED
from covid_utils import params
from covid_utils.data import cache
from covid_utils.data.collection import Collection
from covid_utils.data.image_conditions import Conditions
from covid_utils.data.images import Preprocessing
from covid_utils.registry import (
    CT_ALONE,
    EXTERNAL,
    EXTERNAL_SETS,
    LESION_SETS,
    MULTIMODAL_CLASSES,
    PREDICTION_KEYS,
    PREPARATIONS,
)
from covid_utils.training import multilabel, recognition
from covid_utils.training.features import Extraction
from covid_utils.training.recognition import Task

#: Notebooks whose settings are used.
SETTINGS_OF = ("03_task2_multilabel", "06_as_published")


def called(profile: str, scans: Collection, names: Iterable[str]) -> pd.DataFrame:
    """Which test slices and which of other hospitals some of `registry.NEIGHBOURS` call diseased.

    Returns:
        `PREDICTION_KEYS`, ``network``, ``prepared``, ``called`` (bool), and ``truth``: whether the
        slice should be called. One of COVID-CT should if its label is COVID-19, any other if a
        manifestation is outlined in it, although all patients of other hospitals have COVID-19.
    """
    labels, published = (params.load(profile, of) for of in SETTINGS_OF)
    labels |= {"epochs": published["label_epochs"]}
    own = scans.training_rows(LESION_SETS, "the network of task 2")
    others = scans.select(dataset=EXTERNAL_SETS, subset=EXTERNAL)
    rows = pd.concat([own, others], ignore_index=True)
    # Of whole slices: what one shows does not depend on how it is prepared.
    masks = cache.masks(rows, scans.root, Preprocessing(labels["image_size"]))
    shown = multilabel.present(masks, labels["minimum_share"])
    others = rows.assign(target=np.where(shown.any(axis=1), 0, 1))[rows["subset"] == EXTERNAL]
    parts = []
    for name, (prepared, step) in itertools.product(names, PREPARATIONS.items()):
        if name == "labels":
            part = _labels(scans, rows, shown, labels, PREPARED[step])
        else:
            part = _recognition(scans, others, published, PREPARED[step])
        parts.append(part.assign(network=name, prepared=prepared))
    table = pd.concat(parts, ignore_index=True)
    table = table[table["subset"].isin(("test", EXTERNAL))].reset_index(drop=True)
    return table[[*PREDICTION_KEYS, "network", "prepared", "truth", "called"]]


def _labels(
    scans: Collection, rows: pd.DataFrame, shown: np.ndarray, values: Mapping, change: Mapping
) -> pd.DataFrame:
    """Whether task 2's network gives any manifestation a probability of one half or more.

    ``shown`` are the manifestations of the rows, bool (rows, 3).
    """
    images = cache.images(rows, scans.root, Preprocessing(values["image_size"], **change))[:]
    trains = (rows["subset"] == "train").to_numpy()
    network, _ = multilabel.train(images[trains], shown[trains], None, values)
    found = multilabel.predict(network, images) >= 0.5
    return rows.assign(truth=shown.any(axis=1), called=found.any(axis=1))


def _recognition(
    scans: Collection, others: pd.DataFrame, values: Mapping, change: Mapping
) -> pd.DataFrame:
    """Whether the head of M0's first training calls slices COVID-19.

    ``others`` have a ``target``, an index into `MULTIMODAL_CLASSES`.
    """
    layer, seed = values["feature_layer"], values["seed"]
    # Copies are for other conditions.
    own = Conditions(scans, {}, seed).rows("M0", CT_ALONE).drop(columns=["copy", "original"])
    task = Task(CT_ALONE, pd.concat([own, others], ignore_index=True), MULTIMODAL_CLASSES)
    prepared = Preprocessing(values["image_size"], **change)
    frozen = Extraction(task.rows, scans.root, prepared, values["weights"], layer, seed)
    (studied,) = recognition.study(frozen.features((layer,))[layer], [task], values)
    found = studied.fitted(values["learning_rate"], values["steps"]).predictions
    is_covid = found[["truth", "predicted"]] == MULTIMODAL_CLASSES[0]
    return found.assign(truth=is_covid["truth"], called=is_covid["predicted"])
