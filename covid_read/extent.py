"""A case goes through a network in batches: labels, their probability, and how far they reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np

from covid_read.cases import NOTHING, Batch, Case
from covid_utils.data import lung_field
from covid_utils.data.images import Preprocessing, place_of, preprocess, preprocess_mask, window
from covid_utils.registry import LABEL_CLASSES

#: Slices that are outlined at once.
BATCH = 8
#: Why nothing was outlined in a case.
XRAY = "It is an X-ray, and the network knows CT slices only."
NO_SCALE = "It has no Hounsfield units, and does not look like an axial CT slice of the chest."
NO_LUNG = "It shows no lung field in a known gray scale, so nothing is said about it."


#: From slices to labels, uint8, and the probability of each pixel's label, float32; both are shaped
#: as the slices.
Outline = Callable[[Batch], tuple[np.ndarray, np.ndarray]]


def on_whole_slices(
    predict: Callable[[np.ndarray, np.ndarray], np.ndarray], settings: Preprocessing
) -> Outline:
    """An outline of slices as they are, by a network that knows them cropped to the lung field.

    Args:
        predict: From prepared slices, uint8 (n, size, size), and where lesions may lie, bool (n,
            size, size), to the probabilities of background and of `LABEL_CLASSES`, float32 (n,
            size, size, classes).
        settings: How slices are prepared for it.
    """

    def outline(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        given = crops(batch, settings)
        room = [
            lung_field.grown(preprocess_mask(field.astype(np.uint8), settings, place))
            for field, place in zip(given.fields, given.places, strict=True)
        ]
        labels = np.zeros(given.squares.shape, np.uint8)
        chance = np.zeros(given.squares.shape, np.float32)
        for at, predicted in enumerate(predict(given.images, np.stack(room))):
            chances = put_back(predicted, settings, given.places[at], given.squares[at])
            chances[..., 0] += 1 - chances.sum(axis=-1)  # outside the crop all is background
            labels[at], chance[at] = chances.argmax(-1), chances.max(-1)
        return labels[given.own], chance[given.own]

    return outline


def put_back(
    values: np.ndarray, settings: Preprocessing, field: str, like: np.ndarray
) -> np.ndarray:
    """Put what was computed of a prepared slice back on the slice: places, not gray values.

    From float32 (size, size, channels), cropped by ``field`` ('' if it was not), to the size of the
    slice ``like`` (height, width): float32 (height, width, channels), 0 outside the crop.
    """
    whole = np.zeros((*like.shape, values.shape[-1]), np.float32)
    kept = whole[window(settings, field)]  # a view
    resized = cv2.resize(values, kept.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    kept[:] = resized.reshape(kept.shape)  # OpenCV drops a single channel
    return whole


class Crops(NamedTuple):
    """Slices as they are prepared for a network, and how to get back from there.

    A crop is square, so of a wide figure that shows nothing but lungs it would cut off their sides.
    Slices are therefore put in the middle of black squares first.

    Attributes:
        images: The crops, uint8 (n, size, size).
        places: Of the crops in the squares, as `put_back` takes them.
        squares: uint8 (n, side, side).
        fields: Lung fields in the squares, bool (n, side, side).
        own: Where the slices are in the squares.
    """

    images: np.ndarray
    places: list[str]
    squares: np.ndarray
    fields: np.ndarray
    own: tuple[slice, ...]


def crops(batch: Batch, settings: Preprocessing) -> Crops:
    """Prepare slices for a network."""
    shape = batch.slices.shape[1:]
    side = max(shape)
    starts = [(side - length) // 2 for length in shape]
    own = [slice(at, at + length) for at, length in zip(starts, shape, strict=True)]
    around = [(0, 0), *((each.start, side - each.stop) for each in own)]
    squares, fields = np.pad(batch.slices, around), np.pad(batch.fields, around)
    places = [place_of(field) for field in fields]
    given = zip(squares, places, batch.scales, strict=True)
    images = np.stack([preprocess(each, settings, place, scale) for each, place, scale in given])
    return Crops(images, places, squares, fields, (slice(None), *own))


@dataclass(frozen=True)
class Extent:
    """What a network outlined in a case.

    Attributes:
        labels: Of `LABEL_CLASSES`, 0 elsewhere: uint8 (slices, height, width).
        probability: That each pixel has its label, in steps of 1/255: uint8, shaped as ``labels``;
            None if it was not to be kept.
        sure: Label -> mean probability of the pixels that have it.
        outlined: Slices that the network was asked about: of those without a lung field, or
            without a gray scale, it was not.
        lung_pixels: Pixels of the lung field in these, lesions included.
        shown: The slice with most lesion, or the middle one of a case without.
        picture: That slice, uint8 (height, width).
        confidence: Probabilities of its pixels, float32 (height, width).
    """

    labels: np.ndarray
    probability: np.ndarray | None
    sure: dict[int, float]
    outlined: int
    lung_pixels: int
    shown: int
    picture: np.ndarray
    confidence: np.ndarray

    def rows(self, voxel_ml: float | None) -> dict[str, dict[str, Any]]:
        """Per manifestation: slices, share of the lung field in %, ml and mean probability.

        ml is None without a ``voxel_ml``.
        """
        rows = {}
        for label, name in LABEL_CLASSES.items():
            is_it = self.labels == label
            pixels = int(np.count_nonzero(is_it))
            rows[name] = {
                "slices": int(is_it.any(axis=(1, 2)).sum()),
                "pixels": pixels,
                "share_of_lung_field_percent": 100 * pixels / self.lung_pixels,
                "ml": None if voxel_ml is None else pixels * voxel_ml,
                "mean_probability": self.sure.get(label),
            }
        return rows


def outlined(
    case: Case,
    outline: Outline,
    batch: int = BATCH,
    keep: bool = False,
    tell: Callable[[int], None] = lambda slices: None,
) -> Extent | str:
    """Outline a case, or say why nothing can be; besides the labels, memory holds ``batch`` slices.

    With ``keep`` it holds the probabilities, too. ``tell`` is called with the number of slices of
    each batch that is done.
    """
    if case.modality == "X-ray":
        return XRAY
    if case.gray_scale == NOTHING:
        return NO_SCALE
    count, asked = case.shape[0], 0
    labels = np.zeros(case.shape, np.uint8)
    probability = np.zeros(case.shape, np.uint8) if keep else None
    totals = {label: [0, 0.0] for label in LABEL_CLASSES}
    lung_pixels, most, best = 0, -1, None
    for start in range(0, count, batch):
        given = case.batch(start, start + batch)
        found, chance, is_asked = _asked(given, outline)
        labels[start : start + batch] = found
        if keep:
            probability[start : start + batch] = np.rint(chance * 255)
        for label, total in totals.items():
            total[0] += np.count_nonzero(found == label)
            total[1] += float(chance[found == label].sum())
        for at, (field, lesion) in enumerate(zip(given.fields, found > 0, strict=True)):
            asked += is_asked[at]
            lung_pixels += is_asked[at] * np.count_nonzero(field | lesion)
            area = np.count_nonzero(lesion)
            # Of a case without any lesion the middle slice is shown.
            if area > most or (most == 0 and start + at == count // 2):
                most, best = area, (start + at, given.slices[at], chance[at])
        tell(len(found))
    if not asked:
        return NO_LUNG
    sure = {label: total / pixels for label, (pixels, total) in totals.items() if pixels}
    return Extent(labels, probability, sure, int(asked), int(lung_pixels), *best)


def _asked(batch: Batch, outline: Outline) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, their probabilities, and which slices were outlined; in others all is background."""
    labels, chance = np.zeros(batch.slices.shape, np.uint8), np.ones(batch.slices.shape, np.float32)
    is_asked = (batch.scales != "") & batch.fields.any(axis=(1, 2))
    if is_asked.any():
        labels[is_asked], chance[is_asked] = outline(Batch(*(each[is_asked] for each in batch)))
    return labels, chance, is_asked
