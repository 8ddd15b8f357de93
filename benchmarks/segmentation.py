"""Speed and memory of DeepLab-v3+: passes, their parts, and a training fed by the input pipeline.

``make bench`` runs this through ``run.py``, and ``run.py segmentation`` runs it alone; by itself,
``segmentation.py --sizes 65 --width 0.25 --middle-blocks 1`` shows what a small network takes and
writes nothing. Random weights and images do. Functions are traced, never compiled by XLA.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable

import input_pipeline
import numpy as np
import recognition
import speed

#: Sides of the images that the whole network is timed with; memory is that of the last.
SIZES = (256, 512)
CLASSES = 4
#: The published network, and the small one that is fed by the input pipeline.
FULL = {"width": 1.0, "middle_blocks": 16}
SMALL = {"width": 0.5, "middle_blocks": 4}
ROUNDS = 5
#: Matrix multiplications a round.
MATMULS = 8
#: What a training step counts, in forward passes: forward, and a gradient by input and by kernel.
PASSES = {"forward": 1, "step": 3}

#: Channels of the middle flow; how often a layer follows itself in one timed call; rounds.
CHANNELS, CHAIN, PART_ROUNDS = 728, 8, 15
#: Layers of a separable convolution, as the page names them, and how many of each it has.
POINTWISE, DEPTHWISE, NORM = "1 × 1 convolution", "3 × 3 depthwise convolution", "batch norm"
UNIT = {POINTWISE: 1, DEPTHWISE: 1, NORM: 2}
#: Other ways to the same numbers.
SHIFTED, FUSED = "depthwise as nine shifted products", "batch norm as one operation"
#: A training step with Keras's layers alone.
KERAS_NORM = "Keras's batch norm"

#: A training step as in the `sample` profile's run from ImageNet: side, slices, network, rounds.
NORM_SIDE, NORM_BATCH, NORM_ROUNDS = 224, 4, 9
NORM_SHAPE = {"width": 1.0, "middle_blocks": 4, "decoder_output_stride": 2}

#: The fed training: side, images a step, steps a round, rounds, and images in its file.
FED_SIDE, FED_BATCH, FED_STEPS, FED_ROUNDS, FED_IMAGES = 192, 4, 6, 3, 64


def run(sizes: tuple[int, ...] = SIZES, shape: dict = FULL, rounds: int = ROUNDS) -> dict:
    """Measure everything: about four minutes.

    Args:
        sizes: Sides of the images, the largest last.
        shape: ``width`` and ``middle_blocks`` of the network.
        rounds: How often each pass is timed.

    Returns:
        ``passes``, ``parts``, ``norms``, ``memory`` and ``fed``.
    """
    return {
        "memory": memory(sizes[-1], shape),
        "passes": passes(sizes, shape, rounds),
        "parts": parts(-(-sizes[-1] // 16)),
        "norms": norms(min(NORM_SIDE, sizes[-1])),
        "fed": fed(min(FED_SIDE, sizes[-1])),
    }


def network(side: int, shape: dict):
    """DeepLab-v3+ for square images."""
    from covid_utils.models.deeplab import deeplab_v3plus

    return deeplab_v3plus(CLASSES, (side, side, 3), **shape)


def multiply_adds(model) -> int:
    """Multiply-adds of the convolutions of a network, plain and depthwise, for one image.

    Every element of a kernel is used once for each pixel of the output.
    """
    import keras

    kinds, total = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D), 0
    for layer in model.layers:
        if isinstance(layer, kinds):
            height, width = layer.output.shape[1:3]
            total += int(np.prod(layer.kernel.shape)) * height * width
    return total


def forward(model) -> Callable:
    """A traced function: uint8 images (n, side, side) -> logits."""
    import tensorflow as tf

    return tf.function(lambda images: model(_three_channels(images), training=False))


def step(model) -> Callable:
    """A traced function: uint8 images and masks (n, side, side) -> loss; one update by momentum."""
    import keras
    import tensorflow as tf

    from covid_utils.models.deeplab import resize_aligned

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
        found = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(found, model.trainable_variables)
        return loss

    return update


def _three_channels(images):
    import tensorflow as tf

    return tf.repeat(tf.cast(images[..., None], tf.float32), 3, axis=-1)


def pairs(count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and masks, both uint8 (count, side, side)."""
    drawn = [speed.chest(seed, side) for seed in range(count)]
    images, masks = (np.stack(part) for part in zip(*drawn, strict=True))
    return images, masks


