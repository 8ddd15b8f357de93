"""Where a network looks: Grad-CAM for a last layer on pooled maps."""

from __future__ import annotations

import numpy as np
import pandas as pd

#: Width of the frame around an image, as a share of its side.
FRAME = 0.125


def grad_cam(maps: np.ndarray, kernel: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Grad-CAM (Selvaraju et al. 2017, equations 1 and 2) of a linear layer on averaged maps.

    The class score is a weighted sum of the maps' averages, so its gradient with respect to a map
    is the weight, spread evenly over the map; no gradient needs to be traced. Grad-CAM then is the
    class activation mapping of Zhou et al. 2016 without its negative part.

    Args:
        maps: float (n, height, width, channels), the maps that are averaged to features.
        kernel: float (channels, classes) of the last layer.
        target: int (n,), the class that is explained in each image.

    Returns:
        float32 (n, height, width), 0 or above: what speaks for the class, and where.
    """
    area = maps.shape[1] * maps.shape[2]
    weights = kernel.T[target] / area
    heat = np.einsum("nhwc,nc->nhw", np.asarray(maps, np.float32), weights.astype(np.float32))
    return np.maximum(heat, 0)


def frame_share(heat: np.ndarray, frame: float = FRAME) -> np.ndarray:
    """Share of the heat that lies in the frame of an image, where there is least lung.

    Letters, arrows, tubes and the edge of the film lie there; a network that looks at them may
    have learned where a picture comes from. Lungs reach into the frame in closely cropped
    pictures, and each cell of a deep map has seen far more of the picture than itself, so a high
    share is a reason to look closer and no proof.

    Args:
        heat: float (n, height, width), 0 or above.
        frame: Width of the frame, as a share of the side.

    Returns:
        float (n,) in [0, 1]; NaN where there is no heat. Heat spread evenly gives `even_share`.
    """
    rows, columns = (_inner(side, frame) for side in heat.shape[1:])
    inside = np.einsum("nhw,h,w->n", heat, rows, columns)
    total = heat.sum(axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, 1 - inside / total, np.nan)


def _inner(cells: int, frame: float) -> np.ndarray:
    """How much of each cell of a side lies inside the frame: cells may be cut by it."""
    edges = np.linspace(0, 1, cells + 1)
    low, high = np.maximum(edges[:-1], frame), np.minimum(edges[1:], 1 - frame)
    return np.maximum(high - low, 0) * cells


def even_share(frame: float = FRAME) -> float:
    """Share of the area that the frame takes."""
    return 1 - (1 - 2 * frame) ** 2


def most_certain(predictions: pd.DataFrame, names: tuple[str, ...], right: bool) -> list[int]:
    """The case of each true class that the model is surest of, being right, or being wrong.

    Args:
        predictions: ``truth``, ``predicted`` and ``p_<class>``.
        names: Classes.
        right: Whether to look among the right answers.

    Returns:
        Positions; a class without such a case is left out.
    """
    answers = predictions["predicted"].to_numpy()
    truth = predictions["truth"].to_numpy()
    sure = predictions[[f"p_{name}" for name in names]].to_numpy().max(axis=1)
    chosen = []
    for name in names:
        among = np.flatnonzero((truth == name) & ((answers == truth) == right))
        if len(among):
            chosen.append(int(among[np.argmax(sure[among])]))
    return chosen
