"""A folder of all kinds of files, good and bad, is read to the end and every file accounted for."""

import csv
import gzip
import io
import json
import logging
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

from covid_read.cases import cases
from covid_read.folder import FORMATS, Wishes, read_all
from covid_read.stages import RECOGNISED, Recognition, Stages
from covid_utils import paths
from covid_utils.data.readers.gray import LUNG_WINDOW, to_uint8
from covid_utils.registry import COLOURS

SCHEMA = paths.PROJECT / "covid_read" / "case.schema.json"


def present(batch):
    """A stand-in for a network: of each slice the same."""
    return np.tile([0.9, 0.2, 0.5], (len(batch.slices), 1))


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
    assert "No DICOM SEG is written" in listed["scans/v.nii.gz"]["message"]
    assert "No probabilities are written" in listed["scans/a.png"]["message"]


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


def test_without_stage_3_the_record_says_that_its_files_are_not_written(tmp_path):
    volume(tmp_path / "v.nii.gz")
    wishes = Wishes(("dicom-seg",), probabilities=True, stages=Stages(outlines=False))
    read_all([tmp_path / "v.nii.gz"], tmp_path / "out", outline, wishes)
    record = json.loads((tmp_path / "out" / "v.nii.gz" / "case.json").read_text("utf8"))
    assert "No DICOM SEG and no probabilities are written without stage 3." in record["warnings"]
    assert record["masks"] == []


def test_no_identifying_tag_reaches_an_output_or_a_log(mixed):
    root, _ = mixed
    secrets = [value.encode() for value in (*SECRETS.values(), "Planted", "PLANTED", "Nora")]
    for path in (root / "results").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            content += gzip.decompress(content) if path.suffix == ".gz" else b""
            for secret in secrets:
                assert secret not in content, f"{path.name}: {secret}"


def test_a_picture_gets_a_picture_as_mask_in_the_colours_of_the_registry(mixed):
    root, _ = mixed
    mask = Image.open(root / "results" / "scans_a.png" / "mask.png")
    assert np.array_equal(np.asarray(mask) == 2, picture()[0] == 255)
    wanted = tuple(bytes.fromhex(COLOURS["consolidation"][1:]))
    assert wanted in set(mask.convert("RGB").getdata())


@pytest.mark.parametrize("level", [1, 2])
def test_without_stage_3_no_message_speaks_of_outlines(level, tmp_path):
    volume(tmp_path / "v.nii.gz")
    image = nibabel.load(tmp_path / "v.nii.gz")
    values = np.asarray(image.dataobj).copy()
    values[..., 0] = 50  # no lung field
    nibabel.save(nibabel.Nifti1Image(values, image.affine), tmp_path / "v.nii.gz")
    stages = Stages(
        presence=lambda batch: np.zeros((len(batch.slices), 3)),
        outlines=False,
        levels=lambda batch: (np.full(len(batch.slices), level), batch.scales == "X-ray"),
    )
    (record,) = read_all([tmp_path], tmp_path / "out", outline, Wishes(stages=stages)).records
    said = [*record["warnings"], record["why_not_named"]]
    assert len(said) == (3 if level == 1 else 1)
    assert "outline" not in f"{said}"
