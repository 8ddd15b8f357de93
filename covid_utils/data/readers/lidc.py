"""Reader of the nodule data set LIDC-IDRI (Armato et al. 2011).

Layout: ``lidc-idri`` with folders, however deep, of DICOM slices, and the XML files of the four
readers' outlines anywhere in it: next to the slices, or in ``tcia-lidc-xml``. In masks 1 is nodule.
"""

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from covid_utils.data import guard
from covid_utils.data.gray_scale import KNOWN
from covid_utils.data.readers.build import Source
from covid_utils.data.readers.decoding import read_dicom, read_dicom_header
from covid_utils.errors import DataError

NAME = "lidc-idri"
ABOUT = {"view": "Axial", "licence": "CC BY 3.0"}
#: Largest coordinate of an outline. With much larger ones, drawing takes minutes.
FARTHEST = 2**15
NO_OUTLINES = "No XML file of the readers' outlines belongs to these slices; they have no mask."
_TAGS = ("SOPInstanceUID", "SeriesInstanceUID", "PatientID", "Modality", "Rows", "Columns")
_TAGS += ("RescaleIntercept",)


class Outline(NamedTuple):
    """A closed outline that a reader drew around a nodule (``inside``) or around a hole in one."""

    reader: int
    inside: bool
    points: np.ndarray  # int32 (n, 2): column and row


def folders(root: Path, find: Callable = guard.files) -> dict[Path, list[Path]]:
    """DICOM files of the data set, by folder; ``find`` lists them."""
    paths: dict[Path, list[Path]] = {}
    for path in find(root / NAME, (".dcm",), deep=True):
        paths.setdefault(path.parent, []).append(path)
    return paths


def candidates(root: Path, problems: guard.Problems) -> list[dict]:
    """Slices labelled ``nodule``, ``no_nodule`` or, without outlines of their series, ``other``.

    Every slice of a series with an XML file of its own has that file as ``mask_path``, so that
    slices without nodule have an empty mask. Images that are not CT are left out: some patients
    also have X-rays. So are second copies of a slice.
    """
    rows, found, xml = [], folders(root, problems.files), _by_series(root, problems)
    for folder, paths in found.items():
        read = [problems.attempt(_candidate, path, root, xml) for path in paths]
        every = [row for row in read if row]
        used = [row for row in every if row["modality"] == "CT"]
        if len(used) < len(every):
            remedy = (
                f"{len(every) - len(used)} images of this folder are not CT; they are not used."
            )
            problems.add(folder, "not CT", remedy)
        if not all(row["mask_path"] for row in used):
            problems.add(folder, guard.MISSING, NO_OUTLINES)
        rows += used
    uids: dict[Path, set[str]] = {}
    for row in rows:
        uids.setdefault(row["mask_path"], set()).add(row["uid"])
    for path in filter(None, uids):
        outlined = _parse(path)[1].keys()
        if outlined and outlined.isdisjoint(uids[path]):
            remedy = "No slice outlined here is among the images; all count as without nodule."
            problems.add(path, guard.MISSING, remedy)
    return _once(rows, problems)


def _by_series(root: Path, problems: guard.Problems) -> dict[str | Path, Path]:
    """XML files, wherever they lie, by their series or, where they state none, their folder."""
    found: dict[str | Path, Path] = {}
    for path in guard.files(root / NAME, (".xml",), deep=True):
        if parsed := problems.attempt(_parse, path):
            first = found.setdefault(parsed[0] or path.parent, path)
            if first.read_bytes() != path.read_bytes():
                same = problems.relative(first)
                remedy = f"{same} is of the same series, so this one is not used."
                problems.add(path, "repeated", remedy)
    return found


def _once(rows: list[dict], problems: guard.Problems) -> list[dict]:
    first: dict[str | Path, dict] = {}
    copies: dict[Path, Path] = {}
    for row in rows:
        original = first.setdefault(row["uid"] or row["path"], row)
        if original is not row:
            copies[row["path"].parent] = original["path"].parent
    for folder, original in copies.items():
        remedy = f"Slices that are also in {problems.relative(original)}; they count once."
        problems.add(folder, "repeated", remedy)
    return list(first.values())


