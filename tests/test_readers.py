"""Every reader on a small layout made on the spot."""

from types import SimpleNamespace

import nibabel
import numpy as np
import pandas as pd
import pytest
import SimpleITK
from builders import ct_slices, save_dicom, save_png

from covid_utils.data import readers
from covid_utils.data.manifest import frontal_xrays
from covid_utils.data.readers import covid_chestxray, medseg
from covid_utils.data.readers.lidc import Outline, consensus_mask
from covid_utils.errors import DataError


def kinds(reading):
    """Problems and the names of their files, sorted."""
    names = reading.problems["path"].str.split("/").str[-1]
    return sorted(zip(reading.problems["problem"], names, strict=True))


def column(reading, name):
    """Values of a column, without the folders of paths and patients."""
    return [str(value).split("/")[-1] for value in reading.rows[name]]


def save_volume(path, voxels):
    path.parent.mkdir(exist_ok=True)
    nibabel.Nifti1Image(voxels, np.eye(4)).to_filename(path)


# covid-chestxray-dataset

COHEN = "covid-chestxray-dataset"


def save_metadata(root, *rows):
    folder = root / COHEN
    folder.mkdir(exist_ok=True)
    row = {"patientid": "1", "finding": "COVID-19", "view": "PA", "modality": "X-ray"}
    row |= {"folder": "images", "license": ""}
    pd.DataFrame([row | other for other in rows]).to_csv(folder / "metadata.csv", index=False)
    return folder


@pytest.mark.parametrize(
    ("label", "findings"),
    {
        "covid": ["COVID-19", "COVID-19, ARDS", "Pneumonia/Viral/COVID-19"],
        "normal": ["No Finding"],
        "viral": ["SARS", "Pneumonia/Viral/Influenza/H1N1", "Pneumonia/Viral/MERS-CoV"],
        "bacterial": ["E.Coli", "Mycoplasma Bacterial Pneumonia", "Bacterial/Streptococcus"],
        "pneumonia": ["Pneumonia"],
        "other": ["Pneumonia/Fungal/Pneumocystis", "ARDS", "todo", ""],
    }.items(),
)
def test_findings_flat_and_hierarchical(label, findings):
    assert {covid_chestxray.label_of(finding) for finding in findings} == {label}


def test_covid_chestxray(tmp_path):
    folder = save_metadata(
        tmp_path,
        {"filename": "a.png", "view": "?", "license": "CC BY 4.0"},
        {"filename": "b.png", "view": "AP erect", "modality": "CT", "patientid": ""},
        {"filename": "absent.png"},
        {"filename": "m.png", "modality": "MR"},
        {"filename": "v.nii.gz", "modality": "CT", "folder": "volumes"},
    )
    for name in ("a.png", "b.png", "m.png", "stray.png"):
        save_png(folder / "images" / name, 0)
    save_volume(folder / "volumes" / "v.nii.gz", np.zeros((4, 6, 5), np.int16))
    reading = readers.read(COHEN, tmp_path)
    assert reading.rows["path"].tolist() == [f"{COHEN}/images/{name}.png" for name in "ab"]
    assert column(reading, "view") == ["other", "AP"]
    assert column(reading, "modality") == ["X-ray", "CT"]
    assert column(reading, "licence") == ["CC BY 4.0", "unknown"]
    assert column(reading, "patient_id") == ["1", "row-1"]
    noted = [("missing", "absent.png"), ("not used", "v.nii.gz"), ("unknown modality", "m.png")]
    noted += [("unknown view", "a.png"), ("unreferenced", "stray.png")]
    assert kinds(reading) == noted
    assert frontal_xrays(reading.rows).empty


def test_patients_that_share_a_file_are_one(tmp_path):
    pairs = ("1a", "2a", "2b", "3b", "4c")
    rows = [{"patientid": patient, "filename": f"{name}.png"} for patient, name in pairs]
    folder = save_metadata(tmp_path, *rows)
    for name in "abc":
        save_png(folder / "images" / f"{name}.png", 0)
    reading = readers.read(COHEN, tmp_path)
    assert column(reading, "image_id") == ["a.png", "a.png@2", "b.png", "b.png@2", "c.png"]
    assert column(reading, "patient_id") == ["1", "1", "1", "1", "4"]
    assert [problem for problem, _ in kinds(reading)] == ["repeated", "repeated"]


# Sets whose folders and file names tell everything


