"""The retrained last layer: softmax regression on cached features (paper, section 3.3).

Batches are drawn as in ``retrain.py``, the authors' code: first a class, all with the same
probability, then an image of it. Heads that differ only in their learning rate are trained side by
side on the same batches: reading a batch costs more than multiplying it with one more head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri, softmax
from threadpoolctl import threadpool_limits

#: Validation images per point of the curve, as in ``retrain.py``.
EVALUATION_BATCH = 100
#: The paper's settings (section 3.3), by the names that parameters of notebooks have. Features of
#: earlier blocks or random weights are so small that these steps end far from convergence unless
#: they are brought to mean 0 and variance 1 (``standardise``). The seed is ours.
PAPER = {
    "steps": 2800,
    "batch_size": 100,
    "learning_rate": 0.01,
    "standardise": False,
    "seed": 2020,
}


@dataclass(frozen=True)
class Examples:
    """Features (n, channels), classes ``target`` (n,), and the positions of two subsets in them."""

    features: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    target: np.ndarray
    classes: int


@dataclass(frozen=True)
class Head:
    """A trained last layer: float32 kernel (channels, classes) and bias (classes,)."""

    kernel: np.ndarray
    bias: np.ndarray

    @property
    def parameters(self) -> int:
        """Number of trained values: 4,098 for two classes on 2048 features."""
        return self.kernel.size + self.bias.size

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Softmax output, float32 (n, classes), for features (n, channels)."""
        return softmax(features @ self.kernel + self.bias, axis=-1)


