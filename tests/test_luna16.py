"""Headers of LUNA16: read as ITK reads them, and refused before their voxels are read."""

import numpy as np
import pandas as pd
import pytest
import SimpleITK
from test_readers import save_luna

from covid_utils.data import readers
from covid_utils.data.readers.luna16 import open_scan
from covid_utils.errors import DataError


def test_a_scan_is_opened_as_itk_does(tmp_path):
    turned = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]], float)
    voxels = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    scan = SimpleITK.GetImageFromArray(voxels)
    scan.SetDirection(turned.ravel())
    scan.SetOrigin((1.0, 2.0, 3.0))
    scan.SetSpacing((0.5, 0.25, 2.0))
    SimpleITK.WriteImage(scan, str(tmp_path / "a.mhd"))
    ours = open_scan(tmp_path / "a.mhd")
    assert ours.size == (5, 4, 3)
    assert np.array_equal(ours.plane(2), voxels[2])
    point = (1.7, 0.3, 6.1)
    theirs = scan.TransformPhysicalPointToContinuousIndex(point)
    nodules = pd.DataFrame([point], columns=["coordX", "coordY", "coordZ"])
    assert np.allclose(ours.indices(nodules), theirs)


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("DimSize = 30 20 12", "DimSize = 30 20 99999999999", "values are too many for a scan"),
        ("DimSize = 30 20 12", "DimSize = 30 20 11", "has 14400 bytes, but by .* have 13200"),
        ("DimSize = 30 20 12", "DimSize = 30 -20 12", "sizes, spacings or axes do not make a scan"),
        ("DimSize = 30 20 12", "DimSize = 30 20", "numbers of DimSize, .* are missing"),
        (
            "ElementSpacing = 0.5",
            "ElementSpacing = 0",
            "sizes, spacings or axes do not make a scan",
        ),
        ("MET_SHORT", "MET_STRING", "type MET_STRING x 1 are not CT"),
        ("ElementDataFile = 1.2.raw", "ElementDataFile = LOCAL", "not in one .raw file"),
        ("MET_SHORT", "MET_SHORT\nElementNumberOfChannels = 2", "MET_SHORT x 2 are not CT"),
        ("MET_SHORT", "MET_SHORT\nHeaderSize = 9", "not in one .raw file"),
        ("ElementDataFile = 1.2.raw", "ElementDataFile = b.raw", "b.raw: no such file"),
        ("CompressedData = False", "CompressedData = True", "save it as .mhd and .raw"),
        ("Offset = -10", "Offset = 5000", "a nodule of annotations.csv lies outside"),
    ],
)
def test_a_damaged_header_is_refused_before_its_voxels_are_read(tmp_path, old, new, cause):
    save_luna(tmp_path)
    path = tmp_path / "luna16/subset0/1.2.mhd"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(DataError, match=cause):
        readers.read("luna16", tmp_path)


@pytest.mark.parametrize("nodule", ["0,0,0,nan", "inf,0,0,5", "0,0,0,-5", "0,0,0,1e9"])
def test_nodules_that_cannot_be_are_named_by_line(tmp_path, nodule):
    save_luna(tmp_path)
    with (tmp_path / "luna16/annotations.csv").open("a") as file:
        file.write(f"9.9,{nodule}\n")
    with pytest.raises(DataError, match="line 4 has no position or size of a nodule"):
        readers.read("luna16", tmp_path)


OTHER_HEADERS = {
    "TransformMatrix = 1 0 0 0 1 0 0 0 1": "Comment = no axes",
    "TransformMatrix": "Orientation",
    "Offset": "Position",
    "ElementSpacing": "ElementSize",
    "BinaryDataByteOrderMSB = False": "BinaryDataByteOrderMSB = True",
}


@pytest.mark.parametrize("old", OTHER_HEADERS)
def test_luna_headers_are_read_as_other_programs_write_them(tmp_path, old):
    save_luna(tmp_path)
    rows = readers.read("luna16", tmp_path).rows
    usual = [readers.load_image(tmp_path, row) for row in rows.itertuples()]
    header = tmp_path / "luna16/subset0/1.2.mhd"
    assert old in header.read_text()
    header.write_text(header.read_text().replace(old, OTHER_HEADERS[old]))
    if "MSB" in old:
        voxels = header.with_suffix(".raw")
        np.fromfile(voxels, "<i2").astype(">i2").tofile(voxels)
    reading = readers.read("luna16", tmp_path)
    assert reading.rows.equals(rows)
    found = [readers.load_image(tmp_path, row) for row in rows.itertuples()]
    assert np.array_equal(found, usual)
