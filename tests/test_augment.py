"""Augmentation: image and mask move together, and by no more than was said."""

import numpy as np
import pytest
from builders import manifest

from covid_utils.data import augment, foreign
from covid_utils.data.foreign import Change
from covid_utils.errors import ParameterError

SIDE = 96


@pytest.fixture
def blob():
    """A lopsided smooth shape, so that no mirror or turn maps it onto itself."""
    y, x = np.mgrid[:SIDE, :SIDE]
    big = (x - 40) ** 2 / 500 + (y - 50) ** 2 / 200 < 1
    return (big | ((x - 60) ** 2 + (y - 35) ** 2 < 90)).astype(np.uint8)


def only(**ranges):
    """Ranges with one movement."""
    return augment.Ranges(**(vars(augment.STILL) | ranges))


@pytest.mark.parametrize("ranges", [augment.Ranges(), augment.WIDE])
def test_image_and_mask_move_together(blob, ranges):
    rng = np.random.default_rng(1)
    for _ in range(12):
        image, mask = augment.pair(rng, blob * 200, blob, ranges)
        assert set(np.unique(mask)) <= {0, 1}
        seen = image > 100
        # Both are the same map; only the pixels on the rim may round to different sides.
        assert (seen != (mask == 1)).sum() <= 0.03 * blob.sum()
        apart = np.argwhere(seen).mean(axis=0) - np.argwhere(mask == 1).mean(axis=0)
        assert np.abs(apart).max() < 0.25


def test_flip_mirrors_left_and_right_half_of_the_time():
    rng = np.random.default_rng(2)
    noise = rng.integers(0, 256, (95, 95), dtype=np.uint8)
    pairs = [augment.pair(rng, noise, noise, only(flip=True)) for _ in range(200)]
    mirrored = [pair for pair in pairs if np.array_equal(pair, [noise[:, ::-1]] * 2)]
    plain = [pair for pair in pairs if np.array_equal(pair, [noise] * 2)]
    assert len(plain) + len(mirrored) == 200
    assert 70 <= len(mirrored) <= 130


def centre_shift(matrices):
    """How far the image's centre goes, as a share of the side."""
    centre = np.full(2, (SIDE - 1) / 2)
    return (matrices[:, :, :2] @ centre + matrices[:, :, 2] - centre) / SIDE


def exponent(grays):
    return np.log2(np.log(grays[:, 128] / 255) / np.log(128 / 255))


@pytest.mark.parametrize(
    ("ranges", "measure", "low", "high"),
    [
        ({"shift": 0.1}, centre_shift, -0.1, 0.1),
        ({"rotation": 10}, lambda m: np.rad2deg(np.arctan2(m[:, 1, 0], m[:, 0, 0])), -10, 10),
        ({"zoom": 0.2}, lambda m: np.sqrt(np.linalg.det(m[:, :, :2])), 0.8, 1.2),
        ({"shear": 5}, lambda m: np.rad2deg(np.arctan(m[:, 0, 1])), -5, 5),
        ({"brightness": 0.1}, lambda grays: grays[:, 127] - 127, -25.5, 25.5),
        ({"contrast": 0.2}, lambda grays: (grays[:, 187] - grays[:, 67]) / 120, 0.8, 1.2),
        ({"gamma": 0.5}, exponent, -0.5, 0.5),
    ],
)
def test_changes_fill_their_ranges_and_do_nothing_else(ranges, measure, low, high):
    rng, every, own = np.random.default_rng(3), np.arange(256, dtype=np.uint8), only(**ranges)
    matrices = np.stack([augment.draw_matrix(rng, SIDE, own) for _ in range(400)])
    grays = np.stack([augment.change_gray(every, rng, own) for _ in range(400)]).astype(float)
    is_gray = bool({"brightness", "contrast", "gamma"} & set(ranges))
    values, room = measure(grays if is_gray else matrices), 0.1 * (high - low)
    assert low - 0.1 * room < values.min() < low + room
    assert high - room < values.max() < high + 0.1 * room
    assert (np.diff(grays, axis=1) >= 0).all(), "what wraps around would fall"
    assert is_gray or (grays == every).all()
    if "shift" not in ranges:
        assert np.abs(centre_shift(matrices)).max() < 1e-9
    if "zoom" not in ranges:
        assert np.allclose(np.linalg.det(matrices[:, :, :2]), 1)


