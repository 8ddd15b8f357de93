"""Sheets of pictures: images, and images with masks or heat laid over them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scipy.ndimage import binary_erosion
from skimage.transform import resize

from covid_utils.evaluation.gradcam import frame_share
from covid_utils.registry import COLOURS, INK, LABEL_CLASSES, name_of
from covid_utils.report.style import DOUBLE, PLAIN, SMALL, finished

#: Width of a small letter as a share of its size; headings are broken so that they fit.
LETTER = 0.6
#: Largest side of a picture, margin beside all of them, and height of a line of text, in inches.
LARGEST, MARGIN, LINE = 1.75, 0.25, 1.35 * PLAIN / 72
#: Weight of a mask's colour inside a patch, and of a map's where the heat is greatest.
MASK_WEIGHT, HEAT_WEIGHT = 0.45, 0.6


def image_sheet(rows: dict[str, list[np.ndarray]], title: str) -> Figure:
    """Gray images, one labelled row per class (Figure 2).

    Args:
        rows: Row name -> uint8 images (height, width), as many in each row.
        title: Heading.
    """
    words = {name_of(name): [f"{len(images)} gray images"] for name, images in rows.items()}
    return _sheet(list(rows.values()), title, words, tuple(rows))


def pair_sheet(pairs: list[tuple[np.ndarray, np.ndarray]], names: list[str], title: str) -> Figure:
    """CT slices above, the same slices with their masks below (Figure 3).

    Args:
        pairs: uint8 image and uint8 labels of `LABEL_CLASSES`, both (size, size).
        names: A heading for each pair.
        title: Heading of the figure.
    """
    pictures = [[image for image, _ in pairs], [overlay(*pair) for pair in pairs]]
    words = _covered({name: mask for name, (_, mask) in zip(names, pairs, strict=True)})
    rows = ("image", "mask")
    return _sheet(pictures, title, words, rows, [names], classes=LABEL_CLASSES.values())


def segmentation_sheet(
    images: np.ndarray,
    columns: dict[str, np.ndarray],
    title: str,
    classes: dict[int, str] = LABEL_CLASSES,
    scores: dict[str, list[str]] | None = None,
) -> Figure:
    """Slices with the truth and predictions side by side (Figures 10 and 11).

    Args:
        images: uint8 (n, size, size).
        columns: Heading -> uint8 labels (n, size, size).
        title: Heading of the figure.
        classes: Label -> name of its colour.
        scores: Name of each slice -> a line above each of its pictures with labels.
    """
    pictures = [
        [image, *(overlay(image, masks[row], classes) for masks in columns.values())]
        for row, image in enumerate(images)
    ]
    headings = [["CT slice", *columns]]
    words = _covered(columns, classes)
    if scores:
        lines = [["", *line] for line in scores.values()]
        headings = [[f"{a}\n{b}" for a, b in zip(*headings, lines[0], strict=True)], *lines[1:]]
        words |= {row: map("{}, {}".format, columns, line) for row, line in scores.items()}
    return _sheet(pictures, title, words, tuple(scores or ()), headings, classes.values())


def heat_sheet(answers: pd.DataFrame, images: np.ndarray, heat: np.ndarray, title: str) -> Figure:
    """Images with what spoke for their answers, right ones above wrong ones.

    Args:
        answers: ``truth``, ``predicted`` and ``p_<class>``, such as `gradcam.most_certain` chooses.
        images: uint8 (answers, height, width).
        heat: From `gradcam.grad_cam`, of the predicted classes.
        title: Heading.
    """
    rows: dict[str, list[tuple[np.ndarray, str, str]]] = {}
    shares = frame_share(heat)
    for at, (image, share) in enumerate(zip(images, shares, strict=True)):
        answer = answers.iloc[at]
        is_right = answer["predicted"] == answer["truth"]
        caption = f"{name_of(answer['predicted'])} ({answer['p_' + answer['predicted']]:.0%})"
        caption += "" if is_right else f"\nis {name_of(answer['truth'])}"
        where = f"{share:.0%} of the heat in the frame" if np.isfinite(share) else "no heat"
        row = rows.setdefault(f"most certain, {'right' if is_right else 'wrong'}", [])
        row.append((_glow(image, heat[at]), caption, f"{caption}, {where}"))
    pictures, headings, words = (
        [[cell[part] for cell in cells] for cells in rows.values()] for part in range(3)
    )
    note = "violet, red, yellow: little to most heat of a picture; uncoloured: none"
    texts = dict(zip(rows, words, strict=True))
    return _sheet(pictures, title, texts, tuple(rows), headings, note=note)


def overlay(
    image: np.ndarray, mask: np.ndarray, classes: dict[int, str] = LABEL_CLASSES
) -> np.ndarray:
    """Lay a mask's colours over a gray image.

    The edge of each patch has its full colour, because few people can distinguish the blends with
    gray inside it.

    Args:
        image: uint8 (size, size).
        mask: uint8 labels (size, size).
        classes: Label -> name of its colour.

    Returns:
        float (size, size, 3) in [0, 1].
    """
    picture = np.repeat(image[..., None] / 255.0, 3, axis=-1)
    for label, name in classes.items():
        where = mask == label
        edge = where & ~binary_erosion(where, border_value=1)
        weight = np.where(edge, 1.0, MASK_WEIGHT)[where][:, None]
        picture[where] = (1 - weight) * picture[where] + weight * np.array(to_rgb(COLOURS[name]))
    return picture


def _glow(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A class activation map over a gray image, without colour where there is no heat."""
    share = resize(heat / max(float(heat.max()), 1e-12), image.shape, order=1)
    weight = HEAT_WEIGHT * share[..., None]
    return (1 - weight) * image[..., None] / 255 + weight * colormaps["inferno"](share)[..., :3]


