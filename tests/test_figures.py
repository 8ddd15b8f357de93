"""Figures: colours that anyone can tell apart, letters that can be read, and words for the rest."""

import itertools
import re
import xml.etree.ElementTree as ET

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from covid_utils import paths, registry
from covid_utils.errors import ParameterError
from covid_utils.evaluation import calibration
from covid_utils.report import alt_text, figures, sheets, style

PROFILE = "quick"
#: Machado, Oliveira and Fernandes 2009: colour vision without one kind of cone, in linear RGB.
VISION = {
    "all cones": np.eye(3),
    "no red cones": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green cones": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no blue cones": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
#: CIEDE2000 between colours: 1 can just be seen side by side, 10 at a glance.
APART_IN_A_FIGURE, APART_ANYWHERE = 10, 15


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home of its own, and the look of the notebooks."""
    monkeypatch.setenv("COVID_HOME", str(tmp_path))
    with plt.rc_context():
        figures.style()
        yield


# Colours


def seen(colour, vision):
    """CIE Lab of a colour as it looks with one kind of vision."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(VISION[vision]) @ linear, 0, 1)
    rgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return rgb2lab(rgb[None, None])[0, 0]


def distance(one, other, vision="all cones"):
    return float(deltaE_ciede2000(seen(one, vision), seen(other, vision)))


def test_the_simulated_visions_are_what_they_should_be():
    # Red and green are a classic pair: far apart for most, closer without either kind of cone.
    red, green = "#B35C44", "#7A7A2E"
    assert distance(red, green) > 2 * distance(red, green, "no green cones")
    for vision in VISION:
        assert distance("#000000", "#FFFFFF", vision) == pytest.approx(100, abs=0.5)
        assert seen("#808080", vision)[1:] == pytest.approx([0, 0], abs=1)


@pytest.mark.parametrize(
    "one, other", itertools.combinations(registry.COLOURS, 2), ids=lambda name: name
)
def test_no_colour_means_two_things(one, other):
    assert distance(registry.COLOURS[one], registry.COLOURS[other]) >= APART_ANYWHERE


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("group", registry.TOGETHER, ids=" ".join)
def test_what_meets_in_a_figure_can_be_told_apart_by_anyone(group, vision):
    for one, other in itertools.combinations(group, 2):
        apart = distance(registry.COLOURS[one], registry.COLOURS[other], vision)
        assert apart >= APART_IN_A_FIGURE, (one, other, apart)


def test_every_colour_can_meet_others_and_has_a_name():
    assert set().union(*registry.TOGETHER) == set(registry.COLOURS)
    named = {*registry.CLASS_COLOURS, *registry.MANIFESTATION_COLOURS}
    assert named <= set(registry.NAMES)
    assert set(registry.DASHES) == set(registry.SUBSET_COLOURS)
    # Bare keys that are words already.
    assert [registry.name_of(name) for name in ("found", "train")] == ["found", "train"]


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("gray", [30, 90, 150, 210])
@pytest.mark.parametrize(
    "group", [("ggo", "consolidation", "effusion"), tuple(registry.OUTCOME_COLOURS)]
)
def test_patches_on_a_scan_differ_from_gray_and_from_each_other(group, gray, vision):
    image, mask = np.full((9, 9), gray, np.uint8), np.ones((9, 9), np.uint8)
    mask[0] = 0
    fills, edges = [], []
    for name in group:
        shown = sheets.overlay(image, mask, {1: name})
        edges.append(shown[1, 4])
        fills.append(shown[5, 4])
        assert shown[1, 4] == pytest.approx(to_rgb(registry.COLOURS[name]))
        assert distance(shown[1, 4], shown[0, 4], vision) >= APART_IN_A_FIGURE
    for one, other in itertools.combinations(range(len(group)), 2):
        assert distance(edges[one], edges[other], vision) >= APART_IN_A_FIGURE
        assert distance(fills[one], fills[other], vision) >= APART_IN_A_FIGURE / 2


def test_the_rim_of_a_picture_is_no_edge_of_a_patch():
    image, mask = np.zeros((4, 4), np.uint8), np.ones((4, 4), np.uint8)
    shown = sheets.overlay(image, mask, alpha=0.5)
    np.testing.assert_allclose(shown, np.full((4, 4, 3), to_rgb(registry.COLOURS["ggo"])) / 2)


@pytest.mark.parametrize("channels", itertools.product((0, 0.3, 0.6, 1), repeat=3))
def test_black_or_white_can_be_read_on_any_colour(channels):
    assert style.contrast(style.readable_on(channels), channels) >= 4.5


def test_contrast_is_that_of_the_guidelines():
    assert style.contrast("black", "white") == pytest.approx(21)
    assert style.contrast("#777777", "white") == pytest.approx(4.48, abs=0.01)


# Drawing


def confusion():
    four = np.array([[82, 5, 2, 0], [7, 213, 8, 5], [3, 10, 85, 27], [9, 5, 34, 116]])
    names = ("covid", "normal", "viral", "bacterial")
    two = np.array([[88, 1], [8, 225]])
    matrices = {"2 classes, test patients": (two, names[:2])}
    return figures.confusion_matrices(matrices | {"4 classes, test patients": (four, names)})


def labels():
    counts = {"ggo": [[48, 0], [0, 0]], "consolidation": [[33, 4], [8, 3]]}
    counts |= {"effusion": [[2, 6], [4, 36]]}
    classes = ("present", "absent")
    return figures.confusion_matrices(
        {registry.NAMES[name]: (np.array(matrix), classes) for name, matrix in counts.items()}
    )


def history():
    steps = np.arange(0, 10001, 500)
    parts = [
        pd.DataFrame({"step": steps, "accuracy": 1 - 0.5 / (1 + steps / rate), "subset": subset})
        for subset, rate in (("train", 500), ("validation", 3000), ("test", 9000))
    ]
    table = pd.concat(parts, ignore_index=True)
    return table.assign(loss=table["accuracy"].where(table["subset"] != "test"))


def curves():
    panels = {"accuracy": "accuracy of 100 random images", "loss": "cross entropy"}
    return figures.training_curves(history(), panels)


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
    names = ["ours, split by patient", "ours, split by hash of the path, as retrain.py"]
    names += ["baseline: linear SVM on the same features", "baseline: name of the data set only"]
    rows = {"name": names, "ours": [97.2, 100, 97.5, 53.4]}
    rows |= {"low": [95.1, 97.4, 95.5, np.nan], "high": [99.1, 100, 99.1, np.nan]}
    panels = dict.fromkeys(("2 classes", "4 classes"), pd.DataFrame(rows))
    return figures.forest(panels, "accuracy on test images, %", {"2 classes": 99.4})


def scores():
    rows = [
        {"class": name, "metric": metric, "value": 0.7, "low": 0.6, "high": 0.9}
        for name in ("covid", "normal", "viral", "bacterial")
        for metric in ("sensitivity", "specificity", "precision", "f1")
    ]
    rows[1] |= {"value": np.nan, "low": np.nan, "high": np.nan}
    return figures.score_bars(pd.DataFrame(rows), "metric", "class", "score on test patients")


def slices(n, side=16):
    rng = np.random.default_rng(1)
    masks = np.zeros((n, side, side), np.uint8)
    masks[:, 4:8, 4:8], masks[:, 8:10, 4:8], masks[:, 10:12, 4:8] = 1, 2, 3
    return rng.integers(0, 256, masks.shape, dtype=np.uint8), masks


def images():
    names = ("covid", "normal", "viral", "bacterial")
    rows = {name: list(slices(5)[0]) for name in names}
    return figures.image_sheet(rows, "The four classes of the recognition task (phantom)")


def pairs():
    names = ["original", *(f"augmented {number}" for number in range(1, 5))]
    made = list(zip(*slices(5), strict=True))
    return figures.pair_sheet(made, names, "One CT slice and its mask, augmented (phantom)")


def streams():
    pictures, masks = slices(4)
    names = ["reference", *(f"stream: {name}" for name in ("all", "ggo", "consolidation"))]
    columns = dict.fromkeys([*names, "stream: effusion", "specialists together"], masks)
    return figures.segmentation_sheet(pictures, columns, "Streams on the same slices (phantom)")


def outcomes():
    pictures, masks = slices(3)
    classes = {1: "found", 2: "missed", 3: "false alarm"}
    columns = dict.fromkeys(("DeepLab-v3+", "U-Net"), masks)
    said = {name: ["Dice 0.90", "Dice 0.69", "no Dice"] for name in columns}
    rows = ("best", "middle", "worst")
    title = "Lesions of three slices by two networks (phantom)"
    return figures.segmentation_sheet(pictures, columns, title, classes, rows, said)


def heats():
    pictures, _ = slices(8)
    heat = np.zeros((8, 4, 4))
    heat[0, 0, 3] = heat[1, 2, 2] = 1
    captions = ["bacterial pneumonia (100%)"] * 4
    captions += ["bacterial pneumonia (100%)\nis viral pneumonia"] * 4
    cells = list(zip(pictures, heat, captions, strict=True))
    rows = {"surest, right": cells[:4], "surest, wrong": cells[4:]}
    return figures.heat_sheet(rows, "What spoke for the answer (phantom)")


DRAWN = [confusion, labels, curves, maps, diagrams, rivals, scores]
DRAWN += [images, pairs, streams, outcomes, heats]


@pytest.fixture(params=DRAWN, ids=lambda draw: draw.__name__)
def figure(request):
    made = request.param()
    # The layout is found by drawing.
    made.draw_without_rendering()
    return made


def texts(figure):
    """Every text that is drawn."""
    found = [text for text in figure.findobj(Text) if text.get_text().strip()]
    return [text for text in found if text.get_visible() and is_drawn(text)]


def is_drawn(text):
    """Ticks outside of an axis keep labels that nobody sees."""
    for axis in text.figure.axes if text.axes is None else [text.axes]:
        for one, limits in ((axis.xaxis, axis.get_xlim()), (axis.yaxis, axis.get_ylim())):
            low, high = sorted(limits)
            for tick in (*one.get_major_ticks(), *one.get_minor_ticks()):
                if text in (tick.label1, tick.label2):
                    return low - 1e-9 <= tick.get_loc() <= high + 1e-9
    return True


def test_a_figure_fits_two_columns_and_its_letters_can_be_read(figure):
    assert figure.get_figwidth() <= style.DOUBLE
    assert min(text.get_fontsize() for text in texts(figure)) >= style.SMALL == 7
    assert figure.get_figheight() <= 9.2  # of a page


def test_no_text_is_cut_off_and_none_covers_another(figure):
    width, height = figure.bbox.width, figure.bbox.height
    boxes = {text: text.get_window_extent() for text in texts(figure)}
    for text, box in boxes.items():
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
        assert inside, text.get_text()
    for (one, box), (other, place) in itertools.combinations(boxes.items(), 2):
        across = min(box.x1, place.x1) - max(box.x0, place.x0)
        along = min(box.y1, place.y1) - max(box.y0, place.y0)
        assert across < 1 or along < 1, (one.get_text(), other.get_text())


def test_a_figure_is_shown_once(figure):
    assert not plt.get_fignums()
    assert figure.get_label()


@pytest.mark.parametrize("draw", [confusion, labels, maps])
def test_numbers_in_maps_can_be_read(draw):
    figure = draw()
    count = 0
    for axis in figure.axes:
        cells = axis.collections[0].get_facecolors()
        for text, colour in zip(axis.texts, cells, strict=True):
            assert style.contrast(text.get_color(), colour[:3]) >= 4.5, text.get_text()
            count += 1
    assert count >= 12


def test_a_row_without_images_has_no_percentages():
    said = [text.get_text() for text in labels().axes[0].texts]
    assert said == ["48\n100%", "0\n0%", "0", "0"]
    rows = [label.get_text() for label in labels().axes[0].get_yticklabels()]
    assert rows == ["present\nn = 48", "absent\nn = 0"]


def test_a_subset_has_its_colour_and_dashes_and_no_curve_of_what_it_lacks():
    left, right = curves().axes
    for axis, subsets in (
        (left, ["train", "validation", "test"]),
        (right, ["train", "validation"]),
    ):
        thick = {line.get_label(): line for line in axis.lines if line.get_label() in subsets}
        assert list(thick) == subsets
        for subset, line in thick.items():
            assert line.get_color() == registry.SUBSET_COLOURS[subset]
            assert line.is_dashed() == (subset != "train")


def test_legends_name_manifestations_in_their_colours():
    full = {"ground-glass": "ggo", "consolidation": "consolidation", "pleural effusion": "effusion"}
    for figure in (pairs(), streams()):
        (legend,) = figure.legends
        found = {
            text.get_text(): patch.get_facecolor()[:3]
            for text, patch in zip(legend.get_texts(), legend.get_patches(), strict=True)
        }
        assert found == {word: to_rgb(registry.COLOURS[name]) for word, name in full.items()}
    headings = [axis.get_title().replace("\n", " ") for axis in streams().axes[:7]]
    assert headings[2:6] == [
        "stream: all classes",
        "stream: ground-glass",
        "stream: consolidation",
        "stream: pleural effusion",
    ]


def test_points_of_a_chart_differ_by_more_than_colour():
    figure = scores()
    (axis,) = figure.axes
    marks = [container.lines[0].get_marker() for container in axis.containers]
    assert len(set(marks)) == len(marks) == 4
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["COVID-19", "normal", "viral pneumonia", "bacterial pneumonia"]
    assert [label.get_text() for label in axis.get_xticklabels()][-1] == "F1"


def test_what_notebooks_draw_with_is_offered():
    used = set()
    for path in paths.notebooks().glob("*.ipynb"):
        used |= set(re.findall(r"\bfigures\.([A-Za-z_]+)\(", path.read_text(encoding="utf8")))
    assert used <= set(figures.__all__)


# Words


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (confusion, "2 classes, test patients: 313 of 322 images (97.2 %) on the diagonal"),
        (confusion, "COVID-19: 88 as COVID-19, 1 as normal"),
        (labels, "present: 48 as present, 0 as absent; absent: 0 as present, 0 as absent"),
        (maps, "2 classes: highest 96.4 % at rate 0.3 after 10000 steps; lowest 74.1 %"),
        (maps, "the paper's setting 83.7 % at rate 0.01 after 2800 steps"),
        (rivals, "ours, split by patient 97.2 (95.1 to 99.1)"),
        (rivals, "baseline: name of the data set only 53.4; the paper 99.4."),
        (scores, "COVID-19: sensitivity 0.70 (0.60 to 0.90); specificity without value"),
        (images, "(phantom). COVID-19: 5 gray images. Normal: 5 gray images."),
        (streams, "Reference, share of the pixels: ground-glass 6.2 %; consolidation 3.1 %"),
        (outcomes, "U-Net: best: Dice 0.90; middle: Dice 0.69; worst: no Dice."),
        (heats, "Surest, right: bacterial pneumonia (100%), most heat at the upper right"),
        (heats, "bacterial pneumonia (100%) is viral pneumonia, most heat nowhere"),
    ],
)
def test_numbers_of_a_figure_are_in_its_words(draw, words):
    assert words in draw().get_label()


