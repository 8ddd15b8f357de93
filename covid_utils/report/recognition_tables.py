"""Tables 2 to 4 of the paper, rebuilt from the predictions of the recognition run.

Intervals come from a bootstrap that draws whole patients; Wilson's, which takes images as
independent, stand beside those of accuracies, because the paper's own can only be given so.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from covid_utils import runs
from covid_utils.evaluation import calibration, intervals, scoring
from covid_utils.registry import (
    BOTH,
    MULTIMODAL_CLASSES,
    RECOGNITION_CLASSES,
    SUBSETS,
    XRAY_SHARE,
)
from covid_utils.registry import TASK1 as RUN
from covid_utils.report import claims as ledger
from covid_utils.report.cells import WILSON, cell, pick, quoted

CLASSES = {count: RECOGNITION_CLASSES[:count] for count in (2, 4)}
#: Kinds of split -> how Table 2 says who is apart from whom. X-rays are split by patient in
#: ``infnet`` too.
SPLITS = {
    "patient": "by patient",
    "infnet": "by patient",
    "source_out": "whole data sets held out",
    "image": "image by image",
    "path_hash": "by hash of the path, as retrain.py",
}
#: Splits of the predictions file: the one that the data were prepared with comes first.
PREPARED, OTHER_SPLITS = "prepared", ("image", "path_hash")
#: Models that chose something on validation, and so must be held against a head that did too.
CHOOSING = ("fine-tuned", "linear SVM")
TUNED = "head, chosen"
#: Models of the predictions file -> how Table 3 names them.
OTHERS = {
    "fine-tuned": "ours, fine-tuned",
    "linear SVM": "baseline: linear SVM on the same features",
    "trivial features": "baseline: size, corners and histogram only",
    "dataset only": "baseline: name of the data set only",
}
ALL_METRICS = ("accuracy", "mcc")
#: Metrics that are not in per cent -> their unit.
UNITS = {"mcc": "fraction", "accuracy difference": "points"}
#: Split and subset whose row also tells how other seeds fare.
FIRST_TEST = (PREPARED, "test")
#: Columns that say which run of Table 4 a row is of.
RUN_KEYS = ("tested on", "run")
#: What the paper's settings are taken over of: features can be others, see the run's provenance.
PUBLISHED = "published rate and steps"
#: With two classes the paper's metrics are those of COVID-19; with four, macro averages.
SUMMARY = {2: "covid", 4: "macro"}


def predictions_of(
    profile: str,
    task: str,
    subset: str = "",
    model: str = "head",
    split: str = PREPARED,
    run: int = 1,
) -> pd.DataFrame:
    """What one model said in the recognition run.

    Args:
        profile: Profile of the run.
        task: Name of the task, such as ``2 classes``.
        subset: Subset, or '' for all.
        model: ``head``, `TUNED`, or one of `OTHERS`.
        split: `PREPARED`, or the kind of another split.
        run: Number of the run; 0 for all.
    """
    table = runs.read_predictions(profile, RUN)
    keys = {"task": task, "model": model, "split": split}
    keys |= {"subset": subset} if subset else {}
    keys |= {"run": run} if run else {}
    return table[np.logical_and.reduce([table[name] == wanted for name, wanted in keys.items()])]


def _cell(
    metric: str, score: pd.Series | None, claim: ledger.Claim | None = None, note: str = ""
) -> dict:
    """A cell with Wilson's limits beside it where the score is an accuracy.

    Copies of an image are no images of their own, so with them there is no Wilson interval.
    """
    made = cell(metric, score, claim, UNITS.get(metric, "%"), note, RUN)
    limits = dict.fromkeys(WILSON, np.nan)
    if metric == "accuracy" and score is not None and not score.get("has_copies", False):
        n = int(score["n"])
        found = intervals.wilson(round(score["value"] * n), n)
        limits = dict(zip(WILSON, (100 * found.low, 100 * found.high), strict=True))
    return limits | made


def table2(profile: str) -> pd.DataFrame:
    """Table 2: accuracy of the 2- and 4-class head on training, validation and test images.

    The split that the data were prepared with comes first, then those that let a patient be on both
    sides, then the learning rate and number of steps that validation would have chosen.
    """
    stated = ledger.load()
    rows = []
    for split in (PREPARED, *OTHER_SPLITS):
        said = _prepared(profile) if split == PREPARED else SPLITS[split]
        for classes, names in CLASSES.items():
            for subset in SUBSETS:
                claim = ledger.stated(stated, where="Table 2", subset=subset, classes=classes)
                keys = {"split": said, "settings": PUBLISHED, "classes": classes}
                found = predictions_of(profile, f"{classes} classes", subset, split=split)
                if split != PREPARED and found.empty:
                    continue
                note = _other_seeds(profile, classes) if (split, subset) == FIRST_TEST else ""
                score = _accuracy(found, names)
                rows.append(keys | {"subset": subset} | _cell("accuracy", score, claim, note))
    return pd.DataFrame(rows + _chosen(profile))


def _prepared(profile: str) -> str:
    """How the data were split, in the words of `SPLITS`."""
    return SPLITS[runs.read_provenance(profile, "data")["parameters"]["split"]]


def _accuracy(found: pd.DataFrame, names: tuple[str, ...]) -> pd.Series | None:
    if found.empty:
        return None
    copies = pd.Series({"has_copies": _is_copy(found).any()})
    return pd.concat([scoring.accuracy(found, names), copies])


def _is_copy(found: pd.DataFrame) -> pd.Series:
    """Whether each image is an augmented copy, see `augment.expand`."""
    return found["image_id"].str.contains("~", regex=False)


def _other_seeds(profile: str, classes: int) -> str:
    """How far the same head moves with other weights to start from and other batches."""
    found = predictions_of(profile, f"{classes} classes", "test", run=0)
    each = (found["truth"] == found["predicted"]).groupby(found["run"]).mean()
    if len(each) < 2:
        return ""
    spread = f"{100 * each.min():.1f} to {100 * each.max():.1f} %"
    return f"{len(each)} seeds of weights and batches: {spread}"


def _chosen(profile: str) -> list[dict]:
    """The setting that validation chose, on the test images."""
    rows = []
    for classes, names in CLASSES.items():
        task = f"{classes} classes"
        found = predictions_of(profile, task, "test", TUNED)
        if found.empty:
            continue
        setting = runs.read_metrics(profile, RUN)["chosen"][task]
        note = f"rate {setting['rate']:g}, {setting['steps']} steps"
        keys = {"split": _prepared(profile), "settings": "chosen on validation", "classes": classes}
        score = _accuracy(found, names)
        rows.append(keys | {"subset": "test"} | _cell("accuracy", score, None, note))
    return rows


def table3(profile: str) -> pd.DataFrame:
    """Table 3: recognition on the test images, class by class, against baselines and literature."""
    stated = ledger.load()
    rows = []
    for classes, names in CLASSES.items():
        scores = scoring.recognition(predictions_of(profile, f"{classes} classes", "test"), names)
        errors = ledger.stated(stated, metric="errors", source="D", classes=classes)
        accuracy = pick(scores, **{"class": "all"}, metric="accuracy")
        rows.append(
            {"work": f"ours, {classes} classes", "class": "all"} | _errors(accuracy, errors)
        )
        for named, metrics in _wanted(names).items():
            for metric in metrics:
                claim = stated["p07"] if (metric, classes) == ("accuracy", 2) else None
                made = _cell(metric, pick(scores, **{"class": named}, metric=metric), claim)
                rows.append({"work": f"ours, {classes} classes", "class": named} | made)
    for classes in CLASSES:
        rows += _others(profile, classes)
    drawn = predictions_of(profile, BOTH, "test", run=0).query("drawn")
    both = {k: v for k, v in _runs(drawn, BOTH)[-1].items() if k not in RUN_KEYS}
    rows.append({"work": "ours, X-ray + CT", "class": "all"} | both)
    published = ledger.published()
    literature = published[(published["task"] == 1) & (published["source"] != "D")]
    for _, row in literature.iterrows():
        rows.append({"work": row["work"], "class": row["class"]} | quoted(row))
    return pd.DataFrame(rows)


def _errors(accuracy: pd.Series, claim: ledger.Claim) -> dict:
    """Share of images named wrongly, beside the share that the paper's accuracy implies."""
    limits = {"value": "value", "low": "high", "high": "low"}
    score = pd.Series({name: 1 - accuracy[other] for name, other in limits.items()})
    score["n"] = accuracy["n"]
    wrong, total = claim.value
    made = _cell("error rate", score, claim, f"paper: {wrong} of {total} images; {claim.how}")
    return made | {"paper": f"{100 * wrong / total:.2f}"}


