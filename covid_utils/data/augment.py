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
from covid_utils.errors import DataError, ParameterError


@dataclass(frozen=True)
class Ranges:
    """Largest changes of an image; each value is drawn uniformly from minus to plus.

    Attributes:
        rotation: Degrees.
        shift: Share of the side, horizontally and vertically.
        zoom: Share of the scale, 0.1 means 0.9 to 1.1.
        shear: Degrees.
        flip: Whether to mirror left and right with probability one half.
        contrast: Share of the contrast about mean gray, 0.2 means 0.8 to 1.2.
        brightness: Share of the gray scale, 0.1 means up to 25 gray values up or down.
        gamma: Of the gray values, as a power of two: 0.5 means exponents from 0.7 to 1.4.
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
#: Gray that the network sees as 0.
MEAN_GRAY = 127
#: For few slices: larger movements, and other gray scales, as other scanners would show them.
WIDE = Ranges(15.0, 0.1, 0.25, 8.0, contrast=0.25, brightness=0.1, gamma=0.5)
#: Label of what lies beyond a slice; it counts in no loss.
IGNORE = 255
#: Changes nothing.
STILL = Ranges(0.0, 0.0, 0.0, 0.0, flip=False)


def draw_matrix(rng: np.random.Generator, side: int, ranges: Ranges) -> np.ndarray:
    """Draw one affine map about the centre of an image of ``side`` pixels.

    Returns:
        float64 (2, 3) matrix from source to target coordinates, as `cv2.warpAffine` takes it.
    """
    angle, shear = np.deg2rad(rng.uniform(-1, 1, 2) * (ranges.rotation, ranges.shear))
    scale = 1 + rng.uniform(-1, 1) * ranges.zoom
    shift = rng.uniform(-1, 1, 2) * ranges.shift * side
    mirror = -1.0 if ranges.flip and rng.random() < 0.5 else 1.0
    rotate = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = scale * rotate @ np.array([[1, np.tan(shear)], [0, 1]]) @ np.diag([mirror, 1.0])
    centre = np.full(2, (side - 1) / 2)
    return np.hstack([linear, (centre + shift - linear @ centre)[:, None]])


def warp(image: np.ndarray, matrix: np.ndarray, is_mask: bool = False) -> np.ndarray:
    """Apply a map of `draw_matrix` to a uint8 image or labels (side, side).

    Labels take the nearest neighbour, images are interpolated; what comes in from outside is 0.
    """
    how = cv2.INTER_NEAREST if is_mask else cv2.INTER_LINEAR
    return cv2.warpAffine(image, matrix, image.shape[::-1], flags=how)


def pair(
    rng: np.random.Generator, image: np.ndarray, mask: np.ndarray, ranges: Ranges
) -> tuple[np.ndarray, np.ndarray]:
    """Augment a uint8 image (side, side) and its labels by the same map."""
    matrix = draw_matrix(rng, image.shape[0], ranges)
    image = change_gray(image, rng, ranges)
    return warp(image, matrix), warp(mask, matrix, is_mask=True)


def change_gray(image: np.ndarray, rng: np.random.Generator, ranges: Ranges) -> np.ndarray:
    """Draw another gray scale for a uint8 image: gamma, then contrast and brightness.

    Nothing is drawn where the ranges of all three are 0.
    """
    if not (ranges.contrast or ranges.brightness or ranges.gamma):
        return image
    limits = (ranges.gamma, ranges.contrast, ranges.brightness)
    gamma, contrast, brightness = rng.uniform(-1, 1, 3) * limits
    gray = (np.arange(256) / 255) ** 2.0**gamma
    middle = MEAN_GRAY / 255
    gray = (gray - middle) * (1 + contrast) + middle + brightness
    return np.rint(np.clip(gray, 0, 1) * 255).astype(np.uint8)[image]


def published_pair(
    rng: np.random.Generator, image: np.ndarray, mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Augment as the authors' code does: a scale from 0.5 to 2 by 0.25, a crop, a flip.

    Beyond a slice that was made smaller the image is mean gray and the label `IGNORE`.
    """
    side = image.shape[0]
    scaled = round(side * SCALES[rng.integers(len(SCALES))])
    room = scaled - side
    # Where the scaled slice is smaller, the crop takes it whole, anywhere on mean gray.
    at = [int(rng.integers(abs(room) + 1)) * (-1 if room > 0 else 1) for _ in range(2)]
    factor = (scaled - 1) / (side - 1)  # corners stay corners, as in the authors' resizing
    matrix = np.array([[factor, 0, at[0]], [0, factor, at[1]]])
    if rng.random() < 0.5:
        matrix = np.array([[-1.0, 0, side - 1], [0, 1, 0]]) @ np.vstack([matrix, [0, 0, 1]])
    fill = {"borderMode": cv2.BORDER_CONSTANT}
    size, linear = image.shape[::-1], cv2.INTER_LINEAR
    moved = cv2.warpAffine(image, matrix, size, flags=linear, borderValue=MEAN_GRAY, **fill)
    nearest = cv2.INTER_NEAREST
    return moved, cv2.warpAffine(mask, matrix, size, flags=nearest, borderValue=IGNORE, **fill)