def _covered(
    columns: Mapping[str, np.ndarray], classes: Mapping[int, str] = LABEL_CLASSES
) -> dict[str, list[str]]:
    """Share of the pixels that each colour covers, in words."""
    words = {}
    for heading, masks in columns.items():
        shares = {name: np.mean(masks == label) for label, name in classes.items()}
        items = [f"{name_of(name)} {100 * part:.1f} %" for name, part in shares.items() if part]
        words[f"{heading}, share of the pixels"] = items or ["nothing"]
    return words


def _sheet(
    pictures: Sequence[Sequence[np.ndarray]],
    title: str,
    words: Mapping[str, Iterable[str]],
    row_names: Sequence[str] = (),
    headings: Sequence[Sequence[str]] = (),
    classes: Iterable[str] = (),
    note: str = "",
) -> Figure:
    """A grid of gray or coloured pictures, no wider than two columns of a page."""
    across = max(len(row) for row in pictures)
    side = min(LARGEST, (DOUBLE - MARGIN) / across)
    headings = [[_broken(name, side) for name in row] for row in headings]
    lines = 1.4 * (2 if classes or note else 1)
    lines += sum(1 + max(name.count("\n") for name in row) for row in headings)
    size = (side * across + MARGIN, side * len(pictures) + LINE * lines)
    shape = (len(pictures), across)
    figure, axes = plt.subplots(*shape, figsize=size, squeeze=False, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for line, row in zip(axes, pictures, strict=True):
        for axis, picture in zip(line, row, strict=False):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=255)
    for line, row in zip(axes, headings, strict=False):
        for axis, name in zip(line, row, strict=False):
            axis.set_title(name, fontsize=SMALL, pad=2)
    for axis, name in zip(axes[:, 0], row_names, strict=False):
        axis.set_ylabel(name_of(name), fontsize=SMALL)
    figure.suptitle(title)
    figure.supxlabel(note, fontsize=SMALL, color=INK)
    patches = [Patch(color=COLOURS[name], label=name_of(name)) for name in classes]
    if patches:
        look = {"loc": "outside lower center", "handlelength": 1.2}
        figure.legend(handles=patches, ncols=len(patches), **look)
    return finished(figure, title, words)


def _broken(name: str, width: float) -> str:
    """A heading in lines that fit above a picture of so many inches."""
    letters = int(width * 72 / (LETTER * SMALL))
    parts = name.replace(": ", ":\n") if len(name) > letters else name
    return "\n".join(fill(part, letters) for part in parts.split("\n"))
