"""Verdicts follow by rule from cells, intervals and margins; nobody types one."""

import re

import numpy as np
import pandas as pd
import pytest
from builders import join, manifest

import chest_phantom
from covid_utils import __main__ as command
from covid_utils import params, runs
from covid_utils.errors import ResultsError
from covid_utils.report import claims as ledger
from covid_utils.report import verdicts
from covid_utils.report.verdicts import (
    CANNOT_BE_TESTED,
    DIFFERS,
    NO_DATA,
    NOT_COMPARABLE,
    QUOTED,
    REPRODUCED,
    UNDECIDED,
)

CLAIMS = ledger.load()
SETS = ("covid-chestxray-dataset", "chest_xray", "covid-ct", "medseg")
SCANS = join(*(manifest({f"p{name}": 2}, name, "covid") for name in SETS))
PHANTOM = SCANS.assign(licence=chest_phantom.LICENCE)


def cell(ours, low, high, unit="%", metric="accuracy", n=322):
    return {"ours": ours, "low": low, "high": high, "unit": unit, "metric": metric, "n": n}


def row(ours, half, rule, unit="%"):
    """A row that a rule names, in a table: a value with limits half a width away."""
    keys = {key: value for key, value in rule.items() if key not in ("table", "minus")}
    values = cell(ours, ours - half, ours + half, unit, rule["metric"])
    return keys | values | {"source_run": "condition_X", "note": ""}


def unit_of(rule):
    return {"accuracy": "%", "accuracy difference": "points"}.get(rule["metric"], "fraction")


def answered(values, half=0.3):
    """Tables in which each cell of a claim has the value that is given for it, or the claim's."""
    rows = {}
    for claim in ledger.of_kind("claim"):
        for rule in [cell for name in ledger.PROTOCOLS for cell in claim.cells(name)]:
            for one in (rule, rule.get("minus")):
                if isinstance(one, dict):
                    unit = unit_of(one)
                    scale = 1.0 if unit == "fraction" else 100.0
                    value = values.get(claim.id, values.get("others", 0.0))
                    rows.setdefault(one["table"], []).append(
                        row(value, half * scale / 100, one, unit)
                    )
    found = {name: pd.DataFrame(part) for name, part in rows.items()}
    return {
        name: table.drop_duplicates(table.columns.difference(["ours", "low", "high"]))
        for name, table in found.items()
    }


# One cell


@pytest.mark.parametrize(
    ("key", "row", "verdict", "words"),
    [
        ("p01", cell(99.6, 99.2, 99.9), REPRODUCED, "+0.2 points [-0.4, +1.3], margin 2"),
        ("p01", cell(97.2, 94.4, 98.6), DIFFERS, "-2.2 points [-5.0, -0.5], margin 2"),
        ("p08", cell(98.0, 97.0, 99.0), UNDECIDED, "-1.5 points [-2.5, -0.5], margin 2; "),
        ("p01", cell(99.8, 92.0, 100.0), UNDECIDED, "times as many patients and trainings would"),
        ("p25b", cell(0.84, 0.82, 0.86, "fraction", "dice"), REPRODUCED, "+0.017 [-0.003, +0.037]"),
        ("c02", cell(1.0, 0.1, 1.9, "points", "accuracy difference"), REPRODUCED, "+1.0 points"),
        ("c02", cell(-3.0, -5.5, -0.2, "points", "accuracy difference"), DIFFERS, "-3.0 points"),
        ("c02", cell(0.0, -1.9, 1.9, "points", "accuracy difference"), DIFFERS, "margin 2"),
        ("c02", cell(1.0, -1.0, 3.0, "points", "accuracy difference"), UNDECIDED, "4.2 times"),
        ("c04", cell(0.0, 0.0, 0.04, "fraction", "dice difference"), DIFFERS, "margin 0.05"),
        ("p23b", cell(0.4, np.nan, np.nan, "fraction", "dice", 2), UNDECIDED, "too few .* = 2"),
        ("p23b", cell(np.nan, np.nan, np.nan, "fraction", "dice", 2), UNDECIDED, "undefined for"),
    ],
)
def test_one_cell_is_judged_by_rule(key, row, verdict, words):
    _, found, reason = verdicts.judge(row, CLAIMS[key])
    assert found == verdict, reason
    assert re.search(words if ".*" in words else re.escape(words), reason)


# What comes before a number


OTHER_SIZE = "other size: the profile 'sample' would tell"
LUNA = join(SCANS, manifest({"n": 2}, "luna16", "nodule", "CT"))


