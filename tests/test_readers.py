"""Every reader on a small layout made on the spot, and on damaged ones."""

from types import SimpleNamespace

import nibabel
import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from covid_utils.data import (
    chest_xray,
    covid_chestxray,
    covid_ct,
    lidc,
    luna16,
    medseg,
    nih_adult,
    rsna,
    sources,
)
from covid_utils.errors import DataError

RNG = np.random.default_rng(7)


def save_image(path, size=(8, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, size, dtype=np.uint8)).save(path)


def cut(path, share=0.5):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])


def by_path(reading, column):
    return dict(zip(reading.rows["path"], reading.rows[column], strict=True))


def kinds(reading):
    return sorted(zip(reading.problems["problem"], reading.problems["path"], strict=True))


# covid-chestxray-dataset


METADATA_ROW = {
    "patientid": "1",
    "finding": "COVID-19",
    "view": "PA",
    "modality": "X-ray",
    "folder": "images",
    "license": "",
}


def save_metadata(root, *rows):
    folder = root / "covid-chestxray-dataset"
    folder.mkdir(exist_ok=True)
    pd.DataFrame([METADATA_ROW | row for row in rows]).to_csv(folder / "metadata.csv", index=False)
    return folder


@pytest.mark.parametrize(
    ("finding", "label"),
    [
        ("COVID-19", "covid"),
        ("COVID-19, ARDS", "covid"),
        ("Pneumonia/Viral/COVID-19", "covid"),
        ("No Finding", "normal"),
        ("SARS", "viral"),
        ("Varicella", "viral"),
        ("Pneumonia/Viral/Influenza/H1N1", "viral"),
        ("Pneumonia/Viral/MERS-CoV", "viral"),
        ("E.Coli", "bacterial"),
        ("Mycoplasma Bacterial Pneumonia", "bacterial"),
        ("Pneumonia/Bacterial/Streptococcus", "bacterial"),
        ("Pneumonia", "pneumonia"),
        ("Pneumonia/Fungal/Pneumocystis", "other"),
        ("Pneumonia/Lipoid", "other"),
        ("ARDS", "other"),
        ("todo", "other"),
        ("", "other"),
    ],
)
def test_findings_flat_and_hierarchical(finding, label):
    assert covid_chestxray.label_of(finding) == label


def test_covid_chestxray(tmp_path):
    folder = save_metadata(
        tmp_path,
        {"filename": "a.png", "view": "?", "license": "CC BY 4.0"},
        {"filename": "b.png", "view": "", "modality": "CT", "patientid": ""},
        {"filename": "absent.png"},
        {"filename": "scan.nii.gz", "folder": "volumes", "modality": "CT"},
        {"filename": "m.png", "modality": "MR"},
    )
    for name in ("a.png", "b.png", "m.png", "stray.png"):
        save_image(folder / "images" / name)
    reading = covid_chestxray.read(tmp_path)
    rows = reading.rows.set_index(reading.rows["path"].str.split("/").str[-1])
    assert rows.index.tolist() == ["a.png", "b.png"]
    assert rows["view"].tolist() == ["unknown", "unknown"]
    assert rows["modality"].tolist() == ["X-ray", "CT"]
    assert rows["licence"].tolist() == ["CC BY 4.0", "unknown"]
    assert rows.loc["b.png", "patient_id"] != rows.loc["a.png", "patient_id"]
    names = [(problem, path.split("/")[-1]) for problem, path in kinds(reading)]
    assert names == [
        ("missing", "absent.png"),
        ("missing", "scan.nii.gz"),
        ("unknown modality", "m.png"),
        ("unreferenced", "stray.png"),
    ]


def test_patients_that_share_a_file_are_one(tmp_path):
    folder = save_metadata(
        tmp_path,
        {"patientid": "1", "filename": "a.png"},
        {"patientid": "2", "filename": "a.png"},
        {"patientid": "2", "filename": "b.png"},
        {"patientid": "3", "filename": "b.png"},
        {"patientid": "4", "filename": "c.png"},
    )
    for name in "abc":
        save_image(folder / "images" / f"{name}.png")
    reading = covid_chestxray.read(tmp_path)
    assert len(reading.rows) == 5
    short = reading.rows["image_id"].str.split("/").str[-1].tolist()
    assert short == ["a.png", "a.png@2", "b.png", "b.png@2", "c.png"]
    patients = reading.rows["patient_id"].str.split("/").str[-1].tolist()
    assert patients == ["1", "1", "1", "1", "4"]
    assert [problem for problem, _ in kinds(reading)] == ["repeated", "repeated"]