@pytest.mark.parametrize(
    ("folder", "expected"),
    {
        "chest_xray": {
            "test/NORMAL/NORMAL2-IM-0131-0001-0002.jpeg": "normal normal131 given",
            "test/PNEUMONIA/person7_bacteria_2.jpeg": "bacterial person7 given",
            "train/NORMAL/IM-0131-0001.jpeg": "normal normal131 given",
            "train/PNEUMONIA/person7_virus_1.jpeg": "viral person7 given",
            "train/NORMAL/NORMAL-1001-0001.jpeg": "normal normal-1001 given",
            "train/PNEUMONIA/BACTERIA-1001-0002.jpeg": "bacterial bacteria-1001 given",
            "train/PNEUMONIA/VIRUS-1002-0001.jpeg": "viral virus-1002 given",
            "val/PNEUMONIA/lung.jpeg": "pneumonia lung.jpeg none",
        },
        "nih-adult": {
            "No_findings/0001_000.jpg": "normal 0001 given",
            "Pneumonia/0001_001.jpg": "pneumonia 0001 given",
        },
        "COVID-CT": {
            "CT_COVID/2020.02.25.20021568-p23-108%7.png": "covid 2020.02.25.20021568 figure",
            "CT_COVID/2020.03.12.20034686-p17-91-1.png": "covid 2020.03.12.20034686 figure",
            "CT_COVID/PIIS0140673620301549_0%1.png": "covid PIIS0140673620301549 figure",
            "CT_COVID/kjr-21-e24-p5-31.png": "covid kjr-21-e24 figure",
            "CT_NonCOVID/18%1.jpg": "non_covid 18 figure",
            "CT_NonCOVID/18.png": "non_covid 18.png figure",
        },
    }.items(),
)
def test_label_and_patient_from_folders_and_names(tmp_path, folder, expected):
    for name in expected:
        save_png(tmp_path / folder / name, 0)
    (tmp_path / folder / name).with_name("._hidden.png").write_bytes(b"no image")
    reading = readers.read(folder.lower(), tmp_path)
    columns = (column(reading, name) for name in ("label", "patient_id", "patient_basis"))
    names = reading.rows["path"].str.removeprefix(f"{folder}/")
    assert dict(zip(names, map(" ".join, zip(*columns, strict=True)), strict=True)) == expected
    unknown = [("unknown name", "lung.jpeg")] if folder == "chest_xray" else []
    assert kinds(reading) == unknown


# Nodules


def square(reader, low, high, inside=True):
    """Outline of the pixels from low + 1 to high - 1, as an LIDC reader draws it: just outside."""
    corners = [(low, low), (high, low), (high, high), (low, high)]
    return Outline(reader, inside, np.array(corners, np.int32))


def test_lidc_consensus_of_half_the_readers():
    outlines = [square(0, 2, 8), square(1, 4, 10), square(2, 4, 10), square(3, 14, 18)]
    outlines.append(square(2, 6, 8, inside=False))
    expected = np.zeros((20, 24), np.uint8)
    # Four drew here, so two votes are needed. The second and third agree on columns and rows 5 to
    # 9 but for the third's hole (6 to 8); the first and second agree on 5 to 7. The square that
    # only the fourth drew is out.
    expected[5:10, 5:10] = 1
    expected[6:9, 6:9] = 0
    expected[6:8, 6:8] = 1
    assert np.array_equal(consensus_mask(outlines, (20, 24)), expected)
    assert not consensus_mask([], (20, 24)).any()


def save_luna(root, direction=(1, 1, 1)):
    folder = root / "luna16" / "subset0"
    folder.mkdir(parents=True)
    voxels = np.full((12, 20, 30), -1000, np.int16)  # slices, rows, columns
    voxels[6, 8, 11] = 150
    scan = SimpleITK.GetImageFromArray(voxels)
    scan.SetSpacing((0.5, 0.5, 2.0))
    scan.SetOrigin((-10.0, 5.0, 100.0))
    scan.SetDirection(np.diag(direction).astype(float).ravel())
    SimpleITK.WriteImage(scan, str(folder / "1.2.mhd"))
    x, y, z = scan.TransformIndexToPhysicalPoint((11, 8, 6))
    (root / "luna16" / "annotations.csv").write_text(
        f"seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2,{x},{y},{z},5\n9.9,0,0,0,4\n"
    )


def test_luna_takes_touched_slices_and_as_many_others(tmp_path):
    save_luna(tmp_path)
    masks = tmp_path / "luna16" / "seg-lungs-LUNA16"
    masks.mkdir()
    (masks / "1.2.mhd").write_text("the lungs of the same series")
    reading = readers.read("luna16", tmp_path)
    frames = reading.rows.groupby("label")["frame"].agg(list).to_dict()
    assert frames == {"nodule": [5, 6, 7], "no_nodule": [0, 4, 11]}
    assert kinds(reading) == [("missing", "9.9.mhd")]
    assert set(reading.rows["patient_id"]) == {"luna16/1.2"}
    folder = tmp_path / "lidc-idri" / "p"
    for name in ("1-001.dcm", "1-002.dcm"):
        save_dicom(folder / name, np.zeros((4, 4)), PatientID="P-7", SeriesInstanceUID="1.2")
    (folder / "1-001.dcm").write_bytes(b"damaged")
    assert set(readers.read("luna16", tmp_path).rows["patient_id"]) == {"lidc-idri/P-7"}


