"""A folder of all kinds of files, good and bad, is read to the end and every file accounted for."""

import csv
import gzip
import io
import json
import logging
import re
import warnings
import zipfile

import jsonschema
import nibabel
import numpy as np
import pydicom
import pytest
from builders import save_dicom
from own_scans import SECRETS, chest, is_lesion, outline, series, slice_points, volume
from PIL import Image

from covid_utils import paths
from covid_utils.data.readers.gray import LUNG_WINDOW, to_uint8
from covid_utils.errors import CompanionError
from covid_utils.reading import inputs
from covid_utils.reading.cases import Case, cases
from covid_utils.reading.folder import FORMATS, Wishes, read_all
from covid_utils.reading.stages import RECOGNISED, Recognition, Stages
from covid_utils.registry import COLOURS

SCHEMA = paths.PROJECT / "covid_utils" / "reading" / "case.schema.json"


def present(slices, fields, scales):
    """A stand-in for a network: of each slice the same."""
    return np.tile([0.9, 0.2, 0.5], (len(slices), 1))


def recognised(slices, modality):
    """A stand-in that is sure of X-rays, and of CT not."""
    sure = [0.75, 0.25] if modality == "X-ray" else [0.4, 0.6]
    return {f"task of {modality}": np.tile(sure, (len(slices), 1))}


TASKS = {
    f"task of {modality}": {"classes": ("covid", "normal"), "answers_from": 0.7}
    for modality in ("X-ray", "CT")
}
EVERYTHING = Wishes(
    formats=FORMATS,
    probabilities=True,
    about={"model": "none"},
    stages=Stages(Recognition(TASKS, recognised), present),
)


