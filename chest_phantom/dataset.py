"""The phantom on disk: every patient in the layouts of the real data sets, and their tables."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from chest_phantom import ct_sets, external_sets, files, xray_sets
from chest_phantom.anatomy import build
from chest_phantom.cohort import Person, plan
from chest_phantom.disease import Volume
from chest_phantom.job import Job, Notes
from chest_phantom.settings import TRUTH_FILE, Settings

README = """Phantom chest scans.

Nothing here shows a person: every image was computed by the package chest_phantom from random
numbers (settings in phantom.json, what each image shows in phantom_truth.csv). The folders have the
layouts of the real data sets, so that the same readers read them; they contain nothing of those
sets. The images teach how the pipeline works. They say nothing about patients.

Licence: CC0 1.0, no rights reserved.
"""


def write_all(root: Path, settings: Settings) -> None:
    """Write the whole data set into an empty or missing folder; `chest_phantom.write` calls it."""
    root.mkdir(parents=True, exist_ok=True)
    people = plan(settings)
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        notes = list(pool.map(lambda person: _patient(root, settings, person), people))
        others = external_sets.people(settings)
        notes += pool.map(lambda person: external_sets.write(root, settings, person), others)
    _write_tables(root, notes)
    ct_sets.write_medseg(root, [part for note in notes for part in note.slices])
    (root / "README.txt").write_text(README, encoding="utf-8", newline="\n")


def _patient(root: Path, settings: Settings, person: Person) -> Notes:
    chest = build(np.random.default_rng(person.seed), settings.ct_size)
    job = Job(root, settings, person, chest, Notes())
    writers: dict[str, Callable[[Job], Volume]] = {
        "covid": xray_sets.covid_collection,
        "other": xray_sets.covid_collection,
        "chest": xray_sets.chest_xray,
        "nih": xray_sets.nih,
        "rsna": xray_sets.rsna,
    }
    volume = writers[person.role](job)
    if volume.pattern == "covid":
        ct_sets.medseg(job, volume)
    if person.role != "rsna":
        ct_sets.covid_ct(job, volume)
    if person.role == "chest" and person.pattern == "normal":
        ct_sets.nodule_scans(job)
    return job.notes


def _write_tables(root: Path, notes: list[Notes]) -> None:
    """Write the tables that have rows of all patients."""

    def gather(name: str) -> pd.DataFrame:
        return pd.DataFrame([row for note in notes for row in getattr(note, name)])

    metadata = gather("metadata").reindex(columns=xray_sets.METADATA_HEADER.split(",")).fillna("")
    # The published file has a last column without name or content.
    metadata[""] = ""
    files.save_table(root / "covid-chestxray-dataset" / "metadata.csv", metadata)
    files.save_table(root / "rsna" / "stage_2_train_labels.csv", gather("boxes"))
    files.save_table(root / "rsna" / "stage_2_detailed_class_info.csv", gather("classes"))
    files.save_table(root / "luna16" / "annotations.csv", gather("nodules"))
    truth = gather("truth").sort_values(["path", "frame"], kind="stable")
    files.save_table(root / TRUTH_FILE, truth)
