"""From a data folder to the split manifest of a profile, and back to its rows."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

import chest_phantom
from covid_utils import params, paths, runs
from covid_utils.data import guard, readers, similarity, splits
from covid_utils.data.manifest import (
    frontal_xrays,
    kind,
    lacking,
    lost_classes,
    saved_manifest,
    without_near_copies,
)
from covid_utils.data.readers import medseg
from covid_utils.errors import DataError
from covid_utils.registry import (
    DATA,
    EXTERNAL,
    EXTERNAL_SETS,
    LESION_SETS,
    NODULE_SETS,
    REAL_PROFILES,
    RECOGNITION_CLASSES,
    SUBSETS,
    UNUSED,
)

#: Parameters of ``01_data`` that decide what is in the manifest; the provenance records them.
SETTINGS = ("data_dir", "split", "seed", "limit", "validation_percent", "test_percent")
#: Problem of a class that a subset lacks.
NO_PATIENT = "no {} patient"


@dataclass(frozen=True)
class Collection:
    """A profile's images: the manifest with subsets, and the folder that paths are relative to."""

    manifest: pd.DataFrame
    root: Path
    problems: pd.DataFrame

    @property
    def kind(self) -> str:
        """``phantom`` or ``real scans``: what every picture of them must say."""
        return kind(self.manifest)

    def select(self, **criteria: str | tuple[str, ...]) -> pd.DataFrame:
        """Rows whose columns equal the given values, or are among them; index from 0."""
        return runs.select(self.manifest, **criteria).reset_index(drop=True)

    def training_rows(
        self, names: tuple[str, ...], task: str, near_copies: bool = False
    ) -> pd.DataFrame:
        """Rows of some data sets, near copies of test slices `UNUSED`; stop if none can train."""
        rows = self.select(dataset=names)
        if not (rows["subset"] == "train").any():
            raise DataError(
                f"{task} needs slices of {' or '.join(names)} to train on; "
                "add that data set (docs/data.md)."
            )
        return rows if near_copies else without_near_copies(rows)


def data_root(profile: str, data_dir: str) -> Path:
    """The folder with the data sets; '' is the phantom, made if it is not there."""
    if not data_dir and profile in REAL_PROFILES:
        raise DataError(
            f"profile '{profile}' reads real scans: name the folder that holds them, with "
            f"'make reproduce PROFILE={profile} DATA=folder' or the parameter data_dir."
        )
    if not data_dir:
        return chest_phantom.write(paths.phantom())
    folder = paths.scans(data_dir)
    if not folder.is_dir():
        raise DataError(f"{data_dir}: no such folder; name the folder that holds the data sets.")
    return folder.resolve()


def prepare(parameters: Mapping[str, Any]) -> Collection:
    """Read the data sets in a folder, split them, and write the run ``data``; see ``01_data``."""
    profile, split, seed = (parameters[name] for name in ("profile", "split", "seed"))
    with _lock(profile):
        root = data_root(profile, parameters["data_dir"])
        reading = readers.read_all(root)
        rows = reduce(reading.rows, parameters["limit"], seed)
        if chest_phantom.is_phantom(root):
            # The readers give the licences of the real sets whose layouts the phantom borrows.
            rows = rows.assign(licence=chest_phantom.LICENCE)
        rows = stand_ins(rows, root)
        published = medseg.infnet_subset(root) if split == "infnet" else None
        shares = (parameters["validation_percent"], parameters["test_percent"])
        table, seen = without_seen(splits.assign(rows, seed, *shares, published), root)
        assert_apart(table, split)
        problems = pd.concat([reading.problems, seen, _untested(table)], ignore_index=True)
        settings = {name: parameters[name] for name in SETTINGS}
        with runs.record(profile, DATA, settings, table) as run:
            run.write_table("manifest", table)
            run.write_table("skipped", problems)
            runs.write_json(run.folder / "source.json", {"folder": fingerprint(root)})
        return Collection(table, root, problems)


def _lock(profile: str) -> FileLock:
    """Notebooks that run side by side prepare the collection once."""
    folder = paths.results(profile)
    folder.mkdir(parents=True, exist_ok=True)
    # A singleton in each process, so that its holder may ask again.
    return FileLock(folder / ".collection.lock", is_singleton=True)


def _untested(manifest: pd.DataFrame) -> pd.DataFrame:
    """Problems of the split: a class without a patient to learn from, or to be tested on."""
    xrays = frontal_xrays(manifest)
    parts = {"X-ray": xrays[xrays["label"].isin(RECOGNITION_CLASSES)]}
    sets = {"CT": ("covid-ct",), "segmentation": LESION_SETS, "nodules": NODULE_SETS}
    parts |= {name: manifest[manifest["dataset"].isin(of)] for name, of in sets.items()}
    rows = []
    for name, part in parts.items():
        patients = part.groupby("label")["patient_id"].nunique()
        for label, subsets in lacking(part).items():
            remedy = f"Patients or groups in all: {patients[label]}. Bring more, or change the "
            problem = NO_PATIENT.format(" or ".join(subsets))
            rows.append((name, label, problem, f"{remedy}shares of the subsets."))
    return pd.DataFrame(rows, columns=list(guard.PROBLEM_COLUMNS))


