"""From a stream's probabilities to the pixel counts that its scores are computed from.

Counts and distances, one row per slice and class, are enough for every score, and no picture.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from covid_utils import registry
from covid_utils.data import labels
from covid_utils.data.collection import Collection
from covid_utils.data.readers.medseg import PublishedMasks, load_mask
from covid_utils.errors import DataError
from covid_utils.evaluation import metrics

#: Subsets whose masks are kept and measured with distances.
WATCHED = ("validation", "test", "published", registry.EXTERNAL)
BATCH = 16


@dataclass(frozen=True)
class Outlines:
    """Predictions of a stream, measured; masks are uint8 (n, size, size), of the kept slices."""

    pixels: pd.DataFrame  # from `pixel_table`, all slices
    rows: pd.DataFrame  # the slices that are kept
    positions: np.ndarray  # of these among all slices, int (n,)
    truth: np.ndarray
    predicted: np.ndarray  # in the data set's coding
    probability: np.ndarray  # of any lesion of the stream, 0 to 255


def outline(
    probabilities: Iterable[np.ndarray],
    rows: pd.DataFrame,
    masks: np.ndarray,
    stream: str,
    kept: tuple[str, ...] = WATCHED,
    classes: dict[str, tuple[int, ...]] | None = None,
) -> Outlines:
    """Measure a stream's predictions of all its slices, one batch in memory at a time.

    Args:
        probabilities: Of the stream's classes, float (batch, size, size, classes), batch by batch.
        rows: The slices, as for `pixel_table`.
        masks: Their labels, uint8 (n, size, size).
        stream: One of `registry.STREAMS`.
        kept: Subsets whose masks are kept.
        classes: As for `pixel_table`; those that the stream is scored on if None.
    """
    is_kept = rows["subset"].isin(kept).to_numpy()
    classes = classes or labels.scored_classes(stream)
    first, tables, truths, predictions, lesions = 0, [], [], [], []
    for batch in probabilities:
        part = slice(first, first + len(batch))
        first = part.stop
        truth, predicted = masks[part], labels.to_labels(batch.argmax(axis=-1), stream)
        lesion = 1 - batch[..., 0]
        tables.append(pixel_table(rows.iloc[part], truth, predicted, classes, lesion))
        truths.append(truth[is_kept[part]])
        predictions.append(predicted[is_kept[part]])
        lesions.append(np.rint(lesion[is_kept[part]] * 255).astype(np.uint8))
    return Outlines(
        pixels=_by_class(tables),
        rows=rows[is_kept].reset_index(drop=True),
        positions=np.flatnonzero(is_kept),
        truth=np.concatenate(truths),
        predicted=np.concatenate(predictions),
        probability=np.concatenate(lesions),
    )


def several(tested: Iterable[tuple]) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Measure the test slices of several trainings, one training in memory at a time.

    ``tested`` tells of each training what it is (``stream, model, start, steps, repeat``), its
    slices with `registry.SEEN`, their masks and the probabilities, as for `outline`.

    Returns:
        `pixel_table` of all, with what each training is and what it had seen. And, unless copies
        are tested on, maps, uint8 (n, size, size), of those trainings that differ from the first
        in their stream alone: ``<stream>_labels`` as in the masks, and ``<stream>_probability`` of
        any lesion, 0 to 255; ``image_id`` is in their order.
    """
    tables, maps, first = [], {}, None
    for about, rows, masks, probabilities in tested:
        stream = str(about["stream"])
        measured = outline(probabilities, rows, masks, stream)
        seen = rows.set_index("image_id")[[*registry.SEEN]]
        tables.append(measured.pixels.assign(**about).join(seen, on="image_id"))
        first = first or about
        if about == first | {"stream": stream} and "copy" not in measured.rows:
            maps["image_id"] = measured.rows["image_id"].to_numpy(str)
            maps[f"{stream}_labels"] = measured.predicted
            maps[f"{stream}_probability"] = measured.probability
    return pd.concat(tables, ignore_index=True), maps


