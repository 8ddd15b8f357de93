"""The loss of a segmentation stream."""

from __future__ import annotations

from collections.abc import Callable

from covid_utils.data.augment import IGNORE
from covid_utils.models.deeplab import resize_aligned


def segmentation_loss(name: str, class_weights: tuple[float, ...]) -> Callable:
    """Loss of logits against class indices; logits are enlarged to the mask, as published.

    ``cross_entropy`` is the paper's. ``dice_cross_entropy`` adds one minus the soft Dice: in short
    runs, with two per cent of lesion pixels, cross entropy alone ends in "no lesion anywhere".
    ``class_weights`` are those of a pixel in the cross entropy, which is divided by their sum.

    Returns:
        Function from truth (n, height, width), class indices or `IGNORE`, and logits (n, rows,
        columns, classes) to the batch's loss, (1,).
    """
    import tensorflow as tf

    def loss(truth, logits):
        logits = tf.cast(resize_aligned(logits, tuple(truth.shape[1:3])), tf.float32)
        truth = tf.cast(truth, tf.int32)
        counts = tf.cast(truth != IGNORE, tf.float32)
        one_hot = tf.one_hot(truth, len(class_weights))  # all zero where ignored
        weight = tf.reduce_sum(one_hot * tf.constant(class_weights, tf.float32), axis=-1)
        entropy = tf.nn.softmax_cross_entropy_with_logits(one_hot, logits)
        value = tf.reduce_sum(weight * entropy) / tf.maximum(tf.reduce_sum(weight), 1.0)
        if name == "dice_cross_entropy":
            value += _dice_loss(one_hot, tf.nn.softmax(logits) * counts[..., None])
        return value[None]  # Keras shares a vector among the devices, but not a scalar

    return loss


def _dice_loss(one_hot, probability):
    import tensorflow as tf

    def dice(truth, predicted):
        overlap = tf.reduce_sum(truth * predicted, axis=(0, 1, 2))
        total = tf.reduce_sum(truth + predicted, axis=(0, 1, 2))
        # One pixel of smoothing: a class that is absent and not predicted costs nothing.
        return (2 * overlap + 1) / (total + 1)

    classes = one_hot[..., 1:], probability[..., 1:]
    value = 1 - tf.reduce_mean(dice(*classes))
    if one_hot.shape[-1] == 2:
        return value
    # Where two manifestations are mistaken for each other, the extent of disease is still right.
    union = (tf.reduce_sum(part, axis=-1, keepdims=True) for part in classes)
    return value + 1 - tf.reduce_mean(dice(*union))
