"""Segmentation streams: settings, losses, networks, training that survives a kill, prediction."""

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import keras
import numpy as np
import pytest
from builders import manifest, stream_settings

from covid_utils.data import augment, labels
from covid_utils.errors import DataError, ParameterError
from covid_utils.models import deeplab, imagenet, tf1, unet
from covid_utils.registry import STREAMS
from covid_utils.training import losses, networks, predict_stream, streams, train_stream
from covid_utils.training.streams import StreamData

TOY = stream_settings(
    stream="ggo",
    model="unet",
    init="random",
    image_size=16,
    base=2,
    norm_momentum=0.9,
    steps=24,
    batch_size=4,
    augmentation="affine",
    optimizer="adam",
    learning_rate=0.02,
    loss="dice_cross_entropy",
    evaluate_every=8,
    seed=3,
)
#: Two steps of which batches and devices may make no difference.
PLAIN = TOY.replace(
    stream="all",
    steps=2,
    evaluate_every=1,
    batch_norm="frozen",
    optimizer="sgd",
    learning_rate=0.5,
    loss="cross_entropy",
    class_weights=(1.0, 1.0, 1.0, 1.0),
)
TINY = stream_settings(
    stream="all",
    init="random",
    image_size=32,
    width=0.125,
    middle_blocks=0,
    norm_momentum=0.9,
    steps=3,
    batch_size=2,
    learning_rate=0.01,
    evaluate_every=1,
    seed=5,
)
#: A collection that is only asked where it lies.
NOWHERE = SimpleNamespace(root=Path("/nowhere"))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("COVID_HOME", str(tmp_path / "home"))


