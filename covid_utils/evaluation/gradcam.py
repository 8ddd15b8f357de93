"""Where a network gets its evidence: Grad-CAM for a last layer on pooled maps."""

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
    weights = (kernel.T[np.asarray(target)] / area).astype(np.float32)
    return np.maximum(np.einsum("nhwc,nc->nhw", np.asarray(maps, np.float32), weights), 0)


def frame_share(heat: np.ndarray, frame: float = FRAME) -> np.ndarray:
    """Share of the heat that lies in the frame of an image, where there is least lung.

    Letters, arrows, tubes and the edge of the film lie there; a network that relies on them may
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


def most_certain(answers: pd.DataFrame) -> pd.DataFrame:
    """Of each true class the most confident right answer, then the most confident wrong ones.

    Args:
        answers: ``truth``, ``predicted`` and ``p_<class>`` in the order of the classes.
    """
    names = [name.removeprefix("p_") for name in answers if name.startswith("p_")]
    confidence = answers[[f"p_{name}" for name in names]].max(axis=1)
    is_right = answers["truth"] == answers["predicted"]
    chosen = []
    for among in (is_right, ~is_right):
        best = confidence[among].groupby(answers["truth"][among]).idxmax()
        chosen += best.reindex(names).dropna().astype(int).tolist()
    return answers.loc[chosen]


def draw(answers: pd.DataFrame, images: int = 25) -> pd.DataFrame:
    """At most so many answers of each true class, at random."""
    return answers.sample(frac=1, random_state=0).groupby("truth").head(images)
