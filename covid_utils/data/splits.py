"""Who trains and who is tested, decided once and before any augmentation.

A split adds the column ``subset`` to a manifest: ``train``, ``validation``, ``test`` or ``unused``.
"""

from __future__ import annotations

import hashlib
import re
import zlib

import numpy as np
import pandas as pd

from covid_utils.data import similarity
from covid_utils.errors import DataError, ParameterError
from covid_utils.registry import UNUSED

#: Kinds of split: who is kept apart from whom.
KINDS = ("patient", "image", "path_hash", "source_out", "infnet")
#: `retrain.py` spreads hashes over this many buckets.
HASH_BUCKETS = 2**27 - 1


def assign(
    manifest: pd.DataFrame,
    kind: str = "patient",
    seed: int = 2020,
    validation: float = 10.0,
    test: float = 10.0,
    held_out: str = "",
    published: dict[str, str] | None = None,
) -> pd.DataFrame:
    """Add ``subset`` to a copy of a manifest; shares are per cent of the images.

    ``patient`` keeps all images of a patient, and of patients who share a picture, in one subset;
    ``image`` assigns images one by one; ``path_hash`` does what the paper's `retrain.py` did;
    ``source_out`` tests on the data sets ``held_out`` (separated by commas) and trains on none of
    them; ``infnet`` is ``patient``, but the CT slices follow a split that was ``published``:
    ``image_id`` to ``train``, ``test`` or ''. All but ``path_hash`` draw by data set and label.
    """
    tested = [name.strip() for name in held_out.split(",") if name.strip()]
    _check(manifest, kind, validation + test, tested)
    if kind == "path_hash":
        return manifest.assign(subset=[path_hash(p, validation, test) for p in manifest["path"]])
    groups = manifest["image_id"] if kind == "image" else joined_patients(manifest)
    share = 0.0 if kind == "source_out" else test
    subset = _stratified(manifest, groups, seed, validation, share)
    if kind == "source_out":
        outside = manifest["dataset"].isin(tested)
        # Who is joined to a patient of the tested sets is left out.
        subset = subset.mask(groups.isin(groups[outside]), UNUSED).mask(outside, "test")
    if kind == "infnet":
        subset = _published(manifest, subset, published or {}, seed, validation)
    return manifest.assign(subset=subset)


def _check(manifest: pd.DataFrame, kind: str, share: float, tested: list[str]) -> None:
    if share >= 100:
        raise ParameterError(f"split: {share} % for validation and test leave nothing to train on.")
    if bool(tested) != (kind == "source_out"):
        raise ParameterError(
            "held_out names the data sets that the split 'source_out' tests on; "
            "set both, or leave held_out empty."
        )
    present = sorted(manifest["dataset"].unique())
    if tested and not set(tested) < set(present):
        name, sets = ", ".join(tested), ", ".join(present)
        raise ParameterError(f"held_out '{name}': name some, not all, of the data sets {sets}.")


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
    number = int(hashlib.sha1(stem.encode()).hexdigest(), 16) % (HASH_BUCKETS + 1)
    percent = number * (100.0 / HASH_BUCKETS)
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


def _published(
    manifest: pd.DataFrame, subset: pd.Series, published: dict[str, str], seed: int, share: float
) -> pd.Series:
    """Follow a published split; validation slices are taken from its training part, by patient."""
    names = manifest["image_id"]
    rows = names.isin(published.keys())
    if not rows.any():
        raise DataError("split: no image of the published benchmark is here; check slices.csv.")
    subset = names.map(published).where(rows, subset).replace("", UNUSED)
    training = manifest[rows & (subset == "train")]
    subset.loc[training.index] = _stratified(training, joined_patients(training), seed, share, 0)
    return subset


def assert_disjoint(manifest: pd.DataFrame) -> None:
    """Fail if a patient, a file or a picture is in two subsets."""
    used = manifest[manifest["subset"] != UNUSED].reset_index(drop=True)
    shared = {}
    for column in ("patient_id", "sha256"):
        rows = used if column == "patient_id" else used[used["phash"] != ""]
        spread = rows.groupby(column)["subset"].nunique()
        shared[column] = spread.index[spread > 1].tolist()
    pairs = similarity.copies(used)
    first, second = used["subset"].to_numpy()[pairs].T
    shared["phash"] = sorted(set(used["image_id"].to_numpy()[pairs[first != second]].flat))
    for column, values in shared.items():
        if values:
            raise DataError(
                f"split: {len(values)} {column} values are in more than one subset, the first is "
                f"{values[0]!r}; make the split again with kind 'patient'."
            )


def memory(manifest: pd.DataFrame, **shares) -> pd.DataFrame:
    """Share of the test images whose patient, or picture, a split shows in training, per kind."""
    groups = joined_patients(manifest)
    rows = []
    for kind in KINDS[:3]:
        subset = assign(manifest, kind, **shares)["subset"]
        test = subset == "test"
        seen = groups[test].isin(groups[subset == "train"])
        share = 100 * seen.mean() if test.any() else np.nan
        rows.append((kind, test.sum(), seen.sum(), round(share, 1)))
    columns = ["split", "test images", "patient seen in training", "per cent"]
    return pd.DataFrame(rows, columns=columns)
