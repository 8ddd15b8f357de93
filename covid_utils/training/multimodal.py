"""Learning from X-rays and CT together (paper, section 4.1, Table 4)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from covid_utils.data.collection import Collection, recognition_rows

#: COVID-19 or not, in either modality. Not COVID-19 is normal on X-rays, and anything else on CT.
CLASSES = ("covid", "non_covid")


def candidate_rows(collection: Collection) -> pd.DataFrame:
    """All X-rays of the two-class task and all CT images with the same two classes.

    Args:
        collection: The images.

    Returns:
        Manifest rows with ``target`` (0 COVID-19, 1 not). CT slices of the segmentation set are
        left out: they are all COVID-19, so modality and class would go together.
    """
    ct = collection.select(dataset="covid-ct", label=CLASSES)
    ct = ct.assign(target=ct["label"].map(CLASSES.index).astype("int64"))
    return pd.concat([recognition_rows(collection, 2), ct], ignore_index=True)


def undersample(rows: pd.DataFrame, seed: int) -> np.ndarray:
    """Draw as many X-rays as there are CT images, in each subset and class.

    Args:
        rows: From `candidate_rows`, with ``subset``.
        seed: Of the draw.

    Returns:
        Sorted positions of the chosen rows: every CT image, and X-rays as far as there are any.
    """
    rng = np.random.default_rng(seed)
    rows = rows.reset_index(drop=True)
    is_ct = (rows["modality"] == "CT").to_numpy()
    chosen = [np.flatnonzero(is_ct)]
    for _, part in rows.groupby(["subset", "target"]):
        positions = part.index[part["modality"] == "X-ray"].to_numpy()
        wanted = int((part["modality"] == "CT").sum())
        chosen.append(rng.permutation(positions)[:wanted])
    return np.sort(np.concatenate(chosen))