def passes(sizes: tuple[int, ...], shape: dict, rounds: int) -> dict:
    """Forward pass and training step, one image each, in turns with a matrix multiplication.

    Returns:
        ``rounds``; ``matmul_gflops``, what the machine reaches meanwhile; and ``candidates``, a
        list with ``side``, ``kind`` (a key of `PASSES`), ``multiply_adds`` of one forward pass,
        the times as `speed.compare` gives them, ``trace_s``, which tracing took, and ``first_s``,
        which the first call took after it.
    """
    import tensorflow as tf

    multiply = recognition._matmul()
    calls = {"matmul": lambda: [multiply() for _ in range(MATMULS)]}
    multiply()
    found = {}
    for side in sizes:
        model = network(side, shape)
        batch = [tf.constant(part) for part in pairs(1, side)]
        for kind, function, given in (
            ("forward", forward(model), batch[:1]),
            ("step", step(model), batch),
        ):
            name, call = f"{kind} {side}", _call(function, given)
            calls[name] = call
            found[name] = {
                "side": side,
                "kind": kind,
                "multiply_adds": multiply_adds(model),
                "trace_s": recognition._seconds(_call(function.get_concrete_function, given)),
                "first_s": recognition._seconds(call),
            }
    taken = speed.compare(calls, rounds, is_warm=True)
    matmul = taken.pop("matmul")["median_ms"] / MATMULS
    return {
        "rounds": rounds,
        "matmul_gflops": 2 * recognition.MATRIX**3 / matmul / 1e6,
        "candidates": [found[name] | times for name, times in taken.items()],
    }


def _call(function: Callable, given: list) -> Callable[[], object]:
    return lambda: function(*given)


def parts(side: int, channels: int = CHANNELS, rounds: int = PART_ROUNDS) -> dict:
    """The layers of a separable convolution of the middle flow, each alone.

    Args:
        side: Of its maps: a sixteenth of the image's.
        channels: Of its input and output.
        rounds: How often each is timed.

    Returns:
        ``side``, ``channels``, ``rounds``, and for each kind of `PASSES`: layer -> times of one
        layer, as `speed.compare` gives them. A step has the gradients by input and weights in it.
    """
    import tensorflow as tf

    maps = tf.random.normal((1, side, side, channels))
    calls = {}
    for name, (layer, weights) in layers(channels).items():
        # Traced here: TensorFlow warns of functions that are traced in a loop by calling them.
        for kind, chain in (("forward", forwards(layer)), ("step", gradients(layer, weights))):
            calls[kind, name] = _call(chain.get_concrete_function(maps), [maps])
    taken = speed.compare(calls, rounds)
    found = {"side": side, "channels": channels, "rounds": rounds}
    for kind in PASSES:
        found[kind] = {
            name: recognition._per_image(times, CHAIN)
            for (one, name), times in taken.items()
            if one == kind
        }
    return found


def layers(channels: int) -> dict[str, tuple[Callable, list]]:
    """Name -> (maps, training) -> maps, and its weights; Keras's layers and their rivals."""
    import keras
    import tensorflow as tf

    shape = (1, None, None, channels)
    # Kernels that keep the size of the values, however long the chain.
    even = keras.initializers.RandomNormal(stddev=1 / 3)
    options = {"padding": "same", "use_bias": False, "depthwise_initializer": even}
    depthwise = keras.layers.DepthwiseConv2D(3, **options)
    pointwise = keras.layers.Conv2D(channels, 1, use_bias=False)
    norm = keras.layers.BatchNormalization(epsilon=1e-3)
    for layer in (depthwise, pointwise, norm):
        layer.build(shape)

    def shifted(maps: tf.Tensor, training: bool) -> tf.Tensor:
        height, width = maps.shape[1:3]
        wide = tf.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
        kernel = tf.convert_to_tensor(depthwise.kernel)[..., 0]
        nine = [(row, column) for row in range(3) for column in range(3)]
        return tf.add_n([wide[:, r : r + height, c : c + width] * kernel[r, c] for r, c in nine])

    def fused(maps: tf.Tensor, training: bool) -> tf.Tensor:
        # Without the update of the moving statistics: two operations on a vector.
        weights = [tf.convert_to_tensor(weight) for weight in norm.trainable_variables]
        moving = [tf.convert_to_tensor(weight) for weight in norm.non_trainable_variables]
        known = {} if training else {"mean": moving[0], "variance": moving[1]}
        options = {"epsilon": norm.epsilon, "is_training": training} | known
        return tf.compat.v1.nn.fused_batch_norm(maps, *weights, **options)[0]

    return {
        POINTWISE: (lambda maps, training: pointwise(maps), pointwise.trainable_variables),
        DEPTHWISE: (lambda maps, training: depthwise(maps), depthwise.trainable_variables),
        NORM: (lambda maps, training: norm(maps, training=training), norm.trainable_variables),
        SHIFTED: (shifted, depthwise.trainable_variables),
        FUSED: (fused, norm.trainable_variables),
    }


