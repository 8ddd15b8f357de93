"""Figures: letters that can be read, and words for those who cannot see them."""

import itertools
import xml.etree.ElementTree as ET

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from drawings import (
    DRAWN,
    confusion,
    curves,
    heats,
    images,
    labels,
    maps,
    outcomes,
    rivals,
    scores,
    streams,
)
from matplotlib.text import Text
from PIL import Image
from seaborn.utils import relative_luminance

from covid_utils import paths
from covid_utils.report import figures, style

PROFILE = "quick"


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


def folder():
    return paths.results(PROFILE) / "figures"


@pytest.mark.parametrize("draw", [curves, outcomes])
def test_a_figure_is_kept_with_its_words(draw):
    figure = draw()
    assert not plt.get_fignums()  # so that it is shown once
    assert style.save(figure, PROFILE, "fig") is figure
    text = figure.get_label()
    assert text
    assert (folder() / "fig.txt").read_text(encoding="utf8") == text + "\n"
    with Image.open(folder() / "fig.png") as image:
        assert image.info["Description"] == text
        assert text.startswith(image.info["Title"])
        assert image.info["dpi"] == pytest.approx((300,) * 2, abs=0.1)
    root = ET.parse(folder() / "fig.svg").getroot()
    title, desc = list(root)[:2]
    assert (title.tag.split("}")[1], desc.tag.split("}")[1]) == ("title", "desc")
    assert desc.text == text
    assert text.startswith(title.text)
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == f"{title.get('id')} {desc.get('id')}"


@pytest.mark.parametrize("draw", [confusion, streams])
def test_the_same_numbers_give_the_same_bytes(draw):
    for name in ("one", "two"):
        style.save(style.finished(draw(), "A & B < C. Nothing else"), PROFILE, name)
    for ending in ("png", "svg", "txt"):
        one, two = ((folder() / f"{name}.{ending}").read_bytes() for name in ("one", "two"))
        assert one.replace(b"one-", b"two-") == two
    assert b"<dc:date>" not in (folder() / "one.svg").read_bytes()
    assert ET.parse(folder() / "one.svg").getroot()[0].text == "A & B < C"
