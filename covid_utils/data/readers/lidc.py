"""Reader of the nodule data set LIDC-IDRI (Armato et al. 2011).

Layout: ``lidc-idri`` with folders, however deep, of DICOM slices and the XML file of the four
readers' outlines. In masks 1 is nodule.
"""

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from covid_utils.data import guard
from covid_utils.data.readers.build import Source
from covid_utils.data.readers.decoding import read_dicom, read_dicom_header
from covid_utils.errors import DataError

NAME = "lidc-idri"
ABOUT = {"view": "Axial", "licence": "CC BY 3.0"}
_TAGS = ("SOPInstanceUID", "SeriesInstanceUID", "PatientID", "Modality", "Rows", "Columns")


class Outline(NamedTuple):
    """A closed outline that a reader drew around a nodule (``inside``) or around a hole in one."""

    reader: int
    inside: bool
    points: np.ndarray  # int32 (n, 2): column and row


def folders(root: Path) -> dict[Path, list[Path]]:
    """DICOM files of the data set, by folder."""
    paths: dict[Path, list[Path]] = {}
    for path in guard.files(root / NAME, (".dcm",), deep=True):
        paths.setdefault(path.parent, []).append(path)
    return paths


def candidates(root: Path, problems: guard.Problems) -> list[dict]:
    """Slices labelled ``nodule``, ``no_nodule`` or, without outlines of their series, ``other``.

    Every slice of a series with an XML file of its own has that file as ``mask_path``, so that
    slices without nodule have an empty mask. Images that are not CT are left out: some patients
    also have X-rays.
    """
    return [row for each in folders(root).items() for row in _rows_of(*each, problems)]


def _rows_of(folder: Path, paths: list[Path], problems: guard.Problems) -> list[dict]:
    parsed = {path: problems.attempt(_parse, path) for path in guard.files(folder, (".xml",))}
    outlines = {xml[0]: (path, xml[1]) for path, xml in parsed.items() if xml}
    rows = [problems.attempt(_candidate, path, problems.root, outlines) for path in paths]
    rows = [row for row in rows if row]
    used = [row for row in rows if row["modality"] == "CT"]
    if len(used) < len(rows):
        remedy = f"{len(rows) - len(used)} images of this folder are not CT; they are not used."
        problems.add(folder, "not CT", remedy)
    if not all(row["mask_path"] for row in used):
        remedy = "No XML file of the readers' outlines belongs to these slices; they have no mask."
        problems.add(folder, guard.MISSING, remedy)
    return used


@guard.reads("DICOM file")
def _candidate(path: Path, root: Path, outlines: dict[str, tuple]) -> dict:
    header = read_dicom_header(path, _TAGS)
    series = str(header.get("SeriesInstanceUID", ""))
    xml, slices = outlines.get(series) or outlines.get("") or ("", {})
    label, modality = "other", header.get("Modality", "CT")
    if xml and modality == "CT":
        label = "nodule" if _consensus(path, header, slices).any() else "no_nodule"
    patient = header.get("PatientID", "") or path.relative_to(root / NAME).parts[0]
    return {
        "path": path,
        "patient_id": f"{NAME}/{patient}",
        "modality": modality,
        "label": label,
        "mask_path": xml,
        "label_quality": "exact" if xml else "none",
    }


@guard.reads("XML file")
def _parse(path: Path) -> tuple[str, dict[str, list[Outline]]]:
    """Series of an XML file ('' if not stated), and its outlines by UID of the slice."""
    message = ET.parse(path).getroot()
    if message.tag != "{http://www.nih.gov}LidcReadMessage":
        raise DataError(
            f"{path}: not the outlines of a CT (LidcReadMessage); leave it, its series has no mask."
        )
    series = message.findtext("{*}ResponseHeader/{*}SeriesInstanceUid", "").strip()
    slices: dict[str, list[Outline]] = {}
    for reader, session in enumerate(message.iterfind("{*}readingSession")):
        for roi in session.iterfind("{*}unblindedReadNodule/{*}roi"):
            uid = roi.findtext("{*}imageSOP_UID", "").strip()
            inside = roi.findtext("{*}inclusion", "TRUE").strip().upper() != "FALSE"
            points = [
                [int(edge.findtext(f"{{*}}{axis}", "")) for axis in ("xCoord", "yCoord")]
                for edge in roi.iterfind("{*}edgeMap")
            ]
            if len(points) > 1:  # a single point is a nodule under 3 mm
                outline = Outline(reader, inside, np.array(points, np.int32))
                slices.setdefault(uid, []).append(outline)
    return series, slices


def _consensus(path: Path, header: Any, slices: dict[str, list[Outline]]) -> np.ndarray:
    shape = (int(header.get("Rows", 0)), int(header.get("Columns", 0)))
    guard.bounded(path, shape)
    return consensus_mask(slices.get(str(header.get("SOPInstanceUID", "")), []), shape)


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
    _, slices = _parse(root / row.mask_path)
    path = root / row.path
    return _consensus(path, read_dicom_header(path, _TAGS), slices)


SOURCE = Source(NAME, ABOUT, candidates, read_dicom, load_mask)
