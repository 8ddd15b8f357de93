"""Files that decoders read wrongly or not at all, and what the gray values of a file mean."""

import gzip

import nibabel
import numpy as np
import pydicom
import pytest
from builders import save_dicom
from PIL import Image
from pydicom.uid import HTJ2KLossless

from covid_utils.data.readers.decoding import axial_slices, read_dicom, read_raster
from covid_utils.data.readers.gray import LUNG_WINDOW, stretched, to_uint8, window_of
from covid_utils.errors import DataError

# DICOM and TIFF


def test_a_missing_decoder_names_the_packages_to_install(tmp_path):
    path = tmp_path / "a.dcm"
    save_dicom(path, np.zeros((4, 4)))
    header = pydicom.dcmread(path)
    header.file_meta.TransferSyntaxUID = HTJ2KLossless
    header.PixelData = pydicom.encaps.encapsulate([b"pixels"])
    header.save_as(path)
    with pytest.raises(
        DataError, match=r"compressed \(High-Throughput.*install \S+>=\S+.*openjpeg"
    ):
        read_dicom(path)


def test_an_xray_is_shown_through_its_table_for_display(tmp_path):
    table = pydicom.Dataset()
    table.LUTDescriptor = [4, 0, 16]
    table.LUTData = np.array([0, 300, 100, 200], "<u2").tobytes()
    tags = {"VOILUTSequence": [table], "WindowCenter": 1, "WindowWidth": 2}
    save_dicom(tmp_path / "a.dcm", np.arange(4).reshape(2, 2), **tags)
    assert read_dicom(tmp_path / "a.dcm").tolist() == [[0, 255], [85, 170]]


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
    image = nibabel.Nifti1Image(np.zeros((6, 5, 4), np.dtype(dtype)), np.eye(4))
    if affine is not None:
        image.header.set_sform(affine, 1)
        image.header.set_qform(None, 0)
        image = nibabel.Nifti1Image(np.asarray(image.dataobj), None, image.header)
    image.to_filename(path)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"affine": np.zeros((4, 4))}, "affine matrix does not tell its axes"),
        ({"affine": np.full((4, 4), np.nan)}, "affine matrix does not tell its axes"),
        ({"affine": np.diag([1, 1, 0, 1])}, "affine matrix does not tell its axes"),
        ({"dtype": [("R", "u1"), ("G", "u1"), ("B", "u1")]}, "are not gray values"),
        ({"dtype": np.complex64}, "are not gray values"),
    ],
)
def test_volumes_without_axes_or_gray_values_are_named(tmp_path, changes, cause):
    nifti(tmp_path / "v.nii.gz", **changes)
    with pytest.raises(DataError, match=cause):
        axial_slices(tmp_path / "v.nii.gz")


def test_a_volume_with_one_frame_is_a_volume(tmp_path):
    voxels = np.linspace(0, 255, 120).reshape(6, 5, 4)
    for name, values in (("a.nii", voxels), ("b.nii", voxels[..., None])):
        nibabel.Nifti1Image(values, np.eye(4)).to_filename(tmp_path / name)
    plain, framed = (axial_slices(tmp_path / name) for name in ("a.nii", "b.nii"))
    assert plain.shape == (4, 5, 6)
    assert np.array_equal(plain, framed)


def test_a_header_that_asks_for_more_than_the_file_holds_is_refused(tmp_path):
    path = tmp_path / "v.nii.gz"
    nifti(path)
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[42:48] = np.array([900, 900, 900], "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(raw)))
    with pytest.raises(DataError, match="too short for its header's 729000000 voxels"):
        axial_slices(path)


# Gray scales: every known one, and what must not decide about it

#: A slice: air, lung and soft tissue in Hounsfield units, and what the lung window makes of them.
UNITS = np.repeat(np.float32([-1000, -850, -700, 0, 40, 100]), 200).reshape(40, 30)
GRAY = np.rint(np.clip((UNITS - LUNG_WINDOW[0]) / 1500 * 255, 0, 255)).astype(np.uint8)
SCALES = {
    "Hounsfield": UNITS,
    "with offset": UNITS + 1024,
    "0 to 255": GRAY.astype(np.float32),
    "0 to 1": GRAY / np.float32(255),
}


def shown(voxels, path):
    return to_uint8(voxels, *window_of(voxels, path))


def spoilt(voxels, value, count=1):
    """The same values, but for the first."""
    voxels = voxels.copy()
    voxels.flat[:count] = value
    return voxels


SINGLE = [(0, 0), (np.nan, 1), (np.inf, 3), (-np.inf, 1), (-0.5, 1), (256, 1), (1e6, 2), (-1e6, 2)]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("value", "count"), [*SINGLE, (-2000, 180), (-1024, 180), (-1000, 180)])
def test_single_values_and_padding_do_not_decide_about_a_scale(tmp_path, scale, value, count):
    gray = shown(spoilt(SCALES[scale], value, count), tmp_path)
    assert np.abs(gray.astype(int) - GRAY).flat[count:].max() <= 1