def test_covid_chestxray_volume_gives_its_middle_slice_upright(tmp_path):
    folder = save_metadata(
        tmp_path, {"filename": "v.nii.gz", "folder": "volumes", "modality": "CT", "view": ""}
    )
    (folder / "volumes").mkdir()
    voxels = np.full((4, 6, 5), -1000, np.int16)
    voxels[:, 5, 2] = 200  # the front, where the second axis runs from back to front
    voxels[0, :, 2] = 100  # the patient's left, where the first axis runs from left to right
    nibabel.Nifti1Image(voxels, np.eye(4)).to_filename(folder / "volumes" / "v.nii.gz")
    (row,) = covid_chestxray.read(tmp_path).rows.itertuples()
    assert (row.frame, row.view, row.width, row.height) == (2, "Axial", 4, 6)
    image = sources.load_image(tmp_path, row)
    assert (image[0, :3] == 255).all()
    assert (image[1:, -1] > image[1:, 0]).all()


def test_metadata_without_a_column_names_file_and_column(tmp_path):
    folder = save_metadata(tmp_path, {"filename": "a.png"})
    table = pd.read_csv(folder / "metadata.csv").drop(columns=["view"])
    table.to_csv(folder / "metadata.csv", index=False)
    with pytest.raises(DataError, match=r"metadata\.csv: the columns \['view'\] are missing"):
        covid_chestxray.read(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x01", b'a,b\n1,2,3,4\n"'])
def test_metadata_that_is_no_csv_is_named(tmp_path, content):
    folder = save_metadata(tmp_path, {"filename": "a.png"})
    (folder / "metadata.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"metadata\.csv"):
        covid_chestxray.read(tmp_path)


def test_missing_metadata_is_named(tmp_path):
    (tmp_path / "covid-chestxray-dataset").mkdir()
    with pytest.raises(DataError, match=r"metadata\.csv: no such file"):
        covid_chestxray.read(tmp_path)


# chest_xray, nih-adult, covid-ct


def test_chest_xray(tmp_path):
    names = {
        "train/PNEUMONIA/person7_virus_1.jpeg": ("viral", "person7"),
        "test/PNEUMONIA/person7_bacteria_2.jpeg": ("bacterial", "person7"),
        "val/PNEUMONIA/lung.jpeg": ("pneumonia", "chest_xray/val/PNEUMONIA/lung.jpeg"),
        "train/NORMAL/IM-0131-0001.jpeg": ("normal", "normal131"),
        "test/NORMAL/NORMAL2-IM-0131-0001-0002.jpeg": ("normal", "normal131"),
    }
    for name in names:
        save_image(tmp_path / "chest_xray" / name)
    (tmp_path / "chest_xray/train/NORMAL/._IM-0131-0001.jpeg").write_bytes(b"no image")
    reading = chest_xray.read(tmp_path)
    labels, patients = by_path(reading, "label"), by_path(reading, "patient_id")
    assert {k: (labels[f"chest_xray/{k}"], patients[f"chest_xray/{k}"]) for k in names} == {
        key: (label, f"chest_xray/{patient}") for key, (label, patient) in names.items()
    }
    assert len(reading.rows) == len(names)
    assert len(reading.problems) == 0


@pytest.mark.parametrize("suffix", ["jpeg", "png"])
def test_truncated_image_in_a_data_set_is_a_problem(tmp_path, suffix):
    for number in (1, 2):
        save_image(tmp_path / f"chest_xray/train/NORMAL/IM-000{number}-0001.{suffix}")
    cut(tmp_path / f"chest_xray/train/NORMAL/IM-0002-0001.{suffix}")
    reading = chest_xray.read(tmp_path)
    assert len(reading.rows) == 1
    assert kinds(reading) == [("unreadable", f"chest_xray/train/NORMAL/IM-0002-0001.{suffix}")]


def test_nih_adult(tmp_path):
    for name in ("No_findings/0001_000.jpg", "No_findings/0001_004.jpg", "Pneumonia/0002_001.jpg"):
        save_image(tmp_path / "nih-adult" / name)
    rows = nih_adult.read(tmp_path).rows
    assert rows["label"].tolist() == ["normal", "normal", "pneumonia"]
    assert rows["patient_id"].tolist() == ["nih-adult/0001", "nih-adult/0001", "nih-adult/0002"]


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("2020.02.25.20021568-p23-108%7.png", "2020.02.25.20021568"),
        ("2020.03.12.20034686-p17-91-1.png", "2020.03.12.20034686"),
        ("2020.03.01.20029769-p21-73_2%1.png", "2020.03.01.20029769"),
        ("PIIS0140673620301549_0%1.png", "PIIS0140673620301549"),
        ("PIIS0140673620303603%8.png", "PIIS0140673620303603"),
        ("Ni2020_Article_Western-p3-10%0.png", "Ni2020_Article_Western"),
        ("a paper_2020_Journal-p2-21%10.png", "a paper_2020_Journal"),
        ("kjr-21-e24-p5-31.png", "kjr-21-e24"),
    ],
)
def test_paper_of_a_covid_slice(name, group):
    assert covid_ct.paper(name) == group


