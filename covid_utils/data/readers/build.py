"""From what a reader knows of its files to rows of the manifest."""

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

#: What a candidate need not say.
DEFAULTS = {"frame": 0, "patient_basis": "given", "view": "", "mask_path": ""}
DEFAULTS |= {"label_quality": "none", "licence": "unknown"}
#: A source's word for a view, in small letters -> the manifest's view.
VIEWS = {"pa": "PA", "ap": "AP", "ap erect": "AP", "ap supine": "AP Supine", "axial": "Axial"}
VIEWS |= {"coronal": "Coronal"} | dict.fromkeys(("l", "ll", "rl", "lateral"), "L")


def build(
    candidates: list[dict],
    load_image: Callable[[Path, int], np.ndarray],
    problems: guard.Problems,
) -> pd.DataFrame:
    """Decode, measure and hash every image once.

    Args:
        candidates: One dictionary per image: ``path`` and other columns of the manifest, those of
            `DEFAULTS` only where they differ; ``path`` and ``mask_path`` as full paths, ``view`` in
            the words of the source. One with a ``frame`` is a slice, named and hashed by itself.
        load_image: ``load_image(path, frame)`` returns a gray uint8 image (height, width).
        problems: Where images that cannot be decoded are noted; they become no rows.

    Returns:
        Rows with the columns of the manifest, in the order of the candidates. Several rows of one
        image have ``@2`` and so on in their ``image_id``.
    """
    masks = dict.fromkeys(row["mask_path"] for row in candidates if row.get("mask_path"))
    hashes = {path: problems.attempt(path, "file", _sha256) or "" for path in masks}
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        measured = list(pool.map(lambda row: _measured(row, load_image), candidates))
    rows = []
    for row in measured:
        if "error" in row:
            problems.note(row["path"], row["error"])
            continue
        row |= {"dataset": problems.dataset, "mask_sha256": hashes.get(row["mask_path"], "")}
        row |= {name: problems.relative(row[name]) for name in ("path", "mask_path") if row[name]}
        row["image_id"] = row["path"] + (f"#{row['frame']:03d}" if row["is_slice"] else "")
        rows.append(row)
    if not rows:
        raise DataError(
            f"{problems.root}: no readable image of the data set '{problems.dataset}'"
            f"{problems.first()}; check that the archive was unpacked whole."
        )
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    turn = table.groupby("image_id").cumcount() + 1
    table["image_id"] += ("@" + turn.astype(str)).where(turn > 1, "")
    return table


def _sha256(path: Path, pixels: np.ndarray | None = None) -> str:
    content = path.read_bytes() if pixels is None else pixels.tobytes()
    return hashlib.sha256(content).hexdigest()


def _measured(candidate: dict, load_image: Callable[[Path, int], np.ndarray]) -> dict:
    """A candidate with size, hashes and, of CT, the lungs; or the ``error`` of its file."""
    row = DEFAULTS | {"is_slice": "frame" in candidate} | candidate
    row["view"] = VIEWS.get(row["view"].strip().lower(), "unknown")

    def measure(path: Path) -> dict:
        image = load_image(path, row["frame"])
        return {
            "sha256": _sha256(path, image if row["is_slice"] else None),
            "phash": perceptual_hash(image),
            "width": image.shape[1],
            "height": image.shape[0],
            "lungs": str(lungs.find(image)) if row["modality"] == "CT" else "",
        }

    try:
        return row | guard.read(row["path"], "image", measure)
    except DataError as error:
        return row | {"error": error}
