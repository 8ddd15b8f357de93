"""Networks, the import of the 2015 weights, and the training of the multi-label network."""

import runpy
from types import SimpleNamespace

import numpy as np
import pytest
from builders import adult_xrays, save_png

from covid_utils import paths
from covid_utils.data import augment, cache, nih_adult, sources
from covid_utils.data.images import Preprocessing
from covid_utils.data.store import Store
from covid_utils.errors import DataError, ParameterError
from covid_utils.models import checkpoints, inception, ml_cnn, unet
from covid_utils.training import bottlenecks, multilabel, schedules

SIDE = 16


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("COVID_HOME", str(tmp_path / "home"))


# U-Net and multi-label CNN


def test_unet_has_the_published_size():
    network = unet.unet(classes=2, size=32, base=64)
    assert network.output_shape == (None, 32, 32, 2)
    # 31.0 million is the network of 2015 without batch norm; ours has gamma and beta for a bias.
    trained = sum(int(np.prod(variable.shape)) for variable in network.trainable_variables)
    assert trained == pytest.approx(31.0e6, rel=0.005)
    assert network.count_params() == pytest.approx(31.0e6, rel=0.01)
    assert network.get_layer(unet.LOGITS).count_params() == 64 * 2 + 2


def test_unet_outputs_logits_for_every_class():
    network = unet.unet(classes=4, size=SIDE, base=2)
    found = network.predict_on_batch(np.zeros((3, SIDE, SIDE, 1), np.float32))
    assert found.shape == (3, SIDE, SIDE, 4)
    assert network.layers[-1].activation.__name__ == "linear"


def test_unet_takes_gray_values_as_they_are_stored():
    import keras

    network = unet.unet(classes=2, size=SIDE, base=2)
    scaled = keras.Model(network.input, network.get_layer("to_unit").output)
    gray = np.array([0, 51, 255], np.uint8).repeat(SIDE**2).reshape(3, SIDE, SIDE, 1)
    found = scaled.predict_on_batch(gray)
    assert np.allclose(found[:, 0, 0, 0], [-1, -0.6, 1], atol=1e-6)
    assert np.array_equal(scaled.predict_on_batch(gray.astype(np.float32)), found)


def test_ml_cnn_is_built_as_the_paper_says():
    network = ml_cnn.ml_cnn(labels=3, size=64)
    kinds = [type(layer).__name__ for layer in network.layers]
    block = ["Conv2D", "MaxPooling2D", "Dropout"]
    assert kinds == [*(block * 4), "Flatten", *(["Dense", "Dropout"] * 2), "Dense"]
    convolutions = [layer for layer in network.layers if type(layer).__name__ == "Conv2D"]
    assert [layer.filters for layer in convolutions] == [16, 32, 64, 64]
    assert {layer.kernel_size for layer in convolutions} == {(5, 5)}
    assert {layer.pool_size for layer in network.layers if "Pool" in type(layer).__name__} == {
        (2, 2)
    }
    rates = [layer.rate for layer in network.layers if type(layer).__name__ == "Dropout"]
    assert rates == [0.25] * 4 + [0.5] * 2
    dense = [layer for layer in network.layers if type(layer).__name__ == "Dense"]
    assert [layer.units for layer in dense] == [128, 64, 3]
    activations = [layer.activation.__name__ for layer in (*convolutions, *dense)]
    assert activations == ["elu"] * 6 + ["sigmoid"]


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
    rng = np.random.default_rng(8)
    made = {}
    convolutions, _ = checkpoints.in_creation_order(base)
    for number, layer in enumerate(convolutions):
        shape = tuple(layer.kernel.shape)
        made[f"conv_{number}/kernel"] = rng.normal(0, 0.1, shape).astype(np.float16)
        made[f"conv_{number}/bias"] = rng.normal(0, 1, shape[-1]).astype(np.float32)
    return made


def number_of(base, block, side):
    """Position in creation order of a convolution that lies before or behind a block."""
    convolutions, _ = checkpoints.in_creation_order(base)
    before = checkpoints.feeding(base, block)
    return next(i for i, la in enumerate(convolutions) if (la.name in before) == (side == "before"))


