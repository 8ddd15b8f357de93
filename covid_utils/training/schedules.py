"""Learning-rate schedules and the optimisers that use them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from covid_utils.errors import ParameterError

if TYPE_CHECKING:
    import keras


def poly_optimizer(
    name: str,
    learning_rate: float,
    steps: int,
    power: float = 0.9,
    momentum: float = 0.9,
    accumulate: int = 1,
) -> keras.optimizers.Optimizer:
    """Optimiser whose rate falls as (1 - step / steps) ** power (DeepLab's schedule).

    Args:
        name: ``sgd`` (with momentum, as published) or ``adam``.
        learning_rate: At the first step.
        steps: Step at which the rate reaches 0.
        power: Of the decay; the authors' code has 0.9.
        momentum: Of ``sgd``.
        accumulate: Batches whose mean gradient makes one step.

    Raises:
        ParameterError: Unknown name.
    """
    import keras

    class Decay(keras.optimizers.schedules.PolynomialDecay):
        """Counts steps: Keras tells it the number of batches."""

        def __call__(self, batch):
            return super().__call__(batch // accumulate)

    rate = Decay(learning_rate, steps, 0.0, power)
    rest = {"gradient_accumulation_steps": accumulate if accumulate > 1 else None}
    if name == "sgd":
        return keras.optimizers.SGD(rate, momentum=momentum, **rest)
    if name == "adam":
        return keras.optimizers.Adam(rate, **rest)
    raise ParameterError(f"optimizer '{name}' is neither 'sgd' nor 'adam'.")
