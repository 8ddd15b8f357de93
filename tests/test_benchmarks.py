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
    """The modules ``run`` and ``speed``, as `make bench` imports them."""
    sys.path.insert(0, str(FOLDER))
    try:
        import run
        import speed

        yield run, speed
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def results():
    return json.loads((FOLDER / "results.json").read_text(encoding="utf8"))


def test_the_page_is_that_of_the_stored_results(benchmarks, results):
    run, _ = benchmarks
    assert (FOLDER / "README.md").read_text(encoding="utf8") == run.readme(results)


def test_the_stored_results_keep_the_bounds(benchmarks, results):
    run, _ = benchmarks
    assert "missed" not in run.readme(results)
    slow = json.loads(json.dumps(results))
    slow["comparisons"]["augmentation"]["ours"]["median_ms"] *= 100
    slow["input pipeline"][0]["peak_memory_mib"] *= 2
    assert run.readme(slow).count("**missed**") == 3


def test_scipy_is_given_the_same_map(benchmarks):
    _, speed = benchmarks
    image, mask = (cv2.resize(part, (speed.SIDE, speed.SIDE)) for part in speed.chest())
    ranges = augment.Ranges()
    matrix = augment.draw_matrix(np.random.default_rng(4), speed.SIDE, ranges)
    theirs, their_mask = speed._scipy(image, mask, np.random.default_rng(4), ranges)
    inner = slice(60, -60)
    difference = np.abs(augment.warp(image, matrix).astype(int) - theirs)[inner, inner]
    assert np.median(difference) <= 1
    same = augment.warp(mask, matrix, is_mask=True) == their_mask
    assert same[inner, inner].mean() > 0.99
