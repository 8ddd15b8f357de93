"""Scores of streams trained several times under a condition, and their differences.

Averages are those of `stream_scores`: ``pooled`` over all pixels, ``per_image`` over the slices
that have the class. Where truth has a class in too few groups, a score has no limits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from covid_utils import runs
from covid_utils.evaluation import bootstrap, metrics, repeats
from covid_utils.evaluation.intervals import Interval
from covid_utils.evaluation.repeats import Trainings
from covid_utils.evaluation.scoring import row, scopes
from covid_utils.evaluation.stream_scores import PIXEL_METRICS, has_class, sure
from covid_utils.registry import MANIFESTATIONS, NETWORKS

#: Name of the average score of the manifestations.
MEAN = "mean of lesions"
#: Conditions in which streams are compared: the one with near copies apart, and the paper's.
COMPARED = ("S0", "S3")
#: Name -> what is compared, the last with the mean of those before it: stream, network and start
#: ("": the usual one); and the classes. The last pair is fair: both start from random weights.
ALL = ("all", "deeplab", "")
EACH = {f"stream {name} minus stream all": (name, "deeplab", "") for name in MANIFESTATIONS}
RANDOM, UNET = ("all", "deeplab", "random"), ("all", "unet", "random")
COMPARISONS = {
    **{task: ((side, ALL), side[:1]) for task, side in EACH.items()},
    "average of streams minus stream all": ((*EACH.values(), ALL), MANIFESTATIONS),
    "nodule minus random start": ((("all", "deeplab", "nodule"), RANDOM), ("lesion",)),
    f"{NETWORKS['deeplab']} minus {NETWORKS['unet']}": ((RANDOM, UNET), ("lesion",)),
}


def segmentation(table: pd.DataFrame, base: dict) -> Iterator[dict]:
    """Dice and IoU of every stream and number of steps; what was seen; differences."""
    table = table[(table["subset"] == "test") & (table["class"] != "background")]
    usual = table["steps"].min()
    for names, part in table.groupby(["stream", "model", "start", "steps"], sort=False):
        stream, model, start, steps = names
        longer = "" if steps == usual else f", {steps} steps"
        keys = base | {"task": f"stream {stream}{longer}", "model": model, "start": start}
        keys["subset"] = "test"
        for scope, chosen in _scoped(part):
            yield from _scores(chosen, keys | {"labels": scope})
        if names == tuple(table.iloc[0][["stream", "model", "start", "steps"]]):
            yield from repeats.seen(part.drop_duplicates(["image_id", "repeat"]), keys)
    if base["protocol"] in COMPARED:
        part = table[table["steps"] == usual]
        yield from (base | {"subset": "test"} | line for line in _differences(part))


def _scoped(part: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Scope of labels and rows: of manifestations by labels; of the extent, exact everywhere."""
    is_extent = part["class"] == "lesion"
    chosen = [*scopes(part[~is_extent]).items(), ("exact", part[is_extent])]
    return ((scope, rows) for scope, rows in chosen if len(rows))


def _tested(
    part: pd.DataFrame, names: Sequence[str], images: pd.DataFrame | None = None
) -> Trainings:
    """Numbers (images, trainings, classes, 7) that every score is a quotient of sums of.

    They are the outcomes, the value of each metric, and whether truth has the class.
    """
    found = []
    for name in names:
        rows = part[part["class"] == name]
        counts = rows[[*metrics.OUTCOMES]].to_numpy(float)
        has = has_class(counts)
        of = [np.where(has, metrics.score(metric, counts), 0.0) for metric in PIXEL_METRICS]
        found.append(repeats.by_training(rows, np.column_stack([counts, *of, has]), images))
    return found[0]._replace(table=np.stack([each.table for each in found], axis=2))


