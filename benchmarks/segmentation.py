"""Speed and memory of DeepLab-v3+: passes, their layers, and training on the input pipeline.

Random weights and images are enough. Functions are traced, never compiled by XLA.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import keras
import numpy as np
import tensorflow as tf
import timing

from covid_utils.data import augment
from covid_utils.models.deeplab import deeplab_v3plus, resize_aligned
from covid_utils.training import streams
from covid_utils.training.networks import with_fused_norms

CLASSES = 4
#: The published network, and the small one that is trained on the input pipeline.
FULL = {"width": 1.0, "middle_blocks": 16}
SMALL = {"width": 0.5, "middle_blocks": 4}
#: The network of the `sample` profile's run from ImageNet.
IMAGENET = {"width": 1.0, "middle_blocks": 4, "decoder_output_stride": 2}
#: Cost in forward passes: a step adds a gradient by the input and one by the kernel.
PASSES = {"forward": 1, "step": 3}
#: Repetitions of a layer in one timed call.
CHAIN = 8
#: Layers of a separable convolution, as in the results, and how many of each it has.
POINTWISE, DEPTHWISE, NORM = "1 × 1 convolution", "3 × 3 depthwise convolution", "batch norm"
UNIT = {POINTWISE: 1, DEPTHWISE: 1, NORM: 2}
#: Other ways to compute the same numbers, and a training step with Keras's layers alone.
SHIFTED, FUSED = "depthwise as nine shifted products", "batch norm as one operation"
KERAS_NORM = "Keras's batch norm"


def run() -> dict:
    """Measure everything: about four minutes."""
    return {
        "memory": timing.in_a_process(memory, 512, FULL),
        "passes": passes((256, 512), FULL),
        "parts": parts(),
        "norms": norms(224, IMAGENET),
        "fed": fed(192, SMALL),
    }


def network(side: int, shape: dict):
    """DeepLab-v3+ for square images."""
    return deeplab_v3plus(CLASSES, (side, side, 3), **shape)


def forward(model) -> Callable:
    """A traced function: uint8 images (n, side, side) -> logits."""
    return tf.function(lambda images: model(_three_channels(images), training=False))


def step(model) -> Callable:
    """A traced function: uint8 images and masks (n, side, side) -> loss; one update by momentum."""
    optimizer = keras.optimizers.SGD(1e-4, momentum=0.9)
    optimizer.build(model.trainable_variables)

    @tf.function
    def update(images: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = model(_three_channels(images), training=True)
            logits = resize_aligned(logits, images.shape[1:])
            truth = tf.cast(masks, tf.int32)
            entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(truth, logits)
            loss = tf.reduce_mean(entropy)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    return update


def _three_channels(images):
    return tf.repeat(tf.cast(images[..., None], tf.float32), 3, axis=-1)


def pairs(count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and masks, both uint8 (count, side, side)."""
    images, masks = zip(*(timing.chest(seed, side) for seed in range(count)), strict=True)
    return np.stack(images), np.stack(masks)


def passes(sizes: tuple[int, ...], shape: dict, rounds: int = 5) -> dict:
    """Time forward pass and training step of one image, in turns with a matrix multiplication."""
    calls, known = {"matmul": timing.matrix_products()}, {}
    for side in sizes:
        model = network(side, shape)
        images, masks = map(tf.constant, pairs(1, side))
        for kind, function, inputs in (
            ("forward", forward(model), (images,)),
            ("step", step(model), (images, masks)),
        ):
            calls[kind, side] = partial(function, *inputs)
            known[kind, side] = {
                "side": side,
                "kind": kind,
                "multiply_adds": timing.multiply_adds(model),
                "trace_s": timing.clocked(partial(function.get_concrete_function, *inputs))[0],
                "first_s": timing.clocked(calls[kind, side])[0],
            }
    times = timing.compare(calls, rounds, is_warm=True)
    return {
        "rounds": rounds,
        "matmul_gflops": timing.matmul_gflops(times["matmul"]),
        "candidates": [one | times[name] for name, one in known.items()],
    }


def parts(side: int = 32, channels: int = 728, rounds: int = 15) -> dict:
    """Time the layers of a separable convolution of the middle flow, each alone, on its maps."""
    maps = tf.random.normal((1, side, side, channels))
    calls = {}
    for name, (layer, weights) in layers(channels).items():
        for kind in PASSES:
            # Traced here: TensorFlow warns of functions that are traced by calls in a loop.
            traced = chained(layer, weights, kind).get_concrete_function(maps)
            calls[kind, name] = partial(traced, maps)
    each = {kind: {} for kind in PASSES}
    for (kind, name), chain in timing.compare(calls, rounds).items():
        each[kind][name] = timing.per_item(chain, CHAIN)
    return {"side": side, "channels": channels, "rounds": rounds} | each


