"""Segmentation streams: settings, slices, losses and batches."""

import os
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from builders import manifest, scans_of, stream_settings
from stream_cases import NOWHERE, TINY, TOY, gray, same, toy

from covid_utils.data import augment, foreign
from covid_utils.errors import DataError, ParameterError
from covid_utils.models import deeplab
from covid_utils.training import networks, predict_stream, streams, train_stream
from covid_utils.training.streams import StreamData

# Settings, rows and targets


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"stream": "nodule"}, "cannot start from itself"),
        ({"model": "unet", "init": "imagenet"}, "fits model 'deeplab' of width 1 only"),
        ({"init": "imagenet", "width": 1}, "weights: name the file that init 'imagenet' starts"),
        ({"init": "imagenet", "weights": "imagenet", "width": 0.5}, "of width 1 only"),
        ({"attenuation_margin": 9.0}, "clahe_clip changes .* set one of them to 0"),
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
    empty = scans_of(manifest({"a": 2}).assign(subset="train"))
    message = "'nodule', where others start .* needs slices of lidc-idri or luna16 .* add that data"
    with pytest.raises(DataError, match=message):
        streams.load_data(empty, TOY.replace(stream="nodule"))


def test_slices_are_loaded_with_their_lungs_and_validation_teaches_in_a_refit(monkeypatch):
    rows, plain = toy().rows, gray(10, 16)
    scans = SimpleNamespace(training_rows=lambda *_: rows.copy(), root=NOWHERE.root)
    monkeypatch.setattr(streams.benchmark_lungs, "rough_field", lambda image: np.ones((8, 8), bool))
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
    loss = networks.segmentation_loss(name, class_weights)(truth, logits)
    expected = numpy_loss(truth, logits, class_weights, name != "cross_entropy")
    assert loss.numpy() == pytest.approx([expected], rel=1e-5)


# Batches as the network takes them


def batches(data, settings, count=1, step=0):
    stream = train_stream.training_batches(data, settings, step).take(count)
    return list(stream.as_numpy_iterator())


def test_deeplab_gets_three_channels_and_a_margin_that_counts_for_nothing():
    data = toy(shown=(1, 2, 3))
    settings = TINY.replace(stream="consolidation", batch_size=6)
    ((batch, truth),) = batches(data, settings)
    assert batch.dtype == truth.dtype == np.uint8
    assert batch.shape == (6, 17, 17, 3)
    assert (batch == batch[..., :1]).all()
    for edge in (np.s_[:, -1], np.s_[:, :, -1]):
        assert (batch[edge] == augment.MEAN_GRAY).all()
        assert (truth[edge] == augment.IGNORE).all()
    # Two of the six slices show label 2, the others are all background to this stream.
    inside = truth[:, :-1, :-1]
    assert set(np.unique(inside)) == {0, 1}
    assert (inside == 1).any(axis=(1, 2)).sum() == 2
    inputs = predict_stream.to_input(data.images, settings)
    assert np.array_equal(inputs[:, :-1, :-1, 1], data.images)


@pytest.mark.parametrize(
    ("kind", "augmented"),
    [
        ("affine", augment.pair),
        ("wide", partial(augment.pair, ranges=augment.WIDE)),
        ("foreign", foreign.pair),
    ],
)
def test_the_augmentation_that_is_set_reaches_the_batches(kind, augmented):
    data, settings = toy(), TOY.replace(augmentation=kind, batch_size=6)
    ((batch, truth),) = batches(data, settings)
    images, masks = data.part("train")
    order = np.random.default_rng([settings.seed, 0]).permutation(6)
    for draw, index in enumerate(order):
        rng = np.random.default_rng([settings.seed, draw])
        image, mask = augmented(rng, images[index], masks[index])
        assert np.array_equal(batch[draw, ..., 0], image)
        assert np.array_equal(truth[draw], mask)


@pytest.mark.parametrize("kind", ["affine", "published"])
def test_a_training_that_goes_on_sees_the_same_whatever_the_number_of_threads(kind, monkeypatch):
    settings = TOY.replace(batch_size=4, augmentation=kind)
    whole = batches(toy(), settings, 5)
    for threads in (1, 4):
        monkeypatch.setattr(os, "cpu_count", lambda threads=threads: threads)
        rest = batches(toy(), settings, 2, step=3)
        assert all(all(same(one, other)) for one, other in zip(rest, whole[3:], strict=True))


def test_a_fixed_set_of_copies_is_not_moved_again():
    plain = toy()
    rows = augment.expand(plain.rows, {"train": 12}, seed=1)
    images = augment.copies(plain.images, rows, 1)
    data = StreamData(rows, images, augment.copies(plain.masks, rows, 1, is_mask=True))
    settings = TOY.replace(augmentation="wide", batch_size=12, train_images=12)
    ((batch, _),) = batches(data, settings)
    copies = data.part("train")[0][:]
    assert sorted(map(bytes, batch[..., 0])) == sorted(map(bytes, copies))


def test_every_slice_comes_once_a_round_and_each_round_has_its_order():
    images = np.arange(5, dtype=np.uint8).reshape(5, 1, 1)
    drawn = streams.batches(images, images, 5, 0, lambda _, *pair: pair)
    rounds = [batch.ravel().tolist() for batch, _ in drawn.take(6).as_numpy_iterator()]
    assert all(sorted(one) == [*range(5)] for one in rounds)
    assert len({*map(tuple, rounds)}) > 1
