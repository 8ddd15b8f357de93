"""The sheet of the phantom: every label points at what it names, and all can be read."""

import inspect
import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy import ndimage

from covid_utils import registry
from covid_utils.data import phantom
from covid_utils.data.phantom import anatomy, vessels
from covid_utils.data.phantom.geometry import paint_tubes
from covid_utils.errors import DataError
from covid_utils.report import phantom_sheet

#: The sheet that the notebook shows.
SEED = inspect.signature(phantom_sheet.anatomy).parameters["seed"].default
#: Hounsfield units of what a label may point at, before noise.
RANGES = {
    "trachea": (-1000, -900),
    "bronchogram": (-1000, -400),
    "right_lung": (-950, -700),
    "left_lung": (-950, -700),
    "ggo": (-750, -300),
    "vessel": (-450, 60),
    "consolidation": (-100, 100),
    "effusion": (0, 30),
    "nodule": (0, 60),
    "heart": (30, 55),
    "aorta": (30, 55),
    "spine": (80, 1000),
    "rib": (400, 1700),
}


@pytest.fixture(scope="module")
def people():
    return phantom_sheet.patients(SEED)


@pytest.fixture(scope="module")
def ct(people):
    return phantom_sheet.ct_panels(people)


@pytest.fixture(scope="module")
def xrays(people):
    return phantom_sheet.xray_panels(people)