def quality(probability: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy and cross entropy in nats of probabilities (n, classes) or (n, rates, classes)."""
    of_truth = probability[np.arange(len(truth)), ..., truth]
    hits = truth == probability.argmax(axis=-1).T  # (n,) or (rates, n)
    return hits.mean(axis=-1), -np.log(np.maximum(of_truth, 1e-12)).mean(axis=0)


# The matrices are small: more than one thread each only wait.
@threadpool_limits.wrap(1, "blas")
def sweep(
    data: Examples, settings: Mapping, rates: tuple[float, ...], steps: tuple[int, ...]
) -> tuple[dict[tuple[float, int], Head], dict[tuple[float, int], float], pd.DataFrame]:
    """Train heads with several learning rates in one pass over the batches.

    ``settings`` are those of `PAPER`, or parameters of a notebook, perhaps with ``evaluate_every``.
    The batches depend on the seed alone, and a longer training begins as a shorter one does.
    Nothing is selected on validation: heads are kept as they are after each number of ``steps``.

    Returns:
        Heads by rate and steps; their accuracy on all validation images, if there are any; and the
        curve: one row per rate and evaluation, of a training batch or of validation images.
    """
    rng = np.random.default_rng(settings["seed"])
    # A generator of its own: drawing validation images must not change the training batches.
    validation_rng = np.random.default_rng([settings["seed"], 1])
    features, mean, scale = _scaled(data, settings["standardise"])
    draw_train, draw_validation = (_balanced(part, data) for part in (data.train, data.validation))
    matrix = _Matrix(rates, features.shape[1], data.classes, rng)
    curve, heads, accuracy = [], {}, {}

    def add_point(step: int, subset: str, probability: np.ndarray, truth: np.ndarray) -> None:
        hits, entropy = quality(probability, truth)
        for at, rate in enumerate(rates):
            curve.append((rate, step, subset, float(hits[at]), float(entropy[at])))

    for step in range(1, max(steps) + 1):
        chosen = draw_train(rng, settings["batch_size"])
        batch, truth = features[chosen], data.target[chosen]
        probability = matrix.predict(batch)
        if step == 1 or step % settings.get("evaluate_every", 10) == 0:
            add_point(step, "train", probability, truth)
            if len(data.validation):
                some = draw_validation(validation_rng, EVALUATION_BATCH)
                shown = matrix.predict(features[some])
                add_point(step, "validation", shown, data.target[some])
        matrix.descend(batch, probability, truth)
        if step in steps:
            kept = matrix.heads(mean, scale)
            heads |= {(rate, step): head for rate, head in zip(rates, kept, strict=True)}
        if step in steps and len(data.validation):
            probability = matrix.predict(features[data.validation])
            hits, _ = quality(probability, data.target[data.validation])
            accuracy |= {(rate, step): share for rate, share in zip(rates, hits, strict=True)}
    columns = ["rate", "step", "subset", "accuracy", "cross_entropy"]
    history = pd.DataFrame(curve, columns=columns).sort_values("rate", kind="stable")
    return heads, accuracy, history.reset_index(drop=True)


class _Matrix:
    """Heads of several rates, side by side in one matrix (channels, rates x classes)."""

    def __init__(
        self, rates: tuple[float, ...], channels: int, classes: int, rng: np.random.Generator
    ):
        self.rates, self.shape = np.array(rates, np.float32), (len(rates), classes)
        # All start from the same normal weights, cut off at two deviations.
        uniform = rng.uniform(*ndtr([-2.0, 2.0]), (channels, classes))
        self.kernel = np.tile((0.001 * ndtri(uniform)).astype(np.float32), len(rates))
        self.bias = np.zeros(len(rates) * classes, np.float32)

    def predict(self, batch: np.ndarray) -> np.ndarray:
        """Probabilities (n, rates, classes) for features (n, channels)."""
        logits = batch @ self.kernel
        logits += self.bias
        return softmax(logits.reshape(-1, *self.shape), axis=-1)

    def descend(self, batch: np.ndarray, probability: np.ndarray, truth: np.ndarray) -> None:
        """One step of gradient descent, each head at its own rate; overwrites probabilities."""
        probability[np.arange(len(truth)), :, truth] -= 1
        probability *= (self.rates / len(truth))[:, None]
        error = probability.reshape(len(truth), -1)
        self.kernel -= batch.T @ error
        self.bias -= error.sum(axis=0)

    def heads(self, mean: np.ndarray, scale: np.ndarray) -> list[Head]:
        """The head of each rate, for features before they were shifted and scaled."""
        kernels = (self.kernel * scale[:, None]).reshape(-1, *self.shape)
        kernels = [np.ascontiguousarray(kernels[:, at]) for at in range(len(self.rates))]
        biases = self.bias.reshape(self.shape)
        return [Head(k, b - mean @ k) for k, b in zip(kernels, biases, strict=True)]


def _balanced(
    positions: np.ndarray, data: Examples
) -> Callable[[np.random.Generator, int], np.ndarray]:
    """A draw of positions with replacement: first a class that occurs, then an image of it."""
    target = data.target[positions]
    order = np.argsort(target, kind="stable")
    counts = np.bincount(target, minlength=data.classes)
    starts, present = np.cumsum(counts) - counts, np.flatnonzero(counts)

    def draw(rng: np.random.Generator, number: int) -> np.ndarray:
        of_class = present[rng.integers(0, len(present), number)]
        within = (rng.random(number) * counts[of_class]).astype(np.int64)
        return positions[order[starts[of_class] + within]]

    return draw


def _scaled(data: Examples, standardise: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features to train on, and what they were shifted and multiplied by, float32 (channels,)."""
    channels = data.features.shape[1]
    if not standardise:
        return data.features, np.zeros(channels, np.float32), np.ones(channels, np.float32)
    shown = data.features[data.train]
    mean = shown.mean(axis=0, dtype=np.float64)
    squares = np.einsum("ij,ij->j", shown, shown, dtype=np.float64)
    spread = np.sqrt(np.maximum(squares / len(shown) - mean**2, 0))
    # A channel that never varies carries no information; it stays at 0 instead of dividing by 0.
    scale = np.where(spread > 1e-6, 1 / np.maximum(spread, 1e-6), 0).astype(np.float32)
    mean = mean.astype(np.float32)
    features = data.features - mean
    features *= scale
    return features, mean, scale
