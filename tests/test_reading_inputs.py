"""What files say of their values is followed, and what is no scan is refused with a sentence."""

import zipfile

import nibabel
import numpy as np
import pydicom
import pytest
from builders import save_dicom
from own_scans import series
from PIL import Image

from covid_read import inputs
from covid_read.cases import Case, cases
from covid_utils.data.readers.gray import LUNG_WINDOW, to_uint8


def refusals(tmp_path, *names):
    found = list(cases([tmp_path / name for name in names], tmp_path / "out"))
    assert not any(isinstance(each, Case) for each in found)
    return [each.reason for each in found]


def planes(tmp_path, pixels, **tags):
    """The one slice of a DICOM file with some tags."""
    save_dicom(tmp_path / "a.dcm", pixels, **({"Modality": "DX"} | tags))
    (case,) = cases([tmp_path / "a.dcm"], tmp_path / "out")
    return case, case.slices(0, 1)[0]


def test_an_xray_is_shown_through_its_own_window_and_ct_through_the_lung_window(tmp_path):
    ramp = np.arange(1600).reshape(40, 40)
    _, plain = planes(tmp_path, ramp)
    assert (plain.min(), plain.max()) == (0, 255)
    window = {"WindowCenter": [800, 5], "WindowWidth": [400, 5]}
    _, shown = planes(tmp_path, ramp, **window)
    assert np.array_equal(shown == 0, ramp <= 600)
    assert np.array_equal(shown == 255, ramp >= 999)
    _, inverted = planes(tmp_path, ramp, PhotometricInterpretation="MONOCHROME1", **window)
    assert np.array_equal(inverted, 255 - shown)
    tags = {"Modality": "CT", "RescaleIntercept": -1400, "PixelPaddingValue": 0}
    case, lung = planes(tmp_path, ramp, **tags, **window)
    assert case.gray_scale == "Hounsfield units"
    assert np.array_equal(lung, np.where(ramp == 0, 0, to_uint8(ramp - 1400, *LUNG_WINDOW)))


def test_what_claims_hounsfield_units_without_air_is_said(tmp_path):
    case, _ = planes(tmp_path, np.full((40, 40), 30), Modality="CT", RescaleIntercept=0)
    assert "include no air" in " ".join(case.warnings)


SYNTAXES = {"JPEG lossless": "1.2.840.10008.1.2.4.70", "JPEG-LS": "1.2.840.10008.1.2.4.80"}
SYNTAXES |= {"JPEG 2000": "1.2.840.10008.1.2.4.90", "RLE": "1.2.840.10008.1.2.5"}


@pytest.mark.parametrize("syntax", SYNTAXES.values(), ids=SYNTAXES)
def test_compressed_slices_are_the_same_slices(tmp_path, syntax):
    gdcm = pytest.importorskip("gdcm")
    path = next(iter(series(tmp_path / "ct", count=1)))
    (plain,) = cases([path], tmp_path / "out")
    expected = plain.slices(0, 1)
    reader, writer = gdcm.ImageReader(), gdcm.ImageWriter()
    change = gdcm.ImageChangeTransferSyntax()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(path))
    assert writer.Write()
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    (packed,) = cases([path], tmp_path / "out")
    assert np.array_equal(packed.slices(0, 1), expected)


# Pictures and archives


def test_what_is_no_scan_is_refused_with_a_sentence(tmp_path):
    Image.fromarray(np.zeros((20, 90), np.uint8)).save(tmp_path / "a.png")
    volume = nibabel.Nifti1Image(np.full((40, 40, 3), 9000, np.int16), np.eye(4))
    volume.to_filename(tmp_path / "v.nii")
    table = pydicom.Dataset()
    table.LUTDescriptor, table.LUTData = [4, 0, 16], np.zeros(4, "<u2").tobytes()
    tags = {"Modality": "CT", "ModalityLUTSequence": [table]}
    save_dicom(tmp_path / "a.dcm", np.zeros((40, 40)), **tags)
    gone, small, unknown, mapped = refusals(tmp_path, "gone.png", "a.png", "v.nii", "a.dcm")
    assert gone.startswith("gone.png: no such file")
    assert "20 x 90 pixels are too few" in small
    assert "not a scale known for CT" in unknown
    assert "go through a table; save it with a rescale slope" in mapped


def bomb(path, size):
    """An archive with an entry of zeros that is much larger than itself."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", b"\0" * size)


def test_archives_that_would_fill_the_disk_or_are_damaged_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "LARGEST_ARCHIVE", 10_000)
    bomb(tmp_path / "a.zip", 20_000)
    (reason,) = refusals(tmp_path, "a.zip")
    assert reason.startswith("a.zip: exceeds the limit of 10,000 bytes")
    monkeypatch.setattr(inputs, "LARGE_ARCHIVE", 10_000)
    monkeypatch.setattr(inputs, "LARGEST_ARCHIVE", 10**9)
    assert (tmp_path / "a.zip").stat().st_size < 200
    assert "exceeds the limit" in refusals(tmp_path, "a.zip")[0]  # for what an archive of scans is
    bomb(tmp_path / "b.zip", 5_000)
    content = (tmp_path / "b.zip").read_bytes()
    lied = content.replace((5_000).to_bytes(4, "little"), (400).to_bytes(4, "little"))
    (tmp_path / "b.zip").write_bytes(lied)
    assert refusals(tmp_path, "b.zip")[0].startswith("b.zip")
    (tmp_path / "c.zip").write_bytes(content[:60])
    assert "not a complete ZIP archive" in refusals(tmp_path, "c.zip")[0]
