"""Networks of streams: compiled once, reset for each; batch norm as one operation."""

import keras
import numpy as np
import pytest
from stream_cases import TINY, TOY, same, scramble, state_of

from covid_utils.models.deeplab import deeplab_v3plus
from covid_utils.training import networks
from covid_utils.training.networks import with_fused_norms

pytestmark = pytest.mark.usefixtures("small_networks")


def test_streams_of_one_shape_share_a_network_and_others_do_not():
    alike = TOY.replace(class_weights=(1.0, 3.0, 3.0, 3.0))
    first = networks.build(alike)
    other = alike.replace(stream="effusion", seed=8, evaluate_every=2, flip_test=True)
    assert networks.build(other) is first
    assert networks.build(other.replace(class_weights=(1.0, 3.0, 3.0, 4.0))) is not first


@pytest.mark.parametrize("settings", [TOY, TINY], ids=["unet", "deeplab"])
def test_the_same_seed_draws_the_same_weights_whatever_was_there_before(settings):
    model = networks.build(settings)
    first = state_of(model)
    kernels = [np.array(v).tobytes() for v in model.variables if v.name == "kernel"]
    assert len(set(kernels)) == len(kernels)
    scramble(model)
    assert not any(same(state_of(model), first))
    assert networks.build(settings) is model
    assert all(same(state_of(model), first))
    networks.reset(model, settings.seed + 1)
    for layer, before in zip(model.variables, first, strict=False):
        is_drawn = layer.name in ("kernel", "seed_generator_state")
        assert np.array_equal(layer, before) != is_drawn, layer.path
    assert not any(np.any(variable) for variable in model.optimizer.variables)


@pytest.mark.parametrize("settings", [TOY, TINY], ids=["unet", "deeplab"])
def test_convolution_kernels_are_penalised_and_nothing_else(settings):
    model = networks.build(settings)
    kinds = ("Conv2D", "Conv2DTranspose")
    kernels = [np.array(la.kernel, float) for la in model.layers if type(la).__name__ in kinds]
    penalised = [v for v in model.variables if getattr(v, "regularizer", None) is not None]
    assert len(penalised) == len(model.losses) == len(kernels) > 5
    expected = settings.weight_decay * sum((kernel**2).sum() for kernel in kernels) / 2
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_the_rate_falls_to_zero_at_the_last_step(name):
    own = TOY.replace(optimizer=name, learning_rate=0.1, steps=10, momentum=0.7)
    optimizer = networks.poly_optimizer(own)
    assert type(optimizer).__name__.lower() == name
    assert getattr(optimizer, "momentum", 0.7) == 0.7
    variable, rates = keras.Variable([1.0]), []
    for _ in range(12):
        rates.append(float(optimizer.learning_rate))
        optimizer.apply([keras.ops.ones(1)], [variable])
    expected = [0.1 * max(0, 1 - step / 10) ** 0.9 for step in range(12)]
    assert rates == pytest.approx(expected, abs=1e-7)


# Batch norm


def twins(shape):
    """A batch norm of Keras's with weights that are none of its own, and its twin."""
    image = keras.Input(shape)
    norm = keras.layers.BatchNormalization(momentum=0.8, epsilon=1e-3, name="norm")
    model = keras.Model(image, norm(image))
    rng = np.random.default_rng(0)
    norm.set_weights([rng.uniform(0.5, 3, shape[-1]) for _ in range(4)])
    return model, with_fused_norms(model)


def step(model, seen):
    """Answer, gradients and statistics of a training step."""
    import tensorflow as tf

    seen, wanted = tf.constant(seen), np.random.default_rng(2).normal(size=seen.shape)
    with tf.GradientTape() as tape:
        tape.watch(seen)
        answer = model(seen, training=True)
        loss = tf.reduce_sum(answer * wanted)
    gradients = tape.gradient(loss, [seen, *(v.value for v in model.trainable_variables)])
    return [np.asarray(part) for part in (answer, *gradients, *model.get_weights())]


