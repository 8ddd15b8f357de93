"""Verdicts follow by rule from cells and intervals; nobody types one."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from builders import join, manifest
from small_runs import PROFILE

import chest_phantom
from covid_utils import __main__ as command
from covid_utils import params, runs
from covid_utils.data.manifest import saved_manifest
from covid_utils.evaluation import scores
from covid_utils.report import claims as ledger
from covid_utils.report import tables, verdicts
from covid_utils.report.verdicts import (
    DIFFERS,
    NOT_COMPARABLE,
    NOT_REPRODUCIBLE,
    REPRODUCED,
)

DATA = "covid-chestxray-dataset"
SCANS = join(manifest({"a": 2}, DATA, "covid"), manifest({"b": 1}))
PHANTOM = SCANS.assign(licence=chest_phantom.LICENCE)
SAMPLE = ("sample", SCANS)
NUMBER = ledger.Claim(
    id="x1",
    where="Table 2",
    metric="accuracy",
    value=99.4,
    unit="%",
    source="P",
    rule={"table": "table2"},
    needs={"profile": "sample", "data": [DATA]},
    beside=(),
    shown="99.4",
    remark="",
    task=1,
)
STATEMENT = replace(NUMBER, value=True, unit="statement", metric="CT helps")
COUNT = replace(NUMBER, value=(5219, 536), unit="images")
LOST = replace(NUMBER, needs={"missing": "times of readers"})
NO_LIMITS = {"low": np.nan, "high": np.nan}


def cell(ours=99.0, low=98.0, high=99.9, paper="99.4", unit="%", n=100):
    """What `judge` looks at in a row of a table."""
    return {"ours": ours, "low": low, "high": high, "n": n, "paper": paper, "unit": unit}


def difference(low, high):
    """A cell that answers a statement."""
    return cell((low + high) / 2, low, high, "stated without a number", "points")


def count(ours, paper):
    return cell(ours, paper=paper, unit="images", n=1, **NO_LIMITS)


# One cell


UNDECIDED = "undecided: [{}] holds 0; it would take more cases"
ABOVE, BELOW = "the difference is above 0: ", "the other way round: the difference is below 0: "
NO_CASE = "missing: a test case that this score is defined on"
SHARE, TIME = cell(0.9, 0.85, 0.95, "0.646", "fraction"), cell(0.02, 0.015, 0.03, "0.5", "s")


@pytest.mark.parametrize(
    ("row", "claim", "verdict", "reason"),
    [
        (cell(), NUMBER, REPRODUCED, "99.4 lies in [98.0, 99.9]"),
        (cell(low=99.4), NUMBER, REPRODUCED, "99.4 lies in [99.4, 99.9]"),
        (cell(high=99.4), NUMBER, REPRODUCED, "99.4 lies in [98.0, 99.4]"),
        (cell(90, 85, 95), NUMBER, DIFFERS, "9.4 points lower; 99.4 is not in [85.0, 95.0]"),
        (cell(99.8, 99.5, 100), NUMBER, DIFFERS, "0.4 points higher; 99.4 is not in [99.5, 100.0]"),
        (SHARE, NUMBER, DIFFERS, "0.254 higher; 0.646 is not in [0.850, 0.950]"),
        (TIME, NUMBER, DIFFERS, "0.480 s lower; 0.5 is not in [0.015, 0.030]"),
        (cell(n=2, **NO_LIMITS), NUMBER, NOT_COMPARABLE, "too few cases for an interval (n = 2)"),
        (cell(np.nan, n=3, **NO_LIMITS), NUMBER, NOT_REPRODUCIBLE, NO_CASE),
        (difference(0.4, 3), STATEMENT, REPRODUCED, f"{ABOVE}[0.4, 3.0]"),
        (difference(-3, -0.4), STATEMENT, DIFFERS, f"{BELOW}[-3.0, -0.4]"),
        (difference(-1, 3), STATEMENT, NOT_REPRODUCIBLE, UNDECIDED.format("-1.0, 3.0")),
        (difference(0.0, 3), STATEMENT, NOT_REPRODUCIBLE, UNDECIDED.format("0.0, 3.0")),
        (difference(-3, 0.0), STATEMENT, NOT_REPRODUCIBLE, UNDECIDED.format("-3.0, 0.0")),
        (count(536, 536), COUNT, REPRODUCED, "as many"),
        (count(535, 536), COUNT, DIFFERS, "-1 images"),
        (count(600, 536), COUNT, DIFFERS, "+64 images"),
    ],
)
def test_one_cell_is_judged_by_rule(row, claim, verdict, reason):
    assert verdicts.judge(row, claim, *SAMPLE) == (verdict, reason)


OTHER_SIZE = "other size: the profile '{}' would tell"
OTHER_DATA = "other data: medseg, lidc-idri was not there"
ANSWERED = (REPRODUCED, "99.4 lies in [98.0, 99.9]")
SIMULATED = (NOT_COMPARABLE, "other data: simulated scans (the phantom)")
MISSING = (NOT_REPRODUCIBLE, "missing: times of readers")


def needing(**needs):
    return replace(NUMBER, needs=needs)


@pytest.mark.parametrize(
    ("claim", "made", "expected"),
    [
        (NUMBER, ("paper", SCANS), ANSWERED),
        (NUMBER, ("paper", PHANTOM), SIMULATED),
        (NUMBER, ("ci", SCANS), (NOT_COMPARABLE, OTHER_SIZE.format("sample"))),
        (needing(profile="paper"), SAMPLE, (NOT_COMPARABLE, OTHER_SIZE.format("paper"))),
        (needing(profile="quick"), ("mine", SCANS), ANSWERED),
        (needing(data=[DATA]), ("quick", SCANS), ANSWERED),
        (needing(data=[DATA, "medseg", "lidc-idri"]), SAMPLE, (NOT_COMPARABLE, OTHER_DATA)),
        (LOST, SAMPLE, MISSING),
        (LOST, ("quick", PHANTOM), MISSING),
    ],
)
def test_what_a_claim_needs_comes_before_its_numbers(claim, made, expected):
    assert verdicts.judge(cell(), claim, *made) == expected


# The shipped ledger


@pytest.fixture(scope="module")
def claims():
    return ledger.load()


@pytest.fixture(scope="module")
def answers(built):
    """Tables in the form that `collect` takes, before they are judged."""
    scored = {name: table for name, table in built.items() if name in tables.SCORED}
    return scored | {"table1": tables.counts(built["table1"])}


def collected(answers):
    """Verdicts on these tables."""
    made = (PROFILE, saved_manifest(PROFILE))
    judged = {name: verdicts.judged(table, *made) for name, table in answers.items()}
    return verdicts.collect(judged, PROFILE)


def named_by(claim, found):
    """Rows of tables that a claim's rule names: its values, and the claim's id."""
    rule = dict(claim.rule)
    names = rule.pop("table")
    parts = []
    for name in [names] if isinstance(names, str) else names:
        assert set(rule) <= set(found[name]), f"{claim.id}: {name} has not all of {list(rule)}"
        fits = found[name]["claim"] == claim.id
        for column, value in rule.items():
            fits &= found[name][column].isin(value if isinstance(value, list) else [value])
        parts.append(found[name][fits])
    return parts


def test_every_claim_has_its_answers_in_the_order_of_the_ledger(built, claims, answers):
    found = built["verdicts"]
    assert found["id"].drop_duplicates().tolist() == list(claims)
    for key, rows in found.groupby("id"):
        expected = pd.concat(named_by(claims[key], answers))
        for name in ("ours", "low", "high", "n", "unit", "source_run"):
            assert rows[name].tolist() == pytest.approx(expected[name].tolist(), nan_ok=True)
        assert rows["paper"].astype(str).tolist() == expected["paper"].astype(str).tolist()
        assert set(rows["where"]) == {claims[key].where}


# No verdict is typed by hand


def moved(answers, claim, **values):
    """Tables in which the cells of one claim have other values."""
    rule_of = claim.rule["table"]
    changed = {}
    for name in [rule_of] if isinstance(rule_of, str) else rule_of:
        table = answers[name].copy()
        is_its = table["claim"] == claim.id
        for column, value in values.items():
            table.loc[is_its, column] = value
        changed[name] = table
    return answers | changed


@pytest.fixture
def verdict_with(answers):
    """Verdicts on a claim, were the cells that answer it others."""

    def found(claim, **values):
        rows = collected(moved(answers, claim, **values))
        return set(rows[rows["id"] == claim.id]["verdict"])

    return found


def judged_from_sample(claims, *units):
    return [
        key
        for key, claim in claims.items()
        if claim.unit in units and claim.needs.get("profile") == "sample"
    ]


def test_other_numbers_give_other_verdicts_claim_by_claim(verdict_with, claims):
    keys = judged_from_sample(claims, "%", "fraction")
    assert len(keys) == 16
    for key in keys:
        said = float(claims[key].value)
        for ours, verdict in ((said, REPRODUCED), (said + 9, DIFFERS), (said - 9, DIFFERS)):
            limits = {"low": ours - 1, "high": ours + 1}
            assert verdict_with(claims[key], ours=ours, **limits) == {verdict}, key


def test_other_differences_give_other_verdicts_statement_by_statement(verdict_with, claims):
    keys = judged_from_sample(claims, "statement")
    assert keys == ["c01", "c02", "c03", "c04"]
    for key in keys:
        for ours, verdict in ((2, REPRODUCED), (0, NOT_REPRODUCIBLE), (-2, DIFFERS)):
            limits = {"low": ours - 1.0, "high": ours + 1.0}
            assert verdict_with(claims[key], ours=ours, note="", **limits) == {verdict}, key


def test_limits_that_leave_out_trainings_decide_nothing(verdict_with, claims):
    for key in ("c01", "c03", "c04"):
        for ours in (2.0, -2.0):
            found = verdict_with(claims[key], ours=ours, low=ours - 1, high=ours + 1)
            assert found == {NOT_REPRODUCIBLE}, key


def test_no_number_helps_where_something_is_missing_for_good(verdict_with, claims):
    keys = [key for key, claim in claims.items() if "missing" in claim.needs]
    assert set(keys) == {key for key in claims if key[0] == "q"} | {"p25a", "p25b", "p26"}
    for key in keys:
        found = verdict_with(claims[key], ours=7.0, low=1.0, high=100.0, paper="7")
        assert found == {NOT_REPRODUCIBLE}, key


@pytest.mark.parametrize(("right", "verdict"), [(True, REPRODUCED), (False, DIFFERS)])
def test_other_predictions_give_another_verdict_in_the_table(built, monkeypatch, right, verdict):
    found = runs.read_predictions(PROFILE, "task1")
    is_two = found["task"] == "2 classes"
    other = found["truth"].map({"covid": "normal", "normal": "covid"})
    said = found["truth"] if right else other
    changed = found.assign(predicted=found["predicted"].mask(is_two, said))
    monkeypatch.setattr(runs, "read_predictions", lambda profile, run: changed)
    table = tables.build("table2", PROFILE, scores.compute(PROFILE, "task1"))
    own = table[table["claim"].isin(("p01", "p02", "p03"))]
    assert own["verdict"].tolist() == [verdict] * 3 * len(set(own["split"]))


# Departures


def write_run(name, **parameters):
    with runs.record("sample", name, parameters, SCANS):
        pass


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("COVID_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("run", "notebook"),
    [
        ("task1", "02_task1_inception"),
        ("stream_all_deeplab_random", "04_task3_stream"),
    ],
)
def test_published_settings_are_no_departure_nor_is_the_place_of_a_run(elsewhere, run, notebook):
    published = params.load("paper", notebook)
    write_run(run, **published)
    assert verdicts.departures("sample", run) == []
    neutral = {name: "other" for name in verdicts.NEUTRAL if name in published}
    assert {"profile", "seed"} <= set(neutral)
    write_run(run, **(published | neutral | {"layer": "mixed8"}))
    assert verdicts.departures("sample", run) == []


def test_departures_name_what_differs_from_the_paper_and_nothing_else(elsewhere):
    published = params.load("paper", "04_task3_stream")
    changes = {
        "steps": 600,
        "learning_rate": 0.003,
        "flip_test": True,
        "optimizer": "adam",
        "atrous_rates": [2, 4, 6],
        "class_weights": [1.0, 3.5, 3.0, 3.0],
    }
    write_run("stream_ggo_deeplab", **(published | changes))
    assert sorted(verdicts.departures("sample", "stream_ggo_deeplab")) == [
        "atrous_rates 2/4/6",
        "class_weights 1/3.5/3/3",
        "flip_test true",
        "learning_rate 0.003",
        "optimizer adam",
        "steps 600",
    ]


def differing(notebook):
    """Names of settings in which the profile of the small runs is not the paper's."""
    used, published = (params.load(profile, notebook) for profile in (PROFILE, "paper"))
    idle = {*verdicts.NEUTRAL, *verdicts.IDLE.get(used.get("model", ""), ())}
    return {name for name in used if used[name] != published[name]} - idle


