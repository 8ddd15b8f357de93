"""Scans as users have them: DICOM series and NIfTI volumes of one small chest, in any geometry.

The chest is defined in mm, so whatever way it is stored, it is the same chest: an ellipse of tissue
with two lungs of air, and one bright lesion, which lies to the left, to the back and to the head.
"""

import nibabel
import numpy as np
import pydicom
from builders import save_dicom

#: Where the lesion is, in mm towards left, back and head, and its radius.
CENTRE, RADIUS = np.array([12.0, 9.0, 4.0]), 6.0
HEAD_FIRST = (1, 0, 0, 0, 1, 0)
#: Tags that tell who a patient is, or where and when he was scanned.
SECRETS = {
    "PatientName": "Planted^Nora",
    "PatientID": "PLANTED-4711",
    "PatientBirthDate": "19510203",
    "PatientAddress": "Planted Street 12",
    "OtherPatientIDs": "PLANTED-0815",
    "AccessionNumber": "PLANTED1234",
    "StudyDate": "20200317",
    "SeriesDate": "20200317",
    "AcquisitionDate": "20200317",
    "StudyTime": "121314",
    "StudyID": "PLANTED-S1",
    "StudyDescription": "Planted study",
    "SeriesDescription": "Planted series",
    "ProtocolName": "Planted protocol",
    "InstitutionName": "Planted Hospital",
    "InstitutionAddress": "Planted Road 9",
    "ReferringPhysicianName": "Planted^Doctor",
    "OperatorsName": "Planted^Operator",
    "StationName": "PLANTEDSTATION",
    "DeviceSerialNumber": "PLANTED-D1",
    "ImageComments": "Planted comment",
    "PatientComments": "Planted note",
}


def chest(points):
    """Hounsfield units of points in mm towards left, back and head (..., 3)."""
    x, y = np.moveaxis(points[..., :2], -1, 0)
    values = np.full(x.shape, -1000.0)
    values[(x / 24) ** 2 + (y / 18) ** 2 < 1] = 40
    for side in (-1, 1):
        values[((x - 10 * side) / 7) ** 2 + (y / 10) ** 2 < 1] = -850
    values[((points - CENTRE) ** 2).sum(-1) < RADIUS**2] = 400
    return values


def is_lesion(points):
    return chest(points) == 400


def outline(batch):
    """A stand-in for a network: labels what is white as consolidation, with 3/4 certainty."""
    labels = np.where(batch.slices == 255, 2, 0).astype(np.uint8)
    return labels, np.where(labels > 0, 0.75, 0.1).astype(np.float32)


def slice_points(position, axes, spacing, shape):
    """Points of the pixels of a slice (rows, columns, 3); ``axes`` as DICOM has them."""
    along_row, along_column = np.reshape(axes, (2, 3)).astype(float)
    rows, columns = np.indices(shape)
    steps = (
        rows[..., None] * along_column * spacing[0] + columns[..., None] * along_row * spacing[1]
    )
    return np.asarray(position, float) + steps


def series(folder, axes=HEAD_FIRST, step=None, count=7, spacing=(1.1, 0.9), uid="1.2.9", **tags):
    """Write a CT series whose middle lies in the middle of the chest; returns its geometry.

    Returns:
        Path -> points of its pixels (rows, columns, 3).
    """
    rows, columns = shape = (44, 60)
    along_row, along_column = np.reshape(axes, (2, 3)).astype(float)
    normal = np.cross(along_row, along_column)
    step = 2.5 * normal if step is None else np.asarray(step, float)
    corner = (
        -along_row * spacing[1] * (columns - 1) / 2 - along_column * spacing[0] * (rows - 1) / 2
    )
    written = {}
    for at in range(count):
        position = corner + (at - count // 2) * step
        points = slice_points(position, axes, spacing, shape)
        # The names of files say nothing of their order.
        path = folder / f"{(at * 5) % 11:03d}-{at}.dcm"
        usual = {
            "Modality": "CT",
            "StudyInstanceUID": "1.2.7",
            "SeriesInstanceUID": uid,
            "FrameOfReferenceUID": "1.2.8",
            "InstanceNumber": 90 - at,
            "ImagePositionPatient": [round(float(v), 6) for v in position],
            "ImageOrientationPatient": [round(float(v), 8) for v in axes],
            "PixelSpacing": list(spacing),
            "SliceThickness": 2.5,
            "RescaleSlope": 1,
            "RescaleIntercept": -1024,
        }
        save_dicom(path, chest(points) + 1024, f"{uid}.{at + 1}", **(usual | tags))
        written[path] = points
    return written


def turned(axis, degrees, axes=HEAD_FIRST):
    """Directions of rows and columns, turned around an axis through the patient."""
    angle = np.radians(degrees)
    matrix = np.eye(3)
    one, other = [at for at in range(3) if at != axis]
    matrix[[one, other], [one, other]] = np.cos(angle)
    matrix[one, other], matrix[other, one] = -np.sin(angle), np.sin(angle)
    return (np.reshape(axes, (2, 3)) @ matrix.T).ravel()


def volume(path, codes="RAS", spacing=(0.9, 1.1, 2.5), shape=(60, 44, 9), matrix=None):
    """Write the chest as NIfTI whose axes run as ``codes`` say; returns the points of its voxels.

    ``spacing`` and ``shape`` are across, from front to back, and from feet to head.
    """
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -np.array(spacing) * (np.array(shape) - 1) / 2
    affine[:3] = (np.eye(3) if matrix is None else matrix) @ affine[:3]
    values = chest(voxel_points(affine, shape)).astype(np.int16)
    usual, wanted = (nibabel.orientations.axcodes2ornt(tuple(axes)) for axes in ("RAS", codes))
    image = nibabel.Nifti1Image(values, affine)
    image = image.as_reoriented(nibabel.orientations.ornt_transform(usual, wanted))
    image.to_filename(path)
    return voxel_points(image.affine, image.shape)


def seg_frames(path, written):
    """Of each frame of a DICOM SEG its tags, the points of the slice it refers to, and its mask."""
    slices = {pydicom.dcmread(file).SOPInstanceUID: points for file, points in written.items()}
    seg = pydicom.dcmread(path)
    for pixels, about in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        source = about.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        yield about, slices[source], pixels > 0


def voxel_points(affine, shape):
    """Points of voxels towards left, back and head, by an affine matrix of NIfTI."""
    indices = np.moveaxis(np.indices(shape), 0, -1)
    return (indices @ affine[:3, :3].T + affine[:3, 3]) * (-1, -1, 1)


#: Directions along rows and columns, and what slices lie apart by (None: 2.5 mm, straight).
SERIES = {
    "head first": (HEAD_FIRST, None),
    "prone": ((-1, 0, 0, 0, -1, 0), None),
    "exchanged and turned": ((0, -1, 0, 1, 0, 0), None),
    "feet first": (HEAD_FIRST, (0, 0, -2.5)),
    "oblique twice": (turned(1, -9, turned(0, 14)), None),
    "tilted and turned": (turned(0, 10), (0.2, -0.4, 2.2)),
}
