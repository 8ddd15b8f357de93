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
from covid_utils import runs
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
GAIN = replace(NUMBER, value=4, over=(0.691, 0.78, 0.783))
STATEMENT = replace(NUMBER, value=True, unit="statement", metric="CT helps")
COUNT = replace(NUMBER, value=(5219, 536), unit="images")
LOST = replace(NUMBER, needs={"missing": "times of readers"})
IMPLIED = "0.811 to 0.823"
NO_LIMITS = {"low": np.nan, "high": np.nan}


def cell(ours=99.0, low=98.0, high=99.9, paper="99.4", unit="%", n=100):
    """What `judge` looks at in a row of a table."""
    return {"ours": ours, "low": low, "high": high, "n": n, "paper": paper, "unit": unit}


def difference(low, high):
    """A cell that answers a statement."""
    return cell((low + high) / 2, low, high, "stated without a number", "points")


def gain(low, high):
    """A score beside a gain, which implies several values."""
    return cell((low + high) / 2, low, high, IMPLIED, "fraction")


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
        (gain(0.6, 0.72), GAIN, DIFFERS, f"0.151 lower; {IMPLIED} is not in [0.600, 0.720]"),
        (gain(0.813, 0.815), GAIN, REPRODUCED, f"{IMPLIED} overlaps [0.813, 0.815]"),
        (gain(0.9, 0.95), GAIN, DIFFERS, f"0.102 higher; {IMPLIED} is not in [0.900, 0.950]"),
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
OTHER_DATA = "other data: medseg, lidc-idri were not there"
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
    judged = {name: verdicts.judged(name, table, *made) for name, table in answers.items()}
    return verdicts.collect(judged, PROFILE)


def test_every_claim_has_its_answers_in_the_order_of_the_ledger(built, claims, answers):
    found = built["verdicts"]
    assert found["id"].drop_duplicates().tolist() == list(claims)
    for key, rows in found.groupby("id"):
        rule = dict(claims[key].rule)
        names = rule.pop("table")
        parts = [answers[name] for name in ([names] if isinstance(names, str) else names)]
        expected = pd.concat([runs.select(part, claim=key, **rule) for part in parts])
        for name in ("ours", "low", "high", "n", "unit", "source_run"):
            assert rows[name].tolist() == pytest.approx(expected[name].tolist(), nan_ok=True)
        assert rows["paper"].astype(str).tolist() == expected["paper"].astype(str).tolist()
        assert set(rows["where"]) == {claims[key].where}


# No verdict is typed by hand


def verdicts_with(answers, values):
    """Claim -> verdicts, were some columns of the cells that answer it others."""
    changed = {
        name: pd.DataFrame([row | values.get(row["claim"], {}) for row in table.to_dict("records")])
        for name, table in answers.items()
    }
    return collected(changed).groupby("id")["verdict"].agg(set)


def around(ours, **more):
    return {"ours": ours, "low": ours - 1.0, "high": ours + 1.0} | more


def judged_from_sample(claims, *units):
    chosen = {key: claim for key, claim in claims.items() if claim.unit in units}
    return [key for key, claim in chosen.items() if claim.needs.get("profile") == "sample"]


@pytest.mark.parametrize(("shift", "verdict"), [(0, REPRODUCED), (9, DIFFERS), (-9, DIFFERS)])
def test_other_numbers_give_other_verdicts_claim_by_claim(answers, claims, shift, verdict):
    keys = judged_from_sample(claims, "%", "fraction")
    assert len(keys) == 13
    stated = {key: float(claims[key].value) for key in keys} | {"p25b": claims["p25b"].implied[0]}
    found = verdicts_with(answers, {key: around(stated[key] + shift) for key in keys})
    assert found[keys].tolist() == [{verdict}] * len(keys)


@pytest.mark.parametrize(
    ("ours", "verdict"), [(2, REPRODUCED), (0, NOT_REPRODUCIBLE), (-2, DIFFERS)]
)
def test_other_differences_give_other_verdicts(answers, claims, ours, verdict):
    keys = judged_from_sample(claims, "statement")
    assert keys == ["c01", "c02", "c03", "c04"]
    found = verdicts_with(answers, dict.fromkeys(keys, around(ours, note="")))
    assert found[keys].tolist() == [{verdict}] * len(keys)
    # Limits that leave out trainings decide nothing.
    found = verdicts_with(answers, dict.fromkeys(keys, around(ours)))
    assert found[["c01", "c03", "c04"]].tolist() == [{NOT_REPRODUCIBLE}] * 3


def test_no_number_helps_where_something_is_missing_for_good(answers, claims):
    keys = [key for key, claim in claims.items() if "missing" in claim.needs]
    assert set(keys) == {key for key in claims if key[0] == "q"} | {"p24a", "p24b", "p25a", "p26"}
    found = verdicts_with(answers, dict.fromkeys(keys, around(7, paper="7")))
    assert found[keys].tolist() == [{NOT_REPRODUCIBLE}] * len(keys)


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
    assert own["verdict"].tolist() == [verdict] * 3


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


def test_the_tables_hold_the_verdicts_of_the_file_and_no_other(built, claims):
    in_tables = [
        (row["claim"], row["verdict"])
        for name in (f"table{number}" for number in range(2, 10))
        for row in built[name].to_dict("records")
        if row["verdict"]
    ]
    found = built["verdicts"][built["verdicts"]["unit"] != "images"]
    assert sorted(in_tables) == sorted(zip(found["id"], found["verdict"], strict=True))
    assert {key for key, _ in in_tables} == set(claims) - {"p10", "p11", "p12"}
