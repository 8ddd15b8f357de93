"""Tables 1 to 9 of the paper, rebuilt: our numbers beside what the paper's prose states.

The bodies of the paper's tables are not available, so the column ``paper`` holds what its prose
says, with the id of the entry in ``paper/claims.yaml``, and "not available" elsewhere.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from covid_utils import paths, registry, runs
from covid_utils.data import manifest as manifests
from covid_utils.report import claims as ledger
from covid_utils.report import recognition_tables, render, stream_tables, verdicts
from covid_utils.report.render import NO_DATA, NOT_AVAILABLE, VALUES, WILSON
from covid_utils.writing import whole

#: Task of Table 1 -> run and, where a run has several, its task.
TASK_RUNS = {
    "1: recognition, 4 classes": (registry.TASK1, "4 classes"),
    "1: recognition, 2 classes": (registry.TASK1, "2 classes"),
    "2: manifestations of a slice": (registry.TASK2, ""),
    "3: segmentation": (registry.stream_run("all"), ""),
    "3: nodules": (registry.stream_run("nodule"), ""),
}
TITLES = {
    "table1": "Table 1. Data",
    "table2": "Table 2. Recognition: accuracy on training, validation and test images",
    "table3": "Table 3. Recognition against baselines and the literature",
    "table4": "Table 4. X-rays and CT together",
    "table5": "Table 5. Manifestations of a slice",
    "table6": "Table 6. Streams",
    "table7": "Table 7. Each manifestation against the literature",
    "table8": "Table 8. The extent of disease against the literature",
    "table9": "Table 9. Time",
    # The paper lacks these; each is written where there are runs of its own.
    "conditions": "Conditions of training: all trainings of each",
    "hospitals": "Slices of other hospitals, step by step",
}
OWN_RUNS = {
    "conditions": tuple(map(registry.condition_run, registry.CONDITIONS)),
    "hospitals": (registry.HOSPITALS,),
}
#: What keeps a patient's images together -> how the table says it.
BASES = {"given": "patient", "figure": "figure, near copies", "none": "near copies"}
#: Caveat of the authors' masks.
AUTHORS = "flips of all 100 slices, not of the test slices alone; their training saw them"
#: Tables of the CT slices with masks.
SLICE_TABLES = ("table5", "table6", "table7", "table8", "hospitals")


def table1(profile: str, manifest: pd.DataFrame) -> pd.DataFrame:
    """Table 1: data of each task, before and after augmentation, beside the paper's counts."""
    xrays = manifests.frontal_xrays(manifest)
    four = xrays[xrays["label"].isin(registry.RECOGNITION_TASKS["4 classes"])]
    two = xrays[xrays["label"].isin(registry.RECOGNITION_TASKS["2 classes"])]
    # As the tasks take them: near copies of test slices train nothing.
    slices = manifests.without_near_copies(manifest[manifest["dataset"] == "medseg"])
    both = pd.concat([two, manifest[manifest["dataset"] == "covid-ct"]])
    parts = {
        "1: recognition, 4 classes": (four, "p11"),
        "1: recognition, 2 classes": (two, "p12"),
        "1: X-ray + CT, before undersampling": (both, ""),
        "2: manifestations of a slice": (slices, ""),
        "3: segmentation": (slices, "p10"),
        "3: nodules": (manifest[manifest["dataset"].isin(registry.NODULE_SETS)], ""),
    }
    stated, rows = ledger.load(), []
    for task, (part, claim) in parts.items():
        paper = stated[claim].value if claim else (NOT_AVAILABLE, NOT_AVAILABLE)
        beside = {"paper train": paper[0], "paper test": paper[1], "claim": claim}
        after = _augmented(profile, task, "left out" if len(part) else NO_DATA)
        rows.append({"task": task} | _composition(part) | after | beside)
    return pd.DataFrame(rows)


