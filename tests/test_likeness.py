"""How unlike slices are those that a network learned from, and what speaks against a picture."""

import json

import numpy as np
import pytest
from builders import slices_of_a_chest
from own_scans import outline, series
from PIL import Image
from stream_cases import TOY

from covid_read import doubts, likeness, shipped
from covid_read.cases import Batch
from covid_read.extent import crops, on_whole_slices
from covid_read.folder import Wishes, read_all
from covid_read.stages import Stages
from covid_utils.data.gray_scale import LUNG_WINDOW
from covid_utils.data.images import Preprocessing
from covid_utils.data.readers.gray import to_uint8
from covid_utils.training import networks
from covid_utils.training.predict_stream import Committee

pytestmark = pytest.mark.usefixtures("eager")

SETTINGS = TOY.replace(image_size=32, base=4)


def disks(rng, count):
    """Bright disks on dark ground, with a little noise."""
    row, column = np.indices((32, 32))
    far = [np.hypot(row - a, column - b) for a, b in rng.uniform(13, 19, (count, 2))]
    shown = [np.where(each < rng.uniform(7, 10), 200, 40) for each in far]
    return np.clip(shown + rng.normal(0, 4, (count, 32, 32)), 0, 255).astype(np.uint8)


def ramps(rng, count):
    """Pictures that grow brighter from side to side, in place of X-rays."""
    ramp = np.linspace(0, 200, 32) + rng.normal(0, 8, (count, 32, 32))
    return np.clip(ramp, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def committee():
    network = networks.build(SETTINGS)
    return Committee(network, [network.get_weights()])


@pytest.fixture(scope="module")
def part(committee):
    rng = np.random.default_rng(1)
    return likeness.learned(committee, SETTINGS, disks(rng, 60), np.arange(60), ramps(rng, 30))


def test_other_pictures_are_unlike_and_slices_of_the_kind_that_trained_are_not(
    committee, part, tmp_path
):
    shipped.save(tmp_path / "shipped.npz", committee, SETTINGS, **{likeness.PART: part})
    kept = shipped.read(tmp_path / "shipped.npz")[likeness.PART]
    levels = likeness.load(kept, committee, SETTINGS)
    rng = np.random.default_rng(2)
    unlike, is_xray = levels(disks(rng, 40))
    assert (unlike > 0).mean() <= 0.1
    assert is_xray.mean() <= 0.1
    assert levels(ramps(rng, 9))[1].all()
    stripes = np.tile(np.repeat(np.uint8([0, 255] * 4), 4)[:, None], (2, 1, 32))
    assert (levels(np.concatenate([stripes, 255 - disks(rng, 9)]))[0] == 2).all()


def test_limits_rest_on_slices_whose_copies_are_held_out_too(committee, part, monkeypatch):
    monkeypatch.setattr(likeness, "TIMES", 0)
    rng = np.random.default_rng(1)
    images = np.repeat(disks(rng, 6), 10, axis=0)
    apart, beside = (
        likeness.learned(committee, SETTINGS, images, groups, ramps(rng, 9)).about["unlike"]
        for groups in (np.repeat(np.arange(6), 10), np.arange(60))
    )
    assert apart > 2 * beside
    assert 0 < part.about["unlike"] < part.about["strange"]


@pytest.fixture(scope="module")
def slices():
    """Upright slices of a chest, uint8 (n, height, width)."""
    return np.stack([to_uint8(hu, *LUNG_WINDOW) for hu, _ in slices_of_a_chest(3)])


def record_of(tmp_path, picture, wishes=None):
    Image.fromarray(np.ascontiguousarray(picture)).save(tmp_path / "picture.png")
    (record,) = read_all(
        [tmp_path / "picture.png"], tmp_path / "out", outline, wishes or Wishes()
    ).records
    return record


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda each: each[::-1], doubts.TURNED),
        (lambda each: each[int(0.4 * len(each)) :], doubts.BEYOND),
        (lambda each: each, ""),
    ],
    ids=["upside down", "lower part", "whole"],
)
def test_what_is_odd_about_a_slice_is_a_warning(change, said, slices, tmp_path):
    record = record_of(tmp_path, change(slices[1]))
    assert record["why_not_outlined"] is None
    assert [each for each in (doubts.TURNED, doubts.BEYOND) if each in record["warnings"]] == (
        [said] if said else []
    )


def test_an_inverted_slice_is_not_outlined_and_the_remedy_is_named(slices, tmp_path):
    record = record_of(tmp_path, 255 - slices[1])
    assert record["manifestations"] is None
    assert record["warnings"] == [doubts.INVERTED]


@pytest.mark.parametrize("strange", [3, 4])
def test_a_case_of_strange_slices_is_not_outlined_and_of_some_it_is_said(strange, tmp_path):
    series(tmp_path / "ct", count=7)
    given = iter([0] * (6 - strange) + [1] + [2] * strange)

    def levels(batch):
        return np.array([next(given) for _ in batch.slices]), np.zeros(len(batch.slices), bool)

    wishes = Wishes(batch=2, stages=Stages(levels=levels))
    (record,) = read_all([tmp_path / "ct"], tmp_path / "out", outline, wishes).records
    files = json.loads((tmp_path / "out" / "ct" / "case.json").read_text())["masks"]
    if strange == 4:
        assert record["why_not_outlined"] == doubts.STRANGE
        assert files == []
        return
    assert f"{strange + 1} of 7 slices are unlike" in " ".join(record["warnings"])
    assert files == ["mask.nii.gz"]


def test_the_sides_of_a_wide_figure_are_in_the_crop(slices):
    rows = np.flatnonzero((slices[1] > 100).any(axis=1))
    wide = slices[:2, rows[0] + 30 : rows[-1] - 30]
    assert wide.shape[1] < wide.shape[2]
    settings = Preprocessing(32, clahe_clip=0.0, crop="field")
    seen = []

    def predict(images, room):
        seen.append(images)
        return np.tile(np.float32([0.2, 0.8]), (*images.shape, 1))

    given = Batch(wide, np.ones(wide.shape, bool), np.array(["HU", "HU"]))
    labels, chance = on_whole_slices(predict, settings)(given)
    assert labels.shape == wide.shape
    assert (labels == 1).all()
    assert np.allclose(chance, 0.8)
    assert np.array_equal(seen[0], crops(given, settings).images)


def test_what_looks_like_an_xray_is_not_outlined_unless_nothing_is_around_it(slices, tmp_path):
    def levels(batch):
        return np.zeros(len(batch.slices), int), np.ones(len(batch.slices), bool)

    wishes = Wishes(stages=Stages(levels=levels))
    record = record_of(tmp_path, slices[1], wishes)
    assert record["why_not_outlined"] == doubts.XRAY
    rows, columns = (np.flatnonzero((slices[1] > 100).any(axis)) for axis in (1, 0))
    tight = slices[1][rows[0] : rows[-1], columns[0] : columns[-1]][8:-8, 12:-12]
    assert record_of(tmp_path, tight, wishes)["why_not_outlined"] != doubts.XRAY
