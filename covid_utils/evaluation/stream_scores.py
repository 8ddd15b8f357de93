"""Scores of segmentations, with intervals, from the measures of their slices.

``pooled`` takes all pixels together, so large lesions weigh more; ``per_image`` is the mean over
slices whose truth has the class, which are the same for every network: one that misses it there has
0. On the other slices the network can only be right or raise a false alarm; ``false alarms`` is the
share of them in which it predicts the class. A Hausdorff distance needs the class in both, and the
error of the extent is taken over all slices, for 0 is an extent too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import pandas as pd

from covid_utils import paths, runs
from covid_utils.data.manifest import left_out
from covid_utils.errors import DataError
from covid_utils.evaluation import intervals, metrics
from covid_utils.evaluation.intervals import Interval
from covid_utils.evaluation.scoring import COLUMNS, row, scopes
from covid_utils.registry import (
    FUSION,
    MANIFESTATIONS,
    PUBLISHED,
    SPECIALISTS,
    STARTS,
    stream_run,
)

#: Pixel metrics of a segmentation.
PIXEL_METRICS = ("dice", "iou")
#: Classes whose mask labels can be weak; the extent of disease is exact on every slice.
WEAK_CLASSES = (*MANIFESTATIONS, "background")
#: Name of the row for the mean over classes -> whether background is one of them. The authors' code
#: counts it (``mean_iou``), which lifts every score.
MEANS = {"mean": True, "mean of lesions": False}
#: Pairs of runs that the paper's statements compare, and the class: specialised streams against the
#: all-class one (alone, on average, and put together), a start from nodules against a random one,
#: DeepLab-v3+ against U-Net, which starts from random weights: the last pair, in which both do, is
#: fair.
ALL, RANDOM, UNET = stream_run("all"), stream_run("all", init="random"), stream_run("all", "unet")
PAIRS = (
    *((stream_run(name), ALL, name) for name in MANIFESTATIONS),
    (SPECIALISTS, ALL, "mean of lesions"),
    *((FUSION, ALL, name) for name in (*MANIFESTATIONS, "lesion")),
    (ALL, RANDOM, "lesion"),
    (ALL, UNET, "lesion"),
    (RANDOM, UNET, "lesion"),
)
#: What a difference of two runs does not tell.
ONE_TRAINING = "limits over slices: another training of either could move it"
NOT_HELD_OUT = "too few patients to hold one out for a test"


def stream_runs(profile: str) -> list[str]:
    """Runs that outlined slices: streams by name, then those put together and the authors'."""
    names = {path.parent.name for path in paths.results(profile).glob("*/predictions.parquet")}
    absent = left_out(profile)
    if ALL not in names | set(absent):
        runs.read_predictions(profile, ALL)  # says what is missing, and the remedy
    names -= set(absent)
    known = sorted(name for name in names if name.startswith("stream_"))
    return known + [name for name in (STARTS, FUSION, PUBLISHED) if name in names]


def test_pixels(profile: str, run: str) -> pd.DataFrame:
    """Measures of a run's test slices, by class and in the order of their names."""
    pixels = runs.read_predictions(profile, run)
    chosen = pixels[pixels["subset"].isin(("test", "published"))]
    return chosen.sort_values(["class", "image_id"], kind="stable").reset_index(drop=True)


