"""Figures: letters that can be read, and words for those who cannot see them."""

import itertools
import xml.etree.ElementTree as ET

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from PIL import Image
from seaborn.utils import relative_luminance

from covid_utils import paths
from covid_utils.evaluation import calibration
from covid_utils.report import figures, sheets, style

PROFILE = "quick"
FOUR = ("covid", "normal", "viral", "bacterial")


# One example of each


def confusion():
    four = np.array([[82, 5, 2, 0], [7, 213, 8, 5], [3, 10, 85, 27], [9, 5, 34, 116]])
    matrices = {"2 classes, test patients": (np.array([[88, 1], [8, 225]]), FOUR[:2])}
    return figures.confusion_matrices(matrices | {"4 classes, test patients": (four, FOUR)})


def labels():
    counts = {"ground-glass": [[48, 0], [0, 0]], "consolidation": [[33, 4], [8, 3]]}
    counts["pleural effusion"] = [[2, 6], [4, 36]]
    classes = ("present", "absent")
    return figures.confusion_matrices(
        {name: (np.array(matrix), classes) for name, matrix in counts.items()}
    )


def curves():
    steps = np.arange(0, 10001, 500)
    parts = [
        pd.DataFrame({"step": steps, "accuracy": 1 - 0.5 / (1 + steps / rate), "subset": subset})
        for subset, rate in (("train", 500), ("validation", 3000), ("test", 9000))
    ]
    table = pd.concat(parts, ignore_index=True)
    table["loss"] = table["accuracy"].where(table["subset"] != "test")
    panels = {"accuracy": "accuracy of 100 random images", "loss": "cross entropy"}
    return figures.training_curves(table, panels)


def maps():
    rates, steps = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3], [100, 300, 1000, 2800, 5000, 10000]
    table = pd.DataFrame(np.linspace(0.741, 0.964, 36).reshape(6, 6), rates, steps)
    return figures.setting_maps(
        {"2 classes": table, "4 classes": table / 2, "CT": table}, (0.01, 2800)
    )


def diagrams():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet((0.4,) * 4, 400)
    truth = np.array([rng.choice(4, p=share) for share in shares])
    table = calibration.reliability(shares, truth)
    return figures.reliability({"four classes, as trained": table, "at temperature 1.53": table})


def rivals():
    names = ["ours", "ours, chosen on validation"]
    names += ["baseline: linear SVM on the same features", "baseline: name of the data set only"]
    rows = {"name": names, "ours": [97.2, 100, 97.5, 53.4]}
    rows |= {"low": [95.1, 97.4, 95.5, np.nan], "high": [99.1, 100, 99.1, np.nan]}
    panels = dict.fromkeys(("2 classes", "4 classes"), pd.DataFrame(rows))
    return figures.forest(panels, "accuracy on test images, %", {"2 classes": 99.4})


def scores():
    rows = [
        {"class": name, "metric": metric, "value": 0.7, "low": 0.6, "high": 0.9}
        for name in FOUR
        for metric in ("sensitivity", "specificity", "precision", "f1")
    ]
    rows[1] |= {"value": np.nan, "low": np.nan, "high": np.nan}
    return figures.score_bars(pd.DataFrame(rows), "score on test patients")


def slices(n, side=16):
    rng = np.random.default_rng(1)
    masks = np.zeros((n, side, side), np.uint8)
    masks[:, 4:8, 4:8], masks[:, 8:10, 4:8], masks[:, 10:12, 4:8] = 1, 2, 3
    return rng.integers(0, 256, masks.shape, dtype=np.uint8), masks


def images():
    rows = {name: list(slices(5)[0]) for name in FOUR}
    return sheets.image_sheet(rows, "The four classes of the recognition task (phantom)")


def pairs():
    names = ["original", *(f"augmented {number}" for number in range(1, 5))]
    cells = list(zip(*slices(5), strict=True))
    return sheets.pair_sheet(cells, names, "One CT slice and its mask, augmented (phantom)")


