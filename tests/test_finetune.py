"""Fine-tuning, on a toy in place of Inception-v3."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import toy_inception
from builders import manifest

from covid_utils.data import cache
from covid_utils.data.images import Preprocessing
from covid_utils.training import finetune, head
from covid_utils.training.features import Extraction
from covid_utils.training.recognition import Task, study

pytestmark = pytest.mark.usefixtures("eager")

NAMES = ("dark", "bright")
SETTINGS = {"before": "mixed2", "epochs": 2, "rate": 0.01, "seed": 1}
#: Constants of the module as these tests need them.
CONSTANTS = {"PATIENCE": 5, "BLOCK_FACTOR": 0.5, "BATCH": 8}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """One cache for all tests: what a toy makes of an image never changes."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def images(home, monkeypatch):
    """Thirty noisy images of which every other is bright in its middle, and their extraction."""
    monkeypatch.setenv("COVID_HOME", str(home))
    for name, value in CONSTANTS.items():
        monkeypatch.setattr(finetune, name, value)
    toy_inception.install(monkeypatch)
    rows = manifest({f"p{number}": 1 for number in range(30)})
    rows["subset"] = (["train"] * 5 + ["validation"] * 3 + ["test"] * 2) * 3
    rows["target"] = np.arange(30) % 2
    pixels = np.random.default_rng(4).integers(0, 120, (30, 16, 16)).astype(np.uint8)
    pixels[1::2, 4:12, 4:12] += 60
    content = dict(zip(rows["image_id"], pixels, strict=True))
    prepared = lambda rows, *_: np.stack([content[name] for name in rows["image_id"]])  # noqa: E731
    monkeypatch.setattr(cache, "prepared", prepared)
    extraction = Extraction(rows, home, Preprocessing(16), "imagenet", "mixed3", 3)
    task = Task("dark or bright", rows, NAMES, run=2, split="R3")
    return SimpleNamespace(rows=rows, extraction=extraction, task=task)


def unwatched(images):
    """Let validation images take no part: the last epoch then counts."""
    subset = images.rows["subset"].replace("validation", "unused")
    images.task = replace(images.task, rows=images.rows.assign(subset=subset))


def frozen_head(images, steps=30):
    """The head on the frozen features, with its predictions, and its accuracy."""
    last = images.extraction.last
    table = images.extraction.features((last,))[last]
    (one,) = study(
        table, [images.task], head.PAPER | {"steps": steps, "batch_size": 10, "learning_rate": 0.1}
    )
    return one.fitted(0.1, steps), one.accuracy


def tuned(images, start=None, **changes):
    start = start or frozen_head(images)[0].head
    return finetune.train(images.extraction, images.task, start, **(SETTINGS | changes))


def steps_of(network, model):
    """Name of each layer of the trained part -> how far each of its weights moved."""
    return {
        layer.name: [
            np.abs(new - old)
            for old, new in zip(
                network.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True
            )
        ]
        for layer in model.layers
        if layer.weights and layer.name != "last_layer"
    }


def moved(network, model):
    return {name: [bool(w.any()) for w in ws] for name, ws in steps_of(network, model).items()}


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def mean_loss(table):
    of_truth = np.where(table["truth"] == "bright", table["p_bright"], table["p_dark"])
    return -np.log(of_truth).mean()


def test_the_trained_part_starts_as_the_frozen_network(images):
    fitted, accuracy = frozen_head(images)
    expected = fitted.predictions[["p_dark", "p_bright"]].to_numpy()
    for before in ("mixed1", "mixed3"):
        model = finetune.build(images.extraction.network, before, fitted.head)
        maps = images.extraction.maps(before)
        every = finetune.predict(model, maps, np.arange(30))
        # The maps are kept in half precision.
        assert np.allclose(every, expected, atol=5e-3)
        two = finetune.predict(model, maps, np.array([7, 2]))
        assert np.allclose(two, every[[7, 2]], atol=1e-6)
    result = tuned(images, fitted.head)
    assert list(result.history) == ["epoch", "subset", "accuracy", "cross_entropy"]
    points = [(0, "validation"), *((e, s) for e in (1, 2) for s in ("train", "validation"))]
    assert list(zip(result.history["epoch"], result.history["subset"], strict=True)) == points
    start = result.history.iloc[0]
    assert start["accuracy"] == pytest.approx(accuracy[0.1, 30])
    assert start["cross_entropy"] == pytest.approx(mean_loss(fitted.part("validation")), abs=5e-3)
    still = tuned(images, fitted.head, epochs=0)
    assert not any(any(ws) for ws in moved(images.extraction.network, still.model).values())
    last = still.model.get_layer("last_layer").get_weights()
    assert same(last, [fitted.head.kernel, fitted.head.bias])