@pytest.mark.parametrize(
    ("key", "profile", "scans", "verdict", "reason"),
    [
        ("p01", "sample", PHANTOM, NOT_COMPARABLE, "simulated scans"),
        ("p01", "ci", SCANS, NOT_COMPARABLE, OTHER_SIZE),
        ("p25b", "sample", SCANS[SCANS["dataset"] != "medseg"], NOT_COMPARABLE, "medseg is"),
        ("p24a", "quick", PHANTOM, CANNOT_BE_TESTED, "missing: the mIoU that the gain is over"),
        ("p26", "sample", SCANS, CANNOT_BE_TESTED, "missing: the times"),
        ("c03", "sample", SCANS, CANNOT_BE_TESTED, "one patient; with luna16 it could be tested"),
        ("c03", "sample", LUNA, REPRODUCED, "above"),
        ("q06", "sample", SCANS, QUOTED, "not run again"),
    ],
)
def test_what_a_claim_needs_comes_before_its_numbers(
    key, profile, scans, verdict, reason, monkeypatch
):
    monkeypatch.setattr(verdicts, "departures", lambda *_: [])
    made = answered({"p01": 99.4, "p25b": 0.811, "c03": 0.2})
    found = verdicts.answer(CLAIMS[key], "patients_apart", made, profile, scans)
    assert found["verdict"] == verdict
    assert reason in found["reason"] or verdict == REPRODUCED


def test_nothing_is_said_of_what_was_not_run():
    without = SCANS[SCANS["dataset"] != "medseg"]
    for scans, reason in ((SCANS, "not run yet"), (without, "medseg is missing")):
        found = verdicts.answer(CLAIMS["p23a"], "patients_apart", {}, "sample", scans)
        assert (found["verdict"], found["reason"]) == (NO_DATA, reason)


def test_a_rule_that_names_two_rows_is_no_rule():
    made = answered({"p01": 99.4})
    made["conditions"] = pd.concat([made["conditions"]] * 2)
    with pytest.raises(ResultsError, match=r"entry p01: its rule names 2 rows of conditions"):
        verdicts.answer(CLAIMS["p01"], "patients_apart", made, "sample", SCANS)


# The shipped ledger


def collected(made, monkeypatch):
    monkeypatch.setattr(verdicts, "departures", lambda profile, run: [f"steps of {run}"])
    monkeypatch.setattr(verdicts, "saved_manifest", lambda profile: SCANS)
    return verdicts.collect(made, "sample").set_index("id")


AGREEING = {"p23a": 0.911, "p23b": 0.928, "p25b": 0.811, "others": 0.2}
AGREEING |= {key: CLAIMS[key].value for key in ("p01", "p02", "p03", "p04", "p05", "p06", "p08")}


def agreeing_but_r0():
    """Tables in which every accuracy under R0 is far from the paper's, and nothing else is."""
    made = answered(AGREEING)
    table = made["conditions"]
    table.loc[table["condition"] == "R0", ["ours", "low", "high"]] = (81.0, 80.0, 82.0)
    return made


@pytest.mark.parametrize(
    ("shift", "verdict"), [(0, REPRODUCED), (3, UNDECIDED), (9, DIFFERS), (-9, DIFFERS)]
)
def test_other_numbers_give_other_verdicts_claim_by_claim(shift, verdict, monkeypatch):
    stated = {key: value for key, value in AGREEING.items() if key[0] == "p"}
    shifted = {key: v + shift * (1 if v > 1 else 0.02) for key, v in stated.items()}
    half = 7 if verdict == UNDECIDED else 0.3
    found = collected(answered(shifted | {"others": 0.2}, half), monkeypatch)
    for prefix in ledger.PROTOCOLS:
        assert set(found.loc[[*stated], f"{prefix}_verdict"]) == {verdict}
        gap = found.loc[[*stated], f"{prefix}_difference"]
        expected = [shift * (1 if value > 1 else 0.02) for value in stated.values()]
        nearest = [0.006 if shift > 0 and key == "p25b" else 0.0 for key in stated]
        assert gap.tolist() == pytest.approx(np.array(expected) - np.array(nearest) * 2)


def test_the_two_answers_stand_side_by_side_and_are_counted(monkeypatch):
    found = collected(agreeing_but_r0(), monkeypatch)
    one = found.loc["p06"]
    assert (one["as_published_verdict"], one["patients_apart_verdict"]) == (REPRODUCED, DIFFERS)
    assert (one["as_published_ours"], one["patients_apart_ours"]) == (98.1, 81.0)
    assert (one["paper"], one["paper_n"], one["margin"], one["unit"]) == ("98.1", 955, 2, "%")
    assert one["patients_apart_departures"] == "steps of condition_X"
    assert len(found) == len(ledger.of_kind("claim")) + len(ledger.of_kind("quoted"))
    assert found.index.is_unique
    shown = verdicts.summary(found)
    assert shown.startswith("Of 23 claims, as published: 13 reproduced, ")
    assert shown.endswith("9 cannot be tested; 6 reproduced both ways.")
    assert verdicts.tally(found)[REPRODUCED][0] == 13
    assert [sum(column) for column in zip(*verdicts.tally(found).values(), strict=True)] == [23, 23]


