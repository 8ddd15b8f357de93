"""Odd files as scanners, archives and people make them: read rightly, or named with their cause."""

import os
import shutil

import numpy as np
import pytest
from builders import save_dicom, save_png
from test_readers import COHEN, kinds, save_luna, save_metadata

from covid_utils.data import readers
from covid_utils.errors import DataError

# LIDC-IDRI

SQUARE = [(1, 1), (1, 6), (6, 6), (6, 1)]
SERIES = "LIDC-IDRI-0001/study/series"


def xml(points=SQUARE, series="1.2.3", root='LidcReadMessage xmlns="http://www.nih.gov"'):
    edges = "".join(
        f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><{root}><ResponseHeader><SeriesInstanceUid>{series}'
        "</SeriesInstanceUid></ResponseHeader><readingSession><unblindedReadNodule><roi>"
        f"<imageSOP_UID>1.2.3.1</imageSOP_UID><inclusion>TRUE</inclusion>{edges}</roi>"
        f"</unblindedReadNodule></readingSession></{root.split()[0]}>"
    )


def lidc(root, text=None, place=SERIES, name="1-01.dcm"):
    """A patient with one slice and an XML file; the folder of the set."""
    folder = root / "lidc-idri"
    path = folder / SERIES / name
    tags = {"uid": "1.2.3.1", "SeriesInstanceUID": "1.2.3", "RescaleIntercept": "-1024"}
    save_dicom(path, np.arange(64).reshape(8, 8), Modality="CT", **tags)
    (folder / place).mkdir(parents=True, exist_ok=True)
    content = xml() if text is None else text
    content = content if isinstance(content, bytes) else content.encode()
    (folder / place / "069.xml").write_bytes(content)
    return folder


def nodule(root):
    """Label and pixels of the nodule of the only slice."""
    (row,) = readers.read("lidc-idri", root).rows.itertuples()
    return row.label, int(readers.load_mask(root, row).sum()) if row.mask_path else None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"place": "tcia-lidc-xml/157"}, ("nodule", 16)),
        ({"place": "LIDC-IDRI-0001"}, ("nodule", 16)),
        ({"text": xml(root="LidcReadMessage")}, ("nodule", 16)),
        ({"text": xml(series=" 1.2.3\n")}, ("nodule", 16)),
        ({"text": xml(series="")}, ("nodule", 16)),
        ({"text": b"\xef\xbb\xbf" + xml().encode()}, ("nodule", 16)),
        ({"text": xml([(0, -1), (8, -1), (8, 8), (0, 8)])}, ("nodule", 56)),
        ({"text": xml([(3, 3)])}, ("no_nodule", 0)),
        ({"text": xml(series="9.9")}, ("other", None)),
        ({"name": "000001.DCM"}, ("nodule", 16)),
    ],
)
def test_outlines_are_found_wherever_and_however_they_are_written(tmp_path, changes, expected):
    lidc(tmp_path, **changes)
    assert nodule(tmp_path) == expected


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (xml([(1.5, 1), (1, 6), (6, 6)]), r"point \(1\.5, 1\) is not a pixel"),
        (xml([(1, 1), (1, 99999999999), (6, 6)]), r"point \(1, 99999999999\) is not a pixel"),
        (xml([(1, 1), (1, 20), (6, 6)]), "an outline leaves the image 1-01.dcm"),
        (xml().replace("UTF-8", "UTF-16"), "encoding specified in XML declaration"),
        (xml(root="IdriReadMessage"), "not the outlines of a CT"),
    ],
)
def test_outlines_that_cannot_be_right_are_named(tmp_path, text, cause):
    lidc(tmp_path, text)
    save_png(tmp_path / "nih-adult/No_findings/1_0.png", 0)
    problems = readers.read_all(tmp_path).problems
    assert problems["remedy"].str.contains(cause).any(), problems["remedy"].tolist()


def test_copies_of_a_patient_or_of_its_outlines_count_once(tmp_path):
    folder = lidc(tmp_path)
    shutil.copytree(folder / "LIDC-IDRI-0001", folder / "copy")
    (folder / "copy/study/series/069.xml").write_text(xml([(1, 1), (1, 3), (3, 3)]))
    assert nodule(tmp_path) == ("nodule", 16)
    assert kinds(readers.read("lidc-idri", tmp_path)) == [
        ("repeated", "069.xml"),
        ("repeated", "series"),
    ]


def test_outlines_of_other_slices_are_noted(tmp_path):
    lidc(tmp_path, xml().replace("1.2.3.1", "7.7"))
    assert nodule(tmp_path) == ("no_nodule", 0)
    assert kinds(readers.read("lidc-idri", tmp_path)) == [("missing", "069.xml")]


