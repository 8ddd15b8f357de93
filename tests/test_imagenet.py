"""Keras's Xception carried over into Aligned Xception-65; random weights stand for ImageNet's."""

import numpy as np
import pytest
from stream_cases import same

from covid_utils.errors import DataError
from covid_utils.models import deeplab, imagenet

#: Layers without a counterpart: depthwise and pointwise convolution of each.
IDENTITY = [
    "entry_flow.block1.unit_1.separable_conv3",
    "entry_flow.block2.unit_1.separable_conv3",
    "entry_flow.block3.unit_1.separable_conv3",
    "exit_flow.block1.unit_1.separable_conv3",
    "exit_flow.block2.unit_1.separable_conv2",
]


def xception_of(seed):
    """Keras's network with random kernels and batch norms that are no two alike."""
    import keras

    keras.utils.set_random_seed(seed)
    model = keras.applications.Xception(include_top=False, weights=None)
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            count = layer.gamma.shape[0]
            spread = [np.exp(rng.normal(0, 0.1, count)) for _ in range(2)]
            shift = [rng.normal(0, 0.1, count) for _ in range(2)]
            layer.set_weights([spread[0], *shift, spread[1]])
        elif isinstance(layer, keras.layers.SeparableConv2D):
            # Keras draws these so small that a block would add next to nothing to its input.
            depthwise, pointwise = layer.get_weights()
            pointwise *= (2 / pointwise.shape[2]) ** 0.5 / pointwise.std()
            layer.set_weights([depthwise * (2 / 9) ** 0.5 / depthwise.std(), pointwise])
    return model


@pytest.fixture(scope="module")
def source():
    return xception_of(seed=1)


@pytest.fixture(scope="module")
def carried(source):
    """Number of middle blocks -> the network, filled, and its report."""
    shape = (33, 33, 3)
    models = {n: deeplab.deeplab_v3plus(4, shape, middle_blocks=n) for n in (4, 16)}
    return {n: (model, imagenet.carry_over(model, source)) for n, model in models.items()}


# What goes where


def test_every_convolution_is_reported_once_and_every_one_of_keras_is_used(carried, source):
    import keras

    report = carried[16][1]
    assert list(report) == ["layer", "source", "how"]
    expected = {"carried": 74, "silent copy": 48, "identity": 10}
    assert report["how"].value_counts().to_dict() == expected
    names = ("Conv2D", "DepthwiseConv2D")
    every = [layer.name for layer in carried[16][0].layers if type(layer).__name__ in names]
    assert report["layer"].tolist() == [name for name in every if "flow" in name]
    kinds = (keras.layers.Conv2D, keras.layers.SeparableConv2D)
    names = [layer.name for layer in source.layers if isinstance(layer, kinds)]
    halves = report.query("how == 'carried'")["source"].value_counts().to_dict()
    assert halves == {name: 2 if "sepconv" in name else 1 for name in names}


def middle(report):
    """Blocks of Keras's network that our middle blocks come from, in order."""
    rows = report[report["layer"].str.contains("middle_flow.*separable_conv2_pointwise")]
    return [int(name.removeprefix("block").split("_")[0]) for name in rows["source"]]


def test_middle_blocks_keep_their_order_and_kernels_are_keras_s(carried, source):
    assert middle(carried[4][1]) == [5, 7, 9, 11]
    model, report = carried[16]
    assert middle(report) == [block for block in range(5, 13) for _ in range(2)]
    for row in report.query("how != 'identity'").itertuples():
        weights = source.get_layer(row.source).get_weights()
        kernel = weights[1] if row.layer.endswith("_pointwise") else weights[0]
        assert np.array_equal(model.get_layer(row.layer).kernel.numpy(), kernel)


def test_batch_norms_are_keras_s_where_it_has_them(carried, source):
    """A shortcut's is the one that Keras created right after it, wherever it is listed."""
    model, report = carried[16]
    # Numbers in automatic names go on from whatever else the process has built.
    shortcuts, norms = (
        sorted(
            (la.name for la in source.layers if la.name.startswith(kind)),
            key=lambda name: (len(name), name),
        )
        for kind in ("conv2d", "batch_normalization")
    )
    behind = dict(zip(shortcuts, norms, strict=True))
    for row in report.query("how == 'carried'").itertuples():
        norm = model.get_layer(f"{row.layer}.BatchNorm")
        if row.layer.endswith("_depthwise"):  # it does nothing
            gamma, beta, mean, variance = norm.get_weights()
            assert not beta.any() | mean.any()
            assert np.allclose(gamma / np.sqrt(variance + norm.epsilon), 1, atol=1e-6)
            continue
        theirs = source.get_layer(behind.get(row.source, f"{row.source}_bn"))
        assert norm.epsilon == theirs.epsilon
        assert all(same(norm.get_weights(), theirs.get_weights()))


def test_layers_that_keras_lacks_pass_their_input_on(carried):
    model, report = carried[16]
    names = [f"{name}_{half}" for name in IDENTITY for half in ("depthwise", "pointwise")]
    rows = report.query("how == 'identity'")
    assert sorted(rows["layer"]) == sorted(names)
    assert set(rows["source"]) == {""}
    for name in names:
        layer, norm = model.get_layer(name), model.get_layer(f"{name}.BatchNorm")
        tensor = np.random.default_rng(0).normal(size=(1, 5, 5, norm.gamma.shape[0]))
        tensor = tensor.astype(np.float32)
        # A layer of stride 2 leaves its padding to another one: its first centre is pixel 1.
        rate = layer.strides[0]
        passed = norm(layer(tensor), training=False).numpy()
        expected = tensor[:, 1:-1:rate, 1:-1:rate] if rate == 2 else tensor
        assert np.allclose(passed, expected, atol=1e-5)


def test_copies_are_silent_by_their_last_batch_norm_and_no_other_block_is(carried):
    """Such a block adds nothing to what passes it, so the features are Keras's."""
    silent = {}
    for number, (model, _) in carried.items():
        norms = [layer for layer in model.layers if "BatchNorm" in layer.name]
        silent[number] = [la for la in norms if not la.gamma.numpy().any()]
    assert not any(layer.beta.numpy().any() for layer in silent[16])
    last = "middle_flow.block1.unit_{}.separable_conv3_pointwise.BatchNorm".format
    assert [layer.name for layer in silent[16]] == [last(number) for number in range(2, 17, 2)]
    assert silent[4] == []


# Files


def test_a_weights_file_comes_back_whole(source, tmp_path):
    path = tmp_path / "xception.weights.h5"
    source.save_weights(path)
    assert all(same(source.get_weights(), imagenet.load_xception(path).get_weights()))


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_a_missing_or_damaged_file_or_another_network_is_named(source, tmp_path, monkeypatch):
    import keras

    def xception(include_top, weights):
        if weights == "imagenet":
            raise Exception("URL fetch failure")  # as Keras does
        return source

    monkeypatch.setattr(keras.applications, "Xception", xception)
    with pytest.raises(DataError, match="could not be downloaded; connect to the network once"):
        imagenet.load_xception("imagenet")
    file = tmp_path / "x.weights.h5"
    with pytest.raises(DataError, match=r"h5: no such weights file; name a file of"):
        imagenet.load_xception(file)
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save_weights(file)
    for _ in range(2):
        with pytest.raises(DataError, match=r"x\.weights\.h5: not a complete weights file of Xcep"):
            imagenet.load_xception(file)
        file.write_bytes(b"PK\x03\x04 not whole")
