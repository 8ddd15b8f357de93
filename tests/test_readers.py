"""Every reader on a small layout made on the spot, and on damaged ones."""

from types import SimpleNamespace

import nibabel
import numpy as np
import pandas as pd
import pytest
import SimpleITK
from builders import save_dicom, save_png

from covid_utils.data import readers
from covid_utils.data.readers import covid_chestxray, covid_ct, medseg
from covid_utils.errors import DataError

RNG = np.random.default_rng(7)


def cut(path, share=0.5):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])


def kinds(reading):
    """Problems and the names of their files, sorted."""
    names = reading.problems["path"].str.split("/").str[-1]
    return sorted(zip(reading.problems["problem"], names, strict=True))


def column(reading, name):
    """Values of a column, without the folders of paths and patients."""
    return [str(value).split("/")[-1] for value in reading.rows[name]]


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
    )
    for name in ("a.png", "b.png", "m.png", "stray.png"):
        save_png(folder / "images" / name, 0)
    reading = readers.read(COHEN, tmp_path)
    assert reading.rows["path"].tolist() == [f"{COHEN}/images/{name}.png" for name in "ab"]
    assert column(reading, "view") == ["unknown", "AP"]
    assert column(reading, "modality") == ["X-ray", "CT"]
    assert column(reading, "licence") == ["CC BY 4.0", "unknown"]
    assert column(reading, "patient_id") == ["1", "row-1"]
    assert kinds(reading) == [
        ("missing", "absent.png"),
        ("unknown modality", "m.png"),
        ("unreferenced", "stray.png"),
    ]


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


