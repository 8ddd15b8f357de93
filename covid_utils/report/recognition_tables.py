"""Tables 2 to 5, calibration and the numbers of the forest figure, selected from scores."""

from __future__ import annotations

import pandas as pd

from covid_utils.registry import BOTH, RECOGNITION_TASKS, SUBSETS, TASK1
from covid_utils.report import claims as ledger
from covid_utils.report.cells import WILSON, beside, quoted, with_wilson
from covid_utils.runs import select

#: Kinds of split -> how Table 2 says who is apart from whom. X-rays are split by patient in
#: ``infnet`` too.
SPLITS = {
    "patient": "by patient",
    "infnet": "by patient",
    "source_out": "whole data sets held out",
    "image": "image by image",
    "path_hash": "by hash of the path, as retrain.py",
}
#: Splits that let a patient be on both sides.
OTHER_SPLITS = ("image", "path_hash")
HEAD, TUNED = "head", "head, chosen"
#: Models -> how Table 3 names them.
OTHERS = {
    "fine-tuned": "ours, fine-tuned",
    "linear SVM": "baseline: linear SVM on the same features",
    "trivial features": "baseline: size, corners and histogram only",
    "dataset only": "baseline: name of the data set only",
}
#: Rules that see no picture -> what they know.
RULES = {
    "modality only": "knows X-ray or CT; each class has as many of both, so it tells nothing",
    "dataset only": "knows the name of the data set",
}
PUBLISHED = "published rate and steps"
SETTINGS = {HEAD: PUBLISHED, TUNED: "chosen on validation"}
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


def joined(*notes: str) -> str:
    """Notes as one text; empty ones are left out."""
    return "; ".join(note for note in notes if note)


def _prepared(scored: pd.DataFrame) -> str:
    return select(scored, run=TASK1, metric="mcc")["split"].iloc[0]


def table2(scored: pd.DataFrame) -> pd.DataFrame:
    """Table 2: accuracy of the 2- and 4-class head on training, validation and test images."""
    part = select(scored, run=TASK1, metric="accuracy", task=[*TASKS], model=[*SETTINGS])
    prepared = _prepared(scored)
    order = [prepared, *OTHER_SPLITS]
    first = part[part["repeat"] == 1]
    ranks = {"model": [*SETTINGS], "split": order, "task": [*TASKS], "subset": [*SUBSETS]}
    first = first.sort_values(
        list(ranks), key=lambda column: column.map(ranks[column.name].index), kind="stable"
    )
    stated, claims, notes = ledger.load(), [], []
    for row in first.itertuples():
        asked = {"where": "Table 2", "subset": row.subset, "classes": TASKS[row.task]}
        claim = ledger.stated(stated, **asked) if row.model == HEAD else None
        claims.append(claim.id if claim else "")
        is_usual = (row.model, row.split, row.subset) == (HEAD, prepared, "test")
        seeds = select(part, model=HEAD, split=prepared, task=row.task, subset="test")["value"]
        spread = f"{len(seeds)} seeds of weights and batches: "
        spread += f"{100 * seeds.min():.1f} to {100 * seeds.max():.1f} %"
        notes.append(joined(row.note, spread if is_usual and len(seeds) > 1 else ""))
    table = first.assign(
        split=first["split"].map(SPLITS),
        settings=first["model"].map(SETTINGS),
        classes=first["task"].map(TASKS),
        claim=claims,
        note=notes,
    )
    keys = ["split", "settings", "classes", "subset", *WILSON]
    return beside(with_wilson(table), keys)


def table3(scored: pd.DataFrame) -> pd.DataFrame:
    """Table 3: recognition on the test images, class by class, against baselines and literature."""
    single = ("sensitivity", "specificity", "precision", "f1")
    parts = []
    for task, classes in TASKS.items():
        of_class = [(name, m) for name in RECOGNITION_TASKS[task] for m in (*single, "mcc")]
        every = [("all", "accuracy"), ("all", "mcc"), *(("macro", m) for m in single), *of_class]
        ours = _of_model(scored, task, HEAD, every).assign(work=f"ours, {task}", claim="")
        is_stated = (ours["metric"] == "accuracy") & (task == "2 classes")
        ours["claim"] = ours["claim"].mask(is_stated, "p07")
        parts += [_errors(ours, classes), ours]
    for task in TASKS:
        some = [("all", "accuracy"), ("all", "mcc")]
        some += [(SUMMARY[task], m) for m in ("sensitivity", "specificity", "f1")]
        for model, words in OTHERS.items():
            parts.append(_of_model(scored, task, model, some).assign(work=f"{words}, {task}"))
            for rival, ours in ((HEAD, "ours"), (TUNED, "ours chosen on validation")):
                difference = select(scored, task=task, model=f"{model} minus {rival}")
                parts.append(difference.assign(work=f"{words}, {task}, minus {ours}"))
    mean = select(scored, task=BOTH, subset="test", metric="accuracy", repeat=0, model=HEAD)
    parts.append(mean.assign(work="ours, X-ray + CT", claim="p08"))
    table = pd.concat(parts).fillna({"claim": "", "paper": ""})
    keys = ["work", "class", *WILSON]
    published = ledger.published()
    others = published[(published["task"] == 1) & (published["source"] != "D")]
    theirs = quoted(others, ["work", "class"])
    return pd.concat([beside(with_wilson(table), keys), theirs], ignore_index=True)


