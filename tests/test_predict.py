"""The door: what is read, what is said about the rest, and how the command ends."""

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import skimage
from own_scans import HEAD_FIRST, chest, series, slice_points, volume
from PIL import Image

import covid_read
from covid_read import shipped
from covid_read.__main__ import main
from covid_read.pages import COLUMNS
from covid_utils.data.readers.gray import to_uint8
from covid_utils.errors import CompanionError
from covid_utils.registry import LABEL_CLASSES

pytestmark = pytest.mark.usefixtures("eager")


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    """Folder with two slices as pictures of a window that no file tells."""
    folder = tmp_path_factory.mktemp("slices")
    for number in range(2):
        points = slice_points((-32, -24, 4 * number), HEAD_FIRST, (0.5, 0.5), (96, 128))
        Image.fromarray(to_uint8(chest(points), -1000, 400)).save(folder / f"{number}.png")
    return folder


def test_a_slice_is_outlined_within_its_lungs_and_shown_in_a_notebook(slices, model):
    result = covid_read.read(str(slices / "0.png"), model=model, batch=1)
    assert result.status == covid_read.ALL
    (record,) = result.cases["record"]
    assert record["outlined_slices"] == 1
    assert record["about"]["sha256"] in shipped.checksum(model / "shipped.npz").read_text()
    shares = [row["share_of_lung_field_percent"] for row in record["manifestations"].values()]
    assert 0 < sum(shares) <= 100
    page = result._repr_html_()
    assert "0.png" in page
    assert page.count("data:image/png") == 1
    folder = result.folder
    assert (folder / "0.png" / "mask.png").is_file()
    del result
    assert not folder.exists()


def test_shares_and_ml_follow_from_the_masks(tmp_path, model):
    volume(tmp_path / "v.nii.gz")
    result = covid_read.read(
        tmp_path / "v.nii.gz", tmp_path / "out", model=model, probabilities=True
    )
    (record,), ml = result.cases["record"], 0.9 * 1.1 * 2.5 / 1000
    assert record["voxel_ml"] == pytest.approx(ml)
    assert record["lung_field_ml"] == pytest.approx(ml * record["lung_field_pixels"])
    files = [result.folder / "v.nii.gz" / f"{name}.nii.gz" for name in ("mask", "probability")]
    assert np.allclose(*(nibabel.load(file).affine for file in files))
    mask, chance = (nibabel.load(file).get_fdata() for file in files)
    assert mask.any()
    for label, row in zip(LABEL_CLASSES, record["manifestations"].values(), strict=True):
        count = np.count_nonzero(mask == label)
        if count:
            mean = chance[mask == label].mean()
            assert row["mean_probability"] == pytest.approx(mean, abs=1 / 255)
        assert (row["pixels"], row["ml"]) == (count, pytest.approx(count * ml))
        share = count * ml / record["lung_field_ml"]
        assert row["share_of_lung_field_percent"] == pytest.approx(100 * share)


def test_batches_make_no_difference(tmp_path, model):
    series(tmp_path / "ct", count=5)
    one, other = (
        covid_read.read(tmp_path / "ct", tmp_path / f"out{batch}", model=model, batch=batch)
        for batch in (2, 8)
    )
    masks = [result.folder / "ct" / "mask.nii.gz" for result in (one, other)]
    assert nibabel.load(masks[0]).get_fdata().any()
    assert masks[0].read_bytes() == masks[1].read_bytes()


@pytest.mark.parametrize("name", ["astronaut.png", "camera.png", "noise"])
def test_what_is_no_slice_is_read_and_nothing_is_outlined(name, tmp_path, model):
    path = tmp_path / "picture.png"
    if name == "noise":
        noise = np.random.default_rng(1).integers(0, 256, (128, 128)).astype(np.uint8)
        Image.fromarray(noise).save(path)
    else:
        path.write_bytes(Path(skimage.__file__).parent.joinpath("data", name).read_bytes())
    result = covid_read.read(path, tmp_path / "out", model=model)
    (row,) = result.summary.rows
    assert row["status"] == "read"
    assert "does not look like an axial CT slice" in row["message"]
    assert [file.name for file in (tmp_path / "out" / "picture.png").iterdir()] == ["case.json"]


