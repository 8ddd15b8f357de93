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
from covid_utils.report import cells
from covid_utils.report import claims as ledger
from covid_utils.report.label_tables import table5
from covid_utils.report.recognition_tables import (
    CLASSES,
    predictions_of,
    table2,
    table3,
    table4,
)
from covid_utils.report.stream_tables import (
    PUBLISHED_WORK,
    segmentation_scores,
    table6,
    table7,
    table8,
)
from covid_utils.training.segmentation import NODULE_SETS
from covid_utils.writing import whole

#: Task of Table 1 -> run and, where a run has several, its task.
TASK_RUNS = {
    "1: recognition, 4 classes": ("task1", "4 classes"),
    "1: recognition, 2 classes": ("task1", "2 classes"),
    "2: manifestations of a slice": ("task2", ""),
    "3: segmentation": ("stream_all_deeplab", ""),
    "3: nodules": ("stream_nodule_deeplab", ""),
}
#: What keeps a patient's images together -> how the table says it.
BASES = {"given": "patient", "figure": "figure, near copies", "none": "near copies"}
#: Tables of the CT slices with masks.
SLICE_TABLES = ("table5", "table6", "table7", "table8")


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


def table9(profile: str) -> pd.DataFrame:
    """Table 9: measured time for one image, stage by stage, on the machine of the run."""
    stated = ledger.load()["p26"]
    rows = []
    stages = {
        "recognition": "task1",
        "manifestations": "task2",
        "segmentation, DeepLab-v3+": "stream_all_deeplab",
        "segmentation, U-Net": "stream_all_unet",
    }
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
    on = ["on the phantom"] if kind(manifest) == "phantom" else []
    slices = []
    if name in SLICE_TABLES:
        slices = _unsure_of_patients(manifest[manifest["dataset"] == "medseg"])
    works = table["work"] if "work" in table else [""] * len(table)
    notes = [
        "; ".join(part for part in (*_remarks(work, on, slices), note) if part) if n else note
        for n, note, work in zip(table["n"], table["note"], works, strict=True)
    ]
    return table.assign(note=notes)


def _remarks(work: str, on: list[str], slices: list[str]) -> list[str]:
    """What holds for a row, of what is said of the scans and of the CT slices with masks."""
    if work == PUBLISHED_WORK:
        return ["flips of all 100 slices, not of the test slices alone; their training saw them"]
    # The patients of nodule slices are known.
    return on if "stream nodule" in work else on + slices


def _unsure_of_patients(slices: pd.DataFrame) -> list[str]:
    """What must be said of scores on slices whose patients nobody names."""
    if (slices["patient_basis"] == "given").all():
        return []
    known = slices["patient_id"].isin(slices.loc[slices["subset"] == "train", "patient_id"])
    if (known & (slices["subset"] == "test")).any():
        return ["patients unknown, near copies of test slices left out of training"]
    return ["patients unknown, near copies kept together"]


def build(name: str, profile: str) -> pd.DataFrame:
    """One table by name, ``table1`` to ``table9``, from the runs of a profile."""
    return _marked(BUILDERS[name](profile), name, saved_manifest(profile))


def write_all(profile: str) -> dict[str, pd.DataFrame]:
    """Build all nine tables and write them as ``results/<profile>/tables/table<n>.csv``.

    All scores of all segmentations go to ``results/<profile>/segmentation_scores.csv`` as well.

    Returns:
        The tables by name.
    """
    folder = paths.results(profile) / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    manifest = saved_manifest(profile)
    tables = {name: _marked(make(profile), name, manifest) for name, make in BUILDERS.items()}
    for name, table in tables.items():
        write(table, folder / f"{name}.csv")
    write(segmentation_scores(profile), paths.results(profile) / "segmentation_scores.csv")
    return tables


def write(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, whole or not at all."""
    with whole(path) as partial:
        table.to_csv(partial, index=False, float_format="%.5g")
