"""Tables 2 to 5, calibration and the numbers of the forest figure, selected from scores."""

from __future__ import annotations

import pandas as pd

from covid_utils.registry import BOTH, HEAD, RECOGNITION_TASKS, SUBSETS, TASK1, TUNED
from covid_utils.report import claims as ledger
from covid_utils.report.render import joined, ordered, quoted, with_wilson
from covid_utils.runs import select

#: Models -> how Table 3 names them.
OTHERS = {
    "fine-tuned": "ours, fine-tuned",
    "linear SVM": "baseline: linear SVM on the same features",
    "trivial features": "baseline: size, corners and histogram only",
    "dataset only": "baseline: name of the data set only",
}
RIVALS = {HEAD: "ours", TUNED: "ours chosen on validation"}
#: Rules that see no picture -> what they know.
RULES = {
    "modality only": "knows X-ray or CT; each class has as many of both, so it tells nothing",
    "dataset only": "knows the name of the data set",
}
#: Models -> what Table 4 has instead of the number of a run.
RUNS = {
    "head minus 2 classes": "mean, minus all X-rays alone",
    "head minus X-ray, as many": "mean, minus as many X-rays alone",
    **{rule: rule for rule in RULES},
}
SETTINGS = {HEAD: "published rate and steps", TUNED: "chosen on validation"}
#: Tasks of Tables 2 and 3 -> number of classes.
TASKS = {"2 classes": 2, "4 classes": 4}
#: With two classes the paper's metrics are those of COVID-19; with four, macro averages.
SUMMARY = {"2 classes": "covid", "4 classes": "macro"}
CALIBRATION = {"ece": "expected calibration error", "brier": "Brier score", "nll": "log loss"}
MULTILABEL = {
    "network": "ours",
    "always present": "baseline: always present",
    "share in training": "baseline: share in training",
}
WEAK = {"exact": "", "all": "weak labels"}
POOLED = "labels pooled: knowing which are common already ranks them"


def table2(scored: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of the 2- and 4-class head on training, validation and test images."""
    part = select(scored, run=TASK1, metric="accuracy")
    first = ordered(part, model=SETTINGS, task=TASKS, subset=SUBSETS, repeat=[1])
    seeds = 100 * select(part, model=HEAD, subset="test").set_index("task")["value"]
    spread = {
        task: f"{len(of)} seeds of weights and batches: {of.min():.1f} to {of.max():.1f} %"
        for task, of in seeds.groupby("task")
        if len(of) > 1
    }
    is_usual = (first["model"] == HEAD) & (first["subset"] == "test")
    notes = first["task"].map(spread).where(is_usual).fillna(first["note"])
    names = {"settings": first["model"].map(SETTINGS), "classes": first["task"].map(TASKS)}
    return with_wilson(first).assign(**names, note=notes)


def table3(scored: pd.DataFrame) -> pd.DataFrame:
    """Recognition of the test images, class by class, against baselines and the literature."""
    part, parts = select(scored, run=TASK1, subset="test"), []
    metrics = ("accuracy", "sensitivity", "specificity", "precision", "f1", "mcc")
    for task in TASKS:
        own, classes = select(part, task=task, model=HEAD, repeat=1), RECOGNITION_TASKS[task]
        ours = ordered(own, class_=("all", "macro", *classes), metric=metrics)
        right = select(ours, metric="accuracy")
        wrong = {"value": 1 - right["value"], "low": 1 - right["high"], "high": 1 - right["low"]}
        errors = right.assign(metric="error rate", **wrong)
        parts += [each.assign(work=f"ours, {task}") for each in (errors, ours)]
    for task in TASKS:
        for model, words in OTHERS.items():
            own, work = select(part, task=task, model=model), f"{words}, {task}"
            some = {"all": ("accuracy", "mcc"), SUMMARY[task]: ("sensitivity", "specificity", "f1")}
            for name, shown in some.items():
                parts.append(ordered(own, class_=[name], metric=shown).assign(work=work))
            for rival, ours in RIVALS.items():
                gap = select(part, task=task, model=f"{model} minus {rival}")
                parts.append(gap.assign(work=f"{work}, minus {ours}"))
    mean = select(part, task=BOTH, metric="accuracy", repeat=0, model=HEAD)
    published = ledger.published()
    others = published[(published["task"] == 1) & (published["source"] != "D")]
    return with_wilson(pd.concat([*parts, mean.assign(work="ours, X-ray + CT"), quoted(others)]))


def table4(scored: pd.DataFrame) -> pd.DataFrame:
    """Runs on X-rays and CT together, their mean, and what CT adds for X-rays."""
    part = select(scored, task=BOTH)
    known = part["model"].map({name: f"baseline: {words}" for name, words in RULES.items()})
    numbers = part["repeat"].astype(str).replace("0", "mean")
    table = part.assign(
        source_run=part["run"],
        run=part["model"].map(RUNS).fillna(numbers),
        note=joined(known.fillna(""), part["note"]),
    )
    table["tested on"] = part["subset"].str.removeprefix("test, ").replace("test", BOTH)
    return with_wilson(table)


def table5(scored: pd.DataFrame) -> pd.DataFrame:
    """The multi-label CNN, per manifestation and overall, beside two trivial baselines."""
    part = select(scored, task="manifestations")
    is_ranking = part["metric"].isin(("roc_auc", "average_precision"))
    pooled = (is_ranking & (part["class"] == "overall")).map({True: POOLED, False: ""})
    return part.assign(
        work=part["model"].map(MULTILABEL),
        manifestation=part["class"],
        note=joined(part["labels"].map(WEAK), pooled),
    )


def calibration(scored: pd.DataFrame) -> pd.DataFrame:
    """Calibration of the heads on the test images, before and after temperature scaling."""
    part = select(scored, run=TASK1, metric=[*CALIBRATION])
    degrees = part["average"].str.removeprefix("temperature ").astype(float)
    names = part["metric"].map(CALIBRATION)
    return part.assign(metric=names, temperature=degrees, paper="not reported")


def rivals(scored: pd.DataFrame, classes: int) -> pd.DataFrame:
    """Test accuracies of one task: ``name``, ``ours``, ``low``, ``high`` (per cent), head first."""
    keys = {"task": f"{classes} classes", "subset": "test", "metric": "accuracy", "repeat": 1}
    names = {HEAD: RIVALS[HEAD], TUNED: "ours, chosen on validation"} | OTHERS
    table = ordered(select(scored, run=TASK1, **keys), model=names).reset_index(drop=True)
    limits = table[["value", "low", "high"]].rename(columns={"value": "ours"})
    return (100 * limits).assign(name=table["model"].map(names))


def stated_accuracy() -> dict[str, float]:
    """Test accuracy of each task that the paper states, in per cent."""
    tested = (claim for claim in ledger.of_kind("claim") if claim.subset == "test")
    return {f"{claim.classes} classes": float(claim.value) for claim in tested if claim.classes}
