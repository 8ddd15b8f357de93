"""Decoding of every kind of file, and the one preprocessing function."""

import numpy as np
import pytest
from builders import save_dicom
from PIL import Image

from covid_read.extent import put_back
from covid_utils.data.images import Preprocessing, preprocess, preprocess_mask
from covid_utils.data.readers.decoding import read_dicom, read_raster
from covid_utils.data.readers.gray import stretched
from covid_utils.errors import DataError, ParameterError


@pytest.fixture
def gray():
    return np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)


def palette():
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    image.putpalette([10, 10, 10, 90, 90, 90, 250, 250, 250])
    return image


def transparent():
    colours = np.full((2, 2, 4), 200, np.uint8)
    colours[..., 3] = [[255, 0], [255, 0]]
    return Image.fromarray(colours, "RGBA")


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(np.array([[7, 250]], np.uint8)), [[7, 250]]),
        (Image.fromarray(np.array([[1000, 2000], [3000, 4000]], np.uint16)), [[0, 85], [170, 255]]),
        (transparent(), [[200, 0], [200, 0]]),
        (palette(), [[10, 90], [250, 90]]),
        (Image.fromarray(np.array([[True, False]])), [[255, 0]]),
        (Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8)), [[76, 150]]),
    ],
    ids=["gray", "16 bits", "transparent", "palette", "1 bit", "colour"],
)
def test_every_kind_of_raster_becomes_gray(tmp_path, image, expected):
    path = tmp_path / "a scan 18%1.png"
    image.save(path)
    assert read_raster(path).tolist() == expected


COLOUR = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": "RGB"}


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"NumberOfFrames": 3, "PixelData": bytes(144)}, r"pixels of \(3, 4, 6\).*save each frame"),
        (COLOUR | {"PixelRepresentation": 0, "PixelData": bytes(144)}, r"pixels of \(4, 6, 3\)"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, r"\(4, 6\), PALETTE COLOR, are not one"),
        ({"Rows": 65535, "Columns": 65535}, "1 x 65535 x 65535 values are too many for a scan"),
    ],
)
def test_dicom_that_is_no_gray_image_is_named(tmp_path, tags, message):
    save_dicom(tmp_path / "odd.dcm", np.zeros((4, 6)), **tags)
    with pytest.raises(DataError, match=rf"odd\.dcm: .*{message}"):
        read_dicom(tmp_path / "odd.dcm")


@pytest.mark.parametrize("wrong", [{"gray": "landmark"}, {"crop": "lung"}, {"size": 0}])
def test_settings_that_cannot_be_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(ParameterError, match=rf"^{name} is .*(give one of|at least one pixel)"):
        Preprocessing(**wrong)


def test_clahe_raises_the_contrast_and_zero_leaves_it_and_flat_is_black():
    assert not stretched(np.full((3, 3), 7.0)).any()
    low = np.random.default_rng(0).integers(100, 120, (64, 64), dtype=np.uint8)
    assert np.array_equal(preprocess(low, Preprocessing(size=64, clahe_clip=0)), low)
    equalised = preprocess(low, Preprocessing(size=64))
    assert equalised.std() > low.std()
    assert equalised.dtype == np.uint8


def test_image_and_mask_get_the_size_wanted_and_the_mask_no_new_label(gray):
    assert preprocess(gray, Preprocessing(size=33)).shape == (33, 33)
    mask = np.zeros((50, 70), np.uint8)
    mask[10:30, 20:50] = 3
    out = preprocess_mask(mask, Preprocessing(size=33))
    assert out.shape == (33, 33)
    assert set(np.unique(out)) == {0, 3}


@pytest.mark.parametrize("size", [64, 128, 200])
@pytest.mark.parametrize(("crop", "field"), [("none", ""), ("field", "8 30 80 5000")])
def test_what_was_computed_of_a_prepared_slice_is_put_back_in_its_place(crop, field, size):
    slice_ = np.indices((100, 140)).sum(0).astype(np.uint8)
    settings = Preprocessing(size, clahe_clip=0, crop=crop)
    prepared = preprocess(slice_, settings, field).astype(np.float32)
    back = put_back(prepared[..., None], settings, field, slice_)[..., 0]
    inside = np.s_[12:84, 34:106]  # beside the edge a resized gradient bends
    assert abs(back - slice_)[inside].max() <= 1.5
    assert abs((back - slice_)[inside].mean()) < 0.2  # half a pixel aside it would be 0.5 or more
    if crop != "none":
        assert not back[:8].any()
        assert not back[:, 110:].any()
