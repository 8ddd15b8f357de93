"""Sheets of pictures: images, and images with masks or heat laid over them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scipy.ndimage import binary_erosion
from skimage.transform import resize

from covid_utils.registry import COLOURS, INK, LABEL_CLASSES, name_of
from covid_utils.report import alt_text
from covid_utils.report.alt_text import describe
from covid_utils.report.style import DOUBLE, PLAIN, SMALL, finished

#: Width of a small letter as a share of its size; headings are broken so that they fit.
LETTER = 0.6
#: Largest side of a picture, in inches.
LARGEST = 1.75
GRAY = {"cmap": "gray", "vmin": 0, "vmax": 255}


def image_sheet(rows: dict[str, list[np.ndarray]], title: str) -> Figure:
    """Gray images, one labelled row per class (Figure 2).

    Args:
        rows: Row name -> uint8 images (height, width), as many in each row.
        title: Heading.
    """
    across = max(len(images) for images in rows.values())
    figure, axes = _grid(len(rows), across)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, images, strict=False):
            axis.imshow(image, **GRAY)
        _row_name(line[0], name)
    figure.suptitle(title)
    words = {name_of(name): [f"{len(images)} gray images"] for name, images in rows.items()}
    return finished(figure, describe(title, words))


def pair_sheet(
    pairs: list[tuple[np.ndarray, np.ndarray]],
    names: list[str],
    title: str,
    classes: dict[int, str] | None = None,
    row_name: str = "mask",
) -> Figure:
    """Images above, the same images with their masks below (Figure 3).

    Args:
        pairs: uint8 image and uint8 label mask, both (size, size).
        names: A heading for each pair.
        title: Heading of the figure.
        classes: Label -> name of its colour; the CT manifestations if None.
        row_name: Of the lower row.
    """
    classes = classes or LABEL_CLASSES
    figure, axes = _grid(2, len(pairs), headings=1, legend=True)
    for column, (image, mask) in enumerate(pairs):
        axes[0, column].imshow(image, **GRAY)
        axes[1, column].imshow(overlay(image, mask, classes))
    _headings(figure, axes[0], names)
    _row_name(axes[0, 0], "image")
    _row_name(axes[1, 0], row_name)
    _mask_legend(figure, classes.values())
    figure.suptitle(title)
    columns = {name: mask[None] for name, (_, mask) in zip(names, pairs, strict=True)}
    return finished(figure, describe(title, alt_text.of_masks(columns, classes)))


def segmentation_sheet(
    images: np.ndarray,
    columns: dict[str, np.ndarray],
    title: str,
    classes: dict[int, str] | None = None,
    row_names: Sequence[str] = (),
    scores: Mapping[str, Sequence[str]] | None = None,
) -> Figure:
    """Slices with the truth and predictions side by side (Figures 10 and 11).

    Args:
        images: uint8 (n, size, size).
        columns: Heading -> uint8 labels (n, size, size).
        title: Heading of the figure.
        classes: Label -> name of its colour; the CT manifestations if None.
        row_names: Of each slice, if any.
        scores: Heading -> a line for each slice, which stands below its picture.
    """
    classes, scores = classes or LABEL_CLASSES, scores or {}
    columns = {_heading(name): masks for name, masks in columns.items()}
    headings = ("image", *columns)
    figure, axes = _grid(len(images), len(headings), headings=2, legend=True, lines=bool(scores))
    for row, image in enumerate(images):
        axes[row, 0].imshow(image, **GRAY)
        for axis, (name, masks) in zip(axes[row, 1:], columns.items(), strict=True):
            axis.imshow(overlay(image, masks[row], classes))
            if name in scores:
                axis.set_xlabel(scores[name][row], fontsize=SMALL, labelpad=2)
    for line, name in zip(axes[:, 0], row_names, strict=False):
        _row_name(line, name)
    _headings(figure, axes[0], headings)
    _mask_legend(figure, classes.values())
    figure.suptitle(title)
    words = alt_text.of_masks(columns, classes)
    for name, lines in scores.items():
        words[name] = [f"{row}: {line}" for row, line in zip(row_names, lines, strict=True)]
    return finished(figure, describe(title, words))


def heat_sheet(
    rows: dict[str, list[tuple[np.ndarray, np.ndarray, str]]], title: str, alpha: float = 0.6
) -> Figure:
    """Images with a class activation map laid over them.

    Args:
        rows: Row name -> images (uint8, size x size), their heat (any size, 0 or above) and a
            caption each.
        title: Heading.
        alpha: Weight of the colour where the heat is greatest.
    """
    across = max(len(cells) for cells in rows.values())
    figure, axes = _grid(len(rows), across, headings=2 * len(rows), legend=True)
    for line, (name, cells) in zip(axes, rows.items(), strict=True):
        for axis, (image, heat, _) in zip(line, cells, strict=False):
            share = heat / max(float(heat.max()), 1e-12)
            smooth = resize(share, image.shape, order=1)
            axis.imshow(image, **GRAY)
            axis.imshow(smooth, cmap="inferno", vmin=0, vmax=1, alpha=alpha * smooth)
        _headings(figure, line, [caption for *_, caption in cells])
        _row_name(line[0], name)
    figure.suptitle(title)
    meaning = "violet, red, yellow: little to most heat of a picture; uncoloured: none"
    figure.supxlabel(meaning, fontsize=SMALL, color=INK)
    words = {
        name_of(name): [
            f"{caption}, most heat {alt_text.of_place(heat)}" for _, heat, caption in row
        ]
        for name, row in rows.items()
    }
    return finished(figure, describe(title, words))


def overlay(
    image: np.ndarray, mask: np.ndarray, classes: dict[int, str] | None = None, alpha: float = 0.45
) -> np.ndarray:
    """Lay a mask's colours over a gray image.

    The edge of each patch has its full colour, because few people can distinguish the blends with
    gray inside it.

    Args:
        image: uint8 (size, size).
        mask: uint8 labels (size, size).
        classes: Label -> name of its colour; the CT manifestations if None.
        alpha: Weight of the colour inside a patch.

    Returns:
        float (size, size, 3) in [0, 1].
    """
    picture = np.repeat(image[..., None] / 255.0, 3, axis=-1)
    for label, name in (classes or LABEL_CLASSES).items():
        where = mask == label
        edge = where & ~binary_erosion(where, border_value=1)
        weight = np.where(edge, 1.0, alpha)[where][:, None]
        picture[where] = (1 - weight) * picture[where] + weight * np.array(to_rgb(COLOURS[name]))
    return picture


def _heading(name: str) -> str:
    """A heading in which a stream's short name is replaced by its full one."""
    kind, _, stream = name.partition(": ")
    return f"{kind}: {name_of(stream)}" if stream else name_of(kind)


