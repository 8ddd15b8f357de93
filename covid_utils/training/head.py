"""The retrained last layer: softmax regression on cached features (paper, section 3.3).

Plain gradient descent on batches drawn at random, as in ``retrain.py``, which the authors' code is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

#: Images that an evaluation during training looks at, as in ``retrain.py``.
EVALUATION_BATCH = 100


@dataclass(frozen=True)
class HeadSettings:
    """Settings of `train`; the defaults are the paper's (section 3.3).

    Attributes:
        steps: Gradient steps.
        batch_size: Images a step, drawn with replacement.
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
class Head:
    """A trained last layer.

    Attributes:
        kernel: float32 (channels, classes).
        bias: float32 (classes,).
        history: A row an evaluation: ``step, subset, accuracy, cross_entropy``.
    """

    kernel: np.ndarray
    bias: np.ndarray
    history: pd.DataFrame

    @property
    def parameters(self) -> int:
        """Number of trained values: 4,098 for two classes on 2048 features."""
        return self.kernel.size + self.bias.size

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Softmax output, float32 (n, classes), for features (n, channels)."""
        return softmax(features @ self.kernel + self.bias)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, shifted so that nothing overflows."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def train(
    features: np.ndarray,
    target: np.ndarray,
    classes: int,
    settings: HeadSettings,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
) -> Head:
    """Train the last layer.

    Args:
        features: float32 (n, channels).
        target: int (n,), class of each image.
        classes: Number of classes.
        settings: How.
        validation: Features and targets for the curve; they never change the weights.

    Returns:
        The head after the last step, as the paper keeps it: nothing is selected on validation.
    """
    rng = np.random.default_rng(settings.seed)
    # A generator of its own: looking at validation images must not change the training batches.
    watching = np.random.default_rng([settings.seed, 1])
    shift, scale = _standardisation(features, settings.standardise)
    features = (features - shift) * scale
    if validation is not None:
        validation = ((validation[0] - shift) * scale, validation[1])
    kernel = (0.001 * rng.standard_normal((features.shape[1], classes))).astype(np.float32)
    bias = np.zeros(classes, np.float32)
    curve = []
    for step in range(1, settings.steps + 1):
        drawn = rng.integers(0, len(features), settings.batch_size)
        batch, truth = features[drawn], target[drawn]
        probability = softmax(batch @ kernel + bias)
        if step == 1 or step % settings.evaluate_every == 0:
            curve.append(_point(step, "train", probability, truth))
            curve += _watched(step, validation, (kernel, bias), watching)
        error = probability
        error[np.arange(len(truth)), truth] -= 1
        error *= np.float32(settings.learning_rate / len(truth))
        kernel -= batch.T @ error
        bias -= error.sum(axis=0)
    # The standardisation becomes part of the weights, so the head takes features as they are.
    kernel = kernel * scale[:, None]
    return Head(kernel, bias - shift @ kernel, pd.DataFrame(curve))


def _standardisation(features: np.ndarray, wanted: bool) -> tuple[np.ndarray, np.ndarray]:
    """What to subtract from the features, then to multiply them with: float32 (channels,) each."""
    channels = features.shape[1]
    if not wanted:
        return np.zeros(channels, np.float32), np.ones(channels, np.float32)
    spread = features.std(axis=0)
    # A channel that never varies says nothing; it stays at 0 instead of dividing by 0.
    scale = np.where(spread > 1e-6, 1 / np.maximum(spread, 1e-6), 0)
    return features.mean(axis=0), scale.astype(np.float32)


def _watched(
    step: int,
    validation: tuple[np.ndarray, np.ndarray] | None,
    weights: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
) -> list[dict]:
    """A point of the validation curve, on images drawn at random; none without any."""
    if validation is None or not len(validation[1]):
        return []
    some = rng.integers(0, len(validation[1]), EVALUATION_BATCH)
    seen = softmax(validation[0][some] @ weights[0] + weights[1])
    return [_point(step, "validation", seen, validation[1][some])]


def _point(step: int, subset: str, probability: np.ndarray, truth: np.ndarray) -> dict:
    of_truth = probability[np.arange(len(truth)), truth]
    return {
        "step": step,
        "subset": subset,
        "accuracy": float(np.mean(probability.argmax(axis=1) == truth)),
        "cross_entropy": float(-np.log(np.maximum(of_truth, 1e-12)).mean()),
    }
