"""Phantom slices that train beside scans: their masks are exact in every voxel.

They lie in the cache, in no manifest, and none is ever tested on.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

import chest_phantom
from covid_utils import paths
from covid_utils.data import cache, readers
from covid_utils.registry import LESION_SETS
from covid_utils.training import streams
from covid_utils.training.streams import StreamData, StreamSettings

#: Before the names of these slices and of their patients.
PREFIX = "phantom/"
#: Largest side of the slices in pixels; simulating takes longer by its third power.
FINEST = 192


def load(settings: StreamSettings, patients: int, root: Path) -> StreamData:
    """Slices of a phantom, about one for each patient, all for training; written now if need be.

    ``root`` is the folder of the scans that they train with: if that is a phantom too, this one
    shares no patient with it.
    """
    seed = settings.seed
    if chest_phantom.is_phantom(root):
        about = json.loads((root / chest_phantom.SETTINGS_FILE).read_text(encoding="utf8"))
        seed += about["settings"]["seed"] == seed
    side = int(np.clip(settings.image_size, 64, FINEST))
    # X-rays are not used: they have the smallest size.
    wanted = chest_phantom.Settings(
        seed, patients, ct_size=side, xray_size=64, hospital_mark=0.0, any_extent=True
    )
    folder = paths.cache() / "phantom" / f"{seed}_{patients}_{side}"
    place = chest_phantom.write(folder, wanted)
    rows = readers.read_all(place, LESION_SETS).rows
    data = streams.prepared(rows, place, settings.preprocessing, settings.seed)
    names = {name: PREFIX + rows[name] for name in ("image_id", "patient_id")}
    return StreamData(rows.assign(subset="train", **names), data.images, data.masks)


def mixed(data: StreamData, phantom: StreamData, share: float) -> StreamData:
    """Slices of a stream with phantom slices, which are a ``share``, 0 to 1, of those that train.

    To that end training slices of either kind are repeated; no phantom slice is left out, and of
    the others none unless the share is 1. What does not train comes first, as it is.
    """
    if not share:
        return data
    is_training = (data.rows["subset"] == "train").to_numpy()
    own, rest = np.flatnonzero(is_training), np.flatnonzero(~is_training)
    rounds, count = 0, len(phantom.rows)
    if share < 1:
        odds = share / (1 - share)
        rounds = max(1, round(count / (odds * len(own))))
        count = round(odds * rounds * len(own))
    drawn = len(is_training) + np.resize(np.arange(len(phantom.rows)), count)
    order = np.concatenate([rest, np.tile(own, rounds), drawn])
    rows = pd.concat([data.rows, phantom.rows], ignore_index=True).iloc[order]
    images = cache.stacked(data.images, phantom.images).of(order)
    masks = cache.stacked(data.masks, phantom.masks).of(order)
    return StreamData(rows.reset_index(drop=True), images, masks)
