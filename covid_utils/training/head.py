"""The retrained last layer: softmax regression on cached features (paper, section 3.3).

Plain gradient descent on batches drawn as in ``retrain.py``, which the authors' code is: for each
place in a batch first a class, all alike, then an image of it. Classes are thus balanced in
training and in the curve, whatever their numbers of images. Heads that differ only in their
learning rate see the same batches, so they are trained side by side: reading a batch costs more
than multiplying it with one more head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri
from threadpoolctl import threadpool_limits

from covid_utils.data.lazy import LazyRows
from covid_utils.errors import ParameterError

#: Images that an evaluation during training looks at, as in ``retrain.py``.
EVALUATION_BATCH = 100
#: Images read at a time where all of a set are looked at.
BLOCK = 1024


@dataclass(frozen=True)
class HeadSettings:
    """Settings of `train`; the defaults are the paper's (section 3.3).

    Attributes:
        steps: Gradient steps.
        batch_size: Images a step, drawn with replacement, each class with the same probability.
        learning_rate: Of plain gradient descent.
        evaluate_every: Steps between two points of the curve.
        standardise: Train on features with mean 0 and variance 1. The paper does not, and needs
            not: its ImageNet features at ``mixed10`` are large enough. Those of earlier blocks or
            random weights are so small that 2800 steps at rate 0.01 end far from convergence.
        seed: Of the initial weights and the batches.
    """

    steps: int = 2800
    batch_size: int = 100
    learning_rate: float = 0.01
    evaluate_every: int = 10
    standardise: bool = False
    seed: int = 2020


@dataclass(frozen=True)
class Lesson:
    """What a head learns from.

    Attributes:
        features: float32 (n, channels); an array, or rows read when they are used.
        train: Positions of the training images in ``features``.
        validation: Positions of the validation images; they never change the weights.
        target: int (n,), class of each image of ``features``.
        classes: Number of classes.
    """

    features: np.ndarray | LazyRows
    train: np.ndarray
    validation: np.ndarray
    target: np.ndarray
    classes: int


@dataclass(frozen=True)
class Head:
    """A trained last layer.

    Attributes:
        kernel: float32 (channels, classes).
        bias: float32 (classes,).
    """

    kernel: np.ndarray
    bias: np.ndarray

    @property
    def parameters(self) -> int:
        """Number of trained values: 4,098 for two classes on 2048 features."""
        return self.kernel.size + self.bias.size

    def probabilities(self, features: np.ndarray | LazyRows) -> np.ndarray:
        """Softmax output, float32 (n, classes), for features (n, channels)."""
        parts = [features[first : first + BLOCK] for first in range(0, len(features), BLOCK)]
        logits = [part @ self.kernel + self.bias for part in parts]
        return softmax(np.concatenate([np.empty((0, len(self.bias)), np.float32), *logits]))


@dataclass(frozen=True)
class Sweep:
    """Heads trained on the same batches with several learning rates, as they were at some steps.

    Attributes:
        rates: Learning rates.
        steps: Steps at which the heads were kept, ascending.
        heads: Rate and step -> head.
        history: A row an evaluation: ``rate, step, subset, accuracy, cross_entropy``; training
            batches, and as many validation images drawn at random.
        accuracy: Rate and step -> accuracy of all validation images; empty without any.
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


def train(lesson: Lesson, settings: HeadSettings) -> tuple[Head, pd.DataFrame]:
    """Train one head.

    Returns:
        The head after the last step, as the paper keeps it (nothing is selected on validation),
        and its curve, see `Sweep.history`.
    """
    key = (settings.learning_rate, settings.steps)
    swept = sweep(lesson, settings, (settings.learning_rate,), (settings.steps,))
    return swept.heads[key], swept.history