@pytest.mark.parametrize("direction", [(1, 1, 1), (-1, -1, 1), (-1, 1, 1)])
def test_luna_sphere_lies_on_the_nodule_however_stored(tmp_path, direction):
    save_luna(tmp_path, direction)
    rows = readers.read("luna16", tmp_path).rows.set_index("frame", drop=False)
    image, mask = (load(tmp_path, rows.loc[6]) for load in (readers.load_image, readers.load_mask))
    assert mask.shape == image.shape == (20, 30)
    centre = np.unravel_index(image.argmax(), image.shape)
    assert centre == (19 - 8 if direction[1] < 0 else 8, 29 - 11 if direction[0] < 0 else 11)
    assert np.argwhere(mask).mean(axis=0).tolist() == list(centre)
    assert mask[centre[0]].sum() == 11  # 5 mm at 0.5 mm a pixel, the centre and 5 on each side
    assert 0 < readers.load_mask(tmp_path, rows.loc[5]).sum() < mask.sum()
    assert not readers.load_mask(tmp_path, rows.loc[0]).any()


# medseg


def test_medseg_with_notes_and_without(tmp_path):
    folder = ct_slices(tmp_path, slices=3) / "medseg"
    reading = readers.read("medseg", tmp_path)
    assert column(reading, "image_id") == [f"tr_im.nii.gz#00{k}" for k in range(3)]
    assert set(reading.rows["label_quality"]) == {"exact"}
    assert set(reading.rows["patient_basis"]) == {"none"}
    assert reading.rows["patient_id"].is_unique
    assert medseg.infnet_subset(tmp_path) == {}
    for load, name in ((readers.load_image, "tr_im"), (readers.load_mask, "tr_mask")):
        voxels = np.asarray(nibabel.load(folder / f"{name}.nii.gz").dataobj)
        for row in reading.rows.itertuples():
            assert np.array_equal(load(tmp_path, row), voxels[:, :, row.frame].T)
    notes = "slice,labels,infnet_subset,patient\n1,weak,test,P1\n0,exact,train,P1\n2,weak,,P1\n"
    (folder / "slices.csv").write_text(notes)
    reading = readers.read("medseg", tmp_path)
    assert column(reading, "label_quality") == ["exact", "weak", "weak"]
    assert set(reading.rows["patient_id"]) == {"medseg/P1"}
    assert set(reading.rows["patient_basis"]) == {"given"}
    subsets = dict(zip(reading.rows["image_id"], ("train", "test", ""), strict=True))
    assert medseg.infnet_subset(tmp_path) == subsets


@pytest.mark.parametrize(
    ("shape", "direction", "message"),
    [
        ((16, 16, 2), 1, "its voxels, .* do not lie on those"),
        ((16, 15, 3), 1, "its voxels, .* do not lie on those"),
        ((16, 16, 3, 2), 1, "4 axes do not make a scan"),
        ((16, 16, 3), -1, "its voxels, .* do not lie on those"),
    ],
)
def test_medseg_masks_that_do_not_lie_on_their_images_are_named(
    tmp_path, shape, direction, message
):
    folder = ct_slices(tmp_path, slices=3) / "medseg"
    mask = nibabel.Nifti1Image(np.zeros(shape, np.uint8), np.diag([direction, 1.0, 1, 1]))
    nibabel.save(mask, folder / "tr_mask.nii.gz")
    with pytest.raises(DataError, match=rf"tr_mask\.nii\.gz: {message}"):
        readers.read("medseg", tmp_path)


@pytest.mark.parametrize("label", [np.uint8(4), np.int16(256), np.int16(-1), np.float32(0.5)])
def test_strange_labels_are_named(tmp_path, label):
    masks = np.zeros((16, 16, 3), label.dtype)
    masks[1, 1, 2] = label
    save_volume(ct_slices(tmp_path, slices=3) / "medseg" / "tr_mask.nii.gz", masks)
    rows = readers.read("medseg", tmp_path).rows
    assert not readers.load_mask(tmp_path, rows.iloc[0]).any()
    with pytest.raises(DataError, match=rf"tr_mask\.nii\.gz: labels \[{label}.*only 0 to 3"):
        readers.load_mask(tmp_path, rows.iloc[2])


def test_masks_that_do_not_fit_or_are_not_there_are_named(tmp_path):
    row = readers.read("medseg", ct_slices(tmp_path)).rows.iloc[0].copy()
    row["height"] = 99
    with pytest.raises(DataError, match=r"tr_mask\.nii\.gz: mask of \(16, 16\), not \(99, 16\)"):
        readers.load_mask(tmp_path, row)
    row = SimpleNamespace(dataset="nih-adult", path="1_0.jpg", mask_path="")
    with pytest.raises(DataError, match=r"1_0\.jpg: has no mask"):
        readers.load_mask(tmp_path, row)
