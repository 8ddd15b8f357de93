"""A trace goes from a number down to the file of predictions that it was computed from."""

import hashlib
import shutil

import pandas as pd
import pytest

from covid_utils import __main__ as command
from covid_utils import paths, runs
from covid_utils.errors import ResultsError

PROFILE = "sample"


def chain_of(lines, run):
    """What a trace says of one run: key -> text."""
    start = lines.index(f"run          {run}")
    return dict(line.split(maxsplit=1) for line in lines[start : start + 6])


@pytest.mark.parametrize(
    ("name", "words", "key"),
    [
        ("table2", ["p06"], ("claim", "p06")),
        ("table1", ["nodules"], ("task", "3: nodules")),
        ("verdicts", ["accuracy", "4", "validation", "apart"], ("answer", "patients apart")),
        ("table7", ["GGO", "dice", "U-Net"], ("work", "ours, U-Net, stream all")),
        ("table7", ["ggo", "dice", "u-net", "pooled", "exact"], ("metric", "dice")),
        ("table6", ["stream ggo", "dice"], ("work", "ours, DeepLab-v3+, stream ggo")),
        ("table6", ["per image", "dice"], ("average", "per_image")),
    ],
)
def test_rows_have_every_word_of_any_key_whatever_its_case(built, name, words, key):
    found = command.find(PROFILE, name, words)
    assert set(found[key[0]]) == {key[1]}


def test_the_chain_ends_at_the_predictions_file(built, capsys):
    assert command.main(["trace", "table2", "published", "4", "test", "--profile", PROFILE]) == 0
    lines = capsys.readouterr().out.split("\n")
    row = built["table2"].query("classes == 4 and subset == 'test'")
    row = row[row["claim"] == "p06"].iloc[0]
    value = f"{row['ours']:.1f} % [{row['low']:.1f}, {row['high']:.1f}]"
    assert lines[0] == (
        f"table2: published rate and steps, 4, test: accuracy {value}; "
        f"n = {row['n']}; claim p06: paper 98.1"
    )
    facts, chain = runs.read_provenance(PROFILE, "task1"), chain_of(lines, "task1")
    settings = ", ".join(f"{name} {value}" for name, value in facts["parameters"].items())
    assert chain["parameters"] == settings
    assert chain["revision"] == facts["revision"]
    assert chain["device"] == f"{facts['device']}, {facts['processor']}"
    assert chain["data"] == f"{facts['images']} images, sha256 {facts['data_sha256']}"
    file = paths.results(PROFILE) / "task1" / "predictions.parquet"
    assert chain["predictions"] == (
        f"results/{PROFILE}/task1/predictions.parquet, {len(pd.read_parquet(file))} rows, "
        f"sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}"
    )


def test_a_verdict_is_traced_through_both_answers(built):
    lines = command.trace(PROFILE, "verdicts", ["p08"]).split("\n")
    row = built["verdicts"].set_index("id").loc["p08"]
    assert lines[0].endswith(f"claim p08: paper 99.5, {row['as_published_verdict']}")
    ours, low, high = (row[f"patients_apart_{name}"] for name in ("ours", "low", "high"))
    value = f"{ours:.1f} % [{low:.1f}, {high:.1f}]"
    assert value in lines[1]
    assert lines[1].endswith(f"claim p08: paper 99.5, {row['patients_apart_verdict']}")
    assert chain_of(lines, "task1")


@pytest.mark.parametrize("table", ["table7", "table8"])
def test_quoted_rows_have_no_run_behind_them(built, table):
    *rows, empty, last = command.trace(PROFILE, table, ["fan", "2020"]).split("\n")
    assert all("nothing of ours" in line for line in rows)
    counted = f"results/{PROFILE}/data/manifest.csv"
    assert (empty, last) == ("", f"Quoted from others, or counted from {counted}.")


def test_a_run_without_its_predictions_is_told(built, tmp_path, monkeypatch):
    source = paths.results(PROFILE)
    monkeypatch.setenv("COVID_HOME", str(tmp_path))
    for name in ("tables", "stream_all_unet"):
        shutil.copytree(source / name, paths.results(PROFILE) / name)
    assert command.trace(PROFILE, "table9", ["u-net"])
    (paths.results(PROFILE) / "stream_all_unet" / "predictions.parquet").unlink()
    with pytest.raises(ResultsError, match=r"stream_all_unet/predictions.parquet: not there yet"):
        command.trace(PROFILE, "table9", ["u-net"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["table6", "accuracy"], "table6: no row has all of accuracy; try other words"),
        (["table6", "dice", "--profile", "ci"], "results/ci/tables/table6.csv: not there yet"),
    ],
)
def test_the_command_says_in_a_sentence_what_is_wrong(built, capsys, arguments, words):
    assert command.main(["trace", *arguments]) == 1
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert words in error