def forwards(layer: Callable) -> Callable:
    """A traced function: maps -> maps, `CHAIN` times through a layer."""
    import tensorflow as tf

    @tf.function
    def chain(maps: tf.Tensor) -> tf.Tensor:
        for _ in range(CHAIN):
            maps = layer(maps, False)
        return maps

    return chain


def gradients(layer: Callable, weights: list) -> Callable:
    """A traced function: maps -> maps, and the gradients by the first ones and by the weights."""
    import tensorflow as tf

    values = [weight.value for weight in weights]

    @tf.function
    def chain(maps: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            tape.watch(maps)
            last = maps
            for _ in range(CHAIN):
                last = layer(last, True)
        return last, tape.gradient(last, [maps, *values], output_gradients=maps)

    return chain


def norms(
    side: int = NORM_SIDE, shape: dict = NORM_SHAPE, rounds: int = NORM_ROUNDS
) -> dict[str, object]:
    """A training step with batch norm as one operation, as trainings go, and with Keras's own.

    Args:
        side: Of the slices.
        shape: Of the network.
        rounds: How often each step is timed.

    Returns:
        ``side``, ``batch``, ``rounds``, ``shape``, and ``candidates``: name -> times, as
        `speed.compare` gives them.
    """
    import tensorflow as tf

    from covid_utils.training.fused import with_fused_norms

    theirs = network(side, shape)
    given = [tf.constant(part) for part in pairs(NORM_BATCH, side)]
    calls = {
        "ours": _call(step(with_fused_norms(theirs)), given),
        KERAS_NORM: _call(step(theirs), given),
    }
    taken = speed.compare(calls, rounds)
    found = {"side": side, "batch": NORM_BATCH, "rounds": rounds, "shape": shape}
    return found | {"candidates": taken}


def memory(side: int, shape: dict = FULL) -> dict[str, float]:
    """Peak memory of training steps of one image, in a process of its own.

    Returns:
        ``side``; ``built_mib``, the peak when the network is built; and ``peak_mib``.
    """
    command = [sys.executable, __file__, "--memory", str(side), *_options(shape)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def _options(shape: dict) -> list[str]:
    return ["--width", str(shape["width"]), "--middle-blocks", str(shape["middle_blocks"])]


def _memory_here(side: int, shape: dict) -> dict[str, float]:
    update = step(network(side, shape))
    built = input_pipeline.peak_memory()
    images, masks = pairs(1, side)
    for _ in range(2):
        update(images, masks).numpy()
    return {"side": side, "built_mib": built, "peak_mib": input_pipeline.peak_memory()}


def fed(
    side: int = FED_SIDE,
    steps: int = FED_STEPS,
    rounds: int = FED_ROUNDS,
    shape: dict = SMALL,
) -> dict:
    """Train the small network on augmented pairs from a file, and see how long it waits for them.

    Returns:
        ``side``, ``batch``, ``steps``, ``rounds``; ``step_ms``, the time of one step; and ``busy``,
        the time in steps as a share of the time in all. Medians of the rounds.
    """
    from covid_utils.data import augment, cache
    from covid_utils.training import batches

    update = step(network(side, shape))
    with recognition.temporary_home():
        rows = []
        for name, part in zip("im", pairs(FED_IMAGES, side), strict=True):
            recipe = cache.Recipe(name, 1, {}, part.shape[1:], np.uint8)
            rows.append(recipe.filled([str(at) for at in range(len(part))], part.__getitem__))
        stream = iter(batches.of_pairs(*rows, FED_BATCH, 0, augment.Ranges()))
        update(*next(stream)).numpy()
        taken = [_fed_round(stream, update, steps) for _ in range(rounds)]
        del stream
    inside, total = np.array(taken).T
    return {
        "side": side,
        "batch": FED_BATCH,
        "steps": steps,
        "rounds": rounds,
        "step_ms": float(1000 * np.median(inside) / steps),
        "busy": float(np.median(inside / total)),
    }


def _fed_round(stream, update: Callable, steps: int) -> tuple[float, float]:
    """Seconds in the steps, and in all."""
    inside, start = 0.0, time.perf_counter()
    for _ in range(steps):
        batch = next(stream)
        inside += recognition._seconds(lambda given=batch: update(*given).numpy())
    return inside, time.perf_counter() - start


def main() -> None:
    """Print what is measured with the given sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--width", type=float, default=FULL["width"])
    parser.add_argument("--middle-blocks", type=int, default=FULL["middle_blocks"])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--memory", type=int, help="only the memory of a step, in this process")
    given = parser.parse_args()
    shape = {"width": given.width, "middle_blocks": given.middle_blocks}
    if given.memory:
        found = _memory_here(given.memory, shape)
    else:
        found = run(tuple(given.sizes), shape, given.rounds)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