def expanded(subsets, totals, seed=1):
    rows = manifest({f"p{i}": 1 for i in range(len(subsets))}).assign(subset=subsets)
    return rows, augment.expand(rows, totals, seed)


def test_the_papers_counts_are_reachable():
    subsets = ["train"] * 90 + ["validation"] * 5 + ["test"] * 48
    for train, test in ((5000, 403), (9618, 955), (5219, 536)):
        rows, table = expanded(subsets, {"train": train, "test": test})
        counts = table["subset"].value_counts()
        assert (counts["train"], counts["test"], counts["validation"]) == (train, test, 5)
        assert table["image_id"].is_unique
        assert table["image_id"][: len(rows)].tolist() == rows["image_id"].tolist()
        # Nobody gets more than one copy more than another, and copies stay with their patient.
        per_original = table[table["subset"] == "train"].groupby("original").size()
        assert per_original.max() - per_original.min() <= 1
        assert table.groupby("patient_id")["subset"].nunique().max() == 1

    rows, table = expanded(["train", "test"], {"train": 0, "test": 0})
    assert table["image_id"].tolist() == rows["image_id"].tolist()
    assert augment.originals(table).equals(table)


@pytest.mark.parametrize("totals", [{"train": 2}, {"validation": 5}])
def test_totals_that_cannot_be_reached_are_refused(totals):
    with pytest.raises(ParameterError, match=r"^\d images are wanted for (train|validation)"):
        expanded(["train"] * 3 + ["test"], totals)


def test_copies_are_made_when_asked_for_and_image_and_mask_agree(blob):
    _, table = expanded(["train"] * 2 + ["test"], {"train": 20, "test": 3}, seed=3)
    masks = np.stack([blob, np.roll(blob, 4, 0), np.roll(blob, 4, 1)])
    images = augment.copies(masks * 200, table, seed=3)
    labels = augment.copies(masks, table, seed=3, is_mask=True)
    assert images.shape == (23, SIDE, SIDE)
    assert np.array_equal(images[:3], masks * 200)
    for number in range(3, 23):
        assert ((images[number] > 100) != (labels[number] == 1)).sum() <= 0.02 * blob.sum()
        assert not np.array_equal(images[number], masks[0] * 200)
    assert np.array_equal(images[5], images[5:6][0])
    other = augment.copies(masks * 200, table, seed=4)
    assert not np.array_equal(other[5], images[5])
    # Of one picture only its copies are wanted.
    fewer = table[table["image_id"] != table["image_id"].iloc[1]]
    assert augment.originals(fewer)["image_id"].tolist() == table["image_id"][[0, 2, 1]].tolist()
    moved = augment.copies(masks[[0, 2, 1]] * 200, fewer, seed=3)
    assert np.array_equal(moved[:], images[fewer.index])


# The authors' augmentation


@pytest.fixture(scope="module")
def published():
    """A slice whose gray tells the column, its labels, and both moved many times."""
    side, rng = 97, np.random.default_rng(6)
    image = np.tile(np.linspace(20, 220, side).round().astype(np.uint8), (side, 1))
    mask = np.where(image > 128, 3, 1).astype(np.uint8)
    mask[:20] = 0
    return image, mask, [augment.published_pair(rng, image, mask) for _ in range(300)]


def rise(moved, labels):
    """How fast gray rises along a row, per pixel; less than 0 in a mirror."""
    row = np.flatnonzero((labels != 255).any(axis=1))[1]
    columns = np.flatnonzero(labels[row] != 255)[1:-1]
    return np.polyfit(columns, moved[row, columns], 1)[0]


def test_published_scales_are_the_authors_and_half_of_the_slices_are_mirrored(published):
    image, mask, pairs = published
    scales = rise(image, mask) / [rise(*pair) for pair in pairs]
    nearest = np.round(np.abs(scales) * 4) / 4
    assert np.abs(np.abs(scales) - nearest).max() < 0.06
    assert set(nearest) == set(augment.SCALES)
    assert np.unique(nearest, return_counts=True)[1].min() > 20
    assert 0.4 < (scales < 0).mean() < 0.6


