"""From what a reader knows of its files to rows of the manifest."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from covid_utils.data import gray_scale, guard
from covid_utils.data.images import FINDERS, place_of
from covid_utils.data.manifest import COLUMNS
from covid_utils.data.similarity import perceptual_hash
from covid_utils.errors import DataError
from covid_utils.writing import digest

#: What a candidate need not say.
DEFAULTS = {"frame": 0, "patient_basis": "given", "view": None, "mask_path": "", "gray": ""}
DEFAULTS |= {"label_quality": "none", "licence": "unknown"}
#: A source's word for a view, in small letters -> the manifest's view.
VIEWS = {
    "pa": "PA",
    "pa erect": "PA",
    "ap": "AP",
    "ap erect": "AP",
    "ap semi erect": "AP",
    "ap supine": "AP Supine",
    "axial": "Axial",
    "coronal": "Coronal",
    **dict.fromkeys(("l", "ll", "rl", "lateral", "left lateral", "right lateral"), "L"),
}


class Source(NamedTuple):
    """The reader of a data set."""

    #: Name of its folder in the data folder.
    folder: str
    #: Columns of the manifest that are the same for all its images.
    about: dict[str, str]
    #: From the data folder to one dictionary per image. It needs ``path``, ``label`` (one of
    #: `manifest.LABELS`) and ``patient_id`` (beginning with the set's name, or two sets could share
    #: one), and those of `DEFAULTS` where they differ; ``path`` and ``mask_path`` are full paths,
    #: ``view`` is in the words of the source. One with a ``frame`` is a slice, named and hashed by
    #: itself; of CT whose file has Hounsfield units, ``gray`` is `gray_scale.KNOWN`.
    candidates: Callable[[Path, guard.Problems], list[dict]]
    #: From a path and a frame to a gray uint8 image (height, width).
    load_image: Callable[[Path, int], np.ndarray]
    #: From the data folder and a row of the manifest to labels (height, width).
    load_mask: Callable[[Path, Any], np.ndarray] | None = None
    #: The same to a mask of the lungs by an annotator: 1, else 0.
    load_lungs: Callable[[Path, Any], np.ndarray] | None = None

    @property
    def name(self) -> str:
        """Name in the manifest's column ``dataset``."""
        return self.folder.lower()


def build(source: Source, problems: guard.Problems) -> pd.DataFrame:
    """Decode, measure and hash every image of a data set once.

    Images that cannot be decoded are noted as problems and become no rows. Several rows of one
    image have ``@2`` and so on in their ``image_id``.
    """
    candidates = [
        DEFAULTS | {"is_slice": "frame" in row} | source.about | row
        for row in source.candidates(problems.root, problems)
    ]
    masks = dict.fromkeys(row["mask_path"] for row in candidates if row["mask_path"])
    hashes = {path: problems.attempt(guard.read, path, "file", digest) or "" for path in masks}
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        measured = [pool.submit(_measure, row["path"], source, row) for row in candidates]
    rows = []
    for candidate, measures in zip(candidates, measured, strict=True):
        about = {"dataset": source.name, "mask_sha256": hashes.get(candidate["mask_path"], "")}
        try:
            rows.append(_row(candidate | about | measures.result(), problems))
        except DataError as error:
            problems.note(candidate["path"], error)
    if not rows:
        folder = problems.root / source.folder
        layout = "; check that the archive was unpacked whole and as docs/data.md says"
        nothing = "; its folder is a broken link, fetch what it points to or delete the link"
        cause = problems.first() or (layout if folder.exists() else nothing)
        raise DataError(f"{folder}: no readable image of the data set '{source.name}'{cause}.")
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    turn = table.groupby("image_id").cumcount() + 1
    table["image_id"] += ("@" + turn.astype(str)).where(turn > 1, "")
    return table


def _row(row: dict, problems: guard.Problems) -> dict:
    source, word = row["path"], row["view"]
    row |= {name: problems.relative(row[name]) for name in ("path", "mask_path") if row[name]}
    if guard.CONTROL.search(row["path"] + row["mask_path"]):
        raise DataError(f"{source}: its name has a line break or the like; rename it.")
    row |= {name: guard.CONTROL.sub(" ", row[name]) for name in ("patient_id", "licence")}
    # A source that names no views says that all are from the front.
    row["view"] = "unknown" if word is None else VIEWS.get(word.strip().lower(), "other")
    if row["view"] == "other":
        remedy = f"'{word}' is no view that is known, so it does not count as frontal."
        problems.add(source, "unknown view", remedy)
    row["image_id"] = row["path"] + (f"#{row['frame']:03d}" if row["is_slice"] else "")
    return row


@guard.reads("image")
def _measure(path: Path, source: Source, row: dict) -> dict:
    """Size, hashes and, of CT, the lungs and the gray scale."""
    image = source.load_image(path, row["frame"])
    content = image.tobytes() if row["is_slice"] else path.read_bytes()
    found = {"sha256": hashlib.sha256(content).hexdigest(), "phash": perceptual_hash(image)}
    found |= {"width": image.shape[1], "height": image.shape[0]}
    found |= dict.fromkeys(("lungs", "field", "gray"), "")
    if row["modality"] == "CT":
        found |= {name: place_of(field(image)) for name, field in FINDERS.items()}
        found["gray"] = row["gray"] or str(gray_scale.landmarks(image))
    return found