def test_words_on_what_is_empty():
    empty = {"none": (np.zeros((2, 2), int), ("covid", "normal"))}
    assert "0 of 0 images on the diagonal" in figures.confusion_matrices(empty).get_label()
    assert "no validation images" in figures.setting_maps({}, (0.01, 2800)).get_label()
    shares = alt_text.of_masks({"U-Net": np.zeros((2, 4, 4))}, {1: "ggo"})
    assert shares == {"U-Net, share of the pixels": ["nothing"]}


def test_words_on_curves_are_those_of_the_smoothed_values():
    table = pd.DataFrame({"step": [1, 2, 3], "subset": "train", "loss": [3.0, 2.0, 0.5]})
    text = figures.training_curves(table, {"loss": "loss"}).get_label()
    assert "Loss, train: 3 at step 1; 0.5 at step 3; lowest 0.5 at step 3; highest 3" in text


def test_a_quantity_without_values_gets_no_panel():
    table = pd.DataFrame({"step": [1, 2], "subset": "train", "loss": [3.0, 2.0], "dice": np.nan})
    figure = figures.training_curves(table, {"loss": "loss", "dice": "Dice"})
    assert [axis.get_ylabel() for axis in figure.axes] == ["loss"]


def test_words_on_reliability():
    columns = ["low", "high", "n", "confidence", "accuracy", "accuracy_low", "accuracy_high"]
    rows = [[0.5, 0.6, 10, 0.56, 0.6, 0.3, 0.8], [0.9, 1.0, 30, 0.95, 0.85, 0.7, 0.95]]
    text = figures.reliability({"a": pd.DataFrame(rows, columns=columns)}).get_label()
    assert "40 predictions; confidence too high in 1 of 2 bins, 8.5 points off" in text
    assert "highest bin: 75 % of the predictions, confidence 95 %, right 85 %." in text