def test_a_volume_gives_its_middle_slice_upright_and_a_damaged_one_a_problem(tmp_path):
    about = {"folder": "volumes", "modality": "CT", "view": ""}
    volumes = [{"filename": name} | about for name in ("v.nii.gz", "rgb.nii", "cut.nii")]
    folder = save_metadata(tmp_path, *volumes) / "volumes"
    voxels = np.full((4, 6, 5), -1000, np.int16)
    voxels[:, 5, 2] = 200  # the front, where the second axis runs from back to front
    voxels[0, :, 2] = 100  # the patient's left, where the first axis runs from left to right
    save_volume(folder / "v.nii.gz", voxels)
    save_volume(folder / "rgb.nii", np.zeros((4, 6, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")]))
    (folder / "cut.nii").write_bytes((folder / "rgb.nii").read_bytes()[:300])
    reading = readers.read(COHEN, tmp_path)
    (row,) = reading.rows.itertuples()
    assert (row.frame, row.view, row.width, row.height) == (2, "Axial", 4, 6)
    image = readers.load_image(tmp_path, row)
    assert (image[0, :3] == 255).all()
    assert (image[1:, -1] > image[1:, 0]).all()
    assert kinds(reading) == [("unreadable", "cut.nii"), ("unreadable", "rgb.nii")]


# chest_xray, nih-adult, covid-ct


def test_chest_xray(tmp_path):
    names = {
        "test/NORMAL/NORMAL2-IM-0131-0001-0002.jpeg": ("normal", "normal131"),
        "test/PNEUMONIA/person7_bacteria_2.jpeg": ("bacterial", "person7"),
        "train/NORMAL/IM-0131-0001.jpeg": ("normal", "normal131"),
        "train/PNEUMONIA/person7_virus_1.jpeg": ("viral", "person7"),
        "val/PNEUMONIA/lung.jpeg": ("pneumonia", "lung.jpeg"),
    }
    for name in names:
        save_png(tmp_path / "chest_xray" / name, 0)
    (tmp_path / "chest_xray/train/NORMAL/._IM-0131-0001.jpeg").write_bytes(b"no image")
    reading = readers.read("chest_xray", tmp_path)
    assert reading.rows["path"].tolist() == [f"chest_xray/{name}" for name in names]
    pairs = zip(column(reading, "label"), column(reading, "patient_id"), strict=True)
    assert list(pairs) == list(names.values())
    assert column(reading, "patient_basis") == ["given"] * 4 + ["none"]
    assert reading.problems.empty


def test_nih_adult(tmp_path):
    for name in ("No_findings/0001_000.jpg", "No_findings/0001_004.jpg", "Pneumonia/0002_001.jpg"):
        save_png(tmp_path / "nih-adult" / name, 0)
    reading = readers.read("nih-adult", tmp_path)
    assert column(reading, "label") == ["normal", "normal", "pneumonia"]
    assert column(reading, "patient_id") == ["0001", "0001", "0002"]


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("2020.02.25.20021568-p23-108%7.png", "2020.02.25.20021568"),
        ("2020.03.12.20034686-p17-91-1.png", "2020.03.12.20034686"),
        ("2020.03.01.20029769-p21-73_2%1.png", "2020.03.01.20029769"),
        ("PIIS0140673620301549_0%1.png", "PIIS0140673620301549"),
        ("PIIS0140673620303603%8.png", "PIIS0140673620303603"),
        ("Ni2020_Article_Western-p3-10%0.png", "Ni2020_Article_Western"),
        ("kjr-21-e24-p5-31.png", "kjr-21-e24"),
    ],
)
def test_paper_of_a_covid_slice(name, group):
    assert covid_ct.paper(name) == group


def test_covid_ct_with_spaces_and_percent_signs(tmp_path):
    groups = {"a paper-p2-21%1.png": "a paper", "18%1.jpg": "18", "18%2.jpg": "18"}
    groups["18.png"] = "18.png"
    for name in groups:
        folder = "CT_COVID" if name.startswith("a") else "CT_NonCOVID"
        save_png(tmp_path / "COVID-CT" / folder / name, 0)
    reading = readers.read("covid-ct", tmp_path)
    pairs = zip(column(reading, "path"), column(reading, "patient_id"), strict=True)
    assert dict(pairs) == groups
    assert column(reading, "label") == ["covid", "non_covid", "non_covid", "non_covid"]
    assert set(reading.rows["modality"]) == {"CT"}


# DICOM: rsna, lidc-idri

CLASSES = "stage_2_detailed_class_info.csv"


def save_rsna(root):
    folder = root / "rsna"
    for patient, view in (("a", "PA"), ("b", "AP"), ("c", ""), ("stray", "PA")):
        path = folder / "stage_2_train_images" / f"{patient}.dcm"
        save_dicom(path, RNG.integers(0, 255, (6, 5)), Modality="CR", ViewPosition=view)
    (folder / CLASSES).write_text(
        "patientId,class\na,Normal\nb,Lung Opacity\nb,Lung Opacity\n"
        "c,No Lung Opacity / Not Normal\ngone,Normal\n"
    )
    return folder


def test_rsna(tmp_path):
    folder = save_rsna(tmp_path)
    reading = readers.read("rsna", tmp_path)
    assert column(reading, "label") == ["normal", "pneumonia", "other"]
    assert column(reading, "view") == ["PA", "AP", "unknown"]
    assert column(reading, "patient_id") == ["a", "b", "c"]
    assert kinds(reading) == [("missing", "gone.dcm"), ("unlabelled", "stray.dcm")]
    cut(folder / "stage_2_train_images" / "a.dcm", 0.1)
    cut(folder / "stage_2_train_images" / "b.dcm", 0.95)
    reading = readers.read("rsna", tmp_path)
    assert column(reading, "patient_id") == ["c"]
    assert kinds(reading)[2:] == [("unreadable", "a.dcm"), ("unreadable", "b.dcm")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("patient,class\na,Flu\n", r"the columns \['patientId'\] are missing"),
        ("patientId,class\na,Flu\n", r"not a whole table of classes \('Flu'\)"),
        ("patientId,class\na,Normal\na,Lung Opacity\n", r"duplicate keys: .*'a'"),
    ],
)
def test_rsna_wrong_tables_are_named(tmp_path, content, message):
    (save_rsna(tmp_path) / CLASSES).write_text(content)
    with pytest.raises(DataError, match=rf"class_info\.csv: .*{message}"):
        readers.read("rsna", tmp_path)


def points(*pairs):
    return "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in pairs)


def square(low, high):
    """Outline of the pixels from low + 1 to high - 1, as an LIDC reader draws it: just outside."""
    return points((low, low), (high, low), (high, high), (low, high))


def roi(uid, edges, inside="TRUE"):
    return f"<roi><imageSOP_UID>{uid}</imageSOP_UID><inclusion>{inside}</inclusion>{edges}</roi>"


