"""Splits: who may stand on which side, and that the order of rows changes nothing."""

import csv

import numpy as np
import pytest
from builders import join, manifest

from covid_utils import paths
from covid_utils.data import similarity, splits
from covid_utils.errors import DataError, ParameterError
from covid_utils.registry import SUBSETS, UNUSED

REFERENCE = paths.PROJECT.parent / "shared" / "parity" / "retrain_hash_split.csv"


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
    if not REFERENCE.is_file():
        pytest.skip("the reference split ../shared/parity/retrain_hash_split.csv is not here")
    with REFERENCE.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 240
    different = [line for line in lines if splits.path_hash(line["path"]) != line["subset"]]
    assert different == []


@pytest.mark.parametrize(
    ("number", "percent"), [(0, 1.112), (107, 10.610), (2, 19.681), (3, 21.789), (5, 77.016)]
)
def test_path_hash_on_pinned_paths(number, percent):
    path = f"scans/covid/person{number}.png"
    expected = "validation" if percent < 10 else "testing" if percent < 20 else "training"
    assert splits.path_hash(path) == expected
    # The limits are exclusive above, and the test lies on top of the validation.
    assert splits.path_hash(path, percent + 0.01, 0) == "validation"
    assert splits.path_hash(path, percent - 0.01, 0) == "training"
    assert splits.path_hash(path, percent - 0.01, 0.02) == "testing"
    assert splits.path_hash(path, 0, percent - 0.01) == "training"


def test_path_hash_ignores_what_follows_nohash_and_nothing_else():
    plain = {splits.path_hash(f"a/person{i}.png") for i in range(60)}
    assert plain == {"training", "validation", "testing"}
    for i in range(60):
        assert splits.path_hash(f"a/person{i}_nohash_1.jpeg") == splits.path_hash(f"a/person{i}")
    moved = [splits.path_hash(f"b/person{i}.png") for i in range(60)]
    assert moved != [splits.path_hash(f"a/person{i}.png") for i in range(60)]


def test_path_hash_split_of_a_manifest_uses_the_path(many):
    table = splits.assign(many, "path_hash", validation=30, test=20)
    names = {"train": "training", "validation": "validation", "test": "testing"}
    found = table["subset"].map(names).tolist()
    assert found == [splits.path_hash(path, 30, 20) for path in many["path"]]
    assert set(table["subset"]) == set(names)


def test_patient_split_keeps_patients_whole(many):
    table = splits.assign(many, "patient", seed=1, validation=15, test=25)
    assert table.groupby("patient_id")["subset"].nunique().max() == 1
    splits.assert_disjoint(table)
    assert "subset" not in many


@pytest.mark.parametrize(("validation", "test"), [(10, 10), (15, 25), (0, 20), (10, 0)])
def test_shares_are_near_what_was_asked_in_every_stratum(many, validation, test):
    table = splits.assign(many, "patient", validation=validation, test=test)
    wanted = {"train": 100 - validation - test, "validation": validation, "test": test}
    for _, part in table.groupby(["dataset", "label"]):
        shares = 100 * part["subset"].value_counts(normalize=True)
        for name, percent in wanted.items():
            # No patient has more than six of about 280 images.
            assert shares.get(name, 0) == pytest.approx(percent, abs=2.5)


@pytest.mark.parametrize("kind", ["patient", "image"])
def test_the_seed_decides(many, kind):
    first, again, other = (splits.assign(many, kind, seed=s)["subset"] for s in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)


def test_image_split_may_spread_a_patient(many):
    table = splits.assign(many, "image", validation=20, test=20)
    assert table.groupby("patient_id")["subset"].nunique().max() > 1
    with pytest.raises(DataError, match="patient_id values are in more than one subset"):
        splits.assert_disjoint(table)


def test_the_same_content_under_two_patients_stays_on_one_side():
    table = manifest({f"p{i:02d}": 1 for i in range(20)})
    # Two of the public sets hold one and the same file under two patients.
    table.loc[table["patient_id"].isin(["chest_xray/p03", "chest_xray/p11"]), "sha256"] = "same"
    for seed in range(20):
        splits.assert_disjoint(splits.assign(table, seed=seed, validation=20, test=30), by="sha256")


