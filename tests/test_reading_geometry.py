"""Masks lie on the voxels of their source, whatever way a scan is stored."""

import zlib

import nibabel
import numpy as np
import pydicom
from builders import modules_of, save_dicom
from own_scans import (
    CENTRE,
    HEAD_FIRST,
    SERIES,
    chest,
    is_lesion,
    outline,
    series,
    slice_points,
    turned,
    volume,
    voxel_points,
)
from PIL import Image

from covid_read import masks
from covid_read import series as dicom_series
from covid_read.cases import HOUNSFIELD, Batch, Case, cases
from covid_read.extent import on_whole_slices, outlined
from covid_read.folder import read_all
from covid_utils.data import gray_scale, lung_field
from covid_utils.data.images import Preprocessing
from covid_utils.data.readers.gray import LUNG_WINDOW, to_uint8


def one(paths, without):
    found = list(cases(paths, without))
    assert [type(each) for each in found] == [Case], found
    return found[0]


def ordered(points):
    """Points as rows in an order of their own, to compare sets of them."""
    rows = np.round(points.reshape(-1, 3), 2) + 0.0
    return rows[np.lexsort(rows.T)]


def test_an_oblique_volume_keeps_its_matrix(tmp_path):
    directions = np.column_stack(
        [*turned(0, 13).reshape(2, 3), np.cross(*turned(0, 13).reshape(2, 3))]
    )
    points = volume(tmp_path / "a.nii", "LPS", matrix=directions)
    read_all([tmp_path / "a.nii"], tmp_path / "out", outline)
    mask = nibabel.load(tmp_path / "out" / "a.nii" / "mask.nii.gz")
    assert np.allclose(mask.affine, nibabel.load(tmp_path / "a.nii").affine, atol=1e-5)
    assert np.array_equal(np.asarray(mask.dataobj) == 2, is_lesion(points))


def lesion_at(case):
    """Where the lesion's centre lies in a case: shares of its slices, its height and its width."""
    labels = outlined(case, outline).labels
    return (np.argwhere(labels == 2).mean(axis=0) + 0.5) / labels.shape


def test_networks_see_every_scan_from_the_feet_with_the_front_on_top(tmp_path):
    for name, (axes, step) in [*SERIES.items()][1:4]:
        series(tmp_path / name, axes, step)
        # The lesion lies towards head, back and left: to the end, to the bottom and to the right.
        assert (lesion_at(one([tmp_path / name], tmp_path / "out")) > 0.55).all(), name
    for codes in ("LPI", "SRA"):
        volume(tmp_path / "v.nii", codes)
        assert (lesion_at(one([tmp_path / "v.nii"], tmp_path / "out")) > 0.55).all(), codes


def test_a_slice_is_shown_in_any_window_of_hounsfield_units(tmp_path):
    series(tmp_path / "ct")
    volume(tmp_path / "ct.nii")
    raised = nibabel.load(tmp_path / "ct.nii")  # as scanners store it that have no negative values
    raised = nibabel.Nifti1Image(raised.get_fdata() + 1024, raised.affine)
    raised.to_filename(tmp_path / "raised.nii")
    for name in ("ct", "ct.nii", "raised.nii"):
        case = one([tmp_path / name], tmp_path / "out")
        middle = case.shape[0] // 2
        # Tissue of 40 units, in a chest that also holds air and a lesion of 400.
        assert set(np.unique(case.load(middle, (0, 80)))) == {0, 128, 255}, name
        assert (case.load(middle, (39, 40)) > 0).sum() > (case.load(middle, (41, 42)) > 0).sum()
        assert np.array_equal(case.load(middle, (-1350, 150)), case.slices(middle, middle + 1)[0])
    picture = nibabel.Nifti1Image(
        np.arange(256.0).reshape(16, 16, 1).repeat(4, 0).repeat(4, 1), np.eye(4)
    )
    picture.to_filename(tmp_path / "picture.nii")
    case = one([tmp_path / "picture.nii"], tmp_path / "out")
    assert np.array_equal(case.load(0, (0, 80)), case.load(0))


