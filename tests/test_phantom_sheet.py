"""The sheet of the phantom: every label points at what it names, and all can be read."""

import itertools

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.text import Text

from chest_phantom.anatomy import build
from chest_phantom.disease import infect
from chest_phantom.landmarks import landmarks
from covid_utils.report import phantom_sheet
from covid_utils.report.style import use

#: Hounsfield units of what a name may point at.
RANGES = (
    (-1000, -400, ("trachea", "air bronchogram")),
    (-950, -700, ("right lung", "left lung")),
    (-750, -300, ("ground-glass",)),
    (-450, 60, ("vessel in the haze",)),
    (-100, 100, ("consolidation",)),
    (0, 60, ("effusion", "nodule", "heart", "aorta", "aortic arch")),
    (80, 1000, ("spine",)),
)


@pytest.fixture(scope="module")
def sheet():
    with rc_context():
        use()
        return phantom_sheet.anatomy()


def test_every_name_points_at_what_it_names():
    for number, (letter, patient) in enumerate(phantom_sheet.PATIENTS.items()):
        pattern, severity, draw, middles, named = patient
        chest = build(np.random.default_rng((2020, number)), 256)
        volume = infect(chest, pattern, severity, (2020, number, draw))
        points = landmarks(chest, volume)
        levels = {points[middle][0] for middle in middles}
        names = {*named, *(name for name, point in points.items() if point[0] in levels)}
        for low, high, structures in RANGES:
            for name in names.intersection(structures):
                assert low <= volume.hu[points[name]] <= high, (letter, name)
        assert letter == "A" or all(volume.labels[points[name]] for name in (*middles, *named))


def test_labels_do_not_overlap_and_stay_on_the_sheet(sheet):
    FigureCanvasAgg(sheet).draw()
    texts = [text for axis in sheet.axes for text in (*axis.texts, axis.title)]
    legends = [legend for part in sheet.subfigs for legend in part.legends]
    # Of the words alone: a line from a name to its place may pass others.
    boxes = {text: Text.get_window_extent(text) for text in texts}
    boxes |= {legend: legend.get_window_extent() for legend in legends}
    for first, second in itertools.combinations(boxes, 2):
        assert not boxes[first].overlaps(boxes[second]), (first, second)
    for box in boxes.values():
        assert sheet.bbox.x0 <= box.x0 < box.x1 <= sheet.bbox.x1
        assert sheet.bbox.y0 <= box.y0 < box.y1 <= sheet.bbox.y1


def test_colours_and_words_cover_everything(sheet):
    words = sheet.get_label()
    assert words.startswith("The phantom: simulated chests, no person.")
    names = {name for _, _, structures in RANGES for name in structures}
    assert all(name in words for name in names)
    for part in sheet.subfigs:
        drawn = {tuple(c) for ax in part.axes for lines in ax.collections for c in lines.get_ec()}
        named = {lines.get_color() for lines in part.legends[0].get_lines()}
        assert drawn == {to_rgba(colour) for colour in named}
