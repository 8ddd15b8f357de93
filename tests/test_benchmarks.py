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
def results():
    return json.loads((FOLDER / "results.json").read_text(encoding="utf8"))


def test_the_page_is_that_of_the_stored_results(benchmarks, results):
    run, _, _ = benchmarks
    assert (FOLDER / "README.md").read_text(encoding="utf8") == run.readme(results)


def test_the_stored_results_keep_the_bounds(benchmarks, results):
    run, _, _ = benchmarks
    assert "missed" not in run.readme(results)
    slow = json.loads(json.dumps(results))
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
    from covid_utils.training import bottlenecks

    _, _, recognition = benchmarks
    network, passed = recognition.stand_in()
    model = inception.outputs(network, (recognition.LAYER,))
    grey = np.arange(bottlenecks.BATCH, dtype=np.uint8) * 8
    images = np.broadcast_to(grey[:, None, None], (len(grey), 24, 24))
    assert len(list(recognition._passes(model, images, 2))) == 2
    assert int(passed) == 2 * len(images)
    [(_, [ours])] = bottlenecks.extract(model, images)
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
