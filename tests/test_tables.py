"""The tables of the committed results: files, counts, times, origins, recognition."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from builders import copy_sample, manifest, one

import chest_phantom
from covid_utils import paths, runs
from covid_utils.errors import ResultsError
from covid_utils.evaluation import intervals, scores
from covid_utils.evaluation.task_scores import predictions_of
from covid_utils.registry import SUBSETS
from covid_utils.report import claims as ledger
from covid_utils.report import recognition_tables, render, tables

PROFILE = "sample"
NUMBERED = [f"table{number}" for number in range(1, 10)]
SCORED = NUMBERED[1:8]
TWO = {"work": "ours, 2 classes"}
TASK2 = "2: manifestations of a slice"


def predictions(task, **criteria):
    """Predictions of a task of recognition."""
    return predictions_of(runs.read_predictions(PROFILE, "task1"), task, **criteria)


# Files


def test_everything_is_written_whole(built):
    folder = paths.results(PROFILE) / "tables"
    assert list(built) == [*tables.TITLES, "verdicts", "scores"]
    files = {f"{name}.{ending}" for name in tables.TITLES for ending in ("csv", "md")}
    files |= {"calibration.csv", "conventions.csv", "conventions_gains.csv"}
    assert files == {path.name for path in folder.iterdir()}
    for name, table in built.items():
        read = runs.read_table(PROFILE, f"tables/{name}" if name in tables.TITLES else name)
        assert render.markdown(read) == render.markdown(table).replace("<NA>", "")
        assert len(table) > 0
        assert not table.drop(columns="note", errors="ignore").duplicated().any(), name
    assert not built["scores"].duplicated(list(scores.KEYS)).any()


def test_a_missing_run_or_file_is_named_with_the_remedy(home):
    remedy = rf"results/{PROFILE}/.*make reproduce PROFILE={PROFILE}"
    for part in ("task1", "task2", "streams", "times"):
        with pytest.raises(ResultsError, match=remedy):
            scores.compute(PROFILE, part)
    with pytest.raises(ResultsError, match=rf"results/{PROFILE}/scores.csv: not there yet"):
        runs.read_table(PROFILE, "scores")
    with pytest.raises(ResultsError, match=r"tables/table2.csv: not there yet; 'make reproduce"):
        tables.headlines(PROFILE)


#: What each notebook does with results, after its imports.
WORK = {
    "00_overview": "runs.read_table(PROFILE, 'verdicts'); tables.headlines(PROFILE)",
    "05_tables": "tables.write_all(PROFILE); dice_figures.write(PROFILE)",
}


@pytest.mark.parametrize("notebook", WORK)
def test_reading_results_loads_few_modules_and_no_tensorflow(built, notebook):
    cells_ = json.loads((paths.NOTEBOOKS / f"{notebook}.ipynb").read_text("utf8"))["cells"]
    lines = [line for c in cells_ if c["cell_type"] == "code" for line in c["source"]]
    code = "".join(line for line in lines if line.startswith(("import ", "from ")))
    code += f"\nimport sys\nPROFILE = '{PROFILE}'\n{WORK[notebook]}\nprint(*sys.modules)\n"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=paths.PROJECT
    )
    loaded = done.stdout.split()
    own = {name for name in loaded if name.split(".")[0] == "covid_utils"}
    packages = {name.rpartition(".")[0] for name in own}
    assert len(own - packages) <= 20
    assert not {"tensorflow", "keras"} & set(loaded)


def test_scores_are_computed_again_once_a_run_is_newer(built, monkeypatch):
    computed = []
    monkeypatch.setattr(scores, "write", computed.append)
    tables.read_scores(PROFILE, "scores")
    assert computed == []
    file = paths.results(PROFILE) / "task1" / "predictions.parquet"
    before, written = file.stat(), paths.results(PROFILE) / "scores.csv"
    os.utime(file, ns=(written.stat().st_mtime_ns + 10**9,) * 2)
    tables.read_scores(PROFILE, "scores")
    assert computed == [PROFILE]
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


# The paper's column


def says(claim, row):
    """Whether a row's column ``paper`` is what a claim states, in its unit."""
    unit = "fraction" if claim.over else claim.unit
    is_number = re.fullmatch(r"[\d.]+", claim.text) and claim.unit != "images"
    return row["paper"] == claim.text and (not is_number or row["unit"] == unit)


