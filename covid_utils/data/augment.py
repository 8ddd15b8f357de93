"""Random rotation, shift, zoom, shear and flip, the same for an image and its mask.

The paper (section 3.2) names the operations and gives no ranges; ours are the defaults below. All
of them are one affine map, so an image is resampled once, and its mask with nearest neighbour.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd

from covid_utils.data.cache import Rows
from covid_utils.errors import ParameterError


@dataclass(frozen=True)
class Ranges:
    """Largest changes of an image; each value is drawn uniformly from minus to plus.

    Rotation and shear are degrees, shift is a share of the side, zoom of the scale, contrast of
    that about mean gray, brightness of the gray scale; a ``gamma`` of 0.5 means exponents of gray
    from 2 ** -0.5 to 2 ** 0.5. ``flip`` mirrors one image in two, drawn at random.
    """

    rotation: float = 10.0
    shift: float = 0.08
    zoom: float = 0.12
    shear: float = 5.0
    flip: bool = True
    contrast: float = 0.0
    brightness: float = 0.0
    gamma: float = 0.0


#: Scales of the authors' augmentation.
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
#: Gray that the network sees as almost 0.
MEAN_GRAY = 127
#: For few slices: larger movements, and other gray scales, as other scanners would show them.
WIDE = Ranges(15.0, 0.1, 0.25, 8.0, contrast=0.25, brightness=0.1, gamma=0.5)
#: Label of what lies beyond a slice; it counts in no loss.
IGNORE = 255
#: Changes nothing.
STILL = Ranges(0.0, 0.0, 0.0, 0.0, flip=False)


def draw_matrix(rng: np.random.Generator, side: int, ranges: Ranges) -> np.ndarray:
    """Draw an affine map about the centre of an image, (2, 3), for `cv2.warpAffine`."""
    angle, shear = np.deg2rad(rng.uniform(-1, 1, 2) * (ranges.rotation, ranges.shear))
    scale = 1 + rng.uniform(-1, 1) * ranges.zoom
    shift = rng.uniform(-1, 1, 2) * ranges.shift * side
    mirror = -1.0 if ranges.flip and rng.random() < 0.5 else 1.0
    rotate = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = scale * rotate @ np.array([[1, np.tan(shear)], [0, 1]]) @ np.diag([mirror, 1.0])
    centre = np.full(2, (side - 1) / 2)
    return np.hstack([linear, (centre + shift - linear @ centre)[:, None]])


def warp(image: np.ndarray, matrix: np.ndarray, is_mask: bool = False, fill: int = 0) -> np.ndarray:
    """Move a uint8 image or labels (side, side); what comes in from outside is ``fill``."""
    how = cv2.INTER_NEAREST if is_mask else cv2.INTER_LINEAR
    return cv2.warpAffine(image, matrix, image.shape[::-1], flags=how, borderValue=fill)


def pair(
    rng: np.random.Generator, image: np.ndarray, mask: np.ndarray, ranges: Ranges = Ranges()
) -> tuple[np.ndarray, np.ndarray]:
    """Augment a uint8 image (side, side) and its labels by the same map."""
    matrix = draw_matrix(rng, image.shape[0], ranges)
    image = change_gray(image, rng, ranges)
    return warp(image, matrix), warp(mask, matrix, is_mask=True)


def change_gray(image: np.ndarray, rng: np.random.Generator, ranges: Ranges) -> np.ndarray:
    """Draw another gray scale for a uint8 image, unless the ranges of all its changes are 0."""
    limits = (ranges.gamma, ranges.contrast, ranges.brightness)
    if not any(limits):
        return image
    gamma, contrast, brightness = rng.uniform(-1, 1, 3) * limits
    gray = (np.arange(256) / 255) ** 2.0**gamma
    middle = MEAN_GRAY / 255
    gray = (gray - middle) * (1 + contrast) + middle + brightness
    return np.rint(np.clip(gray, 0, 1) * 255).astype(np.uint8)[image]


def published_pair(
    rng: np.random.Generator, image: np.ndarray, mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Augment as the authors' code does: one of `SCALES`, a crop and a flip."""
    side = image.shape[0]
    scaled = round(side * SCALES[rng.integers(len(SCALES))])
    room = scaled - side
    # A smaller slice is taken whole, anywhere on `MEAN_GRAY`; its labels there are `IGNORE`.
    across, down = -np.sign(room) * rng.integers(abs(room) + 1, size=2)
    factor = (scaled - 1) / (side - 1)  # corners stay corners, as in the authors' resizing
    matrix = np.array([[factor, 0, across], [0, factor, down]])
    if rng.random() < 0.5:
        matrix = np.array([[-1.0, 0, side - 1], [0, 1, 0]]) @ np.vstack([matrix, [0, 0, 1]])
    return warp(image, matrix, fill=MEAN_GRAY), warp(mask, matrix, is_mask=True, fill=IGNORE)


def expand(rows: pd.DataFrame, totals: dict[str, int], seed: int) -> pd.DataFrame:
    """The rows, then augmented copies, so that subsets have as many images as the paper's (3.1).

    ``totals`` are the images wanted by subset; 0 leaves it as it is. Copies stay in the subset of
    their original. The new columns are ``copy`` (0 is the original) and ``original`` (its
    ``image_id``); a copy's ``image_id`` ends in ``~number``. The ``seed`` decides which images get
    one copy more than the others.
    """
    source = [np.arange(len(rows))]
    for subset, total in totals.items():
        own = np.flatnonzero(rows["subset"] == subset)
        if total and not 0 < len(own) <= total:
            raise ParameterError(
                f"{total} images are wanted for {subset}, and there are {len(own)}; "
                "give 0 for no copies, or at least as many as there are."
            )
        if total:
            rng = np.random.default_rng([seed, total])
            rounds = [rng.permutation(own) for _ in range(total // len(own))]
            source.append(np.concatenate(rounds)[: total - len(own)])
    table = rows.iloc[np.concatenate(source)].reset_index(drop=True)
    original = table["image_id"]
    number = table.groupby("image_id").cumcount()
    name = original.where(number == 0, original + "~" + number.astype(str))
    return table.assign(image_id=name, copy=number, original=original)


def originals(rows: pd.DataFrame) -> pd.DataFrame:
    """Each picture once, as it was before copies; of some only copies may be among the rows."""
    if "copy" not in rows:
        return rows
    names = rows["original"].fillna(rows["image_id"])
    return rows.assign(image_id=names, original=names, copy=0).drop_duplicates("image_id")


def copies(images: np.ndarray | Rows, rows: pd.DataFrame, seed: int, is_mask: bool = False) -> Rows:
    """Images of rows of `expand`, each computed when it is read, from those of the `originals`.

    Image and mask of a row move alike, because the map is drawn from the seed and the row's name.
    """
    names, is_copy = rows["image_id"].to_numpy(), rows["copy"].fillna(0).to_numpy() > 0
    wanted = rows["original"].fillna(rows["image_id"])
    source = pd.Index(originals(rows)["image_id"]).get_indexer(wanted)

    def row(number: int) -> np.ndarray:
        image = images[source[number]]
        if not is_copy[number]:
            return image
        rng = np.random.default_rng([seed, zlib.crc32(names[number].encode())])
        return warp(image, draw_matrix(rng, image.shape[0], Ranges()), is_mask)

    return Rows((len(rows), *images.shape[1:]), np.uint8, row)
