"""Pictures of segmentations: Figures 10 and 11, from the masks that each stream kept.

Masks and slices stay on the disk that made them (``masks.npz`` is not committed), so a checkout
has no pictures of real scans.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from covid_utils import paths
from covid_utils.data.manifest import kind, saved_manifest
from covid_utils.evaluation import metrics
from covid_utils.evaluation.outlines import Outlines
from covid_utils.registry import (
    FUSION,
    LABEL_CLASSES,
    MANIFESTATIONS,
    NAMES,
    NETWORKS,
    stream_run,
)
from covid_utils.report import figures

STREAMS = ("all", *MANIFESTATIONS)
#: Outcome of a pixel -> name of the colour it gets in Figure 11.
OUTCOMES = {1: "found", 2: "missed", 3: "false alarm"}


@dataclass(frozen=True)
class Masks:
    """Test slices of a stream.

    Attributes:
        image_id: Names, str (n,).
        images: uint8 (n, size, size).
        truth: Labels of the reference, likewise.
        predicted: Labels that the stream gave, likewise.
        probability: Of any lesion of the stream, 0 to 255, likewise.
    """

    image_id: np.ndarray
    images: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray


def masks_of(measured: Outlines, images: np.ndarray, subset: str = "test") -> Masks:
    """Slices of one subset of a stream, as they are kept; ``images`` are all that it predicted."""
    chosen = (measured.rows["subset"] == subset).to_numpy()
    names, pictures = measured.rows["image_id"][chosen], images[measured.positions[chosen]]
    maps = measured.truth, measured.predicted, measured.probability
    return Masks(names.to_numpy(str), pictures, *(array[chosen] for array in maps))


def write_masks(path: Path, masks: Masks) -> None:
    """Keep a stream's held-out slices as ``masks.npz``."""
    np.savez_compressed(path, **vars(masks))


def read_masks(profile: str, run: str) -> Masks | None:
    """Masks of a run, or None if they were made on another machine."""
    path = paths.results(profile) / run / "masks.npz"
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        return Masks(**arrays)


def most_varied(truth: np.ndarray, count: int) -> np.ndarray:
    """Positions of the slices that show most: first by manifestations, then by their area."""
    kinds = np.stack([(truth == label).any(axis=(1, 2)) for label in LABEL_CLASSES], axis=1)
    area = (truth > 0).mean(axis=(1, 2))
    return np.lexsort((-area, -kinds.sum(axis=1)))[:count]


def stream_sheet(profile: str, count: int = 4) -> Figure | None:
    """Figure 10: truth, the all-class stream, the specialists, and these three put together.

    None if the masks are elsewhere, or no slice was held out.
    """
    names = {f"stream: {NAMES[name]}": stream_run(name) for name in STREAMS}
    names["specialists together"] = FUSION
    found = {name: read_masks(profile, run) for name, run in names.items()}
    if any(masks is None or not len(masks.truth) for masks in found.values()):
        return None
    first = next(iter(found.values()))
    chosen = most_varied(first.truth, count)
    columns = {"reference": first.truth[chosen]}
    columns |= {name: masks.predicted[chosen] for name, masks in found.items()}
    title = f"Streams on the same slices ({kind(saved_manifest(profile))})"
    return figures.segmentation_sheet(first.images[chosen], columns, title)


def outcome_sheet(profile: str) -> Figure | None:
    """Figure 11: DeepLab-v3+ beside U-Net; lesion pixels found, missed and falsely called.

    Rows are the test slices with the best, the middle and the worst Dice of DeepLab-v3+.
    """
    runs = {shown: stream_run("all", model) for model, shown in NETWORKS.items()}
    found = {name: read_masks(profile, run) for name, run in runs.items()}
    if any(masks is None for masks in found.values()):
        return None
    first = found[NETWORKS["deeplab"]]
    truth = first.truth > 0
    dice = metrics.dice(metrics.count_binary(truth, first.predicted > 0, axis=(1, 2)))
    # Slices with nothing to find and nothing found have no Dice.
    order = sorted(np.flatnonzero(~np.isnan(dice)), key=lambda i: -dice[i])
    if not order:
        return None
    chosen = [order[0], order[len(order) // 2], order[-1]]
    columns = {}
    scores = {}
    for name, masks in found.items():
        called = masks.predicted > 0
        outcome = np.select([truth & called, truth & ~called, ~truth & called], [1, 2, 3], 0)
        columns[name] = outcome[chosen].astype(np.uint8)
        scores[name] = [_dice_line(truth[at], called[at]) for at in chosen]
    title = f"Lesions of three slices by two networks ({kind(saved_manifest(profile))})"
    return figures.segmentation_sheet(
        first.images[chosen], columns, title, OUTCOMES, ("best", "middle", "worst"), scores
    )


def _dice_line(truth: np.ndarray, called: np.ndarray) -> str:
    """What stands below an outline; without lesion and outline there is no Dice."""
    dice = float(metrics.dice(metrics.count_binary(truth, called)))
    return "no Dice" if np.isnan(dice) else f"Dice {dice:.2f}"


def write(profile: str) -> list[str]:
    """Write Figures 10 and 11 where the masks are on this disk.

    Returns:
        Names of the figures written.
    """
    figures.style()
    sheets = {"fig10": stream_sheet(profile), "fig11": outcome_sheet(profile)}
    present = {name: sheet for name, sheet in sheets.items() if sheet is not None}
    for name, sheet in present.items():
        figures.save(sheet, profile, name)
    return list(present)
