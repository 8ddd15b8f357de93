"""Sheets of pictures: images, and images with masks or heat laid over them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from skimage.transform import resize

from covid_utils.data.labels import overlay
from covid_utils.evaluation.gradcam import frame_share
from covid_utils.registry import COLOURS, INK, LABEL_CLASSES, name_of
from covid_utils.report.style import DOUBLE, PLAIN, SMALL, finished

#: Largest side of a picture, margin beside all of them, and height of a line of text, in inches.
LARGEST, MARGIN, LINE = 1.75, 0.25, 1.35 * PLAIN / 72
#: Weight of a map's colour where the heat is greatest.
HEAT_WEIGHT = 0.6


def image_sheet(rows: dict[str, list[np.ndarray]], title: str) -> Figure:
    """Gray images, one labelled row per class (Figure 3).

    ``rows``: class -> uint8 images (height, width), as many in each row.
    """
    cells = {name_of(name): [(image, "") for image in images] for name, images in rows.items()}
    words = {name: [f"{len(row)} gray images"] for name, row in cells.items()}
    return sheet(list(cells.items()), title, words)


def pair_sheet(pairs: list[tuple[np.ndarray, np.ndarray]], names: list[str], title: str) -> Figure:
    """CT slices above, the same slices with their masks below.

    ``pairs`` are uint8 images and labels of `LABEL_CLASSES`, both (size, size); each has a name.
    """
    images, masks = zip(*pairs, strict=True)
    upper = list(zip(images, names, strict=True))
    lower = [(overlay(*pair), "") for pair in pairs]
    words = _covered(dict(zip(names, masks, strict=True)), LABEL_CLASSES)
    return sheet([("image", upper), ("mask", lower)], title, words, LABEL_CLASSES.values())


def segmentation_sheet(
    images: np.ndarray,
    columns: dict[str, np.ndarray],
    title: str,
    classes: dict[int, str] = LABEL_CLASSES,
    scores: pd.DataFrame | None = None,
    beneath: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> Figure:
    """Slices with the truth and predictions side by side (Figures 2, 10 and 11).

    Args:
        images: uint8 (n, size, size).
        columns: Heading -> labels (n, size, size).
        title: Heading of the figure.
        classes: Label -> name of its colour.
        scores: What stands above the pictures: a named row per slice, a column per heading.
        beneath: Heading -> images of the same slices, of columns that do not lie on ``images``.
    """
    rows, words = [], _covered(columns, classes)
    for at, image in enumerate(images):
        name, headings = "", list(columns)
        if at > 0:  # headings stand above the first row alone
            headings = [""] * len(columns)
        if scores is not None:
            name, line = scores.index[at], scores.iloc[at]
            headings = [
                f"{top}\n{score}".strip() for top, score in zip(headings, line, strict=True)
            ]
            words[name] = map("{}, {}".format, columns, line)
        pictures = [
            overlay(beneath.get(head, images)[at], masks[at], classes)
            for head, masks in columns.items()
        ]
        cells = [(image, "" if at else "CT slice"), *zip(pictures, headings, strict=True)]
        rows.append((name, cells))
    return sheet(rows, title, words, classes.values())


def heat_sheet(shown: pd.DataFrame, images: np.ndarray, heat: np.ndarray, title: str) -> Figure:
    """Images with what spoke for their predictions, right ones above wrong ones.

    ``shown`` has ``truth``, ``predicted`` and ``p_<class>``, such as `gradcam.most_certain`
    chooses; ``images`` are uint8 (shown, height, width); ``heat`` is from `gradcam.grad_cam`, of
    the predicted classes.
    """
    cells, words = {}, {}
    for at, share in enumerate(frame_share(heat)):
        truth, predicted = shown[["truth", "predicted"]].iloc[at]
        is_right = predicted == truth
        caption = f"{name_of(predicted)} ({100 * shown[f'p_{predicted}'].iloc[at]:.0f} %)"
        caption += "" if is_right else f"\ntruth: {name_of(truth)}"
        where = f"{100 * share:.0f} % of the heat in the frame" if np.isfinite(share) else "no heat"
        row = f"most certain, {'right' if is_right else 'wrong'}"
        cells.setdefault(row, []).append((_glow(images[at], heat[at]), caption))
        words.setdefault(row, []).append(f"{caption}, {where}")
    figure = sheet(list(cells.items()), title, words)
    meaning = "violet, red, yellow: little to most heat of a picture; uncoloured: none"
    figure.supxlabel(meaning, fontsize=SMALL, color=INK)
    return figure


def evidence_sheet(
    image: np.ndarray, named: Mapping[str, tuple[float, np.ndarray]], labels: np.ndarray, title: str
) -> Figure:
    """A slice, what spoke for manifestations in it, and what was outlined.

    ``image`` is uint8 (height, width); ``named``: manifestation -> its probability, and heat
    (height, width), 0 or above; ``labels`` are of `LABEL_CLASSES`, (height, width).
    """
    cells = [(image, "CT slice")]
    for name, (chance, heat) in named.items():
        cells.append((_glow(image, heat), f"{name_of(name)}: {100 * chance:.0f} %"))
    words = {"named": [heading for _, heading in cells[1:]]}
    words |= _covered({"outlined": labels}, LABEL_CLASSES)
    cells.append((overlay(image, labels), "outlined"))
    return sheet([("", cells)], title, words, LABEL_CLASSES.values())


def _glow(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A class activation map over a gray image, without colour where there is no heat."""
    share = resize(heat / max(float(heat.max()), 1e-12), image.shape, order=1)
    weight = HEAT_WEIGHT * share[..., None]
    return (1 - weight) * image[..., None] / 255 + weight * colormaps["inferno"](share)[..., :3]


def _covered(columns: dict[str, np.ndarray], classes: dict[int, str]) -> dict[str, list[str]]:
    """Share of the pixels that each colour covers, in words."""
    words = {}
    for heading, masks in columns.items():
        shares = {name: np.mean(masks == label) for label, name in classes.items()}
        items = [f"{name_of(name)} {100 * part:.1f} %" for name, part in shares.items() if part]
        words[f"{heading}, share of the pixels"] = items or ["nothing"]
    return words


def sheet(
    rows: list[tuple[str, list[tuple[np.ndarray, str]]]],
    title: str,
    words: dict[str, Iterable[str]],
    classes: Iterable[str] = (),
) -> Figure:
    """Named rows of pictures with headings, no wider than two columns of a page."""
    across = max(len(cells) for _, cells in rows)
    width = min(DOUBLE, LARGEST * across + MARGIN)
    side = (width - MARGIN) / across
    lines = [max(name.count("\n") + bool(name) for _, name in cells) for _, cells in rows]
    size = (width, side * len(rows) + LINE * (3 + sum(lines)))
    bare = {"xticks": [], "yticks": [], "frame_on": False}
    grid = {"figsize": size, "squeeze": False, "layout": "constrained", "subplot_kw": bare}
    figure, axes = plt.subplots(len(rows), across, **grid)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    for line, (name, cells) in zip(axes, rows, strict=True):
        line[0].set_ylabel(name, fontsize=SMALL)
        for axis, (picture, heading) in zip(line, cells, strict=False):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=255)
            axis.set_title(heading, fontsize=SMALL, pad=2)
    figure.suptitle(title)
    patches = [Patch(color=COLOURS[name], label=name_of(name)) for name in classes]
    if patches:
        look = {"loc": "outside lower center", "handlelength": 1.2}
        figure.legend(handles=patches, ncols=len(patches), **look)
    return finished(figure, title, words)
