"""Tables 1 to 9 of the paper, rebuilt: our numbers beside what the paper's prose states.

The bodies of the paper's tables are not available, so the column ``paper`` holds what its prose
says, with the id of the entry in ``paper/claims.yaml``, and "not available" elsewhere. Everything
is computed from run folders; nothing here trains or loads a network.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from covid_utils import paths, runs
from covid_utils.data.collection import RECOGNITION_CLASSES, frontal_xrays, kind, saved_manifest
from covid_utils.data.splits import SUBSETS
from covid_utils.evaluation import intervals, metrics, scoring
from covid_utils.report import claims as ledger
from covid_utils.training import multimodal
from covid_utils.training.multilabel import MANIFESTATIONS
from covid_utils.training.segmentation import NODULE_SETS, STREAMS
from covid_utils.writing import whole

NOT_AVAILABLE = "not available"
#: What every table of scores ends with.
VALUES = ("metric", "unit", "ours", "low", "high", "n", "paper", "claim", "note")
CLASSES = {count: RECOGNITION_CLASSES[:count] for count in (2, 4)}
#: Task of Table 1 -> run and, where a run has several, its task.
TASK_RUNS = {
    "1: recognition, 4 classes": ("task1", "4 classes"),
    "1: recognition, 2 classes": ("task1", "2 classes"),
    "2: manifestations of a slice": ("task2", ""),
    "3: segmentation": ("stream_all_unet", ""),
    "3: nodules": ("stream_nodule_unet", ""),
}
#: What keeps a patient's images together -> how the table says it.
BASES = {"given": "patient", "figure": "figure, near copies", "none": "near copies"}
MULTIMODAL_RUNS = "multi-modal "
#: Tables of the CT slices with masks.
SLICE_TABLES = ("table5", "table6", "table7", "table8")
#: Columns of a segmentation score that say what it is of.
SCOPE = ("class", "average", "labels")
#: Metrics that are no percentages.
FRACTIONS = ("mcc", "roc_auc", "average_precision")
#: Which slices a score is of -> what must be said beside it.
WEAK = {"exact": "", "all": "weak labels"}


def style() -> None:
    """Let notebooks show tables whole: every row, and no note cut short. Call it once."""
    pd.set_option("display.max_rows", None)
    pd.set_option("display.max_colwidth", None)


def _cell(
    metric: str,
    score: pd.Series | None,
    claim: ledger.Claim | None,
    unit: str = "%",
    note: str = "",
) -> dict:
    """The columns of `VALUES`: our score, in the unit wanted, beside the paper's."""
    factor = 100.0 if unit == "%" else 1.0
    ours = {"ours": np.nan, "low": np.nan, "high": np.nan, "n": 0}
    if score is not None:
        names = {"ours": "value", "low": "low", "high": "high"}
        ours = {key: score[name] * factor for key, name in names.items()}
        ours["n"] = int(score["n"])
    said = NOT_AVAILABLE if claim is None else str(claim.value)
    if claim is not None and claim.unit == "statement":
        said = "stated without a number"
    paper = {"paper": said, "claim": "" if claim is None else claim.id, "note": note}
    return {"metric": metric, "unit": unit} | ours | paper


def _quoted(row: pd.Series, note: str = "quoted, not run again") -> dict:
    """The columns of `VALUES` for a published row: nothing of ours."""
    text = f"{note}; tested on: {row['test_set']}"
    claim = row["claim"] if isinstance(row["claim"], str) else ""
    cell = _cell(row["metric"], None, None, row["unit"], text)
    return cell | {"paper": f"{row['value']:g}", "claim": claim}


def _pick(scores: pd.DataFrame, **criteria: str) -> pd.Series | None:
    """The one score with these values, or None if there is none."""
    for column, wanted in criteria.items():
        scores = scores[scores[column] == wanted]
    return scores.iloc[0] if len(scores) else None


def _task1(profile: str, task: str, subset: str) -> pd.DataFrame:
    predictions = runs.read_predictions(profile, "task1")
    return predictions[(predictions["task"] == task) & (predictions["subset"] == subset)]