def streams():
    pictures, masks = slices(4)
    names = ["reference", *(f"stream:\n{name}" for name in ("all classes", "ground-glass"))]
    names += ["stream:\nconsolidation", "stream:\npleural effusion", "specialists\ntogether"]
    columns = dict.fromkeys(names, masks)
    return sheets.segmentation_sheet(pictures, columns, "Streams on the same slices (phantom)")


def outcomes():
    pictures, masks = slices(3)
    classes = {1: "found", 2: "missed", 3: "false alarm"}
    lines = pd.DataFrame({"DeepLab-v3+": ["Dice 0.90", "Dice 0.69", "no Dice"]})
    lines = lines.assign(**{"U-Net": lines}).set_axis(["best", "middle", "worst"])
    title = "Lesions of three slices by two networks (phantom)"
    return sheets.segmentation_sheet(pictures, dict.fromkeys(lines, masks), title, classes, lines)


def heats():
    pictures, _ = slices(8)
    heat = np.zeros((8, 8, 8))
    heat[0, 0, 3] = heat[1, 4, 4] = 1
    answers = pd.DataFrame({"predicted": "bacterial", "truth": ["bacterial"] * 4 + ["viral"] * 4})
    answers["p_bacterial"] = 0.996
    return sheets.heat_sheet(answers, pictures, heat, "What spoke for the prediction (phantom)")