def save_lidc(root, sessions, series="1.9"):
    folder = root / "lidc-idri" / "LIDC-IDRI-0001" / "series"
    tags = {"Modality": "CT", "PatientID": "LIDC-IDRI-0001", "SeriesInstanceUID": "1.9"}
    for number in (1, 2):
        save_dicom(folder / f"1-00{number}.dcm", np.zeros((20, 24)), f"1.9.{number}", **tags)
    body = "".join(
        f"<readingSession><unblindedReadNodule>{rois}</unblindedReadNodule></readingSession>"
        for rois in sessions
    )
    header = f"<ResponseHeader><SeriesInstanceUid>{series}</SeriesInstanceUid></ResponseHeader>"
    message = f'<LidcReadMessage xmlns="http://www.nih.gov">{header}{body}</LidcReadMessage>'
    (folder / "069.xml").write_text(message)
    return folder


def test_lidc_consensus_of_half_the_readers(tmp_path):
    sessions = [
        roi("1.9.1", square(2, 8)),
        roi("1.9.1", square(4, 10)),
        roi("1.9.1", square(4, 10)) + roi("1.9.1", square(6, 8), "FALSE"),
        roi("1.9.1", square(14, 18)),
        roi("1.9.2", points((3, 3))),
    ]
    save_lidc(tmp_path, sessions)
    reading = readers.read("lidc-idri", tmp_path)
    assert column(reading, "label") == ["nodule", "no_nodule"]
    assert set(reading.rows["patient_id"]) == {"lidc-idri/LIDC-IDRI-0001"}
    expected = np.zeros((20, 24), np.uint8)
    # Four drew here, so two votes are needed. The second and third agree on columns and rows 5 to
    # 9 but for the third's hole (6 to 8); the first and second agree on 5 to 7. The square that
    # only the fourth drew is out.
    expected[5:10, 5:10] = 1
    expected[6:9, 6:9] = 0
    expected[6:8, 6:8] = 1
    masks = [readers.load_mask(tmp_path, row) for row in reading.rows.itertuples()]
    assert np.array_equal(masks[0], expected)
    assert not masks[1].any()


def test_lidc_xml_of_another_series_gives_no_mask(tmp_path):
    save_lidc(tmp_path, [roi("1.9.1", square(2, 6))], series="5.5")
    reading = readers.read("lidc-idri", tmp_path)
    assert column(reading, "label") == ["other", "other"]
    assert column(reading, "mask_path") == ["", ""]
    assert kinds(reading) == [("missing", "series")]


@pytest.mark.parametrize("edges", [points((1.5, 1), (4, 4)), points((1, 10**11), (6, 6)), "<edge"])
def test_lidc_damaged_files_are_problems(tmp_path, edges):
    folder = save_lidc(tmp_path, [roi("1.9.1", edges)])
    cut(folder / "1-002.dcm", 0.95)
    reading = readers.read("lidc-idri", tmp_path)
    assert column(reading, "label") == ["other"]
    noted = [("missing", "series"), ("unreadable", "069.xml"), ("unreadable", "1-002.dcm")]
    assert kinds(reading) == noted


def test_lidc_leaves_x_rays_out_and_follows_links(tmp_path):
    folder = save_lidc(tmp_path, [roi("1.9.1", square(2, 6))])
    save_dicom(folder.parent / "x" / "1-001.dcm", np.zeros((4, 4)), uid="2.1", Modality="DX")
    folder.rename(tmp_path / "store")
    folder.symlink_to(tmp_path / "store")
    reading = readers.read("lidc-idri", tmp_path)
    assert column(reading, "label") == ["nodule", "no_nodule"]
    assert kinds(reading) == [("not CT", "x")]


# luna16


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
    return folder


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


def test_luna_scan_that_lidc_also_holds_has_that_patient(tmp_path):
    save_luna(tmp_path)
    folder = tmp_path / "lidc-idri" / "p"
    for name in ("1-001.dcm", "1-002.dcm"):
        save_dicom(folder / name, np.zeros((4, 4)), PatientID="P-7", SeriesInstanceUID="1.2")
    cut(folder / "1-001.dcm", 0.2)
    assert set(readers.read("luna16", tmp_path).rows["patient_id"]) == {"lidc-idri/P-7"}


def test_luna_damaged_scans_are_problems_and_positions_must_be_numbers(tmp_path):
    folder = save_luna(tmp_path)
    (folder / "9.9.mhd").write_text("no header")
    cut(folder / "1.2.raw", 0.5)
    reading = readers.read("luna16", tmp_path)
    assert set(reading.rows["frame"]) == {0, 4, 5}
    assert kinds(reading) == [("unreadable", "1.2.mhd")] * 3 + [("unreadable", "9.9.mhd")]
    assert reading.problems["remedy"].str.contains("at slice 11, with its .raw file").any()
    path = tmp_path / "luna16" / "annotations.csv"
    path.write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2,left,0,0,5\n")
    with pytest.raises(DataError, match=r"annotations\.csv: .*left"):
        readers.read("luna16", tmp_path)


