"""From a stream's probabilities to what its scores are computed from.

The file of a stream holds pixel counts and distances, a row a slice and class: enough for Dice, IoU
and every other score, small enough to keep, and without any picture. Masks themselves stay on the
disk that made them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from covid_utils.data.collection import Collection
from covid_utils.data.readers.medseg import PublishedMasks, load_mask
from covid_utils.errors import DataError
from covid_utils.evaluation import surfaces
from covid_utils.registry import PREDICTION_KEYS as KEYS
from covid_utils.training import segmentation
from covid_utils.training.segmentation import StreamData, StreamSettings

#: Subsets whose outlines are kept and measured with distances.
WATCHED = ("validation", "test", "published")
BATCH = 16


@dataclass(frozen=True)
class Outlines:
    """What a stream says of its slices.

    Attributes:
        pixels: From `pixel_table`, all slices.
        rows: The slices that are kept, by default validation and test.
        predicted: Their labels in the data set's coding, uint8 (n, size, size).
        probability: Of any lesion of the stream, 0 to 255, uint8 (n, size, size).
    """

    pixels: pd.DataFrame
    rows: pd.DataFrame
    predicted: np.ndarray
    probability: np.ndarray


def outline(
    probabilities: Iterable[np.ndarray],
    data: StreamData,
    settings: StreamSettings,
    kept: tuple[str, ...] = WATCHED,
) -> Outlines:
    """Measure what a stream says of all its slices, one batch in memory at a time.

    Args:
        probabilities: Of the stream's classes, float (batch, size, size, classes), batch by batch:
            from `training.inference.probabilities`.
        data: The slices.
        settings: Of the stream.
        kept: Subsets whose outlines are kept.
    """
    is_watched = data.rows["subset"].isin(kept).to_numpy()
    tables, labels, lesions = [], [], []
    classes, first = segmentation.scored_classes(settings.stream), 0
    for found in probabilities:
        part = slice(first, first + len(found))
        said = segmentation.to_labels(found.argmax(axis=-1), settings.stream)
        lesion = 1 - found[..., 0]
        tables.append(pixel_table(data.rows.iloc[part], data.masks[part], said, classes, lesion))
        labels.append(said[is_watched[part]])
        lesions.append(np.rint(lesion[is_watched[part]] * 255).astype(np.uint8))
        first += len(found)
    pixels = _by_class(tables)
    rows = data.rows[is_watched].reset_index(drop=True)
    return Outlines(pixels, rows, np.concatenate(labels), np.concatenate(lesions))


def _by_class(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """One table, class by class, slices in their order."""
    table = pd.concat(tables, ignore_index=True)
    order = {name: index for index, name in enumerate(dict.fromkeys(table["class"]))}
    return table.sort_values(
        "class", key=lambda names: names.map(order), kind="stable"
    ).reset_index(drop=True)


def pixel_table(
    rows: pd.DataFrame,
    truth: np.ndarray,
    predicted: np.ndarray,
    names: dict[str, tuple[int, ...]],
    lesion: np.ndarray | None = None,
) -> pd.DataFrame:
    """Measures of a segmentation that all scores are computed from.

    Args:
        rows: Manifest rows; with ``lung_pixels`` where that is known.
        truth: uint8 labels (n, size, size).
        predicted: uint8 labels (n, size, size).
        names: Name of a class -> the labels that count as that class.
        lesion: Probability in [0, 1] of any label but 0, float (n, size, size).

    Returns:
        A row an image and class: ``KEYS``, ``class``, the counts ``tp, fp, fn, tn``,
        ``lung_pixels``, and, on slices of `WATCHED` subsets, ``hd95``, the 95 % Hausdorff distance
        in per cent of the slice's side, and for the class of all lesions ``dice_thresholds``, the
        mean Dice over 256 thresholds of the probability, stretched to 0-1 in each slice, as
        Inf-Net's program reports it (Fan et al. 2020).
    """
    is_watched = rows["subset"].isin(WATCHED).to_numpy()
    widest = max(names, key=lambda name: len(names[name]) if 0 not in names[name] else 0)
    tables = []
    for name, labels in names.items():
        is_true, is_found = np.isin(truth, labels), np.isin(predicted, labels)
        table = rows[list(KEYS)].assign(**{"class": name})
        for count, hit in (
            ("tp", is_true & is_found),
            ("fp", ~is_true & is_found),
            ("fn", is_true & ~is_found),
            ("tn", ~is_true & ~is_found),
        ):
            table[count] = hit.sum(axis=(1, 2), dtype=np.int64)
        table["lung_pixels"] = rows.get("lung_pixels", pd.Series(np.nan, rows.index))
        table["hd95"], table["dice_thresholds"] = np.nan, np.nan
        if 0 not in labels:
            table.loc[is_watched, "hd95"] = _distances(is_true[is_watched], is_found[is_watched])
        if name == widest and lesion is not None:
            swept = _swept(is_true[is_watched], lesion[is_watched])
            table.loc[is_watched, "dice_thresholds"] = swept
        tables.append(table)
    return _by_class(tables)


def images_of(data: StreamData, rows: pd.DataFrame) -> np.ndarray:
    """Images of some slices of a stream, uint8 (n, size, size)."""
    return data.images[_positions(data, rows)]


def masks_of(data: StreamData, rows: pd.DataFrame) -> np.ndarray:
    """Reference labels of some slices of a stream, uint8 (n, size, size)."""
    return data.masks[_positions(data, rows)]


def _positions(data: StreamData, rows: pd.DataFrame) -> np.ndarray:
    return pd.Index(data.rows["image_id"]).get_indexer(rows["image_id"])


def of_published(published: PublishedMasks, collection: Collection) -> pd.DataFrame:
    """Measures of the segmentations that the authors published.

    Args:
        published: From `data.medseg.published_predictions`.
        collection: The images that they are of.

    Returns:
        As `pixel_table`, of subset ``published``, a row a published image and class; distances are
        measured at the masks' full size. Of slices that are not among the images, none.

    Raises:
        DataError: None of their slices is among the images.
    """
    slices = collection.select(dataset="medseg").set_index("image_id", drop=False)
    here = np.isin(published.image_id, slices["image_id"].to_numpy(str))  # a profile may have fewer
    if not here.any():
        raise DataError("published masks: none of their slices is among the images; read them all.")
    rows = slices.loc[published.image_id[here]].reset_index(drop=True).assign(subset="published")
    labels = published.labels[here]
    classes = segmentation.scored_classes("all")
    tables = []
    for first in range(0, len(rows), BATCH):
        part = slice(first, first + BATCH)
        found = labels[part]
        truth = [load_mask(collection.root, row) for row in rows.iloc[part].itertuples()]
        tables.append(pixel_table(rows.iloc[part], np.stack(truth), found, classes))
    return _by_class(tables)


def _distances(truth: np.ndarray, predicted: np.ndarray) -> list[float]:
    side = truth.shape[1] / 100
    return [surfaces.hausdorff95(*pair) / side for pair in zip(truth, predicted, strict=True)]


def _swept(truth: np.ndarray, lesion: np.ndarray) -> list[float]:
    found = []
    for wanted, said in zip(truth, lesion, strict=True):
        stretched = (said - said.min()) / max(float(np.ptp(said)), 1e-6)
        dice = surfaces.dice_over_thresholds(wanted, np.clip(stretched, 0, 1))
        found.append(float(np.mean(dice)))
    return found
