"""Streams on slices of other hospitals, step by step: `registry.STEPS`.

First the networks of the benchmark as they are, then the same with slices that are prepared for
them in other ways, then networks that are trained for slices from anywhere. The last of these is
shipped. Nothing of another hospital ever trains.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import chest_phantom
from covid_utils import params, paths
from covid_utils.data import cache, lung_field, readers
from covid_utils.data.cache import Rows
from covid_utils.data.collection import Collection
from covid_utils.data.images import Preprocessing, preprocess_mask, window
from covid_utils.registry import (
    BEYOND,
    EXTERNAL,
    EXTERNAL_SETS,
    HOSPITAL_NETWORKS,
    LESION_SETS,
    SHIPPED,
    stream_run,
)
from covid_utils.training import predict_stream, streams, train_stream
from covid_utils.training.predict_stream import Committee
from covid_utils.training.stream_ladder import Tested
from covid_utils.training.streams import StreamData, StreamSettings

SMALL, LARGE = HOSPITAL_NETWORKS
#: Step -> how slices are prepared for the benchmark's networks, if not as those that trained them.
PREPARED = {"E0": {}, "E1": {"crop": "field"}, "E2": {"crop": "field", "gray": "landmarks"}}
PREPARED["E3"] = PREPARED["E2"]
#: Steps in which lesions lie in the room around the lungs only.
CUT = ("E3", "E4", "E5", "E6", SHIPPED)
#: Steps that train networks -> whether phantom slices train them, and whether there are several.
LEARNED = {"E4": (False, False), "E5": (True, False), "E6": (True, True), SHIPPED: (True, True)}
#: What networks for slices from anywhere have in common. They start from random weights, as the
#: phantom shows them more than the few nodules of another gray scale would.
ANYWHERE = PREPARED["E2"] | {
    "clahe_clip": 0.0,
    "augmentation": "foreign",
    "init": "random",
    "weights": "",
    "train_images": 0,
    "test_images": 0,
    # Lesions are rarer elsewhere than on slices of a set of lesions: no weight beyond their share.
    "class_weights": (1.0, 1.0, 1.0, 1.0),
}
#: Settings of these networks that are parameters of the notebook.
CHOSEN = ("image_size", "width", "steps", "batch_size", "learning_rate", "seed")
#: Before the names of phantom slices and of their patients. They are in no manifest.
PHANTOM = "phantom/"
#: Largest side of these slices in pixels; simulating takes longer by its third power.
FINEST = 192
#: Evaluations in a training, whose last checkpoints may be averaged.
EVALUATIONS = 5
#: Side of the slices that lung fields are compared on, in pixels.
FIELD_SIZE = 256


def tested(profile: str, scans: Collection, values: Mapping[str, Any]) -> Iterator[Tested]:
    """Go through the steps, and predict test slices of the benchmark and slices of other hospitals.

    ``values`` are the parameters of ``07_other_hospitals``. Weights are kept for a later call.

    Yields:
        What `outlines.of_steps` measures, the two kinds of slices apart. Take the probabilities
        before the next, which may use the same network.
    """
    for network, settings in benchmark(profile, values["imagenet"]).items():
        data = streams.load_data(scans, settings)
        committee, _ = train_stream.train(profile, settings, scans, data, reuse=True)
        for step, change in PREPARED.items():
            about = {"step": step, "network": network}
            yield from _predicted(about, committee, settings.replace(**change), scans)
    for step in LEARNED:
        about = {"step": step, "network": SMALL}
        yield from _predicted(about, *trained(profile, scans, values, step), scans)


def benchmark(profile: str, imagenet: str) -> dict[str, StreamSettings]:
    """Settings of the benchmark's networks by name; the large one starts from ``imagenet``."""
    each = {SMALL: streams.settings_of(params.load(profile, "04_task3_stream", stream="all"))}
    if imagenet:
        job = stream_run("all", init=HOSPITAL_NETWORKS[LARGE])
        change = {"stream": "all", "weights": imagenet}
        each[LARGE] = streams.settings_of(params.load(profile, "04_task3_stream", job, **change))
    return each