@pytest.mark.parametrize("patients", [{"a": 1}, {"a": 30}, {"a": 2, "b": 9}])
def test_one_or_two_patients_only_train(patients):
    table = splits.assign(manifest(patients), validation=20, test=40)
    assert set(table["subset"]) == {"train"}


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 50, 1), (9, 9, 9, 9), (100, 1, 1, 1)])
def test_every_subset_that_is_asked_for_gets_a_patient(sizes):
    table = manifest({f"p{i}": size for i, size in enumerate(sizes)})
    for seed in range(6):
        subsets = set(splits.assign(table, seed=seed, validation=5, test=5)["subset"])
        assert subsets == {"train", "validation", "test"}
        assert set(splits.assign(table, seed=seed, validation=0, test=5)["subset"]) == {
            "train",
            "test",
        }
        assert set(splits.assign(table, seed=seed, validation=0, test=0)["subset"]) == {"train"}


@pytest.mark.parametrize("shares", [(50, 50), (-1, 10), (10, -1), (0, 100), (90, 30)])
@pytest.mark.parametrize("kind", splits.KINDS)
def test_shares_that_leave_nothing_are_refused(many, kind, shares):
    with pytest.raises(ParameterError, match="leave nothing to train on"):
        splits.assign(many, kind, 0, *shares)


def test_an_unknown_kind_is_refused(many):
    with pytest.raises(ParameterError, match=r"'patients' is not one of patient, image, path_hash"):
        splits.assign(many, "patients")


@pytest.fixture
def benchmark():
    """Ten CT slices and ten X-rays; of the slices four train, four test and one is unused."""
    slices = manifest({f"s{i}": 1 for i in range(10)}, "medseg", "covid", "CT")
    table = splits.assign(join(slices, manifest({f"p{i}": 1 for i in range(10)})))
    names = slices["image_id"].tolist()
    published = dict.fromkeys(names[:4], "train") | dict.fromkeys(names[4:8], "test")
    return table, published | {names[8]: ""}


def test_a_published_split_is_followed(benchmark):
    table, published = benchmark
    followed = splits.follow_benchmark(table, published, seed=0, validation=25)
    found = followed.set_index("image_id")["subset"]
    before = table.set_index("image_id")["subset"]
    for name, subset in published.items():
        allowed = {"train": {"train", "validation"}, "test": {"test"}, "": {"unused"}}[subset]
        assert found[name] in allowed
    others = [name for name in before.index if name not in published]
    assert found[others].equals(before[others])
    assert sorted(found[list(published)[:4]]) == ["train", "train", "train", "validation"]
    assert set(table["subset"]) <= set(SUBSETS)


def test_validation_of_a_published_split_keeps_patients_whole():
    slices = manifest({f"s{i}": 3 for i in range(8)}, "medseg", "covid", "CT")
    table = splits.assign(slices)
    published = dict.fromkeys(slices["image_id"], "train")
    followed = splits.follow_benchmark(table, published, seed=2, validation=30)
    splits.assert_disjoint(followed)
    assert set(followed["subset"]) == {"train", "validation"}


def test_without_validation_all_published_training_slices_train(benchmark):
    table, published = benchmark
    followed = splits.follow_benchmark(table, published, seed=0, validation=0)
    found = followed.set_index("image_id")["subset"]
    assert {name: found[name] for name in published} == {
        name: subset or "unused" for name, subset in published.items()
    }


@pytest.mark.parametrize("published", [{}, {"medseg/other#000": "train"}])
def test_a_benchmark_that_is_not_here_is_refused(benchmark, published):
    with pytest.raises(DataError, match=r"slices\.csv"):
        splits.follow_benchmark(benchmark[0], published, 0, 10)


def test_assert_disjoint_names_patient_or_content():
    table = manifest({"a": 2, "b": 1}).assign(subset=["train", "test", "train"])
    with pytest.raises(DataError, match=r"1 patient_id values.*'chest_xray/a'"):
        splits.assert_disjoint(table)
    splits.assert_disjoint(table.assign(subset=["train", "unused", "train"]))
    same = table.assign(sha256=["x", "y", "y"], patient_id=["a", "b", "c"])
    splits.assert_disjoint(same)
    with pytest.raises(DataError, match=r"1 sha256 values.*'y'"):
        splits.assert_disjoint(same, by="sha256")