def rows(folder):
    with (folder / "files.csv").open(encoding="utf8", newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def picture(size=(64, 80)):
    """The chest as a PNG of the lung window would show it."""
    points = slice_points((-32, -24, 4), (1, 0, 0, 0, 1, 0), (0.8, 0.8), size)
    return to_uint8(chest(points), *LUNG_WINDOW), is_lesion(points)


def refusals(tmp_path, *names):
    found = list(cases([tmp_path / name for name in names], tmp_path / "out"))
    assert not any(isinstance(each, Case) for each in found)
    return [each.reason for each in found]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Everything at once, with secrets in every tag that may hold one."""
    root = tmp_path_factory.mktemp("mixed") / "scans"
    series(root / "ct", **SECRETS)
    for path in (root / "ct").iterdir():
        header = pydicom.dcmread(path)
        header.private_block(0x0099, "PLANTED CREATOR", create=True).add_new(
            1, "LO", "Planted private"
        )
        header.file_meta.SourceApplicationEntityTitle = "PLANTED_AE"
        header.save_as(path)
    save_dicom(root / "xray.dcm", picture()[0], "1.4", Modality="DX", **SECRETS)
    save_dicom(root / "mr.dcm", picture()[0], "1.5", Modality="MR", **SECRETS)
    (root / "cut.dcm").write_bytes((root / "xray.dcm").read_bytes()[:-900])
    volume(root / "v.nii.gz", "LPS")
    secret = nibabel.load(root / "v.nii.gz")
    secret.header["descrip"], secret.header["aux_file"] = b"Planted text", b"PLANTED"
    secret.to_filename(root / "v.nii.gz")
    for name in ("a.png", "b.jpg", "c.tif"):
        Image.fromarray(picture()[0]).save(root / name)
    (root / "notes.txt").write_text("Planted notes")
    (root / "empty.png").touch()
    (root / "cut.nii.gz").write_bytes((root / "v.nii.gz").read_bytes()[:400])
    with zipfile.ZipFile(root / "more.zip", "w") as archive:
        archive.write(root / "a.png", "deep/in/a.png")
        archive.write(root / "notes.txt", "../../climbs.txt")
    pytest.importorskip("highdicom")
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    logging.getLogger().addHandler(handler)
    with warnings.catch_warnings(record=True) as warned:
        summary = read_all([root], root / "results", outline, EVERYTHING)
    logging.getLogger().removeHandler(handler)
    (root / "results" / "log").write_text(said.getvalue() + "".join(map(str, warned)))
    return root, summary


def test_every_file_has_a_row_and_every_case_its_files(mixed):
    root, _ = mixed
    listed = rows(root / "results")
    there = {f"scans/{p.relative_to(root).as_posix()}" for p in root.rglob("*") if p.is_file()}
    there = {name for name in there if not name.startswith("scans/results/")}
    unpacked = {"scans/more.zip/deep/in/a.png", "scans/more.zip/climbs.txt"}
    assert set(listed) == there - {"scans/more.zip"} | unpacked
    read = {row["case"] for row in listed.values() if row["status"] == "read"}
    written = {path.name for path in (root / "results").iterdir() if path.is_dir()}
    assert read == written
    for row in listed.values():
        assert bool(row["case"]) == (row["status"] == "read")
        if row["status"] == "refused":
            assert row["message"].startswith(row["file"])
            assert str(root.parent) not in row["message"]
    refused = {name.split("/", 1)[1] for name, row in listed.items() if row["status"] == "refused"}
    bad = {"mr.dcm", "cut.dcm", "notes.txt", "empty.png", "cut.nii.gz", "more.zip/climbs.txt"}
    assert refused == bad


def test_records_follow_the_published_schema(mixed):
    root, summary = mixed
    schema = json.loads(SCHEMA.read_text(encoding="utf8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    found = {
        path.parent.name: json.loads(path.read_text("utf8")) for path in root.rglob("case.json")
    }
    assert len(found) == len(summary.records)
    for record in found.values():
        jsonschema.validate(record, schema)
    ct, xray = found["scans_ct"], found["scans_xray.dcm"]
    assert (ct["modality"], ct["gray_scale"], ct["slices"]) == ("CT", "Hounsfield units", 7)
    assert ct["masks"] == ["mask.dcm", "mask.nii.gz"]
    assert 0 < ct["manifestations"]["consolidation"]["share_of_lung_field_percent"] < 100
    assert ct["manifestations"]["consolidation"]["mean_probability"] == pytest.approx(0.75)
    assert (xray["modality"], xray["manifestations"]) == ("X-ray", None)
    assert xray["recognition"]["task of X-ray"]["answer"] == "covid"
    assert ct["recognition"]["task of CT"]["answer"] is None
    assert ct["presence"]["effusion"] == {"probability": 0.5, "highest": 0.5, "slices_called": 7}
    listed = rows(root / "results")
    assert (
        listed["scans/xray.dcm"]["recognised"]
        == "task of X-ray: most like training images of COVID-19 (75%)"
    )
    assert listed["scans/v.nii.gz"]["named"] == (
        "ground-glass 90%, consolidation 20%, pleural effusion 50%"
    )
    assert "consolidation: " in listed["scans/v.nii.gz"]["outlined"]


def test_few_slices_of_a_volume_are_recognised_spread_over_all(tmp_path):
    volume(tmp_path / "v.nii.gz", shape=(60, 44, 2 * RECOGNISED + 1), spacing=(0.9, 1.1, 0.5))
    asked = []

    def watched(slices, modality):
        asked.extend(slices)
        return recognised(slices, modality)

    wishes = Wishes(stages=Stages(Recognition(TASKS, watched)), batch=4)
    read_all([tmp_path / "v.nii.gz"], tmp_path / "out", outline, wishes)
    (case,) = cases([tmp_path / "v.nii.gz"], tmp_path / "out")
    every = case.slices(0, case.shape[0])
    assert len(every) == 2 * RECOGNISED + 1
    assert np.array_equal(asked, every[::3])


def test_no_identifying_tag_reaches_an_output_or_a_log(mixed):
    root, _ = mixed
    secrets = [value.encode() for value in (*SECRETS.values(), "Planted", "PLANTED", "Nora")]
    for path in (root / "results").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            content += gzip.decompress(content) if path.suffix == ".gz" else b""
            for secret in secrets:
                assert secret not in content, f"{path.name}: {secret}"


def test_the_sheet_shows_every_case_and_names_every_refusal(mixed):
    root, summary = mixed
    page = (root / "results" / "index.html").read_text(encoding="utf8")
    for link in re.findall(r'src="([^"]+)"', page):
        assert (root / "results" / link).is_file()
    assert page.count("<section>") == len(summary.records)
    assert page.count("<li>") == len(summary.refused) == 6


def test_a_picture_gets_a_picture_as_mask_in_the_colours_of_the_registry(mixed):
    root, _ = mixed
    mask = Image.open(root / "results" / "scans_a.png" / "mask.png")
    assert np.array_equal(np.asarray(mask) == 2, picture()[0] == 255)
    wanted = tuple(bytes.fromhex(COLOURS["consolidation"][1:]))
    assert wanted in set(mask.convert("RGB").getdata())
    overlay = np.asarray(Image.open(root / "results" / "scans_a.png" / "overlay.png"))
    assert (overlay[:200] == wanted).all(-1).any()


def test_probabilities_have_the_geometry_of_the_source(mixed):
    root, _ = mixed
    folder = root / "results" / "scans_v.nii.gz"
    mask, chance = (nibabel.load(folder / f"{name}.nii.gz") for name in ("mask", "probability"))
    assert np.allclose(mask.affine, chance.affine)
    marked = np.asarray(mask.dataobj) == 2
    assert np.allclose(chance.get_fdata()[marked], 0.75, atol=1 / 255)


def test_reading_again_replaces_results_and_nothing_else(tmp_path):
    Image.fromarray(picture()[0]).save(tmp_path / "a.png")
    for _ in range(2):
        read_all([tmp_path], tmp_path / "out", outline)
    assert len(rows(tmp_path / "out")) == 1
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "index.html").touch()
    with pytest.raises(CompanionError, match="holds other files; name a new folder"):
        read_all([tmp_path / "a.png"], tmp_path / "own", outline)


# Values of DICOM


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


def lut(*values):
    return np.array(values, "<u2").tobytes()


def test_tables_of_values_are_followed(tmp_path):
    ramp = np.arange(1600).reshape(40, 40) // 400
    table = pydicom.Dataset()
    table.LUTDescriptor, table.LUTData = [4, 0, 16], lut(0, 300, 100, 200)
    _, shown = planes(tmp_path, ramp, VOILUTSequence=[table])
    assert [int(shown.flat[at * 400]) for at in range(4)] == [0, 255, 85, 170]
    table.ModalityLUTType = "HU"
    table.LUTData = lut(24, 1000, 500, 200)
    save = {"Modality": "CT", "ModalityLUTSequence": [table]}
    case, _ = planes(tmp_path, ramp, **save)
    assert case.gray_scale == "Hounsfield units"


def test_what_claims_hounsfield_units_without_air_is_said(tmp_path):
    case, _ = planes(tmp_path, np.full((40, 40), 30), Modality="CT", RescaleIntercept=0)
    assert "hold no air" in " ".join(case.warnings)


SYNTAXES = {"JPEG lossless": "1.2.840.10008.1.2.4.70", "JPEG-LS": "1.2.840.10008.1.2.4.80"}
SYNTAXES |= {"JPEG 2000": "1.2.840.10008.1.2.4.90", "RLE": "1.2.840.10008.1.2.5"}


@pytest.mark.parametrize("syntax", SYNTAXES.values(), ids=SYNTAXES)
def test_compressed_slices_are_the_same_slices(tmp_path, syntax):
    gdcm = pytest.importorskip("gdcm")
    path = next(iter(series(tmp_path / "ct", count=1)))
    (plain,) = cases([path], tmp_path / "out")
    expected = plain.slices(0, 1)
    reader, change, writer = (
        gdcm.ImageReader(),
        gdcm.ImageChangeTransferSyntax(),
        gdcm.ImageWriter(),
    )
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


def test_what_tells_the_gray_scale_of_a_picture_is_said(tmp_path):
    points = slice_points((-32, -24, 4), (1, 0, 0, 0, 1, 0), (0.25, 0.25), (192, 256))
    Image.fromarray(to_uint8(chest(points), -1000, 400)).save(tmp_path / "a.png")
    Image.fromarray(np.full((64, 64), 90, np.uint8)).save(tmp_path / "b.png")
    found = list(cases([tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "out"))
    assert [case.gray_scale for case in found] == ["anatomy", "nothing"]
    assert "inferred from anatomy" in " ".join(found[0].warnings)


def test_too_small_and_unknown_values_are_refused_with_a_sentence(tmp_path):
    Image.fromarray(np.zeros((20, 90), np.uint8)).save(tmp_path / "a.png")
    nibabel.Nifti1Image(np.full((40, 40, 3), 9000, np.int16), np.eye(4)).to_filename(
        tmp_path / "v.nii"
    )
    one, other = refusals(tmp_path, "a.png", "v.nii")
    assert "20 x 90 pixels are too few" in one
    assert "no scale that is known for CT" in other


def bomb(path, size):
    """An archive with an entry of zeros that is much larger than itself."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", b"\0" * size)


