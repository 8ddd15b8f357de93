"""Pages of benchmarks match what they state; all candidates of a benchmark do the same work."""

import json
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from builders import modules_of, slices_of_a_chest

from covid_utils import paths
from covid_utils.data import augment
from covid_utils.data.gray_scale import LUNG_WINDOW
from covid_utils.data.readers.gray import to_uint8

FOLDER = paths.PROJECT / "benchmarks"
RESULTS = json.loads((FOLDER / "results.json").read_text(encoding="utf8"))


@pytest.fixture(scope="module")
def bench():
    """The modules of `make bench`."""
    names = ("comparisons", "recognition", "run", "segmentation", "timing")
    with modules_of("benchmarks", *names) as modules:
        yield SimpleNamespace(**dict(zip(names, modules, strict=True)))


def test_the_page_is_that_of_the_stored_results_and_reports_missed_targets(bench):
    text = (FOLDER / "README.md").read_text(encoding="utf8")
    assert text == bench.run.page(RESULTS)
    assert "missed" not in text.split("## Task 3")[0]
    slow = json.loads(json.dumps(RESULTS))
    task1 = slow["recognition"]
    slow["input pipeline"][0]["peak_memory_mib"] *= 2
    for part in (task1["features"], task1["heads"]):
        part["candidates"]["ours"]["median_ms"] *= 100
    task1["growing"] |= {"computed": 1001, "again": 1}
    slow["segmentation"]["fed"]["busy"] = 0.949
    assert bench.run.page(slow).count("**missed**") == 7


def test_scipy_applies_the_same_map(bench):
    side = bench.comparisons.SIDE
    image, mask = bench.timing.chest(side=side)
    matrix = augment.draw_matrix(np.random.default_rng(4), side, augment.Ranges())
    theirs, their_mask = bench.comparisons.scipy_pair(np.random.default_rng(4), image, mask)
    inner = np.s_[60:-60, 60:-60]
    assert np.median(np.abs(augment.warp(image, matrix).astype(int) - theirs)[inner]) <= 1
    assert (augment.warp(mask, matrix, is_mask=True) == their_mask)[inner].mean() > 0.99


def test_all_ways_to_features_give_the_same_numbers(bench):
    task1 = bench.recognition
    model = task1.inception.outputs(task1.stand_in(24)[0], (task1.LAYER,))
    images = np.repeat(np.arange(0, 256, 8, np.uint8), 24**2).reshape(32, 24, 24)
    assert len(list(task1.passes(model, images, 2))) == 2
    [(_, [ours])] = task1.extract(model, images, np.arange(32))
    assert ours.std(axis=0).max() > 0.01
    for name, call in task1.competitors(model, images, 3).items():
        theirs = np.concatenate([np.reshape(part, (-1, ours.shape[1])) for part in call()])
        assert len(theirs) == (32 if "batches" in name else 3)
        assert np.allclose(theirs, ours[: len(theirs)], atol=1e-5), name


def test_a_grown_set_computes_what_is_new_and_the_same_set_nothing(bench):
    counted = bench.recognition.growing(stored=3, added=5)
    assert (counted["computed"], counted["again"]) == (5, 0)


def test_other_layers_compute_the_same_numbers(bench, eager):
    tf = bench.timing.tf
    deeplab, maps = bench.segmentation, tf.random.stateless_normal((1, 4, 5, 8), (0, 1))
    layers = deeplab.layers(8)
    for names in ((deeplab.DEPTHWISE, deeplab.SHIFTED), (deeplab.NORM, deeplab.FUSED)):
        # Forward before the training step, which moves the statistics of batch norm.
        for kind in ("forward", "step"):
            each = [deeplab.chained(*layers[name], kind)(maps) for name in names]
            flat = [tf.nest.flatten(one, expand_composites=True) for one in each]
            for one, other in zip(*flat, strict=True):
                assert np.allclose(one, other, rtol=1e-3, atol=1e-3), (names, kind)


# Damaged files, and pictures that are no slices


@pytest.fixture(scope="module")
def fuzz():
    with modules_of("benchmarks", "fuzz") as (module,):
        yield module


@pytest.mark.parametrize(("page", "formats"), [("PAGE", "FORMATS"), ("SCANS_PAGE", "SCANS")])
def test_no_file_crashed_in_the_committed_tables(fuzz, page, formats):
    text = getattr(fuzz, page).read_text(encoding="utf8")
    rows = [re.split(r"\s*\|\s*", line)[1:6] for line in text.splitlines() if "0 |" in line]
    assert [row[0] for row in rows] == list(getattr(fuzz, formats))
    for name, files, *counts in rows:
        read, refused, crashed = (int(count.replace(",", "")) for count in counts)
        assert (files, read + refused, crashed) == ("10,000", 10_000, 0)
        # Checksums cover all of a pack and of what an archive holds.
        assert read > {"ZIP": 10, "pack": -1}.get(name, 100)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems limit no address space")
def test_a_few_damaged_files_of_each_format_are_read_or_refused(fuzz, tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "GIB", 32)  # earlier tests may have taken most of the usual three
    root = fuzz.whole_files(tmp_path / "phantom")
    rows = [fuzz.run(name, 10, root) for name in fuzz.FORMATS]
    assert [row["crashed"] for row in rows] == [0] * 8
    assert sum(row["read"] for row in rows) > 8 < sum(row["refused"] for row in rows)


@pytest.fixture(scope="module")
def refusal():
    with modules_of("benchmarks", "refusal") as (module,):
        yield module


def test_the_committed_table_has_all_kinds_and_every_picture_of_them(refusal):
    text = refusal.PAGE.read_text(encoding="utf8")
    rows = [re.split(r"\s*\|\s*", line)[1:-1] for line in text.splitlines() if line[:1] == "|"]
    names, counts = [row[1] for row in rows[2:]], [[int(n) for n in row[2:]] for row in rows[2:]]
    assert {f"altered CT: {name}" for name in refusal.MADE} < set(names)
    assert all(pictures == sum(verdicts) > 0 for pictures, *verdicts in counts)


def test_pictures_are_counted_by_what_the_shipped_network_says(refusal, tmp_path, monkeypatch):
    ((hounsfield, _),) = slices_of_a_chest(1)
    chest = to_uint8(hounsfield, *LUNG_WINDOW)
    kinds = {
        "chest": [chest],
        "turned": [chest[::-1]],
        "not": [255 - chest, refusal.reduced(chest, 24), np.zeros((64, 64), np.uint8)],
    }
    listed = [(name, name == "chest", pictures) for name, pictures in kinds.items()]
    monkeypatch.setattr(refusal, "kinds", lambda folder: listed)
    table = refusal.read(tmp_path).set_index("kind")[list(refusal.VERDICTS)]
    assert table.to_dict("split")["data"] == [[0, 0, 1], [0, 1, 0], [3, 0, 0]]