def test_weights_above_the_cut_learn_and_the_others_stay(images):
    network = images.extraction.network
    kept = [weight.copy() for weight in network.get_weights()]
    unwatched(images)
    fitted, _ = frozen_head(images)
    result = tuned(images, fitted.head)
    # Kernel and bias; beta, and the statistics, which stay.
    assert moved(network, result.model) == {
        "conv_mixed2": [True, True],
        "norm_mixed2": [True, False, False],
        "conv_mixed3": [True, True],
        "norm_mixed3": [True, False, False],
    }
    kernel, bias = result.model.get_layer("last_layer").get_weights()
    assert not np.array_equal(kernel, fitted.head.kernel)
    assert not np.array_equal(bias, fitted.head.bias)
    assert same(kept, network.get_weights())
    assert network.trainable_weights == []
    convolutions = 9 * 5 * 5 + 5 + 5 + 9 * 5 * 6 + 6 + 6
    assert result.trained == convolutions + 6 * 2 + 2


def test_every_block_has_its_own_rate(images, monkeypatch):
    monkeypatch.setattr(finetune, "BLOCK_FACTOR", 0.1)
    monkeypatch.setattr(finetune, "BATCH", 999)
    expected = {"mixed1": 1e-5, "mixed2": 1e-4, "mixed3": 1e-3, "last layer": 1e-3}
    unwatched(images)
    fitted, _ = frozen_head(images)
    result = tuned(images, fitted.head, before="mixed1", rate=1e-3, epochs=1)
    assert result.rates == pytest.approx(expected)
    # The first step of Adam is as long as the rate, whatever the gradient.
    lengths = steps_of(images.extraction.network, result.model)
    for name in ("mixed1", "mixed2", "mixed3"):
        for kind in ("conv", "norm"):
            steps = lengths[f"{kind}_{name}"][0]
            assert np.median(steps) == pytest.approx(expected[name], rel=0.02)
            assert steps.max() < 1.05 * expected[name]
    step = np.abs(result.model.get_layer("last_layer").get_weights()[0] - fitted.head.kernel)
    assert np.median(step) == pytest.approx(1e-3, rel=0.02)


NAN = float("nan")


def with_losses(monkeypatch, images, losses):
    """Let the validation images have these cross entropies; returns the weights at each."""
    seen, predict = [], finetune.predict
    watched = np.flatnonzero(images.rows["subset"] == "validation")

    def fake(model, maps, positions):
        probabilities = predict(model, maps, positions)
        if np.array_equal(positions, watched):
            truth = images.rows["target"].to_numpy()[watched]
            probabilities[np.arange(len(watched)), truth] = np.exp(-losses[len(seen)])
            seen.append([weight.copy() for weight in model.get_weights()])
        return probabilities

    monkeypatch.setattr(finetune, "predict", fake)
    return seen


@pytest.mark.parametrize(
    ("losses", "patience", "epochs", "best"),
    [
        ([0.9, 0.5, 0.7, 0.6, 0.1], 2, 3, 1),  # stopped two epochs after the best
        ([0.9, 0.5, 0.7, 0.4, 0.6], 2, 4, 3),  # one bad epoch is not enough
        ([0.1, 0.5, 0.4, 0.3, 0.2], 3, 3, 0),  # never better than the frozen network
        ([0.5, 0.5, 0.5, 0.5, 0.5], 2, 2, 0),  # as good is not better
        ([0.9, 0.5, NAN, NAN, NAN], 2, 3, 1),  # a training that breaks down is not better
    ],
)
def test_the_best_epoch_on_validation_is_kept(images, monkeypatch, losses, patience, epochs, best):
    start = frozen_head(images)[0].head
    seen = with_losses(monkeypatch, images, losses)
    monkeypatch.setattr(finetune, "PATIENCE", patience)
    result = tuned(images, start, epochs=4)
    assert result.history["epoch"].max() == epochs
    assert len(seen) == epochs + 1
    assert not same(seen[0], seen[1])
    kept = result.model.get_weights()
    assert [same(kept, one) for one in seen] == [number == best for number in range(epochs + 1)]


def test_the_seed_decides_and_test_images_do_not(images):
    start = frozen_head(images)[0].head
    first, again, other = (tuned(images, start, epochs=1, seed=seed) for seed in (1, 1, 2))
    assert same(first.model.get_weights(), again.model.get_weights())
    assert not other.history.equals(first.history)
    is_test = images.rows["subset"] == "test"
    lied = images.rows.assign(target=images.rows["target"].where(~is_test, 0))
    images.task = replace(images.task, rows=lied)
    blind = tuned(images, start, epochs=1)
    assert same(first.model.get_weights(), blind.model.get_weights())
    assert blind.history.equals(first.history)