@pytest.mark.parametrize(("scale", "margin"), [("0 to 1", 0), ("Hounsfield", -2000)])
def test_a_black_margin_does_not_hide_a_scale(tmp_path, scale, margin):
    voxels = np.pad(SCALES[scale], 20, constant_values=margin)
    gray = shown(voxels, tmp_path)[20:-20, 20:-20]
    assert np.abs(gray.astype(int) - GRAY).max() <= 1


SCALELESS = [(0, 4000), (-1, 1), (0, 1.1), (-1.9, 4), (0, 100), (-160, 240), (0, 600), (0, 65535)]


@pytest.mark.parametrize(("low", "high"), [*SCALELESS, (30_000, 31_000), (np.nan, np.nan)])
def test_a_scale_that_cannot_be_told_is_reported(tmp_path, low, high):
    values = np.linspace(low, high, 1200).reshape(40, 30)
    if (low, high) == (0, 4000):
        values[values < 1500] = 0  # no air, no tissue
    with pytest.raises(DataError, match="not a scale known for CT"):
        shown(values, tmp_path / "scan.nii")


def test_an_image_is_stretched_between_its_extremes_but_not_to_outliers():
    tissue = np.tile(np.linspace(1000, 1600, 300), 2).reshape(20, 30)
    usual = stretched(tissue)
    assert (usual.min(), usual.max()) == (0, 255)
    for value in (65_535, -30_000, np.nan, np.inf):
        assert np.array_equal(stretched(spoilt(tissue, value, 40)).flat[40:], usual.flat[40:])
    few = np.array([[0, 1000], [0, 255]])  # three values are no outliers
    assert stretched(few).max() == 255
    assert not stretched(np.full((3, 3), np.nan)).any()


def test_padding_of_an_x_ray_is_black_and_decides_nothing(tmp_path):
    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 10 + 1000
    pixels[0, :4] = 1700
    path, usual = tmp_path / "a.dcm", stretched(pixels[1:])
    for photometric in ("MONOCHROME2", "MONOCHROME1"):
        tags = {"Modality": "CR", "PhotometricInterpretation": photometric}
        save_dicom(path, pixels, PixelPaddingValue=1700, **tags)
        gray = read_dicom(path)
        assert not gray[0, :4].any()
        shown = gray if photometric == "MONOCHROME2" else 255 - gray
        assert np.abs(shown[1:].astype(int) - usual).max() <= 20
    save_dicom(path, pixels, PixelPaddingValue=1690, PixelPaddingRangeLimit=1710, **tags)
    assert not read_dicom(path)[0, :4].any()


def test_ct_without_rescale_tags_is_told_by_its_values_and_slope_0_is_an_error(tmp_path):
    path = tmp_path / "a.dcm"
    save_dicom(path, (UNITS + 1024).astype(np.uint16), Modality="CT")
    assert np.abs(read_dicom(path).astype(int) - GRAY).max() <= 1
    save_dicom(path, UNITS, Modality="CT", RescaleSlope="0", RescaleIntercept="0")
    with pytest.raises(DataError, match="RescaleSlope is 0"):
        read_dicom(path)


def test_bits_above_those_stored_are_no_pixels(tmp_path):
    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 60
    overlaid = pixels.copy()
    overlaid[0, 0] |= 0x8000
    for name, stored in (("plain", pixels), ("overlaid", overlaid)):
        save_dicom(tmp_path / name, stored, Modality="CR", BitsStored=12, HighBit=11)
    assert np.array_equal(read_dicom(tmp_path / "overlaid"), read_dicom(tmp_path / "plain"))


def test_a_picture_is_turned_as_its_camera_was_held_and_pages_are_refused(tmp_path):
    picture = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    picture.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_raster(tmp_path / "turned.png"), np.rot90(np.asarray(picture), -1))
    picture.save(tmp_path / "pages.tif", save_all=True, append_images=[picture])
    with pytest.raises(DataError, match=r"pages\.tif: 2 pages are not one image"):
        read_raster(tmp_path / "pages.tif")