@pytest.mark.parametrize(
    ("changed", "verdict", "said"),
    [
        (None, REPRODUCED, "8 of 8"),
        ((-0.2, 0.01), DIFFERS, "1 of 8; stream ggo minus stream all, iou difference"),
        ((0.01, 0.06), UNDECIDED, "1 of 8; stream ggo minus stream all, iou difference"),
    ],
)
def test_a_claim_about_several_rows_is_true_only_if_it_is_so_of_all(
    changed, verdict, said, monkeypatch
):
    made = answered(AGREEING)
    table = made["conditions"]
    is_one = (table["condition"] == "S0") & (table["metric"] == "iou difference")
    is_one &= table["task"] == "stream ggo minus stream all"
    assert is_one.sum() == 1
    if changed:
        value, half = changed
        table.loc[is_one, ["ours", "low", "high"]] = (value, value - half, value + half)
    found = collected(made, monkeypatch).loc["c01"]
    assert (found["as_published_verdict"], found["patients_apart_verdict"]) == (REPRODUCED, verdict)
    assert found["patients_apart_reason"].startswith(said)
    made["conditions"] = table[~is_one]
    assert collected(made, monkeypatch).loc["c01", "patients_apart_verdict"] == NO_DATA


def test_what_is_subtracted_is_another_row_or_what_the_paper_quotes(monkeypatch):
    made = answered(AGREEING)
    table = made["conditions"]
    for condition, value in (("M2", 98.0), ("R0", 97.0)):
        is_one = table["condition"] == condition
        table.loc[is_one, ["ours", "low", "high"]] = (value, value - 0.3, value + 0.4)
    found = collected(made, monkeypatch)
    gap = found.loc["c02", [f"as_published_{name}" for name in ("ours", "low", "high")]]
    assert gap.tolist() == pytest.approx([1.0, 0.5, 1.5])
    assert found.loc["c02", "as_published_verdict"] == REPRODUCED
    assert found.loc["c07", "patients_apart_ours"] == pytest.approx(0.911 - 0.646)


def test_other_margins_are_named_with_the_verdicts_that_they_change(monkeypatch):
    made = answered(AGREEING | {"p01": 97.0})
    collected(made, monkeypatch)
    found = verdicts.other_margins(made, "sample")
    assert {key: tuple(row) for key, row in zip(found.index, found.to_numpy(), strict=True)} == {
        ("p01", "as published"): (DIFFERS, DIFFERS, REPRODUCED),
        ("p06", "as published"): (REPRODUCED, UNDECIDED, REPRODUCED),
        ("p01", "patients apart"): (DIFFERS, DIFFERS, REPRODUCED),
        ("p06", "patients apart"): (REPRODUCED, UNDECIDED, REPRODUCED),
    }


def test_the_terminal_gets_columns_that_wrap_and_the_sum(monkeypatch):
    found = collected(agreeing_but_r0(), monkeypatch).loc[["p06", "p26", "q01"]].reset_index()
    lines = verdicts.terminal(found).split("\n")
    assert lines[0].split("  ")[0] == "where"
    assert re.match(r"Table 2 +accuracy, 4 classes, +98.1 % +98.1 % .* +81.0 %", lines[2])
    assert re.match(r" +test +reproduced +differs", lines[3].replace("[97.8, 98.4]", ""))
    assert max(map(len, lines[:-1])) <= 100
    assert lines[-1] == verdicts.summary(found)
    assert not any("q01" in line for line in lines)


def test_the_command_prints_the_verdicts_of_a_profile(built, capsys):
    assert command.main(["verdicts", "--profile", "sample"]) == 0
    assert capsys.readouterr().out == verdicts.terminal(built["verdicts"]) + "\n"


# Departures


def departures(name, parameters):
    """Departures of a run with these parameters."""
    with runs.record("sample", name, parameters, SCANS):
        pass
    return sorted(verdicts.departures("sample", name))


@pytest.mark.parametrize(
    ("run", "notebook"),
    [("task1", "02_task1_inception"), ("stream_all_deeplab_random", "04_task3_stream")],
)
def test_departures_name_what_differs_from_the_paper_and_nothing_else(home, run, notebook):
    published = params.load("paper", notebook)
    neutral = {name: "other" for name in verdicts.NEUTRAL if name in published}
    assert {"profile", "seed"} <= set(neutral)
    assert departures(run, published | neutral | {"layer": "mixed8"}) == []
    changes = {
        "atrous_rates": ([2, 4, 6], "2/4/6"),
        "class_weights": ([1.0, 3.5, 3.0, 3.0], "1/3.5/3/3"),
        "flip_test": (True, "true"),
        "learning_rate": (0.003, "0.003"),
        "optimizer": ("adam", "adam"),
        "steps": (600, "600"),
    }
    changes = {name: pair for name, pair in changes.items() if name in published}
    changed = {name: value for name, (value, _) in changes.items()}
    wanted = [f"{name} {text}" for name, (_, text) in changes.items()]
    assert departures(run, published | changed) == wanted