def test_a_comparison_names_its_departures_and_what_is_none_does_not(built):
    found = built["verdicts"]
    compared = found["verdict"].isin((REPRODUCED, DIFFERS))
    assert set(found[~compared]["departures"]) == {""}
    seen = set()
    for row in found[compared].to_dict("records"):
        notebook = "02_task1_inception" if row["source_run"] == "task1" else "04_task3_stream"
        # Values may hold a comma; names come first in each part.
        named = set(re.findall(r"(?:^|, )(\w+) ", row["departures"]))
        assert named == differing(notebook), row["id"]
        seen.add(notebook)
    assert seen == {"02_task1_inception"}


def test_two_runs_of_a_difference_name_each_departure_once(answers, monkeypatch):
    table, claim = answers["table6"], "c03"
    rows = table["claim"] == claim
    moved_table = table.assign(note=table["note"].mask(rows, ""), low=table["low"].mask(rows, 0.1))
    row = collected(answers | {"table6": moved_table}).set_index("id").loc[claim]
    assert (row["verdict"], row["source_run"].count(",")) == (REPRODUCED, 1)
    named = re.findall(r"(?:^|, )(\w+) ", row["departures"])
    assert len(named) == len(set(named))
    assert differing("04_task3_stream") <= set(named)


# The file, the terminal, the sum


