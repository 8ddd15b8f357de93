"""Scores of segmentations, with intervals, from the measures of their slices.

``pooled`` takes all pixels together, so large lesions weigh more; ``per_image`` is the mean over
slices whose truth has the class, which are the same for every network: one that misses it there has
0. On the other slices the network can only be right or raise a false alarm; ``false alarms`` is the
share of them in which it predicts the class. A Hausdorff distance needs the class in both, and the
error of the extent is taken over all slices, for 0 is an extent too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from covid_utils import paths, runs
from covid_utils.data.manifest import left_out
from covid_utils.evaluation import bootstrap, intervals, metrics
from covid_utils.evaluation.intervals import Interval
from covid_utils.evaluation.scoring import COLUMNS, row, scopes
from covid_utils.registry import (
    FUSION,
    MANIFESTATIONS,
    MEAN_OF_LESIONS,
    PUBLISHED,
    STARTS,
    stream_run,
)

#: Pixel metrics of a segmentation.
PIXEL_METRICS = ("dice", "iou")
#: Classes whose mask labels can be weak; the extent of disease is exact on every slice.
WEAK_CLASSES = (*MANIFESTATIONS, "background")
#: Name of the row for the mean over classes -> the class that is none of them. The authors' code
#: counts background (``mean_iou``), which lifts every score.
MEANS = {"mean": "", MEAN_OF_LESIONS: "background"}
NOT_HELD_OUT = "too few patients to hold one out for a test"


def stream_runs(profile: str) -> list[str]:
    """Runs that outlined slices: streams by name, then those put together and the authors'."""
    names = {path.parent.name for path in paths.results(profile).glob("*/predictions.parquet")}
    absent = left_out(profile)
    if (usual := stream_run("all")) not in names | set(absent):
        runs.read_predictions(profile, usual)  # says what is missing, and the remedy
    names -= set(absent)
    known = sorted(name for name in names if name.startswith("stream_"))
    return known + [name for name in (STARTS, FUSION, PUBLISHED) if name in names]


def test_pixels(profile: str, run: str) -> pd.DataFrame:
    """Measures of a run's test slices, by class and in the order of their names."""
    pixels = runs.read_predictions(profile, run)
    chosen = pixels[pixels["subset"].isin(("test", "published"))]
    return chosen.sort_values(["class", "image_id"], kind="stable").reset_index(drop=True)


def rows_of_runs(profile: str) -> Iterator[dict]:
    """Rows of `scores.COLUMNS`: every score of every run."""
    split = runs.read_provenance(profile, "data")["parameters"]["split"]
    for run in stream_runs(profile):
        part, keys = test_pixels(profile, run), identity(profile, run, split)
        if part.empty:
            name = keys["task"].split()[-1]
            yield keys | {"class": name, "metric": "dice", "note": NOT_HELD_OUT}
        yield from (keys | score for score in segmentation(part).to_dict("records"))


def identity(profile: str, run: str, split: str = "") -> dict[str, str]:
    """Columns of `scores.COLUMNS` that say what a run is, for `registry.work` too."""
    if run == PUBLISHED:
        keys = {"protocol": "as_published", "split": "after augmentation", "start": "nodule"}
        keys |= {"task": "stream all", "subset": "270 published images"}
        return {"run": run, "model": run} | keys
    used = runs.read_provenance(profile, run)["parameters"]
    keys = {"model": used["model"], "task": f"stream {used['stream']}", "start": used["init"]}
    return {"run": run, "split": split, "subset": "test"} | keys


