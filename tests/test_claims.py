"""The ledger: whole, unambiguous, and the same facts as its source."""

import math
import re

import jsonschema
import pandas as pd
import pytest

from covid_utils import params, paths
from covid_utils.errors import ResultsError
from covid_utils.registry import CONDITIONS
from covid_utils.report import claims as ledger

CLAIMS, PUBLISHED = ledger.load(), ledger.published()


def values(claim):
    return claim.value if isinstance(claim.value, tuple) else (claim.value,)


def numbers(text):
    """Numbers in a text, in their order; 50,000 is one."""
    return [float(n.replace(",", "")) for n in re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?", text)]


def test_every_number_stands_in_the_words_that_are_quoted_for_it():
    for claim in CLAIMS.values():
        for value in values(claim) if claim.quote and claim.unit != "statement" else ():
            assert abs(value) in numbers(claim.quote), f"{claim.id}: {value}, '{claim.quote}'"


def test_quotations_are_the_paper_s_own_words():
    text = paths.PROJECT.parent / "shared" / "paper" / "text.md"
    if not text.is_file():
        pytest.skip("the paper's text is not beside this checkout")
    words = " ".join(text.read_text(encoding="utf8").split())
    assert [claim.id for claim in CLAIMS.values() if claim.quote not in words] == []


@pytest.mark.parametrize(("key", "gain"), [("d01", "p23a"), ("d02", "p23b")])
def test_derived_scores_follow_from_the_gains(key, gain):
    base, factor = map(float, CLAIMS[key].how.split(" x "))
    assert (round(base * factor, 3),) == (CLAIMS[key].value,) == CLAIMS[gain].implied
    assert factor == pytest.approx(1 + CLAIMS[gain].value / 100)
    assert (CLAIMS[key].class_, CLAIMS[key].same_as) == (CLAIMS[gain].class_, gain)
    assert (base,) == CLAIMS[gain].over


def test_a_gain_is_over_every_value_that_is_quoted_for_its_target():
    gains = [claim for claim in CLAIMS.values() if " gain " in claim.metric]
    assert [claim.id for claim in gains] == ["p23a", "p23b", "p24a", "p24b", "p25a", "p25b"]
    for claim in gains:
        assert numbers(claim.metric) == [claim.value]
        is_quoted = PUBLISHED["metric"].eq(claim.metric.split()[0]) & PUBLISHED["source"].eq("L")
        rows = PUBLISHED[is_quoted & PUBLISHED["class"].eq(claim.class_ or "all")]
        shares = [row.value / (100 if row.unit == "%" else 1) for row in rows.itertuples()]
        assert claim.over == pytest.approx(tuple(sorted(shares)))
        # Nothing can be said of a gain over what is not quoted.
        assert bool(claim.over) == bool(claim.cells("patients_apart"))


def test_a_gain_implies_scores_above_all_that_it_is_over():
    # 4 % of, or 4 points above, 0.78 and 0.783; over 0.691 it would leave these two above.
    assert CLAIMS["p25b"].implied == (0.811, 0.814, 0.82, 0.823)
    assert CLAIMS["p25b"].text == "0.811 to 0.823"
    assert CLAIMS["p25a"].implied == ()
    near = [CLAIMS["p25b"].stated(one).value for one in (0.7, 0.816, 0.9)]
    assert near == [0.811, 0.814, 0.823]


# Rules


def test_each_claim_has_two_rules_that_differ_in_the_condition_alone():
    """Patients are apart in R0, S0 and Table 4; as published is what has the paper's images."""
    asked = [claim for claim in ledger.of_kind("claim") if claim.cells("as_published")]
    assert {"p01", "p06", "p08", "p23a", "p25b", "c01"} <= {claim.id for claim in asked}
    for claim in ledger.of_kind("claim"):
        for protocol in ledger.PROTOCOLS:
            cells = claim.cells(protocol)
            assert cells or "cannot" in claim.rules[protocol], claim.id
            for cell in cells:
                # A row of Table 4 stems from patients apart, as all of them do.
                condition = cell.get("condition", "M0")
                assert condition in CONDITIONS
                known = ("R0", "S0", "M0") if protocol == "patients_apart" else ("R3", "S3", "M2")
                assert condition in known, claim.id
                assert cell["table"] in ("conditions", "table4")
        if all(cell["table"] == "conditions" for cell in claim.cells("patients_apart")):
            pair = [
                [{k: v for k, v in cell.items() if k != "condition"} for cell in claim.cells(name)]
                for name in ledger.PROTOCOLS
            ]
            assert pair[0] == pair[1] or not pair[0], claim.id


def test_a_list_of_values_names_a_row_for_each():
    cells = CLAIMS["c01"].cells("patients_apart")
    assert len({(cell["task"], cell["metric"]) for cell in cells}) == len(cells) == 4 * 2
    quoted = [cell["minus"] for cell in CLAIMS["c07"].cells("patients_apart")]
    assert quoted == [*CLAIMS["p23a"].over, *CLAIMS["p23b"].over] == [*CLAIMS["q06"].value]


# Settings and findings


def test_the_settings_of_the_paper_are_those_of_its_profile():
    given = [claim for claim in ledger.of_kind("setting") if claim.setting]
    assert len(given) > 8
    for claim in given:
        found = []
        for notebook, names in claim.setting.items():
            used = params.load("paper", notebook)
            for name in names:
                found += used[name] if isinstance(used[name], list) else [used[name]]
        of_all = isinstance(claim.value, tuple)
        assert found == (list(claim.value) if of_all else [claim.value] * len(found)), claim.id


def neighbours(percent, n):
    """The two counts out of n next to a percentage; none if one of them rounds to it."""
    places, below = len(str(percent).partition(".")[2]), math.floor(percent / 100 * n)
    shares = {count: 100 * count / n for count in (below, below + 1)}
    return {} if percent in (round(share, places) for share in shares.values()) else shares


def test_findings_are_the_percentages_that_no_count_gives():
    found = ledger.findings()["finding"].tolist()
    asked = [claim for claim in ledger.of_kind("claim") if claim.unit == "%"]
    sizes = {claim.id: claim.n or claim.size for claim in asked}
    for claim in asked:
        shares = neighbours(claim.value, sizes[claim.id]) if sizes[claim.id] else {}
        if shares:
            finding = found.pop(0)
            assert finding.startswith(f"{claim.value} % ({claim.classes} classes, {claim.subset})")
            assert f"no share of {sizes[claim.id]} images" in finding
            near = " and ".join(f"{count} are {share:.3f} %" for count, share in shares.items())
            assert finding.endswith(near)
            assert ("not given" in finding) == (claim.n is None)
    assert len(found) == 1


def test_the_gains_in_dice_and_iou_of_consolidation_exclude_each_other():
    """IoU is convex in Dice, so a mean Dice forces a mean IoU at least; gains are in tens."""

    def iou_of(dice):
        return dice / (2 - dice)

    is_base = PUBLISHED["metric"].eq("IoU") & PUBLISHED["class"].eq(CLAIMS["p24b"].class_)
    (base,) = PUBLISHED.loc[is_base, "value"].unique()
    (over,) = CLAIMS["p23b"].over
    least = [iou_of(over * (1 + (CLAIMS["p23b"].value - off) / 100)) for off in (0, 5)]
    most = [base * (1 + (CLAIMS["p24b"].value + off) / 100) for off in (0, 5)]
    assert least[0] > most[0]
    assert least[1] > most[1]
    text = ledger.findings()["finding"].iloc[-1]
    for value in (*least, *most, base, CLAIMS["p23b"].implied[0]):
        assert f"{value:.3f}" in text
    assert f"{CLAIMS['p23b'].value:g} %" in text
    assert f"{CLAIMS['p24b'].value:g} %" in text


def test_implied_errors_are_the_only_ones_that_round_so():
    for key, accuracy, images in (("d05", "p01", "p12"), ("d06", "p06", "p11")):
        total, stated = CLAIMS[images].value[1], CLAIMS[accuracy].value
        rounded = {errors: round(100 - 100 * errors / total, 1) for errors in range(total + 1)}
        (errors,) = (errors for errors, share in rounded.items() if share == stated)
        assert CLAIMS[key].value == (errors, total)
        assert CLAIMS[key].text == f"{100 * errors / total:.2f}"


# The files


@pytest.mark.parametrize(("name", "kind"), [("claims", "claim"), ("published", "published")])
def test_every_entry_has_the_form_of_the_schema(name, kind):
    validator = jsonschema.Draft202012Validator(ledger.read("schema")[kind])
    rows = ledger.read(name)
    faults = [
        (row.get("id"), error.message) for row in rows for error in validator.iter_errors(row)
    ]
    assert faults == []
    if kind == "claim":
        assert pd.Series([row["id"] for row in rows]).is_unique
        # A verdict follows from numbers, and nobody writes one down.
        assert not validator.is_valid(rows[0] | {"verdict": "reproduced"})


def test_published_rows_restate_the_ledger():
    linked = PUBLISHED[PUBLISHED["claim"] != ""]
    scored = {claim.id for claim in ledger.of_kind("quoted") if claim.unit != "images"}
    derived = {key for key, claim in CLAIMS.items() if claim.how}
    assert set(linked["claim"]) == scored | derived
    for key, rows in linked.groupby("claim"):
        claim = CLAIMS[key]
        assert sorted([*rows["value"], *rows["of"].dropna()]) == sorted(values(claim))
        assert set(rows["unit"]) == {claim.unit}
        assert set(rows["source"]) == {"D" if claim.how else "L"}
        assert set(rows["class"]) == {claim.class_} or not claim.class_


def test_a_mistyped_key_of_the_ledger_is_named_with_its_entry(monkeypatch):
    usual = ledger.read
    wrong = [{"id": "p01", "rulse": {}}]
    monkeypatch.setattr(ledger, "read", lambda name: wrong if name == "claims" else usual(name))
    with pytest.raises(ResultsError, match="entry p01: there is no key 'rulse'"):
        ledger.load.__wrapped__()
