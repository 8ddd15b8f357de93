"""Pictures of segmentations: Figures 10 and 11, from the masks that each stream kept, and 12.

Masks and slices stay on the disk that made them (``masks.npz`` is not committed), so a checkout
has no pictures of real scans.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from covid_utils import paths, registry
from covid_utils.data.manifest import kind, left_out, saved_manifest
from covid_utils.evaluation import metrics
from covid_utils.report import style

if TYPE_CHECKING:
    from covid_utils.evaluation.outlines import Outlines

#: Outcome of a pixel -> name of the colour it gets in Figure 11.
OUTCOMES = {1: "found", 2: "missed", 3: "false alarm"}


class Masks(NamedTuple):
    """Slices of a stream, uint8 (n, size, size)."""

    images: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray


def masks_of(measured: Outlines, images: np.ndarray, subset: str = "test") -> Masks:
    """Slices of one subset of a stream, as they are kept; ``images`` are all that it predicted."""
    chosen = (measured.rows["subset"] == subset).to_numpy()
    pictures = images[measured.positions[chosen]]
    return Masks(pictures, measured.truth[chosen], measured.predicted[chosen])


def write_masks(path: Path, masks: Masks) -> None:
    """Keep a stream's held-out slices as ``masks.npz``."""
    np.savez_compressed(path, **masks._asdict())


def read_masks(profile: str, runs: dict[str, str]) -> dict[str, Masks]:
    """Masks of each run by its heading; empty if any run has none on this disk, or no slice."""
    masks, absent = {}, left_out(profile)
    for name, run in runs.items():
        path = paths.results(profile) / run / "masks.npz"
        if run in absent or not path.is_file():
            return {}
        with np.load(path, allow_pickle=False) as arrays:
            masks[name] = Masks(*(arrays[part] for part in Masks._fields))
    return masks if all(len(each.truth) for each in masks.values()) else {}


def most_varied(truth: np.ndarray, count: int) -> np.ndarray:
    """Positions of the slices that show most: first by manifestations, then by their area."""
    kinds = sum((truth == label).any(axis=(1, 2)) for label in registry.LABEL_CLASSES)
    return np.lexsort((-(truth > 0).mean(axis=(1, 2)), -kinds))[:count]


def stream_sheet(profile: str) -> Figure | None:
    """Figure 10: truth, the all-class stream, the specialists, and these three put together."""
    streams = ("all", *registry.MANIFESTATIONS)
    runs = {f"stream:\n{registry.name_of(name)}": registry.stream_run(name) for name in streams}
    masks = read_masks(profile, runs | {"specialists\ntogether": registry.FUSION})
    if not masks:
        return None
    from covid_utils.report import sheets  # only where there are pictures to draw

    first = next(iter(masks.values()))
    chosen = most_varied(first.truth, count=4)
    columns = {"reference": first.truth[chosen]}
    columns |= {name: each.predicted[chosen] for name, each in masks.items()}
    title = f"Streams on the same slices ({kind(saved_manifest(profile))})"
    return sheets.segmentation_sheet(first.images[chosen], columns, title)


def outcome_sheet(profile: str) -> Figure | None:
    """Figure 11: lesion pixels that DeepLab-v3+ and U-Net found, missed and falsely called.

    Rows are the test slices with the best, the middle and the worst Dice of DeepLab-v3+.
    """
    networks = registry.NETWORKS.items()
    masks = read_masks(profile, {name: registry.stream_run("all", key) for key, name in networks})
    if not masks:
        return None
    dice, best = pd.DataFrame(), registry.NETWORKS["deeplab"]
    for name, each in masks.items():
        counts = metrics.count(each.truth > 0, each.predicted > 0, axis=(1, 2))
        dice[name] = metrics.score("dice", counts)
    # Slices with nothing to find and nothing found have no Dice.
    dice = dice.dropna(subset=best).sort_values(best, ascending=False, kind="stable")
    if dice.empty:
        return None
    dice = dice.iloc[[0, len(dice) // 2, -1]]
    chosen = {name: Masks(*(part[dice.index] for part in each)) for name, each in masks.items()}
    title = f"Lesions of three slices by two networks ({kind(saved_manifest(profile))})"
    return _outcomes(chosen, dice.set_axis(["best", "middle", "worst"]), title)


def before_and_after(shown: Mapping[str, tuple[Outlines, np.ndarray]], title: str) -> Figure:
    """Figure 12: lesion pixels found, missed and falsely called by networks, with their Dice.

    Of each patient or volume, four at most, the slice with most lesion in the first outlines.
    ``shown`` has the networks' outlines of the same slices, and these as prepared for each, uint8
    (n, size, size). Lesions outside a crop count as missed.
    """
    first = next(iter(shown.values()))[0]
    extent = pd.Series((first.truth > 0).mean(axis=(1, 2)))
    at = extent.groupby(first.rows["patient_id"].to_numpy()).idxmax().sort_values()[:4].to_numpy()
    chosen, dice = {}, pd.DataFrame(index=[f"slice {number + 1}" for number in range(len(at))])
    for name, (each, images) in shown.items():
        chosen[name] = Masks(images[at], each.truth[at], each.predicted[at])
        counts = each.pixels[[*metrics.OUTCOMES]].to_numpy()[at]
        dice[name] = metrics.score("dice", counts)
    return _outcomes(chosen, dice, title)


def _outcomes(masks: Mapping[str, Masks], dice: pd.DataFrame, title: str) -> Figure:
    """`OUTCOMES` of networks on the same slices, which the rows of their ``dice`` name."""
    from covid_utils.report import sheets  # only where there are pictures to draw

    columns = {}
    for name, each in masks.items():
        is_true, is_called = each.truth > 0, each.predicted > 0
        columns[name] = np.select([is_true & is_called, is_true, is_called], list(OUTCOMES), 0)
    scores = dice.map("Dice {:.2f}".format, na_action="ignore").fillna("no Dice")
    beneath = {name: each.images for name, each in masks.items()}
    images = next(iter(beneath.values()))
    return sheets.segmentation_sheet(images, columns, title, OUTCOMES, scores, beneath)


def write(profile: str) -> list[str]:
    """Write Figures 10 and 11 where the masks are on this disk; returns their names."""
    drawn = {"fig10": stream_sheet(profile), "fig11": outcome_sheet(profile)}
    present = {name: figure for name, figure in drawn.items() if figure}
    for name, figure in present.items():
        style.save(figure, profile, name)
    return list(present)