def test_covid_ct_with_spaces_and_percent_signs(tmp_path):
    names = ("CT_COVID/a paper-p2-21%1.png", "CT_NonCOVID/18%1.jpg", "CT_NonCOVID/18%2.jpg")
    for name in (*names, "CT_NonCOVID/18.png"):
        save_image(tmp_path / "COVID-CT" / name)
    reading = covid_ct.read(tmp_path)
    patients = by_path(reading, "patient_id")
    groups = [patients[f"COVID-CT/{name}"].split("/")[-1] for name in names]
    assert groups == ["a paper", "18", "18"]
    assert patients["COVID-CT/CT_NonCOVID/18.png"].endswith("/18.png")
    assert sorted(reading.rows["label"]) == ["covid", "non_covid", "non_covid", "non_covid"]
    assert set(reading.rows["modality"]) == {"CT"}
    row = next(reading.rows.itertuples())
    assert sources.load_image(tmp_path, row).shape == (8, 10)


# DICOM: rsna, lidc-idri


def save_dicom(path, pixels, uid="1.2.3", **tags):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = pydicom.Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = CTImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = uid
    header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, uid
    header.PhotometricInterpretation, header.PixelRepresentation = "MONOCHROME2", 1
    header.Rows, header.Columns = pixels.shape
    header.SamplesPerPixel, header.BitsAllocated, header.BitsStored, header.HighBit = 1, 16, 16, 15
    header.PixelData = pixels.astype(np.int16).tobytes()
    for name, value in tags.items():
        setattr(header, name, value)
    header.save_as(path, enforce_file_format=True)


def save_rsna(root):
    folder = root / "rsna"
    for patient, view in (("a", "PA"), ("b", "AP"), ("c", ""), ("stray", "PA")):
        pixels = RNG.integers(0, 255, (6, 5))
        path = folder / "stage_2_train_images" / f"{patient}.dcm"
        save_dicom(path, pixels, Modality="CR", ViewPosition=view)
    (folder / "stage_2_train_labels.csv").write_text(
        "patientId,x,y,width,height,Target\n"
        "a,,,,,0\nb,1,1,2,2,1\nb,3,3,1,1,1\nc,1,1,1,1,1\ngone,,,,,0\n"
    )
    (folder / "stage_2_detailed_class_info.csv").write_text(
        "patientId,class\na,Normal\nb,Lung Opacity\nb,Lung Opacity\n"
        "c,No Lung Opacity / Not Normal\ngone,Normal\n"
    )
    return folder


def test_rsna(tmp_path):
    save_rsna(tmp_path)
    reading = rsna.read(tmp_path)
    assert reading.rows["label"].tolist() == ["normal", "pneumonia", "other"]
    assert reading.rows["view"].tolist() == ["PA", "AP", "unknown"]
    assert reading.rows["patient_id"].tolist() == ["rsna/a", "rsna/b", "rsna/c"]
    assert [(kind, path.split("/")[-1]) for kind, path in kinds(reading)] == [
        ("contradiction", "c.dcm"),
        ("missing", "gone.dcm"),
        ("unlabelled", "stray.dcm"),
    ]


