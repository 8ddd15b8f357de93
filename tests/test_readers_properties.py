"""Whatever names, headers, cells and pixels hold, a reader gives rows or reports problems."""

import logging
import os
import struct
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
from builders import ct_slices, save_dicom, save_png
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pydicom.datadict import tag_for_keyword
from test_hospitals import CASES, EXPORT, VOLUMES, pictures, volume
from test_readers import COHEN, save_luna
from test_readers_faults import lidc

from covid_utils.data import readers
from covid_utils.data.manifest import COLUMNS
from covid_utils.errors import DataError

logging.getLogger("pydicom").setLevel(logging.ERROR)
few = settings(max_examples=40, derandomize=True, deadline=None)
WORDS = ("", " ", "nan", "inf", "-inf", "-1", "0", "1e400", "1.5", "1,0", "99999999999999999999")
WORDS += ("COVID-19", "PA", "lateral", "CT", "X-ray", "Normal", "True", "NA", "a\\b", "\x00", '"')
words = st.one_of(st.sampled_from(WORDS), st.text(max_size=12), st.integers().map(str))
numbers = st.floats(width=32) | st.sampled_from((0.0, 1.0, -1.0, 3.0))
names = st.one_of(
    st.text(st.characters(exclude_characters="/\x00", codec="utf8"), min_size=1, max_size=40),
    st.binary(min_size=1, max_size=9).map(lambda name: os.fsdecode(name.replace(b"/", b"\xe9"))),
).filter(lambda name: "\x00" not in name and name not in {".", ".."})
pixels = st.sampled_from(("u1", "u2", "i2", "f4", "?")).flatmap(
    lambda dtype: arrays(dtype, array_shapes(min_dims=2, max_dims=2, max_side=9))
)