def layers(channels: int) -> dict[str, tuple[Callable, list]]:
    """Name -> function (maps, training) -> maps, and its weights; Keras's layers and others."""
    # Kernels that keep the size of the values, however long the chain.
    even = keras.initializers.RandomNormal(stddev=1 / 3)
    options = {"padding": "same", "use_bias": False, "depthwise_initializer": even}
    depthwise = keras.layers.DepthwiseConv2D(3, **options)
    pointwise = keras.layers.Conv2D(channels, 1, use_bias=False)
    norm = keras.layers.BatchNormalization(epsilon=1e-3)
    for layer in (depthwise, pointwise, norm):
        layer.build((1, None, None, channels))

    def shifted(maps: tf.Tensor, training: bool) -> tf.Tensor:
        height, width = maps.shape[1:3]
        wide = tf.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
        kernel = tf.convert_to_tensor(depthwise.kernel)[..., 0]
        nine = [(row, column) for row in range(3) for column in range(3)]
        return tf.add_n([wide[:, r : r + height, c : c + width] * kernel[r, c] for r, c in nine])

    def fused(maps: tf.Tensor, training: bool) -> tf.Tensor:
        # Without the update of the moving statistics: two operations on a vector.
        scale, offset, mean, variance = map(tf.convert_to_tensor, norm.variables)
        moving = {} if training else {"mean": mean, "variance": variance}
        options = {"epsilon": norm.epsilon, "is_training": training} | moving
        return tf.compat.v1.nn.fused_batch_norm(maps, scale, offset, **options)[0]

    return {
        POINTWISE: (lambda maps, training: pointwise(maps), pointwise.trainable_variables),
        DEPTHWISE: (lambda maps, training: depthwise(maps), depthwise.trainable_variables),
        NORM: (lambda maps, training: norm(maps, training=training), norm.trainable_variables),
        SHIFTED: (shifted, depthwise.trainable_variables),
        FUSED: (fused, norm.trainable_variables),
    }


def chained(layer: Callable, weights: list, kind: str) -> Callable:
    """A traced function: maps -> maps, `CHAIN` times through a layer; for a step, gradients too."""
    values = [weight.value for weight in weights]

    def through(maps: tf.Tensor) -> tf.Tensor:
        for _ in range(CHAIN):
            maps = layer(maps, kind == "step")
        return maps

    def with_gradients(maps: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            tape.watch(maps)
            last = through(maps)
        return last, tape.gradient(last, [maps, *values], output_gradients=maps)

    return tf.function(with_gradients if kind == "step" else through)


def norms(side: int, shape: dict, batch: int = 4, rounds: int = 9) -> dict[str, object]:
    """Time a training step with batch norm as one operation, as in trainings, and with Keras's."""
    model = network(side, shape)
    images, masks = map(tf.constant, pairs(batch, side))
    steps = {"ours": step(with_fused_norms(model)), KERAS_NORM: step(model)}
    calls = {name: partial(one, images, masks) for name, one in steps.items()}
    times = timing.compare(calls, rounds)
    return {"side": side, "batch": batch, "rounds": rounds, "shape": shape, "candidates": times}


def memory(side: int, shape: dict) -> dict[str, float]:
    """Peak memory of this process in MiB: with the network built, and after steps of one image."""
    update, given = step(network(side, shape)), pairs(1, side)
    built = timing.peak_memory()
    for _ in range(2):
        update(*given).numpy()
    return {"side": side, "built_mib": built, "peak_mib": timing.peak_memory()}


def fed(side: int, shape: dict, steps: int = 6, rounds: int = 3, batch: int = 4) -> dict:
    """Train a network on augmented pairs from the cache, and measure how long it waits for them.

    ``busy`` is the time in steps as a share of all time.
    """
    update = step(network(side, shape))
    in_steps = []
    with timing.temporary_home():
        images, masks = map(timing.cached, ("images", "masks"), pairs(64, side))
        endless = streams.batches(images, masks, batch, 0, augment.pair)
        stream = iter(endless.take(steps * (1 + rounds)))

        def timed_steps() -> None:
            given = (next(stream) for _ in range(steps))
            in_steps.append(sum(timing.clocked(partial(update, *pair))[0] for pair in given))

        whole = [timing.clocked(timed_steps)[0] for _ in range(1 + rounds)]
    # The first round is traced.
    spent, total = np.array(in_steps[1:]), np.array(whole[1:])
    about = {"side": side, "batch": batch, "steps": steps, "rounds": rounds}
    step_ms = float(1000 * np.median(spent) / steps)
    return about | {"step_ms": step_ms, "busy": float(np.median(spent / total))}