def test_rsna_truncated_dicom_is_a_problem(tmp_path):
    folder = save_rsna(tmp_path)
    cut(folder / "stage_2_train_images" / "b.dcm", 0.95)
    reading = rsna.read(tmp_path)
    assert reading.rows["patient_id"].tolist() == ["rsna/a", "rsna/c"]
    assert ("unreadable", "rsna/stage_2_train_images/b.dcm") in kinds(reading)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("stage_2_train_labels.csv", "patientId,Target\na,0\n", r"labels\.csv: the columns \['x'"),
        ("stage_2_detailed_class_info.csv", "patientId,class\na,Flu\n", r"class \['Flu'\]"),
        (
            "stage_2_detailed_class_info.csv",
            "patientId,class\na,Normal\na,Lung Opacity\n",
            "patient a has two classes",
        ),
    ],
)
def test_rsna_wrong_tables_are_named(tmp_path, name, content, message):
    (save_rsna(tmp_path) / name).write_text(content)
    with pytest.raises(DataError, match=message):
        rsna.read(tmp_path)


def square(low, high):
    """Outline of the pixels from low + 1 to high - 1, as an LIDC reader draws it: just outside."""
    corners = [(low, low), (high, low), (high, high), (low, high)]
    return "".join(
        f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in corners
    )


def roi(uid, edges, inside="TRUE"):
    return f"<roi><imageSOP_UID>{uid}</imageSOP_UID><inclusion>{inside}</inclusion>{edges}</roi>"


def save_lidc(root, sessions, series="1.9"):
    folder = root / "lidc-idri" / "LIDC-IDRI-0001" / "series"
    for number in (1, 2):
        save_dicom(
            folder / f"1-00{number}.dcm",
            np.zeros((20, 24)),
            uid=f"1.9.{number}",
            Modality="CT",
            PatientID="LIDC-IDRI-0001",
            SeriesInstanceUID="1.9",
        )
    body = "".join(
        f"<readingSession><unblindedReadNodule>{rois}</unblindedReadNodule></readingSession>"
        for rois in sessions
    )
    header = f"<ResponseHeader><SeriesInstanceUid>{series}</SeriesInstanceUid></ResponseHeader>"
    message = f'<LidcReadMessage xmlns="http://www.nih.gov">{header}{body}</LidcReadMessage>'
    (folder / "069.xml").write_text(message)
    return folder


POINT = "<edgeMap><xCoord>3</xCoord><yCoord>3</yCoord></edgeMap>"


def test_lidc_consensus_of_half_the_readers(tmp_path):
    save_lidc(
        tmp_path,
        [
            roi("1.9.1", square(2, 8)),
            roi("1.9.1", square(4, 10)),
            roi("1.9.1", square(4, 10)) + roi("1.9.1", square(6, 8), "FALSE"),
            roi("1.9.1", square(14, 18)),
            roi("1.9.2", POINT),
        ],
    )
    reading = lidc.read(tmp_path)
    assert reading.rows["label"].tolist() == ["nodule", "no_nodule"]
    assert reading.rows["patient_id"].unique().tolist() == ["lidc-idri/LIDC-IDRI-0001"]
    with_nodule, without = reading.rows.itertuples()
    mask = sources.load_mask(tmp_path, with_nodule)
    assert mask.shape == (20, 24)
    expected = np.zeros((20, 24), np.uint8)
    # Four drew here, so two votes are needed. The second and third agree on columns and rows 5 to
    # 9 but for the third's hole (6 to 8); the first and second agree on 5 to 7. The square that
    # only the fourth drew is out.
    expected[5:10, 5:10] = 1
    expected[6:9, 6:9] = 0
    expected[6:8, 6:8] = 1
    assert np.array_equal(mask, expected)
    assert not sources.load_mask(tmp_path, without).any()


def test_lidc_outline_itself_is_no_nodule(tmp_path):
    save_lidc(tmp_path, [roi("1.9.1", square(2, 6))])
    row = next(lidc.read(tmp_path).rows.itertuples())
    rows, columns = np.nonzero(sources.load_mask(tmp_path, row))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 5, 3, 5)


