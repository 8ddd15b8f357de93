"""The same streams trained under conditions S0 to S3, which divide the slices differently."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from covid_utils.data import image_conditions
from covid_utils.data.cache import Rows
from covid_utils.data.collection import Collection
from covid_utils.registry import LESION_SETS, MANIFESTATIONS
from covid_utils.training import predict_stream, streams, train_stream
from covid_utils.training.streams import StreamSettings

#: What tells a training from others, its test slices, their masks, and batches of probabilities.
Tested = tuple[dict[str, str | int], pd.DataFrame, np.ndarray | Rows, Iterator[np.ndarray]]


class Training(NamedTuple):
    """One training of a stream: its settings, whose ``member`` counts from 0."""

    settings: StreamSettings
    longer: int = 1  # factor of the steps


def plan(
    condition: str,
    settings: StreamSettings,
    repeats: int,
    specialists: int,
    longer: Sequence[int] = (),
) -> list[Training]:
    """Trainings under a condition; those that share a network follow one another.

    Every condition trains the all-class stream ``repeats`` times and each specialist
    ``specialists`` times. S0, where networks and starts are compared, trains each specialist
    ``repeats`` times, and so the all-class stream from random weights with either network. S0 and
    S3 add one all-class training for each factor ``longer`` of the steps.
    """
    usual = settings.replace(stream="all", members=1, refit=False)
    count = repeats if condition == "S0" else specialists
    kinds = [(usual, repeats)]
    kinds += [(usual.replace(stream=name), count) for name in MANIFESTATIONS]
    if condition == "S0":
        random = usual.replace(init="random", weights="")
        kinds += [(random, repeats), (random.replace(model="unet"), repeats)]
    each = [Training(one.replace(member=k)) for one, count in kinds for k in range(count)]
    factors = longer if condition in ("S0", "S3") else ()
    return each + [Training(usual, factor) for factor in factors]


def train(
    profile: str,
    condition: str,
    collection: Collection,
    trainings: Sequence[Training],
    copies: int,
    tests: int,
) -> Iterator[Tested]:
    """Train streams under a condition, one after the other, and predict their test slices.

    All of the ``trainings``, which are from `plan`, prepare their slices alike; those of one number
    have the same slices, whatever their stream. ``copies`` and ``tests`` are numbers for
    `image_conditions.divide`. Weights are kept, also those of a training that was killed, and a
    later call goes on from there.

    Yields:
        For each training, what `outlines.several` measures. Take its probabilities before the
        next training, which may use the same network.
    """
    rows = collection.training_rows(LESION_SETS, f"condition {condition}", near_copies=True)
    preprocessing = trainings[0].settings.preprocessing
    rows["lung_pixels"] = streams.lung_pixels(rows, collection, preprocessing)
    for own, longer in trainings:
        repeat = own.member + 1
        divided = image_conditions.divide(rows, condition, repeat, own.seed, copies, tests)
        data = streams.data_of(divided, collection, own)
        network, _ = train_stream.train(profile, own, collection, data, reuse=True, longer=longer)
        about = {"stream": own.stream, "model": own.model, "start": own.init}
        about |= {"steps": longer * own.steps, "repeat": repeat}
        tested = data.rows[data.rows["subset"] == "test"].reset_index(drop=True)
        images, masks = data.part("test")
        yield about, tested, masks, predict_stream.probabilities(network, images, own)
