"""The networks, the import of the 2015 weights, and the training of small ones."""

from types import SimpleNamespace

import numpy as np
import pytest
from builders import join, manifest

from covid_utils.errors import DataError, ParameterError
from covid_utils.models import inception, ml_cnn, unet
from covid_utils.training import bottlenecks, multilabel, schedules, segmentation
from covid_utils.training.segmentation import StreamData, StreamSettings

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
    """Let `inception.extractor` take the network that is there."""
    import keras

    monkeypatch.setattr(keras.applications, "InceptionV3", lambda **settings: base)


@pytest.fixture(scope="module")
def arrays(base):
    """Folded weights in the layout of the 2015 file, from a generator of their own."""
    rng = np.random.default_rng(8)
    made = {}
    convolutions, _ = inception._in_creation_order(base)
    for number, layer in enumerate(convolutions):
        shape = tuple(layer.kernel.shape)
        made[f"conv_{number}/kernel"] = rng.normal(0, 0.1, shape).astype(np.float16)
        made[f"conv_{number}/bias"] = rng.normal(0, 1, shape[-1]).astype(np.float32)
    return made


def number_of(base, block, side):
    """Position in creation order of a convolution that lies before or behind a block."""
    convolutions, _ = inception._in_creation_order(base)
    before = inception._feeding(base, block)
    return next(i for i, la in enumerate(convolutions) if (la.name in before) == (side == "before"))


def test_creation_order_is_that_of_the_graph(base):
    convolutions, norms = inception._in_creation_order(base)
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

    assert inception.assign_2015(base, arrays, "mixed10") == []
    convolutions, norms = inception._in_creation_order(base)
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
        inception.assign_2015(base, lacking, "mixed4")


def test_a_kernel_behind_the_features_may_be_missing(base, arrays):
    number = number_of(base, "mixed4", "behind")
    lacking = {key: value for key, value in arrays.items() if key != f"conv_{number}/kernel"}
    assert inception.assign_2015(base, lacking, "mixed4") == [f"conv_{number}"]
    with pytest.raises(DataError, match="mixed10 is incomplete"):
        inception.assign_2015(base, lacking, "mixed10")


@pytest.mark.parametrize("part", ["kernel", "bias"])
def test_another_shape_is_refused(base, arrays, part):
    wrong = arrays | {f"conv_3/{part}": arrays[f"conv_4/{part}"]}
    with pytest.raises(DataError, match="conv_3"):
        inception.assign_2015(base, wrong, "mixed0")


def test_another_number_of_convolutions_is_refused(base, arrays):
    few = {key: value for key, value in arrays.items() if not key.startswith("conv_93/")}
    with pytest.raises(DataError, match="93 convolutions, but Inception-v3 has 94"):
        inception.assign_2015(base, few, "mixed0")


@pytest.mark.real
def test_the_real_2015_weights_reach_mixed8(base, real_data):
    with np.load(real_data / "weights" / "inception_2015.npz") as file:
        weights = dict(file)
    assert inception.assign_2015(base, weights, "mixed8") == [
        "mixed_9_tower_1_conv_1",
        "mixed_10_tower_1_conv_1",
    ]
    with pytest.raises(DataError, match="'mixed_9_tower_1_conv_1' is missing"):
        inception.assign_2015(base, weights, "mixed9")


def test_extractor_refuses_what_it_cannot_do(built_once, monkeypatch):
    import keras

    with pytest.raises(ParameterError, match="feature_layer 'mixed11' is none of"):
        inception.extractor("none", "mixed11")
    with pytest.raises(ParameterError, match="need images to calibrate"):
        inception.extractor("none", "mixed0")
    for name in ("nowhere.npz", "nowhere.weights.h5"):
        with pytest.raises(DataError, match=f"{name}: no such weights file; set the parameter"):
            inception.extractor(name, "mixed0")

    def offline(**settings):
        raise OSError("no network")

    monkeypatch.setattr(keras.applications, "InceptionV3", offline)
    with pytest.raises(DataError, match="could not be downloaded; connect to the network once"):
        inception.extractor("imagenet", "mixed0")


