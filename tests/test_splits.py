"""Splits: who may stand on which side, and that the order of rows changes nothing."""

import numpy as np
import pandas as pd
import pytest
from builders import join, manifest

from covid_utils import paths
from covid_utils.data import similarity, splits
from covid_utils.errors import DataError, ParameterError
from covid_utils.registry import SUBSETS


@pytest.fixture(scope="module")
def many():
    """Three strata of 80 patients with one to six images each."""
    rng = np.random.default_rng(3)
    strata = (("chest_xray", "normal"), ("chest_xray", "viral"), ("rsna", "normal"))
    return join(
        *(
            manifest({f"{label}{i}": int(rng.integers(1, 7)) for i in range(80)}, dataset, label)
            for dataset, label in strata
        )
    )


def test_path_hash_equals_what_the_authors_tool_printed():
    file = paths.PROJECT.parent / "shared" / "parity" / "retrain_hash_split.csv"
    if not file.is_file():
        pytest.skip("the reference split ../shared/parity/retrain_hash_split.csv is not here")
    lines = pd.read_csv(file)
    theirs = lines["subset"].replace({"training": "train", "testing": "test"})
    assert len(lines) == 240
    assert lines["path"].map(splits.path_hash).tolist() == theirs.tolist()


@pytest.mark.parametrize(
    ("number", "percent"), [(0, 1.112), (107, 10.610), (2, 19.681), (3, 21.789), (5, 77.016)]
)
def test_path_hash_on_pinned_paths(number, percent):
    path = f"scans/covid/person{number}.png"
    expected = "validation" if percent < 10 else "test" if percent < 20 else "train"
    assert splits.path_hash(path) == expected
    # The limits are exclusive above, and the test lies on top of the validation.
    assert splits.path_hash(path, percent + 0.01, 0) == "validation"
    assert splits.path_hash(path, percent - 0.01, 0) == "train"
    assert splits.path_hash(path, percent - 0.01, 0.02) == "test"
    assert splits.path_hash(path, 0, percent - 0.01) == "train"


@pytest.mark.parametrize(("validation", "test"), [(10, 10), (15, 25), (0, 20), (10, 0)])
def test_patients_stay_whole_and_shares_are_near_in_every_stratum(many, validation, test):
    table = splits.assign(many, validation=validation, test=test)
    splits.assert_disjoint(table)
    assert "subset" not in many
    wanted = {"train": 100 - validation - test, "validation": validation, "test": test}
    for _, part in table.groupby(["dataset", "label"]):
        shares = 100 * part["subset"].value_counts(normalize=True)
        for name, percent in wanted.items():
            # No patient has more than six of about 280 images.
            assert shares.get(name, 0) == pytest.approx(percent, abs=2.5)


@pytest.mark.parametrize(
    "sizes", [(1,), (2, 9), (1, 1, 1), (1, 50, 1), (9, 9, 9, 9), (100, 1, 1, 1)]
)
@pytest.mark.parametrize(
    ("shares", "expected"),
    [((5, 5), set(SUBSETS)), ((0, 5), {"train", "test"}), ((0, 0), {"train"}), ((20, 40), None)],
)
def test_every_subset_gets_a_patient_but_one_or_two_patients_only_train(sizes, shares, expected):
    table = manifest({f"p{i}": size for i, size in enumerate(sizes)})
    for seed in range(6):
        found = set(splits.assign(table, seed, *shares)["subset"])
        assert found == ((expected or set(SUBSETS)) if len(sizes) > 2 else {"train"})


@pytest.fixture
def benchmark():
    """Ten CT slices and ten X-rays; of the slices four train, four test and one is unused."""
    slices = manifest({f"s{i}": 1 for i in range(10)}, "medseg", "covid", "CT")
    names = slices["image_id"].tolist()
    published = dict.fromkeys(names[:4], "train") | dict.fromkeys(names[4:8], "test")
    return join(slices, manifest({f"p{i}": 1 for i in range(10)})), published | {names[8]: ""}


@pytest.mark.parametrize(("validation", "trained"), [(25, 3), (0, 4)])
def test_a_published_split_is_followed(benchmark, validation, trained):
    table, published = benchmark
    followed = splits.assign(table, 0, validation, 10, published)
    subset = followed.set_index("image_id")["subset"]
    plain = splits.assign(table, 0, validation, 10).set_index("image_id")["subset"]
    others = plain.index.difference(list(published))
    assert subset[others].equals(plain[others])
    training = subset[list(published)[:4]].tolist()
    assert sorted(training) == ["train"] * trained + ["validation"] * (4 - trained)
    assert subset[list(published)[4:]].tolist() == ["test"] * 4 + ["unused"]
    # Validation slices are taken by patient.
    slices = manifest({f"s{i}": 3 for i in range(8)}, "medseg", "covid", "CT")
    training = dict.fromkeys(slices["image_id"], "train")
    followed = splits.assign(slices, 2, validation, published=training)
    splits.assert_disjoint(followed)
    assert ("validation" in set(followed["subset"])) == (validation > 0)


@pytest.mark.parametrize("published", [{}, {"medseg/other#000": "train"}])
def test_splits_that_cannot_be_are_refused(benchmark, published):
    with pytest.raises(DataError, match=r"slices\.csv"):
        splits.assign(benchmark[0], published=published)
    with pytest.raises(ParameterError, match="50 % and 50 % leave nothing"):
        splits.assign(benchmark[0], validation=50, test=50)


def test_assert_disjoint_names_the_patient_and_leaves_out_what_is_unused():
    table = manifest({"a": 2, "b": 1}).assign(subset=["train", "test", "train"])
    with pytest.raises(DataError, match=r"1 patient_id values.*'chest_xray/a'"):
        splits.assert_disjoint(table)
    splits.assert_disjoint(table.assign(subset=["train", "unused", "train"]))


@pytest.mark.parametrize("what", ["sha256", "phash", "image_id"])
def test_the_same_picture_under_two_patients_stays_on_one_side(what):
    table = manifest({f"p{i}": 1 for i in range(40)})
    file, bits = table.loc[3, ["sha256", "phash"]]
    # Another file of the same picture: two bits of the 256 differ.
    pairs = {"sha256": (file, file), "phash": (bits, f"{int(bits[:2], 16) ^ 0b11:02x}{bits[2:]}")}
    table.loc[[3, 17], what] = (pairs | {"image_id": similarity.KNOWN_COPIES[0]})[what]
    joined = splits.joined_patients(table)
    assert joined[17] == joined[3]
    assert joined.nunique() == 39
    for seed in range(8):
        table = splits.assign(table, seed=seed, validation=25, test=25)
        assert table["subset"][17] == table["subset"][3]
        splits.assert_disjoint(table)
    apart = table.assign(subset=np.where(table.index == 17, "test", "train"))
    column = "1 sha256" if what == "sha256" else "2 phash"
    with pytest.raises(DataError, match=f"{column} values"):
        splits.assert_disjoint(apart)


@pytest.mark.parametrize("is_published", [False, True])
def test_a_split_is_seeded_and_blind_to_the_order_of_rows(benchmark, many, is_published):
    table, published = benchmark
    shares = {"validation": 20, "test": 20, "published": published if is_published else None}
    first = splits.assign(table, seed=4, **shares)
    second = splits.assign(table.sample(frac=1, random_state=1), seed=4, **shares)
    assert first["subset"].equals(second["subset"].sort_index())
    one, other = (splits.assign(many, seed=seed)["subset"] for seed in (1, 2))
    assert not one.equals(other)