def _each_class(sums: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
    """(metric, average) -> scores (..., classes) of sums (..., classes, 7)."""
    scored, outcomes = {}, len(metrics.OUTCOMES)
    for at, metric in enumerate(PIXEL_METRICS, start=outcomes):
        scored[metric, "pooled"] = metrics.score(metric, sums[..., :outcomes])
        scored[metric, "per_image"] = bootstrap.quotient(sums[..., [at, -1]])
    return scored


def _mean(sums: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
    """The same as a mean over the classes."""
    return {key: values.mean(axis=-1) for key, values in _each_class(sums).items()}


def _scores(part: pd.DataFrame, keys: dict) -> Iterator[dict]:
    """Rows of every class of a stream and, of several, of the mean over those that occur."""
    names = [*part["class"].unique()]
    tested = _tested(part, names)
    chosen = {name: [position] for position, name in enumerate(names)}
    occurs = np.flatnonzero(_shows(tested).any(axis=(0, 1)))
    chosen |= {MEAN: [*occurs]} if len(names) > 1 and len(occurs) else {}
    for name, classes in chosen.items():
        of = tested._replace(table=tested.table[:, :, classes])
        found = bootstrap.score(of.table, of.groups, _mean)
        each, own = _mean(of.table.sum(axis=0)), keys | {"class": name}
        for (metric, average), interval in found.items():
            # Scaled by Student's t, limits can leave the range of a score.
            limits = np.clip(_sure(interval, of)[1:3], 0, 1)
            labelled = own | {"metric": metric, "average": average}
            counted = _counted(of, average)
            yield from repeats.rows(labelled, each[metric, average], counted, of, limits)


def _shows(of: Trainings) -> np.ndarray:
    """Whether a training tests a slice whose truth has the class (images, trainings, classes)."""
    return of.table[..., -1] > 0


def _counted(of: Trainings, average: str) -> np.ndarray:
    """Whether a slice of a training counts for an average (images, trainings)."""
    return _shows(of).any(axis=2) if average == "per_image" else of.table.any(axis=(2, 3))


def _sure(interval: Interval, of: Trainings) -> Interval:
    """`stream_scores.sure` of several trainings."""
    return sure(interval, of.table[..., : len(metrics.OUTCOMES)].sum(axis=1), of.groups)


def _differences(table: pd.DataFrame) -> Iterator[dict]:
    """Rows of `COMPARISONS` whose sides were all trained; the first start of all is the usual."""
    usual = table["start"].iloc[0]
    for task, (sides, classes) in COMPARISONS.items():
        for scope, part in _scoped(table[table["class"].isin(classes)]):
            parts = [_side(part, *side, usual) for side in sides]
            if all(map(len, parts)):
                model = sides[-1][1] if len({side[1] for side in sides}) == 1 else ""
                keys = {"task": task, "model": model, "labels": scope, "repeat": 0}
                yield from _difference(parts, keys)


def _side(part: pd.DataFrame, stream: str, model: str, start: str, usual: str) -> pd.DataFrame:
    return runs.select(part, stream=stream, model=model, start=start or usual)


def _difference(parts: Sequence[pd.DataFrame], keys: dict) -> Iterator[dict]:
    """Rows of the mean of the first parts minus the last, of the classes that truth has."""
    images, last = repeats.images_of(pd.concat(parts)), parts[-1]
    names = [*last.loc[has_class(last[[*metrics.OUTCOMES]].to_numpy(float)), "class"].unique()]
    firsts = [part for part in parts[:-1] if set(part["class"]) & set(names)]
    if not firsts:
        return
    # In the order of the names: that of a set would differ from run to run, and the last digits.
    shared = [[n for n in names if n in set(part["class"])] for part in (*firsts, last)]
    of = [_tested(*pair, images) for pair in zip((*firsts, last), shared, strict=True)]
    weights = [*np.full(len(firsts), 1 / len(firsts)), -1.0]
    found = bootstrap.contrast([each.table for each in of], weights, of[-1].groups, _mean)
    counts, groups = [each.table.shape[1] for each in of], of[-1].groups
    keys = keys | {"class": MEAN if len(parts) > 2 else names[0]}
    for (metric, average), gap in found.items():
        counted = _counted(of[-1], average)
        limited = _sure(gap._replace(n=round(counted.sum() / counts[-1])), of[-1])
        base = row(keys["class"], f"{metric} difference", limited, groups[counted.any(axis=1)])
        note = f"{counts[0]} and {counts[-1]} trainings, resampled on each side"
        yield base | keys | {"average": average, "note": note}
