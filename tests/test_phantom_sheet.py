"""The sheet of the phantom: every label points at what it names, and all can be read."""

import itertools

import pytest
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

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


@pytest.fixture(scope="module")
def drawn():
    """The sheet, and of each of its patients the volume and the points that may be named."""
    seen = []

    def watched(chest, volume):
        seen.append((volume, landmarks(chest, volume)))
        return seen[-1][1]

    with pytest.MonkeyPatch.context() as patch, rc_context():
        patch.setattr(phantom_sheet, "landmarks", watched)
        use()
        sheet = phantom_sheet.anatomy()
        FigureCanvasAgg(sheet).draw()
    return sheet, seen


def test_every_name_points_at_what_it_names(drawn):
    for patient, (volume, points) in zip(phantom_sheet.PATIENTS, drawn[1], strict=True):
        pattern, _, _, middle, named = patient
        level = points[middle][0]
        names = {*named, *(name for name, point in points.items() if point[0] == level)}
        for low, high, structures in RANGES:
            for name in names.intersection(structures):
                assert low <= volume.hu[points[name]] <= high, (pattern, name)
        assert pattern == "normal" or all(volume.labels[points[name]] for name in (middle, *named))


def test_labels_do_not_overlap_and_words_cover_them(drawn):
    sheet, _ = drawn
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
