"""DeepLab-v3+ with Xception-65: its size, the published graph's numbers, and its geometry."""

import importlib.util
import shutil
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
def full():
    """The published network at the reference's size; the parity test fills it."""
    return deeplab.deeplab_v3plus(4, (129, 129, 3))


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


def test_the_network_has_the_published_size(full):
    trained = sum(int(np.prod(variable.shape)) for variable in full.trainable_variables)
    assert trained == 41_051_044
    assert full.count_params() == 41_253_844
    assert full.output_shape == (None, 33, 33, 4)


def test_the_published_graphs_numbers_come_out(full):
    """Its 732 variables by their own names, its image, and four of its tensors."""
    import keras

    if not PARITY.is_dir():
        pytest.skip("the reference run in ../shared/parity is not here")
    spec = importlib.util.spec_from_file_location("_weights", PARITY / "reference_weights.py")
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    shapes = dict(reference.variables())
    names = tf1.assign(full, {name: reference.weight(name, shapes[name]) for name in shapes})
    assert len(shapes) == 732
    assert sorted(names) == sorted(shapes)
    with np.load(PARITY / "deeplab_xception65.npz") as file:
        expected = {name: file[name] for name in ("input", *TENSORS)}
    outputs = [full.get_layer(layer).output for layer in TENSORS.values()]
    found = keras.Model(full.input, outputs)(expected["input"], training=False)
    for name, tensor in zip(TENSORS, found, strict=True):
        ours, theirs = tensor.numpy(), expected[name]
        largest = np.abs(theirs).max()
        assert ours.shape == theirs.shape
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
    """Variables of the small network under their published names, of a generator of their own."""
    rng = np.random.default_rng(3)
    wanted = tf1.variables(small)
    return {n: plausible(v.name, tuple(v.shape), rng) for n, v in wanted.items()}


@pytest.fixture
def arrays(written):
    return dict(written)


def refused(model, arrays, match):
    before = model.get_weights()
    with pytest.raises(DataError, match=match):
        tf1.assign(model, arrays)
    assert same(model.get_weights(), before)


def holds(model, arrays):
    wanted = tf1.variables(model)
    return all(np.array_equal(wanted[name].numpy(), array) for name, array in arrays.items())


def test_variables_are_found_by_their_published_names(other, arrays):
    assert sorted(tf1.assign(other, arrays)) == sorted(arrays)
    assert holds(other, arrays)
    unit = "xception_65/middle_flow/block1/unit_1/xception_module/separable_conv2"
    layer = other.get_layer("middle_flow.block1.unit_1.separable_conv2_depthwise")
    assert np.array_equal(layer.kernel.numpy(), arrays[f"{unit}_depthwise/depthwise_weights"])
    last = other.get_layer(deeplab.LOGITS)
    assert np.array_equal(last.bias.numpy(), arrays["logits/semantic/biases"])


def test_a_variable_that_does_not_fit_is_named_and_nothing_changed(other, arrays):
    name = "decoder/decoder_conv1_pointwise/weights"
    refused(other, {k: v for k, v in arrays.items() if k != name}, f"'{name}' is missing")
    name = "xception_65/middle_flow/block1/unit_2/xception_module/separable_conv1_pointwise/weights"
    more = arrays | {name: np.zeros(1, np.float32)}
    refused(other, more, f"'{name}' has no place in deeplab_v3plus")
    last = "logits/semantic/weights"
    wrong = arrays | {last: arrays[last][..., :2]}
    refused(other, wrong, rf"'{last}' has shape \(1, 1, 32, 2\), the network needs \(1, 1,")


def test_excluded_logits_stay_as_they_are(other, arrays):
    last = other.get_layer(deeplab.LOGITS).get_weights()
    foreign = arrays | {"logits/semantic/weights": np.zeros((1, 1, 32, 21), np.float32)}
    read = tf1.assign(other, foreign, exclude_logits=True)
    rest = {name: a for name, a in arrays.items() if not name.startswith("logits/")}
    assert sorted(read) == sorted(rest)
    assert holds(other, rest)
    assert same(other.get_layer(deeplab.LOGITS).get_weights(), last)


@pytest.fixture(scope="module")
def saved(written, tmp_path_factory):
    """Prefix of a checkpoint as a TensorFlow 1 training writes it, bookkeeping and all."""
    import tensorflow as tf

    v1, folder = tf.compat.v1, tmp_path_factory.mktemp("checkpoint")
    momentum = {"aspp0/weights/Momentum": np.ones_like(written["aspp0/weights"])}
    stored = written | momentum | {"global_step": np.int64(30_000)}
    with tf.Graph().as_default(), v1.Session() as session:
        variables = {
            name: v1.get_variable(name, array.shape, tf.as_dtype(array.dtype), use_resource=False)
            for name, array in stored.items()
        }
        feeds = {variable.initializer.inputs[1]: stored[n] for n, variable in variables.items()}
        session.run([variable.initializer for variable in variables.values()], feeds)
        v1.train.Saver().save(session, str(folder / "model.ckpt"), global_step=30_000)
    return folder / "model.ckpt-30000"


@pytest.fixture
def checkpoint(saved, tmp_path):
    """A copy of it to damage."""
    for path in saved.parent.iterdir():
        shutil.copy(path, tmp_path)
    return tmp_path / saved.name


