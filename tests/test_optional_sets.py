"""Any subset of the data sets: which jobs run, and what scores, tables and verdicts say."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from builders import copy_sample, ct_slices, prepare, recognition_sets

from covid_utils import graph, paths, registry, runs
from covid_utils.data import manifest
from covid_utils.evaluation import bootstrap, scores
from covid_utils.report import render, tables, verdicts

PROFILE = "sample"
XRAYS = ("covid-chestxray-dataset", "chest_xray")
STREAMS = {f"stream_{name}_deeplab" for name in ("all", *registry.MANIFESTATIONS)}
RANDOM = {"stream_all_deeplab_random", "stream_all_unet"}
#: Jobs that take whatever is there.
ALWAYS = {"data", "scores", "tables", "as_published", "read_a_scan", "overview"}
#: Jobs of conditions on slices, which start from nodules.
SLICES = {f"as_published_{name}" for name in ("S0", "others")}
XRAY_JOBS = {"task1", "as_published_xray"}

# The plan


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        (XRAYS, XRAY_JOBS),
        (XRAYS[:1], set()),
        (("medseg",), {"task2"} | RANDOM),
        (
            ("medseg", "luna16"),
            {"task2", "stream_nodule_deeplab", "together"} | STREAMS | RANDOM | SLICES,
        ),
        (
            (*XRAYS, "covid-ct", "medseg"),
            {"task2", "as_published_ct"} | XRAY_JOBS | RANDOM,
        ),
    ],
)
def test_the_jobs_that_some_data_sets_allow_and_a_reason_for_each_other_one(sets, expected):
    every = graph.jobs()
    kept, left_out = graph.possible(every, sets)
    assert set(kept) == ALWAYS | expected
    assert set(left_out) == set(every) - set(kept)
    assert all(set(job.needs) <= set(kept) for job in kept.values())
    sentences = graph.sentences(every, sets)
    for name, reason in left_out.items():
        assert f"{every[name].title} {reason}" in sentences
    if sets == XRAYS[:1]:
        assert "02_task1_inception needs the data set chest_xray" in sentences


def test_all_data_sets_leave_nothing_out():
    sets = {*XRAYS, "covid-ct", "medseg", "lidc-idri", registry.EXTERNAL_SETS[0]}
    every = graph.jobs("imagenet")
    assert graph.possible(every, sets) == (every, {})
    assert graph.sentences(every, sets) == []


def test_the_terminal_is_told_what_is_left_out_and_what_is_done_stays(tmp_path):
    recognition_sets(tmp_path / "scans")
    done = tmp_path / "results" / "quick" / ".done"
    for name in ("data", "task1", "task2"):  # came with the clone, or from a run before
        (done.parent / name).mkdir(parents=True)
    done.mkdir()
    (done / "data").touch()
    command = [Path(sys.executable).with_name("snakemake"), "--profile", "profiles/local"]
    command += ["--cores", "1", "--dry-run", "--quiet", "host", "--config", "profile=quick"]
    folders = {"COVID_HOME": str(tmp_path), "COVID_DATA_DIR": str(tmp_path / "scans")}
    done = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        cwd=paths.PROJECT,
        env=os.environ | {"COVID_IMAGENET": ""} | folders,
    )
    said = re.findall(r"^Left out: (.*)\.$", done.stderr, re.M)
    assert said == graph.sentences(graph.jobs(), XRAYS)
    table4 = "Table 4, X-rays and CT together, of 02_task1_inception needs the data set COVID-CT"
    assert said[-1] == table4
    assert "What an earlier run left of these in results/quick is not used." in done.stderr
    planned = set(re.findall(r"^(\w+) +1$", done.stdout + done.stderr, re.M))
    assert planned == ALWAYS - {"data"} | XRAY_JOBS | {"all"}, "only its mark says a job is done"


def test_a_job_is_left_out_where_nothing_that_it_needs_can_be_read(tmp_path, monkeypatch):
    monkeypatch.setenv("COVID_HOME", str(tmp_path / "home"))
    root = ct_slices(recognition_sets(tmp_path / "scans"))
    for path in (root / "chest_xray" / "train" / "NORMAL").iterdir():
        path.write_bytes(b"no picture")
    prepare(root)
    command = [sys.executable, "workflow/run_job.py", "task1", "--profile", "quick"]
    done = subprocess.run(
        [*command, "--position", "2/9"],
        check=False,
        capture_output=True,
        text=True,
        cwd=paths.PROJECT,
    )
    assert done.returncode == 0
    reason = "needs frontal X-rays labelled normal; results/quick/data/skipped.csv says what"
    assert done.stderr.endswith(f"left out: {reason} cannot be read.\n")
    assert "task1" in manifest.left_out("quick")
    assert "task2" not in manifest.left_out("quick")


# What an earlier, fuller run left is ignored


def write_runs(*sets):
    """Runs of all data sets, after which the data folder was reduced to some."""
    copy_sample("scores.csv")
    rows = manifest.saved_manifest(PROFILE)
    rows = rows[rows["dataset"].isin(sets)]
    rows.to_csv(paths.results(PROFILE) / "data" / "manifest.csv", index=False)


def test_tables_verdicts_and_headlines_say_no_data_where_a_run_was_left_out(home, monkeypatch):
    write_runs("medseg")
    monkeypatch.setattr(bootstrap, "RESAMPLES", 200)
    built = tables.write_all(PROFILE)
    names = {name for each in built["scores"]["run"] for name in each.split(", ")}
    assert names == {"task2", "stream_all_deeplab_imagenet", "published_masks"} | RANDOM
    for name in (tables.SCORED.keys() & tables.TITLES.keys()) - tables.OWN_RUNS.keys():
        written = runs.read_table(PROFILE, f"tables/{name}")
        is_empty = not (written["n"] > 0).any()
        assert is_empty == (name in {"table2", "table3", "table4"}), name
        assert ("no data" in set(render.readable(written)["ours"])) == is_empty
    found = verdicts.own(runs.read_table(PROFILE, "verdicts"))
    is_asked = ~found["patients_apart_verdict"].isin((verdicts.CANNOT_BE_TESTED, verdicts.NO_DATA))
    assert (found["patients_apart_n"] > 0).tolist() == is_asked.tolist()
    reasons = built["verdicts"].set_index("id")["patients_apart_reason"]
    assert reasons["p08"] == "covid-chestxray-dataset, covid-ct are missing"
    answers = render.readable(tables.headlines(PROFILE))["ours"]
    assert (answers == "no data").any()
    assert not (answers == "").any()
    table = runs.read_table(PROFILE, "tables/table1").set_index("task")["train after"]
    assert table["1: recognition, 4 classes"] == "no data"
    assert table["3: segmentation"] == "left out"
    # Without all stages there is no time of the whole pipeline.
    assert built["table9"]["stage"].tolist() == ["manifestations", "segmentation, U-Net"]


def test_a_run_by_hand_is_ignored_too_where_its_slices_are_gone(home):
    write_runs(*XRAYS)
    folder = paths.results(PROFILE)
    shutil.copytree(folder / "stream_ggo_deeplab", folder / "stream_ggo_deeplab_random")
    absent = manifest.left_out(PROFILE)
    assert {"published_masks", "stream_ggo_deeplab_random", "starts_deeplab"} <= set(absent)
    assert "task1" not in absent
    assert scores.compute(PROFILE, "streams", "hospitals").empty