@pytest.mark.parametrize("shape", [(2, 9, 7, 5), (2, 1, 1, 3), (1, 1, 1, 3)])
def test_a_step_has_the_same_answer_gradients_and_statistics(shape):
    """Of the pyramid's mean there are as many values as slices; of one, the variance is 0."""
    seen = np.random.default_rng(1).normal(3, 2, shape).astype(np.float32)
    pair = twins(shape[1:])
    expected, found = (step(model, seen) for model in pair)
    for ours, theirs in zip(found, expected, strict=True):
        assert np.allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    for is_frozen in (False, True):  # kept statistics count where nothing is learned
        for model in pair:
            model.get_layer("norm").trainable = not is_frozen
        expected, found = (np.asarray(model(seen, training=is_frozen)) for model in pair)
        assert np.allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_a_network_keeps_its_names_weights_and_answer(tmp_path):
    model = deeplab_v3plus(3, (17, 17, 3), atrous_rates=(1,), width=0.1, middle_blocks=0)
    twin = with_fused_norms(model)
    assert [v.path for v in twin.weights] == [v.path for v in model.weights]
    assert [layer.name for layer in twin.layers] == [layer.name for layer in model.layers]
    norms = [layer for layer in twin.layers if "BatchNorm" in type(layer).__name__]
    assert len(norms) > 5
    assert not any(type(layer) is keras.layers.BatchNormalization for layer in norms)
    seen = np.random.default_rng(4).integers(0, 256, (2, *model.input_shape[1:]), dtype=np.uint8)
    assert np.allclose(twin(seen), model(seen), rtol=1e-4, atol=1e-6)
    twin.set_weights([w + 1 for w in twin.get_weights()])
    assert not np.allclose(twin(seen), model(seen))
    twin.save_weights(tmp_path / "one.weights.h5")
    model.load_weights(tmp_path / "one.weights.h5")
    for found, expected in zip(model.get_weights(), twin.get_weights(), strict=True):
        assert np.array_equal(found, expected)


def test_half_precision_computes_statistics_in_full():
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        image = keras.Input((4, 4, 2))
        twin = with_fused_norms(keras.Model(image, keras.layers.BatchNormalization()(image)))
        seen = np.random.default_rng(5).normal(200, 40, (3, 4, 4, 2)).astype(np.float16)
        answer = twin(seen, training=True)
        assert answer.dtype == "float16"
        assert np.allclose(np.std(np.asarray(answer, np.float32), axis=(0, 1, 2)), 1, atol=0.01)
        kept = seen.astype(np.float64).mean(axis=(0, 1, 2)) * 0.01  # Keras's momentum is 0.99
        assert np.allclose(twin.get_weights()[2], kept, rtol=1e-3)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")


def statistics_agree(strategy):
    """Whether two epochs on several devices move weights and statistics as Keras's layer does."""

    def trained(swap):
        keras.utils.set_random_seed(7)
        with strategy.scope():
            image = keras.Input((6, 6, 2))
            tensor = keras.layers.BatchNormalization(momentum=0.5)(keras.layers.Conv2D(3, 3)(image))
            model = swap(keras.Model(image, tensor))
            model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
        rng = np.random.default_rng(8)
        seen, wanted = rng.normal(1, 2, (4, 6, 6, 2)), rng.normal(1, 2, (4, 4, 4, 3))
        model.fit(seen, wanted, batch_size=4, epochs=2, verbose=0, shuffle=False)
        return model.get_weights()

    ours, theirs = trained(with_fused_norms), trained(lambda model: model)
    moved = min(np.abs(kept - at).max() for kept, at in zip(theirs[-2:], (0, 1), strict=True))
    return moved > 0.1 and all(
        np.allclose(a, b, atol=1e-4) for a, b in zip(ours, theirs, strict=True)
    )
