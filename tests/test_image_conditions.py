"""Conditions of recognition: who trains, who is tested, and what the test has seen before."""

import pandas as pd
import pytest
from builders import conditions_scans, manifest, scans_of

from covid_utils.data import splits
from covid_utils.data.image_conditions import TASKS, Conditions, divide
from covid_utils.errors import ParameterError
from covid_utils.registry import EXTERNAL, EXTERNAL_SETS, UNUSED

TOTALS = {"2 classes": 300, "4 classes": 400, "CT": 200}


@pytest.fixture(scope="module")
def scans():
    return conditions_scans()


@pytest.fixture(scope="module")
def images(scans):
    return Conditions(scans, TOTALS, seed=3)


def of(rows, subset):
    return rows[rows["subset"] == subset]


@pytest.mark.parametrize("condition", ["R0", "R1", "M0"])
def test_where_patients_are_apart_nothing_tested_was_seen(images, condition):
    for task in TASKS[condition]:
        rows = images.rows(condition, task)
        assert len(of(rows, "test")) > 0
        assert not of(rows, "test")[["seen_image", "seen_patient"]].any(axis=None)
        assert of(rows, "train")[["seen_image", "seen_patient"]].all(axis=None)
        assert (rows["copy"] == 0).all()
    sources = set(rows["dataset"])
    wanted = {"M0": {"covid-ct"}, "R1": {"covid-chestxray-dataset", "chest_xray"}}
    assert sources == wanted.get(condition, wanted["R1"] | {"nih-adult"})


@pytest.mark.parametrize("condition", ["R2", "R3"])
def test_an_image_falls_where_the_hash_of_its_path_says_but_no_test_patient_takes_part(
    images, scans, condition
):
    tested = set(of(scans.manifest, "test")["patient_id"])
    for training in (1, 2):
        rows = images.rows(condition, "4 classes", training)
        assert set(rows["dataset"]) == {"covid-chestxray-dataset", "chest_xray"}
        assert not set(rows["patient_id"]) & tested
        for row in rows.itertuples():
            path = f"deal {training}/{row.path}" + (f"~{row.copy}" if row.copy else "")
            assert row.subset == splits.path_hash(path)
    first = images.rows(condition, "4 classes", 1)
    assert (first["subset"] != rows["subset"]).any(), "each training has its own assignment"
    assert first["image_id"].tolist() == rows["image_id"].tolist()


def test_copies_are_made_first_and_show_the_test_to_the_training(images):
    two, four = (images.rows("R3", task) for task in TASKS["R3"])
    assert (len(two), len(four), len(images.rows("M1", "CT"))) == (300, 400, 200)
    assert of(four, "test")["seen_image"].mean() > 0.9
    test, train = of(four, "test"), of(four, "train")
    assert (test["seen_image"] == test["original"].isin(train["original"])).all()
    # Both tasks name their copies alike, so that their features are computed once.
    shared = set(two["image_id"]) & set(four["image_id"])
    assert len(shared) >= 5 * 36
    assert len(images.needed(["R3"])) == len(set(two["image_id"]) | set(four["image_id"]))
    with pytest.raises(ParameterError, match="5 images are wanted for train"):
        Conditions(images.scans, TOTALS | {"CT": 5}, 0).rows("M1", "CT")


def test_the_same_file_under_two_names_is_the_same_picture_and_patient(scans):
    rows = scans.manifest.copy()
    a, b = (rows.index[rows["patient_id"].str.endswith(f"/viral{n}")][0] for n in (2, 3))
    rows.loc[b, ["sha256", "phash"]] = rows.loc[a, ["sha256", "phash"]]
    images = Conditions(scans_of(rows), TOTALS, 3)
    table = images.rows("R0", "4 classes")
    split = table["subset"].mask(table["patient_id"].str.endswith("/viral3"), "test")
    seen = images.with_seen(table.assign(subset=split)).set_index("image_id")
    third = seen[seen["patient_id"].str.endswith("/viral3")]
    assert third["seen_patient"].all()
    assert third["seen_image"].to_dict() == {
        name: name == rows.loc[b, "image_id"] for name in third.index
    }


def test_strangers_are_tested_after_training_on_copies(images):
    for task in TASKS["R4"]:
        learned, rows = images.rows("R3", task, 2), images.rows("R4", task, 2)
        pd.testing.assert_frame_equal(
            of(rows, "train").reset_index(drop=True), of(learned, "train").reset_index(drop=True)
        )
        strangers = rows[rows["subset"].isin(["test", "adults"])]
        assert not strangers["seen_patient"].any()
        assert set(of(rows, "adults")["dataset"]) == {"nih-adult"}
        assert len(of(rows, "adults")) == 16, "of all subsets: none was shown"
        expected = of(images.rows("R1", task), "test")["image_id"]
        assert of(rows, "test")["image_id"].tolist() == expected.tolist()