def test_a_written_mask_lies_on_the_slices_as_they_are_seen(tmp_path):
    for name, count in (("ct", 7), ("single", 1)):  # one without a thickness has a picture as mask
        series(tmp_path / name, *SERIES["exchanged and turned"], count=count, SliceThickness=None)
    volume(tmp_path / "a.nii", "SRA")
    points = slice_points((-32, -24, 4), HEAD_FIRST, (0.5, 0.5), (96, 128))
    Image.fromarray(to_uint8(chest(points), -1000, 400)).save(tmp_path / "b.png")
    for name in ("ct", "single", "a.nii", "b.png"):
        out = tmp_path / "out" / name
        case = one([tmp_path / name], out)
        read_all([tmp_path / name], out, outline)
        (folder,) = (path.parent for path in out.glob("*/case.json"))
        wanted = outlined(case, outline).labels
        assert wanted.any()
        assert np.array_equal(masks.read(folder, case), wanted), name


def test_a_single_slice_keeps_its_place(tmp_path):
    points = series(tmp_path / "ct", count=1)
    (path,) = points
    at = CENTRE[2]
    header = pydicom.dcmread(path)
    moved = points[path] + (0, 0, at)
    header.ImagePositionPatient = moved[0, 0].tolist()
    header.PixelData = (chest(moved) + 1024).astype(np.int16).tobytes()
    header.save_as(path)
    read_all([path], tmp_path / "out", outline)
    mask = nibabel.load(tmp_path / "out" / path.name / "mask.nii.gz")
    marked = voxel_points(mask.affine, mask.shape)[np.asarray(mask.dataobj) == 2]
    assert np.array_equal(ordered(marked), ordered(moved[is_lesion(moved)]))
    affine = np.diag([0.9, 1.1, 2, 1])
    for name, shape in (("flat.nii", (60, 44)), ("one.nii", (60, 44, 1))):
        values = chest(np.add(voxel_points(affine, (60, 44, 1)), (27, 24, at))).astype(np.int16)
        nibabel.Nifti1Image(values.reshape(shape), affine).to_filename(tmp_path / name)
        read_all([tmp_path / name], tmp_path / "out", outline)
        mask = nibabel.load(tmp_path / "out" / name / "mask.nii.gz")
        assert np.allclose(mask.affine, affine)
        assert np.array_equal(np.asarray(mask.dataobj) == 2, values == 400)
        assert (values == 400).sum() > 20


def test_what_a_network_finds_in_a_prepared_slice_is_put_back_where_it_was():
    corner, spacing = (-40, -31, CENTRE[2]), (0.25, 0.25)
    points = slice_points(corner, HEAD_FIRST, spacing, (250, 320))
    image = to_uint8(chest(points), *LUNG_WINDOW)

    def predict(prepared, room):
        is_white = (prepared >= 250)[..., None].astype(np.float32)
        return np.concatenate([1 - is_white, 0 * is_white, is_white, 0 * is_white], axis=-1)

    settings = Preprocessing(128, 0, crop="field", gray="landmarks")
    outline = on_whole_slices(predict, settings)
    given = Batch(image[None], lung_field.field(image)[None], np.array([gray_scale.KNOWN]))
    labels, chance = outline(given)
    found, truth = labels[0] == 2, is_lesion(points)
    assert np.allclose(np.argwhere(found).mean(0), np.argwhere(truth).mean(0), atol=1)
    assert (found & truth).sum() > 0.9 * (found | truth).sum()
    assert (chance[labels > 0] > 0.5).all()
    assert chance[0, 0, 0] == 1  # outside the crop


def test_slices_without_a_lung_field_stay_empty():
    points = slice_points((-32, -24, CENTRE[2]), HEAD_FIRST, (0.5, 0.5), (96, 128))
    shown = to_uint8(chest(points), *LUNG_WINDOW)
    planes = [shown, np.full_like(shown, 128)]
    case = Case("two", (), "CT", (2, *shown.shape), lambda at: planes[at], HOUNSFIELD)
    found = outlined(case, lambda batch: (2 + 0 * batch.slices, np.ones(batch.slices.shape)))
    assert found.outlined == 1
    assert (found.labels == [[[2]], [[0]]]).all()


# Series that are not as they should be


def warnings(case):
    return " ".join(case.warnings)