def rows_of_runs(profile: str) -> Iterator[dict]:
    """Rows of `scores.COLUMNS`: every score of every run, then the differences of `PAIRS`.

    The mean of the specialists' scores, each of its own class, is as of one run more.
    """
    split = runs.read_provenance(profile, "data")["parameters"]["split"]
    pixels = {run: test_pixels(profile, run) for run in stream_runs(profile)}
    for run, part in pixels.items():
        keys = identity(profile, run, split)
        if part.empty:
            name = keys["task"].split()[-1]
            yield keys | {"class": name, "metric": "dice", "note": NOT_HELD_OUT}
        yield from (keys | score for score in segmentation(part).to_dict("records"))
    if set(SPECIALISTS.split(", ")) <= set(pixels):
        own = [pixels[stream_run(name)] for name in MANIFESTATIONS]
        own = pd.concat([part[part["class"].isin(MANIFESTATIONS)] for part in own])
        keys = {"run": SPECIALISTS, "task": "stream average", "model": "deeplab", "split": split}
        for scope, chosen in scopes(own).items():
            means = _mean_scores(chosen, scope, {"mean of lesions": False})
            yield from (keys | {"subset": "test"} | score for score in means)
        pixels[SPECIALISTS] = own
    for first, second, name in PAIRS:
        if {first, second} <= set(pixels):
            keys = {"run": f"{first}, {second}", "split": split, "subset": "test"}
            yield from (keys | line for line in _differences(pixels[first], pixels[second], name))


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
    for name, part in pixels.groupby("class", sort=False):
        of_class = {scope: chosen[chosen["class"] == name] for scope, chosen in parts.items()}
        if name not in WEAK_CLASSES:
            of_class = {"exact": part}
        for scope, chosen in of_class.items():
            rows += _class_scores(chosen, name, scope) if len(chosen) else []
    for scope, chosen in parts.items():
        rows += _mean_scores(chosen[chosen["class"] != "lesion"], scope)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def sure(interval: Interval, counts: np.ndarray, groups: np.ndarray) -> Interval:
    """An interval without its limits where too few patients show a class that it is about.

    ``counts`` (slices, classes, 4) are those that it was made from.
    """
    fewest = intervals.fewest_patients(has_class(counts), groups)
    is_rare = fewest < intervals.FEWEST_WITH_CLASS
    return interval.without_limits() if is_rare else interval


def slice_counts(parts: Iterable[pd.DataFrame]) -> np.ndarray:
    """Pixel counts (slices, classes, 4) of the rows of each class."""
    return np.stack([part[[*metrics.OUTCOMES]].to_numpy(float) for part in parts], axis=1)


def pooled(counts: np.ndarray, groups: np.ndarray) -> dict[str, Interval]:
    """`PIXEL_METRICS` of summed counts (slices, classes, 4), as means over classes that occur."""
    occurs = ~np.isnan(metrics.score("dice", counts.sum(axis=0)))
    chosen = counts[:, occurs] if occurs.any() else counts

    def means(sums: np.ndarray) -> dict[str, np.ndarray]:
        # A resample without one of the classes would be another score: NaN, left out.
        return {metric: metrics.score(metric, sums).mean(axis=-1) for metric in PIXEL_METRICS}

    return intervals.bootstrap(chosen, groups, means)


def _class_scores(part: pd.DataFrame, name: str, scope: str) -> list[dict]:
    counts, groups = slice_counts([part]), part["patient_id"].to_numpy()
    of_pooled, each, rows = pooled(counts, groups), _measures(part), []
    for metric, mean in intervals.bootstrap_mean(each, groups).items():
        averages = {"per_image": mean} if mean.n or metric in of_pooled else {}
        if metric in of_pooled:
            averages = {"pooled": of_pooled[metric]} | averages
        for average, interval in averages.items():
            limited = sure(interval, counts, groups)
            own = groups if average == "pooled" else groups[~np.isnan(each[metric])]
            rows.append(row(name, metric, limited, own, average=average, labels=scope))
    lacks, alarms = ~has_class(counts)[:, 0], counts[:, 0, 1] > 0
    if lacks.any() and name != "background":
        share = intervals.wilson_by_patient(lacks & alarms, lacks, groups)
        own = groups[lacks]
        rows.append(row(name, "false alarms", share, own, average="per_image", labels=scope))
    return rows


def has_class(counts: np.ndarray) -> np.ndarray:
    """Whether the truth of a slice has each class (slices, classes), of counts with a last axis."""
    _, pixels = metrics.fraction("sensitivity", counts)
    return pixels > 0