def test_creation_order_is_that_of_the_graph(base):
    convolutions, norms = checkpoints.in_creation_order(base)
    assert len(convolutions) == len(norms) == 94
    # Stem, then the first block: 1x1; 1x1, 5x5; 1x1, 3x3, 3x3; pool projection.
    shapes = [tuple(layer.kernel.shape) for layer in convolutions[:12]]
    assert shapes == [
        (3, 3, 3, 32),
        (3, 3, 32, 32),
        (3, 3, 32, 64),
        (1, 1, 64, 80),
        (3, 3, 80, 192),
        (1, 1, 192, 64),
        (1, 1, 192, 48),
        (5, 5, 48, 64),
        (1, 1, 192, 64),
        (3, 3, 64, 96),
        (3, 3, 96, 96),
        (1, 1, 192, 32),
    ]


def test_folded_weights_give_convolution_plus_bias(base, arrays):
    import keras
    import tensorflow as tf

    assert checkpoints.assign_2015(base, arrays, "mixed9") == []
    convolutions, norms = checkpoints.in_creation_order(base)
    image = np.random.default_rng(0).uniform(-1, 1, (1, 299, 299, 3)).astype(np.float32)
    stem = keras.Model(base.input, norms[0].output)(image, training=False).numpy()
    kernel, bias = arrays["conv_0/kernel"].astype(np.float32), arrays["conv_0/bias"]
    expected = tf.nn.conv2d(image, kernel, strides=2, padding="VALID").numpy() + bias
    assert np.allclose(stem, expected, atol=1e-4)
    for number in (5, 40, 93):
        found = convolutions[number].kernel.numpy()
        assert np.array_equal(found, arrays[f"conv_{number}/kernel"].astype(np.float32))
        inputs = np.random.default_rng(1).normal(size=(1, 2, 2, found.shape[-1]))
        shifted = norms[number](inputs.astype(np.float32), training=False).numpy()
        assert np.allclose(shifted, inputs + arrays[f"conv_{number}/bias"], atol=1e-5)


def test_a_kernel_that_the_features_need_may_not_be_missing(base, arrays):
    number = number_of(base, "mixed4", "before")
    lacking = {key: value for key, value in arrays.items() if key != f"conv_{number}/kernel"}
    with pytest.raises(DataError, match=rf"'conv_{number}' is missing, so mixed4 is incomplete"):
        checkpoints.assign_2015(base, lacking, "mixed4")


def test_a_kernel_behind_the_features_may_be_missing(base, arrays):
    number = number_of(base, "mixed4", "behind")
    lacking = {key: value for key, value in arrays.items() if key != f"conv_{number}/kernel"}
    assert checkpoints.assign_2015(base, lacking, "mixed4") == [f"conv_{number}"]
    with pytest.raises(DataError, match="mixed9 is incomplete"):
        checkpoints.assign_2015(base, lacking, "mixed9")


def test_the_last_block_is_another_one_in_keras(base, arrays):
    with pytest.raises(DataError, match="takes the maximum in its last block where Keras averages"):
        checkpoints.assign_2015(base, arrays, "mixed10")


@pytest.mark.parametrize("part", ["kernel", "bias"])
def test_another_shape_is_refused(base, arrays, part):
    wrong = arrays | {f"conv_3/{part}": arrays[f"conv_4/{part}"]}
    with pytest.raises(DataError, match="conv_3"):
        checkpoints.assign_2015(base, wrong, "mixed0")


def test_another_number_of_convolutions_is_refused(base, arrays):
    few = {key: value for key, value in arrays.items() if not key.startswith("conv_93/")}
    with pytest.raises(DataError, match="93 convolutions, but Inception-v3 has 94"):
        checkpoints.assign_2015(base, few, "mixed0")


@pytest.mark.real
def test_the_real_2015_weights_reach_mixed8(base, real_data):
    with np.load(real_data / "weights" / "inception_2015.npz") as file:
        weights = dict(file)
    assert checkpoints.assign_2015(base, weights, "mixed8") == [
        "mixed_9_tower_1_conv_1",
        "mixed_10_tower_1_conv_1",
    ]
    with pytest.raises(DataError, match="'mixed_9_tower_1_conv_1' is missing"):
        checkpoints.assign_2015(base, weights, "mixed9")