def _grid(
    rows: int, columns: int, headings: int = 0, legend: bool = False, lines: bool = False
) -> tuple[Figure, np.ndarray]:
    """A grid of bare axes for pictures, no wider than two columns of a page.

    Args:
        rows: Pictures from top to bottom.
        columns: Pictures from left to right.
        headings: Lines of headings above pictures, in all rows together.
        legend: Whether a line stands below.
        lines: Whether there is a line below each picture.
    """
    line = 1.35 * PLAIN / 72
    margin = 0.25
    side = min(LARGEST, (DOUBLE - margin) / columns)
    height = rows * (side + (line if lines else 0)) + line * (1.4 + headings + 1.4 * legend)
    size = (min(DOUBLE, side * columns + margin), height)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    for axis in axes.ravel():
        axis.set(xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set_visible(False)
    return figure, axes


def _headings(figure: Figure, axes: Sequence[Axes], names: Sequence[str]) -> None:
    """Headings above pictures, broken where they are wider."""
    inches = figure.get_figwidth() / len(axes)
    letters = int(inches * 72 / (LETTER * SMALL))
    for axis, name in zip(axes, names, strict=False):
        parts = name.replace(": ", ":\n") if len(name) > letters else name
        broken = "\n".join(fill(part, letters) for part in parts.split("\n"))
        axis.set_title(broken, fontsize=SMALL, pad=2)


def _row_name(axis: Axes, name: str) -> None:
    axis.set_ylabel(name_of(name), fontsize=SMALL)


def _mask_legend(figure: Figure, names: Iterable[str]) -> None:
    """Say below a figure which colour is what."""
    patches = [Patch(color=COLOURS[name], label=name_of(name)) for name in names]
    look = {"frameon": False, "fontsize": SMALL, "handlelength": 1.2}
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), **look)