def sweep(
    lesson: Lesson, settings: HeadSettings, rates: tuple[float, ...], steps: tuple[int, ...]
) -> Sweep:
    """Train heads with several learning rates in one pass over the batches.

    Each head is, up to rounding, the one that `train` gives for its rate and number of steps: the
    batches depend on the seed alone, and a longer training begins as a shorter one does.

    Args:
        lesson: What to learn from.
        settings: How; ``learning_rate`` and ``steps`` are not looked at.
        rates: Learning rates.
        steps: Numbers of steps after which to keep the heads, each at least 1.

    Raises:
        ParameterError: A number of steps below 1.
    """
    if min(steps) < 1:
        raise ParameterError(f"steps: {min(steps)} is no number of steps; use 1 or more.")
    with threadpool_limits(1, "blas"):
        return _sweep(lesson, settings, rates, steps)


def _sweep(
    lesson: Lesson, settings: HeadSettings, rates: tuple[float, ...], steps: tuple[int, ...]
) -> Sweep:
    """The loop of `sweep`. Its matrices are small: more than one thread each only wait."""
    state = _Heads(lesson, settings, np.array(rates, np.float32))
    rng = np.random.default_rng(settings.seed)
    # A generator of its own: looking at validation images must not change the training batches.
    watching = np.random.default_rng([settings.seed, 1])
    state.start(rng)
    train, validation = (_balanced(part, lesson) for part in (lesson.train, lesson.validation))
    points, heads, accuracy = [], {}, {}
    for step in range(1, max(steps) + 1):
        drawn = train(rng, settings.batch_size)
        seen = step == 1 or step % settings.evaluate_every == 0
        watched = []
        if seen and len(lesson.validation):
            watched = state.look(validation(watching, EVALUATION_BATCH), step)
        points += state.descend(drawn, step if seen else 0) + watched
        if step in steps:
            kept = state.heads()
            heads |= {(rate, step): head for rate, head in zip(rates, kept, strict=True)}
            accuracy |= {(rate, step): hit for rate, hit in zip(rates, state.score(), strict=False)}
    return Sweep(rates, tuple(sorted(steps)), heads, _history(points, rates), accuracy)


def _balanced(
    positions: np.ndarray, lesson: Lesson
) -> Callable[[np.random.Generator, int], np.ndarray]:
    """A draw of positions with replacement: first a class that occurs, then an image of it."""
    target = lesson.target[positions]
    order = np.argsort(target, kind="stable")
    counts = np.bincount(target, minlength=lesson.classes)
    starts, present = np.cumsum(counts) - counts, np.flatnonzero(counts)

    def draw(rng: np.random.Generator, number: int) -> np.ndarray:
        of_class = present[rng.integers(0, len(present), number)]
        within = (rng.random(number) * counts[of_class]).astype(np.int64)
        return positions[order[starts[of_class] + within]]

    return draw


