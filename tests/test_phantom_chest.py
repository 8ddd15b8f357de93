"""The simulated chest: anatomy, disease, CT and X-rays of it, and the sheet with its names."""

import itertools

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from scipy import ndimage

from chest_phantom.anatomy import build
from chest_phantom.disease import Volume, infect
from chest_phantom.landmarks import landmarks
from chest_phantom.projection import line_integrals
from chest_phantom.settings import CONSOLIDATION, EFFUSION, GROUND_GLASS, HOSPITALS, NODULE
from chest_phantom.xray import take_xray
from covid_utils.report import phantom_sheet
from covid_utils.report.style import use


@pytest.fixture(scope="module")
def chest():
    return build(np.random.default_rng(3), 160)


@pytest.fixture(scope="module")
def healthy(chest):
    return infect(chest, "normal", 0.0, 3)


def test_a_healthy_chest_has_its_parts(chest, healthy):
    lung = chest.lung
    inside = healthy.hu[lung.box][(lung.share > 0.99) & (lung.vessel == 0) & (lung.wall == 0)]
    assert -930 < np.median(inside) < -780
    assert (healthy.hu > 400).mean() > 0.005, "bone"
    assert 2.0 < lung.share.sum() * np.prod(healthy.spacing) / 1e6 < 8.0, "litres"
    assert not healthy.labels.any()
    assert set(np.unique(lung.lobe[lung.share > 0.5])) == set(range(5))
    assert np.array_equal(build(np.random.default_rng(3), 160).tissue, chest.tissue)


@pytest.mark.parametrize("pattern", ["covid", "viral", "bacterial", "nodule"])
def test_labels_only_where_a_lesion_changes_the_density(chest, healthy, pattern):
    volume = infect(chest, pattern, 0.9, 3)
    change = np.abs(volume.hu.astype(int) - healthy.hu)
    labelled = volume.labels > 0
    assert labelled.sum() > 30
    assert (change[labelled] >= 20).mean() > 0.995
    outside = np.ones(labelled.shape, bool)
    outside[chest.lung.box] = chest.lung.share == 0
    assert not (labelled & outside).any()
    assert (change[outside] == 0).all()


@pytest.mark.parametrize(
    ("pattern", "label", "low", "high"),
    [
        ("covid", GROUND_GLASS, -700, -300),
        ("viral", GROUND_GLASS, -750, -330),
        ("bacterial", CONSOLIDATION, -100, 100),
        ("covid", EFFUSION, 0, 30),
        ("nodule", NODULE, 0, 60),
    ],
)
def test_each_lesion_has_its_typical_density(chest, pattern, label, low, high):
    whole = np.zeros(chest.tissue.shape, bool)
    whole[chest.lung.box] = chest.lung.share == 1
    hu = []
    for seed in range(6):
        volume = infect(chest, pattern, 0.9, seed)
        inner = ndimage.binary_erosion(volume.labels == label, np.ones((1, 3, 3))) & whole
        hu.append(volume.hu[inner])
    hu = np.concatenate(hu)
    assert len(hu) > 100
    assert np.mean((hu >= low) & (hu <= high)) > 0.9


def test_covid_is_bilateral_peripheral_and_basal(chest):
    lung = chest.lung
    whole, near = lung.share > 0.5, lung.wall_distance < 25
    shares = []
    for seed in range(6):
        labels = infect(chest, "covid", 0.5, seed).labels[lung.box]
        sick = np.isin(labels, (GROUND_GLASS, CONSOLIDATION))
        assert 0.1 < lung.left[sick].mean() < 0.9
        assert lung.above_base[sick].mean() < lung.above_base[whole].mean()
        shares.append(near[labels == GROUND_GLASS].mean())
    assert min(shares) > 1.1 * near[whole].mean()
    assert np.mean(shares) > 1.3 * near[whole].mean()


# Bone weakens by more than its CT number says, 1.48 times at 1000 HU.
@pytest.mark.parametrize(
    ("hu", "per_mm"), [(0, 0.0195), (-1000, 0.0), (-500, 0.00975), (1000, 0.0195 * 2.48)]
)
def test_line_integrals_follow_beer_and_lambert(hu, per_mm):
    values = np.full((20, 40, 60), hu, np.int16)
    volume = Volume(values, np.zeros_like(values, np.uint8), (4.0, 2.0, 2.0), "normal", 0.0)
    for view, slabs, way in (("PA", 1, 80.0), ("PA", 4, 80.0), ("L", 1, 120.0)):
        sums = line_integrals(volume, view, slabs).sum(axis=0)
        np.testing.assert_allclose(sums, per_mm * way, rtol=1e-5)


def test_stronger_marks_separate_the_hospitals_and_mark_0_leaves_no_trace(healthy):
    distances = []
    for mark in (0.0, 0.25, 0.5, 1.0):
        north, south = (take_xray(healthy, size=96, hospital=n, mark=mark) for n in HOSPITALS)
        distances.append(np.abs(np.subtract(north, south, dtype=float)).mean())
    assert distances[0] == 0
    assert distances == sorted(distances)
    assert distances[1] > 2
    plain = take_xray(healthy, size=96)
    assert (north[4:16, 80:94].astype(int) - plain[4:16, 80:94]).max() > 100, "lead letter"
    assert (south[[0, -1]] == 0).all(), "the collimator's border"


# The sheet: every label points at what it names, and all can be read


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