def table1(profile: str) -> pd.DataFrame:
    """Table 1: data of each task, before and after augmentation, beside the paper's counts.

    Where patients are unknown, groups of near copies stand in, and ``grouped by`` says so. Images
    that are augmented anew each time they are shown count once for each showing.
    """
    stated = ledger.load()
    manifest = saved_manifest(profile)
    xrays = frontal_xrays(manifest)
    ct = manifest[manifest["dataset"] == "covid-ct"]
    two = xrays[xrays["label"].isin(CLASSES[2])]
    slices = manifest[manifest["dataset"] == "medseg"]
    nodules = manifest[manifest["dataset"].isin(NODULE_SETS)]
    parts = {
        "1: recognition, 4 classes": (xrays[xrays["label"].isin(CLASSES[4])], "p11"),
        "1: recognition, 2 classes": (two, "p12"),
        "1: X-ray + CT, before undersampling": (pd.concat([two, ct]), ""),
        "2: manifestations of a slice": (slices, ""),
        "3: segmentation": (slices, "p10"),
        "3: nodules": (nodules, ""),
    }
    rows = []
    for task, (part, claim) in parts.items():
        paper = stated[claim].value if claim else (NOT_AVAILABLE, NOT_AVAILABLE)
        said = {"paper train": paper[0], "paper test": paper[1], "claim": claim}
        rows.append({"task": task} | _composition(part) | _augmented(profile, task) | said)
    return pd.DataFrame(rows)


def _composition(part: pd.DataFrame) -> dict:
    """What a task's images are, before augmentation."""
    counts = part["subset"].value_counts()
    bases = [text for basis, text in BASES.items() if basis in set(part["patient_basis"])]
    return {
        "modality": " + ".join(sorted(part["modality"].unique(), reverse=True)),
        "patients or groups": part["patient_id"].nunique(),
        "grouped by": " / ".join(bases),
        "images": len(part),
        **{subset: counts.get(subset, 0) for subset in SUBSETS},
    }


def _augmented(profile: str, task: str) -> dict:
    """How many images a task trained on and was tested on, after augmentation."""
    columns = ("train after", "test after", "augmentation")
    if task not in TASK_RUNS:
        return dict.fromkeys(columns, "as above")
    run, part = TASK_RUNS[task]
    predictions = runs.read_predictions(profile, run)
    if part:
        predictions = predictions[predictions["task"] == part]
    images = predictions.drop_duplicates("image_id")
    counts = images["subset"].value_counts()
    train, test = (int(counts.get(name, 0)) for name in ("train", "test"))
    if images["image_id"].str.contains("~").any():
        return dict(zip(columns, (train, test, "fixed copies"), strict=True))
    if part:  # recognition trains on features of each image as it is
        return dict(zip(columns, (train, test, "none"), strict=True))
    shown = runs.read_metrics(profile, run)["shown"]
    return dict(zip(columns, (shown, test, "anew at each showing"), strict=True))


def table2(profile: str) -> pd.DataFrame:
    """Table 2: accuracy of the 2- and 4-class head on training, validation and test images."""
    stated = ledger.load()
    rows = []
    for classes, names in CLASSES.items():
        for subset in ("train", "validation", "test"):
            part = _task1(profile, f"{classes} classes", subset)
            claim = ledger.stated(stated, where="Table 2", subset=subset, classes=classes)
            score = None
            if len(part):
                scores = scoring.recognition(part, names)
                score = _pick(scores, **{"class": "all"}, metric="accuracy")
            rows.append({"classes": classes, "subset": subset} | _cell("accuracy", score, claim))
    return pd.DataFrame(rows)


def table3(profile: str) -> pd.DataFrame:
    """Table 3: recognition on the test images against the literature that the paper quotes."""
    stated = ledger.load()
    rows = []
    for classes, names in CLASSES.items():
        scores = scoring.recognition(_task1(profile, f"{classes} classes", "test"), names)
        # With two classes the paper's metrics are those of COVID-19; with four, macro averages.
        of = "covid" if classes == 2 else "macro"
        for metric in ("accuracy", "sensitivity", "specificity", "precision", "f1", "mcc"):
            named = "all" if metric in ("accuracy", "mcc") else of
            claim = stated["p07"] if (metric, classes) == ("accuracy", 2) else None
            unit = "fraction" if metric == "mcc" else "%"
            cell = _cell(metric, _pick(scores, **{"class": named}, metric=metric), claim, unit)
            rows.append({"work": f"ours, {classes} classes", "class": named} | cell)
    mean = table4(profile).query("run == 'mean' and `tested on` == 'X-ray + CT'").iloc[0]
    rows.append({"work": "ours, X-ray + CT", "class": "all"} | mean[list(VALUES)].to_dict())
    published = ledger.published()
    quoted = published[(published["task"] == 1) & (published["source"] != "D")]
    for _, row in quoted.iterrows():
        rows.append({"work": row["work"], "class": row["class"]} | _quoted(row))
    return pd.DataFrame(rows)