def test_network_refuses_what_it_cannot_do(built_once, monkeypatch):
    import keras

    with pytest.raises(ParameterError, match="feature_layer 'mixed11' is none of"):
        inception.network("none", "mixed11")
    with pytest.raises(ParameterError, match="need images to calibrate"):
        inception.network("none", "mixed0")
    for name in ("nowhere.npz", "nowhere.weights.h5"):
        with pytest.raises(DataError, match=f"{name}: no such weights file; set the parameter"):
            inception.network(name, "mixed0")

    def offline(**settings):
        raise OSError("no network")

    monkeypatch.setattr(keras.applications, "InceptionV3", offline)
    with pytest.raises(DataError, match="could not be downloaded; connect to the network once"):
        inception.network("imagenet", "mixed0")


@pytest.mark.parametrize("name", ["damaged.npz", "damaged.weights.h5"])
def test_a_damaged_weights_file_is_named(built_once, tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04 not whole")
    with pytest.raises(DataError, match=name):
        inception.network(str(tmp_path / name), "mixed0")


def import_weights(source, target):
    """Exit code of the script that imports the weights of 2015."""
    script = runpy.run_path(str(paths.PROJECT / "workflow" / "import_weights_2015.py"))
    return script["main"]([str(source), str(target)])


def test_an_imported_file_gives_the_weights_of_its_source(base, arrays, tmp_path, capsys):
    """Through networks of their own, whose layers have other names."""
    gone = [number_of(base, "mixed8", "behind"), 93]
    lacking = {k: v for k, v in arrays.items() if k not in {f"conv_{n}/kernel" for n in gone}}
    source, target = tmp_path / "2015.npz", tmp_path / "new" / "2015.weights.h5"
    np.savez(source, **lacking)
    assert import_weights(source, target) == 0
    lacking = ", ".join(f"conv_{number}" for number in gone)
    assert f"lacks {lacking}; blocks that need them" in capsys.readouterr().out
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    loaded = inception.network(str(target), "mixed4")
    assert loaded.trainable_weights == []
    found, norms = checkpoints.in_creation_order(loaded)
    assert len(found) == 12 + 7 + 7 + 4 + 10
    for number, (convolution, norm) in enumerate(zip(found, norms, strict=True)):
        kernel = arrays[f"conv_{number}/kernel"].astype(np.float32)
        assert np.array_equal(convolution.kernel.numpy(), kernel)
        assert np.array_equal(norm.beta.numpy(), arrays[f"conv_{number}/bias"])
        assert not norm.moving_mean.numpy().any()
        assert np.allclose(norm.moving_variance.numpy() + norm.epsilon, 1)
    base.load_weights(target)
    last_block = checkpoints.feeding(base, "mixed10") - checkpoints.feeding(base, "mixed9")
    for number, convolution in enumerate(checkpoints.in_creation_order(base)[0]):
        is_gone = number in gone or convolution.name in last_block
        assert np.isnan(convolution.kernel.numpy()).all() == is_gone
    checkpoints.load_inception(base, target, "mixed8")
    for layer in ("mixed9", "mixed10"):
        with pytest.raises(DataError, match=rf"2015\.weights\.h5: the kernel .*{layer} is incompl"):
            checkpoints.load_inception(base, target, layer)
    # The file of the source says the same, for what it has.
    checkpoints.load_inception(base, source, "mixed8")
    with pytest.raises(DataError, match=f"'conv_{gone[0]}' is missing, so mixed9 is incomplete"):
        checkpoints.load_inception(base, source, "mixed9")


def test_an_import_refuses_other_names_and_other_networks(built_once, arrays, tmp_path, capsys):
    source, target = tmp_path / "x.npz", tmp_path / "x.weights.h5"
    assert import_weights(source, tmp_path / "x.h5") == 1
    assert "end in .weights.h5" in capsys.readouterr().err
    assert import_weights(source, target) == 1
    assert "x.npz: no such weights file" in capsys.readouterr().err
    np.savez(source, **{k: v for k, v in arrays.items() if k != "conv_0/kernel"})
    assert import_weights(source, target) == 1
    assert "'conv_0' is missing, so mixed0 is incomplete" in capsys.readouterr().err
    assert not target.exists()


def test_blocks_are_those_of_the_real_network(base):
    shapes = {name: base.get_layer(name).output.shape for name in inception.BLOCKS}
    expected = {n: (None, side, side, k) for n, (side, k) in inception.BLOCKS.items()}
    assert shapes == expected
    assert [inception.block_below(name) for name in inception.FEATURE_LAYERS[1:]] == list(
        inception.FEATURE_LAYERS[:-1]
    )
    for name in ("mixed0", "mixed11", ""):
        with pytest.raises(ParameterError, match=f"block '{name}' is none of mixed1, mixed2"):
            inception.block_below(name)


def test_every_layer_with_weights_belongs_to_its_block(base):
    convolutions, norms = checkpoints.in_creation_order(base)
    counts = [12, 7, 7, 4, 10, 10, 10, 10, 6, 9, 9]
    names = np.repeat(inception.FEATURE_LAYERS, counts).tolist()
    found = inception.block_of(base)
    assert [found[layer.name] for layer in convolutions] == names
    assert [found[layer.name] for layer in norms] == names
    assert len(found) == 2 * 94
    import keras

    part = inception.block_of(keras.Model(base.input, base.get_layer("mixed2").output))
    first = ("mixed0", "mixed1", "mixed2")
    assert part == {name: block for name, block in found.items() if block in first}
    assert set(part.values()) == set(first)


@pytest.fixture(scope="module")
def shallow(base, arrays):
    """The network up to its fourth block, and what its blocks make of an image."""
    import keras

    checkpoints.assign_2015(base, arrays, "mixed9")
    model = keras.Model(base.input, base.get_layer("mixed3").output)
    image = np.random.default_rng(2).uniform(-1, 1, (2, 299, 299, 3)).astype(np.float32)
    names = ("mixed0", "mixed1", "mixed2", "mixed3")
    every = keras.Model(base.input, [base.get_layer(name).output for name in names])
    maps = dict(zip(names, every(image, training=False), strict=True))
    return SimpleNamespace(model=model, image=image, maps={k: v.numpy() for k, v in maps.items()})


@pytest.mark.parametrize("before", ["mixed1", "mixed3"])
def test_the_halves_of_a_cut_make_the_networks_own_maps(shallow, before):
    lower, upper = inception.cut(shallow.model, before)
    below = lower(shallow.image, training=False).numpy()
    assert np.array_equal(below, shallow.maps[inception.block_below(before)])
    assert np.array_equal(upper(below, training=False).numpy(), shallow.maps["mixed3"])
    assert shallow.maps["mixed3"].std() > 0
    both = {id(weight) for weight in (*lower.weights, *upper.weights)}
    assert both == {id(weight) for weight in shallow.model.weights}
    assert len(lower.weights) + len(upper.weights) == len(shallow.model.weights)


def test_outputs_come_in_the_order_asked_for(shallow):
    found = inception.outputs(shallow.model, ("mixed2", "mixed0"), before="mixed2")
    first, second, maps = (part.numpy() for part in found(shallow.image, training=False))
    assert np.allclose(first, shallow.maps["mixed2"].mean(axis=(1, 2)), rtol=1e-4)
    assert np.allclose(second, shallow.maps["mixed0"].mean(axis=(1, 2)), rtol=1e-4)
    assert np.array_equal(maps, shallow.maps["mixed1"])
    assert len(inception.outputs(shallow.model, ("mixed3",)).outputs) == 1


def test_random_network_is_frozen_and_decided_by_the_seed():
    images = np.random.default_rng(0).uniform(-1, 1, (2, 299, 299, 3)).astype(np.float32)
    found = []
    for seed in (1, 1, 2):
        model = inception.network("none", "mixed0", seed, images)
        assert model.trainable_weights == []
        assert model.output_shape == (None, 35, 35, 256)
        found.append(model(images, training=False).numpy().mean(axis=(1, 2)))
    assert np.array_equal(found[0], found[1])
    assert not np.allclose(found[0], found[2])
    # Without calibration random features vanish; with it they differ from image to image.
    assert found[0].std(axis=0).mean() > 1e-3
    assert np.isfinite(found[0]).all()


def test_weights_are_looked_for_in_the_data_folder(tmp_path):
    assert inception.resolve_weights("none", tmp_path) == "none"
    assert inception.resolve_weights("imagenet", tmp_path) == "imagenet"
    assert inception.resolve_weights("weights/x.npz", tmp_path) == str(tmp_path / "weights/x.npz")


# Bottlenecks


SMALL = Preprocessing(24)
#: Blocks of the toy: side and channels of their maps; some have as many channels as the next.
TOY_BLOCKS = {"mixed0": (4, 3), "mixed1": (4, 5), "mixed2": (2, 5)}


def toy_network(seed=0):
    """A network of Inception-v3's input and three blocks, in a thousandth of its time."""
    import keras

    keras.utils.set_random_seed(seed)
    image = keras.Input((299, 299, 3))
    out = keras.layers.AveragePooling2D(74, name="mixed0")(image)
    out = keras.layers.Conv2D(5, 3, padding="same", activation="tanh", name="mixed1")(out)
    out = keras.layers.Conv2D(5, 2, strides=2, activation="tanh", name="mixed2")(out)
    return keras.Model(image, out)


@pytest.fixture
def toys(monkeypatch):
    """Toys in place of Inception-v3: what was built, and the rows that went through one."""
    seen = SimpleNamespace(built=[], calibrated=[], rows=[], passes=0)
    extract = bottlenecks.extract

    def network(weights, last, seed, calibrate):
        seen.built.append((weights, last, seed))
        seen.calibrated.append(calibrate)
        return toy_network(seed)

    def counting(model, images, positions=None):
        seen.passes += 1
        for chosen, outputs in extract(model, images, positions):
            seen.rows += chosen.tolist()
            yield chosen, outputs

    monkeypatch.setattr(inception, "network", network)
    monkeypatch.setattr(inception, "BLOCKS", TOY_BLOCKS)
    monkeypatch.setattr(inception, "FEATURE_LAYERS", tuple(TOY_BLOCKS))
    monkeypatch.setattr(bottlenecks, "extract", counting)
    return seen


@pytest.fixture
def xrays(tmp_path):
    """Six X-rays on disk, of which four train."""
    root = adult_xrays(tmp_path / "scans", patients=6)
    rows = nih_adult.read(root).rows
    return SimpleNamespace(root=root, rows=rows.assign(subset=["train"] * 4 + ["test"] * 2))


def extraction(xrays, rows=None, settings=SMALL, weights="imagenet", last="mixed2", seed=3):
    rows = xrays.rows if rows is None else rows
    return bottlenecks.Extraction(rows, xrays.root, settings, weights, last, seed)


def maps_of(xrays, images, layer, seed=3):
    """What a toy makes of images, past everything that is tested here."""
    import keras

    model = toy_network(seed)
    part = keras.Model(model.input, model.get_layer(layer).output)
    return part.predict_on_batch(bottlenecks.to_input(np.stack(list(images))))


def test_input_is_scaled_resized_and_repeated():
    images = np.zeros((2, 40, 40), np.uint8)
    images[1] = 255
    found = bottlenecks.to_input(images)
    assert found.shape == (2, 299, 299, 3)
    assert found.dtype == np.float32
    assert (found[0] == -1).all()
    assert np.allclose(found[1], 1)


def test_a_short_last_batch_changes_nothing():
    import keras

    image = keras.Input((299, 299, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    model = keras.Model(image, [pooled, keras.layers.Rescaling(-2.0)(pooled)])
    images = np.random.default_rng(0).integers(0, 256, (bottlenecks.BATCH + 1, 8, 8), np.uint8)
    batches = list(bottlenecks.extract(model, images))
    assert [len(chosen) for chosen, _ in batches] == [bottlenecks.BATCH, 1]
    assert np.concatenate([chosen for chosen, _ in batches]).tolist() == list(range(33))
    means, doubled = (np.concatenate(part) for part in zip(*(o for _, o in batches), strict=True))
    assert means.shape == (bottlenecks.BATCH + 1, 3)
    ((chosen, alone),) = bottlenecks.extract(model, images, np.array([32]))
    assert chosen.tolist() == [32]
    assert np.allclose(means[-1], alone[0][0], atol=1e-6)
    assert np.allclose(means[:, 0], bottlenecks.to_input(images).mean(axis=(1, 2, 3)), atol=1e-4)
    assert np.allclose(doubled, -2 * means)
    assert list(bottlenecks.extract(model, images, np.array([], int))) == []


def test_features_are_the_averages_of_each_blocks_maps(toys, xrays):
    rows = xrays.rows.iloc[::-1]
    found = extraction(xrays, rows).features(("mixed2", "mixed0"))
    assert list(found) == ["mixed2", "mixed0"]
    images = cache.images(rows, xrays.root, SMALL)
    for layer, values in found.items():
        expected = maps_of(xrays, images, layer).mean(axis=(1, 2))
        assert values.shape == (6, TOY_BLOCKS[layer][1])
        assert values.dtype == np.float32
        assert np.allclose(values[:], expected, atol=1e-5)
    assert np.unique(found["mixed2"][:], axis=0).shape == (6, 5)
    assert toys.passes == 1


def test_maps_are_kept_in_the_same_pass_and_half_precision(toys, xrays):
    one = extraction(xrays)
    one.features(("mixed2",), before="mixed2")
    assert (toys.passes, sorted(toys.rows)) == (1, list(range(6)))
    maps = one.maps("mixed2")
    assert toys.passes == 1
    assert maps.dtype == np.float16
    assert maps.shape == (6, 4, 4, 5)
    expected = maps_of(xrays, cache.images(xrays.rows, xrays.root, SMALL), "mixed1")
    assert np.allclose(maps[:], expected, atol=2e-3)
    other = one.maps("mixed1")
    assert (toys.passes, other.shape) == (2, (6, 4, 4, 3))


def test_a_set_that_grows_costs_only_what_is_new(toys, xrays):
    few = extraction(xrays, xrays.rows.iloc[[1, 3]]).features(("mixed2",))["mixed2"]
    assert toys.rows == [0, 1]
    toys.rows.clear()
    every = extraction(xrays).features(("mixed2",))["mixed2"]
    assert toys.rows == [0, 2, 4, 5]
    assert np.array_equal(every[[1, 3]], few[:])
    toys.rows.clear()
    built = len(toys.built)
    again = extraction(xrays, xrays.rows.iloc[[5, 0]]).features(("mixed2",))["mixed2"]
    assert toys.rows == []
    assert len(toys.built) == built
    assert np.array_equal(again[:], every[[5, 0]])


def test_a_block_asked_for_later_is_computed_for_all(toys, xrays):
    extraction(xrays, xrays.rows.iloc[:2]).features(("mixed2",))
    extraction(xrays).features(("mixed0", "mixed2"))
    toys.rows.clear()
    found = extraction(xrays).features(("mixed0", "mixed2"))
    assert toys.rows == []
    images = cache.images(xrays.rows, xrays.root, SMALL)
    for layer, values in found.items():
        assert np.allclose(values[:], maps_of(xrays, images, layer).mean(axis=(1, 2)), atol=1e-5)


def test_the_same_picture_is_looked_at_once(toys, xrays):
    folder = xrays.root / "nih-adult" / "No_findings"
    (folder / "9999_000.png").write_bytes((folder / "0002_000.png").read_bytes())
    rows = nih_adult.read(xrays.root).rows.assign(subset="train")
    assert len(rows) == 7
    found = extraction(xrays, rows).features(("mixed2",))["mixed2"]
    assert len(toys.rows) == 6
    twins = rows.index[rows["sha256"].duplicated(keep=False)].tolist()
    assert len(twins) == 2
    assert np.array_equal(found[twins[0]], found[twins[1]])


def test_changed_content_is_looked_at_again(toys, xrays):
    before = extraction(xrays).features(("mixed2",))["mixed2"][:]
    toys.rows.clear()
    save_png(xrays.root / xrays.rows["path"].iloc[2], seed=77)
    rows = nih_adult.read(xrays.root).rows.assign(subset="train")
    after = extraction(xrays, rows).features(("mixed2",))["mixed2"][:]
    assert toys.rows == [2]
    assert (before == after).all(axis=1).tolist() == [i != 2 for i in range(6)]


def test_features_are_made_once_for_each_network(toys, xrays, tmp_path):
    file = tmp_path / "weights.npz"
    file.write_bytes(b"one")
    changes = [
        {"weights": str(file)},
        {"weights": "imagenet"},
        {"weights": "none"},
        {"weights": "none", "seed": 4},
        {"settings": Preprocessing(16)},
        {"settings": Preprocessing(24, 0.0)},
    ]
    for number, change in enumerate(changes, 1):
        for _ in range(2):
            extraction(xrays, **change).features(("mixed2",))
            assert toys.passes == number
    extraction(xrays).features(("mixed1",))
    assert toys.passes == 7
    file.write_bytes(b"two")
    extraction(xrays, weights=str(file)).features(("mixed2",))
    assert toys.passes == 8
    # The seed decides nothing here, nor does the depth at which the network is cut.
    extraction(xrays, seed=9).features(("mixed2",))
    extraction(xrays, last="mixed1").features(("mixed1",))
    assert toys.passes == 8


def test_random_weights_are_calibrated_on_some_training_images(toys, xrays, monkeypatch):
    monkeypatch.setattr(bottlenecks, "CALIBRATION_IMAGES", 3)
    rows = xrays.rows.iloc[::-1]
    one = extraction(xrays, rows, weights="none")
    one.features(("mixed2",))
    training = rows[rows["subset"] == "train"]
    shown = bottlenecks.to_input(np.array(cache.images(training, xrays.root, SMALL)))
    used = {image.tobytes() for image in toys.calibrated[0]}
    assert len(used) == 3 < len(training)
    assert used <= {image.tobytes() for image in shown}
    # The same network looks at other rows, though it would not be calibrated on them.
    tests = one.of(rows[rows["subset"] == "test"])
    assert tests.network is one.network
    tests.features(("mixed2",))
    assert len(toys.built) == 1
    assert len(toys.rows) == 6
    other = extraction(xrays, xrays.rows, weights="none")
    other.features(("mixed2",))
    assert len(toys.rows) == 12
    with pytest.raises(DataError, match="calibrated on training images, and there are none"):
        extraction(xrays, rows[rows["subset"] == "test"], weights="none").features(("mixed2",))
    extraction(xrays, rows[rows["subset"] == "test"]).features(("mixed2",))


def test_copies_have_features_of_their_own(toys, xrays):
    rows = augment.expand(xrays.rows, {"train": 10, "test": 3}, seed=3)
    extraction(xrays).features(("mixed2",))
    toys.rows.clear()
    found = extraction(xrays, rows).features(("mixed2",))["mixed2"]
    # The originals were there already.
    assert toys.rows == list(range(6, 13))
    originals = np.array(cache.images(xrays.rows, xrays.root, SMALL))
    moved = augment.Copies(originals, rows, seed=3)
    assert np.allclose(found[:], maps_of(xrays, moved, "mixed2").mean(axis=(1, 2)), atol=1e-5)
    assert np.unique(found[:], axis=0).shape == (13, 5)
    toys.rows.clear()
    again = extraction(xrays, rows.sample(frac=1, random_state=0)).features(("mixed2",))["mixed2"]
    assert toys.rows == []
    assert np.array_equal(np.sort(again[:], axis=0), np.sort(found[:], axis=0))
    # Another seed moves the copies otherwise, and leaves the originals as they are.
    extraction(xrays, rows, seed=4).features(("mixed2",))
    assert toys.rows == list(range(6, 13))


def test_copies_count_as_copies_even_of_equal_pictures(xrays):
    folder = xrays.root / "nih-adult" / "No_findings"
    (folder / "9999_000.png").write_bytes((folder / "0002_000.png").read_bytes())
    rows = nih_adult.read(xrays.root).rows.assign(subset="train")
    keys = extraction(xrays, augment.expand(rows, {"train": 21}, seed=3)).keys
    assert len(set(keys[:7])) == 6
    assert len(set(keys)) == 6 + 14
    unmoved = extraction(xrays, augment.expand(rows, {"train": 0}, seed=3)).keys
    assert unmoved.tolist() == extraction(xrays, rows).keys.tolist() == keys[:7].tolist()


def test_what_was_extracted_before_a_kill_stays(toys, xrays, monkeypatch):
    monkeypatch.setattr(bottlenecks, "BATCH", 2)
    broken = xrays.root / xrays.rows["path"].iloc[5]
    whole = broken.read_bytes()
    broken.write_bytes(b"not an image")
    with pytest.raises(DataError):
        extraction(xrays).features(("mixed2", "mixed0"), before="mixed1")
    assert toys.rows == [0, 1, 2, 3]
    broken.write_bytes(whole)
    found = extraction(xrays).features(("mixed2", "mixed0"), before="mixed1")
    assert toys.rows == [0, 1, 2, 3, 4, 5]
    images = cache.images(xrays.rows, xrays.root, SMALL)
    for layer, values in found.items():
        assert np.allclose(values[:], maps_of(xrays, images, layer).mean(axis=(1, 2)), atol=1e-5)


def test_a_kill_between_two_stores_loses_nothing(toys, xrays, monkeypatch):
    add = Store.add

    def killed(store, batches):
        if store.shape == (3,):
            raise KeyboardInterrupt
        add(store, batches)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add", killed)
        with pytest.raises(KeyboardInterrupt):
            extraction(xrays).features(("mixed2", "mixed0"))
    found = extraction(xrays).features(("mixed2", "mixed0"))
    images = cache.images(xrays.rows, xrays.root, SMALL)
    for layer, values in found.items():
        assert np.allclose(values[:], maps_of(xrays, images, layer).mean(axis=(1, 2)), atol=1e-5)


def test_times_of_one_image_go_round_a_few(toys, xrays, monkeypatch):
    decoded, load = set(), sources.load_image

    def counting(root, row):
        decoded.add(row["image_id"])
        return load(root, row)

    monkeypatch.setattr(sources, "load_image", counting)
    times = extraction(xrays).time_one_image("mixed2", images=3)
    assert list(times) == ["decode and prepare", "features"]
    assert all(0 <= one["median"] <= one["p95"] for one in times.values())
    assert decoded == set(xrays.rows["image_id"][:3])


# Losses, schedules and training


def test_multilabel_loss_is_summed_over_the_labels():
    truth = np.array([[1, 0, 1], [0, 0, 0]], np.float32)
    said = np.array([[0.9, 0.2, 0.5], [0.1, 0.1, 0.1]], np.float32)
    expected = -np.log(np.abs(1 - truth - said)).sum(axis=1)
    found = multilabel.summed_cross_entropy(truth, said)
    assert np.allclose(np.asarray(found), expected, atol=1e-5)


def test_poly_schedule_falls_to_zero():
    optimizer = schedules.poly_optimizer("sgd", 0.1, 100, power=0.9, momentum=0.7)
    rate = optimizer._learning_rate
    assert [float(rate(step)) for step in (0, 50, 100, 150)] == pytest.approx(
        [0.1, 0.1 * 0.5**0.9, 0, 0], abs=1e-7
    )
    assert float(rate(99)) > 0
    assert optimizer.momentum == 0.7
    assert type(schedules.poly_optimizer("adam", 0.1, 100)).__name__ == "Adam"
    with pytest.raises(ParameterError, match="'adamw' is neither"):
        schedules.poly_optimizer("adamw", 0.1, 100)


def test_poly_schedule_counts_steps_and_not_the_batches_that_make_one():
    for name in ("sgd", "adam"):
        optimizer = schedules.poly_optimizer(name, 0.1, 10, accumulate=4)
        assert optimizer.gradient_accumulation_steps == 4
        rates = [float(optimizer._learning_rate(batch)) for batch in (3, 4, 20, 23, 39)]
        expected = [0.1 * (1 - step / 10) ** 0.9 for step in (0, 1, 5, 5, 9)]
        assert rates == pytest.approx(expected, abs=1e-7)


def test_present_needs_the_minimum_area():
    masks = np.zeros((3, 10, 10), np.uint8)
    masks[0, 0, 0] = 1
    masks[1, :2, :1] = 1
    masks[2, 5:, :] = 3
    assert multilabel.present(masks).tolist() == [
        [True, False, False],
        [True, False, False],
        [False, False, True],
    ]
    assert multilabel.present(masks, 0.02)[:, 0].tolist() == [False, True, False]
    assert multilabel.present(masks, 0.6).sum() == 0
    assert multilabel.present(masks * 0, 0.0).sum() == 0


def test_the_seed_of_a_multilabel_training_decides():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, SIDE, SIDE), dtype=np.uint8)
    labels = rng.random((6, 3)) < 0.5
    settings = multilabel.MultilabelSettings(epochs=2, batch_size=4, seed=5)
    watched = (images[:2], labels[:2])
    first, history = multilabel.train(images, labels, watched, settings)
    assert history.groupby("subset")["epoch"].apply(list).to_dict() == {
        "train": [1, 2],
        "validation": [1, 2],
    }
    probability = multilabel.predict(first, images)
    assert probability.shape == (6, 3)
    second, _ = multilabel.train(images, labels, watched, settings)
    assert np.array_equal(multilabel.predict(second, images), probability)