def _wanted(names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Class -> metrics of it that Table 3 gives."""
    each = ("sensitivity", "specificity", "precision", "f1")
    return {"all": ALL_METRICS, "macro": each} | dict.fromkeys(names, (*each, "mcc"))


def _others(profile: str, classes: int) -> list[dict]:
    """Rows of the baselines and of the fine-tuned network: the same test, fewer metrics."""
    rows, task, names = [], f"{classes} classes", CLASSES[classes]
    wanted = {"all": ALL_METRICS, SUMMARY[classes]: ("sensitivity", "specificity", "f1")}
    for model, said in OTHERS.items():
        found = predictions_of(profile, task, "test", model)
        if found.empty:
            continue
        scores = scoring.recognition(found, names)
        for named, metrics in wanted.items():
            for metric in metrics:
                made = _cell(metric, pick(scores, **{"class": named}, metric=metric))
                rows.append({"work": f"{said}, {task}", "class": named} | made)
        against = {"ours": predictions_of(profile, task, "test")}
        tuned = predictions_of(profile, task, "test", TUNED)
        if model in CHOOSING and len(tuned):
            against |= {"ours chosen on validation": tuned}
        for other, head in against.items():
            made = _difference(found, head)
            rows.append({"work": f"{said}, {task}, minus {other}", "class": "all"} | made)
    return rows


def _difference(found: pd.DataFrame, head: pd.DataFrame) -> dict:
    """Difference in accuracy of two models on the same images, first minus second."""
    found, head = (table[~_is_copy(table)].set_index("image_id") for table in (found, head))
    found = found.loc[found.index.intersection(head.index)]
    head = head.loc[found.index]
    right = [(table["truth"] == table["predicted"]).to_numpy() for table in (found, head)]
    groups = found["patient_id"].to_numpy()
    strata = intervals.class_strata(pd.factorize(found["truth"], sort=True)[0], groups)
    score = intervals.bootstrap_mean(right[0].astype(float) - right[1], groups, strata=strata)
    test = intervals.mcnemar(*right)
    note = (
        f"only the first right: {test.only_a}, only the second: {test.only_b} images "
        f"(McNemar over images, as if independent: p = {test.p_value:.2g})"
    )
    return _cell("accuracy difference", pd.Series(score._asdict()), None, note)


def table4(profile: str) -> pd.DataFrame:
    """Table 4: runs on X-rays and CT together, their mean, and what CT adds for X-rays."""
    test = predictions_of(profile, BOTH, "test", run=0)
    drawn = test[test["drawn"]]
    rows = []
    for modality in (BOTH, "X-ray", "CT"):
        part = drawn[drawn["modality"].isin(modality.split(" + "))]
        rows += _runs(part, modality)
    rows += _against_alone(profile, test)
    return pd.DataFrame(rows + _rules(profile))


def _runs(part: pd.DataFrame, modality: str) -> list[dict]:
    """Accuracy of each run and their mean."""
    stated = ledger.load()["p08"] if modality == BOTH else None
    unsure = _few_groups(part)
    found = {run: _without_limits(rows, unsure) for run, rows in part.groupby("run")}
    rows = [
        {"tested on": modality, "run": str(run)} | _cell("accuracy", score, note=unsure)
        for run, score in found.items()
    ]
    mean, extremes = None, ""
    if found:
        values = [score["value"] for score in found.values()]
        # How far runs lie apart is no interval of their mean: it does not tell about patients.
        limits = {"low": np.nan, "high": np.nan, "n": next(iter(found.values()))["n"]}
        mean = pd.Series({"value": np.mean(values)} | limits)
        extremes = f"runs from {100 * min(values):.1f} to {100 * max(values):.1f} %"
        unsure = unsure or "no interval: a mean of runs"
    spread = f"standard deviation {100 * np.std(values, ddof=1):.1f}" if len(found) > 1 else ""
    own = "each run on the X-rays that it drew" if "X-ray" in modality else ""
    notes = (extremes, spread, own, unsure)
    # A mean of runs is no proportion, so Wilson's interval does not apply to it.
    note = "; ".join(filter(None, notes))
    made = dict.fromkeys(WILSON, np.nan) | cell("accuracy", mean, stated, note=note, run=RUN)
    return [*rows, {"tested on": modality, "run": "mean"} | made]


def _without_limits(found: pd.DataFrame, unsure: str) -> pd.Series | None:
    """Accuracy of the multi-modal task; without limits where `_few_groups` had something to say."""
    score = _accuracy(found, MULTIMODAL_CLASSES)
    if score is not None and unsure:
        score[["low", "high"]] = np.nan
    return score


def _few_groups(part: pd.DataFrame) -> str:
    """What must be said where a class has too few patients, or groups, to resample; else ''."""
    for (modality, name), rows in part.groupby(["modality", "truth"]):
        groups = rows["patient_id"].nunique()
        if groups < scoring.FEWEST_WITH_CLASS:
            images = rows["image_id"].nunique()
            together = f"near copies join the {images} {modality} images of {name} into {groups}"
            return f"no interval by patient: {together}"
    return ""


def _against_alone(profile: str, test: pd.DataFrame) -> list[dict]:
    """What learning from CT too does for X-rays: paired differences on all test X-rays."""
    claim = ledger.load()["c02"]
    both = _hits(test[test["modality"] == "X-ray"])
    rivals = {
        "mean, minus all X-rays alone": "2 classes",
        "mean, minus as many X-rays alone": XRAY_SHARE,
    }
    images = test.drop_duplicates("image_id").set_index("image_id")
    rows = []
    for said, task in rivals.items():
        alone = _hits(predictions_of(profile, task, "test", run=0))
        shared = both.index.intersection(alone.index)
        numbers = both.columns.intersection(alone.columns)
        if shared.empty:
            continue
        values = (both - alone).loc[shared, numbers].to_numpy()
        patients = images.loc[shared, "patient_id"].to_numpy()
        classes = pd.factorize(images.loc[shared, "truth"], sort=True)[0]
        strata = intervals.class_strata(classes, patients)
        score = intervals.bootstrap_runs(values, patients, strata=strata)
        each = 100 * values.mean(axis=0)
        note = f"single runs {each.min():.1f} to {each.max():.1f}; patients and runs resampled"
        made = _cell("accuracy difference", pd.Series(score._asdict()), claim, note)
        rows.append({"tested on": "X-ray", "run": said} | made)
    return rows


def _hits(found: pd.DataFrame) -> pd.DataFrame:
    """Whether each run (column) is right on each image (row), 1 or 0."""
    right = (found["truth"] == found["predicted"]).astype(float)
    table = found.assign(right=right)[~_is_copy(found)]
    return table.pivot_table(index="image_id", columns="run", values="right")


def _rules(profile: str) -> list[dict]:
    """Rules that see no picture, on the images of run 1."""
    notes = {
        "modality only": "knows X-ray or CT; each class has as many of both, so it tells nothing",
        "dataset only": "knows the name of the data set",
    }
    rows = []
    for model, note in notes.items():
        found = predictions_of(profile, BOTH, "test", model)
        found = found[found["drawn"]] if len(found) else found
        unsure = _few_groups(found)
        score = _without_limits(found, unsure)
        if score is None:
            continue
        text = "; ".join(filter(None, (f"baseline: {note}", unsure)))
        keys = {"tested on": BOTH, "run": model}
        rows.append(keys | _cell("accuracy", score, None, text))
    return rows


def rivals(profile: str, classes: int) -> pd.DataFrame:
    """Test accuracy of every model and split of one task, for a picture.

    Returns:
        Columns ``name``, ``ours``, ``low`` and ``high``, in per cent; the head first.
    """
    task, names = f"{classes} classes", CLASSES[classes]
    wanted = {f"ours, split {_prepared(profile)}": {}}
    wanted |= {f"ours, split {SPLITS[kind]}": {"split": kind} for kind in OTHER_SPLITS}
    wanted |= {"ours, chosen on validation": {"model": TUNED}}
    wanted |= {said: {"model": model} for model, said in OTHERS.items()}
    rows = []
    for said, keys in wanted.items():
        score = _accuracy(predictions_of(profile, task, "test", **keys), names)
        if score is not None:
            values = {"ours": score["value"], "low": score["low"], "high": score["high"]}
            rows.append({"name": said} | {key: 100 * value for key, value in values.items()})
    return pd.DataFrame(rows)


def stated_accuracy() -> dict[str, float]:
    """Test accuracy of each task that the paper states, in per cent."""
    found = {}
    for classes in CLASSES:
        wanted = {"where": "Table 2", "subset": "test", "classes": classes}
        found[f"{classes} classes"] = float(ledger.stated(ledger.load(), **wanted).value)
    return found


def shares(predictions: pd.DataFrame, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, classes) and true classes (n,) of a predictions table."""
    truth = pd.Index(names).get_indexer(predictions["truth"])
    return predictions[[f"p_{name}" for name in names]].to_numpy(np.float64), truth


def temperature(profile: str, task: str, names: tuple[str, ...], model: str = "head") -> float:
    """Temperature fitted on the validation images; 1, which changes nothing, without any."""
    found = predictions_of(profile, task, "validation", model)
    return calibration.fit_temperature(*shares(found, names)) if len(found) else 1.0


def calibration_table(profile: str) -> pd.DataFrame:
    """Calibration of the heads on the test images, before and after temperature scaling."""
    said = {"ece": "expected calibration error", "brier": "Brier score", "nll": "log loss"}
    rows = []
    for classes, names in CLASSES.items():
        task = f"{classes} classes"
        test = predictions_of(profile, task, "test")
        probabilities, truth = shares(test, names)
        fitted = temperature(profile, task, names)
        for degree in (1.0, fitted):
            scaled = calibration.apply_temperature(probabilities, degree)
            scores = calibration.scores(scaled, truth, test["patient_id"].to_numpy())
            for metric, score in scores.items():
                keys = {"task": task, "temperature": round(degree, 3)}
                note = "leans upwards, no interval" if metric == "ece" else ""
                made = cell(said[metric], pd.Series(score._asdict()), None, "fraction", note, RUN)
                rows.append(keys | made | {"paper": "not reported"})
    return pd.DataFrame(rows)