def segmentation(pixels: pd.DataFrame) -> pd.DataFrame:
    """All scores of a segmentation.

    Classes of lesions are scored twice where labels are weak: on exactly labelled slices
    (``labels`` = exact) and on all of them (``all``); the extent is exact on every slice.
    """
    rows, parts = [], scopes(pixels)
    for name in pixels["class"].unique():
        for scope, part in (parts if name in WEAK_CLASSES else {"exact": pixels}).items():
            rows += _class_scores(part[part["class"] == name], name, scope)
    for scope, part in parts.items():
        by_class = dict(iter(part[part["class"] != "lesion"].groupby("class", sort=False)))
        for name, omitted in MEANS.items():
            chosen = [of for key, of in by_class.items() if key != omitted]
            if len(chosen) > 1:
                counts, groups = slice_counts(chosen), chosen[0]["patient_id"].to_numpy()
                for metric, mean in pooled(counts, groups).items():
                    limited = sure(mean, counts, groups)
                    rows.append(row(name, metric, limited, groups, labels=scope))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _class_scores(part: pd.DataFrame, name: str, scope: str) -> Iterator[dict]:
    if part.empty:
        return
    counts, groups = slice_counts([part]), part["patient_id"].to_numpy()
    of_pooled, has = pooled(counts, groups), has_class(counts)[:, 0]
    # Values of each slice, NaN where there is none.
    each = {m: np.where(has, metrics.score(m, counts)[:, 0], np.nan) for m in PIXEL_METRICS}
    if name != "background":
        each |= {measure: part[measure].to_numpy(float) for measure in ("hd95", "dice_thresholds")}
        # The error of a severity score: predicted minus true lesion in per cent of the lung field.
        error, lung = 100 * np.abs(part["fp"] - part["fn"]), part["lung_pixels"].astype(float)
        each["volume_error"] = (error / lung.where(lung > 0)).to_numpy()
    for metric, mean in bootstrap.means(each, groups).items():
        if metric in of_pooled:
            limited = sure(of_pooled[metric], counts, groups)
            yield row(name, metric, limited, groups, labels=scope)
        if mean.n or metric in of_pooled:
            limited, own = sure(mean, counts, groups), groups[~np.isnan(each[metric])]
            yield row(name, metric, limited, own, average="per_image", labels=scope)
    if not has.all() and name != "background":
        share = intervals.wilson_by_patient(~has & (counts[:, 0, 1] > 0), ~has, groups)
        yield row(name, "false alarms", share, groups[~has], average="per_image", labels=scope)


def slice_counts(parts: Iterable[pd.DataFrame]) -> np.ndarray:
    """Pixel counts (slices, classes, 4) of the rows of each class."""
    return np.stack([part[[*metrics.OUTCOMES]].to_numpy(float) for part in parts], axis=1)


def has_class(counts: np.ndarray) -> np.ndarray:
    """Whether the truth of a slice has each class (slices, classes), of counts with a last axis."""
    return metrics.fraction("sensitivity", counts)[1] > 0


def sure(interval: Interval, counts: np.ndarray, groups: np.ndarray) -> Interval:
    """An interval without its limits where too few patients show a class that it is about.

    ``counts`` (slices, classes, 4) are those that it was made from.
    """
    has = has_class(counts)
    shown = has[:, has.any(axis=0)]
    fewest = intervals.fewest_patients(shown, groups) if shown.any() else 0
    return interval if fewest >= intervals.FEWEST_WITH_CLASS else interval.without_limits()


def pooled(counts: np.ndarray, groups: np.ndarray) -> dict[str, Interval]:
    """`PIXEL_METRICS` of summed counts (slices, classes, 4), as means over classes that occur."""
    occurs = has_class(counts).any(axis=0)
    chosen = counts[:, occurs] if occurs.any() else counts

    def means(sums: np.ndarray) -> dict[str, np.ndarray]:
        # A resample without one of the classes would be another score: NaN, left out.
        return {metric: metrics.score(metric, sums).mean(axis=-1) for metric in PIXEL_METRICS}

    return bootstrap.score(chosen[:, None], groups, means)


def compare(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Dice of the first minus that of the second, on the slices of the first, as `COLUMNS`.

    Both are pixel counts by class; of manifestations and extent, by average.
    """

    def gap_of(sums: np.ndarray) -> np.ndarray:
        dice = metrics.score("dice", sums)
        return dice[..., 0] - dice[..., 1]

    rows = []
    for name in first["class"].unique():
        if name == "background":
            continue
        own, other = first[first["class"] == name], second[second["class"] == name]
        other = other.set_index("image_id").loc[own["image_id"]]
        counts, groups = slice_counts([own, other]), own["patient_id"].to_numpy()
        each = np.where(has_class(counts)[:, 0], gap_of(counts), np.nan)
        gaps = bootstrap.score(counts[:, None], groups, gap_of), bootstrap.mean(each, groups)
        for average, gap in zip(("pooled", "per_image"), gaps, strict=True):
            limited = sure(gap, counts[:, :1], groups)
            rows.append(row(name, "dice difference", limited, groups, average=average))
    return pd.DataFrame(rows, columns=list(COLUMNS))