def stand_ins(rows: pd.DataFrame, root: Path) -> pd.DataFrame:
    """Give near copies and neighbouring slices among CT images without a named patient one."""
    chosen = rows[(rows["patient_basis"] != "given") & (rows["modality"] == "CT")]
    if chosen.empty:
        return rows
    descriptors = readers.measured(root, chosen, similarity.descriptor)
    joined = similarity.join(chosen, ["patient_id"], similarity.near_copies(descriptors))
    return rows.assign(patient_id=joined.reindex(rows.index).fillna(rows["patient_id"]))


def without_seen(manifest: pd.DataFrame, root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make slices of other hospitals `UNUSED` that another set shows too; and a problem of each."""
    tested = manifest[manifest["subset"] == EXTERNAL]
    others = manifest[(manifest["subset"] != EXTERNAL) & (manifest["modality"] == "CT")]
    shown: dict[int, int] = {}
    if len(tested) and len(others):
        same = similarity.copies(pd.concat([tested, others])) - [0, len(tested)]
        same = same[(same[:, 0] < len(tested)) & (same[:, 1] >= 0)]
        parts = (readers.measured(root, part, similarity.descriptor) for part in (tested, others))
        shown = dict(np.concatenate([similarity.near_copies_of(*parts), same]).tolist())
    rows = []
    for ours, theirs in sorted(shown.items()):
        name = others["image_id"].iloc[theirs]
        remedy = f"{name} shows the same, and may train a network; this slice tests none."
        rows.append((*tested[["dataset", "path"]].iloc[ours], "near copy", remedy))
    is_seen = manifest.index.isin(tested.index[sorted(shown)])
    problems = pd.DataFrame(rows, columns=list(guard.PROBLEM_COLUMNS))
    return manifest.assign(subset=manifest["subset"].mask(is_seen, UNUSED)), problems


def assert_apart(manifest: pd.DataFrame, split: str) -> None:
    """Fail if a patient, file or picture is in two subsets.

    The CT slices of ``infnet`` follow a published split as it is, and are not checked.
    """
    splits.assert_disjoint(manifest[(manifest["dataset"] != medseg.NAME) | (split != "infnet")])


def fingerprint(root: Path) -> str:
    """Hash of names, sizes and times of a data folder's files, those behind links among them."""
    digest = hashlib.sha256(os.fsencode(root))
    for place, names in guard.walk(root):
        for name in names:
            path = place / name
            about = path.stat() if path.exists() else path.lstat()
            digest.update(os.fsencode(path) + f" {about.st_size} {about.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def open_or_prepare(profile: str, data_dir: str = "") -> Collection:
    """The collection that ``01_data`` left; prepared now if it is missing or of another folder."""
    root, folder = data_root(profile, data_dir), paths.results(profile) / DATA
    source = folder / "source.json"
    files = (source, folder / "manifest.csv", folder / "skipped.csv")
    with _lock(profile):
        is_whole = all(file.is_file() for file in files)
        if not is_whole or json.loads(source.read_text())["folder"] != fingerprint(root):
            return prepare(params.load(profile, "01_data", data_dir=data_dir))
        problems = runs.read_table(profile, f"{DATA}/skipped")
        return Collection(saved_manifest(profile), root, problems)


def require_classes(collection: Collection) -> None:
    """Stop if a class of the recognition task has no image."""
    if lost := lost_classes(collection.manifest):
        count = (collection.problems["problem"] == guard.UNREADABLE).sum()
        raise DataError(
            f"no frontal X-ray labelled {' or '.join(lost)} can be read ({count} files are "
            "unreadable, see skipped.csv); add the data set that holds them, see docs/data.md."
        )


def reduce(rows: pd.DataFrame, limit: int, seed: int) -> pd.DataFrame:
    """At most ``limit`` images of each label of each data set, drawn at random; 0 keeps all."""
    if not limit:
        return rows
    # Slices of other hospitals are drawn apart, so that those of the others are the same with them.
    parts = [part.index for _, part in rows.groupby(rows["dataset"].isin(EXTERNAL_SETS))]
    drawn = [pd.Series(np.random.default_rng(seed).permutation(len(at)), at) for at in parts]
    order = pd.concat(drawn).reindex(rows.index)
    rank = order.groupby([rows["dataset"], rows["label"]]).rank(method="first")
    return rows[rank <= limit].reset_index(drop=True)


def recognition_rows(collection: Collection, classes: int) -> pd.DataFrame:
    """Frontal X-rays of the task with 2 or 4 classes; ``target`` indexes `RECOGNITION_CLASSES`."""
    names = RECOGNITION_CLASSES[:classes]
    rows = frontal_xrays(collection.select(label=names)).reset_index(drop=True)
    return rows.assign(target=rows["label"].map(names.index).astype("int64"))


def describe(collection: Collection) -> pd.DataFrame:
    """Images and patients of each data set, modality and label, by subset."""
    keys = ["dataset", "modality", "label"]
    rows = collection.manifest
    groups = rows.groupby(keys)
    table = groups.agg(patients=("patient_id", "nunique"), images=("image_id", "size"))
    counts = groups["subset"].value_counts().unstack(fill_value=0)
    order = [name for name in (*SUBSETS, EXTERNAL, UNUSED) if name in counts]
    return table.join(counts[order]).reset_index()
