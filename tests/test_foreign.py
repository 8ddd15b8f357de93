"""Slices as other hospitals show them: each change alone, and what none of them may do."""

import numpy as np
import pytest

from covid_utils.data import augment, foreign
from covid_utils.data.foreign import Change

SIDE = 96
NAMES = [name for name, value in vars(foreign).items() if isinstance(value, Change)]


@pytest.fixture
def only(monkeypatch):
    """Slices are changed as told, and not else."""

    def change(**changes):
        monkeypatch.setattr(foreign, "MOVEMENT", augment.STILL)
        for name in NAMES:
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


def test_what_is_never_drawn_changes_nothing(chest, only):
    only()
    assert np.array_equal(shown(chest), chest[:2])


def test_a_draw_is_its_seed_and_stays_a_slice_with_its_labels(chest):
    drawn = [shown(chest, seed) for seed in range(20)]
    for seed, (image, mask) in enumerate(drawn):
        assert np.array_equal(shown(chest, seed), (image, mask))
        assert image.dtype == mask.dtype == np.uint8
        assert image.shape == mask.shape == (SIDE, SIDE)
        assert set(np.unique(mask)) <= {0, 2}
    assert len({image.tobytes() for image, _ in drawn}) == 20


def test_upside_down_has_its_share_and_takes_the_labels_along(chest, only):
    only(upside_down=Change(0.25))
    drawn = [shown(chest, seed) for seed in range(200)]
    ways = [np.array_equal(pair, [part[::-1] for part in chest[:2]]) for pair in drawn]
    plain = [np.array_equal(pair, chest[:2]) for pair in drawn]
    assert sum(ways) + sum(plain) == 200
    assert 35 <= sum(ways) <= 65


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"window_low": Change(1, 50, 50)}, lambda g: (g - 50) / 205),
        ({"window_high": Change(1, 195, 195)}, lambda g: g / 195),
        ({"gamma": Change(1, -0.5, -0.5)}, lambda g: (g / 255) ** 2**-0.5),
    ],
)
def test_a_window_and_a_gamma_are_what_a_viewer_shows(chest, only, change, expected):
    only(**change)
    wanted = np.rint(255 * np.clip(expected(chest[0].astype(float)), 0, 1))
    assert np.array_equal(shown(chest)[0], wanted)


@pytest.mark.parametrize(("name", "strength"), [("letters", 3.0), ("table", 240.0)])
def test_what_is_burned_in_is_bright_and_outside_the_lungs_and_lesions(chest, only, name, strength):
    only(**{name: Change(1, strength, strength)})
    image, mask, lungs = chest
    mask[-12:] = 1  # such as effusion in the margin below
    burned = np.zeros((SIDE, SIDE), bool)
    for seed in range(40):
        new, same = shown((image, mask), seed)
        burned |= new != image
        assert np.array_equal(same, mask)
    assert not burned[lungs | (mask > 0)].any()
    for seed in range(2):
        new, _ = shown((image, mask * 0), seed)
        changed = new != image
        assert 5 < changed.sum() < 0.1 * changed.size
        assert new[changed].mean() > image.mean()