def table4(profile: str) -> pd.DataFrame:
    """Table 4: runs on X-rays and CT together, their mean, and how each modality fares."""
    predictions = runs.read_predictions(profile, "task1")
    test = predictions[predictions["subset"] == "test"]
    stated = ledger.load()["p08"]
    rows = []
    for modality in ("X-ray + CT", "X-ray", "CT"):
        each = _multimodal_accuracy(test[test["modality"].isin(modality.split(" + "))])
        for run, score in each.items():
            cell = _cell("accuracy", score, None)
            rows.append({"tested on": modality, "run": str(run)} | cell)
        mean = None
        if each:
            values = [score["value"] for score in each.values()]
            limits = {"low": min(values), "high": max(values), "n": each[1]["n"]}
            mean = pd.Series({"value": np.mean(values)} | limits)
        claim = stated if modality == "X-ray + CT" else None
        note = "in brackets the extremes of the runs, not an interval"
        if modality == "X-ray" and each:
            note += "; " + _against_xray_alone(test)
        cell = _cell("accuracy", mean, claim, note=note)
        rows.append({"tested on": modality, "run": "mean"} | cell)
    return pd.DataFrame(rows)


def _against_xray_alone(test: pd.DataFrame) -> str:
    """McNemar's test of the first multi-modal run against X-rays alone, on the same X-rays."""
    columns = ["image_id", "truth", "predicted"]
    alone = test.loc[test["task"] == "2 classes", columns].set_index("image_id")
    both = test.loc[test["task"] == f"{MULTIMODAL_RUNS}1", columns].set_index("image_id")
    both = both[both.index.isin(alone.index)]
    if both.empty:
        return "no X-ray is in both tests"
    alone = alone.loc[both.index]
    result = intervals.mcnemar(
        (both["truth"] == both["predicted"]).to_numpy(),
        (alone["truth"] == alone["predicted"]).to_numpy(),
    )
    return (
        f"run 1 alone is right on {result.only_a} of these images, the X-ray head alone on "
        f"{result.only_b} (McNemar p = {result.p_value:.2g})"
    )


def _multimodal_accuracy(test: pd.DataFrame) -> dict[int, pd.Series]:
    """Accuracy of each multi-modal run, in the order of the runs."""
    found = {}
    for task, part in test[test["task"].str.startswith(MULTIMODAL_RUNS)].groupby("task"):
        scores = scoring.recognition(part, multimodal.CLASSES)
        run = int(task.removeprefix(MULTIMODAL_RUNS))
        found[run] = _pick(scores, **{"class": "all"}, metric="accuracy")
    return dict(sorted(found.items()))


def table5(profile: str) -> pd.DataFrame:
    """Table 5: the multi-label CNN, per manifestation and overall, beside the trivial baseline."""
    predictions = runs.read_predictions(profile, "task2")
    test = predictions[predictions["subset"] == "test"]
    exact = test[test["label_quality"] == "exact"]
    scopes = {"exact": exact} if len(exact) == len(test) else {"all": test, "exact": exact}
    rows = []
    for scope, part in scopes.items():
        if part.empty:
            continue
        found = {
            "ours": scoring.labels(part, MANIFESTATIONS),
            "baseline: always present": scoring.always_positive(part, MANIFESTATIONS),
        }
        for work, scores in found.items():
            for _, score in scores.iterrows():
                unit = "fraction" if score["metric"] in FRACTIONS else "%"
                cell = _cell(score["metric"], score, None, unit, WEAK[scope])
                keys = {"work": work, "manifestation": score["class"], "labels": scope}
                rows.append(keys | cell)
    return pd.DataFrame(rows)


def _stream_scores(profile: str, stream: str) -> pd.DataFrame:
    """Scores of a stream's test slices; none if no slice is held out."""
    pixels = runs.read_predictions(profile, f"stream_{stream}_unet")
    test = pixels[pixels["subset"] == "test"]
    return scoring.segmentation(test) if len(test) else pd.DataFrame(columns=scoring.COLUMNS)