# Files


def folder():
    return paths.results(PROFILE) / "figures"


def test_a_figure_is_kept_with_its_words(figure):
    assert figures.save(figure, PROFILE, "fig") is figure
    text = figure.get_label()
    assert (folder() / "fig.txt").read_text(encoding="utf8") == text + "\n"
    with Image.open(folder() / "fig.png") as image:
        assert image.info["Description"] == text
        assert text.startswith(image.info["Title"])
        assert image.info["dpi"] == pytest.approx((300,) * 2, abs=0.1)
    root = ET.parse(folder() / "fig.svg").getroot()
    space = {"svg": "http://www.w3.org/2000/svg"}
    (title,), (desc,) = root.findall("svg:title", space), root.findall("svg:desc", space)
    assert desc.text == text
    assert text.startswith(title.text)
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == f"{title.get('id')} {desc.get('id')}"
    assert list(root)[:2] == [title, desc]


def test_other_words_can_be_given():
    figure = plt.figure()
    plt.close(figure)
    figures.save(figure, PROFILE, "fig", alt="A & B < C. Nothing else.")
    assert (folder() / "fig.txt").read_text() == "A & B < C. Nothing else.\n"
    root = ET.parse(folder() / "fig.svg").getroot()
    assert root[0].text == "A & B < C"
    assert root[1].text == "A & B < C. Nothing else."


@pytest.mark.parametrize("words", ["", "  "])
def test_a_figure_without_words_is_not_kept(words):
    figure = plt.figure()
    plt.close(figure)
    with pytest.raises(ParameterError, match="'bare' has no text"):
        figures.save(figure, PROFILE, "bare", alt=words)
    assert not folder().exists()


@pytest.mark.parametrize("draw", [confusion, streams])
def test_the_same_numbers_give_the_same_bytes(draw):
    for name in ("one", "two"):
        figures.save(draw(), PROFILE, name)
    for ending in ("png", "svg", "txt"):
        one, two = ((folder() / f"{name}.{ending}").read_bytes() for name in ("one", "two"))
        assert one.replace(b"one-", b"two-") == two
    assert b"<dc:date>" not in (folder() / "one.svg").read_bytes()
    assert not re.search(rb"\b20[0-9]{2}-[01][0-9]-", (folder() / "one.svg").read_bytes())


def test_letters_are_of_the_font_that_comes_along(figure):
    assert {text.get_fontname() for text in texts(figure)} == {"DejaVu Sans"}
