"""Sentences that answer a notebook's question: each says what its numbers say."""

import numpy as np
import pandas as pd
import pytest

from covid_utils.evaluation import gradcam
from covid_utils.report import readings


def tuned(*points):
    names = ["epoch", "subset", "accuracy", "cross_entropy"]
    return pd.DataFrame(
        [(n, "validation", *point) for n, point in enumerate(points)], columns=names
    )


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (
            [(0.7, 0.8), (0.6, 0.9), (0.5, 1)],
            "epoch 2, .* 0.800 to 1.000, .* 70.0 to 50.0 %. No ep",
        ),
        ([(0.7, 0.8), (0.8, 0.7), (0.9, 0.9)], r"from 70.0 to 80.0 %\. .* is kept\.$"),
        ([(0.814, 0.474), (0.808, 0.466)], "81.4 to 80.8 %.*accuracy is lower all the same"),
        ([], "no validation images"),
    ],
)
def test_fine_tuning_that_helps_and_that_does_not(points, words):
    assert pd.Series(readings.fine_tuning(tuned(*points))).str.contains(words).all()


def trained(validation, train):
    rows = [
        (e, s, a) for e in range(1, 11) for s, a in (("validation", validation), ("train", train))
    ]
    return pd.DataFrame(rows, columns=["epoch", "subset", "accuracy"])


def test_validation_above_training_is_explained_by_what_slices_show():
    subset = pd.Series(["train"] * 4 + ["validation"] * 2)
    truth = np.array([[1, 1], [1, 1], [1, 0], [1, 0], [1, 1], [1, 1]], bool)
    text = readings.against_prevalence(trained(1.0, 0.7), truth, subset)
    assert "100 % of validation and 70 % of training labels; a rule" in text
    assert "for 100 % of validation and 75 % of training labels" in text
    assert "because its labels are easier to guess, and because training is" in text
    assert text.endswith("has not yet learned more than the rule.")
    harder = np.array([[1, 1], [1, 1], [1, 1], [1, 0], [1, 0], [1, 1]], bool)
    text = readings.against_prevalence(trained(0.9, 0.7), harder, subset)
    assert "because training is measured with dropout" in text
    assert text.endswith("does better than the rule.")
    assert "no validation" in readings.against_prevalence(
        trained(1, 1), truth, subset.replace("validation", "test")
    )


def test_specialists_win_lose_or_cannot_be_told_apart():
    table = pd.DataFrame(
        [("ggo", 0.03, 0.01, 0.05), ("effusion", -0.2, -0.3, -0.1), ("lesion", 0.01, -0.001, 0.1)],
        columns=["class", "value", "low", "high"],
    )
    assert "no test slices" in readings.specialists(table[:0])
    table.loc[3] = ("consolidation", 0.3, np.nan, np.nan)
    assert readings.specialists(table) == (
        "Dice of the specialists together minus Dice of the one network: ground-glass +0.030 "
        "[+0.010, +0.050], pleural effusion -0.200 [-0.300, -0.100], any lesion +0.010 "
        "[-0.001, +0.100], consolidation +0.300. On these test slices the specialists do better "
        "for ground-glass, do worse for pleural effusion, cannot be told apart from the one "
        "network for any lesion and consolidation."
    )


def test_a_border_that_goes_with_the_class_is_called_a_shortcut():
    images = np.full((4, 200, 200), 120, np.uint8)
    images[1:, [0, 1, -2, -1]] = images[1:, :, [0, 1, -2, -1]] = 20
    bordered = gradcam.is_bordered(images)
    assert bordered.tolist() == [False, True, True, True]
    truth = ["covid", "covid", "viral", "viral"]
    text = readings.shortcut(truth, bordered, "real scans")
    assert text.startswith("A dark border surrounds 100 % of viral pneumonia and 50 % of COVID-19.")
    assert "shortcut" in text
    assert "hospital" not in text
    assert "hospital" in readings.shortcut(truth, bordered, "phantom")
    assert "shortcut" not in readings.shortcut(truth, bordered & False, "real scans")


def steps(low, high, neighbour=np.nan):
    """Three conditions whose last change is from ``low`` to ``high``."""
    return pd.DataFrame(
        {
            "condition": ["R0", "R2", "R3", "R4"],
            "unit": "%",
            "ours": [90.0, 91.0, 97.0, 90.5],
            "neighbour": [neighbour, neighbour, 99.0, neighbour],
            "change": [np.nan, 1.0, 6.0, -6.5],
            "change_low": [np.nan, -1.0, low, -9.0],
            "change_high": [np.nan, 3.0, high, -3.0],
        }
    )


@pytest.mark.parametrize(("low", "words"), [(2.0, "excludes 0"), (-2.0, "includes 0")])
def test_a_staircase_names_its_largest_step_up_and_whether_its_interval_includes_0(low, words):
    text = readings.staircases({"Accuracy": steps(low, 10.0, 80.0)}, {"Accuracy": [98.1]})
    assert "90.0 % with patients apart, 97.0 % with copies" in text
    assert "the paper has 98.1 %." in text
    assert f"from R2 to R3: +6.0 points [{low:+.1f}, +10.0]; the interval {words}" in text
    assert "reach 90.5 % on patients of the same sources whom they never saw" in text
    assert "goes from 80.0 % to 99.0 %" in text


def test_a_staircase_without_neighbours_says_nothing_of_them():
    text = readings.staircases({"Dice": steps(1.0, 9.0).iloc[:3]}, {"Dice": [0.8, 0.82]})
    assert "the paper has 0.8 and 0.82" in text
    assert "neighbour" not in text
    assert "never saw" not in text
    assert readings.staircases({"Dice": steps(1.0, 9.0).iloc[1:]}, {"Dice": [0.8]}) == ""
