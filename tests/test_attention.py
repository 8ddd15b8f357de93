"""Sheets and numbers of Grad-CAM, and the figures of the recognition notebook."""

import numpy as np
import pandas as pd
import pytest
from builders import manifest

from covid_utils.evaluation import calibration, gradcam
from covid_utils.report import attention, figures
from covid_utils.training import predictions

NAMES = ("covid", "normal", "viral")


@pytest.fixture
def answers():
    """18 answers, the last one wrong, and heat in the middle, in a corner and nowhere."""
    truth = np.arange(18) % 3
    shares = np.eye(3)[truth] * 0.8 + 0.2 / 3
    shares[-1] = [0.7, 0.2, 0.1]
    rows = manifest({f"p{i}": 1 for i in range(18)}).assign(target=truth, subset="test")
    table = predictions.class_table(rows, shares, NAMES)
    heat = np.zeros((18, 8, 8), np.float32)
    heat[table["predicted"] == "covid", 3:5, 3:5] = 1
    heat[table["predicted"] == "normal", 0, 0] = 1
    return table, heat


def test_heat_in_the_frame_is_reported_by_class(answers):
    table = attention.frame_table(*answers).set_index("class")
    assert table["images"].to_dict() == {"COVID-19": 6, "normal": 6, "viral pneumonia": 6}
    assert table.loc["COVID-19", "in the frame"] == "0 % [0, 0]"
    assert table.loc["normal", "in the frame"] == "100 % [100, 100]"
    # Nothing speaks for this class; only the wrong answer, for COVID-19, has any heat.
    assert table.loc["viral pneumonia", "in the frame"].startswith("0 % [")
    assert set(table["if even"]) == {f"{100 * gradcam.even_share():.0f} %"}
    answer, heat = answers
    one_each = answer.assign(patient_id=answer["truth"])
    assert attention.frame_table(one_each, heat)["in the frame"].tolist() == ["0 %", "100 %", "0 %"]


def test_the_sheet_shows_right_and_wrong_answers(answers):
    table, heat = answers
    at = [0, 1, 2, 17]
    images = np.full((4, 16, 16), 90, np.uint8)
    figure = attention.sheet(table.iloc[at], images, heat[at], "What spoke for the answer")
    assert [axis.get_title() for axis in figure.axes if axis.get_title()] == [
        "COVID-19 (87%)",
        "normal (87%)",
        "viral pneumonia (87%)",
        "COVID-19 (70%)\nis viral pneumonia",
    ]
    assert figure.get_suptitle() == "What spoke for the answer"
    right = attention.sheet(table.iloc[at[:3]], images[:3], heat[at[:3]], "all right")
    assert len(right.axes) == 3


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
