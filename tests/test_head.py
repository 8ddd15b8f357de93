"""The last layer against a numerical gradient, and what must not change it."""

from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from covid_utils.training import head
from covid_utils.training.head import Examples

PLAIN = head.PAPER | {"learning_rate": 0.1, "batch_size": 20, "seed": 7}


@pytest.fixture
def clusters():
    """Three clouds of 60 points in 8 dimensions, far from 0 and of very different spread."""
    rng = np.random.default_rng(1)
    target = np.repeat([0, 1, 2], 60)
    centres = rng.normal(0, 3, (3, 8))
    features = centres[target] + rng.normal(0, 0.5, (180, 8))
    return (features * np.geomspace(0.01, 10, 8) + 2).astype(np.float32), target


def examples(features, target, watched=()):
    """All rows train; those at the positions ``watched`` validate."""
    return Examples(features, np.arange(len(target)), np.array(watched, int), target, 3)


def trained(data, steps=1, **changes):
    """The head of one rate and number of steps, and its curve."""
    settings = PLAIN | changes
    heads, _, history = head.sweep(data, settings, (settings["learning_rate"],), (steps,))
    return heads[settings["learning_rate"], steps], history


def cross_entropy(features, target, kernel, bias):
    logits = features.astype(np.float64) @ kernel + bias
    peak = logits.max(axis=1)
    norm = peak + np.log(np.exp(logits - peak[:, None]).sum(axis=1))
    return float(np.mean(norm - logits[np.arange(len(target)), target]))


def gradient(features, target, start):
    """Numerical gradient of the mean cross entropy: kernel, then bias, in one vector."""

    def loss(weights):
        return cross_entropy(features, target, weights[:-3].reshape(-1, 3), weights[-3:])

    return approx_fprime(np.append(start.kernel, start.bias).astype(float), loss, 1e-6)


def same(first, second):
    return np.array_equal(first.kernel, second.kernel) and np.array_equal(first.bias, second.bias)


@pytest.mark.parametrize(("items", "batch", "tolerance"), [(1, 7, 1e-3), (39, 200_000, 0.02)])
def test_one_step_follows_the_gradient_of_the_mean(items, batch, tolerance):
    features = np.random.default_rng(0).normal(0, 1, (items, 5)).astype(np.float32)
    # As many of each class, because batches are balanced.
    data = examples(features, np.arange(items) % 3)
    # A step at rate 0 leaves the weights where they start.
    before, after = (trained(data, learning_rate=r, batch_size=batch)[0] for r in (0.0, 0.5))
    expected = gradient(features, data.target, before)
    moved = np.append(before.kernel - after.kernel, before.bias - after.bias) / 0.5
    assert np.abs(moved - expected).max() < tolerance * np.abs(expected[:-3]).max()


def test_batches_are_balanced_over_classes_and_images():
    """As retrain.py does: a class first, all alike, then one of its images."""
    target = np.array([0] * 60 + [2] * 3)
    data = examples(np.eye(63, dtype=np.float32), target)
    start, after = (
        trained(data, learning_rate=rate, batch_size=60_000)[0].kernel for rate in (0.0, 1e-3)
    )
    # The gradient of an image's own channel counts how often the image was drawn.
    drawn = (after - start)[np.arange(63), target] / (2 / 3 * 1e-3)
    assert drawn[target == 2].sum() == pytest.approx(0.5, abs=0.02)
    assert drawn[:60] == pytest.approx(np.full(60, 0.5 / 60), rel=0.25)
    assert drawn[60:] == pytest.approx(np.full(3, 0.5 / 3), rel=0.05)


def test_initial_weights_are_small_and_cut_off():
    start, _ = trained(examples(np.zeros((3, 4000), np.float32), np.arange(3)), learning_rate=0.0)
    assert np.abs(start.kernel).max() <= 0.002
    assert start.kernel.std() == pytest.approx(0.00088, rel=0.03), "cut off at two deviations"
    assert not start.bias.any()
    assert start.parameters == 4001 * 3


def test_standardisation_is_folded_into_the_weights(clusters):
    features, target = clusters
    features = np.hstack([features, np.full((180, 1), 5, np.float32)])
    folded, _ = trained(examples(features, target), 200, standardise=True)
    spread = features.std(axis=0)
    spread[-1] = np.inf  # a channel that never varies says nothing
    explicit = (features - features.mean(axis=0)) / spread
    plain, _ = trained(examples(explicit, target), 200)
    for shift in (0, np.float32(0.3)):
        expected = plain.probabilities(explicit + shift / spread)
        assert np.allclose(folded.probabilities(features + shift), expected, atol=5e-4, rtol=0)
    assert (plain.probabilities(explicit).argmax(axis=1) == target).all(), "it has learned"


def test_the_seed_decides_and_watching_does_not(clusters):
    features, target = clusters
    kept = features.copy()
    features.setflags(write=False)
    alone, _ = trained(examples(features, target), 30, standardise=True)
    for watched, every in ((range(9), 10), (range(180), 1)):
        data = examples(features, target, watched)
        other, _ = trained(data, 30, standardise=True, evaluate_every=every)
        assert same(other, alone)
    assert not same(trained(examples(features, target), 30, standardise=True, seed=2)[0], alone)
    assert np.array_equal(features, kept)


@pytest.mark.parametrize("standardise", [False, True])
def test_heads_of_a_sweep_are_those_trained_alone(clusters, standardise):
    data = examples(*clusters, range(0, 180, 3))
    rates, steps = (0.01, 0.03, 0.003), (40, 15)
    heads, accuracy, whole = head.sweep(data, PLAIN | {"standardise": standardise}, rates, steps)
    assert set(heads) == {(rate, step) for rate in rates for step in steps}
    for (rate, step), one in heads.items():
        alone, history = trained(data, step, learning_rate=rate, standardise=standardise)
        assert np.allclose(one.kernel, alone.kernel, rtol=1e-4, atol=1e-6)
        assert np.allclose(one.bias, alone.bias, rtol=1e-4, atol=1e-5)
        curve = whole[(whole["rate"] == rate) & (whole["step"] <= step)]
        for name in ("step", "accuracy", "cross_entropy"):
            assert np.allclose(curve[name].to_numpy(), history[name].to_numpy(), atol=1e-4)
        predicted = one.probabilities(data.features[::3]).argmax(axis=1)
        assert accuracy[rate, step] == pytest.approx((predicted == data.target[::3]).mean())
    kernels = [one.kernel for one in heads.values()]
    assert all(not np.allclose(a, b) for a, b in combinations(kernels, 2))
    assert head.sweep(examples(*clusters), PLAIN, rates, steps)[1] == {}