def toy(side=16, shown=(1,), seed=0):
    """Ten slices with a bright square on noise; six train, two validate, two test."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 60, (10, side, side), dtype=np.uint8)
    masks = np.zeros_like(images)
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        top, left = rng.integers(3, 7, 2)
        image[top : top + 6, left : left + 6] = 230
        mask[top : top + 6, left : left + 6] = shown[number % len(shown)]
    rows = manifest({f"s{i}": 1 for i in range(10)}, "medseg", "covid", "CT")
    rows["subset"] = ["train"] * 6 + ["validation"] * 2 + ["test"] * 2
    return StreamData(rows, images, masks)


def gray(count, side, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side), dtype=np.uint8)


def state_of(model):
    return [np.array(v) for v in (*model.variables, *model.optimizer.variables)]


def same(first, second):
    return [np.array_equal(a, b) for a, b in zip(first, second, strict=True)]


def scramble(model):
    for number, variable in enumerate((*model.variables, *model.optimizer.variables)):
        variable.assign(np.full(variable.shape, number + 7))


def state_files(settings, data):
    paths = [streams.weights_path("quick", own, data.rows) for own in streams.members_of(settings)]
    return [train_stream.state_path(path) for path in paths]


class KilledError(Exception):
    pass


@contextmanager
def killed_at(call):
    """The training dies when it begins this piece, counted from 1; the one before is kept."""
    fit, calls = keras.Model.fit, []

    def dying(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            raise KilledError
        return fit(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(keras.Model, "fit", dying)
        yield


# Settings, rows and targets


@pytest.mark.parametrize("stream", STREAMS)
def test_targets_and_labels_round_trip(stream):
    largest = 1 if stream == "nodule" else 3
    masks = np.arange(largest + 1, dtype=np.uint8).repeat(8).reshape(1, -1, 4)
    targets = labels.to_targets(masks, stream)
    assert set(np.unique(targets)) == set(range(len(STREAMS[stream])))
    names = labels.label_names(stream)
    expected = np.where(np.isin(masks, list(names)), masks, 0)
    assert np.array_equal(labels.to_labels(targets, stream), expected)
    assert all(STREAMS[stream][name] == (label,) for label, name in names.items())


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"stream": "nodule"}, "cannot start from itself"),
        ({"model": "unet", "init": "imagenet"}, "these weights fit model 'deeplab' only"),
        ({"init": "tf1"}, "weights: name the file that init starts from"),
        ({"init": "imagenet", "weights": "imagenet", "width": 0.5}, "fits width 1 only, not 0.5"),
        ({"attenuation_margin": 9.0}, "which clahe_clip changes .* set one of them to 0"),
        ({"refit": True}, "refit leaves no validation slice"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(wrong, named):
    with pytest.raises(ParameterError, match=named):
        stream_settings(**wrong)


@pytest.mark.parametrize(
    ("settings", "name", "side"),
    [
        ({"image_size": 512}, "stream_all_deeplab", 513),
        ({"image_size": 96, "init": "random"}, "stream_all_deeplab_random", 97),
        ({"stream": "nodule", "init": "random", "image_size": 64}, "stream_nodule_deeplab", 65),
        ({"model": "unet", "init": "random", "image_size": 512}, "stream_all_unet", 512),
        ({"model": "unet", "image_size": 500}, "stream_all_unet_nodule", 512),
    ],
)
def test_a_run_is_named_after_an_unusual_start_and_its_side_fits_the_network(settings, name, side):
    own = stream_settings(**settings)
    assert (own.run_name, own.side) == (name, side)


def test_other_settings_or_slices_have_other_weights_files(monkeypatch):
    rows = toy().rows
    moved = rows.assign(subset=["validation", *rows["subset"][1:]])
    cases = [
        ({}, rows),
        ({"seed": 4}, rows),
        ({"class_weights": (1.0, 2.0, 3.0, 5.0)}, rows),
        ({"augmentation": "wide"}, rows),
        ({}, rows.iloc[1:]),
        ({}, moved),
        ({}, rows.assign(sha256="other")),
    ]
    files = {streams.weights_path("quick", TOY.replace(**c), table) for c, table in cases}
    monkeypatch.setattr(streams, "VERSION", -1)
    files.add(streams.weights_path("quick", TOY, rows))
    assert len(files) == len(cases) + 1


def test_a_stream_without_its_data_set_says_which():
    rows = manifest({"a": 2}).assign(subset="train")
    empty = SimpleNamespace(select=lambda dataset: rows[rows["dataset"].isin(dataset)])
    with pytest.raises(DataError, match="'nodule' needs slices of lidc-idri or luna16"):
        streams.load_data(empty, TOY.replace(stream="nodule"))


def test_slices_are_loaded_with_their_lungs_and_validation_teaches_in_a_refit(monkeypatch):
    rows, plain = toy().rows, gray(10, 16)
    scans = SimpleNamespace(select=lambda dataset: rows.copy(), root=Path("/nowhere"))
    monkeypatch.setattr(streams, "without_near_copies", lambda table: table)
    monkeypatch.setattr(streams.lungs, "lung_field", lambda image: np.ones((8, 8), bool))
    for kind in ("images", "masks"):
        monkeypatch.setattr(streams.cache, kind, lambda *_: plain)
    data = streams.load_data(scans, TOY)
    assert data.rows["subset"].tolist() == rows["subset"].tolist()
    assert set(data.rows["lung_pixels"]) == {64}
    refit = streams.load_data(scans, TOY.replace(refit=True, average_last=1)).rows
    assert refit["subset"].tolist() == ["train"] * 8 + ["test"] * 2
    copies = streams.load_data(scans, TOY.replace(train_images=9))
    assert (copies.rows["subset"] == "train").sum() == 9
    assert copies.rows["lung_pixels"].isna().tolist() == [False] * 10 + [True] * 3


# Losses


def numpy_loss(truth, logits, class_weights, with_dice):
    logits = np.asarray(deeplab.resize_aligned(logits, truth.shape[1:])).astype(float)
    probability = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    counts = truth != augment.IGNORE
    wanted, given = truth[counts], probability[counts]
    weight = np.array(class_weights)[wanted]
    value = -(weight * np.log(given[np.arange(len(wanted)), wanted])).sum() / weight.sum()
    if not with_dice:
        return value

    def dice(classes):
        hit, share = np.isin(wanted, classes), given[:, classes].sum(axis=1)
        return (2 * (hit * share).sum() + 1) / (hit.sum() + share.sum() + 1)

    lesions = list(range(1, logits.shape[-1]))
    value += 1 - np.mean([dice([index]) for index in lesions])
    return value + (1 - dice(lesions) if len(lesions) > 1 else 0)


@pytest.mark.parametrize("name", ["cross_entropy", "dice_cross_entropy"])
@pytest.mark.parametrize("class_weights", [(1.0, 3.0), (1.0, 2.0, 3.0, 4.0)])
def test_losses_equal_numpy(name, class_weights):
    rng = np.random.default_rng(3)
    classes = len(class_weights)
    logits = rng.normal(0, 2, (2, 3, 3, classes)).astype(np.float32)
    truth = rng.integers(0, classes, (2, 9, 9)).astype(np.uint8)
    truth[0, :, 6:] = truth[1, 0] = augment.IGNORE
    loss = losses.segmentation_loss(name, class_weights)(truth, logits)
    expected = numpy_loss(truth, logits, class_weights, name != "cross_entropy")
    assert loss.numpy() == pytest.approx([expected], rel=1e-5)


# Batches as the network takes them


def batches(data, settings, count=1, step=0):
    stream = train_stream.training_batches(data, settings, step).take(count)
    return list(stream.as_numpy_iterator())


def test_deeplab_gets_three_channels_and_a_margin_that_counts_for_nothing():
    data = toy(32, shown=(1, 2, 3))
    settings = TINY.replace(stream="consolidation", augmentation="affine", batch_size=6)
    ((batch, truth),) = batches(data, settings)
    assert batch.dtype == truth.dtype == np.uint8
    assert batch.shape == (6, 33, 33, 3)
    assert (batch == batch[..., :1]).all()
    for edge in (np.s_[:, -1], np.s_[:, :, -1]):
        assert (batch[edge] == augment.MEAN_GRAY).all()
        assert (truth[edge] == augment.IGNORE).all()
    # Two of the six slices show label 2, the others are all background to this stream.
    inside = truth[:, :-1, :-1]
    assert set(np.unique(inside)) == {0, 1}
    assert (inside == 1).any(axis=(1, 2)).sum() == 2
    inputs = predict_stream.to_input(data.images, settings)
    assert np.array_equal(inputs[:, :32, :32, 1], data.images)


def test_what_the_published_augmentation_leaves_empty_counts_for_nothing():
    pairs = batches(toy(), TOY.replace(augmentation="published", batch_size=6), 4)
    images, truths = (np.concatenate(part) for part in zip(*pairs, strict=True))
    assert images.shape == (24, 16, 16, 1)
    assert set(np.unique(truths)) == {0, 1, augment.IGNORE}
    assert (images[..., 0][truths == augment.IGNORE] == augment.MEAN_GRAY).mean() > 0.8


@pytest.mark.parametrize(("kind", "ranges"), [("affine", augment.Ranges()), ("wide", augment.WIDE)])
def test_the_augmentation_that_is_set_reaches_the_batches(kind, ranges):
    data, settings = toy(), TOY.replace(augmentation=kind, batch_size=6)
    ((batch, truth),) = batches(data, settings)
    images, masks = data.part("train")
    order = np.random.default_rng([settings.seed, 0]).permutation(6)
    for draw, index in enumerate(order):
        rng = np.random.default_rng([settings.seed, draw])
        image, mask = augment.pair(rng, images[index], masks[index], ranges)
        assert np.array_equal(batch[draw, ..., 0], image)
        assert np.array_equal(truth[draw], mask)


def test_a_training_that_goes_on_sees_what_it_would_have_seen():
    settings = TOY.replace(accumulate=2, batch_size=2)
    whole, rest = batches(toy(), settings, 8), batches(toy(), settings, 2, step=3)
    for one, other in zip(rest, whole[6:], strict=True):
        assert all(same(one, other))


def test_a_fixed_set_of_copies_is_not_moved_again():
    plain = toy()
    rows = augment.expand(plain.rows, {"train": 12}, seed=1)
    images = augment.copies(plain.images, rows, 1)
    data = StreamData(rows, images, augment.copies(plain.masks, rows, 1, is_mask=True))
    ((batch, _),) = batches(data, TOY.replace(augmentation="wide", batch_size=12))
    copies = data.part("train")[0][:]
    assert sorted(map(bytes, batch[..., 0])) == sorted(map(bytes, copies))


# Training


def test_a_stream_learns_keeps_its_best_and_never_sees_the_test(monkeypatch):
    data, parts = toy(), []
    part = StreamData.part
    monkeypatch.setattr(
        StreamData, "part", lambda self, subset: parts.append(subset) or part(self, subset)
    )
    trained, history = train_stream.train("quick", TOY, NOWHERE, data)
    assert set(parts) == {"train", "validation"}
    assert list(history) == ["step", "loss", "dice", "member"]
    assert history["step"].tolist() == [8, 16, 24]
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    best = train_stream.validation_dice(trained, *part(data, "validation"), TOY)
    assert best == pytest.approx(history["dice"].max())
    # A later use reads the weights, and no state is left.
    monkeypatch.setattr(keras.Model, "fit", None)
    again, history = train_stream.train("quick", TOY, NOWHERE, data, reuse=True)
    assert history.empty
    assert all(same(again.members[0], trained.members[0]))
    assert not state_files(TOY, data)[0].exists()


def test_a_training_that_nothing_watches_says_so():
    data = toy()
    data = replace(data, rows=data.rows.replace({"subset": {"validation": "train"}}))
    settings = TOY.replace(refit=True, average_last=1)
    _, history = train_stream.train("quick", settings, NOWHERE, data)
    assert history["dice"].isna().all()
    assert history["loss"].notna().all()


@pytest.mark.parametrize(
    ("average_last", "kept"), [(0, [1]), (1, [2]), (2, [1, 2]), (9, [0, 1, 2])]
)
def test_the_best_checkpoint_counts_or_the_mean_of_the_last(average_last, kept, monkeypatch):
    settings, scores, seen = TOY.replace(average_last=average_last), [0.2, 0.7, 0.1], []

    def evaluate(network, *_):
        seen.append(network.get_weights())
        return scores[len(seen) - 1]

    def step(self, *_, **__):
        self.set_weights([w + 1 for w in self.get_weights()])
        return SimpleNamespace(history={"loss": [0.0]})

    monkeypatch.setattr(train_stream, "validation_dice", evaluate)
    monkeypatch.setattr(keras.Model, "fit", step)
    trained, history = train_stream.train("quick", settings, NOWHERE, toy())
    assert history["dice"].tolist() == scores
    expected = [np.mean(parts, axis=0) for parts in zip(*(seen[i] for i in kept), strict=True)]
    for weights, wanted in zip(trained.members[0], expected, strict=True):
        assert np.allclose(weights, wanted, atol=1e-5)


def test_the_dice_of_validation_is_pooled_and_counts_the_classes_that_occur(monkeypatch):
    masks = np.zeros((2, 4, 4), np.uint8)
    masks[0, 0], masks[1, 0, :2] = 1, 3
    classes = np.zeros((2, 4, 4), int)
    classes[0, 0, :2], classes[1, 0, 2] = 1, 2
    parts = [np.eye(4)[part[None]] for part in classes]
    monkeypatch.setattr(train_stream, "probabilities", lambda *_: iter(parts))
    # Ground glass 2 * 2 / (4 + 2), effusion 0, the extent of disease 2 * 2 / (6 + 3).
    score = train_stream.validation_dice(None, masks, masks, TINY)
    assert score == pytest.approx(np.mean([4 / 6, 0, 4 / 9]))
    assert np.isnan(train_stream.validation_dice(None, masks, masks * 0, TINY))


def test_members_differ_are_averaged_and_are_not_trained_again_after_a_kill(monkeypatch):
    settings, data = TOY.replace(members=2), toy()
    with killed_at(5):  # the second piece of the second member
        train_stream.train("quick", settings, NOWHERE, data)
    fit, calls = keras.Model.fit, []
    monkeypatch.setattr(
        keras.Model, "fit", lambda self, *a, **k: calls.append(1) or fit(self, *a, **k)
    )
    trained, history = train_stream.train("quick", settings, NOWHERE, data)
    assert len(calls) == 2
    assert history.groupby("member")["step"].apply(list).tolist() == [[8, 16, 24]] * 2
    first, second = trained.members
    assert not any(same(first[:1], second[:1]))
    inputs = predict_stream.to_input(data.part("validation")[0], settings)
    each = []
    for weights in trained.members:
        trained.network.set_weights(weights)
        each.append(trained.network.predict_on_batch(inputs))
    assert np.allclose(trained.predict_on_batch(inputs), np.mean(each, axis=0), atol=1e-6)
    assert not any(path.exists() for path in state_files(settings, data))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not whole"])
def test_a_damaged_state_is_named(content):
    data = toy()
    (state,) = state_files(TOY, data)
    state.parent.mkdir(parents=True)
    state.write_bytes(content)
    with pytest.raises(DataError, match=r"\.state\.npz: not a whole training state .*delete it"):
        train_stream.train("quick", TOY, NOWHERE, data)
    assert state.read_bytes() == content


@pytest.mark.parametrize("kind", ["deeplab", "float16"])
def test_a_training_that_was_killed_ends_as_if_it_had_not_been(kind):
    """Dropout's state, the optimiser's, the scale of a float16 loss and the best so far go on."""
    settings = TINY.replace(augmentation="affine", optimizer="adam", image_size=16, steps=2)
    if kind == "float16":
        settings = TOY.replace(learning_rate=0.002, steps=16, average_last=2)
        keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        data = toy(settings.image_size, shown=(1, 2, 3))
        networks.build(settings).run_eagerly = kind == "deeplab"  # tracing takes a minute
        whole, expected = train_stream.train("quick", settings, NOWHERE, data)
        names = [v.name for v in whole.network.optimizer.variables]
        assert ("dynamic_scale" in names) == (kind == "float16")
        end = state_of(whole.network)
        with killed_at(2):
            train_stream.train("quick", settings, NOWHERE, data)
        assert state_files(settings, data)[0].exists()
        scramble(networks.build(settings))
        again, history = train_stream.train("quick", settings, NOWHERE, data)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    assert history.equals(expected)
    assert all(same(again.members[0], whole.members[0]))
    assert all(same(state_of(again.network), end))


def plain_steps(settings=PLAIN, is_killed=False):
    """Weights after two steps, losses, and what the network then predicts of three slices."""
    data = toy(shown=(1, 2, 3))
    data.rows["subset"] = ["train"] * 8 + ["test"] * 2
    if is_killed:
        with killed_at(2):
            train_stream.train("quick", settings, NOWHERE, data)
    trained, history = train_stream.train("quick", settings, NOWHERE, data)
    parts = list(predict_stream.probabilities(trained.network, data.images[:3], settings))
    return {"loss": history["loss"].to_numpy(), "predicted": np.concatenate(parts)} | {
        f"weight_{number}": weight for number, weight in enumerate(trained.members[0])
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COVID_HOME", str(tmp_path_factory.mktemp("plain")))
        return plain_steps()


def close(arrays, expected):
    assert list(arrays) == list(expected)
    for name, value in expected.items():
        assert np.allclose(arrays[name], value, rtol=1e-4, atol=1e-6), name


def test_two_batches_of_two_make_the_step_of_one_of_four(plain):
    before = networks.build(PLAIN).get_weights()
    moved = [not np.allclose(plain[f"weight_{n}"], w, atol=1e-5) for n, w in enumerate(before)]
    assert sum(moved) > 10
    close(plain_steps(PLAIN.replace(batch_size=2, accumulate=2)), plain)


ON_TWO_DEVICES = """
import sys
import numpy as np
import tensorflow as tf

