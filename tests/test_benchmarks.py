"""The benchmarks' page tells the stored results, the bounds hold in them, and rivals do our job."""

import json
import sys

import cv2
import numpy as np
import pytest

from covid_utils import paths
from covid_utils.data import augment

FOLDER = paths.PROJECT / "benchmarks"


@pytest.fixture(scope="module")
def benchmarks():
    """The modules ``run``, ``speed`` and ``recognition``, as `make bench` imports them."""
    sys.path.insert(0, str(FOLDER))
    try:
        import recognition
        import run
        import speed

        yield run, speed, recognition
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def segmentation(benchmarks):
    return benchmarks[0].segmentation


@pytest.fixture(scope="module")
def results():
    return json.loads((FOLDER / "results.json").read_text(encoding="utf8"))


def test_the_page_is_that_of_the_stored_results(benchmarks, results):
    run, _, _ = benchmarks
    assert (FOLDER / "README.md").read_text(encoding="utf8") == run.readme(results)


def test_the_stored_results_keep_the_bounds(benchmarks, results):
    run, _, _ = benchmarks
    slow = json.loads(json.dumps(results))
    # DeepLab-v3+ is reported as it is, see below.
    slow.pop("segmentation", None)
    assert "missed" not in run.readme(slow)
    slow["comparisons"]["augmentation"]["ours"]["median_ms"] *= 100
    slow["input pipeline"][0]["peak_memory_mib"] *= 2
    task = slow["recognition"]
    task["features"]["candidates"]["ours"]["median_ms"] *= 100
    task["heads"]["candidates"]["ours"]["median_ms"] *= 100
    task["growing"]["computed"] += 1
    task["growing"]["again"] += 1
    assert run.readme(slow).count("**missed**") == 8


def test_scipy_is_given_the_same_map(benchmarks):
    _, speed, _ = benchmarks
    image, mask = (cv2.resize(part, (speed.SIDE, speed.SIDE)) for part in speed.chest())
    ranges = augment.Ranges()
    matrix = augment.draw_matrix(np.random.default_rng(4), speed.SIDE, ranges)
    theirs, their_mask = speed._scipy(image, mask, np.random.default_rng(4), ranges)
    inner = slice(60, -60)
    difference = np.abs(augment.warp(image, matrix).astype(int) - theirs)[inner, inner]
    assert np.median(difference) <= 1
    same = augment.warp(mask, matrix, is_mask=True) == their_mask
    assert same[inner, inner].mean() > 0.99


def test_the_stored_results_are_of_the_full_size(benchmarks, results):
    _, _, recognition = benchmarks
    task = results["recognition"]
    assert task["features"]["images"] == recognition.IMAGES
    assert task["heads"]["heads"] >= 30
    assert task["heads"]["steps"] == 2800
    assert task["growing"]["added"] == 1000


def test_multiply_adds_are_counted_from_the_layers(benchmarks):
    import keras

    _, _, recognition = benchmarks
    image = keras.Input((9, 9, 3))
    small = keras.layers.Conv2D(4, (3, 1), strides=2, use_bias=False)(image)
    model = keras.Model(image, keras.layers.Conv2D(5, 1)(keras.layers.ReLU()(small)))
    assert recognition.multiply_adds(model) == 4 * 5 * (3 * 3 * 4) + 4 * 5 * (4 * 5)


def test_the_rivals_make_the_same_features(benchmarks):
    from covid_utils.models import inception
    from covid_utils.training import features

    _, _, recognition = benchmarks
    network, passed = recognition.stand_in()
    model = inception.outputs(network, (recognition.LAYER,))
    grey = np.arange(features.BATCH, dtype=np.uint8) * 8
    images = np.broadcast_to(grey[:, None, None], (len(grey), 24, 24))
    assert len(list(recognition._passes(model, images, 2))) == 2
    assert int(passed) == 2 * len(images)
    [(_, [ours])] = features.extract(model, images, np.arange(len(images)))
    assert ours.std(axis=0).max() > 0.01
    for name, rival in recognition._keras(model, images, 3).items():
        found = rival()
        count = len(images) if name == recognition.BATCHES else 3
        assert np.allclose(np.reshape(found, (count, -1)), ours[:count], atol=1e-5), name


def test_the_rival_head_learns(benchmarks):
    _, _, recognition = benchmarks
    values, target = recognition.cached()
    fit = recognition.keras_head(values, target)
    first, later = (fit(20).history["loss"][0] for _ in range(2))
    assert later < first < 2
    swept = recognition.sweep_all(values, target, 20)
    assert len(swept) * len(swept[0].heads) == 60
    assert max(swept[-1].accuracy.values()) > 0.5


def test_a_set_that_grows_computes_what_is_new(benchmarks):
    _, _, recognition = benchmarks
    found = recognition.growing(40, 33)
    assert found == {"stored": 40, "added": 33, "computed": 33, "passed": 64, "again": 0}


TINY = {"width": 0.125, "middle_blocks": 0}


@pytest.fixture(scope="module")
def tiny(segmentation):
    """The section on DeepLab-v3+, measured with a network and images too small to tell anything."""
    return {
        "memory": segmentation.memory(17, TINY),
        "passes": segmentation.passes((17,), TINY, 1),
        "parts": segmentation.parts(3, 8, 1),
        "norms": _untraced(segmentation.norms, 17, TINY, 1),
        "fed": _untraced(segmentation.fed, 17, 2, 1, TINY),
    }