def test_lidc_xml_of_another_series_gives_no_mask(tmp_path):
    save_lidc(tmp_path, [roi("1.9.1", square(2, 6))], series="5.5")
    reading = lidc.read(tmp_path)
    assert reading.rows["label"].unique().tolist() == ["other"]
    assert reading.rows["mask_path"].eq("").all()
    assert [kind for kind, _ in kinds(reading)] == ["missing"]
    with pytest.raises(DataError, match=r"1-001\.dcm: has no mask"):
        sources.load_mask(tmp_path, next(reading.rows.itertuples()))


def test_lidc_damaged_xml_and_slice_are_problems(tmp_path):
    folder = save_lidc(tmp_path, [roi("1.9.1", square(2, 6))])
    cut(folder / "069.xml")
    cut(folder / "1-002.dcm", 0.95)
    reading = lidc.read(tmp_path)
    assert len(reading.rows) == 1
    assert [(kind, path.split("/")[-1]) for kind, path in kinds(reading)] == [
        ("missing", "series"),
        ("unreadable", "069.xml"),
        ("unreadable", "1-002.dcm"),
    ]


def test_lidc_leaves_x_rays_out(tmp_path):
    folder = save_lidc(tmp_path, [roi("1.9.1", square(2, 6))])
    save_dicom(folder.parent / "x" / "1-001.dcm", np.zeros((4, 4)), uid="2.1", Modality="DX")
    reading = lidc.read(tmp_path)
    assert len(reading.rows) == 2
    assert kinds(reading) == [("not CT", "lidc-idri/LIDC-IDRI-0001/x")]


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
    reading = luna16.read(tmp_path)
    frames = reading.rows.groupby("label")["frame"].agg(list).to_dict()
    assert frames == {"nodule": [5, 6, 7], "no_nodule": [0, 4, 11]}
    assert kinds(reading) == [("missing", "luna16/9.9.mhd")]
    assert reading.rows["patient_id"].unique().tolist() == ["luna16/1.2"]


@pytest.mark.parametrize("direction", [(1, 1, 1), (-1, -1, 1), (-1, 1, 1)])
def test_luna_sphere_lies_on_the_nodule_however_stored(tmp_path, direction):
    save_luna(tmp_path, direction)
    rows = luna16.read(tmp_path).rows.set_index("frame", drop=False)
    image, mask = (load(tmp_path, rows.loc[6]) for load in (sources.load_image, sources.load_mask))
    assert mask.shape == image.shape == (20, 30)
    centre = np.unravel_index(image.argmax(), image.shape)
    expected = (19 - 8 if direction[1] < 0 else 8, 29 - 11 if direction[0] < 0 else 11)
    assert centre == expected
    assert np.argwhere(mask).mean(axis=0).tolist() == list(centre)
    assert mask[centre[0]].sum() == 11  # 5 mm at 0.5 mm a pixel, the centre and 5 on each side
    assert 0 < sources.load_mask(tmp_path, rows.loc[5]).sum() < mask.sum()
    assert not sources.load_mask(tmp_path, rows.loc[0]).any()


def test_luna_scan_that_lidc_also_holds_has_that_patient(tmp_path):
    save_luna(tmp_path)
    path = tmp_path / "lidc-idri" / "p" / "1-001.dcm"
    save_dicom(path, np.zeros((4, 4)), PatientID="P-7", SeriesInstanceUID="1.2")
    assert luna16.read(tmp_path).rows["patient_id"].unique().tolist() == ["lidc-idri/P-7"]
    assert luna16.LIDC == lidc.NAME == lidc.FOLDER


def test_luna_leaves_lung_masks_out(tmp_path):
    folder = save_luna(tmp_path)
    masks = tmp_path / "luna16" / "seg-lungs-LUNA16"
    masks.mkdir()
    (masks / "1.2.mhd").write_text("the lungs of the same series")
    assert set(luna16.read(tmp_path).rows["path"]) == {f"luna16/{folder.name}/1.2.mhd"}


