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
from covid_utils.data.collection import kind, saved_manifest
from covid_utils.evaluation import metrics
from covid_utils.report import figures

STREAMS = ("all", "ggo", "consolidation", "effusion")
#: Outcome of a pixel -> name of the colour it gets in Figure 11.
OUTCOMES = {1: "found", 2: "missed", 3: "false alarm"}


@dataclass(frozen=True)
class Masks:
    """Held-out slices of a stream: ids, and uint8 images, truth and prediction (n, size, size)."""

    image_id: np.ndarray
    images: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray


def write_masks(path: Path, masks: Masks) -> None:
    """Keep a stream's held-out slices as ``masks.npz``."""
    np.savez_compressed(path, **vars(masks))


def read_masks(profile: str, stream: str) -> Masks | None:
    """Masks of a stream, or None if they were made on another machine."""
    path = paths.results(profile) / f"stream_{stream}_unet" / "masks.npz"
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        return Masks(**arrays)


def most_varied(truth: np.ndarray, count: int) -> np.ndarray:
    """Positions of the slices that show most: first by manifestations, then by their area."""
    kinds = np.stack([(truth == label).any(axis=(1, 2)) for label in figures.LABEL_CLASSES], axis=1)
    area = (truth > 0).mean(axis=(1, 2))
    return np.lexsort((-area, -kinds.sum(axis=1)))[:count]


def stream_sheet(profile: str, count: int = 4) -> Figure | None:
    """Figure 10: truth, the all-class stream and the three specialists on the same slices.

    None if the masks are elsewhere, or no slice was held out.
    """
    found = {stream: read_masks(profile, stream) for stream in STREAMS}
    if any(masks is None for masks in found.values()):
        return None
    first = found["all"]
    if not len(first.truth):
        return None
    chosen = most_varied(first.truth, count)
    columns = {"reference": first.truth[chosen]}
    columns |= {
        f"stream: {figures.NAMES[name]}": masks.predicted[chosen] for name, masks in found.items()
    }
    title = f"Streams on the same slices ({kind(saved_manifest(profile))})"
    return figures.segmentation_sheet(first.images[chosen], columns, title)


def outcome_sheet(profile: str) -> Figure | None:
    """Figure 11, the U-Net's half: lesion pixels found, missed and falsely called.

    Columns are the test slices with the best, the middle and the worst Dice of the lesion extent.
    """
    masks = read_masks(profile, "all")
    if masks is None:
        return None
    truth, found = masks.truth > 0, masks.predicted > 0
    dice = metrics.dice(metrics.count_binary(truth, found, axis=(1, 2)))
    # Slices with nothing to find and nothing found have no Dice.
    order = sorted(np.flatnonzero(~np.isnan(dice)), key=lambda i: -dice[i])
    if not order:
        return None
    chosen = [order[0], order[len(order) // 2], order[-1]]
    outcome = np.select([truth & found, truth & ~found, ~truth & found], [1, 2, 3], 0)
    pairs = [(masks.images[i], outcome[i].astype(np.uint8)) for i in chosen]
    names = [
        f"{which} slice, Dice {dice[i]:.2f}"
        for which, i in zip(("best", "middle", "worst"), chosen, strict=True)
    ]
    title = f"U-Net, extent of disease ({kind(saved_manifest(profile))})"
    return figures.pair_sheet(pairs, names, title, OUTCOMES, "outcome")


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
