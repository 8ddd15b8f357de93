"""The benchmarks' page matches the stored results, and all candidates do the same work."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from builders import modules_of

from covid_utils import paths
from covid_utils.data import augment

FOLDER = paths.PROJECT / "benchmarks"
RESULTS = json.loads((FOLDER / "results.json").read_text(encoding="utf8"))


@pytest.fixture(scope="module")
def bench():
    """The modules of `make bench`."""
    names = ("comparisons", "recognition", "run", "segmentation", "timing")
    with modules_of("benchmarks", *names) as modules:
        yield SimpleNamespace(**dict(zip(names, modules, strict=True)))


@pytest.fixture
def eager(bench):
    """Tracing takes longer than a tiny network."""
    tf = bench.timing.tf
    tf.config.run_functions_eagerly(True)
    yield tf
    tf.config.run_functions_eagerly(False)


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


def test_sections_are_measured_one_by_one(bench, monkeypatch):
    monkeypatch.setitem(bench.run.SECTIONS, "segmentation", lambda: "new")
    with pytest.raises(SystemExit, match="another machine"):
        bench.run.measure(["segmentation"], RESULTS | {"machine": {}})
    with pytest.raises(SystemExit, match="No section phantom"):
        bench.run.measure(["phantom"], RESULTS)
    stored = RESULTS | {"machine": bench.run.machine()}
    assert bench.run.measure(["segmentation"], stored) == stored | {"segmentation": "new"}


def test_scipy_applies_the_same_map(bench):
    side = bench.comparisons.SIDE
    image, mask = bench.timing.chest(side=side)
    matrix = augment.draw_matrix(np.random.default_rng(4), side, augment.Ranges())
    theirs, their_mask = bench.comparisons.scipy_pair(np.random.default_rng(4), image, mask)
    inner = np.s_[60:-60, 60:-60]
    assert np.median(np.abs(augment.warp(image, matrix).astype(int) - theirs)[inner]) <= 1
    assert (augment.warp(mask, matrix, is_mask=True) == their_mask)[inner].mean() > 0.99


def test_multiply_adds_are_counted_from_the_layers(bench):
    keras = bench.timing.keras
    depthwise = keras.layers.DepthwiseConv2D((3, 1), strides=2, depth_multiplier=2)
    model = keras.Sequential([keras.Input((9, 9, 3)), depthwise, keras.layers.Conv2D(5, 1)])
    assert bench.timing.multiply_adds(model) == 4 * 5 * (3 * 3 * 2) + 4 * 5 * (6 * 5)


def test_all_ways_to_features_give_the_same_numbers(bench):
    task1 = bench.recognition
    model = task1.inception.outputs(task1.stand_in()[0], (task1.LAYER,))
    images = np.repeat(np.arange(0, 256, 8, np.uint8), 24 * 24).reshape(32, 24, 24)
    assert len(list(task1.passes(model, images, 2))) == 2
    [(_, [ours])] = task1.extract(model, images, np.arange(32))
    assert ours.std(axis=0).max() > 0.01
    for name, call in task1.competitors(model, images, 3).items():
        theirs = np.concatenate([np.reshape(part, (-1, ours.shape[1])) for part in call()])
        assert len(theirs) == (32 if "batches" in name else 3)
        assert np.allclose(theirs, ours[: len(theirs)], atol=1e-5), name


def test_last_layers_are_trained(bench):
    values, target = bench.recognition.example()
    fit = bench.recognition.keras_head(values, target)
    assert fit(20).history["loss"][0] > fit(20).history["loss"][0]
    sweeps = bench.recognition.sweep_all(values, target, 20)
    assert sum(len(heads) for heads, *_ in sweeps) == 60
    assert max(sweeps[-1][1].values()) > 0.5


def test_a_growing_set_computes_what_is_new(bench):
    counts = bench.recognition.growing(40, 33)
    assert (counts["computed"], counts["passed"], counts["again"]) == (33, 64, 0)


def test_deeplab_is_measured(bench, eager):
    tiny = {"width": 0.125, "middle_blocks": 0}
    norms = bench.segmentation.norms(17, tiny, batch=2, rounds=1)
    assert min(one["median_ms"] for one in norms["candidates"].values()) > 0
    assert 0 < bench.segmentation.fed(17, tiny, steps=2, rounds=1)["busy"] <= 1


def test_other_layers_compute_the_same_numbers(bench, eager):
    deeplab, maps = bench.segmentation, eager.random.stateless_normal((1, 4, 5, 8), (0, 1))
    layers = deeplab.layers(8)
    for names in ((deeplab.DEPTHWISE, deeplab.SHIFTED), (deeplab.NORM, deeplab.FUSED)):
        # Forward before the training step, which moves the statistics of batch norm.
        for kind in ("forward", "step"):
            each = [deeplab.chained(*layers[name], kind)(maps) for name in names]
            flat = [eager.nest.flatten(one, expand_composites=True) for one in each]
            for one, other in zip(*flat, strict=True):
                assert np.allclose(one, other, rtol=1e-3, atol=1e-3), (names, kind)