@pytest.mark.parametrize("name", ["damaged.npz", "damaged.weights.h5"])
def test_a_damaged_weights_file_is_named(built_once, tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04 not whole")
    with pytest.raises(DataError, match=name):
        inception.extractor(str(tmp_path / name), "mixed0")


def test_random_extractor_is_frozen_and_decided_by_the_seed():
    images = np.random.default_rng(0).uniform(-1, 1, (2, 299, 299, 3)).astype(np.float32)
    found = []
    for seed in (1, 1, 2):
        model = inception.extractor("none", "mixed0", seed, images)
        assert model.trainable_weights == []
        assert model.output_shape == (None, 256)
        found.append(model(images, training=False).numpy())
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


@pytest.fixture(scope="module")
def pooling():
    """A model of the extractor's shape that only averages."""
    import keras

    image = keras.Input((299, 299, 3))
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(image))


def test_input_is_scaled_resized_and_repeated():
    images = np.zeros((2, 40, 40), np.uint8)
    images[1] = 255
    found = bottlenecks.to_input(images)
    assert found.shape == (2, 299, 299, 3)
    assert found.dtype == np.float32
    assert (found[0] == -1).all()
    assert np.allclose(found[1], 1)


def test_a_short_last_batch_changes_nothing(pooling):
    images = np.random.default_rng(0).integers(0, 256, (bottlenecks.BATCH + 1, 8, 8), np.uint8)
    found = bottlenecks.extract(pooling, images)
    assert found.shape == (bottlenecks.BATCH + 1, 3)
    alone = bottlenecks.extract(pooling, images[-1:])
    assert np.allclose(found[-1], alone[0], atol=1e-6)
    assert np.allclose(found[:, 0], bottlenecks.to_input(images).mean(axis=(1, 2, 3)), atol=1e-4)


def test_features_are_made_once_for_each_network(pooling, monkeypatch, tmp_path):
    rows = manifest({"a": 3}).assign(subset="train")
    made = []

    def extractor(*settings):
        made.append(settings[:3])
        return pooling

    monkeypatch.setattr(inception, "extractor", extractor)
    monkeypatch.setattr(bottlenecks.cache, "images", lambda *_: np.full((3, 8, 8), 51, np.uint8))
    file = tmp_path / "weights.npz"
    file.write_bytes(b"one")
    settings = segmentation.Preprocessing(8)

    def features(weights, layer="mixed8", seed=1):
        return bottlenecks.features(rows, tmp_path, settings, weights, layer, seed)

    assert np.allclose(features(str(file)), 51 / 127.5 - 1, atol=1e-3)
    features(str(file))
    assert len(made) == 1
    file.write_bytes(b"two")
    for again in ((str(file),), (str(file), "mixed7"), ("none",), ("none", "mixed8", 2)):
        features(*again)
        features(*again)
    assert len(made) == 5


# Targets, losses and schedules


@pytest.mark.parametrize("stream", segmentation.STREAMS)
def test_targets_and_labels_round_trip(stream):
    largest = 1 if stream == "nodule" else 3
    masks = np.arange(largest + 1, dtype=np.uint8).repeat(8).reshape(1, -1, 4)
    targets = segmentation.to_targets(masks, stream)
    assert set(np.unique(targets)) == set(range(len(segmentation.STREAMS[stream])))
    kept = segmentation.label_names(stream)
    expected = np.where(np.isin(masks, list(kept)), masks, 0)
    assert np.array_equal(segmentation.to_labels(targets, stream), expected)
    for label, name in kept.items():
        assert segmentation.STREAMS[stream][name] == (label,)


def numpy_loss(truth, logits, lesion_weight):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    probability = np.exp(shifted) / np.exp(shifted).sum(axis=-1, keepdims=True)
    weight = np.where(truth[..., 0] == 1, 1, lesion_weight)
    entropy = -(truth * np.log(probability)).sum(axis=-1)
    entropy = (weight * entropy).sum() / weight.sum()
    dice = []
    for index in range(1, truth.shape[-1]):
        p, t = probability[..., index], truth[..., index]
        dice.append((2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1))
    return entropy + 1 - np.mean(dice)


