"""The ledger: whole, unambiguous, and the same facts as its source."""

import re

import pytest
import yaml

from covid_utils import params, paths
from covid_utils.errors import ParameterError, ResultsError
from covid_utils.registry import CONDITIONS
from covid_utils.report import claims as ledger


@pytest.fixture(scope="module")
def claims():
    return ledger.load()


@pytest.fixture(scope="module")
def published():
    return ledger.published()


def values(claim):
    return claim.value if isinstance(claim.value, tuple) else (claim.value,)


def numbers(text):
    """Numbers in a text, in their order; 50,000 is one."""
    return [float(n.replace(",", "")) for n in re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?", text)]


def test_every_number_stands_in_the_words_that_are_quoted_for_it(claims):
    for claim in claims.values():
        for value in values(claim) if claim.quote and claim.unit != "statement" else ():
            assert abs(value) in numbers(claim.quote), f"{claim.id}: {value}, '{claim.quote}'"


def test_quotations_are_the_paper_s_own_words(claims):
    text = paths.PROJECT.parent / "shared" / "paper" / "text.md"
    if not text.is_file():
        pytest.skip("the paper's text is not beside this checkout")
    words = " ".join(text.read_text(encoding="utf8").split())
    assert [claim.id for claim in claims.values() if claim.quote not in words] == []


@pytest.mark.parametrize(("key", "gain"), [("d01", "p23a"), ("d02", "p23b")])
def test_derived_scores_follow_from_the_gains(claims, key, gain):
    base, factor = map(float, claims[key].how.split(" x "))
    assert (round(base * factor, 3),) == (claims[key].value,) == claims[gain].implied
    assert factor == pytest.approx(1 + claims[gain].value / 100)
    assert (claims[key].class_, claims[key].same_as) == (claims[gain].class_, gain)
    assert (base,) == claims[gain].over


def test_a_gain_is_over_every_value_that_is_quoted_for_its_target(claims, published):
    gains = [claim for claim in claims.values() if " gain " in claim.metric]
    assert [claim.id for claim in gains] == ["p23a", "p23b", "p24a", "p24b", "p25a", "p25b"]
    for claim in gains:
        assert numbers(claim.metric) == [claim.value]
        is_quoted = published["metric"].eq(claim.metric.split()[0]) & published["source"].eq("L")
        rows = published[is_quoted & published["class"].eq(claim.class_ or "all")]
        shares = [row.value / (100 if row.unit == "%" else 1) for row in rows.itertuples()]
        assert claim.over == pytest.approx(tuple(sorted(shares)))
        # Nothing can be said of a gain over what is not quoted.
        assert bool(claim.over) == bool(claim.cells("honest"))


def test_a_gain_implies_scores_above_all_that_it_is_over(claims):
    # 4 % of, or 4 points above, 0.78 and 0.783; over 0.691 it would leave these two above.
    assert claims["p25b"].implied == (0.811, 0.814, 0.82, 0.823)
    assert claims["p25b"].text == "0.811 to 0.823"
    assert claims["p25a"].implied == ()
    near = [claims["p25b"].stated(one).value for one in (0.7, 0.816, 0.9)]
    assert near == [0.811, 0.814, 0.823]


# Rules


def test_each_claim_has_two_rules_that_differ_in_the_condition_alone(claims):
    """Honest is R0 or S0, or Table 4; as published is the condition with the paper's images."""
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
                known = ("R0", "S0", "M0") if protocol == "honest" else ("R3", "S3", "M2")
                assert condition in known, claim.id
                assert cell["table"] in ("conditions", "table4")
        if all(cell["table"] == "conditions" for cell in claim.cells("honest")):
            pair = [
                [{k: v for k, v in cell.items() if k != "condition"} for cell in claim.cells(name)]
                for name in ledger.PROTOCOLS
            ]
            assert pair[0] == pair[1] or not pair[0], claim.id


def test_a_list_of_values_names_a_row_for_each(claims):
    cells = claims["c01"].cells("honest")
    assert len({(cell["task"], cell["metric"]) for cell in cells}) == len(cells) == 4 * 2
    quoted = [cell["minus"] for cell in claims["c07"].cells("honest")]
    assert quoted == [*claims["p23a"].over, *claims["p23b"].over] == [*claims["q06"].value]


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


@pytest.mark.parametrize(
    ("percent", "n", "counts"),
    [
        (98.84, 5219, (5158, 5159)),
        (99.08, 536, (531, 532)),
        (97.71, 955, (933, 934)),
        (99.9, 9618, None),
        (99.4, 536, None),
        (98.1, 955, None),
    ],
)
def test_a_percentage_that_no_count_gives_is_found(percent, n, counts):
    assert ledger.neighbours(percent, n) == counts
    places = len(str(percent).partition(".")[2])
    shares = [round(100 * count / n, places) for count in range(n + 1)]
    assert (percent in shares) == (counts is None)


def test_findings_name_what_does_not_fit_and_whence():
    found = ledger.findings()
    said = found["finding"].tolist()
    assert [text.split(" %")[0] for text in said[:3]] == ["98.84", "99.08", "97.71"]
    assert all(part in said[3] for part in ("0.928", "0.846 or more", "0.828", "0.835 at most"))
    assert ledger.iou_of(0.928) == pytest.approx(0.866, abs=5e-4)
    assert "github.com/DengPingFan/Inf-Net" in found["source"].iloc[3]


@pytest.mark.parametrize(
    ("key", "accuracy", "images"), [("d05", "p01", "p12"), ("d06", "p06", "p11")]
)
def test_implied_errors_are_the_only_ones_that_round_so(claims, key, accuracy, images):
    total = claims[images].value[1]
    fitting = [
        errors
        for errors in range(total + 1)
        if round(100 * (total - errors) / total, 1) == claims[accuracy].value
    ]
    assert claims[key].value == (*fitting, total)
    assert claims[key].text == f"{100 * fitting[0] / total:.2f}"


# The file

RULE = {"table": "conditions", "condition": "R3", "metric": "accuracy"}
GOOD = {
    "id": "p01",
    "kind": "claim",
    "where": "Table 2",
    "task": 1,
    "metric": "accuracy",
    "value": 99.4,
    "unit": "%",
    "quote": "99.4% for testing",
    "rules": {"as_published": RULE, "honest": {"cannot": "images"}},
    "needs": {"profile": "sample", "data": ["chest_xray"]},
}


def written(tmp_path, rows):
    path = tmp_path / "ledger.yaml"
    path.write_text(yaml.safe_dump(rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([GOOD, GOOD], "p01: the id repeats"),
        ([GOOD | {"klass": "ggo"}], "p01: .*'klass' was unexpected"),
        # A verdict follows from numbers, and nobody writes one down.
        ([GOOD | {"verdict": "reproduced"}], "p01: .*'verdict' was unexpected"),
        ([{"id": "p01"}], "p01: '.*' is a required property"),
        ([GOOD | {"rules": GOOD["rules"] | {"honest": {"table": "t"}}}], "p01: rules.honest"),
        ([GOOD | {"needs": {"profile": "huge"}}], "p01: needs.profile: 'huge' is not one of"),
        ([GOOD | {"value": "99.4"}], "value: "),
    ],
)
def test_load_names_file_and_entry_of_a_fault(tmp_path, rows, words):
    with pytest.raises(ParameterError, match=rf"ledger\.yaml.*{words}"):
        ledger.load(written(tmp_path, rows))


@pytest.mark.parametrize("text", ["- {id: p01", "id: p01"])
def test_load_refuses_what_is_no_ledger(tmp_path, text):
    path = tmp_path / "ledger.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ResultsError, match=r"ledger\.yaml: not"):
        ledger.load(path)


def test_published_rows_restate_the_ledger(claims, published):
    linked = published[published["claim"] != ""]
    scored = {claim.id for claim in ledger.of_kind("quoted") if claim.unit != "images"}
    derived = {key for key, claim in claims.items() if claim.how}
    assert set(linked["claim"]) == scored | derived
    for key, rows in linked.groupby("claim"):
        claim = claims[key]
        found = [*rows["value"], *rows["of"].dropna()]
        assert sorted(found) == sorted(values(claim))
        assert set(rows["unit"]) == {claim.unit}
        assert set(rows["source"]) == {"D" if claim.how else "L"}
        if claim.class_:
            assert set(rows["class"]) == {claim.class_}