def table6(profile: str) -> pd.DataFrame:
    """Table 6: Dice and IoU of the all-class stream and of each specialised stream."""
    rows = []
    for stream in STREAMS:
        scores = _stream_scores(profile, stream)
        if scores.empty:
            note = "too few patients to hold one out for a test"
            cell = _cell("dice", None, None, "fraction", note)
            keys = {"stream": stream, "class": stream, "average": "pooled", "labels": "exact"}
            rows.append(keys | cell)
        for _, score in scores[scores["class"] != "background"].iterrows():
            metric = "mean iou" if score["class"] == "mean" else score["metric"]
            keys = {"stream": stream} | score[list(SCOPE)].to_dict()
            rows.append(keys | _cell(metric, score, None, "fraction", WEAK[score["labels"]]))
    return pd.DataFrame(rows + _specialists_against_all(profile))


def _specialists_against_all(profile: str) -> list[dict]:
    """Difference in pooled Dice, each specialised stream minus the all-class one, same slices."""
    claim = ledger.load()["c01"]
    rows = []
    for name in MANIFESTATIONS:
        own, shared = (_test_pixels(profile, stream, name) for stream in (name, "all"))
        if own.empty:
            continue
        groups = own["patient_id"].to_numpy()
        counts = (scoring.slice_counts(part) for part in (own, shared))
        difference = intervals.paired_bootstrap(*counts, groups, metrics.dice)
        score = pd.Series(difference._asdict())
        exact = bool((own["label_quality"] == "exact").all())
        scope = "exact" if exact else "all"
        keys = {"stream": f"{name} minus all", "class": name, "average": "pooled", "labels": scope}
        rows.append(keys | _cell("dice difference", score, claim, "fraction", WEAK[scope]))
    return rows


def _test_pixels(profile: str, stream: str, name: str) -> pd.DataFrame:
    """Pixel counts of one class on the test slices of a stream, in the order of their names."""
    pixels = runs.read_predictions(profile, f"stream_{stream}_unet")
    chosen = pixels[(pixels["subset"] == "test") & (pixels["class"] == name)]
    return chosen.sort_values("image_id").reset_index(drop=True)


def table7(profile: str) -> pd.DataFrame:
    """Table 7: each manifestation against the literature; the paper's values are derived."""
    published = ledger.published()
    rows = []
    for name in MANIFESTATIONS:
        for stream in (name, "all"):
            rows += _manifestation(profile, stream, name)
        quoted = published[(published["class"] == name) & (published["task"] == 3)]
        for _, row in quoted[quoted["source"] != "D"].iterrows():
            average = "per_image" if row["source"] == "R" else NOT_AVAILABLE
            keys = {"class": name, "work": row["work"], "average": average, "labels": "quoted"}
            rows.append(keys | _quoted(row))
    return pd.DataFrame(rows)


def _manifestation(profile: str, stream: str, name: str) -> list[dict]:
    """Scores of one manifestation by one stream, beside what the paper implies for its own.

    The paper's implied "mIoU" fits its implied Dice as the IoU of the class alone, without
    background (0.911 / (2 - 0.911) = 0.837, stated 0.848), so that is what stands beside it.
    """
    stated = ledger.load()
    scores = _stream_scores(profile, stream)
    rows = []
    for metric, paper_metric in (("dice", "Dice"), ("iou", "mIoU")):
        claim = None
        if stream == name:
            derived = {"where": "Table 7", "metric": paper_metric, "class_": name, "source": "D"}
            claim = ledger.stated(stated, **derived)
        chosen = scores[(scores["class"] == name) & (scores["metric"] == metric)]
        for _, score in chosen.iterrows():
            how = f"paper's value derived: {claim.how}" if claim else ""
            note = "; ".join(part for part in (WEAK[score["labels"]], how) if part)
            keys = {"class": name, "work": f"ours, stream {stream}"}
            keys |= score[["average", "labels"]].to_dict()
            rows.append(keys | _cell(metric, score, claim, "fraction", note))
    return rows


def table8(profile: str) -> pd.DataFrame:
    """Table 8: the extent of disease, all manifestations together, against the literature."""
    stated, published = ledger.load(), ledger.published()
    scores = _stream_scores(profile, "all")
    rows = []
    for claim, metric in (("p25b", "dice"), ("p25a", "iou")):
        note = f"the paper states a gain of {stated[claim].value} % and no value"
        for average in ("per_image", "pooled"):
            score = _pick(scores, **{"class": "lesion"}, metric=metric, average=average)
            cell = _cell(metric, score, None, "fraction", note)
            rows.append({"work": "ours, stream all", "average": average} | cell | {"claim": claim})
    quoted = published[(published["task"] == 3) & published["class"].isin(("lesion", "all"))]
    for _, row in quoted[quoted["source"] != "D"].iterrows():
        average = "per_image" if row["source"] == "R" else NOT_AVAILABLE
        rows.append({"work": row["work"], "average": average} | _quoted(row))
    return pd.DataFrame(rows)


