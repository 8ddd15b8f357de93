"""Scores of networks trained under different conditions (`registry.CONDITIONS`).

A row with ``repeat`` 0 is the mean over all trainings, with limits over patients and trainings; one
with ``repeat`` k is training k alone, without limits. ``protocol`` is the condition, ``split`` (of
recognition) the one whose images a network learned from. ``n`` is the number of test images of a
training, on average: where images are assigned at random, each training has others. Averages of
segmentations are those of `stream_scores`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from covid_utils import paths, registry, runs
from covid_utils.data.manifest import left_out
from covid_utils.evaluation import bootstrap, metrics, repeats
from covid_utils.evaluation.intervals import Interval, difference
from covid_utils.evaluation.repeats import Trainings
from covid_utils.evaluation.scoring import label_arrays, row, scopes
from covid_utils.evaluation.stream_scores import PIXEL_METRICS, has_class, sure

#: Score of adult normals from another source: the share that is not called normal.
FALSE_POSITIVES = "false positives"
#: Sides of comparisons: stream, network and start ("": the usual one).
ALL, RANDOM = ("all", "deeplab", ""), ("all", "deeplab", "random")
UNET = ("all", "unet", "random")
EACH = {name: (name, "deeplab", "") for name in registry.MANIFESTATIONS}
#: Name -> sides, the last compared with the mean of those before it; and the classes. The last pair
#: is fair: both start from random weights.
COMPARISONS = {
    **{f"stream {name} minus stream all": ((side, ALL), (name,)) for name, side in EACH.items()},
    "average of streams minus stream all": ((*EACH.values(), ALL), registry.MANIFESTATIONS),
    "nodule minus random start": ((("all", "deeplab", "nodule"), RANDOM), ("lesion",)),
    " minus ".join(registry.NETWORKS.values()): ((RANDOM, UNET), ("lesion",)),
}


def conditions(profile: str) -> Iterator[dict]:
    """Rows of `scores.COLUMNS` of the conditions that have been run."""
    kinds = {"R": _recognition, "M": _recognition, "T": _labels, "S": _segmentation}
    absent, folder = left_out(profile), paths.results(profile)
    each = {condition: registry.condition_run(condition) for condition in registry.CONDITIONS}
    there = {
        condition: run
        for condition, run in each.items()
        if run not in absent and (folder / run / "predictions.parquet").is_file()
    }
    for condition, run in there.items():  # one table in memory at a time
        table = runs.read_predictions(profile, run)
        if condition == "R0" and "R1" in there:
            table = _with_tests_of(runs.read_predictions(profile, there["R1"]), table)
        yield from kinds[condition[0]](table, {"run": run, "protocol": condition})


def _with_tests_of(r1: pd.DataFrame, r0: pd.DataFrame) -> pd.DataFrame:
    """R0's predictions, and once more those of `registry.TESTED_BY_R1`.

    R1 differs from R0 in its training and in its test. On the same images only training differs.
    """
    tested = r1.loc[r1["subset"] == "test", ["task", "image_id"]].drop_duplicates()
    shared = r0[r0["subset"] == "test"].merge(tested)
    return pd.concat([r0, shared.assign(subset=registry.TESTED_BY_R1)], ignore_index=True)


def _recognition(table: pd.DataFrame, base: dict) -> Iterator[dict]:
    """Accuracy of each task, model and subset; what training had seen of the test images."""
    table = table[table["drawn"]].rename(columns={"run": "repeat"})
    names = ["task", "model", "split", "subset"]
    for values, part in table.groupby(names):
        keys = base | dict(zip(names, values, strict=True)) | {"class": "all", "metric": "accuracy"}
        if base["protocol"] == registry.FINE_TUNED:
            keys["protocol"] = keys["split"]
        right = (part["truth"] == part["predicted"]).to_numpy()
        if keys["subset"] == registry.ADULTS:
            right, keys["metric"] = ~right, FALSE_POSITIVES
        is_test = keys["subset"] in ("test", registry.TESTED_BY_R1, registry.ADULTS)
        learns = keys["model"] in (registry.HEAD, "fine-tuned")
        if is_test or learns:
            yield from repeats.share_rows(part, right, np.ones(len(part)), keys)
        if keys["subset"] == "test" and learns:
            yield from repeats.seen(part, keys)


def _labels(table: pd.DataFrame, base: dict) -> Iterator[dict]:
    """Accuracy of the multi-label network, by manifestation and of all decisions."""
    test = table[table["subset"] == "test"]
    base = base | {"task": "manifestations", "model": "network", "subset": "test"}
    for scope, part in scopes(test).items():
        if len(part):
            truth, probability = label_arrays(part, registry.MANIFESTATIONS)
            right = truth == (probability >= 0.5)
            columns = {name: [at] for at, name in enumerate(registry.MANIFESTATIONS)}
            columns["overall"] = [*range(right.shape[1])]
            for name, chosen in columns.items():
                hits, cases = right[:, chosen].sum(axis=1), np.full(len(part), len(chosen))
                keys = base | {"metric": "accuracy", "labels": scope, "class": name}
                yield from repeats.share_rows(part, hits, cases, keys)
    yield from repeats.seen(test, base)


def _segmentation(table: pd.DataFrame, base: dict) -> Iterator[dict]:
    """Dice and IoU of every stream and number of steps; what was seen; differences."""
    table = table[(table["subset"] == "test") & (table["class"] != "background")]
    usual = table["steps"].min()
    by_stream = table.groupby(["stream", "model", "start", "steps"], sort=False)
    for number, ((stream, model, start, steps), part) in enumerate(by_stream):
        longer = "" if steps == usual else f", {steps} steps"
        keys = base | {"task": f"stream {stream}{longer}", "model": model, "start": start}
        keys["subset"] = "test"
        for scope, chosen in _scoped(part):
            yield from _stream_scores(chosen, keys | {"labels": scope})
        if number == 0:
            yield from repeats.seen(part.drop_duplicates(["image_id", "repeat"]), keys)
    if base["protocol"] in registry.COMPARED:
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


def _means(sums: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
    """(metric, average) -> score of sums (..., classes, 7), as a mean over the classes (...)."""
    scored, outcomes = {}, len(metrics.OUTCOMES)
    for at, metric in enumerate(PIXEL_METRICS, start=outcomes):
        scored[metric, "pooled"] = metrics.score(metric, sums[..., :outcomes]).mean(axis=-1)
        scored[metric, "per_image"] = bootstrap.quotient(sums[..., [at, -1]]).mean(axis=-1)
    return scored


def _counted(of: Trainings) -> dict[str, np.ndarray]:
    """Average -> whether a slice of a training counts for it (images, trainings)."""
    return {
        "pooled": of.table.any(axis=(2, 3)),
        "per_image": (of.table[..., -1] > 0).any(axis=2),
    }


def _stream_scores(part: pd.DataFrame, keys: dict) -> Iterator[dict]:
    """Rows of every class of a stream and, of several, of the mean over those that occur."""
    names = [*part["class"].unique()]
    tested = _tested(part, names)
    chosen = {name: [position] for position, name in enumerate(names)}
    occurs = np.flatnonzero(tested.table[..., -1].any(axis=(0, 1)))
    chosen |= {registry.MEAN_OF_LESIONS: [*occurs]} if len(names) > 1 and len(occurs) else {}
    for name, classes in chosen.items():
        of = tested._replace(table=tested.table[:, :, classes])
        each, counted = _means(of.table.sum(axis=0)), _counted(of)
        for (metric, average), found in bootstrap.score(of.table, of.groups, _means).items():
            # Scaled by Student's t, limits can leave the range of a score.
            limits = np.clip(_sure(found, of).limits, 0, 1)
            own = keys | {"class": name, "metric": metric, "average": average}
            yield from repeats.rows(own, each[metric, average], counted[average], of, limits)


def _sure(interval: Interval, of: Trainings) -> Interval:
    """`stream_scores.sure` of several trainings."""
    return sure(interval, of.table[..., : len(metrics.OUTCOMES)].sum(axis=1), of.groups)


def _differences(table: pd.DataFrame) -> Iterator[dict]:
    """Rows of `COMPARISONS` whose sides were all trained; the first start of all is the usual."""
    usual = table["start"].iloc[0]
    for task, (sides, classes) in COMPARISONS.items():
        for scope, part in _scoped(table[table["class"].isin(classes)]):
            parts = [
                runs.select(part, stream=stream, model=model, start=start or usual)
                for stream, model, start in sides
            ]
            if all(map(len, parts)):
                model = sides[-1][1] if len({side[1] for side in sides}) == 1 else ""
                keys = {"task": task, "model": model, "labels": scope, "repeat": 0}
                yield from _difference(parts, keys)


def _difference(parts: Sequence[pd.DataFrame], keys: dict) -> Iterator[dict]:
    """Rows of the mean of the first parts minus the last, of the classes that truth has."""
    images, last = repeats.images_of(pd.concat(parts)), parts[-1]
    names = [*last.loc[has_class(last[[*metrics.OUTCOMES]].to_numpy(float)), "class"].unique()]
    # In the order of the names: that of a set would differ from run to run, and the last digits.
    shared = [[name for name in names if name in set(part["class"])] for part in parts]
    tested = [_tested(*pair, images) for pair in zip(parts, shared, strict=True) if pair[1]]
    if len(tested) < 2:
        return
    tables, of = [each.table for each in tested], tested[-1]
    weights = [*np.full(len(tables) - 1, 1 / (len(tables) - 1)), -1.0]
    first, number, counts = tables[0].shape[1], of.table.shape[1], _counted(of)
    keys = keys | {"class": registry.MEAN_OF_LESIONS if len(parts) > 2 else names[0]}
    keys["note"] = f"{first} and {number} trainings, resampled on each side"
    gaps = bootstrap.contrast(tables, weights, of.groups, _means)
    for (metric, average), gap in gaps.items():
        limited = _sure(gap._replace(n=round(counts[average].sum() / number)), of)
        groups = of.groups[counts[average].any(axis=1)]
        base = row(keys["class"], f"{metric} difference", limited, groups)
        yield base | keys | {"average": average}


def leak(answers: pd.DataFrame) -> pd.DataFrame:
    """How much a comparison of patients finds of what the marks of hospitals are worth in truth.

    ``answers`` are those of `training.controls`: per image ``strength``, ``patient_id``, whether it
    is recognised at the ``same`` hospital as in training, and whether at the ``other`` one. In the
    result, one row per strength, these are the accuracy of every second patient and of the others,
    of which the ``difference`` with its limits is all that real scans can show; ``truth`` is the
    difference for the same patients, and ``share`` how much of it is found.
    """
    rows = []
    for strength, one in answers.groupby("strength"):
        patient = pd.factorize(one["patient_id"])[0]
        halves = {"same": patient % 2 == 0, "other": patient % 2 == 1}
        means = {
            name: bootstrap.mean(one[name].to_numpy(float)[half], patient[half])
            for name, half in halves.items()
        }
        gap, truth = difference(*means.values()), one["same"].mean() - one["other"].mean()
        line = {"strength": strength} | {name: mean.value for name, mean in means.items()}
        line |= {"difference": gap.value, "low": gap.low, "high": gap.high, "truth": truth}
        rows.append(line | {"share": gap.value / truth if truth else np.nan})
    return pd.DataFrame(rows)