def trained(
    profile: str, scans: Collection, values: Mapping[str, Any], step: str = SHIPPED
) -> tuple[Committee, StreamSettings]:
    """The networks of a step that trains, read if they have been trained, and their settings."""
    has_phantom, has_members = LEARNED[step]
    usual = streams.settings_of(params.load(profile, "04_task3_stream", stream="all"))
    chosen = {name: values[name] for name in CHOSEN}
    chosen["evaluate_every"] = max(1, values["steps"] // EVALUATIONS)
    own = usual.replace(**ANYWHERE, **chosen, members=values["members"] if has_members else 1)
    data = everything(scans, own) if step == SHIPPED else streams.load_data(scans, own)
    if has_phantom and values["phantom_share"]:
        phantom = phantom_slices(own, values["phantom_patients"], scans.root)
        data = mixed(data, phantom, values["phantom_share"])
    committee, _ = train_stream.train(profile, own, scans, data, reuse=True)
    return committee, own


def phantom_slices(settings: StreamSettings, patients: int, root: Path) -> StreamData:
    """Slices of a phantom, about one for each patient, all for training; written now if need be.

    ``root`` is the folder of the scans that they train with: if that is a phantom too, this one
    shares no patient with it.
    """
    seed = settings.seed
    if chest_phantom.is_phantom(root):
        about = json.loads((root / chest_phantom.SETTINGS_FILE).read_text(encoding="utf8"))
        if about["settings"]["seed"] == seed:
            seed += 1
    side = int(np.clip(settings.image_size, 64, FINEST))
    # X-rays are not used: they have the smallest size.
    wanted = chest_phantom.Settings(
        seed, patients, ct_size=side, xray_size=64, hospital_mark=0.0, any_extent=True
    )
    folder = paths.cache() / "phantom" / f"{seed}_{patients}_{side}"
    place = chest_phantom.write(folder, wanted)
    rows = readers.read_all(place, LESION_SETS).rows
    data = streams.prepared(rows, place, settings.preprocessing, settings.seed)
    names = {name: PHANTOM + rows[name] for name in ("image_id", "patient_id")}
    return StreamData(rows.assign(subset="train", **names), data.images, data.masks)


def mixed(data: StreamData, phantom: StreamData, share: float) -> StreamData:
    """Slices of a stream with phantom slices, a ``share``, between 0 and 1, of those that train.

    To that end training slices of either kind are repeated, and none is left out. What does not
    train comes first, as it is.
    """
    is_training = (data.rows["subset"] == "train").to_numpy()
    own, rest = np.flatnonzero(is_training), np.flatnonzero(~is_training)
    odds = share / (1 - share)
    rounds = max(1, round(len(phantom.rows) / (odds * len(own))))
    count = round(odds * rounds * len(own))
    drawn = len(is_training) + np.resize(np.arange(len(phantom.rows)), count)
    order = np.concatenate([rest, np.tile(own, rounds), drawn])
    rows = pd.concat([data.rows, phantom.rows], ignore_index=True).iloc[order]
    images = cache.stacked(data.images, phantom.images).of(order)
    masks = cache.stacked(data.masks, phantom.masks).of(order)
    return StreamData(rows.reset_index(drop=True), images, masks)


def everything(scans: Collection, settings: StreamSettings) -> StreamData:
    """All slices with outlined manifestations, those that the benchmark tests on too, to train."""
    rows = scans.training_rows(LESION_SETS, "the shipped network", near_copies=True)
    rows["subset"] = "train"
    return streams.prepared(rows, scans.root, settings.preprocessing, settings.seed)


def lung_fields(scans: Collection) -> tuple[dict[str, str], pd.DataFrame, np.ndarray, np.ndarray]:
    """Where lung fields first count, slices of other hospitals, their lungs and the fields found.

    Lungs are as annotators outlined them. Masks are uint8, 0 or 1, of whole slices,
    (n, `FIELD_SIZE`, `FIELD_SIZE`).
    """
    rows = scans.select(dataset=EXTERNAL_SETS, subset=EXTERNAL)
    whole = Preprocessing(FIELD_SIZE, clahe_clip=0.0)
    truth = np.zeros((len(rows), FIELD_SIZE, FIELD_SIZE), np.uint8)
    for mask, row in zip(truth, rows.itertuples(), strict=True):
        outlined = readers.load_lungs(scans.root, row).astype(np.uint8)
        mask[:] = preprocess_mask(outlined, whole)
    return {"step": "E1", "network": SMALL}, rows, truth, cache.fields(rows, scans.root, whole)[:]


def _predicted(
    about: dict[str, str], committee: Committee, settings: StreamSettings, scans: Collection
) -> Iterator[Tested]:
    """Test slices of the benchmark, unless they have trained the network, and the others'."""
    own, root = settings.preprocessing, scans.root
    tests = () if about["step"] == SHIPPED else (scans.select(dataset=LESION_SETS, subset="test"),)
    others = scans.select(dataset=EXTERNAL_SETS, subset=EXTERNAL)
    for chosen in (part for part in (*tests, others) if len(part)):
        rows = chosen.join(_sizes(chosen, root, own), on="image_id")
        data, room = streams.prepared(rows, root, own, settings.seed), None
        if about["step"] in CUT:
            fields = cache.fields(rows, root, own)
            room = Rows(fields.shape, bool, lambda at, fields=fields: lung_field.grown(fields[at]))
        predicted = predict_stream.probabilities(committee, data.images, settings, room)
        yield about, rows, data.masks, predicted


def _sizes(rows: pd.DataFrame, root: Path, settings: Preprocessing) -> pd.DataFrame:
    """Pixels of the lungs, and of lesions outside the crop, by ``image_id``.

    Lungs are those of annotators where there are any, else those in the manifest.
    """
    counts, shares = [], []
    for row in rows.itertuples():
        outside = readers.load_mask(root, row)
        kept = window(settings, cache.place(row, settings))
        shares.append(settings.size**2 / outside[kept].size)  # the slice is stored in another size
        outside[kept] = 0
        lung = int(row.lungs.split()[3])
        if readers.SOURCES[row.dataset].load_lungs:
            lung = np.count_nonzero(readers.load_lungs(root, row))
        counts.append([lung, *(np.sum(outside == label) for label in BEYOND)])
    sizes = pd.DataFrame(counts, rows["image_id"], ["lung_pixels", *BEYOND.values()])
    return sizes.mul(shares, axis=0).round().astype(np.int64)
