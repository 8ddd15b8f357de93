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
from scipy.stats import quantile_test

from covid_utils import paths, runs
from covid_utils.data.manifest import frontal_xrays, saved_manifest
from covid_utils.data.splits import without_near_copies
from covid_utils.errors import ResultsError
from covid_utils.registry import NODULE_SETS, SUBSETS, TASK1, TASK2, UNUSED, stream_run
from covid_utils.report import cells, documents, verdicts
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
from covid_utils.writing import whole

#: Task of Table 1 -> run and, where a run has several, its task.
TASK_RUNS = {
    "1: recognition, 4 classes": (TASK1, "4 classes"),
    "1: recognition, 2 classes": (TASK1, "2 classes"),
    "2: manifestations of a slice": (TASK2, ""),
    "3: segmentation": (stream_run("all"), ""),
    "3: nodules": (stream_run("nodule"), ""),
}
#: Stages of Table 9 and their runs; the first three in turn are the pipeline.
STAGES = (
    ("recognition", TASK1),
    ("manifestations", TASK2),
    ("segmentation, DeepLab-v3+", stream_run("all")),
    ("segmentation, U-Net", stream_run("all", "unet")),
)
#: What each table shows.
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
    # As the tasks take them: near copies of test slices train nothing.
    slices = without_near_copies(manifest[manifest["dataset"] == "medseg"])
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


def counts(table: pd.DataFrame) -> pd.DataFrame:
    """Table 1's counts that the paper states too, a row each, in the columns of `cells.VALUES`."""
    rows = []
    for line in table[table["claim"] != ""].to_dict("records"):
        for subset in ("train", "test"):
            score = pd.Series(
                {"value": line[f"{subset} after"], "low": np.nan, "high": np.nan, "n": 1}
            )
            run, _ = TASK_RUNS[line["task"]]
            made = cells.cell(f"images, {subset}", score, None, "images", run=run)
            made |= {"paper": line[f"paper {subset}"], "claim": line["claim"]}
            rows.append({"task": line["task"]} | made)
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
        **{subset: counts.get(subset, 0) for subset in (*SUBSETS, UNUSED)},
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
    # Of several trainings of one network each saw its share.
    members = runs.read_provenance(profile, run)["parameters"].get("members", 1)
    shown = runs.read_metrics(profile, run)["shown"] // members
    return dict(zip(columns, (shown, test, "anew at each showing"), strict=True))


def table9(profile: str) -> pd.DataFrame:
    """Table 9: measured time, stage by stage and for all stages, on the machine of the runs.

    One image at a time, after a warm-up. The whole pipeline is the stages one after another: each
    call's times are added up. A case of CT has as many slices as the test's groups have on average.
    """
    stated = ledger.load()["p26"]
    spent = {stage: _calls(profile, run) for stage, run in STAGES}
    rows = []
    for stage, run in STAGES:
        for step, each in spent[stage].items():
            rows.append({"stage": stage, "step": step} | _time(profile, each, run))
    in_ct = [each for stage, _ in STAGES[:3] for each in spent[stage].values()]
    in_xray = [*spent["recognition"].values()]
    slices, stand_in = _slices_per_case(profile)
    wholes = {
        "whole pipeline, one X-ray": (in_xray, 1.0, ["task1"]),
        "whole pipeline, one CT slice": (in_ct, 1.0, [run for _, run in STAGES[:3]]),
        "whole pipeline, one case of CT": (in_ct, slices, [run for _, run in STAGES[:3]]),
    }
    for stage, (parts, times, names) in wholes.items():
        step = "stages in turn" + (f", {times:.1f} slices a case{stand_in}" if times != 1 else "")
        total = times * np.sum(parts, axis=0)
        rows.append({"stage": stage, "step": step} | _time(profile, total, ", ".join(names)))
    is_case = [row["stage"] == "whole pipeline, one CT slice" for row in rows]
    paper = {"paper": f"{stated.value:g} % of readers' time", "claim": stated.id}
    return pd.DataFrame([r | paper if case else r for r, case in zip(rows, is_case, strict=True)])