# medseg


def save_volume(path, voxels):
    path.parent.mkdir(exist_ok=True)
    nibabel.Nifti1Image(voxels, np.eye(4)).to_filename(path)


def save_medseg(root, masks=None):
    images = RNG.integers(0, 256, (10, 8, 3), dtype=np.uint8)
    if masks is None:
        masks = np.zeros(images.shape, np.uint8)
        masks[6, 2, 1], masks[6, 3, 1], masks[7, 2, 1] = 1, 2, 3
    save_volume(root / "medseg" / "tr_im.nii.gz", images)
    save_volume(root / "medseg" / "tr_mask.nii.gz", masks)
    return images, masks


def save_slices(root, *values):
    lines = [f"{number},{value},P1" for number, value in enumerate(values)]
    text = "\n".join(["slice,labels,infnet_subset,patient", *lines]) + "\n"
    (root / "medseg" / "slices.csv").write_text(text)


def test_medseg_without_notes(tmp_path):
    images, masks = save_medseg(tmp_path)
    reading = readers.read("medseg", tmp_path)
    assert column(reading, "image_id") == [f"tr_im.nii.gz#00{k}" for k in range(3)]
    assert set(reading.rows["label_quality"]) == {"exact"}
    assert set(reading.rows["patient_basis"]) == {"none"}
    assert reading.rows["patient_id"].is_unique
    assert medseg.infnet_subset(tmp_path) == {}
    for row in reading.rows.itertuples():
        assert np.array_equal(readers.load_image(tmp_path, row), images[:, :, row.frame].T)
        assert np.array_equal(readers.load_mask(tmp_path, row), masks[:, :, row.frame].T)
    # A file that was replaced is decoded again.
    images, _ = save_medseg(tmp_path)
    assert np.array_equal(readers.load_image(tmp_path, reading.rows.iloc[0]), images[:, :, 0].T)


def test_medseg_with_notes(tmp_path):
    save_medseg(tmp_path)
    save_slices(tmp_path, "exact,train", "weak,test", "weak,")
    reading = readers.read("medseg", tmp_path)
    assert column(reading, "label_quality") == ["exact", "weak", "weak"]
    assert set(reading.rows["patient_id"]) == {"medseg/P1"}
    assert set(reading.rows["patient_basis"]) == {"given"}
    subsets = dict(zip(reading.rows["image_id"], ("train", "test", ""), strict=True))
    assert medseg.infnet_subset(tmp_path) == subsets


def test_medseg_hounsfield_goes_through_the_lung_window(tmp_path):
    save_medseg(tmp_path)
    voxels = np.full((10, 8, 3), -600, np.float32)
    voxels[0], voxels[1] = -1350, 400
    save_volume(tmp_path / "medseg" / "tr_im.nii.gz", voxels)
    row = next(readers.read("medseg", tmp_path).rows.itertuples())
    assert readers.load_image(tmp_path, row)[0, :3].tolist() == [0, 255, 128]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((10, 8, 2), "masks of .* do not fit the images"),
        ((8, 10, 3), "masks of .* do not fit the images"),
        ((10, 8, 3, 2), "4 axes are no scan"),
    ],
)
def test_medseg_masks_of_another_shape_are_named(tmp_path, shape, message):
    save_medseg(tmp_path, masks=np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match=rf"tr_mask\.nii\.gz: {message}"):
        readers.read("medseg", tmp_path)


@pytest.mark.parametrize("name", ["tr_im.nii.gz", "tr_mask.nii.gz"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.7, None])
def test_medseg_damaged_volume_is_named(tmp_path, name, share):
    save_medseg(tmp_path)
    path = tmp_path / "medseg" / name
    path.unlink() if share is None else cut(path, share)
    message = "no such file" if share is None else r"not a whole NIfTI file \(.*\); download this"
    with pytest.raises(DataError, match=rf"{name}: {message}"):
        readers.read("medseg", tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        ["exact,train"],
        ["good,train", "weak,test", "weak,"],
        ["exact,val", "weak,test", "weak,"],
    ],
)
def test_medseg_notes_that_do_not_fit_are_named(tmp_path, values):
    save_medseg(tmp_path)
    save_slices(tmp_path, *values)
    with pytest.raises(DataError, match=r"slices\.csv: .* 0 to 2, with labels exact or weak and"):
        readers.read("medseg", tmp_path)