def expand(rows: pd.DataFrame, totals: dict[str, int], seed: int) -> pd.DataFrame:
    """Rows with augmented copies, so that each subset has as many images as wanted.

    The images themselves are made when they are read, see `copies`. Splitting comes first: copies
    stay in the subset of their original.

    Args:
        rows: Manifest with ``subset``.
        totals: Subset -> images wanted; 0 leaves it as it is (paper, section 3.1: 5000 + 403,
            9618 + 955 and 5219 + 536 for training and test).
        seed: Decides which images get one copy more than the others.

    Returns:
        The rows, then the copies, index from 0, with the further columns ``copy`` (0 is the
        original) and ``original`` (``image_id`` of the original). A copy's ``image_id`` ends in
        ``~number``.

    Raises:
        ParameterError: A subset is empty, or already holds more images than wanted.
    """
    source = [np.arange(len(rows))]
    for subset, total in totals.items():
        own = np.flatnonzero(rows["subset"] == subset)
        if total and not 0 < len(own) <= total:
            raise ParameterError(
                f"{subset}_images is {total}, and {len(own)} images there are; give 0 for no "
                "copies, or at least as many as there are."
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
    """Rows that are no copies."""
    return rows[rows["copy"].fillna(0) == 0] if "copy" in rows else rows


def copies(images: np.ndarray | Rows, rows: pd.DataFrame, seed: int, is_mask: bool = False) -> Rows:
    """Images of expanded rows, each made when it is asked for, and always the same.

    Image and mask of a row move alike, because the map is drawn from the seed and the row's name.

    Args:
        images: uint8 (images, side, side) of `originals`, in their order.
        rows: From `expand`.
        seed: Of the maps.
        is_mask: Whether these are labels.

    Returns:
        uint8 (rows, side, side).

    Raises:
        DataError: A copy without its original among the rows.
    """
    names, is_copy = rows["image_id"].to_numpy(), rows["copy"].fillna(0).to_numpy() > 0
    wanted = rows["original"].fillna(rows["image_id"])
    source = pd.Index(originals(rows)["image_id"]).get_indexer(wanted)
    if (source < 0).any():
        lost = names[source < 0][0]
        raise DataError(f"{lost}: its original is not among the rows; keep copies with it.")

    def row(number: int) -> np.ndarray:
        image = images[source[number]]
        if not is_copy[number]:
            return image
        rng = np.random.default_rng([seed, zlib.crc32(names[number].encode())])
        return warp(image, draw_matrix(rng, image.shape[0], Ranges()), is_mask)

    return Rows((len(rows), *images.shape[1:]), np.uint8, row)