def read(name, write):
    """Rows and problems of the data set ``name`` that ``write`` makes; None if it is left out."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = Path(folder)
        write(root)
        try:
            reading = readers.read(name, root)
        except DataError as error:
            assert len(str(error).encode()) < 2000
            return None
        reading.rows.to_csv(root / "manifest.csv", index=False)
        texts = pd.read_csv(root / "manifest.csv", dtype=str, keep_default_na=False)
        assert texts[list(COLUMNS)].equals(reading.rows[list(COLUMNS)].astype(str))
        reading.problems.to_csv(root / "skipped.csv", index=False)
        for row in reading.rows.itertuples():
            image = readers.load_image(root, row)
            assert (image.dtype, image.shape) == (np.uint8, (row.height, row.width))
            if row.mask_path:
                with suppress(DataError if name == "medseg" else ()):  # decodes masks only here
                    assert readers.load_mask(root, row).shape == image.shape
        return len(reading.rows), len(reading.problems)


PARTS = {"chest_xray": "train/PNEUMONIA", "nih-adult": "Pneumonia", "COVID-CT": "CT_COVID"}


@few
@given(st.sampled_from(sorted(PARTS)), names, st.sampled_from(("", ".png", ".JPG")))
def test_any_name_of_an_image(folder, name, ending):
    def write(root):
        usual = root / folder / PARTS[folder] / "1_0.png"
        save_png(usual, 0)
        (usual.parent / (name + ending)).write_bytes(usual.read_bytes())

    rows, problems = read(folder.lower(), write)
    assert rows == 2 or problems or name[0] == "." or name + ending == "1_0.png"


TAGS = ("RescaleSlope", "RescaleIntercept", "Modality", "PhotometricInterpretation", "PatientID")
TAGS += ("ViewPosition", "BitsStored", "NumberOfFrames", "PixelPaddingValue", "SeriesInstanceUID")
TAGS += ("SOPInstanceUID", "Rows", "SamplesPerPixel", "PixelRepresentation")
elements = st.tuples(st.sampled_from(("LO", "DS", "IS", "US", "UI", "SQ")), words)


@few
@given(st.dictionaries(st.sampled_from(TAGS), elements, max_size=4), pixels)
def test_any_tags_of_a_dicom_file(tags, values):
    odd = b""
    for keyword, (kind, word) in tags.items():
        value = word.encode("ascii", "replace")[:16]
        value += b" " * (len(value) % 2)
        tag = tag_for_keyword(keyword)
        odd += struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, kind.encode(), len(value)) + value

    def spoil(path):
        save_dicom(path, np.nan_to_num(values.astype("f4")).clip(-999, 999), Modality="CT")
        before, mark, after = path.read_bytes().partition(b"\xe0\x7f\x10\x00OW")
        path.write_bytes(before + odd + mark + after)

    def rsna(root):
        spoil(root / "rsna/stage_2_train_images/a.dcm")
        (root / "rsna/stage_2_detailed_class_info.csv").write_text("patientId,class\na,Normal\n")

    def lidc_idri(root):
        spoil(lidc(root) / "P/1-02.dcm")

    read("rsna", rsna)
    rows, problems = read("lidc-idri", lidc_idri)
    assert rows == 2 or problems


@few
@given(arrays("f4", (4, 4), elements=numbers), numbers, numbers, st.data())
def test_any_volume(affine, slope, intercept, data):
    dtype = data.draw(st.sampled_from(("u1", "i2", "i4", "f4", "f8", "c8", "u8")))
    voxels = data.draw(arrays(dtype, array_shapes(min_dims=1, max_dims=4, max_side=4)))

    def spoil(path):
        path.parent.mkdir(exist_ok=True)
        image = nibabel.Nifti1Image(voxels, np.eye(4), dtype=voxels.dtype)
        image.header.set_sform(affine, 1)
        image.header["scl_slope"], image.header["scl_inter"] = slope, intercept
        path.write_bytes(image.header.binaryblock + b"\0" * 4 + voxels.tobytes("F"))

    for name in ("tr_im", "tr_mask"):
        read("medseg", lambda root, name=name: spoil(ct_slices(root) / f"medseg/{name}.nii.gz"))
    read(VOLUMES, lambda root: spoil(volume(root, slices=7) / CASES / CASES / "a.nii.gz"))


FIELDS = ("NDims", "DimSize", "ElementSpacing", "Offset", "TransformMatrix", "ElementType")
FIELDS += ("ElementDataFile", "HeaderSize", "BinaryDataByteOrderMSB", "CompressedData")


@few
@given(st.dictionaries(st.sampled_from(FIELDS), st.lists(words, max_size=3), max_size=2))
def test_any_header_of_a_scan(fields):
    def write(root):
        save_luna(root)
        path = root / "luna16/subset0/1.2.mhd"
        lines = [line for line in path.read_text().splitlines() if line.split()[0] not in fields]
        lines[3:3] = [f"{name} = {' '.join(value)}" for name, value in fields.items()]
        path.write_text("\n".join(lines), encoding="utf8", errors="replace")

    read("luna16", write)


TABLES = {
    f"{COHEN}/metadata.csv": "patientid,finding,view,modality,folder,filename,license",
    "luna16/annotations.csv": "seriesuid,coordX,coordY,coordZ,diameter_mm",
    "rsna/stage_2_detailed_class_info.csv": "patientId,class",
    "medseg/slices.csv": "slice,labels,infnet_subset,patient",
    f"{EXPORT}/slices.csv": "slice,volume",
}


@few
@given(st.data(), st.sampled_from(sorted(TABLES)), st.binary(max_size=40))
def test_any_cells_of_a_table(data, name, content):
    columns = TABLES[name].split(",")
    known = {"folder": "images", "filename": "a.png", "seriesuid": "1.2", "labels": "exact"}
    known |= {"slice": "0001"} if name.startswith(EXPORT) else {}
    cells = [words | st.just(known.get(column, "0")) for column in columns]
    rows = data.draw(st.lists(st.tuples(*cells), max_size=6))

    def write(root):
        save_luna(ct_slices(root, slices=2))
        pictures(root, 2)
        save_png(root / COHEN / "images/a.png", 0)
        save_dicom(root / "rsna/stage_2_train_images/a.dcm", np.zeros((3, 3)))
        table = pd.DataFrame(rows, columns=columns).to_csv(index=False)
        (root / name).write_bytes(table.encode("utf8", "replace") + content)

    read(name.split("/", maxsplit=1)[0], write)
