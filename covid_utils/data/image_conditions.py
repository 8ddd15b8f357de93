"""Which images train and which are tested under a condition (docs/protocol.md).

`Conditions` has those of recognition, which begin with R or M in `registry.CONDITIONS`, and
`divide` those of slices, with S or T. No image is read here: a copy is a row that says which image
it is of, see `augment.expand`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from covid_utils.data import augment, splits
from covid_utils.data.collection import Collection, recognition_rows, require_classes
from covid_utils.data.manifest import without_near_copies
from covid_utils.errors import DataError, ParameterError
from covid_utils.registry import (
    ADULTS,
    BOTH,
    CT_ALONE,
    EXTERNAL_SETS,
    FINE_TUNED,
    MULTIMODAL_CLASSES,
    RECOGNITION_CLASSES,
    RECOGNITION_TASKS,
    SEEN,
    UNUSED,
)

#: Condition -> its tasks. R5 fine-tunes on the images of other conditions, those of `TUNED`.
TASKS = {
    **dict.fromkeys(("R0", "R1", "R2", "R3", "R4"), ("2 classes", "4 classes")),
    **dict.fromkeys(("M0", "M1"), (CT_ALONE,)),
    "M2": (BOTH,),
}
TUNED = ("R0", "R3")
#: Conditions with copies made first, and those that assign images by a hash.
COPIED, HASHED = ("R3", "M1"), ("R2", "R3", "M1")
#: The one source of each class under R1 to R4, and of the adults under R4.
SOURCES = dict.fromkeys(RECOGNITION_CLASSES, "chest_xray") | {"covid": "covid-chestxray-dataset"}
ADULT_SOURCE = "nih-adult"


@dataclass(frozen=True)
class Conditions:
    """The images of each condition."""

    scans: Collection
    totals: Mapping[str, int]  # images of a task with copies, where these are made before the split
    seed: int  # of copies and draws

    def rows(self, condition: str, task: str, training: int = 1) -> pd.DataFrame:
        """Images of a task as one training has them, counted from 1; index from 0.

        The columns are those of the manifest, with the ``subset`` under this condition,
        ``target`` (an index into the task's classes), ``copy``, ``original`` and `SEEN`. Under R4
        the training images are those of R3, and the test has patients of whom they show nothing.
        """
        if condition == "R4":
            learned = self.rows("R3", task, training)
            learned = learned[learned["subset"] != "test"]
            rows = pd.concat([learned, self._strangers(task)], ignore_index=True)
            return self.with_seen(rows)
        rows = self._by_modality(training) if condition == "M2" else self._pool(condition, task)
        if condition in COPIED:
            total = {"train": self.totals[task]}
            rows = augment.expand(rows.assign(subset="train"), total, self.seed)
        else:
            rows = augment.expand(rows, {}, self.seed)
        if condition in HASHED:
            # A copy has its own path, so it may fall elsewhere than its original. Each training
            # has the images in a folder of another name, and so another assignment.
            own = rows["path"] + ("~" + rows["copy"].astype(str)).where(rows["copy"] > 0, "")
            rows = rows.assign(subset=[splits.path_hash(f"deal {training}/{p}") for p in own])
        return self.with_seen(rows)

    def needed(self, conditions: Iterable[str]) -> pd.DataFrame:
        """Every image and copy that some conditions need, once, with the manifest's ``subset``."""
        single: list[str] = []
        for name in conditions:
            single += TUNED if name == FINE_TUNED else (name,)
        rows = pd.concat([self.rows(one, task) for one in single for task in TASKS[one]])
        # A copy has the same name in all conditions and tasks, so its features are shared.
        rows = rows.drop_duplicates("image_id").drop(columns=["target", *SEEN])
        prepared = self.scans.manifest.set_index("image_id")["subset"]
        return rows.assign(subset=rows["original"].map(prepared)).reset_index(drop=True)

    @cached_property
    def reference(self) -> pd.DataFrame:
        """X-rays of all sources as prepared: random weights are calibrated on them."""
        require_classes(self.scans)
        return recognition_rows(self.scans, len(RECOGNITION_CLASSES))

    def with_seen(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Add whether the training subset shows a row's picture or a copy, and its patient."""
        original = rows["original"]
        return _with_seen(rows, original.map(self._pictures), original.map(self._patients))

    @cached_property
    def _patients(self) -> pd.Series:
        """Patient of each ``image_id``; those who share a picture count as one."""
        rows = self.scans.manifest
        return splits.joined_patients(rows).set_axis(rows["image_id"])

    @cached_property
    def _pictures(self) -> pd.Series:
        """Name of the picture of each ``image_id``: files may hold the same one."""
        rows = self.scans.manifest
        alone = rows.assign(patient_id=rows["image_id"])
        return splits.joined_patients(alone).set_axis(rows["image_id"])

    def _pool(self, condition: str, task: str) -> pd.DataFrame:
        """Images of a task before any copy is made, with the prepared subsets."""
        if task == CT_ALONE:
            rows = _multimodal(self.scans.select(dataset="covid-ct", label=MULTIMODAL_CLASSES))
        else:
            rows = recognition_rows(self.scans, len(RECOGNITION_TASKS[task]))
            if condition != "R0":
                rows = rows[rows["dataset"] == rows["label"].map(SOURCES)]
            if condition in HASHED:
                tested = self.reference.loc[self.reference["subset"] == "test", "image_id"]
                patients = rows["image_id"].map(self._patients)
                rows = rows[~patients.isin(self._patients[tested])]
        there = set(rows["target"])
        if lost := [n for at, n in enumerate(RECOGNITION_TASKS[task]) if at not in there]:
            raise DataError(
                f"condition {condition}, {task}: no image of {' or '.join(lost)} in the data sets "
                "that it learns from; add what docs/data.md names for recognition, or leave it out."
            )
        return rows.reset_index(drop=True)

    def _strangers(self, task: str) -> pd.DataFrame:
        """Test patients of the sources that R3 learns from, and adults of a source it lacks."""
        pool = self._pool("R1", task)
        normal = recognition_rows(self.scans, 2).query("label == 'normal'")
        adults = normal[normal["dataset"] == ADULT_SOURCE].assign(subset=ADULTS)
        rows = pd.concat([pool[pool["subset"] == "test"], adults], ignore_index=True)
        return augment.expand(rows, {}, self.seed)

    def _by_modality(self, training: int) -> pd.DataFrame:
        """All CT images of COVID-19, and in each subset as many X-rays drawn at random.

        X-rays that are not drawn are `UNUSED`, and so are other images of patients who are tested.
        """
        ct = self.scans.select(modality="CT", label="covid")
        ct = _multimodal(ct[~ct["dataset"].isin(EXTERNAL_SETS)])
        rows = pd.concat([recognition_rows(self.scans, 2), ct], ignore_index=True)
        patients = rows["image_id"].map(self._patients)
        is_test, is_ct = rows["subset"] == "test", rows["modality"] == "CT"
        # A published split of CT slices need not keep patients apart.
        is_near = patients.isin(patients[is_test]) & ~is_test
        rng = np.random.default_rng([self.seed, training])
        drawn = is_ct & ~is_near
        for _, part in rows[~is_near].groupby("subset"):
            xrays = rng.permutation(part.index[~is_ct[part.index]])
            drawn[xrays[: is_ct[part.index].sum()]] = True
        return rows.assign(subset=rows["subset"].where(drawn, UNUSED))


def _multimodal(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(target=rows["label"].map(MULTIMODAL_CLASSES.index).astype("int64"))


def divide(
    rows: pd.DataFrame, condition: str, training: int, seed: int, copies: int, tests: int
) -> pd.DataFrame:
    """Slices as one training under a condition has them.

    S0 and S1 follow the ``subset`` of the prepared slices, S0 without near copies of test slices;
    S2 assigns at random as many slices to each subset; S3 makes copies of all of them first, and
    then assigns these at random to training and test. Each training of S2 and S3 has an assignment
    of its own. Slices that are `UNUSED` stay so under S1 and S2, and S3 leaves them out. T0 and T3
    divide as S0 and S3 do.

    ``rows`` have the ``subset`` as prepared, and an index from 0; trainings count from 1. Under S3
    there are so many ``copies`` in all, slices among them, and so many ``tests``; no slice is for
    validation. Gives the rows with their ``subset`` and `SEEN`; S3 adds ``copy`` and ``original``.
    """
    rng = np.random.default_rng([seed, training])
    if condition.endswith("0"):
        rows = without_near_copies(rows)
    elif condition.endswith("2"):
        used, subset = rows["subset"] != UNUSED, rows["subset"].copy()
        subset[used] = rng.permutation(subset[used])
        rows = rows.assign(subset=subset)
    elif condition.endswith("3"):
        rows = rows[rows["subset"] != UNUSED].reset_index(drop=True)
        if copies < len(rows) or tests >= copies:
            raise ParameterError(
                f"copies_slices is {copies}, test_slices {tests}, and there are {len(rows)} "
                "slices; copies_slices must be at least that, and more than test_slices."
            )
        rows = augment.expand(rows.assign(subset="train"), {"train": copies}, seed)
        subset = np.where(np.arange(copies) < tests, "test", "train").astype(object)
        rows["subset"] = rng.permutation(subset)
    return _with_seen(rows, rows.get("original", rows["image_id"]), rows["patient_id"])


def _with_seen(rows: pd.DataFrame, pictures: pd.Series, patients: pd.Series) -> pd.DataFrame:
    trains = rows["subset"] == "train"
    seen = pictures.isin(pictures[trains]), patients.isin(patients[trains])
    return rows.assign(**dict(zip(SEEN, seen, strict=True)))