def test_luna_truncated_raw_is_a_problem(tmp_path):
    folder = save_luna(tmp_path)
    cut(folder / "1.2.raw", 0.5)
    reading = luna16.read(tmp_path)
    assert set(reading.rows["frame"]) == {0, 4, 5}
    assert [kind for kind, _ in kinds(reading)].count("unreadable") == 3
    assert reading.problems["remedy"].str.contains(r"1\.2\.mhd: slice 11 is not whole").any()


def test_luna_damaged_header_is_a_problem(tmp_path):
    folder = save_luna(tmp_path)
    (folder / "1.2.mhd").rename(folder / "3.4.mhd")
    (folder / "1.2.mhd").write_text("no header")
    table = pd.read_csv(tmp_path / "luna16/annotations.csv", dtype={"seriesuid": str})
    more = table[table["seriesuid"] == "1.2"].assign(seriesuid="3.4")
    pd.concat([table, more]).to_csv(tmp_path / "luna16/annotations.csv", index=False)
    reading = luna16.read(tmp_path)
    assert set(reading.rows["path"]) == {"luna16/subset0/3.4.mhd"}
    assert ("unreadable", "luna16/subset0/1.2.mhd") in kinds(reading)


def test_luna_positions_must_be_numbers(tmp_path):
    save_luna(tmp_path)
    path = tmp_path / "luna16" / "annotations.csv"
    path.write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2,left,0,0,5\n")
    with pytest.raises(DataError, match=r"annotations\.csv: .*left"):
        luna16.read(tmp_path)


# medseg


def save_volume(path, voxels):
    path.parent.mkdir(exist_ok=True)
    nibabel.Nifti1Image(voxels, np.eye(4)).to_filename(path)


def save_medseg(root, count=3, masks=None):
    images = RNG.integers(0, 256, (10, 8, count), dtype=np.uint8)
    if masks is None:
        masks = np.zeros(images.shape, np.uint8)
        masks[6, 2, 1], masks[6, 3, 1], masks[7, 2, 1] = 1, 2, 3
    save_volume(root / "medseg" / "tr_im.nii.gz", images)
    save_volume(root / "medseg" / "tr_mask.nii.gz", masks)
    return images, masks


def save_slices(root, extra="", values=("exact,train", "weak,test", "weak,")):
    head = "slice,labels,infnet_subset" + (",patient" if extra else "")
    lines = [
        f"{number},{value}" + (f",{extra}" if extra else "") for number, value in enumerate(values)
    ]
    (root / "medseg" / "slices.csv").write_text("\n".join([head, *lines]) + "\n")


def test_medseg_without_notes(tmp_path):
    images, masks = save_medseg(tmp_path)
    rows = medseg.read(tmp_path).rows
    assert rows["image_id"].tolist() == [f"medseg/tr_im.nii.gz#00{k}" for k in range(3)]
    assert set(rows["label_quality"]) == {"exact"}
    assert rows["patient_id"].nunique() == 3
    assert rows[["width", "height"]].drop_duplicates().to_numpy().tolist() == [[10, 8]]
    assert medseg.infnet_subset(tmp_path) == {}
    for row in rows.itertuples():
        assert np.array_equal(sources.load_image(tmp_path, row), images[:, :, row.frame].T)
        assert np.array_equal(sources.load_mask(tmp_path, row), masks[:, :, row.frame].T)


def test_medseg_with_notes(tmp_path):
    save_medseg(tmp_path)
    save_slices(tmp_path, extra="P1")
    rows = medseg.read(tmp_path).rows
    assert rows["label_quality"].tolist() == ["exact", "weak", "weak"]
    assert rows["patient_id"].unique().tolist() == ["medseg/P1"]
    assert medseg.infnet_subset(tmp_path) == dict(
        zip(rows["image_id"], ("train", "test", ""), strict=True)
    )


def save_cases(root, text):
    (root / "medseg" / medseg.CASES).write_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "Image no.,Case,Age\n1,12,50\n2,12,50\n3,7,61\n",
        "slice,patient\n0,12\n1,12\n2,7\n",
        "Case ID;Age\n12;50\n12;50\n7;61\n".replace(";", ","),
    ],
)
def test_medseg_cases_come_from_the_published_table(tmp_path, text):
    save_medseg(tmp_path)
    save_cases(tmp_path, text)
    reading = medseg.read(tmp_path)
    assert reading.rows["patient_id"].tolist() == [
        "medseg/case-12",
        "medseg/case-12",
        "medseg/case-7",
    ]
    assert set(reading.rows["patient_basis"]) == {"given"}
    assert reading.problems.empty