@pytest.fixture(scope="module")
def sheet(people, ct, xrays):
    """The finished figure; what it is made of is made once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phantom_sheet, "patients", lambda seed: people)
        patch.setattr(phantom_sheet, "ct_panels", lambda given: ct)
        patch.setattr(phantom_sheet, "xray_panels", lambda given: xrays)
        return phantom_sheet.anatomy(SEED)


def places(panels, structure):
    """Panel, row and column of every label of a structure."""
    return [
        (panel, int(label.row), int(label.column))
        for panel in panels
        for label in panel.labels
        if label.structure == structure
    ]


def test_every_ct_label_points_at_the_right_density(ct):
    for panel in ct:
        for label in panel.labels:
            if label.structure == "fissure":
                continue
            low, high = RANGES[label.structure]
            hu = panel.hu[int(label.row), int(label.column)]
            assert low <= hu <= high, (panel.title, label.text, hu)


@pytest.mark.parametrize("lesion", ["ggo", "consolidation", "effusion", "nodule"])
def test_every_lesion_is_named_inside_its_mask(ct, lesion):
    named = places(ct, lesion)
    assert len(named) == 1
    panel, row, column = named[0]
    assert panel.outlines[lesion][row, column]
    assert panel.outlines[lesion].shape == panel.image.shape


def slice_of(people, panel):
    """Patient, slice and first row that a CT panel was cut from."""
    height = len(panel.hu)
    for patient in people.values():
        for index, plane in enumerate(patient.volume.hu):
            for start in range(len(plane) - height + 1):
                if np.array_equal(plane[start], panel.hu[0]) and np.array_equal(
                    plane[start : start + height], panel.hu
                ):
                    return patient, index, start
    raise AssertionError(panel.title)


def test_labels_lie_in_the_shapes_that_the_chest_was_built_from(people, ct):
    """Heart, aorta and muscle are almost equally dense: only the shapes tell them apart."""
    checked = set()
    for panel in ct[:2]:
        patient, index, start = slice_of(people, panel)
        assert patient.letter == panel.patient
        body, grid = patient.chest.habitus, patient.chest.grid
        z, y, x = grid.axes()
        axes = (z[index : index + 1], y, x)
        shapes = {
            "heart": anatomy._heart(body, axes)[0] > 5,
            "aorta": anatomy._great_vessels(body, grid)[index] > 0.9,
            "spine": np.broadcast_to(
                anatomy._vertebra(axes, body.depth - 22)[0] > 3, (len(y[0]),) * 2
            ),
            "trachea": paint_tubes(grid, *vessels._airway(body))[index] > 0.9,
        }
        for label in panel.labels:
            if label.structure in shapes:
                place = (int(label.row) + start, int(label.column))
                assert shapes[label.structure][place], label.text
                checked.add(label.structure)
    assert checked == set(shapes)


def test_a_vertebra_and_a_disc_are_told_apart(ct):
    spines = places(ct, "spine")
    assert len(spines) == 2
    for panel, row, column in spines:
        (text,) = (label.text for label in panel.labels if label.structure == "spine")
        assert text == ("vertebra" if panel.hu[row, column] >= 108 else "disc")


def test_the_fissure_is_where_two_lobes_meet(people, ct):
    ((panel, row, column),) = places(ct, "fissure")
    patient, index, start = slice_of(people, panel)
    lung = patient.chest.lung
    row, column = row + start - lung.box[1].start, column - lung.box[2].start
    around = (index - lung.box[0].start, slice(row - 2, row + 3), slice(column - 2, column + 3))
    lobes = set(np.unique(lung.lobe[around][lung.share[around] > 0.9]))
    assert len(lobes) == 2
    solid = patient.volume.labels[lung.box] == 2
    dense = {lobe: solid[around][lung.lobe[around] == lobe].any() for lobe in lobes}
    assert sorted(dense.values()) == [False, True], "one lobe is dense, the other is not"


def test_the_named_vessel_stands_out_from_the_haze(people, ct):
    ((panel, row, column),) = places(ct, "vessel")
    around = (slice(row - 8, row + 9), slice(column - 8, column + 9))
    haze = panel.hu[around][panel.outlines["ggo"][around]]
    assert panel.hu[row, column] > np.median(haze) + 200
    patient, index, start = slice_of(people, panel)
    vessel = phantom_sheet._covered_vessel(patient, index)
    # A long piece, no speck: hardly any place in the haze shows more of a vessel.
    shown = ndimage.uniform_filter(vessel.astype(float), 7)
    assert shown[row + start, column] > 0.7 * shown[vessel].max()


def test_every_colour_in_the_slices_is_named(ct, sheet):
    colours = {colour for panel in ct for colour in panel.outlines}
    (legend,) = sheet.subfigs[0].legends
    named = {text.get_text() for text in legend.get_texts()}
    assert named == {registry.NAMES.get(colour, colour) for colour in colours}
    assert not sheet.subfigs[1].legends


def test_the_normal_chest_has_no_outline_and_its_structures(ct):
    for panel in ct[:2]:
        assert not panel.outlines
    found = {label.structure for panel in ct[:2] for label in panel.labels}
    wanted = {"trachea", "aorta", "rib", "spine", "heart", "right_lung", "left_lung"}
    assert found == wanted


def test_the_patients_right_is_at_the_viewers_left(ct, people):
    ((panel, _, right),) = places(ct, "right_lung")
    ((_, _, left),) = places(ct, "left_lung")
    middle = panel.image.shape[1] / 2
    assert right < middle < left
    # The heart is to the left of the patient's middle, the spine behind it.
    heart = phantom_sheet.heart_mask(people["normal"])
    assert np.argwhere(heart)[:, 2].mean() > heart.shape[2] / 2
    for panel in ct[1:2]:
        rows = {label.structure: label.row for label in panel.labels}
        assert rows["heart"] < rows["aorta"] < rows["spine"]


def test_air_bronchogram_and_vessel_lie_inside_their_lesions(ct):
    for structure, lesion in (("bronchogram", "consolidation"), ("vessel", "ggo")):
        ((panel, row, column),) = places(ct, structure)
        mask = panel.outlines[lesion]
        assert not mask[row, column], "air and vessels are not part of the mask"
        around = mask[row - 6 : row + 7, column - 6 : column + 7]
        assert around.mean() > 0.5


def test_xray_labels_point_at_what_they_name(people, xrays):
    panel = xrays[0]
    assert {label.structure for label in panel.labels} == {"trachea", "aorta", "heart", "diaphragm"}
    image = panel.image.astype(int)
    at = {label.structure: (int(label.row), int(label.column)) for label in panel.labels}
    row, column = at["diaphragm"]
    below = image[row + 8 : row + 16, column - 3 : column + 4].mean()
    above = image[row - 20 : row - 12, column - 3 : column + 4].mean()
    assert below > above + 25
    row, column = at["trachea"]
    beside = image[row - 3 : row + 4, [column - 13, column + 13]].mean()
    assert image[row - 3 : row + 4, column - 2 : column + 3].mean() < beside - 8
    row, column = at["heart"]
    first, last, _ = panel.span
    assert first < column < last
    # Right of the midline in the picture is the patient's left.
    assert column > len(image) / 2


def test_opacities_are_named_where_rays_cross_disease(people, xrays):
    sides = {"viral": 2, "bacterial": 1, "covid": 2}
    for number, pattern in enumerate(("viral", "bacterial", "covid"), start=1):
        panel, after = xrays[number], xrays[number + 4]
        labels = [label for label in panel.labels if label.structure == "opacity"]
        assert len(labels) == sides[pattern]
        exposure = phantom.sample_exposure(np.random.default_rng(number), "PA")
        disease = people[pattern].volume.labels > 0
        thickness = phantom_sheet.shadow(people[pattern], disease, exposure)
        for label in labels:
            assert thickness[int(label.row), int(label.column)] > 10
        assert set(after.outlines) == {pattern}
        assert after.outlines[pattern].any()


def test_heart_is_larger_in_ap(people):
    shares = [
        phantom_sheet.heart_width(people["normal"], phantom.Exposure(view=view))
        for view in ("PA", "AP")
    ]
    widths = [last - first for first, last, _, _ in shares]
    assert widths[1] > 1.08 * widths[0]
    assert 0.3 < shares[0][3] < shares[1][3] < 0.55


def test_shadow_measures_the_way_through_a_structure(people):
    patient = people["normal"]
    mask = np.zeros(patient.volume.hu.shape, bool)
    mask[30:50, 100:120, 100:140] = True
    exposure = phantom.Exposure()
    thickness = phantom_sheet.shadow(patient, mask, exposure)
    # Between slabs of different magnification the edges run out, the middle does not.
    middle = np.median(thickness[thickness > 0.5 * thickness.max()])
    assert middle == pytest.approx(20 * patient.volume.spacing[1], rel=0.05)


def test_titles_say_phantom_and_the_sheet_fits_a_notebook(sheet):
    titles = [sheet.get_suptitle(), *(part.get_suptitle() for part in sheet.subfigs)]
    assert len(titles) == 3
    assert all("phantom" in title for title in titles)
    assert sheet.get_size_inches()[0] == pytest.approx(10)


def test_labels_do_not_overlap_and_stay_on_the_sheet(sheet):
    canvas = FigureCanvasAgg(sheet)
    canvas.draw()
    for axis in sheet.axes:
        texts = [*axis.texts, axis.title]
        assert sum(text.get_text() in "RL" for text in texts) == 2
        named = [(text, text.get_window_extent()) for text in texts]
        for (one, first), (two, second) in itertools.combinations(named, 2):
            assert not first.overlaps(second), (one.get_text(), two.get_text())
        for text, box in named:
            inside = sheet.bbox.x0 <= box.x0 and box.x1 <= sheet.bbox.x1
            assert inside, text.get_text()


def test_patients_are_those_of_the_simulation(people):
    normal = people["normal"].volume
    again = phantom.simulate((SEED, 0), "normal", 0.2, phantom_sheet.CT_SIZE)
    assert np.array_equal(normal.hu, again.hu)
    widths = {patient.volume.spacing[1] for patient in people.values()}
    assert len(widths) == len(people), "everyone has a chest of their own"


def test_a_finding_that_never_shows_is_reported(people):
    with pytest.raises(DataError, match="another seed"):
        phantom_sheet._first(
            people["normal"].chest, "normal", 0.1, (1, 1), lambda *given: False, tries=1
        )


@pytest.mark.parametrize(
    ("wanted", "sizes"),
    [([10, 12, 14], [20, 20, 20]), ([0, 99], [10, 10]), ([50], [10]), ([90, 95], [30, 30])],
)
def test_spread_keeps_texts_apart_and_in_the_row(wanted, sizes):
    centres = phantom_sheet.spread(wanted, sizes, 100)
    edges = [(c - s / 2, c + s / 2) for c, s in zip(centres, sizes, strict=True)]
    assert edges[0][0] >= 0
    assert edges[-1][1] <= 100
    assert all(left[1] < right[0] for left, right in itertools.pairwise(edges))


def test_colours_are_those_of_the_other_figures():
    for name in (*phantom_sheet.MASK_NAMES.values(), *phantom_sheet.PATTERN_LABELS):
        assert name in registry.COLOURS
