"""Where a network gets its evidence: Grad-CAM for a last layer on pooled maps."""

from __future__ import annotations

import numpy as np
import pandas as pd

from covid_utils.evaluation import bootstrap, intervals
from covid_utils.registry import name_of

#: Width of the frame around an image, as a share of its side.
FRAME = 0.125
#: Share of the area that the frame takes.
EVEN_SHARE = 1 - (1 - 2 * FRAME) ** 2
#: Share of an image's mean brightness below which its border is dark.
DARK = 0.4


def grad_cam(maps: np.ndarray, kernel: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Where something speaks for a class, and how much: float32 (n, height, width), 0 or above.

    Grad-CAM (Selvaraju et al. 2017, equations 1 and 2) of a linear layer on averaged maps. The
    class score is a weighted sum of the maps' averages, so its gradient with respect to a map is
    the weight, spread evenly over the map; no gradient needs to be traced. It then is the class
    activation mapping of Zhou et al. 2016 without its negative part. ``maps`` are float (n, height,
    width, channels), ``kernel`` float (channels, classes), ``target`` int (n,): what is explained.
    """
    area = maps.shape[1] * maps.shape[2]
    weights = (kernel.T[np.asarray(target)] / area).astype(np.float32)
    return np.maximum(np.einsum("nhwc,nc->nhw", np.asarray(maps, np.float32), weights), 0)


def frame_share(heat: np.ndarray) -> np.ndarray:
    """Share of the heat that lies in the frame of an image, where there is least lung (n,).

    Letters, arrows, tubes and the edge of the film lie there; a network that relies on them may
    have learned where a picture comes from. Lungs reach into the frame in closely cropped
    pictures, and each cell of a deep map has seen far more of the picture than itself, so a high
    share is a reason to look closer and no proof. Heat spread evenly gives `EVEN_SHARE`, none NaN.
    """
    # How much of each cell of a side lies inside the frame: cells may be cut by it.
    edges = [np.linspace(0, 1, cells + 1).clip(FRAME, 1 - FRAME) for cells in heat.shape[1:]]
    rows, columns = (np.diff(of) * (len(of) - 1) for of in edges)
    inside, total = np.einsum("nhw,h,w->n", heat, rows, columns), heat.sum(axis=(1, 2))
    return 1 - np.divide(inside, total, out=np.full(len(heat), np.nan), where=total > 0)


def is_bordered(images: np.ndarray) -> np.ndarray:
    """Whether a dark border surrounds an image, uint8 (n, height, width): bool (n,).

    Dark means less than `DARK` of the mean of the picture, border its outermost hundredth.
    """
    edge = max(1, round(0.01 * images.shape[1]))
    is_rim = np.ones(images.shape[1:], bool)
    is_rim[edge:-edge, edge:-edge] = False
    return images[:, is_rim].mean(axis=1) < DARK * images.mean(axis=(1, 2))


def frame_table(predictions: pd.DataFrame, heat: np.ndarray) -> pd.DataFrame:
    """Mean share of heat ``in the frame`` by true class, and with heat spread evenly (``if even``).

    ``predictions`` are those whose ``heat``, of the predicted class, is from `grad_cam`.
    """
    rows, even = [], f"{100 * EVEN_SHARE:.0f} %"
    table = predictions.assign(share=100 * frame_share(heat))
    for name in _classes(predictions):
        part = table[table["truth"] == name]
        if part["share"].isna().all():
            continue
        mean = bootstrap.mean(part["share"].to_numpy(), part["patient_id"].to_numpy())
        text = f"{mean.value:.0f} %"
        if part["patient_id"].nunique() >= intervals.FEWEST_WITH_CLASS:
            text += f" [{mean.low:.0f}, {mean.high:.0f}]"
        row = {"class": name_of(name), "images": len(part)}
        rows.append(row | {"in the frame": text, "if even": even})
    return pd.DataFrame(rows)


def most_certain(predictions: pd.DataFrame) -> pd.DataFrame:
    """Of each true class the most confident right answer, then the most confident wrong ones."""
    keys = pd.DataFrame({"is_wrong": predictions["truth"] != predictions["predicted"]})
    keys["class"] = predictions["truth"].map(_classes(predictions).index)
    keys["doubt"] = -predictions.filter(regex="^p_").max(axis=1)
    keys = keys.sort_values([*keys], kind="stable").drop_duplicates(["is_wrong", "class"])
    return predictions.loc[keys.index]


def _classes(predictions: pd.DataFrame) -> list[str]:
    return [name.removeprefix("p_") for name in predictions if name.startswith("p_")]