def _untraced(function, *arguments):
    """Call it without tracing, which takes longer than a tiny network."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        return function(*arguments)
    finally:
        tf.config.run_functions_eagerly(False)


def test_deeplab_is_measured(tiny):
    passes = tiny["passes"]
    assert passes["matmul_gflops"] > 0
    assert [(one["side"], one["kind"]) for one in passes["candidates"]] == [
        (17, "forward"),
        (17, "step"),
    ]
    for one in passes["candidates"]:
        clocks = ("median_ms", "median_cpu_ms", "trace_s", "first_s", "multiply_adds")
        assert min(one[name] for name in clocks) > 0
    assert [*tiny["norms"]["candidates"]] == ["ours", "Keras's batch norm"]
    assert min(one["median_ms"] for one in tiny["norms"]["candidates"].values()) > 0
    assert tiny["memory"]["peak_mib"] >= tiny["memory"]["built_mib"] > 100
    assert 0 < tiny["fed"]["busy"] <= 1


def test_the_page_tells_deeplab_and_what_it_misses(benchmarks, results, tiny):
    run, _, _ = benchmarks
    assert len(run.shares_of_unit(tiny["parts"]["step"])) == 3
    assert sum(run.shares_of_unit(tiny["parts"]["step"]).values()) == pytest.approx(1)
    found = json.loads(json.dumps(tiny))
    for one in found["passes"]["candidates"]:
        one["median_ms"] = 1e-9
    found["fed"]["busy"] = run.LEAST_BUSY
    one = {"kind": "step", "multiply_adds": 10**9, "median_ms": 60}
    assert run.share_of_rate(one, 200) == pytest.approx(0.5)
    without = {name: part for name, part in results.items() if name != "segmentation"}
    assert "DeepLab" not in run.readme(without)
    assert run.readme(without | {"segmentation": found}).count("**missed**") == 0
    for one in found["passes"]["candidates"]:
        one["median_ms"] = 1e9
    found["fed"]["busy"] = 0.949
    assert run.readme(without | {"segmentation": found}).count("**missed**") == 3


def test_the_stored_deeplab_is_of_the_full_size(segmentation, results):
    if "segmentation" not in results:
        pytest.skip("not measured yet")
    found = results["segmentation"]
    each = found["passes"]["candidates"]
    wanted = [(side, kind) for side in segmentation.SIZES for kind in segmentation.PASSES]
    assert [(one["side"], one["kind"]) for one in each] == wanted
    assert each[-1]["multiply_adds"] == pytest.approx(51.2e9, rel=0.01)
    assert (found["parts"]["side"], found["parts"]["channels"]) == (32, 728)
    assert found["memory"]["side"] == segmentation.SIZES[-1]
    assert found["norms"]["side"] == segmentation.NORM_SIDE
    assert found["norms"]["shape"] == segmentation.NORM_SHAPE
    assert found["fed"]["side"] == segmentation.FED_SIDE
    assert found["fed"]["steps"] == segmentation.FED_STEPS


def test_multiply_adds_of_depthwise_convolutions_count(segmentation):
    import keras

    image = keras.Input((9, 9, 3))
    small = keras.layers.DepthwiseConv2D((3, 1), strides=2, depth_multiplier=2)(image)
    model = keras.Model(image, keras.layers.Conv2D(5, 1)(keras.layers.ReLU()(small)))
    assert segmentation.multiply_adds(model) == 4 * 5 * (3 * 3 * 2) + 4 * 5 * (6 * 5)


def test_multiply_adds_of_the_published_network(segmentation):
    full = segmentation.network(513, segmentation.FULL)
    assert segmentation.multiply_adds(full) == pytest.approx(54e9, rel=0.02)


def test_a_step_trains_deeplab(segmentation):
    import tensorflow as tf

    model = segmentation.network(17, TINY)
    before = [weight.numpy() for weight in model.trainable_variables]
    update, given = segmentation.step(model), map(tf.constant, segmentation.pairs(2, 17))
    loss = float(_untraced(update, *given))
    assert 0 < loss < 100
    changed = [
        not np.array_equal(old, new.numpy())
        for old, new in zip(before, model.trainable_variables, strict=True)
    ]
    assert np.mean(changed) > 0.9


def test_the_other_ways_make_the_same_numbers(segmentation):
    import tensorflow as tf

    maps = tf.random.stateless_normal((1, 4, 5, 8), (0, 1))
    each = segmentation.layers(8)
    pairs = (
        (segmentation.DEPTHWISE, segmentation.SHIFTED),
        (segmentation.NORM, segmentation.FUSED),
    )
    for names in pairs:
        ours, other = (each[name] for name in names)
        # Before the training step, which moves the statistics of batch norm.
        found = [segmentation.forwards(layer)(maps) for layer, _ in (ours, other)]
        assert np.allclose(*found, atol=1e-4), names
        found = [
            tf.nest.flatten(segmentation.gradients(*one)(maps), expand_composites=True)
            for one in (ours, other)
        ]
        for theirs, mine in zip(*found, strict=True):
            assert np.allclose(theirs, mine, rtol=1e-3, atol=1e-3), names


def test_sections_are_measured_one_by_one(benchmarks, results, monkeypatch):
    run, _, _ = benchmarks
    monkeypatch.setitem(run.SECTIONS, "segmentation", lambda: "new")
    monkeypatch.setattr(run, "_processor", lambda: "another")
    with pytest.raises(SystemExit, match="another machine"):
        run.measure(["segmentation"], results)
    with pytest.raises(SystemExit, match="No section phantom"):
        run.measure(["phantom"], results)
    own = {"processor": "another", "cores": 2, "python": "3", "onednn": True}
    monkeypatch.setattr(run.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(run.platform, "python_version", lambda: "3")
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    found = run.measure(["segmentation"], results | {"machine": own})
    assert found == results | {"machine": own, "segmentation": "new"}
