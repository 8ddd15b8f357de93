"""All files of a user become a folder: what was found in each case, and a row for every file."""

from __future__ import annotations

import errno
import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np

from covid_read import masks, pages
from covid_read.cases import Case, cases
from covid_read.extent import BATCH, Extent, Outline, outlined
from covid_read.inputs import File, Refusal
from covid_read.stages import Questions, Stages
from covid_utils import runs
from covid_utils.data import guard
from covid_utils.errors import DataError, ParameterError
from covid_utils.writing import whole_folder

#: Version of the layout of ``case.json``, which ``case.schema.json`` beside this file describes.
SCHEMA = 2
NIFTI, SEG = FORMATS = ("nifti", "dicom-seg")
LIST, PAGE = "files.csv", "index.html"
#: What probabilities are stored in steps of; rounded down, so that none exceeds 1.
STEP = float(np.nextafter(np.float32(1 / 255), np.float32(0)))


@dataclass(frozen=True)
class Wishes:
    """What is asked and written of each case; see `covid_read.read`.

    ``about`` is what ``case.json`` says of the model and its preprocessing.
    """

    formats: Sequence[str] = (NIFTI,)
    probabilities: bool = False
    batch: int = BATCH
    about: Mapping[str, Any] = field(default_factory=dict)
    stages: Stages = field(default_factory=Stages)
    xrays: bool = False


@dataclass
class Summary:
    """What became of the files that were named.

    Attributes:
        rows: One for every file, with the columns `pages.COLUMNS`.
        records: Content of the cases' JSON files, and the ``folder`` of each.
        refused: Why files were not read, one sentence for each refusal.
    """

    rows: list[dict[str, str]] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def add(self, files: Sequence[File], record: dict[str, Any]) -> None:
        """Note a case that was read."""
        about = [say(record) for say in (pages.recognised, pages.named, pages.outlined)]
        self._list(files, "read", record["folder"], " ".join(pages.remarks(record)), *about)
        self.records.append(record)

    def refuse(self, refusal: Refusal) -> None:
        """Note files that were not read."""
        self._list(refusal.files, "refused", "", refusal.reason, "", "", "")
        self.refused.append(refusal.reason)

    def _list(self, files: Sequence[File], *values: str) -> None:
        for file in files:
            row = (guard.printable(file.name), *values)
            self.rows.append(dict(zip(pages.COLUMNS, row, strict=True)))


