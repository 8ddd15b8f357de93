"""File formats of the phantom, written so that the same content always gives the same bytes."""

from __future__ import annotations

import gzip
import xml.etree.ElementTree as ET
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pandas as pd
import pydicom
import SimpleITK
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian

#: Every date in the phantom.
DATE = "20200101"
#: LIDC's names for the characteristics of a nodule, with the phantom's values.
CHARACTERISTICS = {
    "subtlety": 5,
    "internalStructure": 1,
    "calcification": 6,
    "sphericity": 4,
    "margin": 4,
    "lobulation": 2,
    "spiculation": 2,
    "texture": 5,
    "malignancy": 3,
}


def save_raster(path: Path, image: np.ndarray) -> None:
    """Write a uint8 image (height, width) as JPEG or PNG, by the name's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {} if path.suffix == ".png" else {"quality": 93}
    Image.fromarray(image).save(path, **options)


def save_nifti(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> None:
    """Write voxels as ``.nii.gz``; without ``affine`` the axes mean nothing, as in ``medseg``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    volume = nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine)
    # gzip would write the time of day; 0 keeps the bytes the same.
    path.write_bytes(gzip.compress(volume.to_bytes(), compresslevel=6, mtime=0))


def save_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV with Unix line ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False, lineterminator="\n")


def save_dicom(
    path: Path, pixels: np.ndarray, sop_class: str, sop_uid: str, **tags: object
) -> None:
    """Write an int16 or uint8 image (height, width) as DICOM; ``tags`` are further elements."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = sop_class, sop_uid
    data.StudyDate = data.SeriesDate = data.ContentDate = DATE
    data.PatientName = "PHANTOM"
    data.PatientIdentityRemoved = "YES"
    data.BodyPartExamined = "CHEST"
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = pixels.shape
    data.BitsAllocated = data.BitsStored = 8 * pixels.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    for keyword, value in tags.items():
        setattr(data, keyword, value)
    data.PixelData = pixels.tobytes()
    data["PixelData"].VR = "OW" if pixels.itemsize > 1 else "OB"
    pydicom.dcmwrite(path, data, enforce_file_format=True)


def save_metaimage(
    path: Path, voxels: np.ndarray, spacing: tuple[float, ...], origin: tuple[float, ...]
) -> None:
    """Write int16 voxels (z, y, x) as ``.mhd`` and ``.raw``; spacing and origin (x, y, z) in mm."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = SimpleITK.GetImageFromArray(voxels)
    image.SetSpacing([float(value) for value in spacing])
    image.SetOrigin([float(value) for value in origin])
    SimpleITK.WriteImage(image, str(path))


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Outlines over the first pixels outside a bool mask, as LIDC's readers draw them.

    Returns:
        One array (n, 2) of columns and rows per region.
    """
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    grown = cv2.dilate(mask.astype(np.uint8), cross)
    contours, _ = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [contour[:, 0, :] for contour in contours]


def save_readings(
    path: Path, study: str, series: str, readers: list[list[tuple[float, str, np.ndarray]]]
) -> None:
    """Write LIDC's XML: per reader (position in mm, UID of the slice, outline) in any order."""
    root = ET.Element("LidcReadMessage", {"xmlns": "http://www.nih.gov", "uid": f"{series}.1"})
    header = ET.SubElement(root, "ResponseHeader")
    _texts(header, Version="1.8.1", TaskDescription="Second unblinded read")
    _texts(header, SeriesInstanceUid=series, StudyInstanceUID=study)
    for number, rows in enumerate(readers, start=1):
        session = ET.SubElement(root, "readingSession")
        _texts(session, annotationVersion="3.12", servicingRadiologistID=f"phantom-{number}")
        nodule = ET.SubElement(session, "unblindedReadNodule")
        _texts(nodule, noduleID="Nodule 001")
        _texts(ET.SubElement(nodule, "characteristics"), **CHARACTERISTICS)
        for position, sop_uid, outline in rows:
            roi = ET.SubElement(nodule, "roi")
            _texts(roi, imageZposition=f"{position:.3f}", imageSOP_UID=sop_uid, inclusion="TRUE")
            for x, y in outline:
                _texts(ET.SubElement(roi, "edgeMap"), xCoord=int(x), yCoord=int(y))
    ET.indent(root)
    path.write_bytes(ET.tostring(root, encoding="UTF-8", xml_declaration=True))


def _texts(parent: ET.Element, **values: object) -> None:
    for name, value in values.items():
        ET.SubElement(parent, name).text = str(value)
