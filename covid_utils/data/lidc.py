"""Reader of the nodule data set LIDC-IDRI (Armato et al. 2011).

Layout: ``lidc-idri`` with folders, however deep, of DICOM slices and the XML file of the four
readers' outlines. In masks 1 is nodule.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pydicom

from covid_utils.data.images import read_dicom, read_dicom_header
from covid_utils.data.manifest import MISSING, UNREADABLE, Problem, Reading, build
from covid_utils.errors import DataError

NAME = "lidc-idri"
FOLDER = "lidc-idri"

_XML = {"lidc": "http://www.nih.gov"}
_HEADER_TAGS = ("SOPInstanceUID", "SeriesInstanceUID", "PatientID", "Modality", "Rows", "Columns")

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
    """Outlines of one XML file.

    Attributes:
        series: UID of the series that was read, '' where the file does not say.
        slices: UID of a slice to the outlines on it.
    """

    series: str
    slices: dict[str, list[Outline]]


def read(root: Path) -> Reading:
    """Read LIDC-IDRI.

    Every slice of a series with an XML file of its own has that file as ``mask_path``, so that
    slices without nodule have an empty mask; its label is what `load_mask` finds. Slices of a
    series without XML have the label ``other``. Problems reported: series without readable outlines
    (``missing`` or ``unreadable``) and images that are not CT (``not CT``, left out: some patients
    also have X-rays).

    Args:
        root: Data folder that contains ``lidc-idri``.

    Returns:
        One row a slice, label ``nodule``, ``no_nodule`` or ``other``.

    Raises:
        DataError: No slice can be read.
    """
    candidates, problems = [], []
    files = sorted((root / FOLDER).rglob("*.dcm"))
    for folder in sorted({path.parent for path in files}):
        inside = [path for path in files if path.parent == folder]
        _read_series(root, folder, inside, candidates, problems)
    return build(root, NAME, candidates, load_image, problems)


def _read_series(
    root: Path, folder: Path, files: list[Path], candidates: list[dict], problems: list[Problem]
) -> None:
    """Add the candidates and problems of one folder of DICOM files."""
    headers = {path: read_dicom_header(path, _HEADER_TAGS) for path in files}
    other = [path for path in files if headers[path].get("Modality", "CT") != "CT"]
    if other:
        remedy = f"{len(other)} images of this folder are not CT; they are not used."
        problems.append(_problem(root, folder, "not CT", remedy))
    contours = _contours_in(root, folder, problems)
    bare = set()
    for path in files:
        if path in other:
            continue
        header = headers[path]
        series = str(header.get("SeriesInstanceUID", ""))
        xml = contours.get(series) or contours.get("")
        if xml is None:
            bare.add(series)
        candidates.append(_candidate(root, path, header, xml))
    if bare:
        remedy = "No XML file of the readers' outlines belongs to these slices; they have no mask."
        problems.append(_problem(root, folder, MISSING, remedy))


def _candidate(root: Path, path: Path, header: pydicom.Dataset, xml: Path | None) -> dict:
    label = "other"
    if xml is not None:
        label = "nodule" if _consensus(xml, header).any() else "no_nodule"
    patient = str(header.get("PatientID", "")) or path.relative_to(root / FOLDER).parts[0]
    return {
        "path": path.relative_to(root).as_posix(),
        "patient_id": f"{NAME}/{patient}",
        "modality": "CT",
        "view": "Axial",
        "label": label,
        "mask_path": xml.relative_to(root).as_posix() if xml else "",
        "label_quality": "exact" if xml else "none",
        "licence": "CC BY 3.0",
    }


def _problem(root: Path, path: Path, problem: str, remedy: str) -> Problem:
    return Problem(NAME, path.relative_to(root).as_posix(), problem, remedy)


def _contours_in(root: Path, folder: Path, problems: list[Problem]) -> dict[str, Path]:
    """XML files of outlines in a folder, by the UID of their series."""
    found = {}
    for path in sorted(folder.glob("*.xml")):
        try:
            contours = read_contours(path)
        except DataError as error:
            problems.append(_problem(root, path, UNREADABLE, str(error)))
            continue
        found.setdefault(contours.series, path)
    return found


def read_contours(path: Path) -> Contours:
    """Read the outlines of an LIDC XML file; nodules under 3 mm, a single point, are skipped.

    Args:
        path: The file; its elements are in the name space ``http://www.nih.gov``.

    Returns:
        The outlines of all readers.

    Raises:
        DataError: The file is missing, truncated or not of this kind.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; unpack the data set whole.")
    return _parse(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _parse(path: Path, changed: int) -> Contours:
    try:
        message = ET.parse(path).getroot()
    except ET.ParseError as error:
        raise DataError(f"{path}: not a whole XML file ({error}); download it again.") from error
    if message.tag != f"{{{_XML['lidc']}}}LidcReadMessage":
        raise DataError(
            f"{path}: not the outlines of a CT (LidcReadMessage); leave it, its series has no mask."
        )
    series = message.findtext("lidc:ResponseHeader/lidc:SeriesInstanceUid", "", _XML).strip()
    slices: dict[str, list[Outline]] = {}
    for reader, session in enumerate(message.iterfind("lidc:readingSession", _XML)):
        for roi in session.iterfind("lidc:unblindedReadNodule/lidc:roi", _XML):
            uid = roi.findtext("lidc:imageSOP_UID", "", _XML).strip()
            outline = _outline(path, reader, roi)
            if len(outline.points) > 1:
                slices.setdefault(uid, []).append(outline)
    return Contours(series, slices)


def _outline(path: Path, reader: int, roi: ET.Element) -> Outline:
    inside = roi.findtext("lidc:inclusion", "TRUE", _XML).strip().upper() != "FALSE"
    try:
        points = [
            [int(edge.findtext(f"lidc:{axis}", "", _XML)) for axis in ("xCoord", "yCoord")]
            for edge in roi.iterfind("lidc:edgeMap", _XML)
        ]
    except ValueError as error:
        raise DataError(f"{path}: an edgeMap without whole coordinates; download it again.") from (
            error
        )
    return Outline(reader, inside, np.array(points, np.int32).reshape(-1, 2))


def _consensus(xml: Path, header: pydicom.Dataset) -> np.ndarray:
    outlines = read_contours(xml).slices.get(str(header.get("SOPInstanceUID", "")), [])
    return consensus_mask(outlines, (int(header.get("Rows", 0)), int(header.get("Columns", 0))))


def consensus_mask(outlines: list[Outline], shape: tuple[int, int]) -> np.ndarray:
    """Pixels that at least half of the readers who drew on a slice marked as nodule.

    An LIDC outline runs over the first pixels outside the nodule, so the outline itself is no
    nodule; this holds for the outline of a hole, too.

    Args:
        outlines: Outlines on one slice.
        shape: Height and width of the slice.

    Returns:
        uint8 mask of that shape, 1 nodule; empty if nobody drew.
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
    """Mask of an LIDC slice by `consensus_mask`.

    Args:
        root: Data folder.
        row: Row of the manifest.

    Returns:
        uint8 mask (height, width), 1 nodule.

    Raises:
        DataError: The XML file is missing or damaged.
    """
    return _consensus(root / row.mask_path, read_dicom_header(root / row.path, _HEADER_TAGS))