def test_ct_is_covid_only_and_as_many_xrays_are_drawn(images):
    rows = [images.rows("M2", "X-ray + CT", training) for training in (1, 2)]
    for table in rows:
        used = table[table["subset"] != UNUSED]
        counts = used.groupby(["subset", "modality"]).size().unstack()
        assert (counts["CT"] == counts["X-ray"]).all()
        assert (used.loc[used["modality"] == "CT", "target"] == 0).all()
        assert set(used.loc[used["modality"] == "CT", "dataset"]) == {"covid-ct", "medseg"}
        assert not of(table, "test")["seen_patient"].any()
    assert (rows[0]["subset"] != rows[1]["subset"]).any()


def test_a_published_split_that_mixes_patients_leaves_their_other_slices_out(scans):
    rows = scans.manifest.copy()
    mixed = rows.index[rows["patient_id"] == "medseg/slice2"][0]
    rows.loc[mixed, "subset"] = "test"
    table = Conditions(scans_of(rows), TOTALS, 3).rows("M2", "X-ray + CT")
    own = table[table["patient_id"] == "medseg/slice2"]
    assert sorted(own["subset"]) == ["test", UNUSED]
    counts = table.groupby(["subset", "modality"]).size().unstack()
    assert (counts.loc["train", "CT"], counts.loc["train", "X-ray"]) == (14, 14), "12 and 2"


def test_slices_of_other_hospitals_take_no_part_in_any_condition(images, scans):
    outside = manifest({"v1": 3}, EXTERNAL_SETS[1], "covid", "CT").assign(subset=EXTERNAL)
    others = scans_of(pd.concat([scans.manifest, outside], ignore_index=True))
    with_others = Conditions(others, TOTALS, seed=3)
    for condition, tasks in TASKS.items():
        if condition != "R5":
            for task in tasks:
                same = with_others.rows(condition, task)
                pd.testing.assert_frame_equal(same, images.rows(condition, task))


# Slices

USED = {"train": 6, "validation": 2, "test": 4}


def slices():
    """Twelve slices in use and one that is not; patient a is tested on, trains and validates."""
    pairs = manifest({"a": 3, **{f"p{i}": 1 for i in range(10)}}, "medseg", "covid", "CT")
    subsets = ["test", "train", "validation", *["train"] * 5, "validation", *["test"] * 3, "unused"]
    return pairs.assign(subset=subsets)


def divided(condition, training=1, copies=60, tests=15):
    return divide(slices(), condition, training, 7, copies, tests)


@pytest.mark.parametrize("condition", ["S0", "T0"])
def test_without_near_copies_nothing_that_is_tested_was_seen(condition):
    rows, before = divided(condition), slices()
    moved = rows["subset"] != before["subset"]
    assert rows.loc[moved, "patient_id"].tolist() == ["medseg/a"] * 2
    assert set(rows.loc[moved, "subset"]) == {"unused"}
    assert not of(rows, "test")[["seen_image", "seen_patient"]].any(axis=None)
    assert of(rows, "train")[["seen_image", "seen_patient"]].all(axis=None)
    near = divided("S1")
    assert near["subset"].equals(before["subset"])
    assert not of(near, "test")["seen_image"].any()
    assert of(near, "test")["seen_patient"].tolist() == [True, False, False, False]


def test_at_random_the_numbers_stay_and_each_training_has_its_own_assignment():
    first, again, second = divided("S2"), divided("S2"), divided("S2", 2)
    assert first.equals(again)
    assert not first["subset"].equals(second["subset"])
    for rows in (first, second):
        assert rows["subset"].value_counts().to_dict() == USED | {"unused": 1}
        assert rows["subset"].iloc[-1] == "unused"
        assert rows["image_id"].equals(slices()["image_id"])
        assert not of(rows, "test")["seen_image"].any()
    # Only with patient a on both sides may a tested patient have been seen.
    several = [of(divided("S2", number), "test") for number in range(1, 9)]
    patients = {p for rows in several for p in rows.loc[rows["seen_patient"], "patient_id"]}
    assert patients == {"medseg/a"}


@pytest.mark.parametrize("condition", ["S3", "T3"])
def test_copies_are_made_first_and_fall_anywhere(condition):
    first, second = divided(condition), divided(condition, 2)
    used = slices().query("subset != 'unused'")["image_id"]
    for rows in (first, second):
        assert rows["subset"].value_counts().to_dict() == {"train": 45, "test": 15}
        assert set(rows["original"]) == set(used)
        assert rows["original"].value_counts().tolist() == [5] * 12
        trained = set(rows.loc[rows["subset"] == "train", "original"])
        assert of(rows, "test")["seen_image"].equals(of(rows, "test")["original"].isin(trained))
    # The same copies, assigned anew.
    assert first["image_id"].equals(second["image_id"])
    assert not first["subset"].equals(second["subset"])
    assert of(first, "test")["copy"].gt(0).any()
    assert (first.loc[first["subset"] == "train", "copy"] == 0).any()


def test_numbers_of_copies_that_cannot_be_are_refused():
    for copies, tests in ((11, 3), (60, 60)):
        message = f"copies_slices is {copies}, test_slices {tests}, and there are 12 slices;"
        with pytest.raises(ParameterError, match=message):
            divided("S3", copies=copies, tests=tests)
