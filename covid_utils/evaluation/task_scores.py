"""Rows of ``scores.csv`` for the recognition tasks and the multi-label task."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from covid_utils import registry, runs
from covid_utils.data.manifest import left_out
from covid_utils.evaluation import bootstrap, calibration, intervals, repeats, scoring
from covid_utils.registry import HEAD, TUNED

#: Models that chose something on validation, and so must be compared with a head that did too.
CHOOSING = ("fine-tuned", "linear SVM")
OTHERS = (*CHOOSING, "trivial features", "dataset only")
#: Rules that see no picture, on the X-ray and CT images.
RULES = ("modality only", "dataset only")
#: Copies of an image are no images of their own, so with them there is no Wilson interval.
COPIES = "augmented copies among the images"


def predictions_of(table: pd.DataFrame, task: str, **criteria: object) -> pd.DataFrame:
    """Predictions of one task: unless others are named, of the head's first training."""
    return runs.select(table, **{"task": task, "model": HEAD, "run": 1} | criteria)


def recognition(profile: str) -> Iterator[dict]:
    """Every score of the recognition run: accuracies, classes, differences, CT, calibration."""
    if registry.TASK1 in left_out(profile):
        return
    table = runs.read_predictions(profile, registry.TASK1)
    chosen = runs.read_metrics(profile, registry.TASK1).get("chosen", {})
    split = runs.read_provenance(profile, "data")["parameters"]["split"]
    for count in ("2 classes", "4 classes"):
        base = {"run": registry.TASK1, "split": split, "task": count}
        whole = table[table["task"] == count]
        for (model, run, subset), part in whole.groupby(["model", "run", "subset"]):
            keys = base | {"model": model, "repeat": run, "subset": subset}
            notes = [COPIES] if _is_copy(part).any() else []
            if model == TUNED:
                notes.insert(0, "rate {rate:g}, {steps} steps".format(**chosen[count]))
            yield from _of_part(part, keys | {"note": "; ".join(notes)})
        yield from _differences(table, base)
        yield from _calibrated(table, base | {"model": HEAD, "subset": "test"})
    if (table["task"] == registry.BOTH).any():
        yield from _with_ct(table, {"run": registry.TASK1, "split": split, "task": registry.BOTH})


def _of_part(part: pd.DataFrame, keys: dict) -> Iterator[dict]:
    classes = registry.RECOGNITION_TASKS[keys["task"]]
    is_test, is_first = keys["subset"] == "test", keys["repeat"] == 1
    if is_test and is_first and keys["model"] != TUNED:
        for score in scoring.recognition(part, classes).to_dict("records"):
            yield score | keys
    elif is_test and not is_first:  # another seed shows a spread, and needs no interval
        value = (part["truth"] == part["predicted"]).mean()
        own = {"class": "all", "metric": "accuracy", "value": value, "n": len(part)}
        yield own | keys | {"patients": part["patient_id"].nunique()}
    elif is_test or (is_first and keys["model"] == HEAD):
        yield scoring.accuracy(part, classes) | keys


def _is_copy(part: pd.DataFrame) -> pd.Series:
    return part["image_id"].str.contains("~", regex=False)


def _differences(table: pd.DataFrame, base: dict) -> Iterator[dict]:
    for model in OTHERS:
        other = predictions_of(table, base["task"], subset="test", model=model)
        for rival in (HEAD, TUNED) if model in CHOOSING else (HEAD,):
            head = predictions_of(table, base["task"], subset="test", model=rival)
            yield from _difference(other, head, base | {"model": f"{model} minus {rival}"})


def _difference(first: pd.DataFrame, second: pd.DataFrame, keys: dict) -> Iterator[dict]:
    """Accuracy of the first minus that of the second, on the images and runs of both, if any."""
    if first.empty or second.empty:
        return
    left, right = _hits(first).align(_hits(second), join="inner")
    gaps = (left - right).to_numpy()
    images = first.drop_duplicates("image_id").set_index("image_id").loc[left.index]
    groups = images["patient_id"].to_numpy()
    strata = intervals.class_strata(pd.factorize(images["truth"], sort=True)[0], groups)
    score = bootstrap.mean(gaps, groups, strata)
    each = 100 * gaps.mean(axis=0)
    note = f"single runs {each.min():.1f} to {each.max():.1f}; patients and runs resampled"
    if len(each) == 1:
        pair = left.to_numpy()[:, 0] > 0, right.to_numpy()[:, 0] > 0
        only_first, only_second, p_value = intervals.mcnemar(*pair)
        note = f"only the first right: {only_first}, only the second: {only_second} images "
        note += f"(McNemar over images, as if independent: p = {p_value:.2g})"
    keys = {"subset": "test"} | keys | {"repeat": 0, "note": note}
    yield scoring.row("all", "accuracy difference", score, groups) | keys


def _hits(part: pd.DataFrame) -> pd.DataFrame:
    """Whether each run is right (1) or wrong (0) on each original image: (images, runs)."""
    right = (part["truth"] == part["predicted"]).astype(float)
    table = part.assign(right=right)[~_is_copy(part)]
    return table.pivot_table(index="image_id", columns="run", values="right")


