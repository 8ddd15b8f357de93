"""The two finders of lungs: the benchmark's on drawn slices, and that of slices from anywhere."""

import cv2
import numpy as np
import pytest
from builders import dice_of as overlap

from chest_phantom.anatomy import build
from chest_phantom.ct import ct_slice, lung_slices
from chest_phantom.disease import infect
from covid_utils.data import cache, lung_field, readers
from covid_utils.data.benchmark_lungs import denser_than_healthy, rough_field
from covid_utils.data.gray_scale import LUNG_WINDOW
from covid_utils.data.images import MARGIN, Preprocessing, box, place_of
from covid_utils.data.manifest import saved_manifest
from covid_utils.data.readers.gray import to_uint8

AIR, LUNG, FLESH, FAT = 59, 80, 236, 213


def ellipse(shape, centre, axes):
    drawn = np.zeros(shape, np.uint8)
    cv2.ellipse(drawn, centre, axes, 0, 0, 360, 1, -1)
    return drawn > 0


def chest(shape=(256, 256)):
    """A slice with two lungs, airway and table; and where the lungs are."""
    lungs = ellipse(shape, (75, 128), (36, 60)) | ellipse(shape, (181, 128), (36, 60))
    gray = np.full(shape, AIR, np.uint8)
    gray[ellipse(shape, (128, 128), (115, 90))] = FAT
    gray[ellipse(shape, (128, 128), (110, 85))] = FLESH
    gray[lungs] = LUNG
    gray[ellipse(shape, (128, 100), (7, 8))] = AIR
    gray[235:238] = FLESH
    return gray, lungs


def test_both_lungs_are_found_with_a_dense_lesion_and_without_airway_and_surroundings():
    gray, lungs = chest()
    gray[ellipse(gray.shape, (60, 150), (12, 15)) & lungs] = FLESH
    field = rough_field(gray)
    assert field.dtype == bool
    assert overlap(field, lungs) > 0.95
    assert not field[100, 128]
    assert not field[:20].any()
    assert not field[230:].any()
    gray[90:166, :128][lungs[90:166, :128]] = FLESH
    assert not rough_field(gray)[128, 75], "the hull leads away from lung, but not far"
    gray, lungs = chest()
    # Lungs that a crop cuts at the sides stay, and noise does not matter.
    assert overlap(rough_field(gray[50:206, 45:211]), lungs[50:206, 45:211]) > 0.93
    noise = np.random.default_rng(1).normal(0, 20, gray.shape)
    assert overlap(rough_field(np.clip(gray + noise, 0, 255).astype(np.uint8)), lungs) > 0.93


def test_the_box_is_the_lungs_square_with_more_room_behind_them():
    field = np.zeros((200, 240), bool)
    field[60:110, 80:180] = True
    top, left, side = box(field)
    margin = MARGIN * 100
    assert side == round(100 + 2 * margin)
    assert left + side / 2 == pytest.approx(130, abs=1)
    # Of the height, one margin more below than above.
    assert top + side / 2 == pytest.approx(85 + margin / 2, abs=1)
    field[:150, :150] = True
    assert box(field)[:2] == (0, 0)
    assert box(np.zeros_like(field)) == (0, 0, 200)


@pytest.mark.parametrize("level", [75, LUNG, 120])
def test_dense_is_what_is_denser_than_the_slices_own_healthy_lung(level):
    gray, lungs = chest()
    gray[lungs] = level
    lesion = ellipse(gray.shape, (60, 150), (12, 15)) & lungs
    haze = ellipse(gray.shape, (181, 128), (20, 30))
    gray[lesion], gray[haze] = level + 30, level + 10
    gray[128, 75] = FLESH  # a speck does not count
    dense = denser_than_healthy(gray, 16)
    assert not dense[120:136, 73:78].any()
    assert overlap(dense & lungs, lesion) > 0.9
    assert dense[gray == FLESH].mean() > 0.98
    assert dense[gray == AIR].mean() < 0.02  # their rim only
    assert overlap(denser_than_healthy(gray, 5) & lungs, lesion | haze) > 0.9


@pytest.mark.parametrize(("value", "share"), [(0, 0), (AIR, 0), (FLESH, 1), (255, 1)])
def test_without_lungs_there_is_no_field_and_only_tissue_is_dense(value, share):
    gray = np.full((64, 80), value, np.uint8)
    for find in (rough_field, lung_field.field):
        assert not find(gray).any()
        assert place_of(find(gray)) == "0 0 64 0"
    assert denser_than_healthy(gray, 16).mean() == share


# Slices from anywhere: the lungs of a phantom are exact


def equalised(hu):
    return cv2.createCLAHE(2.0, (8, 8)).apply(to_uint8(hu, -1350, 300))