@pytest.mark.parametrize("name", SCORED)
def test_the_papers_column_is_never_invented(built, name):
    stated, published = ledger.load(), ledger.published()
    quoted = {(row.work, f"{row.value:g}", row.claim) for row in published.itertuples()}
    for row in built[name].to_dict("records"):
        if row["paper"] == render.NOT_AVAILABLE:
            continue
        work = row.get("work", "ours")
        if work.startswith("ours") or " minus " in work:
            named = [one for one in stated.values() if row["claim"] in (one.id, one.same_as)]
            said = [one for one in named if says(one, row)]
            assert said, row
            in_its_table = name.removeprefix("table") in re.findall(r"Table (\d)", named[0].where)
            assert in_its_table or said[0].unit == "statement" or said[0].where.startswith("Fig 7")
        else:
            assert (row["work"], row["paper"], row["claim"]) in quoted
            assert np.isnan(row["ours"])
            assert "not run again" in row["note"]


# Counts


def test_table1_counts_what_the_tasks_use(built):
    table = built["table1"].set_index("task")
    for task, paper in (("4 classes", (9618, 955)), ("2 classes", (5219, 536))):
        line, counts = table.loc[f"1: recognition, {task}"], predictions(task)["subset"]
        assert {name: line[name] for name in SUBSETS} == counts.value_counts().to_dict()
        assert line["images"] == len(counts)
        assert (line["paper train"], line["paper test"]) == paper
        assert (line["train after"], line["test after"]) == (line["train"], line["test"])
        assert (line["augmentation"], line["grouped by"]) == ("none", "patient")
    # A slice drawn anew is no image more; of the showings each of three trainings had a third.
    for task, run, members in (("3: segmentation", "stream_all_deeplab", 3), (TASK2, "task2", 1)):
        line, showings = table.loc[task], runs.read_metrics(PROFILE, run)["shown"] // members
        assert line["train after"] == line["train"]
        assert line["augmentation"].endswith(f"{showings} showings")


# Times


def test_table9_has_each_stage_the_pipeline_and_the_machine(built):
    table = built["table9"]
    wholes = [f"whole pipeline, one {of}" for of in ("X-ray", "CT slice", "case of CT")]
    assert [*table["stage"].unique()] == [*scores.STAGES, *wholes]
    for stage, run in scores.STAGES.items():
        for step, spent in runs.read_metrics(PROFILE, run)["seconds_per_image"].items():
            row = one(table, stage=stage, step=step)
            assert row["ours"] == pytest.approx(np.median(spent["each"]))
            assert row["p95 [s]"] == pytest.approx(np.percentile(spent["each"], 95))
            assert row["low"] <= row["ours"] <= row["high"]
            assert row["source_run"] == run
    machine = runs.read_provenance(PROFILE, "task1")["processor"]
    assert table["note"].str.startswith(machine).all()
    assert set(table.loc[table["claim"] != "", "claim"]) == {"p26"}


def test_a_case_of_ct_has_the_slices_of_a_test_patient_on_average(built, monkeypatch):
    slices = manifest({"a": 4, "b": 1, "c": 9}, "medseg", "covid", "CT")
    slices = slices.assign(subset=["test"] * 5 + ["train"] * 9)
    monkeypatch.setattr(scores, "saved_manifest", lambda profile: slices)
    table = tables.select("table9", scores.compute(PROFILE, "times")).set_index("stage")
    one, case = (table.loc[f"whole pipeline, one {of}"] for of in ("CT slice", "case of CT"))
    for name in ("ours", "low", "high", "p95 [s]"):
        assert case[name] == pytest.approx(2.5 * one[name])
    assert (one["step"], case["step"]) == ("stages in turn", "stages in turn, 2.5 slices a case")


# Remarks and origins


def test_our_numbers_on_the_phantom_are_marked_and_only_those(built):
    path = paths.results(PROFILE) / "data" / "manifest.csv"
    scans = path.read_bytes()
    try:
        pd.read_csv(path).assign(licence=chest_phantom.LICENCE).to_csv(path, index=False)
        marked = tables.build("table7", PROFILE, built["scores"])
    finally:
        path.write_bytes(scans)
    is_marked = marked["note"].str.startswith("on the phantom")
    is_ours = marked["ours"].notna() & (marked["source_run"] != "published_masks")
    assert is_marked.equals(is_ours)
    assert 0 < is_marked.sum() < len(marked)
    assert not built["table7"]["note"].str.contains("phantom").any()