def test_the_command_ends_with_0_3_or_2_and_says_why(slices, tmp_path, model, capfd):
    given = ["-o", str(tmp_path / "out"), "--model", str(model), "--format", "nifti,dicom-seg"]
    assert main([str(slices), *given]) == 0
    assert "2 images in" in capfd.readouterr().err
    (tmp_path / "notes.txt").write_text("no scan")
    assert main([str(slices / "1.png"), str(tmp_path / "notes.txt"), *given]) == 3
    said = capfd.readouterr()
    assert said.out == ""
    assert "notes.txt: not a PNG, JPEG, TIFF, DICOM or NIfTI file; remove it from" in said.err
    assert "Cases read: 1, refusals: 1" in said.err
    assert main([str(tmp_path / "notes.txt"), *given]) == 2
    assert main([str(slices), *given[:2], "--model", str(tmp_path)]) == 2
    assert "holds no shipped network" in capfd.readouterr().err


def test_a_changed_or_shortened_network_is_refused_before_it_is_opened(
    model, slices, tmp_path, monkeypatch
):
    content = (model / "shipped.npz").read_bytes()
    stated = shipped.checksum(model / "shipped.npz").read_text()
    monkeypatch.setattr(np, "load", None)
    for wrong in (content[:-100], content[:500] + b"\0" + content[501:], b""):
        file = tmp_path / "shipped.npz"
        file.write_bytes(wrong)
        shipped.checksum(file).write_text(stated)
        with pytest.raises(CompanionError, match="does not match its checksum"):
            covid_read.read(slices, tmp_path / "out", model=file)
    shipped.checksum(file).unlink()
    with pytest.raises(CompanionError, match="no shipped network with its checksum"):
        covid_read.read(slices, tmp_path / "out", model=file)


def test_a_folder_that_cannot_hold_results_is_named_before_anything_is_read(slices, tmp_path):
    (tmp_path / "list.csv").write_text("mine")
    for out in (tmp_path / "list.csv", tmp_path / "list.csv" / "below"):
        with pytest.raises(CompanionError, match="cannot be written"):
            covid_read.read(slices, out, model="not needed")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "files.csv").write_text("my,own,list")
    with pytest.raises(CompanionError, match="holds other files"):
        covid_read.read(slices, tmp_path / "own", model="not needed")
    assert (tmp_path / "own" / "files.csv").read_text() == "my,own,list"
    # Nor a list of ours that a spreadsheet has saved in its own encoding.
    (tmp_path / "own" / "files.csv").write_text(f"{','.join(COLUMNS)}\nMüller.nii.gz\n", "cp1252")
    with pytest.raises(CompanionError, match="holds other files"):
        covid_read.read(slices, tmp_path / "own", model="not needed")


def test_earlier_cases_go_and_odd_names_and_empty_inputs_stop_nothing(slices, tmp_path, model):
    out = tmp_path / "out"
    covid_read.read(slices / "0.png", out, model=model, stages=3)
    (out / "own.txt").write_text("kept")
    lines = (out / "files.csv").read_text().splitlines()
    (out / "files.csv").write_text(
        "\n".join([lines[0], *(f"{line},checked" for line in lines[1:])])
    )
    odd = tmp_path / "odd"
    (odd / ".hidden").mkdir(parents=True)
    (odd / ".hidden" / "x.png").write_bytes(b"no scan")
    content = (slices / "1.png").read_bytes()
    Path(os.fsdecode(bytes(odd) + b"/caf\xe9.png")).write_bytes(content)
    (tmp_path / "files.csv").write_bytes(content)
    (tmp_path / "empty").mkdir()
    given = [tmp_path / name for name in ("files.csv", "odd", "empty", "absent.png")]
    result = covid_read.read(given, out, model=model)
    assert result.status == covid_read.SOME
    assert [record["folder"] for record in result.summary.records] == ["files.csv-2"]
    assert not (out / "0.png").exists()
    assert (out / "own.txt").is_file()
    said = " ".join(result.summary.refused)
    for words in ("not UTF-8", "holds no files", "no such file or folder"):
        assert words in said
    assert len(result.summary.rows) == 4
    assert list(result.cases.columns) == covid_read.HEADINGS
    assert covid_read.read(tmp_path / "empty", out, model=model).cases["ggo"].empty
