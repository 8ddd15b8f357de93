"""Files that decoders read wrongly or not at all: each is mended or named with its cause."""

import gzip

import nibabel
import numpy as np
import pydicom
import pytest
from builders import save_dicom
from PIL import Image
from pydicom.uid import HTJ2KLossless

from covid_utils.data.readers.decoding import axial_count, read_axial, read_dicom, read_raster
from covid_utils.errors import DataError

# DICOM and TIFF


def test_a_missing_decoder_names_the_packages_to_install(tmp_path):
    path = tmp_path / "a.dcm"
    save_dicom(path, np.zeros((4, 4)))
    header = pydicom.dcmread(path)
    header.file_meta.TransferSyntaxUID = HTJ2KLossless
    header.PixelData = pydicom.encaps.encapsulate([b"pixels"])
    header.save_as(path)
    with pytest.raises(DataError, match=r"compressed \(High-Throughput.*install .*openjpeg"):
        read_dicom(path)


@pytest.mark.parametrize(
    "tags",
    [{"RescaleSlope": "1"}, {"RescaleIntercept": "-1024", "RescaleSlope": "2.5"}],
)
def test_rescale_tags_that_are_not_one_number_are_named(tmp_path, tags):
    path = tmp_path / "a.dcm"
    save_dicom(path, np.zeros((4, 4)), Modality="CT", **tags)
    (keyword, value), *_ = tags.items()
    length = len(value) + len(value) % 2
    odd = (b"1\\2" if length > 2 else b",1").ljust(length)
    path.write_bytes(path.read_bytes().replace(value.ljust(length).encode(), odd))
    with pytest.raises(DataError, match=f"its {keyword} is not one number; correct it"):
        read_dicom(path)


def test_colours_of_a_palette_are_no_gray_values(tmp_path):
    save_dicom(tmp_path / "a.dcm", np.zeros((4, 4)), PhotometricInterpretation="PALETTE COLOR")
    with pytest.raises(DataError, match=r"\(4, 4\), PALETTE COLOR, are not one gray image"):
        read_dicom(tmp_path / "a.dcm")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_tiff_file_whose_lowest_value_is_white_is_turned_round(tmp_path, dtype):
    path = tmp_path / "a.tif"
    Image.fromarray(np.linspace(0, 255, 6).astype(dtype).reshape(2, 3)).save(path)
    usual = read_raster(path)
    tag = b"\x06\x01\x03\x00\x01\x00\x00\x00"  # photometric interpretation, one short number
    path.write_bytes(path.read_bytes().replace(tag + b"\1", tag + b"\0"))
    assert np.array_equal(read_raster(path), 255 - usual)


# NIfTI


def nifti(path, affine=None, dtype=np.int16):
    image = nibabel.Nifti1Image(np.zeros((6, 5, 4), dtype), np.eye(4))
    if affine is not None:
        image.header.set_sform(affine, 1)
        image.header.set_qform(None, 0)
        image = nibabel.Nifti1Image(np.asarray(image.dataobj), None, image.header)
    image.to_filename(path)


AFFINES = [np.zeros((4, 4)), np.full((4, 4), np.nan), np.diag([1, 1, 0, 1])]


@pytest.mark.parametrize("affine", AFFINES)
def test_an_affine_matrix_without_axes_is_named(tmp_path, affine):
    nifti(tmp_path / "v.nii.gz", affine)
    for call in (axial_count, lambda path: read_axial(path, 0)):
        with pytest.raises(DataError, match="affine matrix does not tell its axes"):
            call(tmp_path / "v.nii.gz")


@pytest.mark.parametrize("dtype", [[("R", "u1"), ("G", "u1"), ("B", "u1")], np.complex64])
def test_voxels_that_are_no_gray_values_are_named(tmp_path, dtype):
    nifti(tmp_path / "v.nii.gz", dtype=np.dtype(dtype))
    with pytest.raises(DataError, match="are no gray values"):
        axial_count(tmp_path / "v.nii.gz")


def test_a_volume_with_one_frame_is_a_volume(tmp_path):
    voxels = np.linspace(0, 255, 120).reshape(6, 5, 4)
    for name, values in (("a.nii", voxels), ("b.nii", voxels[..., None])):
        nibabel.Nifti1Image(values, np.eye(4)).to_filename(tmp_path / name)
    assert axial_count(tmp_path / "b.nii") == 4
    assert np.array_equal(read_axial(tmp_path / "b.nii", 1), read_axial(tmp_path / "a.nii", 1))


def test_a_header_that_asks_for_more_than_the_file_holds_is_refused(tmp_path):
    path = tmp_path / "v.nii.gz"
    nifti(path)
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[42:48] = np.array([900, 900, 900], "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(raw)))
    with pytest.raises(DataError, match="too short for its header's 729000000 voxels"):
        axial_count(path)