def test_the_sum_counts_every_comparison_once_and_no_quoted_work(built):
    found = built["verdicts"]
    text = verdicts.summary(found)
    total, *each = map(int, re.findall(r"\d+", text))
    own = found[~found["id"].str.startswith("q")]
    assert total == sum(each) == len(own) < len(found)
    assert each == [(own["verdict"] == verdict).sum() for verdict in verdicts.VERDICTS]
    words = ("reproduced", "differ", "not comparable", "not reproducible")
    assert [text.index(f" {word}") for word in words] == sorted(text.index(f" {w}") for w in words)


def found_rows(*rows):
    keys = ("id", "where", "metric", "unit", "ours", "low", "high", "n", "paper", "verdict")
    table = pd.DataFrame([dict(zip(keys, row, strict=True)) for row in rows])
    return table.assign(reason="so", source_run="task1", departures="")


LINES = """\
where        what                     ours                      paper           verdict
------------------------------------------------------------------------------------------------
Table 2      accuracy of what takes   98.4 % [97.0, 99.9]       99.4 %          reproduced
             more than a line
Table 3,     error rate               0.5 % [0.1, 9.0]          0.56 %          not reproducible
Table 4

Of 2 comparisons, 1 were reproduced, 0 differ, 0 are not comparable and 1 are not reproducible."""