one = tf.config.LogicalDeviceConfiguration()
processor = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(processor, [one, one])

import test_fused
import test_streams
from covid_utils.training import networks

strategy = networks.strategy_of("CPU")
networks.strategy_of = lambda kind: strategy
np.savez(sys.argv[1], **test_streams.plain_steps(is_killed=True))
agree = test_fused.statistics_agree(strategy)
print(type(strategy).__name__, strategy.num_replicas_in_sync, agree)
"""


def test_two_devices_train_as_one_does(plain, tmp_path):
    places = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(places)}
    command = [sys.executable, "-c", ON_TWO_DEVICES, str(tmp_path / "arrays.npz")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["MirroredStrategy", "2", "True"]
    with np.load(tmp_path / "arrays.npz") as arrays:
        close(dict(arrays), plain)


# Networks


def test_frozen_batch_norms_keep_what_they_came_with():
    trainable = networks.build(PLAIN).trainable_variables
    assert {v.name for v in trainable} == {"kernel", "bias"}
    assert {"gamma", "beta"} <= {v.name for v in networks.build(TOY).trainable_variables}


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
    assert len(penalised) == len(model.losses) == len(kernels) > 10
    expected = settings.weight_decay * sum((kernel**2).sum() for kernel in kernels) / 2
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_the_rate_falls_to_zero_and_counts_steps_not_batches(name):
    own = TOY.replace(optimizer=name, learning_rate=0.1, steps=10, accumulate=4, momentum=0.7)
    optimizer = networks.poly_optimizer(own)
    assert type(optimizer).__name__.lower() == name
    assert getattr(optimizer, "momentum", 0.7) == 0.7
    variable, rates = keras.Variable([1.0]), []
    for _ in range(48):
        rates.append(float(optimizer.learning_rate))
        optimizer.apply([keras.ops.ones(1)], [variable])
    expected = [0.1 * max(0, 1 - batch // 4 / 10) ** 0.9 for batch in range(48)]
    assert rates == pytest.approx(expected, abs=1e-7)


# Where a network starts


@pytest.mark.parametrize(
    ("settings", "stream", "logits"),
    [(TOY, "all", unet.LOGITS), (TINY, "ggo", deeplab.LOGITS)],
    ids=["unet", "deeplab"],
)
def test_a_stream_starts_from_nodules_but_for_the_last_layer(settings, stream, logits, monkeypatch):
    settings = settings.replace(stream=stream, init="nodule", class_weights=(1.0, 3.0, 3.0, 3.0))
    data, fits = toy(settings.image_size), []
    monkeypatch.setattr(train_stream, "validation_dice", lambda *_: 0.5)

    def fit(self, *_, **__):
        fits.append(self)
        scramble(self)
        return SimpleNamespace(history={"loss": [0.0]})

    monkeypatch.setattr(streams, "load_data", lambda *_: data)
    monkeypatch.setattr(keras.Model, "fit", fit)
    donor = settings.replace(stream="nodule", init="random", steps=1, members=1)
    settings = settings.replace(steps=1)
    model = networks.build(settings)
    last = model.get_layer(logits).get_weights()
    for _ in range(2):  # the nodule stream is trained once
        report = train_stream.start(model, "quick", settings, NOWHERE)
    assert len(fits) == 1
    trained, _ = train_stream.train("quick", donor, NOWHERE, reuse=True)
    assert len(fits) == 1
    trained.network.set_weights(trained.members[0])
    expected = {layer.name: layer.get_weights() for layer in trained.network.layers}
    report = train_stream.start(model, "quick", settings, NOWHERE)
    expected[logits] = last
    for layer in model.layers:
        assert all(same(layer.get_weights(), expected[layer.name])), layer.name
    with_weights = [la.name for la in model.layers if la.weights and la.name != logits]
    assert report["layer"].tolist() == with_weights
    assert set(report["how"]) == {"carried"}
    assert not any(np.any(variable) for variable in model.optimizer.variables)


def test_other_starts_take_their_file_from_the_data_folder(monkeypatch):
    model = networks.build(TOY)
    before = state_of(model)
    report = train_stream.start(model, "quick", TOY, NOWHERE)
    assert report.empty
    assert list(report) == ["layer", "source", "how"]
    assert all(same(state_of(model), before))
    monkeypatch.setattr(imagenet, "load_xception", lambda file: file)
    monkeypatch.setattr(imagenet, "carry_over", lambda _, source: source)
    for weights, path in (("imagenet", "imagenet"), ("x.keras", NOWHERE.root / "x.keras")):
        settings = stream_settings(init="imagenet", weights=weights)
        assert train_stream.start(model, "quick", settings, NOWHERE) == path
    monkeypatch.setattr(tf1, "load_checkpoint", lambda _, path: [path.as_posix()])
    settings = stream_settings(init="tf1", weights="65/model.ckpt")
    report = train_stream.start(model, "quick", settings, NOWHERE)
    assert report.to_dict("records") == [
        {"layer": "/nowhere/65/model.ckpt", "source": "/nowhere/65/model.ckpt", "how": "read"}
    ]


# Prediction


@pytest.mark.parametrize("settings", [TOY.replace(image_size=13), TINY], ids=["unet", "deeplab"])
def test_probabilities_sum_to_one_and_have_the_slices_size(settings):
    images, model = gray(9, settings.image_size), networks.build(settings)
    inputs, side = predict_stream.to_input(images, settings), settings.side
    assert inputs.shape[1:3] == (side, side)
    logits = model.predict_on_batch(inputs[:8])
    last = model.layers[-1]
    last.kernel.assign(last.kernel / logits.std())  # else all classes are about as likely
    parts = list(predict_stream.probabilities(model, images, settings))
    assert [len(part) for part in parts] == [8, 1]
    predicted = np.concatenate(parts)
    assert predicted.shape == (*images.shape, len(STREAMS[settings.stream]))
    assert predicted.dtype == np.float32
    assert np.allclose(predicted.sum(axis=-1), 1, atol=1e-5)
    large, size = deeplab.resize_aligned(logits / logits.std(), (side, side)), images.shape[1]
    expected = np.asarray(keras.ops.softmax(large))[:, :size, :size]
    assert np.allclose(predicted[:8], expected, atol=1e-4)
    # A mirrored slice has the mirrored prediction: padding stays on the right.
    mirror = settings.replace(flip_test=True)
    (both,), (turned,) = (
        predict_stream.probabilities(model, part, mirror)
        for part in (images[:3], images[:3, :, ::-1])
    )
    assert np.allclose(turned, both[:, :, ::-1], atol=1e-6)
    assert np.allclose(both.sum(axis=-1), 1, atol=1e-5)
    assert not np.allclose(both, predicted[:3], atol=1e-4)


def test_what_is_no_denser_than_healthy_lung_is_background():
    settings = TOY.replace(image_size=16, clahe_clip=0.0, attenuation_margin=16.0)
    images = np.full((9, 16, 16), 80, np.uint8)
    images[:, 4:10, 4:10] = np.arange(88, 115, 3)[:, None, None]
    logits = np.log(np.float32([0.2, 0.8]))
    model = SimpleNamespace(predict_on_batch=lambda inputs: np.tile(logits, (*inputs.shape[:3], 1)))
    predicted = np.concatenate(list(predict_stream.probabilities(model, images, settings)))
    assert np.allclose(predicted.sum(axis=-1), 1)
    dense = predicted[..., 1] > 0
    assert np.allclose(predicted[dense], (0.2, 0.8))
    assert not dense[:, :4].any()
    assert not dense[:, :, 10:].any()
    assert dense[:, 5:9, 5:9].all(axis=(1, 2)).tolist() == [False] * 3 + [True] * 6
    off = settings.replace(attenuation_margin=0.0)
    assert np.allclose(next(predict_stream.probabilities(model, images, off)), (0.2, 0.8))


def test_predictions_at_several_sizes_are_averaged(monkeypatch):
    settings = TINY.replace(image_size=16, batch_size=4, flip_test=True)
    network = networks.build(settings)
    rng = np.random.default_rng(1)
    fans = [9 if w.shape[-1] == 1 else np.prod(w.shape[:-1]) for w in network.get_weights()]
    members = [
        [
            w if w.ndim == 1 else rng.normal(0, (2 / fan) ** 0.5, w.shape)
            for w, fan in zip(network.get_weights(), fans, strict=True)
        ]
        for _ in range(2)
    ]
    committee, images = predict_stream.Committee(network, members), gray(3, 16)
    both, larger = settings.replace(test_scales=(1.0, 1.5)), settings.replace(image_size=24)
    predicted = np.concatenate([*predict_stream.probabilities(committee, images, both)])
    assert predicted.shape == (3, 16, 16, 4)
    (own,) = predict_stream.probabilities(committee, images, settings)
    enlarged = np.stack([cv2.resize(i, (24, 24), interpolation=cv2.INTER_LINEAR) for i in images])
    twin = predict_stream.Committee(networks.build(larger), members)
    (other,) = predict_stream.probabilities(twin, enlarged, larger)
    other = np.stack([cv2.resize(p, (16, 16), interpolation=cv2.INTER_LINEAR) for p in other])
    assert np.allclose(predicted, (own + other) / 2, atol=1e-6)
    assert not np.allclose(predicted, own, atol=1e-3)
    # The network of the other size is built once.
    monkeypatch.setattr(networks, "build", lambda _: pytest.fail("built again"))
    again = np.concatenate([*predict_stream.probabilities(committee, images, both)])
    assert np.array_equal(again, predicted)


def test_streams_together_have_the_mean_of_their_logits_in_the_same_places():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (3, 10, 4, 4, 3))
    each = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    parts = [iter([part[:8], part[8:]]) for part in each.astype(np.float32)]
    mean = [*predict_stream.together(parts, 4)]
    assert [len(part) for part in mean] == [8, 2]
    expected = np.exp(logits.mean(axis=0))
    expected /= expected.sum(-1, keepdims=True)
    assert np.allclose(np.concatenate(mean), expected, atol=1e-5)
    # One that is certain does not overrule the others for good.
    certain, other = np.float32([[[[1, 0]]]]), np.float32([[[[0.1, 0.9]]]])
    (both,) = predict_stream.together([iter([certain]), iter([other])], 1)
    assert 0 < both[0, 0, 0, 1] < 0.9
    with pytest.raises(ValueError, match="shorter"):
        [*predict_stream.together([iter([certain, certain]), iter([other])], 1)]
    # Of other sizes: the same quarter of the slice, pixel edge on pixel edge.
    fine, coarse = (np.full((3, side, side, 2), 0.5, np.float32) for side in (32, 16))
    for part in (fine, coarse):
        quarter = part.shape[1] // 4
        part[:, quarter : 2 * quarter, : 2 * quarter] = (0.1, 0.9)
    (mean,) = predict_stream.together([iter([coarse]), iter([fine])], 32)
    assert np.allclose(mean.sum(-1), 1)
    assert np.array_equal(mean[..., 1] > 0.7, fine[..., 1] > 0.7)