def test_missing_slices_and_a_tilted_gantry_are_named(tmp_path):
    written = series(tmp_path / "ct", count=9)
    by_height = sorted(written, key=lambda path: written[path][0, 0, 2])
    by_height[3].unlink()
    assert "1 slice is missing (gaps of" in warnings(one([tmp_path / "ct"], tmp_path / "out"))
    by_height[4].unlink()
    case = one([tmp_path / "ct"], tmp_path / "out")
    assert "Judging by the positions, 2 slices are missing (gaps of" in warnings(case)
    assert case.voxel_ml is None
    read_all([tmp_path / "ct"], tmp_path / "out", outline)
    assert not (tmp_path / "out" / "ct" / "mask.nii.gz").exists()
    series(tmp_path / "tilted", step=(0, 0.9, 2.5))
    assert "tilted by 19.8 degrees" in warnings(one([tmp_path / "tilted"], tmp_path / "out"))


def test_two_series_and_two_passes_in_one_folder_are_cases_of_their_own(tmp_path):
    series(tmp_path / "ct", count=4)
    series(tmp_path / "ct" / "b", uid="1.2.30", count=3)
    for path in (tmp_path / "ct" / "b").iterdir():
        path.rename(tmp_path / "ct" / f"b-{path.name}")
    found = list(cases([tmp_path / "ct"], tmp_path / "out"))
    assert sorted(case.shape[0] for case in found if isinstance(case, Case)) == [3, 4]
    assert all("Its folder holds 1 more series" in warnings(case) for case in found)
    series(tmp_path / "twice", count=4, uid="1.2.40")
    series(tmp_path / "twice" / "late", count=4, uid="1.2.41", SeriesInstanceUID="1.2.40")
    found = list(cases([tmp_path / "twice"], tmp_path / "out"))
    assert [case.shape[0] for case in found] == [4, 4]
    assert all("shows a position 2 times" in warnings(case) for case in found)


def test_slices_of_another_direction_and_localizers_are_refused(tmp_path):
    series(tmp_path / "coronal", (1, 0, 0, 0, 0, -1))
    series(tmp_path / "scout", count=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    reasons = [each.reason for each in cases([tmp_path], tmp_path / "out")]
    assert len(reasons) == 2
    assert any("not an axial slice" in reason for reason in reasons)
    assert any("a localizer" in reason for reason in reasons)


def test_a_copy_of_a_slice_counts_once(tmp_path):
    written = series(tmp_path / "ct", count=3)
    path = next(iter(written))
    path.with_name("zz-copy.dcm").write_bytes(path.read_bytes())
    found = list(cases([tmp_path / "ct"], tmp_path / "out"))
    assert [case.shape[0] for case in found if isinstance(case, Case)] == [3]
    assert [each.reason for each in found if not isinstance(each, Case)] == [
        f"ct/zz-copy.dcm: a copy of {path.name}, which is read."
    ]


def test_a_deflated_slice_is_read_unless_it_would_fill_the_memory(tmp_path, monkeypatch):
    (path,) = series(tmp_path / "ct", count=1)
    plain = one([path], tmp_path / "out").slices(0, 1)
    header = pydicom.dcmread(path)
    header.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    header.save_as(path)
    assert np.array_equal(one([path], tmp_path / "out").slices(0, 1), plain)
    length = pydicom.dcmread(path).file_meta.FileMetaInformationGroupLength
    monkeypatch.setattr(dicom_series, "LARGEST_DEFLATED", 2**20)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    zeros = packer.compress(bytes(2**21)) + packer.flush()
    path.write_bytes(path.read_bytes()[: 144 + length] + zeros)
    (refusal,) = cases([path], tmp_path / "out")
    assert refusal.reason == f"{path.name}: inflates to more than one image; save it uncompressed."


def test_slices_without_a_position_are_one_case_in_the_order_of_their_numbers(tmp_path):
    for at in range(3):
        tags = {"Modality": "CT", "RescaleIntercept": -1024, "SeriesInstanceUID": "1.5"}
        pixels = np.full((40, 40), 24 + 300 * at)
        save_dicom(
            tmp_path / "ct" / f"{at}.dcm", pixels, f"1.5.{at}", InstanceNumber=9 - at, **tags
        )
    case = one([tmp_path / "ct"], tmp_path / "out")
    assert case.voxel_ml is None
    assert "do not state their positions" in warnings(case)
    assert np.array_equal(np.argsort(case.slices(0, 3)[:, 0, 0]), [2, 1, 0])


def test_the_committed_table_is_what_masks_do_now(tmp_path):
    with modules_of("benchmarks", "geometry") as (geometry,):
        text = geometry.page(tmp_path)
    assert text == geometry.PAGE.read_text(encoding="utf8")
    assert "differ" not in text.partition("|")[2]
