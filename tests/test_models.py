"""Networks and the import of the 2015 weights."""

import numpy as np
import pytest

from covid_utils.errors import DataError, ParameterError
from covid_utils.models import inception, unet
from covid_utils.training import finetune

SIDE = 16


def test_unet_has_the_published_size_and_scales_its_images():
    import keras

    network = unet.unet(2, SIDE, 64, 0.9)
    # 31.0 million is the network of 2015 without batch norm; ours has gamma and beta for a bias.
    trained = sum(int(np.prod(variable.shape)) for variable in network.trainable_variables)
    assert trained == pytest.approx(31.0e6, rel=0.005)
    assert network.get_layer(unet.LOGITS).count_params() == 64 * 2 + 2
    assert network.output_shape == (None, SIDE, SIDE, 2)
    assert network.layers[-1].activation.__name__ == "linear"
    scaled = keras.Model(network.input, network.get_layer("to_unit").output)
    gray = np.array([0, 51, 255], np.uint8).repeat(SIDE**2).reshape(3, SIDE, SIDE, 1)
    assert np.allclose(scaled.predict_on_batch(gray)[:, 0, 0, 0], [-1, -0.6, 1], atol=1e-6)


# Inception-v3


@pytest.fixture(scope="module")
def base():
    """The whole network with random weights; the tests that fill it leave it filled."""
    import keras

    return keras.applications.InceptionV3(
        include_top=False, weights=None, input_shape=(299, 299, 3)
    )


@pytest.fixture
def built_once(base, monkeypatch):
    """Let `inception.network` take the network that is there."""
    import keras

    monkeypatch.setattr(keras.applications, "InceptionV3", lambda **settings: base)


@pytest.fixture(scope="module")
def arrays(base):
    """Folded weights in the layout of the 2015 file, from a generator of their own."""
    rng, folded = np.random.default_rng(8), {}
    for number, layer in enumerate(inception.in_creation_order(base)[0]):
        shape = tuple(layer.kernel.shape)
        folded[f"conv_{number}/kernel"] = rng.normal(0, 0.1, shape).astype(np.float16)
        folded[f"conv_{number}/bias"] = rng.normal(0, 1, shape[-1]).astype(np.float32)
    return folded


@pytest.fixture
def saved(tmp_path):
    """Write arrays as a file of 2015, without some kernels; gives its path."""

    def save(arrays, *without):
        path = tmp_path / "2015.npz"
        np.savez(path, **{k: v for k, v in arrays.items() if k not in without})
        return path

    return save


def number_of(base, block, side):
    """Position in creation order of a convolution that lies before or behind a block."""
    import keras

    convolutions, _ = inception.in_creation_order(base)
    before = {la.name for la in keras.Model(base.input, base.get_layer(block).output).layers}
    return next(i for i, la in enumerate(convolutions) if (la.name in before) == (side == "before"))


def test_creation_order_is_that_of_the_graph(base):
    convolutions, norms = inception.in_creation_order(base)
    assert len(convolutions) == len(norms) == 94
    # Stem, then the first block: 1x1; 1x1, 5x5; 1x1, 3x3, 3x3; pool projection.
    shapes = [tuple(layer.kernel.shape) for layer in convolutions[:12]]
    stem = [(3, 3, 3, 32), (3, 3, 32, 32), (3, 3, 32, 64), (1, 1, 64, 80), (3, 3, 80, 192)]
    first = [(1, 1, 192, 64), (1, 1, 192, 48), (5, 5, 48, 64), (1, 1, 192, 64), (3, 3, 64, 96)]
    assert shapes == [*stem, *first, (3, 3, 96, 96), (1, 1, 192, 32)]


def test_folded_weights_give_convolution_plus_bias(base, arrays, saved):
    import keras
    import tensorflow as tf

    inception.load_weights(base, saved(arrays), "mixed9")
    convolutions, norms = inception.in_creation_order(base)
    image = np.random.default_rng(0).uniform(-1, 1, (1, 299, 299, 3)).astype(np.float32)
    stem = keras.Model(base.input, norms[0].output)(image, training=False).numpy()
    kernel, bias = arrays["conv_0/kernel"].astype(np.float32), arrays["conv_0/bias"]
    expected = tf.nn.conv2d(image, kernel, strides=2, padding="VALID").numpy() + bias
    assert np.allclose(stem, expected, atol=1e-4)
    for number in (5, 40, 93):
        kernel = convolutions[number].kernel.numpy()
        assert np.array_equal(kernel, arrays[f"conv_{number}/kernel"].astype(np.float32))
        inputs = np.random.default_rng(1).normal(size=(1, 2, 2, kernel.shape[-1]))
        shifted = norms[number](inputs.astype(np.float32), training=False).numpy()
        assert np.allclose(shifted, inputs + arrays[f"conv_{number}/bias"], atol=1e-5)