def table9(profile: str) -> pd.DataFrame:
    """Table 9: measured time for one image, stage by stage, on the machine of the run."""
    stated = ledger.load()["p26"]
    rows = []
    stages = {"recognition": "task1", "manifestations": "task2", "segmentation": "stream_all_unet"}
    for stage, run in stages.items():
        seconds = runs.read_metrics(profile, run)["seconds_per_image"]
        for step, spent in seconds.items():
            rows.append(
                {
                    "stage": stage,
                    "step": step,
                    "median [s]": spent["median"],
                    "p95 [s]": spent["p95"],
                    "calls": spent["calls"],
                    "machine": runs.read_provenance(profile, run)["processor"],
                }
            )
    note = f"{stated.value:g} % time per case"
    return pd.DataFrame(rows).assign(paper=note, claim=stated.id)


BUILDERS: dict[str, Callable[[str], pd.DataFrame]] = {
    f"table{number}": builder
    for number, builder in enumerate(
        (table1, table2, table3, table4, table5, table6, table7, table8, table9), start=1
    )
}


def _marked(table: pd.DataFrame, name: str, manifest: pd.DataFrame) -> pd.DataFrame:
    """Say beside each of our numbers what its data cannot carry."""
    if "note" not in table:
        return table
    remarks = []
    if kind(manifest) == "phantom":
        remarks.append("on the phantom")
    if name in SLICE_TABLES:
        remarks += _unsure_of_patients(manifest[manifest["dataset"] == "medseg"])
    notes = [
        "; ".join(part for part in (*remarks, note) if part) if n else note
        for n, note in zip(table["n"], table["note"], strict=True)
    ]
    return table.assign(note=notes)


def _unsure_of_patients(slices: pd.DataFrame) -> list[str]:
    """What must be said of scores on slices whose patients nobody names."""
    if (slices["patient_basis"] == "given").all():
        return []
    known = slices["patient_id"].isin(slices.loc[slices["subset"] == "train", "patient_id"])
    leaked = int((known & (slices["subset"] == "test")).sum())
    if leaked:
        return [f"patients unknown, and near copies of {leaked} test slices train"]
    return ["patients unknown, near copies kept together"]


def build(name: str, profile: str) -> pd.DataFrame:
    """One table by name, ``table1`` to ``table9``, from the runs of a profile."""
    return _marked(BUILDERS[name](profile), name, saved_manifest(profile))


def write_all(profile: str) -> dict[str, pd.DataFrame]:
    """Build all nine tables and write them as ``results/<profile>/tables/table<n>.csv``.

    Returns:
        The tables by name.
    """
    folder = paths.results(profile) / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    manifest = saved_manifest(profile)
    tables = {name: _marked(make(profile), name, manifest) for name, make in BUILDERS.items()}
    for name, table in tables.items():
        write(table, folder / f"{name}.csv")
    return tables


def write(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, whole or not at all."""
    with whole(path) as partial:
        table.to_csv(partial, index=False, float_format="%.5g")


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """A table for people: value and interval in one cell, rounded to what the data can carry.

    Args:
        table: A table that ends with the columns of `VALUES`.

    Returns:
        The leading columns, then ``metric``, ``ours``, ``n``, ``paper`` and ``note`` (if there is
        any), as text.
    """
    keys = [name for name in table.columns if name not in VALUES]
    text = table[[*keys, "metric"]].copy()
    text["ours"] = [_with_interval(row) for row in table.itertuples()]
    text["n"] = ["" if n == 0 else str(n) for n in table["n"]]
    units = {"%": " %", "fraction": "", "images": " images"}
    known = pd.to_numeric(table["paper"], errors="coerce").notna()
    text["paper"] = [
        f"{p}{units[u]}" if k else p
        for p, u, k in zip(table["paper"], table["unit"], known, strict=True)
    ]
    if table["note"].any():
        text["note"] = table["note"]
    return text


def _with_interval(row) -> str:
    if pd.isna(row.ours):
        return "" if row.n == 0 else "undefined"
    digits = 1 if row.unit == "%" else 3
    sign = " %" if row.unit == "%" else ""
    value = f"{row.ours:.{digits}f}{sign}"
    return value if pd.isna(row.low) else f"{value} [{row.low:.{digits}f}, {row.high:.{digits}f}]"