@guard.reads("DICOM file")
def _candidate(path: Path, root: Path, outlines: dict[str | Path, Path]) -> dict:
    header = read_dicom_header(path, _TAGS)
    xml = outlines.get(str(header.get("SeriesInstanceUID", ""))) or outlines.get(path.parent, "")
    label, modality = "other", header.get("Modality", "CT")
    if xml and modality == "CT":
        label = "nodule" if _consensus(path, header, xml).any() else "no_nodule"
    patient = header.get("PatientID", "") or path.relative_to(root / NAME).parts[0]
    return {
        "path": path,
        "uid": str(header.get("SOPInstanceUID", "")),
        "patient_id": f"{NAME}/{patient}",
        "modality": modality,
        "label": label,
        "mask_path": xml,
        "label_quality": "exact" if xml else "none",
        "gray": KNOWN if header.get("RescaleIntercept") not in (None, "") else "",
    }


@guard.reads("XML file", keep=8)
def _parse(path: Path) -> tuple[str, dict[str, list[Outline]]]:
    """Series of an XML file ('' if not stated), and its outlines by UID of the slice."""
    message = ET.parse(path).getroot()
    if message.tag.rpartition("}")[2] != "LidcReadMessage":
        raise DataError(
            f"{path}: not the outlines of a CT (LidcReadMessage); leave it, its series has no mask."
        )
    series = message.findtext("{*}ResponseHeader/{*}SeriesInstanceUid", "").strip()
    slices: dict[str, list[Outline]] = {}
    for reader, session in enumerate(message.iterfind("{*}readingSession")):
        for roi in session.iterfind("{*}unblindedReadNodule/{*}roi"):
            uid = roi.findtext("{*}imageSOP_UID", "").strip()
            inside = roi.findtext("{*}inclusion", "TRUE").strip().upper() != "FALSE"
            points = _points(roi, path)
            if uid and len(points) > 1:  # a single point is a nodule under 3 mm
                slices.setdefault(uid, []).append(Outline(reader, inside, points))
    return series, slices


def _points(roi: ET.Element, path: Path) -> np.ndarray:
    words = [
        [edge.findtext(f"{{*}}{axis}", "") for axis in ("xCoord", "yCoord")]
        for edge in roi.iterfind("{*}edgeMap")
    ]
    points = np.array(words or np.empty((0, 2)), np.float64)
    is_pixel = (points == np.rint(points)) & (np.abs(points) <= FARTHEST)
    if not is_pixel.all():
        x, y = words[int(np.argmin(is_pixel.all(axis=1)))]
        raise DataError(f"{path}: outline point ({x}, {y}) is not a pixel; download it again.")
    return points.astype(np.int32)


def _consensus(path: Path, header: Any, xml: Path) -> np.ndarray:
    shape = (int(header.get("Rows", 0)), int(header.get("Columns", 0)))
    guard.bounded(path, shape)
    outlines = _parse(xml)[1].get(str(header.get("SOPInstanceUID", "")), [])
    for outline in outlines:  # it may run over the first pixels outside
        if outline.points.min() < -1 or (outline.points > shape[::-1]).any():
            raise DataError(f"{xml}: an outline leaves the image {path.name}; download both again.")
    return consensus_mask(outlines, shape)


def consensus_mask(outlines: list[Outline], shape: tuple[int, int]) -> np.ndarray:
    """Pixels that at least half of the readers who drew on a slice marked: uint8, 1 nodule.

    An LIDC outline runs over the first pixels outside the nodule, so the outline itself is no
    nodule; this holds for the outline of a hole, too.
    """
    votes = np.zeros(shape, np.uint8)
    readers = {outline.reader for outline in outlines}
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
    """Mask of a slice by `consensus_mask`."""
    path = root / row.path
    return _consensus(path, read_dicom_header(path, _TAGS), root / row.mask_path)


SOURCE = Source(NAME, ABOUT, candidates, read_dicom, load_mask)