def _of_model(
    scored: pd.DataFrame, task: str, model: str, wanted: list[tuple[str, str]]
) -> pd.DataFrame:
    part = select(scored, task=task, model=model, subset="test", repeat=1)
    part = part[(part["split"] == _prepared(scored)) & (part["average"] == "pooled")]
    order = [*zip(part["class"], part["metric"], strict=True)]
    return part.iloc[[order.index(key) for key in wanted if key in order]]


def _errors(ours: pd.DataFrame, classes: int) -> pd.DataFrame:
    claim = ledger.stated(ledger.load(), metric="errors", source="D", classes=classes)
    wrong, total = claim.value
    note = f"paper: {wrong} of {total} images; {claim.how}"
    right = select(ours, class_="all", metric="accuracy")
    limits = {"value": 1 - right["value"], "low": 1 - right["high"], "high": 1 - right["low"]}
    paper = f"{100 * wrong / total:.2f}"
    return right.assign(metric="error rate", claim=claim.id, paper=paper, note=note, **limits)


def table4(scored: pd.DataFrame) -> pd.DataFrame:
    """Table 4: runs on X-rays and CT together, their mean, and what CT adds for X-rays."""
    part = select(scored, task=BOTH)
    words = {"head minus 2 classes": "mean, minus all X-rays alone"}
    words["head minus X-ray, as many"] = "mean, minus as many X-rays alone"
    run = [words.get(m, m if m in RULES else "") for m in part["model"]]
    numbers = part["repeat"].astype(str).replace("0", "mean")
    known = [f"baseline: {RULES[model]}" if model in RULES else "" for model in part["model"]]
    is_mean = (part["model"] == HEAD) & (part["repeat"] == 0) & (part["subset"] == "test")
    claim = part["model"].map(dict.fromkeys(words, "c02")).fillna("").mask(is_mean, "p08")
    table = part.assign(
        run_=[word or number for word, number in zip(run, numbers, strict=True)],
        note=[joined(a, b) for a, b in zip(known, part["note"], strict=True)],
        claim=claim,
        **{"tested on": part["subset"].str.removeprefix("test, ").replace("test", BOTH)},
    )
    table = beside(with_wilson(table), ["tested on", "run_", *WILSON])
    return table.rename(columns={"run_": "run"})


def table5(scored: pd.DataFrame) -> pd.DataFrame:
    """Table 5: the multi-label CNN, per manifestation and overall, beside two trivial baselines."""
    part = select(scored, task="manifestations")
    is_ranking = part["metric"].isin(("roc_auc", "average_precision"))
    pooled = (is_ranking & (part["class"] == "overall")).map({True: POOLED, False: ""})
    notes = [joined(WEAK[scope], note) for scope, note in zip(part["labels"], pooled, strict=True)]
    table = part.assign(work=part["model"].map(MULTILABEL), note=notes)
    table = table.rename(columns={"class": "manifestation"})
    return beside(table, ["work", "manifestation", "labels"])


def rivals(scored: pd.DataFrame, classes: int) -> pd.DataFrame:
    """Test accuracies of one task: ``name``, ``ours``, ``low``, ``high`` (per cent), head first."""
    keys = {"task": f"{classes} classes", "subset": "test", "metric": "accuracy", "repeat": 1}
    part, prepared = select(scored, **keys), _prepared(scored)
    wanted = {f"ours, split {SPLITS[kind]}": (HEAD, kind) for kind in (prepared, *OTHER_SPLITS)}
    wanted |= {"ours, chosen on validation": (TUNED, prepared)}
    wanted |= {words: (model, prepared) for model, words in OTHERS.items()}
    rows = [
        select(part, model=model, split=kind).assign(name=words)
        for words, (model, kind) in wanted.items()
    ]
    table = pd.concat(rows, ignore_index=True).rename(columns={"value": "ours"})
    numbers = ["ours", "low", "high"]
    return table[["name"]].join(100 * table[numbers])


def stated_accuracy() -> dict[str, float]:
    """Test accuracy of each task that the paper states, in per cent."""
    keys = {"where": "Table 2", "subset": "test"}
    stated = ledger.load()
    return {t: float(ledger.stated(stated, **keys, classes=n).value) for t, n in TASKS.items()}


def calibration(scored: pd.DataFrame) -> pd.DataFrame:
    """Calibration of the heads on the test images, before and after temperature scaling."""
    part = select(scored, run=TASK1, metric=[*CALIBRATION])
    degrees = part["average"].str.removeprefix("temperature ").astype(float)
    table = part.assign(
        metric=part["metric"].map(CALIBRATION), temperature=degrees, paper="not reported"
    )
    return beside(table, ["task", "temperature"])
