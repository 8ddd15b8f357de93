"""Stand-ins for patients where a data set names none.

Slices cut out of papers, or stacked into one file, come without patients. Copies, turned or
mirrored copies and neighbouring slices are then kept together: the best that can be done without
knowing, and less than a patient. ``patient_basis`` says of each image what its ``patient_id``
rests on.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from covid_utils.data import similarity, sources


def stand_ins(rows: pd.DataFrame, root: Path) -> pd.DataFrame:
    """Put near copies among CT images without a named patient into one group.

    Args:
        rows: Manifest.
        root: Data folder that its paths are relative to.

    Returns:
        A copy in which such images have the group's smallest ``patient_id``; all others keep
        theirs.
    """
    unknown = np.flatnonzero((rows["patient_basis"] != "given") & (rows["modality"] == "CT"))
    if not len(unknown):
        return rows
    chosen = rows.iloc[unknown]
    with ThreadPoolExecutor() as pool:
        looks = list(pool.map(lambda row: _descriptor(root, row), chosen.itertuples()))
    pairs = similarity.near_copies(np.stack(looks))
    patients = rows["patient_id"].copy()
    patients.iloc[unknown] = join(chosen, ["patient_id"], pairs).to_numpy()
    return rows.assign(patient_id=patients)


def _descriptor(root: Path, row: tuple) -> np.ndarray:
    return similarity.descriptor(sources.load_image(root, row))


def join(rows: pd.DataFrame, by: list[str], pairs: np.ndarray) -> pd.Series:
    """Join rows that share a value, or that a pair connects, and all that hangs together so.

    Args:
        rows: Manifest.
        by: Columns whose equal values connect rows.
        pairs: int (pairs, 2): positions of rows that belong together.

    Returns:
        The smallest ``patient_id`` of all that are joined, a text for each row.
    """
    count = len(rows)
    links, nodes = [np.asarray(pairs, np.int64).reshape(-1, 2)], count
    for column in by:
        value, names = pd.factorize(rows[column])
        links.append(np.column_stack([np.arange(count), nodes + value]))
        nodes += len(names)
    start, end = np.concatenate(links).T
    graph = coo_array((np.ones(len(start), np.int8), (start, end)), shape=(nodes, nodes))
    _, component = connected_components(graph, directed=False)
    joined = rows["patient_id"].groupby(component[:count]).transform("min")
    return joined.set_axis(rows.index)