def _calls(profile: str, run: str) -> dict[str, list[float]]:
    """Seconds of each timed call of a run, by step."""
    steps = runs.read_metrics(profile, run)["seconds_per_image"]
    if not all("each" in times for times in steps.values()):
        raise ResultsError(
            f"results/{profile}/{run}: made by an older version, without the time of each call; "
            f"'make reproduce PROFILE={profile}' makes it anew."
        )
    return {step: times["each"] for step, times in steps.items()}


def _time(profile: str, each: list[float], run: str) -> dict:
    """The columns of `cells.VALUES` for the median of some calls, and their 95th percentile."""
    median, p95 = np.percentile(each, [50, 95])
    # From order statistics: no shape of the distribution is assumed (scipy; Conover 1999, 3.2).
    limits = quantile_test(np.sort(each), q=median, p=0.5).confidence_interval(0.95)
    score = pd.Series({"value": median, "low": limits.low, "high": limits.high, "n": len(each)})
    machine = runs.read_provenance(profile, cells.sources(run)[0])["processor"]
    made = cells.cell("median time", score, None, "s", machine, run)
    return {"p95 [s]": p95} | made


def _slices_per_case(profile: str) -> tuple[float, str]:
    """Mean number of test slices of a patient, and what must be said of it."""
    manifest = saved_manifest(profile)
    slices = manifest[(manifest["dataset"] == "medseg") & (manifest["subset"] == "test")]
    known = (slices["patient_basis"] == "given").all()
    said = "" if known else ", a group of near copies standing for one"
    return len(slices) / max(1, slices["patient_id"].nunique()), said


BUILDERS: dict[str, Callable[[str], pd.DataFrame]] = {
    f"table{number}": builder
    for number, builder in enumerate(
        (table1, table2, table3, table4, table5, table6, table7, table8, table9), start=1
    )
}


def _marked(table: pd.DataFrame, name: str, made: verdicts.Made) -> pd.DataFrame:
    """Say beside each of our numbers what its data cannot carry."""
    if "note" not in table:
        return table
    on = ["on the phantom"] if made.is_phantom else []
    slices = []
    if name in SLICE_TABLES:
        slices = _unsure_of_patients(made.manifest[made.manifest["dataset"] == "medseg"])
    works = table["work"] if "work" in table else [""] * len(table)
    columns = (table["n"], table["note"], works, table["source_run"])
    notes = []
    for n, note, work, source in zip(*columns, strict=True):
        is_refitted = not made.refitted.isdisjoint(cells.sources(source))
        taught = "validation slices taught as well" if is_refitted else ""
        said = (*_remarks(work, on, slices), taught, note)
        notes.append("; ".join(part for part in said if part) if n else note)
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
    return _built(name, verdicts.of_profile(profile))


def _built(name: str, made: verdicts.Made) -> pd.DataFrame:
    """One table, its remarks and its verdicts."""
    table = BUILDERS[name](made.profile)
    return verdicts.judged(_marked(table, name, made), made)


def write_all(profile: str) -> dict[str, pd.DataFrame]:
    """Build all nine tables and the verdicts, and write them.

    Each goes to ``results/<profile>/tables/`` as ``table<n>.csv``, with all digits, and for people
    as ``.md`` and ``.html``. All scores of all segmentations go to
    ``results/<profile>/segmentation_scores.csv``, the verdicts to ``verdicts.csv`` beside it.

    Returns:
        The tables by name, and ``verdicts``.
    """
    folder = paths.results(profile) / "tables"
    made = verdicts.of_profile(profile)
    tables = {name: _built(name, made) for name in BUILDERS}
    for name, table in tables.items():
        write(table, folder / f"{name}.csv")
        documents.write(table, folder / name, TITLES[name], profile)
    write(segmentation_scores(profile), paths.results(profile) / "segmentation_scores.csv")
    answers = tables | {"table1": counts(tables["table1"])}
    found = verdicts.collect(profile, answers)
    write(found, paths.results(profile) / "verdicts.csv")
    return tables | {"verdicts": found}


def write(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:
        table.to_csv(partial, index=False, float_format="%.8g")