@pytest.mark.parametrize(
    ("label", "dtype"), [(4, np.uint8), (256, np.int16), (-1, np.int16), (0.5, np.float32)]
)
def test_strange_labels_are_named(tmp_path, label, dtype):
    masks = np.zeros((10, 8, 3), dtype)
    masks[1, 1, 2] = label
    save_medseg(tmp_path, masks=masks)
    rows = readers.read("medseg", tmp_path).rows
    assert not readers.load_mask(tmp_path, rows.iloc[0]).any()
    with pytest.raises(DataError, match=rf"tr_mask\.nii\.gz: labels \[{label}.*only 0 to 3"):
        readers.load_mask(tmp_path, rows.iloc[2])


# The one door


@pytest.mark.parametrize("dataset", ["medseg", "luna16", COHEN])
def test_file_of_a_slice_that_is_not_there_is_named(tmp_path, dataset):
    save_medseg(tmp_path)
    save_luna(tmp_path)
    folder = save_metadata(tmp_path, {"filename": "v.nii", "folder": "volumes", "modality": "CT"})
    save_volume(folder / "volumes" / "v.nii", np.zeros((4, 6, 5), np.int16))
    row = readers.read(dataset, tmp_path).rows.iloc[0].copy()
    row["frame"] = 99
    with pytest.raises(DataError, match=rf"{row.path}: not a whole .*; download this file again"):
        readers.load_image(tmp_path, row)


def test_masks_that_do_not_fit_or_are_not_there_are_named(tmp_path):
    save_medseg(tmp_path)
    row = readers.read("medseg", tmp_path).rows.iloc[0].copy()
    row["height"] = 99
    with pytest.raises(DataError, match=r"tr_mask\.nii\.gz: mask of \(8, 10\) for an image of"):
        readers.load_mask(tmp_path, row)
    row = SimpleNamespace(dataset="nih-adult", path="1_0.jpg", mask_path="")
    with pytest.raises(DataError, match=r"1_0\.jpg: has no mask"):
        readers.load_mask(tmp_path, row)


def test_data_folders_without_a_data_set_are_explained(tmp_path):
    (tmp_path / "holidays").mkdir()
    with pytest.raises(DataError, match=r"no known data set in this folder; .*luna16"):
        readers.read_all(tmp_path)
    (tmp_path / "chest_xray").mkdir()
    with pytest.raises(DataError, match="no readable image of the data set 'chest_xray'"):
        readers.read_all(tmp_path)


def test_read_all_joins_every_data_set_and_leaves_out_one_that_cannot_be_read(tmp_path):
    folder = save_metadata(tmp_path, {"filename": "a.png"}, {"filename": "absent.png"})
    save_png(folder / "images" / "a.png", 0)
    save_png(tmp_path / "chest_xray/train/NORMAL/IM-0001-0001.jpeg", 0)
    save_png(tmp_path / "nih-adult/Pneumonia/1_0.jpg", 0)
    save_png(tmp_path / "COVID-CT/CT_NonCOVID/18%1.jpg", 0)
    save_rsna(tmp_path)
    save_lidc(tmp_path, [roi("1.9.1", square(2, 6))])
    save_luna(tmp_path)
    save_medseg(tmp_path)
    reading = readers.read_all(tmp_path)
    assert set(reading.rows["dataset"]) == set(readers.SOURCES)
    assert reading.rows["image_id"].is_unique
    assert set(reading.problems["dataset"]) == {COHEN, "luna16", "rsna"}
    for row in reading.rows.itertuples():
        assert readers.load_image(tmp_path, row).shape == (row.height, row.width)
        assert (row.lungs == "") == (row.modality == "X-ray")
        if row.mask_path:
            assert readers.load_mask(tmp_path, row).shape == (row.height, row.width)
    (folder / "metadata.csv").write_bytes(b"")
    left = readers.read_all(tmp_path)
    assert set(left.rows["dataset"]) == {*readers.SOURCES} - {COHEN}
    noted = left.problems[left.problems["dataset"] == COHEN].iloc[0]
    assert (noted["path"], noted["problem"]) == (COHEN, "unreadable")
    assert "metadata.csv: not a whole CSV file" in noted["remedy"]