def test_a_checkpoint_of_tensorflow_1_is_read(other, arrays, checkpoint):
    last = other.get_layer(deeplab.LOGITS).get_weights()
    rest = {name: a for name, a in arrays.items() if not name.startswith("logits/")}
    assert sorted(tf1.load_checkpoint(other, checkpoint)) == sorted(rest)
    assert holds(other, rest)
    assert same(other.get_layer(deeplab.LOGITS).get_weights(), last)


@pytest.mark.parametrize("damage", ["absent", "no data", "short data", "short index", "no index"])
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
    done = subprocess.run(
        [sys.executable, "-I", "-c", LOADER],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "found.npy")
    assert found.std() > 0
    assert np.allclose(found, run(small, image), rtol=1e-5, atol=1e-5)


def test_bytes_and_floats_give_the_same(small):
    image = image_of()
    found = run(small, image)
    assert found.dtype == np.float32
    assert np.array_equal(found, run(small, image.astype(np.float32)))
    assert found.std() > 0


def test_the_network_scales_its_images_itself(small):
    image = np.zeros((1, 65, 65, 3), np.uint8)
    image[0, 0, 0] = 255
    unit = run(up_to(small, "to_unit"), image)
    assert unit[0, 0, 0].tolist() == [1, 1, 1]
    assert np.unique(unit).tolist() == [-1, 1]


# Geometry


@pytest.mark.parametrize(
    ("shape", "stride", "decoder", "rates"),
    [
        ((65, 65), 8, 4, (12, 24, 36)),
        ((64, 97), 16, 4, (6, 12, 18)),
        ((50, 63), 32, 8, (3, 6)),
        ((66, 80), 8, 8, (1, 2, 3, 4)),
        ((33, 48), 16, 1, (6, 12, 18)),
        ((65, 50), 16, 2, (1, 2)),
    ],
)
def test_outputs_have_the_shape_that_the_strides_say(shape, stride, decoder, rates):
    settings = {"output_stride": stride, "decoder_output_stride": decoder, "atrous_rates": rates}
    model = build((*shape, 3), 3, middle_blocks=0, **settings)
    sides = [-(-side // stride) for side in shape]
    assert model.get_layer(FEATURES).output.shape == (None, *sides, 2048 // 8)
    sides = [(side - 1) // decoder + 1 for side in shape]
    assert run(model, image_of((*shape, 3), count=2)).shape == (2, *sides, 3)
    found = [
        model.get_layer(f"aspp{number}_depthwise").dilation_rate
        for number in range(1, len(rates) + 1)
    ]
    assert found == [(rate, rate) for rate in rates]
    assert model.get_layer("concat").output.shape[-1] == 32 * (2 + len(rates))


@pytest.mark.parametrize("decoder", [1, 2, 4, 8])
def test_a_fine_answer_comes_from_a_second_decoder_that_joins_the_stem(decoder):
    model = build((65, 65, 3), 3, middle_blocks=0, decoder_output_stride=decoder)
    names = {layer.name for layer in model.layers}
    is_fine = decoder < 4
    assert any(name.startswith("decoder_1.") for name in names) == is_fine
    if not is_fine:
        return
    first = model.get_layer("decoder.decoder_conv1_pointwise.relu").output
    assert first.shape == (None, 17, 17, 32)
    early, late = model.get_layer("decoder_1.concat").input
    assert late.shape[1:3] == early.shape[1:3] == ((65 - 1) // decoder + 1,) * 2
    assert early.shape[-1] == 8  # a quarter of the first decoder's
    joined = model.get_layer("decoder_1.feature_projection0").input
    assert joined is model.get_layer(xception.STEM).output
    assert joined.shape[1:3] == (33, 33)


@pytest.fixture(scope="module")
def strides(small):
    """The small network at three output strides, with the same weights."""
    models = {16: small} | {stride: build(output_stride=stride) for stride in (8, 32)}
    for model in models.values():
        model.set_weights(small.get_weights())
    return models


def test_a_smaller_stride_sees_the_same_features_more_densely(strides):
    """Every second one of its features is the larger stride's: corners align at 65 pixels."""
    image = image_of()
    maps = {stride: run(up_to(model, FEATURES), image) for stride, model in strides.items()}
    assert [maps[stride].shape[1] for stride in (8, 16, 32)] == [9, 5, 3]
    assert maps[8].std() > 0
    for stride in (8, 16):
        dense, sparse = maps[stride][:, ::2, ::2], maps[stride * 2]
        assert np.abs(dense - sparse).max() < 1e-5 * np.abs(sparse).max()


@pytest.mark.parametrize("size", [(17, 9), (5, 40), (3, 7), (2, 1), (5, 7)])
def test_resizing_is_that_of_tensorflow_1_with_aligned_corners(size):
    import tensorflow as tf

    tensor = np.random.default_rng(4).normal(size=(2, 5, 7, 3)).astype(np.float32)
    found = np.asarray(deeplab.resize_aligned(tensor, size))
    expected = tf.compat.v1.image.resize_bilinear(tensor, size, align_corners=True).numpy()
    assert np.allclose(found, expected, atol=1e-5)
    assert np.allclose(found[:, 0, 0], tensor[:, 0, 0])


def test_channels_of_another_width_are_a_multiple_of_8():
    assert [xception.scaled(728, width) for width in (1, 0.5, 0.125, 0.001)] == [728, 368, 88, 8]
    assert xception.scaled(48, 0.25) == 16
