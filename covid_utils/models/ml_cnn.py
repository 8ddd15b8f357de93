"""The multi-label CNN of the paper's second task (section 3.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

#: The paper gives no numbers of filters; these are those of the common template with its parts.
FILTERS = (16, 32, 64, 64)


def ml_cnn(labels: int, size: int) -> keras.Model:
    """5 x 5 convolutions with pooling and dropout, two dense layers, sigmoids.

    Returns:
        Uncompiled model from float32 gray images (n, size, size, 1) in [0, 1] to float32
        probabilities (n, labels).
    """
    from keras import Sequential, layers

    stack = [layers.Input((size, size, 1))]
    for count in FILTERS:
        stack += [
            layers.Conv2D(count, 5, padding="same", activation="elu"),
            layers.MaxPooling2D(2),
            layers.Dropout(0.25),
        ]
    stack.append(layers.Flatten())
    for units in (128, 64):
        stack += [layers.Dense(units, activation="elu"), layers.Dropout(0.5)]
    stack.append(layers.Dense(labels, activation="sigmoid"))
    return Sequential(stack, name="ml_cnn")
