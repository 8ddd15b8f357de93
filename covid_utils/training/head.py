"""The retrained last layer: softmax regression on cached features (paper, section 3.3).

Plain gradient descent on batches drawn as in ``retrain.py``, the authors' code: for each place in a
batch first a class, all with the same probability, then an image of it. Classes are thus balanced
in training and in the curve, whatever their numbers of images. Heads that differ only in their
learning rate are trained side by side on the same batches: reading a batch costs more than
multiplying it with one more head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri
from threadpoolctl import threadpool_limits

from covid_utils.errors import ParameterError

#: Validation images per point of the curve, as in ``retrain.py``.
EVALUATION_BATCH = 100
#: Images processed at a time where all images of a set are needed.
BLOCK = 1024


@dataclass(frozen=True)
class HeadSettings:
    """Settings of a training; the defaults are the paper's (section 3.3).

    ``standardise`` trains on features with mean 0 and variance 1. The paper need not: its ImageNet
    features at ``mixed10`` are large enough. Those of earlier blocks or random weights are so small
    that 2800 steps at rate 0.01 end far from convergence.
    """

    steps: int = 2800
    batch_size: int = 100
    learning_rate: float = 0.01
    evaluate_every: int = 10
    standardise: bool = False
    seed: int = 2020


@dataclass(frozen=True)
class Examples:
    """What a head is trained on: features (n, channels), their classes, and positions among them.

    Images at the positions ``validation`` never change the weights.
    """

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
        return softmax(features @ self.kernel + self.bias)


@dataclass(frozen=True)
class Sweep:
    """Heads trained on the same batches with several learning rates, as they were at some steps.

    Attributes:
        rates: Learning rates.
        steps: Steps at which the heads were kept, ascending.
        heads: Rate and step -> head.
        history: One row per evaluation: ``rate, step, subset, accuracy, cross_entropy``; of
            training batches, and of random validation images.
        accuracy: Rate and step -> accuracy on all validation images; empty without any.
    """

    rates: tuple[float, ...]
    steps: tuple[int, ...]
    heads: dict[tuple[float, int], Head]
    history: pd.DataFrame
    accuracy: dict[tuple[float, int], float]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, shifted so that nothing overflows."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers


# The matrices are small: more than one thread each only wait.
@threadpool_limits.wrap(1, "blas")
def sweep(
    data: Examples, settings: HeadSettings, rates: tuple[float, ...], steps: tuple[int, ...]
) -> Sweep:
    """Train heads with several learning rates in one pass over the batches.

    The batches depend on the seed alone, and a longer training begins as a shorter one does.
    Nothing is selected on validation: heads are kept as they are after each number of ``steps``.
    The settings' own rate and steps are not used.

    Raises:
        ParameterError: A number of steps below 1.
    """
    if min(steps) < 1:
        raise ParameterError(f"steps: {min(steps)} is no number of steps; use 1 or more.")
    rng = np.random.default_rng(settings.seed)
    # A generator of its own: drawing validation images must not change the training batches.
    validation_rng = np.random.default_rng([settings.seed, 1])
    stack = _Stack(data, rates, settings.standardise, rng)
    draw_train, draw_validation = (_balanced(part, data) for part in (data.train, data.validation))
    curve, heads, accuracy = [], {}, {}
    for step in range(1, max(steps) + 1):
        chosen = draw_train(rng, settings.batch_size)
        batch, truth = stack.scaled(chosen), data.target[chosen]
        probability = stack.probabilities(batch)
        if step == 1 or step % settings.evaluate_every == 0:
            curve.append((step, "train", *_quality(probability, truth)))
            if len(data.validation):
                shown = draw_validation(validation_rng, EVALUATION_BATCH)
                answers = stack.probabilities(stack.scaled(shown))
                curve.append((step, "validation", *_quality(answers, data.target[shown])))
        stack.descend(batch, truth, probability)
        if step in steps:
            heads |= {(rate, step): head for rate, head in zip(rates, stack.heads(), strict=True)}
            if len(data.validation):
                accuracy |= {(r, step): a for r, a in zip(rates, stack.accuracy(), strict=True)}
    return Sweep(rates, tuple(sorted(steps)), heads, _history(curve, rates), accuracy)


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


class _Stack:
    """Heads in training, one per rate, side by side in one matrix (channels, rates x classes)."""

    def __init__(
        self, data: Examples, rates: tuple[float, ...], standardise: bool, rng: np.random.Generator
    ):
        self._data, self._rates = data, np.array(rates, np.float32)
        self._is_standardised, channels = standardise, data.features.shape[1]
        self._mean, self._scale = np.zeros(channels, np.float32), np.ones(channels, np.float32)
        if standardise:
            self._mean, self._scale = _standardisation(data.features, data.train)
        # All rates start from the same normal weights, cut off at two deviations.
        uniform = rng.uniform(*ndtr([-2.0, 2.0]), (channels, data.classes))
        self._kernel = np.tile((0.001 * ndtri(uniform)).astype(np.float32), len(rates))
        self._bias = np.zeros(len(rates) * data.classes, np.float32)

    def scaled(self, positions: np.ndarray) -> np.ndarray:
        """Features of some images, standardised if the settings say so."""
        batch = self._data.features[positions]
        if self._is_standardised:
            batch -= self._mean
            batch *= self._scale
        return batch

    def probabilities(self, batch: np.ndarray) -> np.ndarray:
        """Softmax of every head, (n, rates, classes)."""
        logits = batch @ self._kernel
        logits += self._bias
        return softmax(logits.reshape(len(batch), len(self._rates), self._data.classes))

    def descend(self, batch: np.ndarray, truth: np.ndarray, probability: np.ndarray) -> None:
        """One step of gradient descent; ``probability`` is used up."""
        probability[np.arange(len(truth)), :, truth] -= 1
        probability *= (self._rates / len(truth))[:, None]
        error = probability.reshape(len(truth), -1)
        self._kernel -= batch.T @ error
        self._bias -= error.sum(axis=0)

    def accuracy(self) -> np.ndarray:
        """Accuracy of each head on all validation images."""
        watched = self._data.validation
        predicted = self.probabilities(self.scaled(watched)).argmax(axis=-1)
        return (predicted == self._data.target[watched][:, None]).mean(axis=0)

    def heads(self) -> list[Head]:
        """The heads as they are now, for features as they are: scaling becomes part of them."""
        shape = (len(self._mean), len(self._rates), self._data.classes)
        kernels = (self._kernel * self._scale[:, None]).reshape(shape)
        biases = self._bias.reshape(shape[1:])
        each = (np.ascontiguousarray(kernels[:, rate]) for rate in range(len(self._rates)))
        return [Head(k, b - self._mean @ k) for k, b in zip(each, biases, strict=True)]


def _standardisation(features: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and inverse deviation of the training images, float32 (channels,) each."""
    total, squares = np.zeros((2, features.shape[1]))
    for first in range(0, len(train), BLOCK):
        part = features[train[first : first + BLOCK]].astype(np.float64)
        total += part.sum(axis=0)
        squares += (part**2).sum(axis=0)
    mean = total / len(train)
    spread = np.sqrt(np.maximum(squares / len(train) - mean**2, 0))
    # A channel that never varies carries no information; it stays at 0 instead of dividing by 0.
    scale = np.where(spread > 1e-6, 1 / np.maximum(spread, 1e-6), 0)
    return mean.astype(np.float32), scale.astype(np.float32)


def _quality(probability: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy and cross entropy of each rate, from probabilities (n, rates, classes)."""
    of_truth = probability[np.arange(len(truth)), :, truth]
    hits = (probability.argmax(axis=-1) == truth[:, None]).mean(axis=0)
    return hits, -np.log(np.maximum(of_truth, 1e-12)).mean(axis=0)


def _history(curve: list, rates: tuple[float, ...]) -> pd.DataFrame:
    """Points of the curves as a table, one row per rate and point."""
    rows = [
        (rate, step, subset, float(accuracy), float(entropy))
        for step, subset, *scores in curve
        for rate, accuracy, entropy in zip(rates, *scores, strict=True)
    ]
    table = pd.DataFrame(rows, columns=["rate", "step", "subset", "accuracy", "cross_entropy"])
    return table.sort_values("rate", kind="stable", ignore_index=True)
