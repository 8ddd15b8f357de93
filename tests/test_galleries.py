"""Figures 10 and 11 from kept masks: what they show, and that each colour means what it should."""

import numpy as np
import pytest
from builders import join, manifest

import chest_phantom
from covid_utils import paths, registry
from covid_utils.evaluation.outlines import Outlines
from covid_utils.report import galleries, sheets

PROFILE = "quick"
RUNS = [*(f"stream_{name}_deeplab" for name in ("all", *registry.MANIFESTATIONS)), "fusion_deeplab"]
BOTH = ["stream_all_deeplab", "stream_all_unet"]
SIZE = 12


def prepare(**columns):
    """A manifest of the data sets that streams need."""
    rows = join(*(manifest({"a": 1}, name) for name in ("medseg", "lidc-idri")))
    path = paths.results(PROFILE) / "data" / "manifest.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.assign(subset="test", **columns).to_csv(path, index=False)


@pytest.fixture(autouse=True)
def prepared(home):
    prepare()


def masks(seed=0, n=6, **changes):
    """Slices and truth are the same for every seed, the prediction is not."""
    fixed, rng = np.random.default_rng(9), np.random.default_rng(seed)
    images = fixed.integers(0, 256, (n, SIZE, SIZE), dtype=np.uint8)
    truth = fixed.integers(0, 4, images.shape, dtype=np.uint8)
    predicted = rng.integers(0, 4, images.shape, dtype=np.uint8)
    return galleries.Masks(images, truth, predicted)._replace(**changes)


def keep(**runs):
    for run, kept in runs.items():
        folder = paths.results(PROFILE) / run
        folder.mkdir(parents=True, exist_ok=True)
        galleries.write_masks(folder / "masks.npz", kept)


def rows_of(figure, columns):
    """Axes in rows, and their headings."""
    axes = np.array(figure.axes).reshape(-1, columns)
    return axes, [[axis.get_title().replace("\n", " ") for axis in row] for row in axes]


def picture(axis):
    return np.asarray(axis.images[0].get_array())


@pytest.mark.parametrize("subset", ["test", "validation"])
def test_slices_of_one_subset_are_kept_with_their_own_pictures(subset):
    rows = manifest({f"s{i}": 1 for i in range(7)}, "medseg", "covid", "CT")
    rows["subset"] = ["train", "test", "validation", "test", "train", "validation", "test"]
    every, at = masks(n=7), np.flatnonzero(rows["subset"] != "train")
    maps = (every.truth[at], every.predicted[at], every.truth[at] > 0)
    measured = Outlines(rows[:0], rows.iloc[at].reset_index(drop=True), at, *maps)
    kept = galleries.masks_of(measured, every.images, subset)
    for array, expected in zip(kept, every, strict=True):
        np.testing.assert_array_equal(array, expected[rows["subset"] == subset])


def test_the_stream_sheet_shows_the_truth_and_all_five():
    kept = {run: masks(seed) for seed, run in enumerate(RUNS)}
    keep(**kept)
    figure = galleries.stream_sheet(PROFILE)
    axes, headings = rows_of(figure, 7)
    words = ["all classes", "ground-glass", "consolidation", "pleural effusion"]
    streams = [f"stream: {word}" for word in words]
    assert headings[0] == ["CT slice", "reference", *streams, "specialists together"]
    first = kept["stream_all_deeplab"]
    for line, at in zip(axes, galleries.most_varied(first.truth, 4), strict=True):
        np.testing.assert_array_equal(picture(line[0]), first.images[at])
        labels = [first.truth[at], *(each.predicted[at] for each in kept.values())]
        for axis, mask in zip(line[1:], labels, strict=True):
            np.testing.assert_allclose(picture(axis), sheets.overlay(first.images[at], mask))
    assert "real scans" in figure.get_suptitle()


def graded():
    """Slices whose Dice falls from 1 to 0 for DeepLab-v3+, and is 1 for U-Net; one is empty."""
    truth = np.zeros((6, SIZE, SIZE), np.uint8)
    truth[:5, 2:10, 2:10] = 2
    predicted = truth.copy()
    for index in range(5):
        predicted[index, 2 : 2 + 2 * index] = 0
    predicted[1:5, 11] = 1
    other = np.where(truth > 0, 1, 0).astype(np.uint8)
    return masks(truth=truth, predicted=predicted), masks(truth=truth, predicted=other)


def test_the_outcome_sheet_compares_both_networks_on_the_same_slices():
    deeplab, unet = graded()
    keep(**dict(zip(BOTH, (deeplab, unet), strict=True)))
    axes, headings = rows_of(galleries.outcome_sheet(PROFILE), 3)
    assert [line[0].get_ylabel() for line in axes] == ["best", "middle", "worst"]
    # 64 pixels each; of DeepLab-v3+ the first rows are missing, and 12 are called elsewhere.
    assert headings[0] == ["CT slice", "DeepLab-v3+ Dice 1.00", "U-Net Dice 1.00"]
    assert headings[1:] == [["", "Dice 0.59", "Dice 1.00"], ["", "Dice 0.00", "Dice 1.00"]]
    for line, at in zip(axes, (0, 2, 4), strict=True):
        np.testing.assert_array_equal(picture(line[0]), deeplab.images[at])
        for axis, each in zip(line[1:], (deeplab, unet), strict=True):
            is_true, is_called = each.truth[at] > 0, each.predicted[at] > 0
            outcome = np.array([[0, 3], [2, 1]])[1 * is_true, 1 * is_called]
            expected = sheets.overlay(each.images[at], outcome, galleries.OUTCOMES)
            np.testing.assert_allclose(picture(axis), expected)


def test_pictures_are_written_where_masks_are_and_say_whether_they_are_simulated():
    keep(**dict.fromkeys(BOTH, masks()))
    assert galleries.write(PROFILE) == ["fig11"]
    keep(**dict.fromkeys(RUNS, masks()))
    assert galleries.write(PROFILE) == ["fig10", "fig11"]
    names = {path.name for path in (paths.results(PROFILE) / "figures").iterdir()}
    assert names == {f"fig{n}.{ending}" for n in (10, 11) for ending in ("png", "svg", "txt")}
    prepare(licence=chest_phantom.LICENCE)
    for sheet in (galleries.stream_sheet(PROFILE), galleries.outcome_sheet(PROFILE)):
        assert "phantom" in sheet.get_suptitle()