@pytest.mark.parametrize(
    "text",
    [
        "slice,age\n0,50\n1,50\n2,61\n",
        "slice,case\n0,5\n1,5\n",
        "slice,case\n0,5\n2,5\n1,6\n",
        "slice,case\n0,5\n1,\n2,6\n",
    ],
)
def test_medseg_cases_that_do_not_fit_are_a_problem_and_not_used(tmp_path, text):
    save_medseg(tmp_path)
    save_cases(tmp_path, text)
    reading = medseg.read(tmp_path)
    assert set(reading.rows["patient_basis"]) == {"none"}
    assert reading.rows["patient_id"].is_unique
    assert reading.problems["problem"].tolist() == ["no cases"]
    assert "3 slices" in reading.problems["remedy"][0]


def test_medseg_hounsfield_goes_through_the_lung_window(tmp_path):
    save_medseg(tmp_path)
    voxels = np.full((10, 8, 3), -600, np.float32)
    voxels[0], voxels[1] = -1350, 400
    save_volume(tmp_path / "medseg" / "tr_im.nii.gz", voxels)
    row = next(medseg.read(tmp_path).rows.itertuples())
    assert sources.load_image(tmp_path, row)[0, :3].tolist() == [0, 255, 128]


@pytest.mark.parametrize("shape", [(10, 8, 2), (10, 9, 3), (8, 10, 3)])
def test_medseg_masks_of_another_size_are_named(tmp_path, shape):
    save_medseg(tmp_path, masks=np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match=r"tr_mask\.nii\.gz: masks of .* do not fit the images"):
        medseg.read(tmp_path)


@pytest.mark.parametrize("name", ["tr_im.nii.gz", "tr_mask.nii.gz"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.7])
def test_medseg_truncated_volume_is_named(tmp_path, name, share):
    save_medseg(tmp_path)
    cut(tmp_path / "medseg" / name, share)
    with pytest.raises(DataError, match=rf"{name}: not a .*NIfTI file.*download it again"):
        medseg.read(tmp_path)


def test_medseg_missing_mask_file_is_named(tmp_path):
    save_medseg(tmp_path)
    (tmp_path / "medseg" / "tr_mask.nii.gz").unlink()
    with pytest.raises(DataError, match=r"tr_mask\.nii\.gz: no such file"):
        medseg.read(tmp_path)


def test_medseg_file_with_four_axes_is_named(tmp_path):
    save_medseg(tmp_path)
    save_volume(tmp_path / "medseg" / "tr_im.nii.gz", np.zeros((4, 4, 2, 2), np.uint8))
    with pytest.raises(DataError, match=r"tr_im\.nii\.gz: .* three axes"):
        medseg.read(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("exact,train",), "must count from 0 to 2"),
        (("good,train", "weak,test", "weak,"), r"labels \['good'\]"),
        (("exact,val", "weak,test", "weak,"), r"infnet_subset \['val'\]"),
    ],
)
def test_medseg_notes_that_do_not_fit_are_named(tmp_path, values, message):
    save_medseg(tmp_path)
    save_slices(tmp_path, values=values)
    with pytest.raises(DataError, match=rf"slices\.csv: .*{message}"):
        medseg.read(tmp_path)


@pytest.mark.parametrize(
    ("label", "dtype"), [(4, np.uint8), (256, np.int16), (-1, np.int16), (0.5, np.float32)]
)
def test_strange_labels_are_named(tmp_path, label, dtype):
    masks = np.zeros((10, 8, 3), dtype)
    masks[1, 1, 2] = label
    save_medseg(tmp_path, masks=masks)
    rows = medseg.read(tmp_path).rows
    assert not sources.load_mask(tmp_path, rows.iloc[0]).any()
    with pytest.raises(DataError, match=rf"tr_mask\.nii\.gz: labels \[{label}.*only 0 to 3"):
        sources.load_mask(tmp_path, rows.iloc[2])


