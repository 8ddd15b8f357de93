"""Decoding of every kind of file, and the one preprocessing function."""

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from covid_utils.data.images import (
    Preprocessing,
    preprocess,
    preprocess_mask,
    read_dicom,
    read_dicom_header,
    read_raster,
    to_uint8,
)
from covid_utils.errors import DataError


@pytest.fixture
def gray():
    return np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)


def write_dicom(path, pixels, **tags):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    header = pydicom.Dataset()
    header.file_meta = meta
    header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    header.Modality, header.PhotometricInterpretation = "CT", "MONOCHROME2"
    header.Rows, header.Columns = pixels.shape
    header.SamplesPerPixel, header.BitsAllocated, header.BitsStored, header.HighBit = 1, 16, 16, 15
    header.PixelRepresentation = 1
    header.PixelData = pixels.astype(np.int16).tobytes()
    for name, value in tags.items():
        setattr(header, name, value)
    header.save_as(path, enforce_file_format=True)


def test_gray_png_is_unchanged(tmp_path, gray):
    path = tmp_path / "a scan 18%1.png"
    Image.fromarray(gray).save(path)
    assert np.array_equal(read_raster(path), gray)


def test_sixteen_bits_are_stretched(tmp_path):
    path = tmp_path / "deep.png"
    deep = np.array([[1000, 2000], [3000, 4000]], np.uint16)
    Image.fromarray(deep).save(path)
    assert read_raster(path).tolist() == [[0, 85], [170, 255]]


def test_transparent_pixels_are_black(tmp_path):
    path = tmp_path / "alpha.png"
    colours = np.full((2, 2, 4), 200, np.uint8)
    colours[..., 3] = [[255, 0], [255, 0]]
    Image.fromarray(colours, "RGBA").save(path)
    assert read_raster(path).tolist() == [[200, 0], [200, 0]]


def test_palette_is_looked_up(tmp_path):
    path = tmp_path / "palette.png"
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    image.putpalette([10, 10, 10, 90, 90, 90, 250, 250, 250])
    image.save(path)
    assert read_raster(path).tolist() == [[10, 90], [250, 90]]


def test_one_bit_becomes_black_and_white(tmp_path):
    path = tmp_path / "bits.png"
    Image.fromarray(np.array([[True, False], [False, True]])).save(path)
    assert read_raster(path).tolist() == [[255, 0], [0, 255]]


def test_colour_becomes_luminance(tmp_path):
    path = tmp_path / "colour.png"
    Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8)).save(path)
    assert read_raster(path).tolist() == [[76, 150]]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
def test_truncated_raster_is_named(tmp_path, gray, suffix, share):
    path = tmp_path / f"cut{suffix}"
    Image.fromarray(gray).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=rf"cut\{suffix}: not a whole image .*download"):
        read_raster(path)


@pytest.mark.parametrize("read", [read_raster, read_dicom])
def test_missing_file_is_named(tmp_path, read):
    with pytest.raises(DataError, match=r"absent\.x: no such file"):
        read(tmp_path / "absent.x")


def test_ct_goes_through_the_lung_window(tmp_path):
    path = tmp_path / "ct.dcm"
    stored = np.array([[-1350, -600], [150, 900]]) + 1024
    write_dicom(path, stored, RescaleSlope="1", RescaleIntercept="-1024")
    assert read_dicom(path).tolist() == [[0, 128], [255, 255]]


def test_monochrome1_is_inverted(tmp_path):
    path = tmp_path / "xray.dcm"
    write_dicom(
        path,
        np.array([[0, 50], [75, 100]]),
        Modality="DX",
        PhotometricInterpretation="MONOCHROME1",
    )
    assert read_dicom(path).tolist() == [[255, 127], [64, 0]]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_dicom_is_named(tmp_path, share):
    path = tmp_path / "cut.dcm"
    write_dicom(path, np.zeros((32, 32)))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=r"cut\.dcm: not a whole DICOM image .*download"):
        read_dicom(path)


@pytest.mark.parametrize(
    ("shape", "tags"),
    [
        ((3, 4, 6), {"NumberOfFrames": 3}),
        ((4, 6, 3), {"SamplesPerPixel": 3, "PlanarConfiguration": 0}),
    ],
)
def test_dicom_of_several_frames_or_colours_is_named(tmp_path, shape, tags):
    path = tmp_path / "many.dcm"
    if "SamplesPerPixel" in tags:
        tags = tags | {"PhotometricInterpretation": "RGB", "PixelRepresentation": 0}
    pixels = np.arange(np.prod(shape)).reshape(shape).astype(np.int16)
    write_dicom(path, np.zeros((4, 6)), PixelData=pixels.tobytes(), **tags)
    assert pydicom.dcmread(path).pixel_array.shape == shape
    with pytest.raises(DataError, match=r"many\.dcm: pixels of \(.*not one gray image.*save each"):
        read_dicom(path)


def test_dicom_header_has_the_tags_wanted(tmp_path):
    path = tmp_path / "scan.dcm"
    write_dicom(path, np.zeros((4, 6)), PatientID="P-7")
    header = read_dicom_header(path, ("PatientID", "Modality"))
    assert (header.PatientID, header.Modality, "Rows" in header) == ("P-7", "CT", False)
    path.write_bytes(b"no header")
    with pytest.raises(DataError, match=r"scan\.dcm: not a whole DICOM file"):
        read_dicom_header(path, ("PatientID",))


def test_flat_image_becomes_black():
    assert to_uint8(np.full((3, 3), 7.0)).tolist() == np.zeros((3, 3)).tolist()


def test_preprocess_gives_the_wanted_size(gray):
    out = preprocess(gray, Preprocessing(size=32))
    assert out.shape == (32, 32)
    assert out.dtype == np.uint8


def test_clahe_raises_the_contrast_and_zero_leaves_it():
    low = np.random.default_rng(0).integers(100, 120, (64, 64), dtype=np.uint8)
    plain = preprocess(low, Preprocessing(size=64, clahe_clip=0))
    assert np.array_equal(plain, low)
    assert preprocess(low, Preprocessing(size=64)).std() > low.std()


def test_resized_mask_has_no_new_label():
    mask = np.zeros((50, 70), np.uint8)
    mask[10:30, 20:50] = 3
    out = preprocess_mask(mask, Preprocessing(size=33))
    assert out.shape == (33, 33)
    assert set(np.unique(out)) == {0, 3}
