"""Sheets and numbers of Grad-CAM, and the figures of the recognition notebook."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from builders import manifest

from covid_utils.evaluation import calibration, explain
from covid_utils.report import attention, figures
from covid_utils.training import head, predictions
from covid_utils.training.recognition import Fitted, Task

NAMES = ("covid", "normal", "viral")


@pytest.fixture
def looking():
    """A network whose first map lights up in the middle, its second in a corner of the frame."""
    rows = manifest({f"p{i}": 1 for i in range(24)})
    rows = rows.assign(target=np.arange(24) % 3, subset=["train"] * 6 + ["test"] * 18)
    maps = np.zeros((24, 8, 8, 3), np.float32)
    maps[:, 3:5, 3:5, 0] = 1
    maps[:, 0, 0, 1] = 1
    # Class 0 rests on the middle, class 1 on the corner, class 2 on nothing.
    kernel = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0]], np.float32)
    task = Task("three", rows, NAMES)
    sure = np.eye(3)[rows["target"]] * 0.8 + 0.2 / 3
    sure[-1] = [0.7, 0.2, 0.1]  # one answer is wrong
    found = task.mark(predictions.class_table(rows, sure, NAMES), "head")
    fitted = Fitted(task, head.Head(kernel, np.zeros(3, np.float32)), found)
    images = np.full((24, 16, 16), 90, np.uint8)
    return SimpleNamespace(last_maps=lambda at: maps[at], images=images), fitted


def test_heat_in_the_frame_is_told_by_class(looking):
    table = attention.frame_table(*looking).set_index("class")
    assert table["images"].to_dict() == {"COVID-19": 6, "normal": 6, "viral pneumonia": 6}
    assert table.loc["COVID-19", "in the frame"] == "0 % [0, 0]"
    assert table.loc["normal", "in the frame"] == "100 % [100, 100]"
    # No map speaks for this class; only the wrong answer, for COVID-19, has any heat.
    assert table.loc["viral pneumonia", "in the frame"].startswith("0 % [")
    assert set(table["if even"]) == {f"{100 * explain.even_share():.0f} %"}
    assert attention.frame_table(*looking, images=2)["images"].tolist()[:2] == [2, 2]


def test_two_patients_give_no_interval(looking):
    extraction, fitted = looking
    few = fitted.predictions.assign(
        patient_id=fitted.predictions["truth"].map({"covid": "a", "normal": "b"}).fillna("c")
    )
    table = attention.frame_table(extraction, Fitted(fitted.task, fitted.head, few))
    assert table["in the frame"].tolist() == ["0 %", "100 %", "0 %"]


def test_the_sheet_shows_right_and_wrong_answers(looking):
    figure = attention.sheet(*looking, "What spoke for the answer (phantom)")
    titles = [axis.get_title() for axis in figure.axes]
    assert [title for title in titles if title] == [
        "COVID-19 (87%)",
        "normal (87%)",
        "viral pneumonia (87%)",
        "COVID-19 (70%)\nis viral pneumonia",
    ]
    assert figure.get_suptitle() == "What spoke for the answer (phantom)"


def test_without_wrong_answers_there_is_one_row(looking):
    extraction, fitted = looking
    right = fitted.predictions.assign(predicted=fitted.predictions["truth"])
    figure = attention.sheet(extraction, Fitted(fitted.task, fitted.head, right), "all right")
    assert len(figure.axes) == 3


def test_the_setting_map_frames_the_papers_setting():
    table = pd.DataFrame([[0.5, 0.6], [0.7, 0.8]], index=[0.01, 0.1], columns=[100, 2800])
    figure = figures.setting_maps({"two": table, "four": table - 0.1}, (0.01, 2800))
    left = figure.axes[0]
    assert [text.get_text() for text in left.texts] == ["50.0", "60.0", "70.0", "80.0"]
    assert [patch.get_xy() for patch in left.patches] == [(1, 0)]
    assert [label.get_text() for label in left.get_yticklabels()] == ["0.01", "0.1"]
    elsewhere = figures.setting_maps({"two": table}, (0.5, 2800))
    assert not elsewhere.axes[0].patches
    assert not figures.setting_maps({}, (0.01, 2800)).axes


def test_the_reliability_diagram_has_a_point_a_bin():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet((1, 1, 1), 300)
    truth = np.array([rng.choice(3, p=share) for share in shares])
    table = calibration.reliability(shares, truth)
    figure = figures.reliability({"as trained": table})
    points = figure.axes[0].containers[0].lines[0].get_xydata()
    assert np.allclose(points, table[["confidence", "accuracy"]])
    bars = figure.axes[0].containers[1]
    assert np.isclose(sum(bar.get_height() for bar in bars), 1)


def test_the_forest_marks_ours_and_the_paper():
    rows = pd.DataFrame(
        {
            "name": ["ours, split by patient", "baseline: x"],
            "ours": [81.0, 60.0],
            "low": [77.0, np.nan],
            "high": [85.0, np.nan],
        }
    )
    figure = figures.forest({"4 classes": rows, "2 classes": rows}, "accuracy", {"4 classes": 98.1})
    left, right = figure.axes
    said = [label.get_text().replace("\n", " ") for label in left.get_yticklabels()]
    assert said == rows["name"].tolist()
    ours, other = left.containers
    assert ours.lines[0].get_xydata().tolist() == [[81.0, 1.0]]
    assert other.lines[0].get_xydata().tolist() == [[60.0, 0.0]]
    assert [text.get_text() for text in left.texts] == ["paper 98.1 "]
    assert not right.texts