def of_steps(
    tested: Iterable[tuple], fields: tuple[dict[str, str], pd.DataFrame, np.ndarray, np.ndarray]
) -> tuple[pd.DataFrame, dict[str, Outlines]]:
    """Measure each step towards slices of other hospitals, one network in memory at a time.

    ``tested`` is as for `several`, of each step (``step, network``); slices of other hospitals,
    which have no class but the extent, are apart from the others. ``fields`` tells what the lung
    fields are, slices, their lungs as outlined and as found. Returns `pixel_table` of all, and the
    outlines on slices of other hospitals after the first step and of the shipped network.
    """
    tables, kept = [], {}
    for about, rows, masks, probabilities in tested:
        is_external = (rows["subset"] == registry.EXTERNAL).all()
        classes = registry.LESION if is_external else None
        measured = outline(probabilities, rows, masks, "all", classes=classes)
        tables.append(measured.pixels.assign(**about))
        if is_external and (not kept or about["step"] == registry.SHIPPED):
            kept[about["step"]] = measured
    about, rows, truth, found = fields
    if len(rows):
        tables.append(pixel_table(rows, truth, found, {registry.LUNG_FIELD: (1,)}).assign(**about))
    return pd.concat(tables, ignore_index=True), kept


def pixel_table(
    rows: pd.DataFrame,
    truth: np.ndarray,
    predicted: np.ndarray,
    classes: dict[str, tuple[int, ...]],
    lesion: np.ndarray | None = None,
) -> pd.DataFrame:
    """Measures of a segmentation that all scores are computed from, a row per image and class.

    On slices of `WATCHED` subsets ``hd95`` is the 95 % Hausdorff distance in per cent of the
    slice's side, and, for the class of all lesions, ``dice_thresholds`` the mean Dice over 256
    thresholds of the probability, stretched to 0-1 in each slice, as Inf-Net's program reports it.

    Args:
        rows: Manifest rows; with ``lung_pixels`` where that is known, and with `registry.BEYOND`,
            the pixels of a label outside the crop, which count as missed.
        truth: uint8 labels (n, size, size).
        predicted: uint8 labels (n, size, size).
        classes: Name of a class -> the labels that count as that class.
        lesion: Probability in [0, 1] of any label but 0, float (n, size, size).
    """
    is_watched = rows["subset"].isin(WATCHED).to_numpy()
    lesions = {name: members for name, members in classes.items() if 0 not in members}
    widest = max(lesions, key=lambda name: len(lesions[name]))
    tables = []
    for name, members in classes.items():
        is_true, is_called = np.isin(truth, members), np.isin(predicted, members)
        table = rows[list(registry.PREDICTION_KEYS)].assign(**{"class": name})
        table[[*metrics.OUTCOMES]] = metrics.count(is_true, is_called, axis=(1, 2))
        table["lung_pixels"] = rows.get("lung_pixels", pd.Series(np.nan, rows.index))
        table["hd95"], table["dice_thresholds"] = np.nan, np.nan
        if name in lesions:
            for label in members:
                if (column := registry.BEYOND.get(label)) in rows:
                    table["fn"] += rows[column]
            pairs = zip(is_true[is_watched], is_called[is_watched], strict=True)
            distances = np.array([metrics.hausdorff95(*pair) for pair in pairs])
            table.loc[is_watched, "hd95"] = distances / (truth.shape[1] / 100)
        if name == widest and lesion is not None:
            pairs = zip(is_true[is_watched], lesion[is_watched], strict=True)
            table.loc[is_watched, "dice_thresholds"] = [_mean_dice(*pair) for pair in pairs]
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def of_published(published: PublishedMasks, collection: Collection) -> pd.DataFrame:
    """`pixel_table` of the masks that the authors published, at full size; subset ``published``."""
    slices = collection.select(dataset="medseg").set_index("image_id", drop=False)
    here = np.isin(published.image_id, slices["image_id"].to_numpy(str))  # a profile may have fewer
    if not here.any():
        raise DataError("published masks: none of their slices is among the images; read them all.")
    rows = slices.loc[published.image_id[here]].reset_index(drop=True).assign(subset="published")
    predicted, classes, tables = published.labels[here], labels.scored_classes("all"), []
    for first in range(0, len(rows), BATCH):
        part = slice(first, first + BATCH)
        truth = [load_mask(collection.root, row) for row in rows.iloc[part].itertuples()]
        tables.append(pixel_table(rows.iloc[part], np.stack(truth), predicted[part], classes))
    return _by_class(tables)


def _by_class(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """The tables of batches as one, class by class, slices in their order."""
    parts = pd.concat(tables, ignore_index=True).groupby("class", sort=False)
    return pd.concat([part for _, part in parts], ignore_index=True)


def _mean_dice(truth: np.ndarray, lesion: np.ndarray) -> float:
    stretched = (lesion - lesion.min()) / max(float(np.ptp(lesion)), 1e-6)
    return float(np.mean(metrics.dice_over_thresholds(truth, np.clip(stretched, 0, 1))))
