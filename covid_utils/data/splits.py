"""Who trains and who is tested, decided once and before any augmentation.

A split adds the column ``subset`` to a manifest: ``train``, ``validation``, ``test`` or ``unused``;
slices of other hospitals are ``external`` and change nothing for the other images.
"""

from __future__ import annotations

import hashlib
import re
import zlib

import numpy as np
import pandas as pd

from covid_utils.data import similarity
from covid_utils.errors import DataError, ParameterError
from covid_utils.registry import EXTERNAL, EXTERNAL_SETS, UNUSED

#: Largest number that `retrain.py` makes of a hash.
LARGEST_HASH = 2**27 - 1


def assign(
    manifest: pd.DataFrame,
    seed: int = 2020,
    validation: float = 10.0,
    test: float = 10.0,
    published: dict[str, str] | None = None,
) -> pd.DataFrame:
    """Add ``subset`` to a copy of a manifest; shares are per cent of the images.

    All images of a patient, and of patients who share a picture, are in one subset, drawn by data
    set and label. CT slices follow a split that was ``published``, if one is given: ``image_id`` to
    ``train``, ``test`` or ''.
    """
    if validation + test >= 100:
        raise ParameterError(f"split: {validation} % and {test} % leave nothing to train on.")
    own = manifest[~manifest["dataset"].isin(EXTERNAL_SETS)]
    subset = _stratified(own, joined_patients(own), seed, validation, test)
    if published is not None:
        is_published = own["image_id"].isin(published.keys())
        if not is_published.any():
            raise DataError("split: no image of the published benchmark is here; check slices.csv.")
        subset = own["image_id"].map(published).where(is_published, subset)
        subset = subset.replace("", UNUSED)
        # Validation slices are taken from the published training part, by patient.
        part = own[is_published & (subset == "train")]
        subset.loc[part.index] = _stratified(part, joined_patients(part), seed, validation, 0)
    return manifest.assign(subset=subset.reindex(manifest.index, fill_value=EXTERNAL))


def joined_patients(manifest: pd.DataFrame) -> pd.Series:
    """Patient of each image; patients who share a picture count as one."""
    # Flat pictures are alike, and show nothing that patients could share.
    pictures = manifest["sha256"].where(manifest["phash"] != "", manifest["image_id"])
    rows = manifest.assign(sha256=pictures)
    return similarity.join(rows, ["patient_id", "sha256"], similarity.copies(manifest))


def path_hash(path: str, validation: float = 10, test: float = 10) -> str:
    """Subset that TensorFlow's ``retrain.py`` gives to a file, from the SHA-1 of its path.

    The whole path counts, so moving a folder changes the split; what follows ``_nohash_`` does not,
    so variants of one image stay together. Shares are per cent.
    """
    stem = re.sub(r"_nohash_.*$", "", path)
    number = int(hashlib.sha1(stem.encode()).hexdigest(), 16) % (LARGEST_HASH + 1)
    percent = number * (100.0 / LARGEST_HASH)
    if percent < validation:
        return "validation"
    return "test" if percent < validation + test else "train"


def _stratified(
    manifest: pd.DataFrame, groups: pd.Series, seed: int, validation: float, test: float
) -> pd.Series:
    strata = manifest["dataset"] + "/" + manifest["label"]
    # A patient with images of two labels belongs to the stratum of the most frequent one.
    home = strata.groupby(groups).agg(lambda names: names.mode().iloc[0])
    sizes = groups.value_counts()
    chosen: dict[str, str] = {}
    for stratum, members in home.groupby(home):
        # Seeded by name, so that one data set more or less does not move the others' images.
        rng = np.random.default_rng([seed, zlib.crc32(stratum.encode())])
        names = rng.permutation(np.array(sorted(members.index), dtype=object))
        counts = sizes.loc[names].to_numpy()
        chosen |= dict(zip(names, _fill(counts, validation, test), strict=True))
    return groups.map(chosen)


def _fill(counts: np.ndarray, validation: float, test: float) -> list[str]:
    """Subset of each group: where the middle of its images falls, and none that is wanted empty."""
    if len(counts) < 3:
        # One or two groups cannot be split honestly: they train, and nothing is claimed of them.
        return ["train"] * len(counts)
    share = 100 * (np.cumsum(counts) - counts / 2) / counts.sum()
    subset = np.where(share < test, "test", "train").astype(object)
    subset[(share >= test) & (share < test + validation)] = "validation"
    for name, wanted in (("train", 1), ("test", test), ("validation", validation)):
        if wanted > 0 and name not in subset:
            spare = np.flatnonzero([(subset == own).sum() > 1 for own in subset])
            by_size = spare[counts[spare].argsort(kind="stable")]
            subset[by_size[-1 if name == "train" else 0]] = name
    return subset.tolist()


def assert_disjoint(manifest: pd.DataFrame) -> None:
    """Fail if a patient, a file or a picture is in two subsets."""
    used = manifest[manifest["subset"] != UNUSED].reset_index(drop=True)
    pairs = similarity.copies(used)
    first, second = used["subset"].to_numpy()[pairs].T
    shared = {"phash": used["image_id"].to_numpy()[pairs[first != second]].ravel().tolist()}
    for column, rows in (("patient_id", used), ("sha256", used[used["phash"] != ""])):
        spread = rows.groupby(column)["subset"].nunique()
        shared[column] = spread.index[spread > 1].tolist()
    for column in ("patient_id", "sha256", "phash"):
        if values := sorted(set(shared[column])):
            raise DataError(
                f"split: {len(values)} {column} values are in more than one subset, the first is "
                f"{values[0]!r}; make the split again with split 'patient'."
            )
