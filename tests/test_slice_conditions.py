"""Conditions S0 to S3: which slices train, and what a test slice shares with them."""

import pytest
from builders import manifest

from covid_utils.data import image_conditions
from covid_utils.errors import ParameterError

USED = {"train": 6, "validation": 2, "test": 4}


def slices():
    """Twelve slices in use and one that is not; patient a is tested on, trains and validates."""
    pairs = manifest({"a": 3, **{f"p{i}": 1 for i in range(10)}}, "medseg", "covid", "CT")
    subsets = ["test", "train", "validation", *["train"] * 5, "validation", *["test"] * 3, "unused"]
    return pairs.assign(subset=subsets)


def divide(condition, training=1, rows=None, copies=60, tests=15):
    rows = slices() if rows is None else rows
    return image_conditions.divide(rows, condition, training, 7, copies, tests)


def of_test(rows):
    return rows[rows["subset"] == "test"]


@pytest.mark.parametrize("condition", ["S0", "T0"])
def test_without_near_copies_nothing_that_is_tested_was_seen(condition):
    rows, before = divide(condition), slices()
    moved = rows["subset"] != before["subset"]
    assert rows.loc[moved, "patient_id"].tolist() == ["medseg/a"] * 2
    assert set(rows.loc[moved, "subset"]) == {"unused"}
    assert not of_test(rows)[["seen_image", "seen_patient"]].any(axis=None)
    trains = rows["subset"] == "train"
    assert rows.loc[trains, ["seen_image", "seen_patient"]].all(axis=None)


def test_with_near_copies_the_split_stays_and_their_patient_was_seen():
    rows = divide("S1")
    assert rows["subset"].equals(slices()["subset"])
    tested = of_test(rows)
    assert not tested["seen_image"].any()
    assert tested["seen_patient"].tolist() == [True, False, False, False]


def test_at_random_the_numbers_stay_and_each_training_has_its_own_assignment():
    first, again, second = divide("S2"), divide("S2"), divide("S2", 2)
    assert first.equals(again)
    assert not first["subset"].equals(second["subset"])
    for rows in (first, second):
        assert rows["subset"].value_counts().to_dict() == USED | {"unused": 1}
        assert rows["subset"].iloc[-1] == "unused"
        assert rows["image_id"].equals(slices()["image_id"])
        assert not of_test(rows)["seen_image"].any()
    # Only with patient a on both sides may a tested patient have been seen.
    several = [of_test(divide("S2", number)) for number in range(1, 9)]
    patients = {p for rows in several for p in rows.loc[rows["seen_patient"], "patient_id"]}
    assert patients == {"medseg/a"}


@pytest.mark.parametrize("condition", ["S3", "T3"])
def test_copies_are_made_first_and_fall_anywhere(condition):
    first, second = divide(condition), divide(condition, 2)
    used = slices().query("subset != 'unused'")["image_id"]
    for rows in (first, second):
        assert rows["subset"].value_counts().to_dict() == {"train": 45, "test": 15}
        assert set(rows["original"]) == set(used)
        assert rows["original"].value_counts().tolist() == [5] * 12
        trained = set(rows.loc[rows["subset"] == "train", "original"])
        assert of_test(rows)["seen_image"].equals(of_test(rows)["original"].isin(trained))
    # The same copies, assigned anew.
    assert first["image_id"].equals(second["image_id"])
    assert not first["subset"].equals(second["subset"])
    assert of_test(first)["copy"].gt(0).any()
    assert (first.loc[first["subset"] == "train", "copy"] == 0).any()


def test_numbers_of_copies_that_cannot_be_are_refused():
    for copies, tests in ((11, 3), (60, 60)):
        message = f"copies_slices is {copies}, test_slices {tests}, and there are 12 slices;"
        with pytest.raises(ParameterError, match=message):
            divide("S3", copies=copies, tests=tests)