def chest_of(disease, severity):
    """The volume of a chest in Hounsfield units, and where its lungs are."""
    chest = build(np.random.default_rng(5), 192)
    volume = infect(chest, disease, severity, 5)
    lungs = np.zeros(volume.hu.shape, bool)
    lungs[chest.lung.box] = chest.lung.share >= 0.5
    return volume, lungs


@pytest.fixture(scope="module")
def slices():
    """Slices of a chest with disease and effusion, and where its lungs are."""
    volume, lungs = chest_of("covid", 0.5)
    usable = lung_slices(volume)
    numbers = usable[np.linspace(0, len(usable) - 1, 8).astype(int)]
    return [(ct_slice(volume, number)[0], lungs[number]) for number in numbers]


@pytest.mark.parametrize("turn", [1, -1], ids=["upright", "upside down"])
@pytest.mark.parametrize(
    "show",
    [lambda hu: to_uint8(hu, *LUNG_WINDOW), lambda hu: to_uint8(hu, -1024, 600), equalised],
    ids=["canonical", "another window", "CLAHE"],
)
def test_the_field_is_the_lungs_with_their_lesions(slices, show, turn):
    found = [overlap(lung_field.field(show(hu)[::turn]), lungs[::turn]) for hu, lungs in slices]
    # Without a table, and with bone no brighter than fluid elsewhere, no slice tells its back.
    is_told = turn > 0 or show is not equalised
    assert np.mean(found) >= (0.97 if is_told else 0.95)
    assert min(found) >= 0.84


def test_lungs_that_the_edge_cuts_and_one_lung_alone_are_found(slices):
    for hu, truth in slices[2:-2]:
        gray = to_uint8(hu, *LUNG_WINDOW)
        rows, columns = (np.flatnonzero(truth.any(axis))[[0, -1]] for axis in (1, 0))
        cut = (slice(rows[0] + 3, rows[1] - 3), slice(columns[0] + 4, columns[1] - 4))
        assert overlap(lung_field.field(gray[cut]), truth[cut]) > 0.9
        middle = gray.shape[1] // 2
        alone = gray.copy()
        alone[:, :middle][cv2.dilate(truth[:, :middle].astype(np.uint8), np.ones((5, 5))) > 0] = 236
        right = np.arange(gray.shape[1]) >= middle
        assert overlap(lung_field.field(alone), truth & right) > 0.9


def test_slivers_at_the_base_and_small_apices_are_found():
    volume, truth = chest_of("normal", 0.0)
    share = truth.mean((1, 2)) / truth.mean((1, 2)).max()
    small = np.flatnonzero((share > 0.1) & (share < 0.3))
    ends = small[[0, len(small) // 4, -len(small) // 4, -1]]
    found = [
        overlap(lung_field.field(to_uint8(ct_slice(volume, at)[0], *LUNG_WINDOW)), truth[at])
        for at in ends
    ]
    assert min(found) > 0.8


@pytest.mark.usefixtures("home")
def test_image_mask_and_field_of_a_row_have_one_geometry(phantom):
    rows = readers.read("medseg", phantom).rows.iloc[::4]
    settings = Preprocessing(96, 0.0, crop="field", gray="landmarks")
    made = (cache.images, cache.masks, cache.fields)
    images, masks, fields = (make(rows, phantom, settings)[:] for make in made)
    assert images.shape == masks.shape == fields.shape == (len(rows), 96, 96)
    inside = fields > 0
    assert np.median(images[inside]) < np.median(images[~inside]) - 50
    assert inside[masks > 0].mean() > 0.7
    assert 0.15 < inside.mean() < 0.9
    top, left, side, pixels = map(int, rows["field"].iloc[0].split())
    field = lung_field.field(readers.load_image(phantom, rows.iloc[0]))
    assert pixels == field.sum()
    assert field[top : top + side, left : left + side].sum() == pixels


@pytest.mark.real
def test_annotators_agree_with_the_field_of_other_hospitals(real_data):
    """Settings were chosen by v01 to v09, whose 100 slices have a mean of 0.947."""
    rows = saved_manifest("sample").query("dataset == 'covid19-ct-external'").iloc[::3]
    pairs = [
        (lung_field.field(readers.load_image(real_data, row)), readers.load_lungs(real_data, row))
        for row in rows.itertuples()
    ]
    assert np.mean([overlap(*pair) for pair in pairs]) > 0.9


def test_healthy_lung_is_the_darkest_tenth_of_what_is_aerated():
    ramp = np.tile(np.arange(66, 198, dtype=np.uint8), (40, 1))  # all that is aerated, evenly
    dense = denser_than_healthy(ramp, 20).any(axis=0)
    assert np.flatnonzero(dense)[0] == pytest.approx(0.1 * len(dense) + 20, abs=1)