def test_a_replaced_volume_is_decoded_again(tmp_path):
    save_medseg(tmp_path)
    row = medseg.read(tmp_path).rows.iloc[0]
    before = sources.load_image(tmp_path, row)
    images, _ = save_medseg(tmp_path)
    assert not np.array_equal(before, images[:, :, 0].T)
    assert np.array_equal(sources.load_image(tmp_path, row), images[:, :, 0].T)


@pytest.mark.parametrize("dataset", ["medseg", "luna16", "covid-chestxray-dataset"])
def test_slice_that_is_not_there_is_named(tmp_path, dataset):
    save_medseg(tmp_path)
    save_luna(tmp_path)
    folder = save_metadata(tmp_path, {"filename": "v.nii", "folder": "volumes", "modality": "CT"})
    save_volume(folder / "volumes" / "v.nii", np.zeros((4, 6, 5), np.int16))
    row = sources.SOURCES[dataset].read(tmp_path).rows.iloc[0].copy()
    row["frame"] = 99
    with pytest.raises(DataError, match=r": has no slice 99, only \d+, .* run notebook 01_data"):
        sources.load_image(tmp_path, row)


# sources


def test_mask_of_another_size_is_named(tmp_path):
    save_medseg(tmp_path)
    row = medseg.read(tmp_path).rows.iloc[0].copy()
    row["height"] = 99
    with pytest.raises(DataError, match=r"tr_mask\.nii\.gz: mask of \(8, 10\) for an image of"):
        sources.load_mask(tmp_path, row)


def test_row_of_a_data_set_without_masks(tmp_path):
    save_image(tmp_path / "nih-adult" / "Pneumonia" / "1_0.jpg")
    row = nih_adult.read(tmp_path).rows.iloc[0]
    with pytest.raises(DataError, match=r"1_0\.jpg: has no mask"):
        sources.load_mask(tmp_path, row)


def test_unknown_data_set_is_named(tmp_path):
    row = SimpleNamespace(dataset="toy", path="toy/a.png", frame=0, mask_path="m")
    with pytest.raises(DataError, match=r"unknown data set 'toy'; known are .*luna16"):
        sources.load_image(tmp_path, row)
    with pytest.raises(DataError, match=r"unknown data set 'toy'; known are .*luna16"):
        sources.load_mask(tmp_path, row)


def test_missing_data_folder(tmp_path):
    with pytest.raises(DataError, match=r"absent: no such folder; create it .*covid-chestxray"):
        sources.find(tmp_path / "absent")


def test_empty_data_folder(tmp_path):
    with pytest.raises(DataError, match=r"the folder is empty; put .*medseg"):
        sources.find(tmp_path)


def test_data_folder_without_known_layout(tmp_path):
    (tmp_path / "holidays").mkdir()
    with pytest.raises(DataError, match=r"no known data set in this folder; .*luna16"):
        sources.find(tmp_path)


def test_data_set_folder_without_images(tmp_path):
    (tmp_path / "chest_xray").mkdir()
    with pytest.raises(DataError, match="no readable image of the data set 'chest_xray'"):
        sources.read_all(tmp_path)


def test_read_all_joins_every_data_set(tmp_path):
    folder = save_metadata(tmp_path, {"filename": "a.png"}, {"filename": "absent.png"})
    save_image(folder / "images" / "a.png")
    save_image(tmp_path / "chest_xray/train/NORMAL/IM-0001-0001.jpeg")
    save_image(tmp_path / "nih-adult/Pneumonia/1_0.jpg")
    save_image(tmp_path / "COVID-CT/CT_NonCOVID/18%1.jpg")
    save_rsna(tmp_path)
    save_lidc(tmp_path, [roi("1.9.1", square(2, 6))])
    save_luna(tmp_path)
    save_medseg(tmp_path)
    assert [source.name for source in sources.find(tmp_path)] == list(sources.SOURCES)
    reading = sources.read_all(tmp_path)
    assert set(reading.rows["dataset"]) == set(sources.SOURCES)
    assert reading.rows["image_id"].is_unique
    assert set(reading.problems["dataset"]) == {"covid-chestxray-dataset", "luna16", "rsna"}
    for row in reading.rows.itertuples():
        assert sources.load_image(tmp_path, row).shape == (row.height, row.width)
        if row.mask_path:
            assert sources.load_mask(tmp_path, row).shape == (row.height, row.width)