def test_every_number_names_the_runs_that_it_was_computed_from(built):
    there = {path.parent.name for path in paths.results(PROFILE).glob("*/provenance.json")}
    for name in (*SCORED, "table9"):
        table = built[name]
        is_ours = table["n"] > 0
        assert (table["source_run"][~is_ours] == "").all(), name
        sources = table["source_run"][is_ours].map(render.sources)
        assert {run for names in sources for run in names} <= there, name
        # The pipeline is three runs.
        expected = {"table9": {1, 3}}.get(name, {1})
        assert set(sources.map(len)) == expected, name


# Recognition


def test_ours_is_what_the_predictions_say(built):
    table = runs.read_predictions(PROFILE, "task1")
    models = {words: model for model, words in recognition_tables.SETTINGS.items()}
    assert len(built["table2"]) == 2 * 3 + 2
    for row in built["table2"].to_dict("records"):
        keys = {"task": f"{row['classes']} classes", "model": models[row["settings"]]}
        keys |= {"subset": row["subset"], "run": 1}
        part = runs.select(table, **keys)
        hits = int((part["truth"] == part["predicted"]).sum())
        assert row["ours"] == pytest.approx(100 * hits / len(part))
        assert row["n"] == len(part)
        assert 0 <= row["low"] <= row["ours"] <= row["high"] <= 100
        wilson = intervals.wilson(hits, len(part))
        assert row["wilson_low"] == pytest.approx(100 * wilson.low)
        assert row["wilson_high"] == pytest.approx(100 * wilson.high)


def test_the_difference_of_two_models_is_paired(built):
    svm, head = (
        predictions("4 classes", subset="test", model=model).set_index("image_id").sort_index()
        for model in ("linear SVM", "head")
    )
    right, ours = ((part["truth"] == part["predicted"]).to_numpy() for part in (svm, head))
    work = "baseline: linear SVM on the same features, 4 classes, minus ours"
    row = one(built["table3"], work=work)
    assert row["ours"] == pytest.approx(100 * (right.mean() - ours.mean()))
    assert row["low"] <= row["ours"] <= row["high"]
    note = (
        f"only the first right: {(right & ~ours).sum()}, only the second: {(ours & ~right).sum()}"
    )
    assert row["note"].startswith(note)


def test_copies_and_classes_in_one_group_are_not_taken_for_patients(built, monkeypatch):
    anew, table = scores.compute(PROFILE, "task1"), runs.read_predictions(PROFILE, "task1")
    is_covid_ct = (table["modality"] == "CT") & (table["truth"] == "covid")  # one figure shows all
    changed = table.assign(patient_id=table["patient_id"].mask(is_covid_ct, table["image_id"]))
    keys = {"model": "head", "task": "2 classes", "run": 1, "subset": "test"}
    copies = runs.select(table, **keys)
    copies = copies.assign(image_id=copies["image_id"] + "~1")
    monkeypatch.setattr(runs, "read_predictions", lambda *_: pd.concat([changed, copies]))
    scored = scores.compute(PROFILE, "task1")
    found, before = (tables.select("table4", each) for each in (scored, anew))
    for run in ("1", "mean"):
        keys = {"tested on": "CT", "run": run}
        plain, unsure = one(found, **keys), one(before, **keys)
        assert "CT images of covid (patients or groups of near copies: 1)" in unsure["note"]
        assert "all wrong" not in plain["note"]
        assert unsure["ours"] == plain["ours"]
        assert unsure["low"] < plain["low"] < plain["high"] <= unsure["high"]
    found, before = (tables.select("table3", each) for each in (scored, anew))
    ours, plain = (one(table, **TWO, metric="accuracy") for table in (found, before))
    assert np.isnan(ours["wilson_low"])
    assert (ours["ours"], ours["n"]) == (pytest.approx(plain["ours"]), 2 * plain["n"])
    for name in ("ours", "n"):  # copies are not compared
        gaps = [runs.select(each, metric="accuracy difference")[name] for each in (found, before)]
        assert gaps[0].tolist() == pytest.approx(gaps[1].tolist())


def test_headlines_of_a_run_that_was_not_made_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("COVID_HOME", str(tmp_path))
    copy_sample()
    (paths.results(PROFILE) / "tables" / "hospitals.csv").unlink()
    entries = ledger.read("headlines")
    assert {entry["rule"]["table"] for entry in entries if entry.get("optional")} >= {"hospitals"}
    there = [entry["question"] for entry in entries if entry["rule"]["table"] != "hospitals"]
    assert tables.headlines(PROFILE)["question"].tolist() == there
