"""Segmentation streams: settings, losses, networks, training that survives a kill, inference."""

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
from builders import join, manifest

from covid_utils.data import augment, splits
from covid_utils.data.images import Preprocessing
from covid_utils.errors import DataError, ParameterError
from covid_utils.models import checkpoints, deeplab, imagenet, unet
from covid_utils.training import (
    committee,
    devices,
    inference,
    losses,
    networks,
    segmentation,
    stream_training,
)
from covid_utils.training.segmentation import StreamData, StreamSettings

TOY = StreamSettings(
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
PLAIN = replace(
    TOY,
    stream="all",
    steps=2,
    evaluate_every=1,
    batch_norm="frozen",
    optimizer="sgd",
    learning_rate=0.5,
    loss="cross_entropy",
    class_weights=(1.0, 1.0, 1.0, 1.0),
)
TINY = StreamSettings(
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


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("COVID_HOME", str(tmp_path / "home"))


def toy(side=16, labels=(1,), seed=0):
    """Ten slices with a bright square on noise; six train, two validate, two test."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 60, (10, side, side), dtype=np.uint8)
    masks = np.zeros_like(images)
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        top, left = rng.integers(3, 7, 2)
        image[top : top + 6, left : left + 6] = 230
        mask[top : top + 6, left : left + 6] = labels[number % len(labels)]
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


# Settings, rows and targets


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


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"stream": "lung"}, "stream 'lung' is none of nodule, all"),
        ({"model": "segnet"}, "model 'segnet' is none of deeplab, unet"),
        ({"init": "kaiming"}, "init 'kaiming' is none of"),
        ({"batch_norm": "off"}, "batch_norm 'off'"),
        ({"augmentation": "none"}, "augmentation 'none'"),
        ({"loss": "dice"}, "loss 'dice'"),
        ({"stream": "nodule"}, "cannot start from itself"),
        ({"model": "unet", "init": "imagenet"}, "these weights fit model 'deeplab' only"),
        ({"model": "unet", "init": "tf1"}, "these weights fit model 'deeplab' only"),
        ({"class_weights": (1.0, 2.0)}, "give four"),
        ({"attenuation_margin": 9.0}, "which clahe_clip changes .* set one of them to 0"),
        ({"refit": True}, "refit leaves no validation slice"),
        ({"test_scales": []}, "give factors above 0"),
        ({"test_scales": [1.0, 0.0]}, "give factors above 0"),
    ],
)
def test_stream_settings_refuse_what_there_is_not(wrong, named):
    with pytest.raises(ParameterError, match=named):
        StreamSettings(**wrong)


def test_settings_pass_over_the_parameters_of_other_things():
    values = {"profile": "quick", "stream": "ggo", "atrous_rates": [1, 2], "train_images": 5}
    found = segmentation.settings_of(values, stream="effusion", seed=7)
    assert found == StreamSettings(stream="effusion", atrous_rates=(1, 2), seed=7)
    assert values["stream"] == "ggo"
    with pytest.raises(ParameterError, match="stream 'lung'"):
        segmentation.settings_of(values, stream="lung")


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "stream_all_deeplab"),
        ({"init": "random"}, "stream_all_deeplab_random"),
        ({"init": "imagenet"}, "stream_all_deeplab_imagenet"),
        ({"stream": "nodule", "init": "random"}, "stream_nodule_deeplab"),
        ({"stream": "nodule", "init": "tf1"}, "stream_nodule_deeplab_tf1"),
        ({"stream": "ggo", "model": "unet", "init": "random"}, "stream_ggo_unet"),
        ({"stream": "ggo", "model": "unet"}, "stream_ggo_unet_nodule"),
    ],
)
def test_a_run_is_named_after_an_unusual_start(settings, name):
    assert StreamSettings(**settings).run_name == name


@pytest.mark.parametrize(
    ("model", "size", "side"),
    [("deeplab", 512, 513), ("deeplab", 96, 97), ("unet", 512, 512), ("unet", 500, 512)],
)
def test_the_networks_side_fits_the_network(model, size, side):
    assert StreamSettings(model=model, init="random", image_size=size).side == side


@pytest.mark.parametrize(
    ("stream", "weights"),
    [
        ("all", (1.0, 2.0, 3.0, 4.0)),
        ("nodule", (1.0, 2.0)),
        ("ggo", (1.0, 2.0)),
        ("consolidation", (1.0, 3.0)),
        ("effusion", (1.0, 4.0)),
    ],
)
def test_a_stream_gets_the_class_weights_of_its_labels(stream, weights):
    found = StreamSettings(stream=stream, init="random", class_weights=[1.0, 2.0, 3.0, 4.0])
    assert found.recipe[1] == weights


def test_slices_of_a_tested_patient_are_not_trained_on():
    rows = manifest({"a": 2, "b": 2, "c": 1, "d": 1}, "medseg", "covid", "CT")
    rows["subset"] = ["train", "test", "train", "validation", "validation", "test"]
    found = splits.without_near_copies(rows)
    assert found["subset"].tolist() == ["unused", "test", *rows["subset"][2:]]
    assert rows["subset"].iloc[0] == "train"


def test_other_settings_or_slices_have_other_weights_files():
    rows = toy().rows
    moved = rows.assign(subset=["validation", *rows["subset"][1:]])
    files = {
        segmentation.weights_path("quick", replace(TOY, **change), table)
        for change, table in (
            ({}, rows),
            ({"seed": 4}, rows),
            ({"steps": 25}, rows),
            ({"class_weights": (1.0, 2.0, 3.0, 5.0)}, rows),
            ({}, rows.iloc[1:]),
            ({}, moved),
            ({}, rows.assign(sha256="other")),
        )
    }
    assert len(files) == 7
    assert segmentation.weights_path("quick", TOY, rows) in files


def test_a_stream_without_its_data_set_says_which(tmp_path):
    rows = manifest({"a": 2}).assign(subset="train")
    empty = SimpleNamespace(
        select=lambda dataset: rows[rows["dataset"].isin(dataset)], root=tmp_path
    )
    settings = Preprocessing(16)
    with pytest.raises(DataError, match="'nodule' needs slices of lidc-idri or luna16"):
        segmentation.load_data(empty, "nodule", settings)
    tests_only = join(manifest({"s": 1}, "medseg", "covid", "CT")).assign(subset="test")
    held = SimpleNamespace(select=lambda dataset: tests_only, root=tmp_path)
    with pytest.raises(DataError, match="'all' needs slices of medseg to train on"):
        segmentation.load_data(held, "all", settings)


def test_validation_slices_teach_once_all_is_chosen(monkeypatch, tmp_path):
    rows = toy().rows
    scans = SimpleNamespace(select=lambda dataset: rows.copy(), root=tmp_path)
    monkeypatch.setattr(segmentation.splits, "without_near_copies", lambda found: found)
    monkeypatch.setattr(segmentation, "lung_pixels", lambda found, *_: np.ones(len(found)))
    for kind in ("images", "masks"):
        monkeypatch.setattr(segmentation.cache, kind, lambda found, *_: np.zeros((len(found), 4)))
    subsets = {
        refit: segmentation.load_data(scans, "all", Preprocessing(4), refit=refit).rows["subset"]
        for refit in (False, True)
    }
    assert subsets[False].tolist() == rows["subset"].tolist()
    assert subsets[True].tolist() == ["train"] * 8 + ["test"] * 2


def test_a_training_that_nothing_watches_says_so(tmp_path):
    data = toy()
    data = replace(data, rows=data.rows.replace({"subset": {"validation": "train"}}))
    settings = replace(TOY, refit=True, average_last=1)
    model = networks.build(settings)
    history = stream_training.train(model, data, settings, tmp_path / "x.weights.h5")
    assert history["dice"].isna().all()
    assert history["loss"].notna().all()


# Losses


def enlarged(logits, size):
    """Linear interpolation between corners that stay where they are."""
    for axis in (1, 2):
        at = np.linspace(0, logits.shape[axis] - 1, size)
        old = np.arange(logits.shape[axis])
        logits = np.apply_along_axis(
            lambda line, old=old, at=at: np.interp(at, old, line), axis, logits
        )
    return logits


def numpy_loss(truth, logits, class_weights, with_dice):
    logits = enlarged(logits.astype(float), truth.shape[1])
    probability = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    counts = truth != losses.IGNORE
    wanted, said = truth[counts], probability[counts]
    weight = np.array(class_weights)[wanted]
    value = -(weight * np.log(said[np.arange(len(wanted)), wanted])).sum() / weight.sum()
    if not with_dice:
        return value

    def dice(classes):
        hit, found = np.isin(wanted, classes), said[:, classes].sum(axis=1)
        return (2 * (hit * found).sum() + 1) / (hit.sum() + found.sum() + 1)

    lesions = list(range(1, logits.shape[-1]))
    value += 1 - np.mean([dice([index]) for index in lesions])
    return value + (1 - dice(lesions) if len(lesions) > 1 else 0)


@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize("class_weights", [(1.0, 1.0), (1.0, 3.0), (1.0, 2.0, 3.0, 4.0)])
@pytest.mark.parametrize("rows", [9, 3])
def test_losses_equal_numpy(name, class_weights, rows):
    rng = np.random.default_rng(3)
    classes = len(class_weights)
    logits = rng.normal(0, 2, (2, rows, rows, classes)).astype(np.float32)
    truth = rng.integers(0, classes, (2, 9, 9)).astype(np.uint8)
    truth[0, :, 6:] = truth[1, 0] = losses.IGNORE
    found = losses.segmentation_loss(name, class_weights)(truth, logits)
    expected = numpy_loss(truth, logits, class_weights, name != "cross_entropy")
    assert found.numpy() == pytest.approx([expected], rel=1e-5)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_ignored_pixels_cost_nothing_whatever_is_said_of_them(name):
    loss = losses.segmentation_loss(name, (1.0, 2.0, 3.0, 4.0))
    truth = np.full((1, 5, 5), losses.IGNORE, np.uint8)
    logits = np.random.default_rng(0).normal(0, 9, (1, 5, 5, 4)).astype(np.float32)
    assert float(loss(truth, logits)[0]) == pytest.approx(0, abs=1e-6)
    truth[0, :3] = 2
    other = logits.copy()
    other[0, 3:] = -other[0, 3:]
    assert float(loss(truth, other)[0]) == pytest.approx(float(loss(truth, logits)[0]), rel=1e-6)


def test_a_lesion_taken_for_another_costs_less_than_one_that_is_missed():
    truth = np.full((1, 6, 6), 0, np.uint8)
    truth[0, 2:4, 2:4] = 1
    said = {"right": 1, "another": 2, "missed": 0}
    logits = {
        name: np.eye(4, dtype=np.float32)[np.where(truth == 1, label, 0)] * 30
        for name, label in said.items()
    }
    for name in losses.LOSSES:
        loss = losses.segmentation_loss(name, (1.0, 1.0, 1.0, 1.0))
        found = {key: float(loss(truth, value)[0]) for key, value in logits.items()}
        assert found["right"] == pytest.approx(0, abs=1e-4)
        assert found["missed"] > 1
        difference = found["missed"] - found["another"]
        assert (
            difference == pytest.approx(0, abs=1e-4)
            if name == "cross_entropy"
            else (difference > 0.3)
        )


def test_a_loss_that_there_is_not_is_refused():
    with pytest.raises(ParameterError, match="loss 'focal' is none of cross_entropy"):
        losses.segmentation_loss("focal", (1.0, 1.0))


# Batches as the network takes them


def test_deeplab_gets_three_channels_and_a_margin_that_counts_for_nothing():
    data = toy(32, labels=(1, 2, 3))
    settings = replace(TINY, stream="consolidation", augmentation="affine", batch_size=6)
    batch, truth = next(iter(stream_training._dataset(data, settings, 0).as_numpy_iterator()))
    assert batch.dtype == truth.dtype == np.uint8
    assert batch.shape == (6, 33, 33, 3)
    assert (batch == batch[..., :1]).all()
    for edge in (np.s_[:, -1], np.s_[:, :, -1]):
        assert (batch[edge] == augment.MEAN_GRAY).all()
        assert (truth[edge] == losses.IGNORE).all()
    # Two of the six slices show label 2, the others are all background to this stream.
    inside = truth[:, :-1, :-1]
    assert set(np.unique(inside)) == {0, 1}
    assert (inside == 1).any(axis=(1, 2)).sum() == 2
    assert np.array_equal(inference.to_input(data.images, settings)[:, :32, :32, 1], data.images)


def test_what_the_published_augmentation_leaves_empty_counts_for_nothing():
    data = toy()
    settings = replace(TOY, augmentation="published", batch_size=6)
    stream = stream_training._dataset(data, settings, 0).take(4).as_numpy_iterator()
    batches, truths = (np.concatenate(part) for part in zip(*stream, strict=True))
    assert batches.shape == (24, 16, 16, 1)
    assert set(np.unique(truths)) == {0, 1, losses.IGNORE}
    assert (batches[..., 0][truths == losses.IGNORE] == augment.MEAN_GRAY).mean() > 0.8


@pytest.mark.parametrize(("kind", "ranges"), [("affine", augment.Ranges()), ("wide", augment.WIDE)])
def test_the_augmentation_that_is_set_reaches_the_batches(kind, ranges):
    data = toy()
    settings = replace(TOY, augmentation=kind, batch_size=6)
    batch, truth = next(iter(stream_training._dataset(data, settings, 0).as_numpy_iterator()))
    images, masks = data.part("train")
    order = np.random.default_rng([settings.seed, 0]).permutation(6)
    for draw, index in enumerate(order):
        rng = np.random.default_rng([settings.seed, draw])
        image, mask = augment.pair(rng, images[index], masks[index], ranges)
        assert np.array_equal(batch[draw, ..., 0], image)
        assert np.array_equal(truth[draw], mask)


def test_wide_batches_have_other_grays_and_the_same_labels():
    settings = replace(TOY, augmentation="wide", batch_size=6)
    stream = stream_training._dataset(toy(), settings, 0).take(4).as_numpy_iterator()
    batches, truths = (np.concatenate(part) for part in zip(*stream, strict=True))
    assert batches.dtype == truths.dtype == np.uint8
    assert set(np.unique(truths)) == {0, 1}
    # The squares are 230 in every slice; seen through other windows they are darker or brighter.
    squares = {int(np.median(b[t == 1])) for b, t in zip(batches[..., 0], truths, strict=True)}
    assert len(squares) > 12
    assert min(squares) < 210
    assert max(squares) > 240


@pytest.mark.parametrize("kind", segmentation.AUGMENTATIONS)
def test_every_kind_of_augmentation_can_be_set_and_makes_batches(kind):
    settings = segmentation.settings_of({"augmentation": kind, "image_size": 16, "model": "unet"})
    assert settings.augmentation == kind
    batch, truth = next(iter(stream_training._dataset(toy(), settings, 0).as_numpy_iterator()))
    assert batch.shape == (4, 16, 16, 1)
    assert truth.shape == (4, 16, 16)


def test_another_augmentation_has_another_weights_file():
    rows = toy().rows
    files = {
        segmentation.weights_path("quick", replace(TOY, augmentation=kind), rows)
        for kind in segmentation.AUGMENTATIONS
    }
    assert len(files) == len(segmentation.AUGMENTATIONS) == 3


def test_a_training_that_goes_on_sees_what_it_would_have_seen():
    settings = replace(TOY, accumulate=2, batch_size=2)
    whole = list(stream_training._dataset(toy(), settings, 0).take(8).as_numpy_iterator())
    rest = list(stream_training._dataset(toy(), settings, 3).take(2).as_numpy_iterator())
    for one, other in zip(rest, whole[6:], strict=True):
        assert all(same(one, other))


@pytest.mark.parametrize("kind", ["affine", "wide"])
def test_a_fixed_set_of_copies_is_not_moved_again(kind):
    plain = toy()
    rows = augment.expand(plain.rows, {"train": 12}, seed=1)
    images, masks = (
        augment.copies(part, rows, 1, is_mask=is_mask)
        for part, is_mask in ((plain.images, False), (plain.masks, True))
    )
    data = StreamData(rows, images, masks)
    settings = replace(TOY, augmentation=kind, batch_size=12)
    batch, _ = next(iter(stream_training._dataset(data, settings, 0).as_numpy_iterator()))
    made = data.part("train")[0][:]
    assert sorted(map(bytes, batch[..., 0])) == sorted(map(bytes, made))


# Training


def test_a_stream_learns_keeps_its_best_and_never_sees_the_test(monkeypatch, tmp_path):
    data, parts = toy(), []
    part = StreamData.part
    monkeypatch.setattr(
        StreamData, "part", lambda self, subset: parts.append(subset) or part(self, subset)
    )
    model = networks.build(TOY)
    history = stream_training.train(model, data, TOY, tmp_path / "x.weights.h5")
    assert set(parts) == {"train", "validation"}
    assert list(history) == ["step", "loss", "dice"]
    assert history["step"].tolist() == [8, 16, 24]
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    images, masks = part(data, "validation")
    truth = segmentation.to_targets(masks, "ggo")
    (found,) = inference.probabilities(model, images, TOY)
    found = found.argmax(-1)
    overlap = 2 * ((truth == 1) & (found == 1)).sum() / ((truth == 1).sum() + (found == 1).sum())
    assert overlap == pytest.approx(history["dice"].max())
    assert list(tmp_path.iterdir()) == [stream_training.state_path(tmp_path / "x.weights.h5")]


@pytest.mark.parametrize(
    ("average_last", "scores", "kept"),
    [
        (0, [0.2, 0.7, 0.1], [1]),
        (1, [0.2, 0.7, 0.1], [2]),
        (2, [0.2, 0.7, 0.1], [1, 2]),
        (9, [0.2, 0.7, 0.1], [0, 1, 2]),
    ],
)
def test_the_best_look_counts_or_the_mean_of_the_last(
    average_last, scores, kept, monkeypatch, tmp_path
):
    settings = replace(TOY, average_last=average_last)
    model, seen = networks.build(settings), []

    def look(network, *_):
        seen.append(network.get_weights())
        return scores[len(seen) - 1]

    def step(data, *_, **__):
        model.set_weights([w + 1 for w in model.get_weights()])
        return SimpleNamespace(history={"loss": [0.0]})

    monkeypatch.setattr(stream_training, "_validate", look)
    monkeypatch.setattr(model, "fit", step)
    history = stream_training.train(model, toy(), settings, tmp_path / "x.weights.h5")
    assert history["dice"].tolist() == scores
    assert len(seen) == len(scores)
    expected = [np.mean(parts, axis=0) for parts in zip(*(seen[i] for i in kept), strict=True)]
    for found, wanted in zip(model.get_weights(), expected, strict=True):
        assert np.allclose(found, wanted, atol=1e-5)


def test_the_dice_of_validation_is_pooled_and_counts_the_classes_that_occur(monkeypatch):
    masks = np.zeros((2, 4, 4), np.uint8)
    masks[0, 0], masks[1, 0, :2] = 1, 3
    said = np.zeros((2, 4, 4), int)
    said[0, 0, :2], said[1, 0, 2] = 1, 2
    answers = [np.eye(4)[part[None]] for part in said]
    monkeypatch.setattr(inference, "probabilities", lambda *_: iter(answers))
    # Ground glass 2 * 2 / (4 + 2), effusion 0, the extent of disease 2 * 2 / (6 + 3).
    score = stream_training._validate(None, masks, masks, TINY)
    assert score == pytest.approx(np.mean([4 / 6, 0, 4 / 9]))
    assert np.isnan(stream_training._validate(None, masks, masks * 0, TINY))


class KilledError(Exception):
    pass


@contextmanager
def killed_after(step):
    """A training dies as soon as the state of a step has been written."""
    keep = stream_training._keep

    def keep_and_die(model, progress, path):
        keep(model, progress, path)
        if progress.step == step:
            raise KilledError

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(stream_training, "_keep", keep_and_die)
        yield


def test_a_training_that_was_killed_ends_as_if_it_had_not_been(tmp_path):
    data, settings = toy(), replace(TOY, average_last=2)
    path, state = tmp_path / "x.weights.h5", tmp_path / "x.state.npz"
    model = networks.build(settings)
    whole = stream_training.train(model, data, settings, path)
    expected = state_of(model)
    state.unlink()
    with killed_after(16):
        stream_training.train(networks.build(settings), data, settings, path)
    assert [found.name for found in tmp_path.iterdir()] == [state.name]
    again = networks.build(settings)
    scramble(again)
    history = stream_training.train(again, data, settings, path)
    assert history.equals(whole)
    assert all(same(state_of(again), expected))


#: A collection that a random start only asks where it lies.
NOWHERE = SimpleNamespace(root=Path("/nowhere"))


def test_members_differ_and_answer_together(monkeypatch):
    settings, data = replace(TOY, members=2), toy()
    seen, history = stream_training.train_members("quick", settings, data, NOWHERE)
    assert history.groupby("member")["step"].apply(list).tolist() == [[8, 16, 24]] * 2
    first, second = seen.members
    assert not any(same(first[:1], second[:1]))
    inputs = inference.to_input(data.part("validation")[0], settings)
    each = []
    for weights in seen.members:
        seen.network.set_weights(weights)
        each.append(seen.network.predict_on_batch(inputs))
    assert np.allclose(seen.predict_on_batch(inputs), np.mean(each, axis=0), atol=1e-6)
    # A later run finds each member's weights, and no state is left.
    monkeypatch.setattr(stream_training, "train", None)
    again = stream_training.trained("quick", settings, data, NOWHERE)
    for found, wanted in zip(again.members, seen.members, strict=True):
        assert all(same(found, wanted))
    paths = [
        segmentation.weights_path("quick", own, data.rows)
        for own in segmentation.members_of(settings)
    ]
    assert not any(stream_training.state_path(path).exists() for path in paths)


def test_members_that_were_done_before_a_kill_are_not_trained_again(monkeypatch):
    settings, data, train = replace(TOY, members=2), toy(), stream_training.train
    done = []

    def second_is_killed(model, data, own, path):
        if own.member == 1:
            raise KilledError
        return train(model, data, own, path)

    monkeypatch.setattr(stream_training, "train", second_is_killed)
    with pytest.raises(KilledError):
        stream_training.train_members("quick", settings, data, NOWHERE)
    monkeypatch.setattr(stream_training, "train", train)
    fit = keras.Model.fit
    monkeypatch.setattr(
        keras.Model, "fit", lambda self, *a, **k: done.append(1) or fit(self, *a, **k)
    )
    _, history = stream_training.train_members("quick", settings, data, NOWHERE)
    assert len(done) == 3  # the pieces of the second member
    assert len(history) == 6


def test_no_members_are_refused():
    with pytest.raises(ParameterError, match="members: 0"):
        replace(TOY, members=0)


def test_a_kept_state_holds_dropout_the_optimiser_and_the_best_so_far(tmp_path):
    model, path = networks.build(TINY), tmp_path / "x.state.npz"
    scramble(model)
    expected = state_of(model)
    row = {"step": 7, "loss": 0.1, "dice": float("nan")}
    rest = {"weights": model.get_weights(), "total": [np.arange(3.0)], "curve": [row]}
    stream_training._keep(model, stream_training.Progress(7, 0.3, **rest), path)
    networks.reset(model, 1)
    assert not any(same(state_of(model), expected))
    found = stream_training._restore(model, path)
    assert all(same(state_of(model), expected))
    assert "seed_generator_state" in {variable.name for variable in model.variables}
    assert (found.step, found.best, str(found.curve)) == (7, 0.3, str([row]))
    assert all(same(found.weights, rest["weights"]))
    assert all(same(found.total, rest["total"]))


@pytest.mark.parametrize("content", [b"", b"not a state", b"PK\x03\x04 not whole"])
def test_a_damaged_state_is_named(content, tmp_path):
    state = tmp_path / "x.state.npz"
    state.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.state\.npz: a damaged training state; delete it"):
        stream_training.train(networks.build(TOY), toy(), TOY, tmp_path / "x.weights.h5")
    assert state.read_bytes() == content


def plain_steps(folder, settings=PLAIN, is_killed=False):
    """Weights after two steps, losses, and what the network then says of three slices."""
    data = toy(labels=(1, 2, 3))
    data.rows["subset"] = ["train"] * 8 + ["test"] * 2
    model, path = networks.build(settings), Path(folder) / "x.weights.h5"
    if is_killed:
        with killed_after(1):
            stream_training.train(model, data, settings, path)
        model = networks.build(settings)
    history = stream_training.train(model, data, settings, path)
    found = np.concatenate(list(inference.probabilities(model, data.images[:3], settings)))
    return {"loss": history["loss"].to_numpy(), "said": found} | {
        f"weight_{number}": weight for number, weight in enumerate(model.get_weights())
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return plain_steps(tmp_path_factory.mktemp("plain"))


def close(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert np.allclose(found[name], value, rtol=1e-4, atol=1e-6), name


def test_two_batches_of_two_make_the_step_of_one_of_four(plain, tmp_path):
    before = networks.build(PLAIN).get_weights()
    moved = [not np.allclose(plain[f"weight_{n}"], w, atol=1e-5) for n, w in enumerate(before)]
    assert sum(moved) > 10
    close(plain_steps(tmp_path, replace(PLAIN, batch_size=2, accumulate=2)), plain)


ON_TWO_DEVICES = """
import sys
import numpy as np
import tensorflow as tf

one = tf.config.LogicalDeviceConfiguration()
processor = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(processor, [one, one])

import test_streams
from covid_utils.training import devices, networks

strategy = devices.strategy_of("CPU")
networks.strategy_of = lambda kind: strategy
found = test_streams.plain_steps(sys.argv[1], is_killed=True)
np.savez(sys.argv[2], **found)
print(type(strategy).__name__, strategy.num_replicas_in_sync)
"""


def test_two_devices_train_as_one_does(plain, tmp_path):
    places = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(places)}
    command = [sys.executable, "-c", ON_TWO_DEVICES, str(tmp_path), str(tmp_path / "found.npz")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["MirroredStrategy", "2"]
    with np.load(tmp_path / "found.npz") as found:
        close(dict(found), plain)


def test_one_device_needs_no_strategy():
    import tensorflow as tf

    assert not isinstance(devices.strategy_of("CPU"), tf.distribute.MirroredStrategy)


# Networks


def test_frozen_batch_norms_keep_what_they_came_with():
    trainable = networks.build(PLAIN).trainable_variables
    assert {v.name for v in trainable} == {"kernel", "bias"}
    assert {"gamma", "beta"} <= {v.name for v in networks.build(TOY).trainable_variables}


def test_streams_of_one_shape_share_a_network_and_others_do_not():
    first = networks.build(TOY)
    same_question = replace(TOY, stream="nodule", seed=8, evaluate_every=2, flip_test=True)
    assert networks.build(same_question) is first
    assert networks.build(PLAIN) is not first


@pytest.mark.parametrize("settings", [TOY, TINY], ids=["unet", "deeplab"])
def test_the_same_seed_draws_the_same_weights_whatever_was_there_before(settings):
    model = networks.build(settings)
    first = state_of(model)
    scramble(model)
    assert not any(same(state_of(model), first))
    assert networks.build(settings) is model
    assert all(same(state_of(model), first))
    other = networks.build(replace(settings, seed=settings.seed + 1))
    assert other is model
    for layer, before in zip(model.variables, first, strict=False):
        is_drawn = layer.name in ("kernel", "seed_generator_state")
        assert np.array_equal(layer, before) != is_drawn, layer.path
    assert not any(np.any(variable) for variable in model.optimizer.variables)


def test_no_two_layers_of_a_shape_have_the_same_weights():
    kernels = [np.array(v) for v in networks.build(TINY).variables if v.name == "kernel"]
    drawn = {kernel.tobytes() for kernel in kernels}
    assert len(drawn) == len(kernels)


@pytest.mark.parametrize("settings", [TOY, TINY], ids=["unet", "deeplab"])
def test_convolution_kernels_are_penalised_and_nothing_else(settings):
    model = networks.build(settings)
    kernels = [
        np.array(layer.kernel, np.float64)
        for layer in model.layers
        if type(layer).__name__ in ("Conv2D", "Conv2DTranspose")
    ]
    penalised = [v for v in model.variables if getattr(v, "regularizer", None) is not None]
    assert len(penalised) == len(model.losses) == len(kernels) > 10
    others = {type(la).__name__ for la in model.layers if la.weights} - {"Conv2D"}
    assert "BatchNormalization" in others
    assert ("DepthwiseConv2D" in others) == (settings.model == "deeplab")
    expected = settings.weight_decay * sum((kernel**2).sum() for kernel in kernels) / 2
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)


# Where a network starts


@pytest.fixture
def nodules(monkeypatch):
    """Nodule slices from nowhere, and a record of who was trained on them."""
    data, trained = toy(), []

    def train(model, data, how, path):
        trained.append(how)
        scramble(model)

    monkeypatch.setattr(segmentation, "load_data", lambda *_: data)
    monkeypatch.setattr(stream_training, "train", train)
    return SimpleNamespace(data=data, trained=trained, root=Path("/nowhere"))


@pytest.mark.parametrize(
    ("settings", "stream", "logits"),
    [(TOY, "all", unet.LOGITS), (TOY, "ggo", unet.LOGITS), (TINY, "ggo", deeplab.LOGITS)],
    ids=["unet all", "unet ggo", "deeplab ggo"],
)
def test_a_stream_starts_from_nodules_but_for_the_last_layer(nodules, settings, stream, logits):
    settings = replace(settings, stream=stream, init="nodule")
    donor_settings = segmentation.nodule_settings(settings)
    assert (donor_settings.stream, donor_settings.init) == ("nodule", "random")
    donor = networks.build(donor_settings)
    scramble(donor)
    path = segmentation.weights_path("quick", donor_settings, nodules.data.rows)
    stream_training.save(donor, path)
    expected = {layer.name: layer.get_weights() for layer in donor.layers}
    model = networks.build(settings)
    # With the nodules' class weights a stream of one lesion is the very same network.
    assert (model is donor) == (stream == "ggo")
    expected[logits] = model.get_layer(logits).get_weights()
    report = stream_training.initialise(model, "quick", settings, nodules)
    assert nodules.trained == []
    for layer in model.layers:
        assert all(same(layer.get_weights(), expected[layer.name])), layer.name
    with_weights = [la.name for la in model.layers if la.weights and la.name != logits]
    assert report["layer"].tolist() == with_weights
    assert set(report["how"]) == {"carried"}
    assert not any(np.any(variable) for variable in model.optimizer.variables)


def test_nodules_are_trained_once_if_they_were_not(nodules):
    settings = replace(TOY, init="nodule")
    for _ in range(2):
        model = networks.build(settings)
        stream_training.initialise(model, "quick", settings, nodules)
    assert [(how.stream, how.init) for how in nodules.trained] == [("nodule", "random")]


def test_a_stream_is_trained_unless_an_earlier_run_left_its_weights(nodules):
    path = segmentation.weights_path("quick", TOY, nodules.data.rows)
    (first,) = stream_training.trained("quick", TOY, nodules.data, nodules).members
    assert nodules.trained == [TOY]
    assert path.is_file()
    (again,) = stream_training.trained("quick", TOY, nodules.data, nodules).members
    assert nodules.trained == [TOY]
    assert all(same(again, first))
    stream_training.trained("quick", replace(TOY, seed=9), nodules.data, nodules)
    assert [how.seed for how in nodules.trained] == [3, 9]


def test_random_start_fills_nothing(nodules):
    model = networks.build(TOY)
    before = state_of(model)
    report = stream_training.initialise(model, "quick", TOY, nodules)
    assert len(report) == 0
    assert list(report) == ["layer", "source", "how"]
    assert all(same(state_of(model), before))


class NarrowXception:
    """Keras's Xception but for the shapes: its first kernel fits a narrow network, no other."""

    def __init__(self):
        names = [f"conv2d_{number}" for number in range(4)]
        self.layers = [self._layer(name) for name in names]
        for name in ("block1_conv1", "block1_conv2", "block14_sepconv1", "block14_sepconv2"):
            self.layers += [self._layer(name), self._layer(f"{name}_bn")]
        for block in (2, 3, 4, 13):
            for part in ("sepconv1", "sepconv2", "sepconv1_bn", "sepconv2_bn"):
                self.layers.append(self._layer(f"block{block}_{part}"))

    def _layer(self, name):
        shape = (3, 3, 3, 8) if name == "block1_conv1" else (1, 1, 1, 1)
        values = [np.full(shape, 0.5)] if not name.endswith("_bn") else [np.full(8, 2.0)] * 4
        end = {"input": name.removesuffix("_bn"), "output": name}
        kernel = {"kernel": values[0], "kernel_size": shape[:2]}
        return SimpleNamespace(name=name, get_weights=lambda: values, **end, **kernel)

    def get_layer(self, name):
        return next(layer for layer in self.layers if layer.name == name)


def test_an_imagenet_start_fills_what_fits_and_leaves_the_last_layer(nodules, monkeypatch):
    settings, asked = replace(TINY, init="imagenet", weights="x.keras"), []
    monkeypatch.setattr(
        imagenet, "load_xception", lambda weights: asked.append(weights) or NarrowXception()
    )
    model = networks.build(settings)
    before = {layer.name: layer.get_weights() for layer in model.layers}
    report = stream_training.initialise(model, "quick", settings, nodules)
    assert asked == [str(nodules.root / "x.keras")]
    how = report.set_index("layer")["how"]
    assert how[how == "carried"].index.tolist() == ["entry_flow.conv1_1"]
    assert {"identity", "random"} < set(how)
    stem = model.get_layer("entry_flow.conv1_1")
    assert (stem.get_weights()[0] == 0.5).all()
    assert (model.get_layer("entry_flow.conv1_1.BatchNorm").get_weights()[0] == 2).all()
    for name in (deeplab.LOGITS, "aspp0", *how.index[how == "random"]):
        assert all(same(model.get_layer(name).get_weights(), before[name])), name
    settings = replace(settings, weights="imagenet")
    stream_training.initialise(model, "quick", settings, nodules)
    assert asked[1:] == ["imagenet"]


def test_a_tf1_start_reads_the_checkpoint_in_the_data_folder(nodules, monkeypatch):
    asked = []
    monkeypatch.setattr(
        checkpoints, "load_tf1_checkpoint", lambda model, path: asked.append(path) or ["aspp0"]
    )
    settings = replace(TINY, init="tf1", weights="xception_65/model.ckpt")
    report = stream_training.initialise(networks.build(settings), "quick", settings, nodules)
    assert asked == [nodules.root / "xception_65" / "model.ckpt"]
    assert report.to_dict("list") == {"layer": ["aspp0"], "source": ["aspp0"], "how": ["read"]}


@pytest.mark.parametrize("init", ["imagenet", "tf1"])
def test_a_start_from_a_file_needs_its_name(nodules, init):
    settings = replace(TINY, init=init)
    with pytest.raises(ParameterError, match="weights: name the file that init starts from"):
        stream_training.initialise(networks.build(settings), "quick", settings, nodules)


# Inference


@pytest.mark.parametrize("settings", [replace(TOY, image_size=13), TINY], ids=["unet", "deeplab"])
def test_probabilities_sum_to_one_and_have_the_slices_size(settings):
    import keras

    images, model = gray(9, settings.image_size), networks.build(settings)
    inputs, side, size = inference.to_input(images, settings), settings.side, settings.image_size
    assert inputs.shape[1:3] == (side, side)
    said = model.predict_on_batch(inputs[:8])
    last = model.layers[-1]
    last.kernel.assign(last.kernel / said.std())  # else all classes are as good as alike
    found = list(inference.probabilities(model, images, settings))
    assert [len(part) for part in found] == [8, 1]
    found = np.concatenate(found)
    assert found.shape == (*images.shape, len(segmentation.STREAMS[settings.stream]))
    assert found.dtype == np.float32
    assert np.allclose(found.sum(axis=-1), 1, atol=1e-5)
    large = deeplab.resize_aligned(said / said.std(), (side, side))
    expected = np.asarray(keras.ops.softmax(large))[:, :size, :size]
    assert np.allclose(found[:8], expected, atol=1e-4)
    # A mirrored slice gets the mirrored answer: padding stays on the right.
    settings = replace(settings, flip_test=True)
    (both,), (turned,) = (
        inference.probabilities(model, part, settings) for part in (images[:3], images[:3, :, ::-1])
    )
    assert np.allclose(turned, both[:, :, ::-1], atol=1e-6)
    assert np.allclose(both.sum(axis=-1), 1, atol=1e-5)
    assert not np.allclose(both, found[:3], atol=1e-4)


def test_what_is_no_denser_than_healthy_lung_is_background(monkeypatch):
    settings = replace(TOY, image_size=13, clahe_clip=0.0, attenuation_margin=16.0)
    images = np.full((9, 13, 13), 80, np.uint8)
    images[:, 4:10, 4:10] = np.arange(88, 115, 3)[:, None, None]
    truth = np.tile(np.float32([0.2, 0.8]), (9, settings.side, settings.side, 1))
    monkeypatch.setattr(inference, "_softmax", lambda _, inputs: truth[: len(inputs)].copy())
    found = np.concatenate(list(inference.probabilities(None, images, settings)))
    assert found.shape == (9, 13, 13, 2)
    assert np.allclose(found.sum(axis=-1), 1)
    dense = found[..., 1] > 0
    assert np.allclose(found[dense], (0.2, 0.8))
    assert not dense[:, :4].any()
    assert not dense[:, :, 10:].any()
    assert dense[:, 5:9, 5:9].all(axis=(1, 2)).tolist() == [False] * 3 + [True] * 6
    off = replace(settings, attenuation_margin=0.0)
    assert np.allclose(next(inference.probabilities(None, images, off)), (0.2, 0.8))


def test_answers_at_several_sizes_are_averaged(monkeypatch):
    settings = replace(TINY, image_size=16, batch_size=4, flip_test=True)
    networks_of = networks.build(settings)
    rng = np.random.default_rng(1)
    fans = [9 if w.shape[-1] == 1 else np.prod(w.shape[:-1]) for w in networks_of.get_weights()]
    members = [
        [
            w if w.ndim == 1 else rng.normal(0, (2 / fan) ** 0.5, w.shape)
            for w, fan in zip(networks_of.get_weights(), fans, strict=True)
        ]
        for _ in range(2)
    ]
    seen, images = committee.Committee(networks_of, members), gray(3, 16)
    both = replace(settings, test_scales=(1.0, 1.5))
    found = np.concatenate([*inference.probabilities(seen, images, both)])
    assert found.shape == (3, 16, 16, 4)
    (own,) = inference.probabilities(seen, images, settings)
    larger = replace(settings, image_size=24)
    enlarged = np.stack([cv2.resize(i, (24, 24), interpolation=cv2.INTER_LINEAR) for i in images])
    twin = committee.Committee(networks.build(larger), members)
    (other,) = inference.probabilities(twin, enlarged, larger)
    other = np.stack([cv2.resize(p, (16, 16), interpolation=cv2.INTER_LINEAR) for p in other])
    assert np.allclose(found, (own + other) / 2, atol=1e-6)
    assert not np.allclose(found, own, atol=1e-3)
    # The network of the other size is built once.
    monkeypatch.setattr(networks, "build", lambda _: pytest.fail("built again"))
    again = np.concatenate([*inference.probabilities(seen, images, both)])
    assert np.array_equal(again, found)


def test_streams_together_say_the_mean_of_their_logits():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (3, 10, 4, 4, 3))
    said = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    answers = [iter([part[:8], part[8:]]) for part in said.astype(np.float32)]
    found = [*inference.together(answers, 4)]
    assert [len(part) for part in found] == [8, 2]
    mean = np.exp(logits.mean(axis=0))
    assert np.allclose(np.concatenate(found), mean / mean.sum(-1, keepdims=True), atol=1e-5)
    # One that is sure of a thing does not silence the others for good.
    sure, other = np.float32([[[[1, 0]]]]), np.float32([[[[0.1, 0.9]]]])
    (both,) = inference.together([iter([sure]), iter([other])], 1)
    assert 0 < both[0, 0, 0, 1] < 0.9
    with pytest.raises(ValueError, match="shorter"):
        [*inference.together([iter([sure, sure]), iter([other])], 1)]


def test_streams_of_other_sizes_meet_in_the_same_places():
    fine, coarse = (np.full((3, side, side, 2), 0.5, np.float32) for side in (32, 16))
    for part in (fine, coarse):  # the same quarter of the slice, pixel edge on pixel edge
        quarter = part.shape[1] // 4
        part[:, quarter : 2 * quarter, : 2 * quarter] = (0.1, 0.9)
    (found,) = inference.together([iter([coarse]), iter([fine])], 32)
    assert found.shape == fine.shape
    assert np.allclose(found.sum(-1), 1)
    assert np.array_equal(found[..., 1] > 0.7, fine[..., 1] > 0.7)


def test_the_scale_of_a_float16_loss_survives_a_reset_and_a_state(tmp_path):
    keras = pytest.importorskip("keras")
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        model = networks.build(replace(TOY, seed=5, learning_rate=0.002))
        names = [variable.name for variable in model.optimizer.variables]
        assert "dynamic_scale" in names
        networks.reset(model, 5)
        scale = model.optimizer.variables[names.index("dynamic_scale")]
        assert float(scale) == model.optimizer.initial_scale > 0
        stream_training._keep(model, stream_training.Progress(step=3), tmp_path / "a.state.npz")
        networks._compiled.cache_clear()
        again = networks.build(replace(TOY, seed=6, learning_rate=0.002))
        assert stream_training._restore(again, tmp_path / "a.state.npz").step == 3
        for kept, new in zip(model.get_weights(), again.get_weights(), strict=True):
            assert np.array_equal(kept, new)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
        networks._compiled.cache_clear()
