"""DeepLab-v3+ with Xception-65: its size, the published graph's numbers, and its geometry."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from covid_utils import paths
from covid_utils.errors import DataError
from covid_utils.models import deeplab, tf1, xception

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


@pytest.fixture(scope="module")
def twin():
    return build()


@pytest.fixture
def other(twin):
    """The same network to fill, with other weights."""
    return filled(twin, seed=2)


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


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


# The published network


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
    wanted = tf1.variables(full)
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


def test_batch_norm_is_the_published_one(small):
    norms = [layer for layer in small.layers if "BatchNorm" in layer.name]
    encoder = [la for la in norms if la.name.startswith(("entry_", "middle_", "exit_"))]
    assert len(encoder) == 2 + 6 * 6 + 4
    assert len(norms) - len(encoder) == 1 + 1 + 2 * 3 + 1 + 1 + 2 * 2
    assert {layer.epsilon for layer in encoder} == {1e-3}
    assert {layer.epsilon for layer in norms if layer not in encoder} == {1e-5}
    assert {layer.momentum for layer in norms} == {0.9997}


# Checkpoints of TensorFlow 1


@pytest.fixture(scope="module")
def written(small):
    """Variables of the small network under their published names."""
    rng = np.random.default_rng(3)
    wanted = tf1.variables(small)
    return {n: plausible(v.name, tuple(v.shape), rng) for n, v in wanted.items()}


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("decoder/decoder_conv1_pointwise/weights", None, "is missing"),
        ("middle_flow/unit_2/weights", np.zeros(1), "has no place in deeplab_v3plus"),
        ("aspp0/weights", np.zeros((1, 1, 9, 2)), r"has shape \(1, 1, 9, 2\), the network needs"),
    ],
)
def test_a_variable_that_does_not_fit_is_named_and_nothing_changed(
    other, written, tmp_path, name, value, match
):
    before, arrays = other.get_weights(), {k: v for k, v in written.items() if k != name}
    path = save(arrays if value is None else arrays | {name: value}, tmp_path)
    with pytest.raises(DataError, match=f"model.ckpt-30000: '{name}' {match}"):
        tf1.load_checkpoint(other, path)
    assert same(other.get_weights(), before)


def save(arrays, folder):
    """Write a checkpoint as a TensorFlow 1 training does, bookkeeping and all; gives its prefix."""
    import tensorflow as tf

    momentum = {"aspp0/weights/Momentum": np.ones(3, np.float32)}
    stored, prefix = arrays | momentum | {"global_step": np.int64(30_000)}, "model.ckpt-30000"
    tf.raw_ops.SaveV2(
        prefix=str(folder / prefix),
        tensor_names=list(stored),
        shape_and_slices=[""] * len(stored),
        tensors=list(stored.values()),
    )
    return folder / prefix


@pytest.fixture
def checkpoint(written, tmp_path):
    return save(written, tmp_path)


def test_a_checkpoint_of_tensorflow_1_is_read_but_for_the_last_layer(other, written, checkpoint):
    last = other.get_layer(deeplab.LOGITS).get_weights()
    rest = {name: a for name, a in written.items() if not name.startswith("logits/")}
    assert sorted(tf1.load_checkpoint(other, checkpoint)) == sorted(rest)
    wanted = tf1.variables(other)
    assert all(np.array_equal(wanted[name].numpy(), array) for name, array in rest.items())
    assert same(other.get_layer(deeplab.LOGITS).get_weights(), last)
    unit = "xception_65/middle_flow/block1/unit_1/xception_module/separable_conv2"
    layer = other.get_layer("middle_flow.block1.unit_1.separable_conv2_depthwise")
    assert np.array_equal(layer.kernel.numpy(), rest[f"{unit}_depthwise/depthwise_weights"])


@pytest.mark.parametrize("damage", ["absent", "no data", "short data", "short index"])
def test_a_checkpoint_that_is_not_whole_is_named(other, checkpoint, damage):
    before = other.get_weights()
    index = checkpoint.with_name(f"{checkpoint.name}.index")
    data = checkpoint.with_name(f"{checkpoint.name}.data-00000-of-00001")
    for path, part in ((index, "index"), (data, "data")):
        if damage in ("absent", f"no {part}"):
            path.unlink()
        elif damage == f"short {part}":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"model\.ckpt-30000: not a whole TensorFlow checkpoint"):
        tf1.load_checkpoint(other, checkpoint)
    assert same(other.get_weights(), before)


# The file, and what goes in


LOADER = """
import sys
sys.modules["covid_utils"] = None  # An import of it would fail.
import keras, numpy as np
model = keras.saving.load_model("network.keras", safe_mode=True)
np.save("found.npy", model(np.load("image.npy"), training=False).numpy())
"""


def test_the_saved_network_loads_without_this_package(small, tmp_path):
    image = image_of(count=2)
    np.save(tmp_path / "image.npy", image)
    small.save(tmp_path / "network.keras")
    command = [sys.executable, "-I", "-c", LOADER]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "found.npy")
    assert found.std() > 0
    expected = run(small, image)
    assert expected.dtype == np.float32
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert np.array_equal(expected, run(small, image.astype(np.float32)))
    unit = run(up_to(small, "to_unit"), image)
    assert np.allclose(unit, image / 127.5 - 1, atol=1e-6)


# Geometry


@pytest.mark.parametrize(
    ("shape", "stride", "decoder", "rates"),
    [
        ((64, 97), 16, 4, (6, 12, 18)),
        ((50, 63), 32, 8, (3, 6)),
        ((66, 80), 8, 4, (12, 24, 36)),
        ((33, 33), 16, 1, (6, 12, 18)),
        ((33, 50), 16, 2, (1, 2)),
    ],
)
def test_outputs_have_the_shape_that_the_strides_say(shape, stride, decoder, rates):
    """A fine answer comes from a second decoder, which joins the stem."""
    settings = {"output_stride": stride, "decoder_output_stride": decoder, "atrous_rates": rates}
    model = build((*shape, 3), 3, middle_blocks=0, **settings)
    sides = [-(-side // stride) for side in shape]
    assert model.get_layer(FEATURES).output.shape == (None, *sides, 2048 // 8)
    sides = [(side - 1) // decoder + 1 for side in shape]
    assert model.output_shape == (None, *sides, 3)
    for number, rate in enumerate(rates, start=1):
        assert model.get_layer(f"aspp{number}_depthwise").dilation_rate == (rate, rate)
    assert model.get_layer("concat").output.shape[-1] == 32 * (2 + len(rates))
    if decoder > 2:
        assert not any(layer.name.startswith("decoder_1.") for layer in model.layers)
        return
    early, late = model.get_layer("decoder_1.concat").input
    assert late.shape[1:3] == early.shape[1:3] == tuple(sides)
    assert early.shape[-1] == 8  # a quarter of the first decoder's
    joined = model.get_layer("decoder_1.feature_projection0").input
    assert joined is model.get_layer(xception.STEM).output


def test_a_smaller_stride_sees_the_same_features_more_densely(small):
    """Every second one of its features is the larger stride's: corners align at 65 pixels."""
    maps = {}
    for stride in (8, 16, 32):
        model = build(output_stride=stride)
        model.set_weights(small.get_weights())
        maps[stride] = run(up_to(model, FEATURES), image_of())
    assert [maps[stride].shape[1] for stride in (8, 16, 32)] == [9, 5, 3]
    assert maps[8].std() > 0
    for stride in (8, 16):
        dense, sparse = maps[stride][:, ::2, ::2], maps[stride * 2]
        assert np.abs(dense - sparse).max() < 1e-5 * np.abs(sparse).max()


@pytest.mark.parametrize("size", [(17, 9), (3, 7), (2, 1)])
def test_resizing_is_that_of_tensorflow_1_with_aligned_corners(size):
    import tensorflow as tf

    tensor = np.random.default_rng(4).normal(size=(2, 5, 7, 3)).astype(np.float32)
    found = np.asarray(deeplab.resize_aligned(tensor, size))
    expected = tf.compat.v1.image.resize_bilinear(tensor, size, align_corners=True).numpy()
    assert np.allclose(found, expected, atol=1e-5)


def test_channels_of_another_width_are_a_multiple_of_8():
    scaled = [xception.Convolutions(w, 0.9, 0.1).scaled(728) for w in (1, 0.5, 0.125, 0.001)]
    assert scaled == [728, 368, 88, 8]
