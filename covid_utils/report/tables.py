"""Tables 1 to 9 of the paper, rebuilt: our numbers beside what the paper's prose states.

The bodies of the paper's tables are not available, so the column ``paper`` holds what its prose
says, with the id of the entry in ``paper/claims.yaml``, and "not available" elsewhere. Everything
is computed from run folders; nothing here trains or loads a network.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from covid_utils import paths, runs
from covid_utils.data.collection import frontal_xrays, kind, saved_manifest
from covid_utils.data.splits import SUBSETS
from covid_utils.evaluation import intervals, metrics, scoring
from covid_utils.report import cells
from covid_utils.report import claims as ledger
from covid_utils.report.recognition_tables import (
    CLASSES,
    predictions_of,
    table2,
    table3,
    table4,
)
from covid_utils.training.multilabel import MANIFESTATIONS
from covid_utils.training.segmentation import NODULE_SETS, STREAMS
from covid_utils.writing import whole

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
        paper = stated[claim].value if claim else (cells.NOT_AVAILABLE, cells.NOT_AVAILABLE)
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
    predictions = predictions_of(profile, part) if part else runs.read_predictions(profile, run)
    images = predictions.drop_duplicates("image_id")
    counts = images["subset"].value_counts()
    train, test = (int(counts.get(name, 0)) for name in ("train", "test"))
    if images["image_id"].str.contains("~").any():
        return dict(zip(columns, (train, test, "fixed copies"), strict=True))
    if part:  # recognition trains on features of each image as it is
        return dict(zip(columns, (train, test, "none"), strict=True))
    shown = runs.read_metrics(profile, run)["shown"]
    return dict(zip(columns, (shown, test, "anew at each showing"), strict=True))


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
                cell = cells.cell(score["metric"], score, None, unit, WEAK[scope])
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
            cell = cells.cell("dice", None, None, "fraction", note)
            keys = {"stream": stream, "class": stream, "average": "pooled", "labels": "exact"}
            rows.append(keys | cell)
        for _, score in scores[scores["class"] != "background"].iterrows():
            metric = "mean iou" if score["class"] == "mean" else score["metric"]
            keys = {"stream": stream} | score[list(SCOPE)].to_dict()
            rows.append(keys | cells.cell(metric, score, None, "fraction", WEAK[score["labels"]]))
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
        rows.append(keys | cells.cell("dice difference", score, claim, "fraction", WEAK[scope]))
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
            average = "per_image" if row["source"] == "R" else cells.NOT_AVAILABLE
            keys = {"class": name, "work": row["work"], "average": average, "labels": "quoted"}
            rows.append(keys | cells.quoted(row))
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
            rows.append(keys | cells.cell(metric, score, claim, "fraction", note))
    return rows


def table8(profile: str) -> pd.DataFrame:
    """Table 8: the extent of disease, all manifestations together, against the literature."""
    stated, published = ledger.load(), ledger.published()
    scores = _stream_scores(profile, "all")
    rows = []
    for claim, metric in (("p25b", "dice"), ("p25a", "iou")):
        note = f"the paper states a gain of {stated[claim].value} % and no value"
        for average in ("per_image", "pooled"):
            score = cells.pick(scores, **{"class": "lesion"}, metric=metric, average=average)
            cell = cells.cell(metric, score, None, "fraction", note)
            rows.append({"work": "ours, stream all", "average": average} | cell | {"claim": claim})
    quoted = published[(published["task"] == 3) & published["class"].isin(("lesion", "all"))]
    for _, row in quoted[quoted["source"] != "D"].iterrows():
        average = "per_image" if row["source"] == "R" else cells.NOT_AVAILABLE
        rows.append({"work": row["work"], "average": average} | cells.quoted(row))
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