def _of_slices(metric: str, counts: np.ndarray) -> np.ndarray:
    """A pixel metric of each slice that has the class, NaN of the others."""
    return np.where(has_class(counts), metrics.score(metric, counts), np.nan)


def _measures(part: pd.DataFrame) -> dict[str, np.ndarray]:
    """Values of each slice of a class (slices,), NaN where there is none."""
    counts = slice_counts([part])[:, 0]
    values = {metric: _of_slices(metric, counts) for metric in PIXEL_METRICS}
    if part["class"].iloc[0] == "background":
        return values
    values |= {name: part[name].to_numpy(float) for name in ("hd95", "dice_thresholds")}
    lung = part["lung_pixels"].to_numpy(float)
    # The error of a severity score: predicted minus true lesion in per cent of the lung field.
    error = 100 * np.abs(part["fp"] - part["fn"]).to_numpy() / np.where(lung > 0, lung, np.nan)
    return values | {"volume_error": error}


def _mean_scores(part: pd.DataFrame, scope: str, means: dict[str, bool] = MEANS) -> list[dict]:
    rows = []
    by_class = dict(iter(part.groupby("class", sort=False)))
    for name, has_background in means.items():
        chosen = [of for key, of in by_class.items() if has_background or key != "background"]
        if len(chosen) < 2:
            continue
        counts, groups = slice_counts(chosen), chosen[0]["patient_id"].to_numpy()
        for metric, mean in pooled(counts, groups).items():
            rows.append(row(name, metric, sure(mean, counts, groups), groups, labels=scope))
    return rows


def compare(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Pooled Dice of the first minus that of the second, on the same slices in any order.

    Of each manifestation and of the extent, as `scores.COLUMNS`, from pixel counts by class.
    """
    parts = [part.sort_values("image_id", kind="stable") for part in (first, second)]
    names = (*MANIFESTATIONS, "lesion")
    rows = [line for name in names for line in _differences(*parts, name)]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return runs.select(table, metric="dice difference", average="pooled")


def _differences(first: pd.DataFrame, second: pd.DataFrame, name: str) -> Iterator[dict]:
    """Scores of the first minus those of the second, of a class or as means over manifestations."""
    names = MANIFESTATIONS if name in MEANS else (name,)
    rows = [first[first["class"] == each] for each in names]
    if rows[0].empty:
        return
    others = [second[second["class"] == each] for each in names]
    if rows[0]["image_id"].tolist() != others[0]["image_id"].tolist():
        raise DataError(
            "two segmentations that are compared are not of the same test slices; run both again, "
            "for example with 'make reproduce'."
        )
    both, groups = np.stack([*map(slice_counts, (rows, others))]), rows[0]["patient_id"].to_numpy()
    occurs = has_class(both[0]).any(axis=0)
    both = np.moveaxis(both[:, :, occurs] if occurs.any() else both, 0, 1)
    is_exact = name == "lesion" or (rows[0]["label_quality"] == "exact").all()
    keys = {"labels": "exact" if is_exact else "all", "note": ONE_TRAINING, "repeat": 0}
    n = int(has_class(both[:, 0]).any(axis=1).sum())
    for metric in PIXEL_METRICS:
        of_slices = _of_slices(metric, both)
        gap = of_slices[:, 0] - of_slices[:, 1]
        mean = intervals.bootstrap_mean(gap, groups, combined=lambda m: m.mean(axis=-1))
        of_pixels = intervals.bootstrap(both, groups, partial(_gap, metric))
        for average, gained in {"pooled": of_pixels, "per_image": mean._replace(n=n)}.items():
            limited = sure(gained, both[:, 0], groups)
            yield row(name, f"{metric} difference", limited, groups, average=average) | keys


def _gap(metric: str, both: np.ndarray) -> np.ndarray:
    """Difference of two sides, as a mean over classes, of counts (..., 2, classes, 4)."""
    score = metrics.score(metric, both)
    return (score[..., 0, :] - score[..., 1, :]).mean(axis=-1)
