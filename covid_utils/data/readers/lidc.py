"""Reader of the nodule data set LIDC-IDRI (Armato et al. 2011).

Layout: ``lidc-idri`` with folders, however deep, of DICOM slices and the XML file of the four
readers' outlines. In masks 1 is nodule.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from covid_utils.data import guard
from covid_utils.data.images import read_dicom, read_dicom_header
from covid_utils.errors import DataError

if TYPE_CHECKING:
    import pydicom

NAME = FOLDER = "lidc-idri"

_XML = {"lidc": "http://www.nih.gov"}
_TAGS = ("SOPInstanceUID", "SeriesInstanceUID", "PatientID", "Modality", "Rows", "Columns")

load_image = read_dicom


class Outline(NamedTuple):
    """One closed outline that a reader drew.

    Attributes:
        reader: Number of the reading session, from 0.
        inside: True where it surrounds nodule, False where it surrounds a hole in one.
        points: Pixels (n, 2) as column and row, int32.
    """

    reader: int
    inside: bool
    points: np.ndarray


class Contours(NamedTuple):
    """Outlines of one XML file: of which series ('' if not stated), and by UID of the slice."""

    series: str
    slices: dict[str, list[Outline]]


def candidates(root: Path, problems: guard.Problems) -> list[dict]:
    """Slices labelled ``nodule``, ``no_nodule`` or, without outlines of their series, ``other``.

    Every slice of a series with an XML file of its own has that file as ``mask_path``, so that
    slices without nodule have an empty mask; its label is what `load_mask` finds. Problems: series
    without readable outlines (``missing`` or ``unreadable``) and images that are not CT (``not
    CT``, left out: some patients also have X-rays).
    """
    folders: dict[Path, list[Path]] = {}
    for path in guard.files(root / FOLDER, (".dcm",), deep=True):
        folders.setdefault(path.parent, []).append(path)
    return [row for folder, paths in folders.items() for row in _series_in(folder, paths, problems)]


def _series_in(folder: Path, paths: list[Path], problems: guard.Problems) -> list[dict]:
    """Candidates of one folder of DICOM files."""
    contours: dict[str, Path] = {}
    for path in guard.files(folder, (".xml",)):
        read = problems.attempt(path, "XML file", read_contours)
        if read is not None:
            contours.setdefault(read.series, path)
    rows, other, is_bare = [], 0, False
    for path in paths:
        header = problems.attempt(path, "DICOM file", _header)
        if header is None:
            continue
        if header.get("Modality", "CT") != "CT":
            other += 1
            continue
        xml = contours.get(str(header.get("SeriesInstanceUID", ""))) or contours.get("")
        is_bare |= xml is None
        label = (
            "other" if xml is None else problems.attempt(path, "DICOM file", _label(xml, header))
        )
        if label is not None:
            rows.append(_candidate(path, header, xml, label, problems.root / FOLDER))
    if other:
        remedy = f"{other} images of this folder are not CT; they are not used."
        problems.add(folder, "not CT", remedy)
    if is_bare:
        remedy = "No XML file of the readers' outlines belongs to these slices; they have no mask."
        problems.add(folder, guard.MISSING, remedy)
    return rows


def _header(path: Path) -> pydicom.Dataset:
    return read_dicom_header(path, _TAGS)


def _label(xml: Path | None, header: pydicom.Dataset) -> Callable[[Path], str]:
    """How to label a slice, given its outlines and header."""

    def label(path: Path) -> str:
        if xml is None:
            return "other"
        return "nodule" if _consensus(xml, header).any() else "no_nodule"

    return label


def _candidate(
    path: Path, header: pydicom.Dataset, xml: Path | None, label: str, folder: Path
) -> dict:
    patient = header.get("PatientID", "") or path.relative_to(folder).parts[0]
    return {
        "path": path,
        "patient_id": f"{NAME}/{patient}",
        "modality": "CT",
        "view": "Axial",
        "label": label,
        "mask_path": xml or "",
        "label_quality": "exact" if xml else "none",
        "licence": "CC BY 3.0",
    }


def read_contours(path: Path) -> Contours:
    """Read the outlines of an LIDC XML file; nodules under 3 mm, a single point, are skipped."""
    return guard.read(path, "XML file", lambda path: _parse(path, path.stat().st_mtime_ns))


@lru_cache(maxsize=16)
def _parse(path: Path, changed: int) -> Contours:
    message = ET.parse(path).getroot()
    if message.tag != f"{{{_XML['lidc']}}}LidcReadMessage":
        raise DataError(
            f"{path}: not the outlines of a CT (LidcReadMessage); leave it, its series has no mask."
        )
    series = message.findtext("lidc:ResponseHeader/lidc:SeriesInstanceUid", "", _XML).strip()
    slices: dict[str, list[Outline]] = {}
    for reader, session in enumerate(message.iterfind("lidc:readingSession", _XML)):
        for roi in session.iterfind("lidc:unblindedReadNodule/lidc:roi", _XML):
            uid = roi.findtext("lidc:imageSOP_UID", "", _XML).strip()
            outline = _outline(reader, roi)
            if len(outline.points) > 1:
                slices.setdefault(uid, []).append(outline)
    return Contours(series, slices)


def _outline(reader: int, roi: ET.Element) -> Outline:
    inside = roi.findtext("lidc:inclusion", "TRUE", _XML).strip().upper() != "FALSE"
    points = [
        [int(edge.findtext(f"lidc:{axis}", "", _XML)) for axis in ("xCoord", "yCoord")]
        for edge in roi.iterfind("lidc:edgeMap", _XML)
    ]
    return Outline(reader, inside, np.array(points, np.int32).reshape(-1, 2))


def _consensus(xml: Path, header: pydicom.Dataset) -> np.ndarray:
    outlines = read_contours(xml).slices.get(str(header.get("SOPInstanceUID", "")), [])
    shape = (int(header.get("Rows", 0)), int(header.get("Columns", 0)))
    guard.bounded(xml, shape)
    return consensus_mask(outlines, shape)


def consensus_mask(outlines: list[Outline], shape: tuple[int, int]) -> np.ndarray:
    """Pixels that at least half of the readers who drew on a slice marked as nodule.

    An LIDC outline runs over the first pixels outside the nodule, so the outline itself is no
    nodule; this holds for the outline of a hole, too.

    Returns:
        uint8 mask of ``shape``, 1 nodule; empty if nobody drew.
    """
    votes = np.zeros(shape, np.uint8)
    readers = sorted({outline.reader for outline in outlines})
    for reader in readers:
        marked, holes = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
        for outline in (each for each in outlines if each.reader == reader):
            region = cv2.fillPoly(np.zeros(shape, np.uint8), [outline.points], 1)
            if outline.inside:
                marked |= cv2.polylines(region, [outline.points], isClosed=True, color=0)
            else:
                holes |= region
        votes += marked & ~holes
    return ((2 * votes >= len(readers)) & (votes > 0)).astype(np.uint8)


def load_mask(root: Path, row: Any) -> np.ndarray:
    """Mask of an LIDC slice by `consensus_mask`: uint8 (height, width), 1 nodule."""
    xml = root / row.mask_path
    return guard.read(root / row.path, "DICOM file", lambda path: _consensus(xml, _header(path)))