def test_linked_folders_are_followed_without_x_rays_and_links_to_nothing_named(tmp_path):
    store = lidc(tmp_path / "store")
    (tmp_path / "lidc-idri").symlink_to(store)
    save_dicom(store / "x" / "1-001.dcm", np.zeros((4, 4)), uid="2.1", Modality="DX")
    assert nodule(tmp_path) == ("nodule", 16)
    assert kinds(readers.read("lidc-idri", tmp_path)) == [("not CT", "x")]
    shutil.rmtree(store)
    with pytest.raises(DataError, match="its folder is a broken link, fetch what"):
        readers.read_all(tmp_path)


# Endings and what is no file


def test_a_wrong_ending_is_named_first(tmp_path):
    lidc(tmp_path, name="I10")
    with pytest.raises(DataError, match=r"first: I10: an image whose name .* in \.dcm; rename it"):
        readers.read("lidc-idri", tmp_path)
    folder = save_metadata(tmp_path, {"filename": "a.png"}, {"filename": "b.jpe"})
    save_png(folder / "images/a.png", 0)
    shutil.copy(folder / "images/a.png", folder / "images/b.jpe")
    (folder / "images/notes.txt").touch()
    reading = readers.read(COHEN, tmp_path)
    assert kinds(reading) == [("missing", "b.jpe"), ("wrong ending", "b.jpe")]
    assert "The file is there, but its ending" in reading.problems["remedy"].str.cat()


def test_a_volume_that_a_browser_unpacked_is_named(tmp_path):
    folder = tmp_path / "medseg"
    folder.mkdir()
    (folder / "tr_im.nii").touch()
    with pytest.raises(DataError, match=r"gz: no such file; unpack the whole data set"):
        readers.read("medseg", tmp_path)


def test_pipes_are_not_waited_for(tmp_path):
    save_png(tmp_path / "nih-adult/No_findings/1_0.png", 0)
    os.mkfifo(tmp_path / "nih-adult/No_findings/2_0.png")
    (remedy,) = readers.read("nih-adult", tmp_path).problems["remedy"]
    assert "2_0.png: a folder or device, not a file; move it away" in remedy


# Tables


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2,1,2,3,4,5\n", "more cells than its"),
        ("seriesuid,coordX\nü,1\n".encode("latin1"), r"; save it as UTF-8\."),
        (b"seriesuid;coordX;coordY\n", r"are missing, the file has \['seriesuid;coordX;coordY'\]"),
    ],
)
def test_tables_as_other_programs_write_them_are_named(tmp_path, content, cause):
    save_luna(tmp_path)
    (tmp_path / "luna16/annotations.csv").write_bytes(content)
    with pytest.raises(DataError, match=cause):
        readers.read("luna16", tmp_path)


# The phantom, damaged: a file costs itself, a table its set


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
NIFTI = r"not a complete NIfTI file \(.*\); download this"
NODULE = "seriesuid,coordX,coordY,coordZ,diameter_mm\n1,left,0,0,5\n"


@pytest.mark.parametrize(
    ("folder", "name", "content", "problem"),
    [
        ("rsna", IMAGES, None, "missing: .*unpack it again"),
        ("rsna", IMAGES, 0.95, r"unreadable: .*not a complete DICOM"),
        ("rsna", CLASSES, "patientId,class\n", "unlabelled: .*has no line for it"),
        ("lidc-idri", "*/*.xml", None, "missing: No XML file of the readers' outlines"),
        ("lidc-idri", "*/*.xml", "<edge", "unreadable: .*not a complete XML file"),
        ("luna16", "*.mhd", None, "missing: This scan has nodules but is not on disk"),
        ("luna16", "*.raw", 0.5, r"unreadable: .*\.raw: has \d+ bytes, but by .*must have"),
        (COHEN, "images/*", None, "missing: The image is not on disk; download it"),
        (COHEN, "images/*", 0.1, r"unreadable: .*not a complete image"),
        (COHEN, "images/*", "a page", r"unreadable: .*none of PNG, .*whatever its name says"),
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
        ("medseg", "tr_im.nii.gz", None, "no such file; unpack the whole data set"),
        ("medseg", "tr_im.nii.gz", "", "an empty file; download"),
        ("medseg", "tr_mask.nii.gz", 0.1, NIFTI),
        ("medseg", "slices.csv", "slice,labels,infnet_subset\n0,good,val\n", "must have one line"),
        ("luna16", "annotations.csv", NODULE, ".*left"),
        ("rsna", CLASSES, "patientId,class\na,Flu\n", "class 'Flu' is not known"),
        ("rsna", CLASSES, "patientId,class\na,Normal\na,Lung Opacity\n", "patient a has two"),
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