@pytest.mark.parametrize("lesion_weight", [1.0, 3.0])
def test_dice_cross_entropy_equals_numpy(lesion_weight):
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, (2, 5, 5, 4)).astype(np.float32)
    truth = np.eye(4, dtype=np.float32)[rng.integers(0, 3, (2, 5, 5))]
    found = float(segmentation.dice_cross_entropy(truth, logits, lesion_weight))
    assert found == pytest.approx(numpy_loss(truth, logits, lesion_weight), rel=1e-5)
    perfect = float(segmentation.dice_cross_entropy(truth, truth * 100 - 50))
    assert perfect == pytest.approx(0, abs=1e-4)
    nothing = np.zeros_like(logits)
    nothing[..., 0] = 50
    assert float(segmentation.dice_cross_entropy(truth, nothing)) > 1


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


@pytest.mark.parametrize(
    "wrong", [{"stream": "lung"}, {"model": "deeplab"}, {"init": "imagenet"}, {"stream": "nodule"}]
)
def test_stream_settings_refuse_what_there_is_not(wrong):
    with pytest.raises(ParameterError):
        StreamSettings(**wrong)


# Training on toys


def toy(stream="ggo", seed=0):
    """Ten slices with a bright square on noise; six train, two validate, two test."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 60, (10, SIDE, SIDE), dtype=np.uint8)
    masks = np.zeros_like(images)
    label = 1 if stream in ("ggo", "nodule") else 3
    for image, mask in zip(images, masks, strict=True):
        top, left = rng.integers(3, 7, 2)
        image[top : top + 6, left : left + 6] = 230
        mask[top : top + 6, left : left + 6] = label
    rows = manifest({f"s{i}": 1 for i in range(10)}, "medseg", "covid", "CT")
    rows["subset"] = ["train"] * 6 + ["validation"] * 2 + ["test"] * 2
    return StreamData(rows, images, masks)


TOY = StreamSettings(
    stream="ggo",
    init="random",
    size=SIDE,
    base=2,
    steps=24,
    batch_size=4,
    optimizer="adam",
    learning_rate=0.02,
    evaluate_every=8,
    seed=3,
)


def same_weights(first, second, besides=()):
    return {
        layer.name: all(
            np.array_equal(a, b)
            for a, b in zip(
                layer.get_weights(), second.get_layer(layer.name).get_weights(), strict=True
            )
        )
        for layer in first.layers
        if layer.weights and layer.name not in besides
    }


def test_a_stream_learns_keeps_its_best_and_never_sees_the_test(monkeypatch):
    import keras

    data, parts = toy(), []
    part = StreamData.part
    monkeypatch.setattr(
        StreamData, "part", lambda self, subset: parts.append(subset) or part(self, subset)
    )
    keras.utils.set_random_seed(TOY.seed)
    model = segmentation.build(TOY)
    history = segmentation.train(model, data, TOY)
    assert set(parts) == {"train", "validation"}
    assert list(history) == ["step", "loss", "dice"]
    assert history["step"].tolist() == [8, 16, 24]
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    images, masks = part(data, "validation")
    truth = segmentation.to_targets(masks, "ggo")
    found = segmentation.predict_classes(model, images)
    overlap = 2 * ((truth == 1) & (found == 1)).sum() / ((truth == 1).sum() + (found == 1).sum())
    assert overlap == pytest.approx(history["dice"].max())
    labels = segmentation.predict(model, images, "ggo")
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, found)


def test_the_best_look_at_the_validation_slices_counts_and_not_the_last(monkeypatch):
    settings = StreamSettings(**(vars(TOY) | {"steps": 3, "evaluate_every": 1}))
    model, seen, scores = segmentation.build(settings), [], [0.2, 0.7, 0.1]

    def look(network, images):
        seen.append(network.get_weights())
        return np.zeros(images.shape, np.uint8)

    monkeypatch.setattr(segmentation, "predict_classes", look)
    monkeypatch.setattr(segmentation, "_mean_dice", lambda *_: scores[len(seen) - 1])
    history = segmentation.train(model, toy(), settings)
    assert history["dice"].tolist() == scores
    kept = model.get_weights()
    same = [all(np.array_equal(a, b) for a, b in zip(kept, one, strict=True)) for one in seen]
    assert same == [False, True, False]


def test_weights_of_a_stream_come_from_its_seed():
    first, again = segmentation.build(TOY), segmentation.build(TOY)
    assert all(same_weights(first, again).values())


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


@pytest.fixture
def nodules(monkeypatch):
    """Nodule slices from nowhere, and a record of who was trained on them."""
    data = toy("nodule")
    trained = []
    monkeypatch.setattr(segmentation, "load_data", lambda *_: data)
    monkeypatch.setattr(segmentation, "train", lambda model, data, how: trained.append(how))
    return SimpleNamespace(data=data, trained=trained)


def test_a_stream_starts_from_nodules_but_for_the_last_layer(nodules):
    settings = StreamSettings(**(vars(TOY) | {"stream": "all", "init": "nodule"}))
    donor_settings = StreamSettings(**(vars(TOY) | {"stream": "nodule", "init": "random"}))
    donor = segmentation.build(donor_settings)
    for layer in donor.layers:
        layer.set_weights([np.full_like(w, 0.25) for w in layer.get_weights()])
    path = segmentation.weights_path("quick", donor_settings, nodules.data.rows)
    segmentation.save(donor, path)
    model = segmentation.build(settings)
    logits = model.get_layer(unet.LOGITS).get_weights()
    filled = segmentation.initialise(model, "quick", settings, None)
    assert nodules.trained == []
    assert all(same_weights(donor, model, besides=(unet.LOGITS,)).values())
    assert sorted(filled) == sorted(same_weights(donor, model, besides=(unet.LOGITS,)))
    kept = model.get_layer(unet.LOGITS).get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(kept, logits, strict=True))


def test_nodules_are_trained_once_if_they_were_not(nodules):
    settings = StreamSettings(**(vars(TOY) | {"init": "nodule"}))
    for _ in range(2):
        segmentation.initialise(segmentation.build(settings), "quick", settings, None)
    assert [(how.stream, how.init) for how in nodules.trained] == [("nodule", "random")]


def test_random_start_fills_nothing(nodules):
    model, twin = segmentation.build(TOY), segmentation.build(TOY)
    twin.set_weights(model.get_weights())
    assert segmentation.initialise(model, "quick", TOY, None) == []
    assert all(same_weights(model, twin).values())


def test_other_settings_or_slices_have_other_weights_files():
    rows = toy().rows
    moved = rows.assign(subset=["validation", *rows["subset"][1:]])
    files = {
        segmentation.weights_path("quick", StreamSettings(**(vars(TOY) | change)), table)
        for change, table in (
            ({}, rows),
            ({"seed": 4}, rows),
            ({"steps": 25}, rows),
            ({}, rows.iloc[1:]),
            ({}, moved),
            ({}, rows.assign(sha256="other")),
        )
    }
    assert len(files) == 6
    assert segmentation.weights_path("quick", TOY, rows) in files


def test_a_stream_without_its_data_set_says_which(tmp_path):
    rows = manifest({"a": 2}).assign(subset="train")
    empty = SimpleNamespace(
        select=lambda dataset: rows[rows["dataset"].isin(dataset)], root=tmp_path
    )
    settings = segmentation.Preprocessing(SIDE)
    with pytest.raises(DataError, match="'nodule' needs slices of lidc-idri or luna16"):
        segmentation.load_data(empty, "nodule", settings)
    tests_only = join(manifest({"s": 1}, "medseg", "covid", "CT")).assign(subset="test")
    held = SimpleNamespace(select=lambda dataset: tests_only, root=tmp_path)
    with pytest.raises(DataError, match="'all' needs slices of medseg to train on"):
        segmentation.load_data(held, "all", settings)
