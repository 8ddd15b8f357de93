"""A trace goes from a number down to the file of predictions that it was computed from."""

import hashlib
import json
import re
import shutil

import pandas as pd
import pytest
from small_runs import PROFILE

from covid_utils import __main__ as command
from covid_utils import params, paths, runs
from covid_utils.errors import ResultsError
from covid_utils.report import trace


def lines_of(built, *arguments):
    """Lines of a trace in the home of the small runs."""
    return trace.trace(PROFILE, *arguments).split("\n")


def chain_of(lines, run):
    """What a trace says of one run: key -> text."""
    start = lines.index(f"run          {run}")
    return dict(line.split(maxsplit=1) for line in lines[start : start + 6])


def file_of(run, name="predictions.parquet"):
    return paths.results(PROFILE) / run / name


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


# Finding rows


def test_rows_have_every_word_whatever_its_case(built):
    found = trace.find(PROFILE, "table7", ["GGO", "dice", "U-Net"])
    assert len(found) > 0
    assert set(found["class"]) == {"ggo"}
    assert set(found["work"]) == {"ours, U-Net, stream all"}
    fewer = trace.find(PROFILE, "table7", ["ggo", "dice", "u-net", "pooled", "exact"])
    assert fewer["metric"].tolist() == ["dice"]


@pytest.mark.parametrize(
    ("name", "words", "key"),
    [
        ("table2", ["p06"], ("claim", "p06")),
        ("table1", ["nodules"], ("task", "3: nodules")),
        ("verdicts", ["d06"], ("id", "d06")),
        ("verdicts", ["error", "rate", "4"], ("id", "d06")),
        ("table2", ["path", "retrain.py", "4", "test"], ("classes", 4)),
    ],
)
def test_a_word_may_be_of_any_key_and_of_the_claim(built, name, words, key):
    found = trace.find(PROFILE, name, words)
    assert set(found[key[0]]) == {key[1]}


# The chain


def test_the_chain_ends_at_the_predictions_file(built):
    lines = lines_of(built, "table2", ["4", "test", "patient"])
    row = built["table2"].query("classes == 4 and subset == 'test' and split == 'by patient'")
    row = row[row["claim"] == "p06"].iloc[0]
    value = f"{row['ours']:.1f} % [{row['low']:.1f}, {row['high']:.1f}]"
    assert lines[0] == (
        f"table2: by patient, published rate and steps, 4, test: accuracy {value}; "
        f"n = {row['n']}; claim p06: paper 98.1, {row['verdict']}"
    )
    facts = json.loads(file_of("task1", "provenance.json").read_text("utf8"))
    chain = chain_of(lines, "task1")
    published = params.load(PROFILE, "02_task1_inception")
    settings = dict(
        part.split(" ", 1) for part in re.split(r", (?=[a-z_0-9]+ )", chain["parameters"])
    )
    assert settings == {name: str(value) for name, value in published.items()}
    assert chain["revision"] == facts["revision"]
    assert chain["device"] == f"{facts['device']}, {runs.processor()}"
    manifest = pd.read_csv(file_of("data", "manifest.csv"), keep_default_na=False)
    assert facts["data_sha256"] == runs.data_hash(manifest)
    assert chain["data"] == f"{len(manifest)} images, sha256 {facts['data_sha256']}"
    file = file_of("task1")
    assert chain["predictions"] == (
        f"results/{PROFILE}/task1/predictions.parquet, {len(pd.read_parquet(file))} rows, "
        f"sha256 {sha256(file)}"
    )


def test_a_difference_names_each_of_its_runs_once(built):
    lines = lines_of(built, "table6", ["c04", "pooled"])
    named = [line.split()[1] for line in lines if line.startswith("run ")]
    assert named == ["stream_all_deeplab", "stream_all_unet", "stream_all_deeplab_random"]
    assert len([line for line in lines if line.startswith("table6: ")]) == 2
    for run in named:
        said = chain_of(lines, run)["predictions"]
        assert said.endswith(f"sha256 {sha256(file_of(run))}")
    assert len({sha256(file_of(run)) for run in named}) == 3


@pytest.mark.parametrize("table", ["table7", "table8"])
def test_quoted_rows_have_no_run_behind_them(built, table):
    lines = lines_of(built, table, ["fan", "2020"])
    assert not any(line.startswith("run ") for line in lines)
    assert all("nothing of ours" in line for line in lines[:-2])
    assert lines[-2:] == [
        "",
        f"Quoted from others, or counted from results/{PROFILE}/data/manifest.csv.",
    ]


def test_many_rows_are_cut_and_said_to_be(built):
    rows = trace.find(PROFILE, "table6", ["dice"])
    assert len(rows) > trace.MOST
    lines = lines_of(built, "table6", ["dice"])
    assert len([line for line in lines if line.startswith("table6: ")]) == trace.MOST
    more = len(rows) - trace.MOST
    assert f"... and {more} more; give more words to see fewer." in lines
    all_of_them = trace.find(PROFILE, "table6", ["dice", "pooled", "c03"])
    assert len(all_of_them) <= trace.MOST
    assert not any("more words" in line for line in lines_of(built, "table6", ["c03", "pooled"]))


# Origins


@pytest.fixture
def copied(built, tmp_path, monkeypatch):
    """A home with a copy of one run and the written tables."""
    source = paths.results(PROFILE)
    monkeypatch.setenv("COVID_HOME", str(tmp_path))
    for name in ("tables", "stream_all_unet"):
        shutil.copytree(source / name, paths.results(PROFILE) / name)
    return paths.results(PROFILE)


def test_a_run_without_its_predictions_is_told(copied):
    assert trace.trace(PROFILE, "table9", ["u-net"])
    (copied / "stream_all_unet" / "predictions.parquet").unlink()
    with pytest.raises(
        ResultsError, match=r"stream_all_unet/predictions.parquet: missing; run 'make reproduce'"
    ):
        trace.trace(PROFILE, "table9", ["u-net"])


# The command


def test_the_command_prints_the_chain(built, capsys):
    assert command.main(["trace", "table6", "c04", "pooled", "--profile", PROFILE]) == 0
    assert capsys.readouterr().out == trace.trace(PROFILE, "table6", ["c04", "pooled"]) + "\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["table6", "accuracy"], "table6: no row has all of accuracy"),
        (["table0", "dice"], "tables/table0.csv: no such table"),
        (["table6", "dice", "--profile", "ci"], "results/ci/tables/table6.csv: no such table"),
    ],
)
def test_the_command_says_in_a_sentence_what_is_wrong(built, capsys, arguments, words):
    assert command.main(["trace", *arguments]) == 1
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert words in error
