"""The readers on the phantom, whole and damaged: a damaged file costs itself, a table its set."""

import shutil

import numpy as np
import pytest
from builders import save_dicom
from test_readers import COHEN, kinds

from covid_utils.data import readers
from covid_utils.errors import DataError


def copied(phantom, root, folder):
    return shutil.copytree(phantom / folder, root / folder)


def change(path, content):
    """Write a text; or cut a file to a share of its length; or, for None, delete it."""
    if content is None:
        path.unlink()
    elif isinstance(content, float):
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * content)])
    else:
        path.write_text(content)


IMAGES, CLASSES = "stage_2_train_images/*.dcm", "stage_2_detailed_class_info.csv"
NIFTI, POSITIONS = r"not a whole NIfTI file \(.*\); download this", "seriesuid,coordX,coordY,coordZ"


@pytest.mark.parametrize(
    ("folder", "name", "content", "problem"),
    [
        ("rsna", IMAGES, None, "missing: .*unpack it again"),
        ("rsna", IMAGES, 0.1, r"unreadable: .*not a whole DICOM"),
        ("rsna", IMAGES, 0.95, r"unreadable: .*not a whole DICOM"),
        ("rsna", CLASSES, "patientId,class\n", "unlabelled: .*has no line for it"),
        ("lidc-idri", "*/*.dcm", 0.95, "unreadable: .*not a whole DICOM"),
        ("lidc-idri", "*/*.xml", None, "missing: No XML file of the readers' outlines"),
        ("lidc-idri", "*/*.xml", "<edge", "unreadable: .*not a whole XML file"),
        ("lidc-idri", "*/*.xml", "<IdriReadMessage/>", "unreadable: .*not the outlines of a CT"),
        ("luna16", "*.mhd", None, "missing: This scan has nodules but is not on disk"),
        ("luna16", "*.raw", 0.5, r"unreadable: .*\.raw: has \d+ bytes, but by .*must have"),
        (COHEN, "images/*", None, "missing: The image is not on disk; download it"),
        (COHEN, "images/*", 0.1, r"unreadable: .*not a whole image"),
    ],
)
def test_one_damaged_file_is_a_problem_and_the_rest_is_read(
    tmp_path, phantom, folder, name, content, problem
):
    change(min(copied(phantom, tmp_path, folder).glob(name)), content)
    copied(phantom, tmp_path, "nih-adult")
    reading = readers.read_all(tmp_path)
    lines = reading.problems["problem"] + ": " + reading.problems["remedy"]
    assert lines.str.match(problem).any(), lines.tolist()
    assert set(reading.problems["dataset"]) == {folder}
    assert (reading.rows["dataset"] == "nih-adult").sum() == 6


@pytest.mark.parametrize(
    ("folder", "name", "content", "message"),
    [
        ("medseg", "tr_im.nii.gz", None, "no such file; unpack the data set whole"),
        ("medseg", "tr_im.nii.gz", "", "an empty file; download"),
        ("medseg", "tr_im.nii.gz", 0.7, NIFTI),
        ("medseg", "tr_mask.nii.gz", 0.1, NIFTI),
        ("medseg", "slices.csv", "slice,labels,infnet_subset\n0,good,val\n", "must have one line"),
        ("luna16", "annotations.csv", f"{POSITIONS},diameter_mm\n1,left,0,0,5\n", ".*left"),
        ("luna16", "annotations.csv", f"{POSITIONS}\n", r"the columns \['diameter_mm'\]"),
        ("rsna", CLASSES, "patientId,class\na,Flu\n", "class 'Flu' is not known"),
        ("rsna", CLASSES, "patientId,class\na,Normal\na,Lung Opacity\n", "patient a has two"),
        (COHEN, "metadata.csv", "", "an empty file"),
    ],
)
def test_a_set_that_cannot_be_read_is_named_and_left_out(
    tmp_path, phantom, folder, name, content, message
):
    change(copied(phantom, tmp_path, folder) / name, content)
    with pytest.raises(DataError, match=rf"{name}: {message}"):
        readers.read(folder, tmp_path)
    copied(phantom, tmp_path, "nih-adult")
    reading = readers.read_all(tmp_path)
    assert set(reading.rows["dataset"]) == {"nih-adult"}
    assert kinds(reading) == [("unreadable", folder)]
    assert reading.problems["remedy"][0].endswith("The data set is left out.")


def test_data_folders_without_a_data_set_are_explained(tmp_path):
    with pytest.raises(DataError, match=r"no known data set in this folder; .*luna16"):
        readers.read_all(tmp_path)
    (tmp_path / "chest_xray").mkdir()
    with pytest.raises(DataError, match="no readable image of the data set 'chest_xray'"):
        readers.read_all(tmp_path)


def test_lidc_leaves_x_rays_out_and_follows_links(tmp_path, phantom):
    folder = copied(phantom, tmp_path, "lidc-idri")
    count = len(readers.read("lidc-idri", tmp_path).rows)
    save_dicom(folder / "p" / "x" / "1-001.dcm", np.zeros((4, 4)), uid="2.1", Modality="DX")
    series = next(folder.glob("*/*.xml")).parent
    series.rename(tmp_path / "store")
    series.symlink_to(tmp_path / "store")
    reading = readers.read("lidc-idri", tmp_path)
    assert len(reading.rows) == count
    assert kinds(reading) == [("not CT", "x")]