def check(folder: Path) -> None:
    """Refuse a folder that holds anything but earlier results, or cannot be written."""
    with _written_to(folder):
        if folder.exists() and any(folder.iterdir()) and not pages.is_list(folder / LIST):
            raise ParameterError(f"{folder}: holds other files; name a new folder for the results.")
        place = next(each for each in (folder, *folder.absolute().parents) if each.exists())
        if not place.is_dir() or not os.access(place, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@contextmanager
def _written_to(folder: Path) -> Iterator[None]:
    """Say of a folder for results why it cannot be written."""
    try:
        yield
    except OSError as error:
        raise ParameterError(
            f"{folder}: cannot be written ({error.strerror}); name another folder for the results."
        ) from error


def read_all(
    paths: Sequence[Path],
    folder: Path,
    outline: Outline,
    wishes: Wishes | None = None,
    tell: Callable[[int], None] = lambda slices: None,
) -> Summary:
    """Read everything that a user names into a folder of results.

    ``<case>/`` has ``case.json``, ``overlay.png`` and the masks; ``files.csv`` has a row for every
    file, and ``index.html`` shows all cases. A case is there whole or not at all. Of what the
    network does not know, such as an X-ray, ``case.json`` says why nothing was outlined.

    Args:
        paths: Files, folders and ZIP archives.
        folder: New, or of earlier results, which are replaced; what lies there is not read.
        outline: The network that outlines CT slices.
        wishes: What to write.
        tell: Is called with the number of slices of each batch that is done.
    """
    check(folder)
    summary, taken, wishes = Summary(), {LIST, PAGE}, wishes or Wishes()
    with _written_to(folder):
        _clear(folder)
        pages.write_list(folder / LIST, ())  # marks the folder, whatever becomes of this run
        for case in cases(paths, folder):
            if isinstance(case, Refusal):
                summary.refuse(case)
                continue
            if wishes.xrays and case.modality == "unknown" and case.oriented is None:
                case = replace(case, modality="X-ray", gray_scale="", warnings=())  # noqa: PLW2901
            name = _folder_name(case.name, taken)
            try:
                record = _written(case, folder / name, outline, wishes, tell)
                summary.add(case.files, record | {"folder": name})
            except DataError as error:
                summary.refuse(Refusal.of(error, *case.files))
        pages.write_list(folder / LIST, summary.rows)
        pages.write_sheet(folder / PAGE, summary.records, summary.refused)
    return summary


def _clear(folder: Path) -> None:
    """Remove the cases of earlier results, and their page; nothing else is touched."""
    for name in pages.listed_cases(folder / LIST):
        if (folder / name / "case.json").is_file():
            shutil.rmtree(folder / name)
    (folder / PAGE).unlink(missing_ok=True)


def _folder_name(name: str, taken: set[str]) -> str:
    """A case's name as that of a folder on every system, and of no other case."""
    plain = unicodedata.normalize("NFC", name).replace("/", "_")
    stem = re.sub(r"[^\w.-]+", "_", plain).strip("._")[:100] or "case"
    names = chain([stem], (f"{stem}-{number}" for number in count(2)))
    unique = next(each for each in names if each.casefold() not in taken)
    taken.add(unique.casefold())
    return unique


def _written(
    case: Case, folder: Path, outline: Outline, wishes: Wishes, tell: Callable[[int], None]
) -> dict[str, Any]:
    """Ask all that is wanted of a case and write it; returns its record."""
    asked = Questions(case, outline, wishes.stages)
    extent = outlined(case, asked, wishes.batch, wishes.probabilities, tell)
    extent = asked.why_not or extent
    why = extent if isinstance(extent, str) else None
    with whole_folder(folder) as partial:
        doubts = asked.warnings
        if wishes.stages.outlines and not why:
            pages.write_overlay(partial / "overlay.png", extent)
            doubts += _write_masks(case, extent, partial, wishes)
        elif not wishes.stages.outlines and (SEG in wishes.formats or wishes.probabilities):
            doubts += ["No DICOM SEG and no probabilities are written without stage 3."]
        record = _record(case, extent, wishes.about, doubts) | asked.record(why)
        if not wishes.stages.outlines:
            record |= dict.fromkeys(("manifestations", "why_not_outlined", "shown_slice"))
        record["masks"] = sorted(path.name for path in partial.glob("mask.*"))
        runs.write_json(partial / "case.json", record)
    return record


def _write_masks(case: Case, extent: Extent, folder: Path, wishes: Wishes) -> list[str]:
    """Write what is wished for; returns why the rest is not written."""
    said = []
    if NIFTI in wishes.formats and case.affine is not None:
        masks.write_nifti(folder / "mask.nii.gz", case, extent.labels)
    elif NIFTI in wishes.formats and case.shape[0] == 1:
        masks.write_png(folder / "mask.png", case.stored(extent.labels)[..., 0].T)
    if SEG in wishes.formats and case.is_referable:
        masks.write_seg(folder / "mask.dcm", case, extent.labels)
    elif SEG in wishes.formats:
        said += ["No DICOM SEG is written; only DICOM slices that state their places have one."]
    if wishes.probabilities and case.affine is not None:
        masks.write_nifti(folder / "probability.nii.gz", case, extent.probability, slope=STEP)
    elif wishes.probabilities:
        said += ["No probabilities are written; only volumes and evenly spaced series have them."]
    return said


def _record(
    case: Case, extent: Extent | str, about: Mapping[str, Any], doubts: Sequence[str]
) -> dict[str, Any]:
    """Content of ``case.json``, but for the names of masks; None of what was not outlined."""
    (slices, height, width), warnings = case.shape, list(case.warnings)
    found = extent if isinstance(extent, Extent) else None
    if found:
        warnings += doubts
    if found and (left := slices - found.outlined):
        said = "Slices that show no lung field, or whose gray scale is not known"
        warnings.append(f"{said}: {left} of {slices}. Nothing is said about them.")
    return {
        "schema": SCHEMA,
        "name": case.name,
        "files": len(case.files),
        "modality": case.modality,
        "slices": slices,
        "height": height,
        "width": width,
        "voxel_ml": case.voxel_ml,
        "gray_scale": case.gray_scale,
        "manifestations": found and found.rows(case.voxel_ml),
        "why_not_outlined": None if found else extent,
        "outlined_slices": found.outlined if found else 0,
        "lung_field_pixels": found and found.lung_pixels,
        "lung_field_ml": found.lung_pixels * case.voxel_ml if found and case.voxel_ml else None,
        "shown_slice": found and found.shown + 1,
        "warnings": warnings,
        "about": dict(about),
        "notice": pages.NOTICE,
    }