def _composition(part: pd.DataFrame) -> dict:
    of_subset = part["subset"].value_counts()
    bases = [text for basis, text in BASES.items() if basis in set(part["patient_basis"])]
    return {
        "modality": " + ".join(sorted(part["modality"].unique(), reverse=True)),
        "patients or groups": part["patient_id"].nunique(),
        "grouped by": " / ".join(bases),
        "images": len(part),
        **{subset: of_subset.get(subset, 0) for subset in (*registry.SUBSETS, registry.UNUSED)},
        "without a patient": "; ".join(
            f"{label}: {', '.join(subsets)}" for label, subsets in manifests.lacking(part).items()
        ),
    }


def _augmented(profile: str, task: str, without: str) -> dict:
    columns = ("train after", "test after", "augmentation")
    if task not in TASK_RUNS:
        return dict.fromkeys(columns, "as above")
    run, part = TASK_RUNS[task]
    if run in manifests.left_out(profile):
        return dict.fromkeys(columns, without)
    images = runs.read_predictions(profile, run)
    if part:  # recognition trains on features of each image as it is
        images = runs.select(images, task=part, model=registry.HEAD, run=1)
    of_subset = images.drop_duplicates("image_id")["subset"].value_counts()
    if images["image_id"].str.contains("~").any():
        how = "fixed copies"
    elif part:
        how = "none"
    else:  # a training draws slices anew each time; of several trainings each has its share
        used = runs.read_provenance(profile, run)["parameters"]
        shown = runs.read_metrics(profile, run)["shown"] // used.get("members", 1)
        steps, batch = used.get("steps", 0), used["batch_size"]
        product = f"{steps} steps x {batch} = " if steps * batch == shown else ""
        how = f"anew at each of {product}{shown} showings"
    counts = {f"{name} after": int(of_subset.get(name, 0)) for name in ("train", "test")}
    return counts | {"augmentation": how}


def conditions(scored: pd.DataFrame) -> pd.DataFrame:
    """Scores of all trainings of each condition together; those of single ones are in scores.csv.

    A stream that starts from other weights than most says so in its ``task``.
    """
    part = runs.select(scored, run=[*map(registry.condition_run, registry.CONDITIONS)], repeat=0)
    part = render.ordered(part, protocol=registry.CONDITIONS)
    is_other = (part["model"] == "deeplab") & (part["start"] == "random")
    is_other &= (part["start"] == "nodule").any()
    task = part["task"].where(~is_other, part["task"] + ", random start")
    notes = render.joined(part["labels"].map(recognition_tables.WEAK), part["note"])
    return part.assign(condition=part["protocol"], task=task, note=notes)


def table9(scored: pd.DataFrame) -> pd.DataFrame:
    """Measured time, stage by stage and for all stages, on the machine of the runs."""
    part = runs.select(scored, metric="median time")
    p95 = runs.select(scored, metric="p95 time")["value"].to_numpy()
    return part.rename(columns={"model": "stage", "class": "step"}).assign(**{"p95 [s]": p95})


#: Table of scores -> the rows that it selects, and its key columns.
SCORED = {
    "table2": (recognition_tables.table2, ("settings", "classes", "subset", *WILSON)),
    "table3": (recognition_tables.table3, ("work", "class", *WILSON)),
    "table4": (recognition_tables.table4, ("tested on", "run", *WILSON)),
    "table5": (recognition_tables.table5, ("work", "manifestation", "labels")),
    "table6": (stream_tables.table6, ("work", "class", "average", "labels")),
    "table7": (stream_tables.table7, ("class", "work", "average", "labels")),
    "table8": (stream_tables.table8, ("work", "average")),
    "table9": (table9, ("stage", "step", "p95 [s]")),
    "conditions": (
        conditions,
        ("condition", "task", "model", "subset", "class", "labels", "average"),
    ),
    "hospitals": (stream_tables.hospitals, ("step", "network", "tested on", "class", "average")),
    "calibration": (recognition_tables.calibration, ("task", "temperature")),
}


def select(name: str, scored: pd.DataFrame) -> pd.DataFrame:
    """One of `SCORED`: our numbers beside the paper's, without remarks."""
    rows, keys = SCORED[name]
    is_condition = scored["run"].isin(OWN_RUNS["conditions"])
    return render.beside(name, rows(scored[is_condition == (name == "conditions")]), keys)


