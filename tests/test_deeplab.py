"""DeepLab-v3+ with Xception-65: its size, the published graph's numbers, and its geometry."""

import importlib.util
import re

import numpy as np
import pytest

from covid_utils import paths
from covid_utils.models import deeplab
from covid_utils.report import claims as ledger

PARITY = paths.PROJECT.parent / "shared" / "parity"
#: Tensor of the reference run -> layer of ours whose output it is.
TENSORS = {
    "entry_flow_block3": "entry_flow.block3.unit_1.sum",
    "exit_flow_block2": "exit_flow.block2.unit_1.separable_conv3_pointwise.relu",
    "aspp_projection": "concat_projection.relu",
    "logits": deeplab.LOGITS,
}
FEATURES = TENSORS["exit_flow_block2"]
SMALL = {"width": 0.125, "middle_blocks": 1}


@pytest.fixture(scope="module")
def small():
    """A network of eight times fewer channels with one middle block; no test may change it."""
    return filled(build(), seed=1)


def build(shape=(65, 65, 3), classes=4, **settings):
    return deeplab.deeplab_v3plus(classes, shape, **(SMALL | settings))


def filled(model, seed):
    """Fill a network so that its features neither vanish nor explode; gives it back."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if variable.dtype == "float32":
            variable.assign(plausible(variable.name, tuple(variable.shape), rng))
    return model


def plausible(name, shape, rng):
    noise = rng.standard_normal(shape).astype(np.float32)
    if name == "kernel":
        # A depthwise kernel, whose last dimension is 1, sums over no channels.
        return noise * np.float32((2 / np.prod(shape[:2] if shape[3] == 1 else shape[:3])) ** 0.5)
    if name in ("gamma", "moving_variance"):
        return np.exp(np.float32(0.1) * noise)
    return np.float32(0.1) * noise


def image_of(shape=(65, 65, 3), seed=0, count=1):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def run(model, image):
    return model(image, training=False).numpy()


def up_to(model, layer):
    import keras

    return keras.Model(model.input, model.get_layer(layer).output)


# The published network


def published_names(model):
    """Name of the published graph's variable -> our variable."""
    named = {}
    for layer in model.layers:
        scope = layer.name.replace(".", "/")
        if scope.startswith(("entry_flow/", "middle_flow/", "exit_flow/")):
            scope = "xception_65/" + re.sub(r"(unit_\d+)", r"\1/xception_module", scope)
        is_depthwise = type(layer).__name__ == "DepthwiseConv2D"
        leaves = {"kernel": "depthwise_weights" if is_depthwise else "weights", "bias": "biases"}
        for variable in layer.weights:
            named[f"{scope}/{leaves.get(variable.name, variable.name)}"] = variable
    return named


def test_the_published_graphs_numbers_come_out():
    """Its size, its 732 variables by their own names, its image, and four of its tensors."""
    import keras

    full = deeplab.deeplab_v3plus(4, (129, 129, 3))
    trained = sum(int(np.prod(variable.shape)) for variable in full.trainable_variables)
    assert trained == 41_051_044
    assert full.count_params() == 41_253_844
    assert full.output_shape == (None, 33, 33, 4)
    if not PARITY.is_dir():
        pytest.skip("the reference run in ../shared/parity is not here")
    spec = importlib.util.spec_from_file_location("_weights", PARITY / "reference_weights.py")
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    shapes = dict(reference.variables())
    wanted = published_names(full)
    assert len(shapes) == 732
    assert sorted(wanted) == sorted(shapes)
    for name, variable in wanted.items():
        variable.assign(reference.weight(name, shapes[name]))
    with np.load(PARITY / "deeplab_xception65.npz") as file:
        expected = {name: file[name] for name in ("input", *TENSORS)}
    outputs = [full.get_layer(layer).output for layer in TENSORS.values()]
    found = keras.Model(full.input, outputs)(expected["input"], training=False)
    for name, tensor in zip(TENSORS, found, strict=True):
        ours, theirs = tensor.numpy(), expected[name]
        largest = np.abs(theirs).max()
        assert np.abs(ours - theirs).max() / largest < 1e-3
        assert np.allclose(ours, theirs, rtol=1e-3, atol=1e-5 * largest)


def test_the_encoder_has_the_output_stride_that_the_paper_sets(small):
    (stride,) = [claim.value for claim in ledger.of_kind("setting") if claim.network == "deeplab"]
    assert small.get_layer(FEATURES).output.shape[1:3] == (64 // stride + 1,) * 2


def test_batch_norm_is_the_published_one(small):
    norms = [layer for layer in small.layers if "BatchNorm" in layer.name]
    encoder = [la for la in norms if la.name.startswith(("entry_", "middle_", "exit_"))]
    assert len(encoder) == 2 + 6 * 6 + 4
    assert len(norms) - len(encoder) == 1 + 1 + 2 * 3 + 1 + 1 + 2 * 2
    assert {layer.epsilon for layer in encoder} == {1e-3}
    assert {layer.epsilon for layer in norms if layer not in encoder} == {1e-5}
    assert {layer.momentum for layer in norms} == {0.9997}


# The file, and what goes in


def test_all_layers_are_keras_own_and_pixels_are_scaled_to_minus_1_to_1(small):
    """So that a saved network loads without this package."""
    import keras

    assert all(vars(keras.layers).get(type(each).__name__) is type(each) for each in small.layers)
    image = image_of(count=2)
    expected = run(small, image)
    assert expected.dtype == np.float32
    assert np.array_equal(expected, run(small, image.astype(np.float32)))
    assert np.allclose(run(up_to(small, "to_unit"), image), image / 127.5 - 1, atol=1e-6)


# Geometry


@pytest.mark.parametrize(
    ("shape", "decoder", "rates"), [((64, 97), 4, (6, 12, 18)), ((33, 50), 1, (1, 2))]
)
def test_outputs_have_the_shape_that_the_stride_says(shape, decoder, rates):
    """A fine answer comes from a second decoder, which joins the stem."""
    settings = {"decoder_output_stride": decoder, "atrous_rates": rates}
    model = build((*shape, 3), 3, middle_blocks=0, **settings)
    sides = [-(-side // 16) for side in shape]
    assert model.get_layer(FEATURES).output.shape == (None, *sides, 2048 // 8)
    sides = [(side - 1) // decoder + 1 for side in shape]
    assert model.output_shape == (None, *sides, 3)
    for number, rate in enumerate(rates, start=1):
        assert model.get_layer(f"aspp{number}_depthwise").dilation_rate == (rate, rate)
    if decoder == 1:
        joined = model.get_layer("decoder_1.feature_projection0").input
        assert joined is model.get_layer(deeplab.STEM).output


@pytest.mark.parametrize("size", [(17, 9), (3, 7), (2, 1)])
def test_resizing_is_that_of_tensorflow_1_with_aligned_corners(size):
    import tensorflow as tf

    tensor = np.random.default_rng(4).normal(size=(2, 5, 7, 3)).astype(np.float32)
    found = np.asarray(deeplab.resize_aligned(tensor, size))
    expected = tf.compat.v1.image.resize_bilinear(tensor, size, align_corners=True).numpy()
    assert np.allclose(found, expected, atol=1e-5)


def test_channels_of_another_width_are_a_multiple_of_8():
    scaled = [deeplab.Convolutions(w, 0.9, 0.1).scaled(728) for w in (1, 0.5, 0.125, 0.001)]
    assert scaled == [728, 368, 88, 8]