def test_a_kernel_may_be_missing_behind_the_features_and_not_before(base, arrays, saved):
    path = saved(arrays, f"conv_{number_of(base, 'mixed4', 'behind')}/kernel")
    inception.load_weights(base, path, "mixed4")
    with pytest.raises(DataError, match="is missing, so mixed9 is incomplete"):
        inception.load_weights(base, path, "mixed9")
    path = saved(arrays, f"conv_{number_of(base, 'mixed4', 'before')}/kernel")
    with pytest.raises(DataError, match=r"2015\.npz: the kernel .* is missing, so mixed4"):
        inception.load_weights(base, path, "mixed4")


def test_weights_of_another_network_are_refused(base, arrays, saved):
    with pytest.raises(DataError, match="takes the maximum in its last block where Keras averages"):
        inception.load_weights(base, saved(arrays), "mixed10")
    for part in ("kernel", "bias"):
        wrong = arrays | {f"conv_3/{part}": arrays[f"conv_4/{part}"]}
        with pytest.raises(DataError, match=r"2015\.npz: 'conv_3' is not shaped"):
            inception.load_weights(base, saved(wrong), "mixed0")
    few = saved(arrays, "conv_93/kernel", "conv_93/bias")
    with pytest.raises(DataError, match="93 convolutions, but Inception-v3 has 94"):
        inception.load_weights(base, few, "mixed0")


@pytest.mark.real
def test_the_real_2015_weights_reach_mixed8(base, real_data):
    path = real_data / "weights" / "inception_2015.npz"
    inception.load_weights(base, path, "mixed8")
    with pytest.raises(DataError, match="is missing, so mixed9 is incomplete"):
        inception.load_weights(base, path, "mixed9")


def test_network_refuses_what_it_cannot_do(built_once, monkeypatch, tmp_path):
    import keras

    for name in ("nowhere.npz", "nowhere.weights.h5"):
        with pytest.raises(DataError, match=f"{name}: no such weights file; set the parameter"):
            inception.network(name, "mixed0", 1)
    for name in ("damaged.npz", "damaged.weights.h5"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 not whole")
        with pytest.raises(DataError, match=f"{name}: not a complete weights file of Inception-v3"):
            inception.network(str(tmp_path / name), "mixed0", 1)

    def offline(**settings):
        raise OSError("no network")

    monkeypatch.setattr(keras.applications, "InceptionV3", offline)
    with pytest.raises(DataError, match="could not be downloaded; connect to the network once"):
        inception.network("imagenet", "mixed0", 1)


def test_every_layer_with_weights_belongs_to_its_block(base):
    convolutions, norms = inception.in_creation_order(base)
    names = np.repeat(inception.FEATURE_LAYERS, [12, 7, 7, 4, 10, 10, 10, 10, 6, 9, 9]).tolist()
    groups = finetune.by_block(base, inception.FEATURE_LAYERS)
    owner = {id(weight): name for name, weights in groups.items() for weight in weights}
    assert [owner[id(layer.kernel)] for layer in convolutions] == names
    assert [owner[id(layer.beta)] for layer in norms] == names
    assert (len(owner), groups["last layer"]) == (2 * 94, [])


def test_blocks_are_those_of_the_real_network(base):
    channels = {name: base.get_layer(name).output.shape[-1] for name in inception.BLOCKS}
    assert channels == inception.BLOCKS
    assert [inception.block_below(name) for name in inception.FEATURE_LAYERS[1:]] == list(
        inception.FEATURE_LAYERS[:-1]
    )
    with pytest.raises(ParameterError, match="block 'mixed0' is none of mixed1, mixed2"):
        inception.block_below("mixed0")
    assert inception.named_layers("mixed8, mixed7") == ("mixed7", "mixed8")


def test_a_random_network_is_frozen_and_its_features_do_not_vanish():
    images = np.random.default_rng(0).uniform(-1, 1, (2, 75, 75, 3)).astype(np.float32)
    model = inception.network("none", "mixed0", 1, images, 75)
    assert model.trainable_weights == []
    assert model.output_shape == (None, 7, 7, 256)
    found = model(images, training=False).numpy().mean(axis=(1, 2))
    assert found.std(axis=0).mean() > 1e-3, "with calibration they differ from image to image"
    assert np.isfinite(found).all()


def test_random_weights_come_again_with_their_statistics(built_once):
    images = np.random.default_rng(1).uniform(-1, 1, (2, 299, 299, 3)).astype(np.float32)
    kept = inception.statistics(inception.network("none", "mixed0", 3, images))
    assert len(kept) > 20
    changed = [2 * array + 1 for array in kept]
    model = inception.network("none", "mixed0", 3)
    inception.set_statistics(model, changed)
    again = inception.statistics(model)
    assert all(np.array_equal(a, b) for a, b in zip(again, changed, strict=True))