def build(name: str, profile: str, scored: pd.DataFrame) -> pd.DataFrame:
    """One of `TITLES` but the first, with what must be known of our numbers on these data."""
    table, manifest = select(name, scored), manifests.saved_manifest(profile)
    phantom = ["on the phantom"] if manifests.kind(manifest) == "phantom" else []
    slices = phantom + unsure_of_patients(manifest) if name in SLICE_TABLES else phantom
    behind = table["source_run"].map(render.sources)
    refit = {
        run
        for run in behind.explode().dropna().unique()
        if runs.read_provenance(profile, run)["parameters"].get("refit")
    }
    notes = []
    for row, names in zip(table.to_dict("records"), behind, strict=True):
        # The patients of nodules, and the volumes of other hospitals, are known.
        is_known = "stream nodule" in row.get("work", "") or names == [registry.HOSPITALS]
        remarks = slices if not is_known or row.get("tested on") == "benchmark" else phantom
        remarks = [AUTHORS] if names == [registry.PUBLISHED] else [*remarks]
        remarks += ["validation slices used for training too"] if refit & {*names} else []
        notes.append("; ".join(filter(None, [*(remarks if row["n"] else []), row["note"]])))
    return table.assign(note=notes)


def unsure_of_patients(manifest: pd.DataFrame) -> list[str]:
    """Caveat of scores on slices whose patients are unknown."""
    slices = manifest[manifest["dataset"] == "medseg"]
    if (slices["patient_basis"] == "given").all():
        return []
    subsets = slices.groupby("patient_id")["subset"].agg(set)
    if any({"train", "test"} <= seen for seen in subsets):
        return ["patients unknown, near copies of test slices left out of training"]
    return ["patients unknown, near copies kept together"]


def read_scores(profile: str, name: str) -> pd.DataFrame:
    """``scores`` or ``tables/conventions``; computed here if missing, or older than a run."""
    folder = paths.results(profile)
    written = folder / f"{name}.csv"
    newest = max((run.stat().st_mtime for run in folder.glob("*/predictions.parquet")), default=0)
    if not written.is_file() or written.stat().st_mtime < newest:
        from covid_utils.evaluation import scores  # the graph has a job for it

        scores.write(profile)
    return runs.read_table(profile, name)


def write_all(profile: str) -> dict[str, pd.DataFrame]:
    """Select the tables and the verdicts from the scores, and write everything.

    Returns the tables by name, ``verdicts`` and ``scores``.
    """
    folder = paths.results(profile)
    scored = read_scores(profile, "scores")
    absent = [name for name, own in OWN_RUNS.items() if not scored["run"].isin(own).any()]
    for path in (folder / "tables").glob("*"):
        if path.stem in absent:  # left by an earlier run
            path.unlink()
    names = [name for name in TITLES if name in SCORED and name not in absent]
    tables = {"table1": table1(profile, manifests.saved_manifest(profile))}
    tables |= {name: build(name, profile, scored) for name in names}
    for name, table in tables.items():
        write(table, folder / "tables" / f"{name}.csv")
        render.write(table, folder / "tables" / f"{name}.md", TITLES[name], profile)
    write(select("calibration", scored), folder / "tables" / "calibration.csv")
    tables["verdicts"] = verdicts.collect(tables, profile)
    write(tables["verdicts"], folder / "verdicts.csv")
    return tables | {"scores": scored}


def write(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, whole or not at all."""
    with whole(path) as partial:
        table.to_csv(partial, index=False, float_format="%.8g")


def headlines(profile: str) -> pd.DataFrame:
    """The few numbers that a reader looks for first: the column ``question``, and `render.VALUES`.

    ``paper/headlines.yaml`` names for each the row of a written table.
    """
    rows = []
    for entry in ledger.read("headlines"):
        rule = dict(entry["rule"])
        name, is_optional = rule.pop("table"), entry.get("optional")
        if is_optional and not (paths.results(profile) / "tables" / f"{name}.csv").is_file():
            continue
        row = runs.select(runs.read_table(profile, f"tables/{name}"), **rule).head(1)
        if row.empty and not is_optional:
            row = pd.DataFrame([render.NOTHING])
        rows.append(row.assign(question=entry["question"])[["question", *VALUES]])
    return pd.concat(rows, ignore_index=True)
