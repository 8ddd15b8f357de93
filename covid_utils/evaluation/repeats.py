"""Scores of several trainings as rows of ``scores.csv``: each training alone, and all together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from covid_utils.evaluation import bootstrap, intervals
from covid_utils.evaluation.intervals import FEWEST_WITH_CLASS, Interval
from covid_utils.evaluation.scoring import row
from covid_utils.registry import SEEN

ONE, OWN = "one training: limits over patients", "each training has test images of its own"


class Trainings(NamedTuple):
    """Numbers of what several trainings tested."""

    table: np.ndarray  # float (images, trainings, ...), 0 where a training does not test an image
    images: pd.DataFrame  # the first row of each image, by name
    numbers: np.ndarray  # of the trainings (trainings,)

    @property
    def groups(self) -> np.ndarray:
        """Patient of each image (images,)."""
        return self.images["patient_id"].to_numpy()


def by_training(
    part: pd.DataFrame, values: np.ndarray, images: pd.DataFrame | None = None
) -> Trainings:
    """Numbers (rows, ...) of predictions, a row per ``image_id`` and ``repeat``.

    ``images`` are those of the table, by name, if not all that are among the predictions.
    """
    images = images_of(part) if images is None else images
    training, numbers = pd.factorize(part["repeat"], sort=True)
    table = np.zeros((len(images), len(numbers), *values.shape[1:]))
    table[images.index.get_indexer(part["image_id"]), training] = values
    return Trainings(table, images, np.asarray(numbers))


def images_of(part: pd.DataFrame) -> pd.DataFrame:
    """The first row of each image, by name and in the order of names."""
    return part.drop_duplicates("image_id").set_index("image_id", drop=False).sort_index()


def share(tested: Trainings, wilson: str = "widens") -> tuple[np.ndarray, str]:
    """Limits of a share, of numbers (images, trainings, 2) of hits and cases, and a note on them.

    They are `intervals.cautious` unless ``wilson`` is ''. Nothing can be resampled of classes with
    too few patients: the limits are those with all of their images wrong, and all of them right.
    """
    images, groups, strata, limits = tested.images, tested.groups, None, np.full(2, np.nan)
    is_rare, note = few_groups(images) if "truth" in images else (np.zeros(len(images), bool), "")
    table, groups = tested.table[~is_rare], groups[~is_rare]
    if len(table):
        if "truth" in images:
            classes = pd.factorize(images["truth"], sort=True)[0]
            strata = intervals.class_strata(classes[~is_rare], groups)
        found = bootstrap.score(table, groups, bootstrap.quotient, strata)
        limits = np.clip(found.limits, 0, 1)
        if wilson:
            given, shares = found._replace(low=limits[0], high=limits[1]), table.sum(axis=1).T
            widens = wilson == "widens"
            limits = intervals.cautious(given, *shares, groups, strata, widens).limits
    kept = table[..., 1].sum() / tested.table[..., 1].sum()
    return kept * limits + (0, 1 - kept), note


def few_groups(images: pd.DataFrame) -> tuple[np.ndarray, str]:
    """Images (bool) of a class with too few patients, or groups, to resample; a note, else ''."""
    is_rare, notes = np.zeros(len(images), bool), []
    for (modality, name), at in images.groupby(["modality", "truth"]).indices.items():
        if (groups := images.iloc[at]["patient_id"].nunique()) < FEWEST_WITH_CLASS:
            is_rare[at] = True
            basis = f"patients or groups of near copies: {groups}"
            notes.append(f"the {len(at)} {modality} images of {name} ({basis})")
    return is_rare, f"limits with {' and '.join(notes)} all wrong, and all right" if notes else ""


def rows(
    keys: dict,
    each: np.ndarray,
    counted: np.ndarray,
    of: Trainings,
    limits: Sequence[float],
    note: str = "",
) -> Iterator[dict]:
    """Rows of a score: the value of each training, and their mean with its limits.

    ``keys`` are shared by all rows; ``each`` is (trainings,), NaN of a training that has no value;
    ``counted``, bool (images, trainings), says which images a value is of.
    """
    for number, value, has in zip(of.numbers, each, counted.T, strict=True):
        patients = len(np.unique(of.groups[has]))
        yield keys | {"repeat": number, "value": value, "n": int(has.sum()), "patients": patients}
    known, ever = each[~np.isnan(each)], counted.any(axis=1)
    n = round(counted[:, ~np.isnan(each)].sum() / max(len(known), 1))
    mean = Interval(float(known.mean()) if len(known) else np.nan, *limits, n)
    own = row(keys["class"], keys["metric"], mean, of.groups[ever])
    spread = ONE if np.isfinite(mean.low) else ""
    if len(each) > 1:
        has = f"{len(known)} of {len(each)}" if len(known) < len(each) else f"{len(each)}"
        is_dice = keys["metric"] in ("dice", "iou")
        factor, form, unit = (1, ".3f", "") if is_dice else (100, ".1f", " %")
        spread = f"{has} trainings"
        if len(known):
            low, high = factor * known.min(), factor * known.max()
            spread += f", {low:{form}} to {high:{form}}{unit}"
    notes = (note, spread, OWN if (ever & ~counted.all(axis=1)).any() else "")
    yield own | keys | {"repeat": 0, "note": "; ".join(filter(None, notes))}


def share_rows(
    part: pd.DataFrame, hits: np.ndarray, cases: np.ndarray, keys: dict, limited: bool = True
) -> Iterator[dict]:
    """Rows of a share of cases that are hits, both (rows,) of the predictions."""
    tested = by_training(part, np.stack([hits, cases], axis=1).astype(float))
    each = bootstrap.quotient(tested.table.sum(axis=0))
    limits, note = share(tested) if limited else ((np.nan, np.nan), "")
    yield from rows(keys, each, tested.table[..., 1] > 0, tested, limits, note)


def seen(part: pd.DataFrame, keys: dict) -> Iterator[dict]:
    """Share of a training's test images whose original, or patient, its training images show."""
    for column in (name for name in SEEN if name in part):
        own = keys | {"class": "all", "metric": column.replace("_", " ")}
        yield from share_rows(part, part[column], np.ones(len(part)), own, limited=False)
