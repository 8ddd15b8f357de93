"""Phantom slices beside scans: their share, and that none of them is ever tested on."""

import numpy as np
import pytest
from builders import SMALL_PHANTOM
from stream_cases import TOY, toy

import chest_phantom
from covid_utils import paths
from covid_utils.training import other_hospitals
from covid_utils.training.streams import StreamData

SETTINGS = TOY.replace(stream="all", image_size=64, seed=SMALL_PHANTOM.seed)


def slices(count, gray=9):
    """Slices of one gray value with a lesion everywhere, all for training."""
    rows = toy().rows.iloc[:1].loc[[0] * count].reset_index(drop=True)
    names = [f"{other_hospitals.PHANTOM}{number}" for number in range(count)]
    rows = rows.assign(image_id=names, patient_id=names, subset="train")
    images = np.full((count, 16, 16), gray, np.uint8)
    return StreamData(rows, images, np.ones_like(images))


@pytest.mark.parametrize("count", [2, 5, 40])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.8])
def test_a_share_holds_whatever_the_numbers_of_slices(count, share):
    data, phantom = toy(), slices(count)
    both = other_hospitals.mixed(data, phantom, share)
    trains = both.rows["subset"] == "train"
    is_phantom = both.rows["image_id"].str.startswith(other_hospitals.PHANTOM)
    assert is_phantom[trains].mean() == pytest.approx(share, abs=0.05)
    assert not is_phantom[~trains].any()
    assert both.rows.loc[is_phantom, "image_id"].nunique() == count
    assert both.rows.loc[trains & ~is_phantom, "image_id"].nunique() == 6
    # Each row keeps its picture and its labels.
    at = {name: number for number, name in enumerate(data.rows["image_id"])}
    for number, name in enumerate(both.rows["image_id"]):
        own = data.images[at[name]] if name in at else phantom.images[0]
        assert np.array_equal(both.images[number], own)
        mask = data.masks[at[name]] if name in at else phantom.masks[0]
        assert np.array_equal(both.masks[number], mask)


def test_a_phantom_that_is_tested_on_shares_no_patient_with_one_that_trains(
    phantom, home, monkeypatch
):
    wanted = []
    monkeypatch.setattr(
        chest_phantom, "write", lambda place, own: wanted.append((place, own)) or phantom
    )
    data = other_hospitals.phantom_slices(SETTINGS, 30, phantom)
    assert set(data.rows["subset"]) == {"train"}
    for name in ("image_id", "patient_id"):
        assert data.rows[name].str.startswith(other_hospitals.PHANTOM).all()
    assert (data.masks[:] == 1).any(axis=(1, 2)).all()
    other_hospitals.phantom_slices(SETTINGS, 30, home)  # no phantom
    seeds = [own.seed for _, own in wanted]
    assert SMALL_PHANTOM.seed == SETTINGS.seed == seeds[1] != seeds[0]
    # Patients of other seeds differ, and one phantom does not replace another.
    assert len({place for place, _ in wanted}) == 2
    assert all(place.is_relative_to(paths.cache()) for place, _ in wanted)
    assert {own.patients for _, own in wanted} == {30}
