"""Toy slices, and networks of few layers that train on them in a second."""

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from builders import manifest, stream_settings

from covid_utils.models import deeplab, unet
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
#: As `TOY`, but DeepLab-v3+.
TINY = TOY.replace(
    model="deeplab", width=0.125, atrous_rates=(1,), learning_rate=0.01, steps=2, evaluate_every=1
)
#: Two steps of which batches and devices may make no difference.
PLAIN = TOY.replace(
    stream="all",
    steps=2,
    evaluate_every=1,
    optimizer="sgd",
    learning_rate=0.5,
    loss="cross_entropy",
    class_weights=(1.0, 1.0, 1.0, 1.0),
)
#: A collection that is only asked where it lies.
NOWHERE = SimpleNamespace(root=Path("/nowhere"))


@contextmanager
def small_networks(home):
    """A U-Net of two levels and an encoder of two blocks; runs are kept in ``home``."""
    blocks = list(deeplab.blocks(0))[:2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unet, "DEPTH", 1)
        patch.setattr(deeplab, "blocks", lambda _: blocks)
        patch.setenv("COVID_HOME", str(home))
        yield


def toy(shown=(1,)):
    """Ten slices with a bright square on noise; six train, two validate, two test."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (10, 16, 16), dtype=np.uint8)
    masks = np.zeros_like(images)
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        top, left = rng.integers(3, 7, 2)
        image[top : top + 6, left : left + 6] = 230
        mask[top : top + 6, left : left + 6] = shown[number % len(shown)]
    rows = manifest({f"s{i}": 1 for i in range(10)}, "medseg", "covid", "CT")
    rows["subset"] = ["train"] * 6 + ["validation"] * 2 + ["test"] * 2
    return StreamData(rows, images, masks)


def gray(count, side):
    return np.random.default_rng(0).integers(0, 256, (count, side, side), dtype=np.uint8)


def state_of(model):
    return [np.array(v) for v in (*model.variables, *model.optimizer.variables)]


def same(first, second):
    return [np.array_equal(a, b) for a, b in zip(first, second, strict=True)]


def scramble(model):
    for number, variable in enumerate((*model.variables, *model.optimizer.variables)):
        variable.assign(np.full(variable.shape, number + 7))