def _with_ct(table: pd.DataFrame, base: dict) -> Iterator[dict]:
    heads = runs.select(table, model=HEAD, subset="test")
    test = heads[heads["task"] == registry.BOTH]
    drawn = test[test["drawn"]]
    for modality in (registry.BOTH, "X-ray", "CT"):
        part = drawn[drawn["modality"].isin(modality.split(" + "))]
        keys = base | {"subset": "test" if modality == registry.BOTH else f"test, {modality}"}
        yield from _repeats(part, keys | {"model": HEAD}, drawn_anew=modality != "CT")
    for task in ("2 classes", registry.XRAY_SHARE):
        keys = base | {"subset": "test, X-ray", "model": f"{HEAD} minus {task}"}
        xrays, alone = test[test["modality"] == "X-ray"], heads[heads["task"] == task]
        yield from _difference(xrays, alone, keys)
    for model in RULES:
        rule = predictions_of(table, registry.BOTH, subset="test", model=model)
        if len(rule):
            yield _accuracy(rule[rule["drawn"]]) | base | {"model": model, "subset": "test"}


def _repeats(part: pd.DataFrame, keys: dict, drawn_anew: bool) -> Iterator[dict]:
    if part.empty:
        return
    each = [_accuracy(rows) | keys | {"repeat": run} for run, rows in part.groupby("run")]
    yield from each
    values, mean = [100 * score["value"] for score in each], _accuracy(part)
    notes = (
        f"runs from {min(values):.1f} to {max(values):.1f} %",
        f"standard deviation {np.std(values, ddof=1):.1f}" if len(values) > 1 else "",
        "each run on the X-rays that it drew" if drawn_anew else "",
        mean["note"],
    )
    yield mean | keys | {"repeat": 0, "note": "; ".join(filter(None, notes))}


def _accuracy(part: pd.DataFrame) -> dict:
    """Accuracy of one run, or the mean of several, on the images that each drew."""
    hits, count = part["truth"] == part["predicted"], part["run"].nunique()
    numbers = np.stack([hits, np.ones(len(part))], axis=1)
    tested = repeats.by_training(part.rename(columns={"run": "repeat"}), numbers)
    limits, note = repeats.share(tested, wilson="replaces" if count == 1 else "")
    value = bootstrap.quotient(tested.table.sum(axis=0)).mean()
    interval = intervals.Interval(value, *limits, len(part) // count)
    return scoring.row("all", "accuracy", interval, tested.groups) | {"note": note}


def shares(predictions: pd.DataFrame, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, classes) and true classes (n,) of a predictions table."""
    truth = pd.Index(names).get_indexer(predictions["truth"])
    return predictions[[f"p_{name}" for name in names]].to_numpy(np.float64), truth


def temperature(table: pd.DataFrame, task: str) -> float:
    """Temperature fitted on the validation images; 1, which changes nothing, without any."""
    part = predictions_of(table, task, subset="validation")
    classes = registry.RECOGNITION_TASKS[task]
    return calibration.fit_temperature(*shares(part, classes)) if len(part) else 1.0


def _calibrated(table: pd.DataFrame, keys: dict) -> Iterator[dict]:
    test = predictions_of(table, keys["task"], subset="test")
    if test.empty:
        return
    probabilities, truth = shares(test, registry.RECOGNITION_TASKS[keys["task"]])
    groups = test["patient_id"].to_numpy()
    for degree in (1.0, temperature(table, keys["task"])):
        scaled = calibration.apply_temperature(probabilities, degree)
        for metric, score in calibration.scores(scaled, truth, groups).items():
            own = {"average": f"temperature {round(degree, 3):g}"}
            own["note"] = "leans upwards, no interval" if metric == "ece" else ""
            yield scoring.row("all", metric, score, groups) | keys | own


def labels(profile: str) -> Iterator[dict]:
    """Scores of the multi-label network and of two rules that look at no slice."""
    if registry.TASK2 in left_out(profile):
        return
    predictions = runs.read_predictions(profile, registry.TASK2)
    split = runs.read_provenance(profile, "data")["parameters"]["split"]
    training = predictions[predictions["subset"] == "train"]
    test = predictions[predictions["subset"] == "test"]
    names = registry.MANIFESTATIONS
    # A rule ranks no slice above another, so the ROC area of a label is 0.5; but it ranks frequent
    # labels above rare ones, which the ``overall`` areas reward.
    rules = {
        "network": {},  # its own probabilities
        "always present": {f"p_{name}": 1.0 for name in names},
        "share in training": {f"p_{name}": training[f"truth_{name}"].mean() for name in names},
    }
    for scope, part in reversed(scoring.scopes(test).items()):
        if part.empty:
            continue
        for model, rule in rules.items():
            keys = {"run": registry.TASK2, "split": split, "task": "manifestations", "model": model}
            for score in scoring.labels(part.assign(**rule), names).to_dict("records"):
                yield score | keys | {"subset": "test", "labels": scope}