def test_the_terminal_gets_columns_that_wrap_and_the_sum():
    long = "accuracy of what takes more than a line"
    found = found_rows(
        ("p01", "Table 2", long, "%", 98.442, 97.0, 99.9, 5, "99.4", REPRODUCED),
        ("d05", "Table 3, Table 4", "error rate", "%", 0.5, 0.1, 9, 5, "0.56", NOT_REPRODUCIBLE),
        ("q01", "section 2", "accuracy", "%", np.nan, np.nan, np.nan, 0, "95", NOT_REPRODUCIBLE),
    )
    assert verdicts.terminal(found) == LINES


def test_the_command_prints_the_verdicts_of_a_profile(built, capsys):
    assert command.main(["verdicts", "--profile", PROFILE]) == 0
    assert capsys.readouterr().out == verdicts.terminal(built["verdicts"]) + "\n"
    assert command.main(["verdicts"]) == 0, "sample without saying so"
    assert capsys.readouterr().out == verdicts.terminal(built["verdicts"]) + "\n"


def test_literature_is_not_reproducible_whatever_the_table(built):
    judged = built["verdicts"].set_index("id")
    quoted = [key for key, claim in ledger.load().items() if claim.source == "L"]
    assert set(judged.loc[quoted, "verdict"]) == {NOT_REPRODUCIBLE}
    seen = 0
    for name in ("table3", "table7", "table8"):
        rows = built[name][built[name]["note"].str.startswith("quoted")]
        with_claim = rows["claim"].isin(quoted)
        assert set(rows["verdict"][with_claim]) <= {NOT_REPRODUCIBLE}
        assert set(rows["verdict"][~with_claim]) <= {""}, "rows that the paper does not quote"
        seen += with_claim.sum()
    assert seen == len(judged.loc[quoted])


def test_every_cell_with_a_claim_is_judged_and_no_other(built):
    for name in (f"table{number}" for number in range(2, 10)):
        assert (built[name]["verdict"] != "").equals(built[name]["claim"] != ""), name
