"""The sheet of the phantom: every label points at what it names, and all can be read."""

import itertools

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
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
)


def test_every_name_points_at_what_it_names():
    for number, (pattern, severity, draw, middle, named) in enumerate(phantom_sheet.PATIENTS):
        chest = build(np.random.default_rng((2020, number)), 256)
        volume = infect(chest, pattern, severity, (2020, number, draw))
        points = landmarks(chest, volume)
        level = points[middle][0]
        names = {*named, *(name for name, point in points.items() if point[0] == level)}
        for low, high, structures in RANGES:
            for name in names.intersection(structures):
                assert low <= volume.hu[points[name]] <= high, (pattern, name)
        assert pattern == "normal" or all(volume.labels[points[name]] for name in (middle, *named))


def test_labels_do_not_overlap_and_words_cover_them():
    with rc_context():
        use()
        sheet = phantom_sheet.anatomy()
    FigureCanvasAgg(sheet).draw()
    assert len(sheet.axes) == 2 * len(phantom_sheet.PATIENTS)
    texts = [text for axis in sheet.axes for text in (*axis.texts, axis.title)]
    boxes = {text: Text.get_window_extent(text) for text in texts if text.get_text()}
    for first, second in itertools.combinations(boxes, 2):
        assert not boxes[first].overlaps(boxes[second]), (first, second)
    for text, box in boxes.items():
        assert sheet.bbox.x0 <= box.x0 < box.x1 <= sheet.bbox.x1, text
    words = sheet.get_label()
    assert words.startswith("The phantom: simulated chests, no person.")
    assert all(name in words for _, _, structures in RANGES for name in structures)