class _Heads:
    """Heads in training, one a learning rate, side by side in one matrix (channels, rates x K)."""

    def __init__(self, lesson: Lesson, settings: HeadSettings, rates: np.ndarray):
        self._lesson, self._rates, self._classes = lesson, rates, lesson.classes
        self._channels = lesson.features.shape[1]
        self._shift, self._scale = _standardisation(lesson, settings.standardise)
        self._is_plain = not settings.standardise

    def start(self, rng: np.random.Generator) -> None:
        """Draw the initial weights, the same for all rates: normal, cut off at two deviations."""
        uniform = rng.uniform(*ndtr([-2.0, 2.0]), (self._channels, self._classes))
        kernel = 0.001 * ndtri(uniform)
        self._kernel = np.tile(kernel.astype(np.float32), len(self._rates))
        self._bias = np.zeros(len(self._rates) * self._classes, np.float32)

    def _batch(self, positions: np.ndarray) -> np.ndarray:
        batch = self._lesson.features[positions]
        if self._is_plain:
            return batch
        batch = batch - self._shift
        batch *= self._scale
        return batch

    def _probabilities(self, batch: np.ndarray) -> np.ndarray:
        logits = batch @ self._kernel
        logits += self._bias
        return softmax(logits.reshape(len(batch), len(self._rates), self._classes))

    def descend(self, positions: np.ndarray, step: int) -> list:
        """One step of gradient descent; a point of the curve, as it was before, if ``step``."""
        batch, truth = self._batch(positions), self._lesson.target[positions]
        error = self._probabilities(batch)
        points = [(step, "train", *_quality(error, truth))] if step else []
        error[np.arange(len(truth)), :, truth] -= 1
        error *= (self._rates / len(truth))[:, None]
        flat = error.reshape(len(truth), -1)
        self._kernel -= batch.T @ flat
        self._bias -= flat.sum(axis=0)
        return points

    def look(self, positions: np.ndarray, step: int) -> list:
        """A point of the validation curve."""
        found = self._probabilities(self._batch(positions))
        return [(step, "validation", *_quality(found, self._lesson.target[positions]))]

    def score(self) -> np.ndarray:
        """Accuracy of each rate on all validation images; none without any."""
        watched = self._lesson.validation
        if not len(watched):
            return np.empty(0)
        hits = np.zeros(len(self._rates))
        for first in range(0, len(watched), BLOCK):
            part = watched[first : first + BLOCK]
            said = self._probabilities(self._batch(part)).argmax(axis=-1)
            hits += (said == self._lesson.target[part][:, None]).sum(axis=0)
        return hits / len(watched)

    def heads(self) -> list[Head]:
        """The heads as they are now.

        The standardisation becomes part of the weights, so a head takes features as they are.
        """
        kernel = (self._kernel * self._scale[:, None]).reshape(self._channels, -1, self._classes)
        bias = self._bias.reshape(-1, self._classes)
        each = (np.ascontiguousarray(kernel[:, rate]) for rate in range(len(self._rates)))
        return [Head(k, b - self._shift @ k) for k, b in zip(each, bias, strict=True)]


def _standardisation(lesson: Lesson, wanted: bool) -> tuple[np.ndarray, np.ndarray]:
    """What to subtract from the features, then to multiply them with: float32 (channels,) each."""
    channels = lesson.features.shape[1]
    if not wanted:
        return np.zeros(channels, np.float32), np.ones(channels, np.float32)
    total, squares = np.zeros((2, channels))
    for first in range(0, len(lesson.train), BLOCK):
        part = lesson.features[lesson.train[first : first + BLOCK]].astype(np.float64)
        total += part.sum(axis=0)
        squares += (part**2).sum(axis=0)
    mean = total / len(lesson.train)
    spread = np.sqrt(np.maximum(squares / len(lesson.train) - mean**2, 0))
    # A channel that never varies says nothing; it stays at 0 instead of dividing by 0.
    scale = np.where(spread > 1e-6, 1 / np.maximum(spread, 1e-6), 0)
    return mean.astype(np.float32), scale.astype(np.float32)


def _quality(probability: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy and cross entropy of each rate, from probabilities (n, rates, classes)."""
    of_truth = probability[np.arange(len(truth)), :, truth]
    hits = (probability.argmax(axis=-1) == truth[:, None]).mean(axis=0)
    return hits, -np.log(np.maximum(of_truth, 1e-12)).mean(axis=0)


def _history(points: list, rates: tuple[float, ...]) -> pd.DataFrame:
    """Points of the curves as a table, a row a rate and point."""
    columns = ["rate", "step", "subset", "accuracy", "cross_entropy"]
    if not points:
        return pd.DataFrame(columns=columns)
    steps, subsets, accuracy, entropy = zip(*points, strict=True)
    table = {
        "rate": np.tile(rates, len(points)),
        "step": np.repeat(steps, len(rates)),
        "subset": np.repeat(subsets, len(rates)),
        "accuracy": np.concatenate(accuracy).astype(float),
        "cross_entropy": np.concatenate(entropy).astype(float),
    }
    return pd.DataFrame(table, columns=columns).sort_values(
        "rate", kind="stable", ignore_index=True
    )