def test_a_published_pair_moves_alike_and_is_ignored_beyond_the_slice(published):
    corners = set()
    for moved, labels in published[2]:
        assert moved.shape == labels.shape == published[0].shape
        assert set(np.unique(labels)) <= {0, 1, 3, 255}
        lesion, beyond = np.isin(labels, [1, 3]), labels == 255
        # Gray and label agree but for the pixels on the rims between them.
        assert ((moved > 128) != (labels == 3))[lesion].mean() < 0.05
        rows, columns = (np.flatnonzero((~beyond).any(axis=axis)) for axis in (1, 0))
        assert (~beyond).sum() == len(rows) * len(columns)
        if len(rows) < len(labels) - 1:  # twice as large, the last pixel may be cut in half
            assert (moved[beyond] == augment.MEAN_GRAY).mean() > 0.9
            corners.add((int(rows[0]), int(columns[0])))
    assert len(corners) > 50


# Slices as other hospitals show them


@pytest.fixture
def changed_only(monkeypatch):
    """Slices are changed as told, and not else."""

    def change(**changes):
        monkeypatch.setattr(foreign, "MOVEMENT", augment.STILL)
        for name in [name for name, value in vars(foreign).items() if isinstance(value, Change)]:
            monkeypatch.setattr(foreign, name, changes.get(name.lower(), Change(0.0)))

    return change


@pytest.fixture
def chest():
    """A slice with two dark lungs in a bright body, a lesion, and the lungs, without the margin."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    lungs = sum(((x - at) / 0.19) ** 2 + ((y - 0.48) / 0.38) ** 2 < 1 for at in (0.28, 0.72)) > 0
    rng = np.random.default_rng(0)
    image = np.where(lungs, 70, 200) + rng.integers(-8, 9, (SIDE, SIDE))
    lesion = ((x - 0.3) / 0.08) ** 2 + ((y - 0.4) / 0.15) ** 2 < 1
    image[lesion] += 60
    return image.astype(np.uint8), lesion.astype(np.uint8) * 2, lungs


def shown(chest, seed=0):
    return foreign.pair(np.random.default_rng(seed), *chest[:2])


def test_a_draw_is_its_seed_and_stays_a_slice_with_its_labels(chest):
    drawn = [shown(chest, seed) for seed in range(20)]
    for seed, (image, mask) in enumerate(drawn):
        assert np.array_equal(shown(chest, seed), (image, mask))
        assert image.dtype == mask.dtype == np.uint8
        assert image.shape == mask.shape == (SIDE, SIDE)
        assert set(np.unique(mask)) <= {0, 2}
    assert len({image.tobytes() for image, _ in drawn}) == 20


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_upside_down_has_its_share_and_takes_the_labels_along(chest, changed_only, share):
    changed_only(upside_down=Change(share))
    drawn = [shown(chest, seed) for seed in range(200)]
    ways = [np.array_equal(pair, [part[::-1] for part in chest[:2]]) for pair in drawn]
    plain = [np.array_equal(pair, chest[:2]) for pair in drawn]
    assert sum(ways) + sum(plain) == 200
    assert abs(sum(ways) - 200 * share) <= 60 * share


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"window_low": Change(1, 50, 50)}, lambda g: (g - 50) / 205),
        ({"window_high": Change(1, 195, 195)}, lambda g: g / 195),
        ({"gamma": Change(1, -0.5, -0.5)}, lambda g: (g / 255) ** 2**-0.5),
    ],
)
def test_a_window_and_a_gamma_are_what_a_viewer_shows(chest, changed_only, change, expected):
    changed_only(**change)
    wanted = np.rint(255 * np.clip(expected(chest[0].astype(float)), 0, 1))
    assert np.array_equal(shown(chest)[0], wanted)


@pytest.mark.parametrize(("name", "strength"), [("letters", 3.0), ("table", 240.0)])
def test_what_is_burned_in_is_bright_and_outside_the_lungs_and_lesions(
    chest, changed_only, name, strength
):
    changed_only(**{name: Change(1, strength, strength)})
    image, mask, lungs = chest
    mask[-12:] = 1  # such as effusion in the margin below
    drawn = [shown((image, mask), seed) for seed in range(40)]
    assert all(np.array_equal(same, mask) for _, same in drawn)
    burned = np.any([new != image for new, _ in drawn], axis=0)
    assert not burned[lungs | (mask > 0)].any()
    changed = (new := shown((image, mask * 0))[0]) != image
    assert 5 < changed.sum() < 0.1 * changed.size
    assert new[changed].mean() > image.mean()
