"""Figures 10 and 11 from kept masks: what they show, and that each colour means what is said."""

import dataclasses

import numpy as np
import pytest
from builders import manifest
from matplotlib.colors import to_rgb

import chest_phantom
from covid_utils import paths, registry
from covid_utils.evaluation.outlines import Outlines
from covid_utils.report import galleries, sheets

PROFILE = "quick"
RUNS = [*(f"stream_{name}_deeplab" for name in galleries.STREAMS), "fusion_deeplab"]
SIZE = 12


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home of its own, with a prepared manifest."""
    monkeypatch.setenv("COVID_HOME", str(tmp_path))
    folder = paths.results(PROFILE) / "data"
    folder.mkdir(parents=True)
    manifest({"a": 1}).assign(subset="test").to_csv(folder / "manifest.csv", index=False)


def masks(seed=0, n=6, **changes):
    """Slices and truth are the same for every seed, the prediction is not."""
    fixed, rng = np.random.default_rng(9), np.random.default_rng(seed)
    images = fixed.integers(0, 256, (n, SIZE, SIZE), dtype=np.uint8)
    truth = fixed.integers(0, 4, images.shape, dtype=np.uint8)
    predicted = rng.integers(0, 4, images.shape, dtype=np.uint8)
    names = np.array([f"s{i}" for i in range(n)])
    made = galleries.Masks(names, images, truth, predicted, predicted * 60)
    return dataclasses.replace(made, **changes)


def keep(run, made):
    folder = paths.results(PROFILE) / run
    folder.mkdir(parents=True, exist_ok=True)
    galleries.write_masks(folder / "masks.npz", made)


def picture(axis):
    return np.asarray(axis.images[0].get_array())


def grid(figure, columns):
    """Axes as rows of pictures."""
    return np.array(figure.axes).reshape(-1, columns)


def headings(figure, columns):
    return [axis.get_title().replace("\n", " ") for axis in grid(figure, columns)[0]]


def legend(figure):
    """Word -> colour."""
    (found,) = figure.legends
    words = [text.get_text() for text in found.get_texts()]
    return dict(zip(words, (p.get_facecolor()[:3] for p in found.get_patches()), strict=True))


def test_masks_are_read_as_they_were_written():
    made = masks()
    assert galleries.read_masks(PROFILE, "stream_all_deeplab") is None
    keep("stream_all_deeplab", made)
    read = galleries.read_masks(PROFILE, "stream_all_deeplab")
    for name, array in vars(made).items():
        np.testing.assert_array_equal(getattr(read, name), array)


@pytest.mark.parametrize("subset", ["test", "validation"])
def test_slices_of_one_subset_are_kept_with_their_own_pictures(subset):
    rows = manifest({f"s{i}": 1 for i in range(7)}, "medseg", "covid", "CT")
    rows["subset"] = ["train", "test", "validation", "test", "train", "validation", "test"]
    made = masks(n=7)
    watched = rows[rows["subset"] != "train"].reset_index(drop=True)
    at = np.flatnonzero(rows["subset"] != "train")
    maps = made.truth[at], made.predicted[at], made.probability[at]
    kept = galleries.masks_of(Outlines(watched[:0], watched, at, *maps), made.images, subset)
    at = np.flatnonzero(rows["subset"] == subset)
    assert kept.image_id.tolist() == rows["image_id"].iloc[at].tolist()
    for name in ("images", "truth", "predicted", "probability"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(made, name)[at])


def test_slices_that_show_most_come_first():
    truth = np.zeros((4, SIZE, SIZE), np.uint8)
    truth[0, :3] = 1
    truth[1, :2], truth[1, 2] = 1, 3
    truth[2, :5] = 2
    assert galleries.most_varied(truth, 3).tolist() == [1, 2, 0]
    assert len(galleries.most_varied(truth, 9)) == 4


def test_the_stream_sheet_shows_the_truth_and_all_five():
    made = {run: masks(seed) for seed, run in enumerate(RUNS)}
    for run, each in made.items():
        keep(run, each)
    figure = galleries.stream_sheet(PROFILE, count=3)
    words = ["all classes", "ground-glass", "consolidation", "pleural effusion"]
    streams = [f"stream: {word}" for word in words]
    assert headings(figure, 7) == ["image", "reference", *streams, "specialists together"]
    first = made["stream_all_deeplab"]
    chosen = galleries.most_varied(first.truth, 3)
    rows = grid(figure, 7)
    assert len(rows) == 3
    for axes, at in zip(rows, chosen, strict=True):
        np.testing.assert_array_equal(picture(axes[0]), first.images[at])
        labels = [first.truth[at], *(each.predicted[at] for each in made.values())]
        for axis, mask in zip(axes[1:], labels, strict=True):
            expected = sheets.overlay(first.images[at], mask)
            np.testing.assert_allclose(picture(axis), expected)
    assert legend(figure) == {
        registry.NAMES[name]: to_rgb(registry.COLOURS[name])
        for name in ("ggo", "consolidation", "effusion")
    }
    assert "real scans" in figure.get_suptitle()


@pytest.mark.parametrize("missing", RUNS)
def test_the_stream_sheet_needs_all_five_runs(missing):
    for run in RUNS:
        if run != missing:
            keep(run, masks())
    assert galleries.stream_sheet(PROFILE) is None


def test_no_held_out_slice_is_no_picture():
    for run in [*RUNS, "stream_all_unet"]:
        keep(run, masks(n=0))
    assert galleries.stream_sheet(PROFILE) is None
    assert galleries.outcome_sheet(PROFILE) is None


def keep_both(deeplab, unet):
    keep("stream_all_deeplab", deeplab)
    keep("stream_all_unet", unet)


def graded():
    """Slices whose Dice falls from 1 to 0 for DeepLab-v3+, and rises for U-Net; one is empty."""
    truth = np.zeros((6, SIZE, SIZE), np.uint8)
    truth[:5, 2:10, 2:10] = 2
    found = truth.copy()
    for index in range(5):
        found[index, 2 : 2 + 2 * index] = 0
    found[1:5, 11] = 1
    other = np.where(truth > 0, 1, 0).astype(np.uint8)
    return masks(truth=truth, predicted=found), masks(truth=truth, predicted=other)


def test_the_outcome_sheet_compares_both_networks_on_the_same_slices():
    deeplab, unet = graded()
    keep_both(deeplab, unet)
    figure = galleries.outcome_sheet(PROFILE)
    assert headings(figure, 3) == ["image", "DeepLab-v3+", "U-Net"]
    assert [axes[0].get_ylabel() for axes in grid(figure, 3)] == ["best", "middle", "worst"]
    dice = [[axis.get_xlabel() for axis in axes[1:]] for axes in grid(figure, 3)]
    # 64 pixels each; of DeepLab-v3+ the first rows are missing, and 12 are called elsewhere.
    assert dice == [["Dice 1.00"] * 2, ["Dice 0.59", "Dice 1.00"], ["Dice 0.00", "Dice 1.00"]]
    for axes, at in zip(grid(figure, 3), (0, 2, 4), strict=True):  # best, middle and worst
        np.testing.assert_array_equal(picture(axes[0]), deeplab.images[at])
        for axis, each in zip(axes[1:], (deeplab, unet), strict=True):
            outcome = np.zeros((SIZE, SIZE), np.uint8)
            for y, x in np.ndindex(outcome.shape):
                is_true, is_found = each.truth[at, y, x] > 0, each.predicted[at, y, x] > 0
                cases = {(True, True): 1, (True, False): 2, (False, True): 3}
                outcome[y, x] = cases.get((is_true, is_found), 0)
            expected = sheets.overlay(each.images[at], outcome, galleries.OUTCOMES)
            np.testing.assert_allclose(picture(axis), expected)


def test_the_colours_of_outcomes_mean_what_the_legend_says():
    assert galleries.OUTCOMES == {1: "found", 2: "missed", 3: "false alarm"}
    truth, found = np.zeros((2, 1, SIZE, SIZE), np.uint8)
    truth[0, :4], found[0, 2:6] = 3, 1  # two rows missed, two found, two of false alarm
    black = np.zeros_like(truth)
    keep_both(*[masks(n=1, images=black, truth=truth, predicted=found)] * 2)
    figure = galleries.outcome_sheet(PROFILE)
    said = legend(figure)
    assert list(said) == ["found", "missed", "false alarm"]
    for column in (1, 2):
        shown = picture(grid(figure, 3)[0, column])
        for word, lines in {"missed": (0, 1), "found": (2, 3), "false alarm": (4, 5)}.items():
            colour = np.array(said[word])
            seen = shown[list(lines)].reshape(-1, 3)
            share = seen @ colour / (colour @ colour)  # laid over black: the colour, but darker
            assert (share > 0.3).all()
            np.testing.assert_allclose(seen, share[:, None] * colour, atol=1e-6)
        assert (shown[6:] == 0).all()


@pytest.mark.parametrize("missing", ["stream_all_deeplab", "stream_all_unet"])
def test_the_outcome_sheet_needs_both_networks(missing):
    keep_both(*graded())
    (paths.results(PROFILE) / missing / "masks.npz").unlink()
    assert galleries.outcome_sheet(PROFILE) is None


def test_without_a_lesion_anywhere_there_is_no_outcome_to_show():
    empty = np.zeros((6, SIZE, SIZE), np.uint8)
    keep_both(*[masks(truth=empty, predicted=empty)] * 2)
    assert galleries.outcome_sheet(PROFILE) is None


def test_pictures_are_written_where_masks_are_and_say_whether_they_are_simulated():
    assert galleries.write(PROFILE) == []
    keep_both(*graded())
    assert galleries.write(PROFILE) == ["fig11"]
    for run in RUNS:
        keep(run, masks())
    assert galleries.write(PROFILE) == ["fig10", "fig11"]
    folder = paths.results(PROFILE) / "figures"
    names = {path.name for path in folder.iterdir()}
    endings = ("png", "svg", "txt")
    assert names == {f"{name}.{ending}" for name in ("fig10", "fig11") for ending in endings}
    path = paths.results(PROFILE) / "data" / "manifest.csv"
    rows = manifest({"a": 1}, licence=chest_phantom.LICENCE).assign(subset="test")
    rows.to_csv(path, index=False)
    for sheet in (galleries.stream_sheet(PROFILE), galleries.outcome_sheet(PROFILE)):
        assert "phantom" in sheet.get_suptitle()