DRAWN = [confusion, labels, curves, maps, diagrams, rivals, scores]
DRAWN += [images, pairs, streams, outcomes, heats]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home of its own, and the look of the notebooks."""
    monkeypatch.setenv("COVID_HOME", str(tmp_path))
    with plt.rc_context():
        style.use()
        yield


@pytest.fixture(params=DRAWN, ids=lambda draw: draw.__name__)
def figure(request):
    drawn = request.param()
    # The layout results from drawing.
    drawn.draw_without_rendering()
    return drawn


def texts(figure):
    """Every text that is drawn."""
    shown = [text for text in figure.findobj(Text) if text.get_text().strip()]
    return [text for text in shown if text.get_visible() and is_drawn(text)]


def is_drawn(text):
    """Ticks outside of an axis keep labels that nobody sees."""
    for axis in text.figure.axes if text.axes is None else [text.axes]:
        for one, limits in ((axis.xaxis, axis.get_xlim()), (axis.yaxis, axis.get_ylim())):
            low, high = sorted(limits)
            for tick in (*one.get_major_ticks(), *one.get_minor_ticks()):
                if text in (tick.label1, tick.label2):
                    return low - 1e-9 <= tick.get_loc() <= high + 1e-9
    return True


def test_a_figure_fits_a_page_and_all_its_letters_can_be_read(figure):
    assert figure.get_figwidth() <= style.DOUBLE
    assert figure.get_figheight() <= 9.2
    assert min(text.get_fontsize() for text in texts(figure)) >= style.SMALL == 7
    # The font that comes along with Matplotlib.
    assert {text.get_fontname() for text in texts(figure)} == {"DejaVu Sans"}
    width, height = figure.bbox.width, figure.bbox.height
    boxes = {text: text.get_window_extent() for text in texts(figure)}
    for text, box in boxes.items():
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
        assert inside, text.get_text()
    for (one, box), (other, place) in itertools.combinations(boxes.items(), 2):
        across = min(box.x1, place.x1) - max(box.x0, place.x0)
        along = min(box.y1, place.y1) - max(box.y0, place.y0)
        assert across < 1 or along < 1, (one.get_text(), other.get_text())


def contrast(one, other):
    """Contrast of WCAG 2, from 1 (none) to 21."""
    low, high = sorted((relative_luminance(one), relative_luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("draw", [confusion, labels, maps])
def test_numbers_in_maps_can_be_read(draw):
    figure = draw()
    count = 0
    for axis in figure.axes:
        cells = axis.collections[0].get_facecolors()
        for text, colour in zip(axis.texts, cells, strict=True):
            assert contrast(text.get_color(), colour[:3]) >= 4.5, text.get_text()
            count += 1
    assert count >= 12


def test_the_setting_map_frames_the_papers_setting():
    table = pd.DataFrame([[0.5, 0.6], [0.7, 0.8]], index=[0.01, 0.1], columns=[100, 2800])
    left = figures.setting_maps({"two": table, "four": table - 0.1}, (0.01, 2800)).axes[0]
    assert [text.get_text() for text in left.texts] == ["50.0", "60.0", "70.0", "80.0"]
    assert [patch.get_xy() for patch in left.patches] == [(1, 0)]
    assert [label.get_text() for label in left.get_yticklabels()] == ["0.01", "0.1"]
    assert not figures.setting_maps({"two": table}, (0.5, 2800)).axes[0].patches
    assert not figures.setting_maps({}, (0.01, 2800)).axes


# Words


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (confusion, "2 classes, test patients: 313 of 322 images (97.2 %) on the diagonal"),
        (confusion, "of 89 COVID-19: 88 as COVID-19, 1 as normal"),
        (labels, "of 48 present: 48 as present, 0 as absent; of 0 absent: 0 as present, 0"),
        (maps, "2 classes: highest 96.4 % at rate 0.3 after 10000 steps; lowest 74.1 %"),
        (maps, "the paper's setting 83.7 % at rate 0.01 after 2800 steps"),
        (curves, "Accuracy of 100 random images, train: 0.5 at step 0; 0.976 at step 10000"),
        (rivals, "ours 97.2 (95.1 to 99.1)"),
        (rivals, "baseline: name of the data set only 53.4; the paper 99.4."),
        (scores, "COVID-19: sensitivity 0.70 (0.60 to 0.90); specificity without value"),
        (images, "(phantom). COVID-19: 5 gray images. Normal: 5 gray images."),
        (streams, "Reference, share of the pixels: ground-glass 6.2 %; consolidation 3.1 %"),
        (outcomes, "Best: DeepLab-v3+, Dice 0.90; U-Net, Dice 0.90. Middle: "),
        (heats, "Most certain, right: bacterial pneumonia (100 %), 100 % of the heat in the frame"),
        (heats, "bacterial pneumonia (100 %), 0 % of the heat"),
        (heats, "bacterial pneumonia (100 %) truth: viral pneumonia, no heat"),
    ],
)
def test_numbers_of_a_figure_are_in_its_words(draw, words):
    assert words in draw().get_label()


# Files


@pytest.mark.parametrize("draw", [confusion, streams])
def test_a_figure_is_kept_with_its_words_and_is_the_same_to_the_byte(draw):
    folder = paths.results(PROFILE) / "figures"
    for name in ("one", "two"):
        figure = style.finished(draw(), "A & B < C. Nothing else")
        assert not plt.get_fignums()  # so that it is shown once
        assert style.save(figure, PROFILE, name) is figure
    for ending in ("png", "svg", "txt"):
        one, two = ((folder / f"{name}.{ending}").read_bytes() for name in ("one", "two"))
        assert one.replace(b"one-", b"two-") == two
    text = "A & B < C. Nothing else."
    assert (folder / "one.txt").read_text(encoding="utf8") == text + "\n"
    with Image.open(folder / "one.png") as image:
        assert (image.info["Title"], image.info["Description"]) == ("A & B < C", text)
        assert image.info["dpi"] == pytest.approx((300,) * 2, abs=0.1)
    root = ET.parse(folder / "one.svg").getroot()
    title, desc = list(root)[:2]
    assert [part.tag.split("}")[1] for part in (title, desc)] == ["title", "desc"]
    assert (title.text, desc.text, root.get("role")) == ("A & B < C", text, "img")
    assert root.get("aria-labelledby") == f"{title.get('id')} {desc.get('id')}"
    assert b"<dc:date>" not in (folder / "one.svg").read_bytes()


def test_the_legend_says_what_thick_lines_are_if_any_panel_has_them():
    few = [1.0, 0.5] + [np.nan] * 28
    table = pd.DataFrame({"step": range(30), "subset": "train", "accuracy": 0.5, "loss": few})
    (legend,) = figures.training_curves(table, {"accuracy": "share", "loss": "loss"}).legends
    assert "single values; thick: mean" in [text.get_text() for text in legend.get_texts()]