def test_a_copy_that_is_known_by_name_stays_on_one_side():
    table = manifest({f"p{i}": 1 for i in range(40)})
    names = table["image_id"].copy()
    names[[3, 17]] = similarity.KNOWN_COPIES[0]
    table = table.assign(image_id=names)
    assert splits.joined_patients(table).nunique() == 39
    for seed in range(8):
        found = splits.assign(table, seed=seed, validation=25, test=25)
        assert found["subset"][3] == found["subset"][17]
    apart = table.assign(subset=np.where(table.index == 3, "test", "train"))
    with pytest.raises(DataError, match="2 phash values"):
        splits.assert_disjoint(apart, by="phash")


def test_the_same_picture_under_two_patients_stays_on_one_side():
    table = manifest({f"p{i}": 1 for i in range(40)})
    phash = table["phash"].copy()
    # Two bits of the 256 differ: another file of the same picture.
    other = f"{int(phash[0][:2], 16) ^ 0b11:02x}" + phash[0][2:]
    table = table.assign(phash=phash.where(table.index != 39, other))
    joined = splits.joined_patients(table)
    assert joined[39] == joined[0]
    assert joined.nunique() == 39
    for seed in range(8):
        found = splits.assign(table, seed=seed, validation=25, test=25)
        assert found["subset"][39] == found["subset"][0]
        splits.assert_disjoint(found, by="phash")
    apart = table.assign(subset=np.where(table.index == 39, "test", "train"))
    with pytest.raises(DataError, match="2 phash values"):
        splits.assert_disjoint(apart, by="phash")


def test_source_out_tests_on_whole_data_sets_only(many):
    extra = manifest({"normal0": 2, "own": 3}, "nih-adult")
    # A patient of the held-out set who is in a training set too, by the same picture.
    shared = extra.assign(phash=extra["phash"].where(extra.index != 0, many["phash"][0]))
    found = splits.assign(join(many, shared), "source_out", held_out="nih-adult", validation=20)
    outside = found["dataset"] == "nih-adult"
    assert (found["subset"][outside] == "test").all()
    assert not (found["subset"][~outside] == "test").any()
    known = many["patient_id"][0]
    assert (found["subset"][found["patient_id"] == known] == "unused").all()
    assert set(found["subset"]) == {*SUBSETS, UNUSED}
    for what in ("patient_id", "sha256", "phash"):
        splits.assert_disjoint(found, by=what)


@pytest.mark.parametrize(
    ("kind", "held_out", "message"),
    [
        ("source_out", "", "held_out names the data sets"),
        ("patient", "rsna", "held_out names the data sets"),
        ("source_out", "rnsa", "held_out 'rnsa'.*chest_xray, rsna"),
        ("source_out", "rsna,chest_xray", "name some, not all"),
    ],
)
def test_held_out_sets_are_checked(many, kind, held_out, message):
    with pytest.raises(ParameterError, match=message):
        splits.assign(many, kind, held_out=held_out)


def test_infnet_follows_the_benchmark_and_deals_out_the_rest_by_patient(benchmark):
    table, published = benchmark
    rows = table.drop(columns="subset")
    found = splits.assign(rows, "infnet", validation=25, test=20, published=published)
    plain = splits.assign(rows, "patient", validation=25, test=20)
    others = ~rows["image_id"].isin(published)
    assert found["subset"][others].equals(plain["subset"][others])
    assert (found["subset"] == splits.follow_benchmark(plain, published, 2020, 25)["subset"]).all()


def test_memory_counts_test_images_of_known_patients(many):
    table = splits.memory(many, validation=10, test=20).set_index("split")
    assert table.at["patient", "patient seen in training"] == 0
    dealt = splits.assign(many, "image", validation=10, test=20)
    test, train = (set(dealt.index[dealt["subset"] == name]) for name in ("test", "train"))
    trained = {many["patient_id"][i] for i in train}
    seen = sum(many["patient_id"][i] in trained for i in test)
    assert table.at["image", "patient seen in training"] == seen > 0
    assert table.at["image", "per cent"] == pytest.approx(100 * seen / len(test), abs=0.05)


@pytest.mark.parametrize("kind", splits.KINDS)
def test_every_kind_is_seeded_and_blind_to_the_order_of_rows(benchmark, kind):
    table, published = benchmark
    rows = table.drop(columns="subset")
    more = {"published": published} if kind == "infnet" else {}
    more |= {"held_out": "medseg"} if kind == "source_out" else {}
    shuffled = rows.sample(frac=1, random_state=1)
    first = splits.assign(rows, kind, seed=4, validation=20, test=20, **more)
    second = splits.assign(shuffled, kind, seed=4, validation=20, test=20, **more)
    assert first["subset"].equals(second["subset"].sort_index())
