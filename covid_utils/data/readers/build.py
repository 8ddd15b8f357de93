"""From what a reader knows of its files to rows of the manifest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from covid_utils.data import guard, lungs
from covid_utils.data.manifest import COLUMNS
from covid_utils.data.similarity import perceptual_hash
from covid_utils.errors import DataError

ImageLoader = Callable[[Path, int], np.ndarray]

#: What a candidate need not say.
DEFAULTS = {
    "frame": 0,
    "patient_basis": "given",
    "view": "unknown",
    "mask_path": "",
    "label_quality": "none",
    "licence": "unknown",
}


def build(
    candidates: list[dict], load_image: ImageLoader, problems: guard.Problems
) -> pd.DataFrame:
    """Decode, measure and hash every image once.

    Args:
        candidates: One dictionary per image: ``path`` and other columns of the manifest, those of
            `DEFAULTS` only where they differ; ``path`` and ``mask_path`` as full paths.
            ``is_slice`` marks a slice of a volume, which is named and hashed by itself.
        load_image: ``load_image(path, frame)`` returns a gray uint8 image (height, width).
        problems: Where images that cannot be decoded are noted; they become no rows.

    Returns:
        Rows with the columns of the manifest, in the order of the candidates.

    Raises:
        DataError: No candidate can be read.
    """
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        probes = list(pool.map(lambda row: _probe(row, load_image), candidates))
    masks = _mask_hashes(candidates, problems)
    rows = []
    for row, probe in zip(candidates, probes, strict=True):
        if isinstance(probe, DataError):
            problems.note(row["path"], probe)
        else:
            rows.append(_complete(row, problems, masks) | probe)
    if not rows:
        raise DataError(
            f"{problems.root}: no readable image of the data set '{problems.dataset}'"
            f"{problems.first()}; check that the archive was unpacked whole."
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _probe(row: dict, load_image: ImageLoader) -> dict | DataError:
    """Size, hashes and, of CT, the lungs of an image; or why it cannot be read."""

    def measure(path: Path) -> dict:
        image = load_image(path, row.get("frame", 0))
        height, width = image.shape
        is_slice = row.get("is_slice", False)
        return {
            "sha256": hashlib.sha256(image.tobytes()).hexdigest() if is_slice else sha256(path),
            "phash": perceptual_hash(image),
            "width": width,
            "height": height,
            "lungs": str(lungs.find(image)) if row["modality"] == "CT" else "",
        }

    try:
        return guard.read(row["path"], "image", measure)
    except DataError as error:
        return error


def sha256(path: Path) -> str:
    """Hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mask_hashes(candidates: list[dict], problems: guard.Problems) -> dict[Path, str]:
    """Hash of every mask file; '' for one that cannot be read, which is noted."""
    named = {row["mask_path"]: None for row in candidates if row.get("mask_path")}
    return {path: problems.attempt(path, "file", sha256) or "" for path in named}


def _complete(row: dict, problems: guard.Problems, masks: dict[Path, str]) -> dict:
    """Fill in what a reader may leave out; paths become relative to the data folder."""
    full = DEFAULTS | {"dataset": problems.dataset} | row
    full["path"] = problems.relative(row["path"])
    if full["mask_path"]:
        full["mask_path"] = problems.relative(row["mask_path"])
    name = full["path"] + (f"#{full['frame']:03d}" if row.get("is_slice") else "")
    return {"image_id": name, "mask_sha256": masks.get(row.get("mask_path"), "")} | full
