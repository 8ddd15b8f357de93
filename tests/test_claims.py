"""The ledger: whole, unambiguous, and the same facts as its source."""

import re

import pytest
import yaml

from covid_utils import paths
from covid_utils.errors import ParameterError, ResultsError
from covid_utils.report import claims as ledger
from covid_utils.report import recognition_tables


@pytest.fixture(scope="module")
def claims():
    return ledger.load()


@pytest.fixture(scope="module")
def published():
    return ledger.published()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("p01", 99.4),
        ("p02", 98.84),
        ("p03", 99.08),
        ("p04", 99.9),
        ("p05", 97.71),
        ("p06", 98.1),
        ("p08", 99.5),
        ("p11", (9618, 955)),
        ("p12", (5219, 536)),
        ("p23a", 41),
        ("p26", -60),
        ("c01", True),
        ("d05", (3, 536)),
        ("q08", (78.3, 95.0, 93.0)),
    ],
)
def test_headline_values(claims, key, value):
    assert claims[key].id == key
    assert claims[key].value == value


def test_every_number_stands_in_the_words_that_are_quoted_for_it(claims):
    for claim in claims.values():
        values = claim.value if isinstance(claim.value, tuple) else (claim.value,)
        for value in values if claim.quote and claim.unit != "statement" else ():
            numbers = map(float, re.findall(r"\d+(?:\.\d+)?", claim.quote))
            assert abs(value) in numbers, f"{claim.id}: {value} is not in '{claim.quote}'"


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
    assert claims[key].class_ == claims[gain].class_
    assert (base,) == claims[gain].over


def test_a_gain_is_over_every_value_that_is_quoted_for_its_target(claims, published):
    gains = [claim for claim in claims.values() if " gain " in claim.metric]
    assert [claim.id for claim in gains] == ["p23a", "p23b", "p24a", "p24b", "p25a", "p25b"]
    for claim in gains:
        is_quoted = published["metric"].eq(claim.metric.split()[0]) & published["source"].eq("L")
        rows = published[is_quoted & published["class"].eq(claim.class_ or "all")]
        shares = [row.value / (100 if row.unit == "%" else 1) for row in rows.itertuples()]
        assert claim.over == pytest.approx(tuple(sorted(shares)))
        # Nothing can be said of a gain over what is not quoted.
        assert bool(claim.over) != ("missing" in claim.needs)


def test_a_gain_implies_scores_above_all_that_it_is_over(claims):
    # 4 % of, or 4 points above, 0.78 and 0.783; over 0.691 it would leave these two above.
    assert claims["p25b"].implied == (0.811, 0.814, 0.82, 0.823)
    assert claims["p25b"].shown == "0.811 to 0.823"
    assert claims["p25a"].implied == ()


def test_recognition_is_judged_where_patients_are_apart(claims):
    """Their rules in Table 2 name a split that lets no patient be on both sides."""
    apart = {recognition_tables.SPLITS[kind] for kind in ("patient", "infnet")}
    rules = [claim.rule for claim in claims.values() if claim.rule["table"] == "table2"]
    assert [rule.get("split") in apart for rule in rules] == [True] * 6


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


GOOD = {
    "id": "p01",
    "where": "Table 2",
    "task": 1,
    "metric": "accuracy",
    "value": 99.4,
    "unit": "%",
    "source": "P",
    "quote": "99.4% for testing",
    "rule": {"table": "table2", "classes": 2},
    "needs": {"profile": "sample", "data": ["chest_xray"]},
}


def written(tmp_path, rows):
    path = tmp_path / "ledger.yaml"
    path.write_text(yaml.safe_dump(rows), encoding="utf-8")
    return path


def test_load_reads_a_well_formed_entry(tmp_path):
    entry = ledger.load(written(tmp_path, [GOOD | {"class": "ggo"}]))["p01"]
    assert (entry.value, entry.class_, entry.note) == (99.4, "ggo", None)
    assert (entry.rule, entry.needs) == (GOOD["rule"], GOOD["needs"])


def without(key):
    return {name: value for name, value in GOOD.items() if name != key}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([GOOD, GOOD], "p01: the id repeats"),
        ([GOOD | {"klass": "ggo"}], "p01: .*'klass' was unexpected"),
        # A verdict follows from numbers, and nobody writes one down.
        ([GOOD | {"verdict": "reproduced"}], "p01: .*'verdict' was unexpected"),
        ([without("unit")], "p01: 'unit' is a required property"),
        ([without("id")], "entry number 1 .*'id' is a required property"),
        ([GOOD | {"rule": {"classes": 2}}], "p01: rule: 'table' is a required property"),
        ([GOOD | {"needs": {"machine": "GPU"}}], "p01: needs: .*'machine'"),
        ([GOOD | {"needs": {"profile": "huge"}}], "p01: needs.profile: 'huge' is not one of"),
        ([GOOD | {"source": "D"}], "'how' is a required property"),
        ([GOOD | {"source": "L"}], "'work' is a required property"),
        ([GOOD | {"beside": [{"classes": 2}]}], r"beside\[0\]: 'table' is a required property"),
        ([GOOD | {"value": "99.4"}], "value: "),
        ([GOOD | {"value": False}], "value: "),
    ],
)
def test_load_names_file_and_entry_of_a_fault(tmp_path, rows, words):
    with pytest.raises(ParameterError, match=rf"ledger\.yaml.*{words}"):
        ledger.load(written(tmp_path, rows))


@pytest.mark.parametrize("text", ["- {id: p01", "id: p01", "- p01", ""])
def test_load_refuses_what_is_no_ledger(tmp_path, text):
    path = tmp_path / "ledger.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ResultsError, match=r"ledger\.yaml: not"):
        ledger.load(path)


def test_published_rows_restate_the_ledger(claims, published):
    linked = published[published["claim"] != ""]
    quoted = {key for key, claim in claims.items() if claim.source == "L"}
    derived = {key for key, claim in claims.items() if claim.source == "D"}
    assert set(linked["claim"]) == quoted | derived
    for key, rows in linked.groupby("claim"):
        claim = claims[key]
        expected = claim.value if isinstance(claim.value, tuple) else (claim.value,)
        found = [*rows["value"], *rows["of"].dropna()]
        assert sorted(found) == sorted(expected)
        assert set(rows["unit"]) == {claim.unit}
        assert set(rows["source"]) == {claim.source}
        if claim.class_:
            assert set(rows["class"]) == {claim.class_}


@pytest.mark.parametrize(
    ("work", "lesion"),
    [
        ("Fan 2020, Inf-Net", 0.682),
        ("Fan 2020, Semi-Inf-Net", 0.739),
    ],
)
def test_benchmark_rows_of_the_whole_lesion(published, work, lesion):
    rows = published[published["work"].str.startswith(work) & (published["class"] == "lesion")]
    assert rows["value"].tolist() == [lesion]


ROW = {"work": "X 2020", "task": 1, "metric": "accuracy", "class": "all", "value": 0.9}
ROW |= {"unit": "fraction", "test_set": "not given", "source": "L", "rerun": False}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"colour": "red"}, "'colour' was unexpected"),
        ({"test_set": None}, "test_set: None is not of type 'string'"),
        ({"source": "Z"}, "source: 'Z' is not one of"),
    ],
)
def test_published_names_file_and_row_of_a_fault(tmp_path, change, words):
    with pytest.raises(ParameterError, match=rf"entry number 2 \(X 2020\): .*{words}"):
        ledger.published(written(tmp_path, [ROW, ROW | change]))
