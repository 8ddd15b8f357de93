"""Masks in the geometry of their source: NIfTI, PNG for a picture, DICOM SEG for DICOM slices.

No tag of a source goes into a mask, but for those that say where its slices lie and the UIDs by
which a viewer finds them.
"""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image

import covid_utils
from covid_read.cases import Case
from covid_utils.data.readers.decoding import read_dicom_header, upright
from covid_utils.registry import COLOURS, LABEL_CLASSES, name_of

#: Codes of the manifestations: value, coding scheme and meaning. 112120 is DICOM's own.
CODES = {
    "ggo": ("112120", "DCM", "Ground glass opacity"),
    "consolidation": ("95436008", "SCT", "Lung consolidation"),
    "effusion": ("60046008", "SCT", "Pleural effusion"),
}
#: Tags of a slice that its segmentation repeats, or refers to it by; none tells who the patient is.
_KEPT = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_KEPT += ("FrameOfReferenceUID", "Rows", "Columns", "PixelSpacing", "SliceThickness")
_KEPT += ("ImagePositionPatient", "ImageOrientationPatient")
#: Tags that a segmentation must have, blank.
_BLANK = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber")
_BLANK += ("StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName")


def write_nifti(path: Path, case: Case, values: np.ndarray, slope: float = 1) -> None:
    """Write uint8 values of all slices as NIfTI in the stored voxels' order and place.

    A reader multiplies them by ``slope``.
    """
    image = nibabel.Nifti1Image(case.stored(values), case.affine, dtype=np.uint8)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(slope, 0)
    image.to_filename(path)


def read(folder: Path, case: Case) -> np.ndarray:
    """Labels of a case from the folder that they were written to: uint8 (slices, height, width)."""
    picture = folder / "mask.png"
    if picture.is_file():  # of a picture, or of a single slice without a thickness
        with Image.open(picture) as image:
            stored = np.asarray(image).T[..., None]
    else:
        stored = np.asarray(nibabel.load(folder / "mask.nii.gz").dataobj, np.uint8)
    return stored.T if case.oriented is None else upright(stored, case.oriented)


def write_png(path: Path, labels: np.ndarray) -> None:
    """Write labels (height, width) as a picture whose values are the labels, shown in colours."""
    image = Image.fromarray(labels, "P")
    image.putpalette([0, 0, 0, *(part for name in LABEL_CLASSES.values() for part in _rgb(name))])
    image.save(path)


def _rgb(name: str) -> list[int]:
    return [round(255 * part) for part in to_rgb(COLOURS[name])]


def write_seg(path: Path, case: Case, labels: np.ndarray) -> None:
    """Write labels (slices, height, width) as DICOM SEG, one segment per manifestation."""
    import highdicom
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    algorithm = highdicom.AlgorithmIdentificationSequence(
        "covid-companion", codes.DCM.ArtificialIntelligence, covid_utils.__version__
    )
    segments = [
        highdicom.seg.SegmentDescription(
            segment_number=label,
            segment_label=name_of(name),
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=highdicom.sr.CodedConcept(*CODES[name]),
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
            display_color=highdicom.color.CIELabColor.from_rgb(*_rgb(name)),
        )
        for label, name in LABEL_CLASSES.items()
    ]
    written = highdicom.seg.Segmentation(
        source_images=[_stand_in(file.path) for file in case.files],
        pixel_array=np.ascontiguousarray(case.stored(labels).T),
        segmentation_type="BINARY",
        segment_descriptions=segments,
        series_instance_uid=generate_uid(),
        series_number=1,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="covid-companion",
        manufacturer_model_name="covid-read",
        software_versions=covid_utils.__version__,
        device_serial_number="0",
        content_label="LESIONS",
        series_description="Manifestations, research only",
        omit_empty_frames=False,
    )
    written.save_as(path)


def _stand_in(path: Path):
    """A slice's header with no more than what says where it lies and which image it is."""
    header = read_dicom_header(path, _KEPT)
    for name in _BLANK:
        setattr(header, name, "")
    return header