def test_archives_that_would_fill_the_disk_or_are_damaged_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "LARGEST_ARCHIVE", 10_000)
    bomb(tmp_path / "a.zip", 20_000)
    (reason,) = refusals(tmp_path, "a.zip")
    assert reason.startswith("a.zip: holds more than the 10,000 bytes")
    monkeypatch.setattr(inputs, "LARGE_ARCHIVE", 10_000)
    monkeypatch.setattr(inputs, "LARGEST_ARCHIVE", 10**9)
    assert (tmp_path / "a.zip").stat().st_size < 200
    assert "holds more than" in refusals(tmp_path, "a.zip")[0]  # for what an archive of scans is
    bomb(tmp_path / "b.zip", 5_000)
    content = (tmp_path / "b.zip").read_bytes()
    lied = content.replace((5_000).to_bytes(4, "little"), (400).to_bytes(4, "little"))
    (tmp_path / "b.zip").write_bytes(lied)
    assert refusals(tmp_path, "b.zip")[0].startswith("b.zip")
    (tmp_path / "c.zip").write_bytes(content[:60])
    assert "not a whole ZIP archive" in refusals(tmp_path, "c.zip")[0]


def test_a_path_that_is_not_there_is_one_sentence(tmp_path):
    assert refusals(tmp_path, "gone.png")[0].startswith("gone.png: no such file")
