"""The same streams trained under conditions S0 to S3, which divide the slices differently."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from covid_utils.data import slice_conditions
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

    @property
    def about(self) -> dict[str, str | int]:
        """What tells its rows from those of other trainings under the same condition."""
        own = self.settings
        return {
            "stream": own.stream,
            "model": own.model,
            "start": own.init,
            "steps": self.longer * own.steps,
            "repeat": own.member + 1,
        }


def plan(
    condition: str,
    settings: StreamSettings,
    repeats: int,
    specialists: int,
    longer: Sequence[int] = (),
) -> list[Training]:
    """Trainings under a condition; those that share a network follow one another.

    Everywhere there are ``repeats`` of the stream of all classes and ``specialists`` of each
    other. Where comparisons are made, in S0, there are as many of each other, and of all classes
    with either network from random weights. S0 and S3 add one training of all classes for each
    factor ``longer`` of the steps.
    """
    usual = settings.replace(stream="all", members=1, refit=False)
    compares = condition == "S0"
    count = repeats if compares else specialists
    kinds = [(usual, repeats)]
    kinds += [(usual.replace(stream=name), count) for name in MANIFESTATIONS]
    if compares:
        random = usual.replace(init="random", weights="")
        kinds += [(random, repeats), (random.replace(model="unet"), repeats)]
    each = [Training(one.replace(member=k)) for one, count in kinds for k in range(count)]
    if condition in ("S0", "S3"):
        each += [Training(usual, factor) for factor in longer]
    return each


def train(
    profile: str,
    condition: str,
    collection: Collection,
    trainings: Sequence[Training],
    copies: int,
    tests: int,
) -> Iterator[Tested]:
    """Train streams under a condition, one after the other, and predict their test slices.

    Weights are kept, also those of a training that was killed, and a later call goes on from
    there. Trainings of the same number have the same slices, whatever their stream.

    Args:
        profile: Whose weights are read and kept.
        condition: S0, S1, S2 or S3.
        collection: The profile's images.
        trainings: From `plan`; all prepare their slices alike.
        copies: For `slice_conditions.divide`, as ``tests``.
        tests: Slices to test on under S3.

    Yields:
        For each training, what `outlines.several` measures. Take its probabilities before the
        next training, which may use the same network.
    """
    rows = collection.training_rows(LESION_SETS, f"condition {condition}", near_copies=True)
    preprocessing = trainings[0].settings.preprocessing
    rows["lung_pixels"] = streams.lung_pixels(rows, collection, preprocessing)
    for one in trainings:
        settings, how = one.settings, {"reuse": True, "longer": one.longer}
        number = settings.member + 1
        own = slice_conditions.divide(rows, condition, number, settings.seed, copies, tests)
        data = streams.data_of(own, collection, settings)
        network, _ = train_stream.train(profile, settings, collection, data, **how)
        tested = data.rows[data.rows["subset"] == "test"].reset_index(drop=True)
        images, masks = data.part("test")
        yield one.about, tested, masks, predict_stream.probabilities(network, images, settings)
