"""Slices of other hospitals: read upright with their masks, apart from all training."""

import nibabel
import numpy as np
import pytest
from builders import join, manifest, save_png
from PIL import Image
from test_readers import kinds
from test_similarity import picture, turned

from covid_utils.data import collection, readers, splits
from covid_utils.data.readers.hospitals import CASES, EXPORT, INFECTION, LUNGS

VOLUMES, PICTURES = CASES.lower(), EXPORT


def save_volume(path, voxels, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine).to_filename(path)


def volume(root, name="a", scale="hu", slices=30, turned_over=False):
    """A body with two lungs in all but 5 slices, and a lesion at the left front of each lung.

    Voxels run from right to left, back to front and feet to head, or the other way round.
    """
    voxels = np.full((20, 24, slices), 40, np.int16)
    lungs, infection = (np.zeros(voxels.shape, np.uint8) for _ in range(2))
    lungs[2:8, 4:20, 5:], lungs[12:18, 4:20, 5:] = 2, 1
    voxels[lungs > 0] = -850 + np.arange((lungs > 0).sum()) % 90
    infection[3:5, 16:19, 5:] = 1
    voxels[infection > 0] = -100
    voxels[0, :, :] = -1000
    if scale == "8 bit":
        voxels = np.clip((voxels + 1250) * 255 / 1500, 0, 255).astype(np.uint8)
    affine = np.diag([1.0, 1, 1, 1])
    if turned_over:
        affine[0, 0] = affine[1, 1] = -1
        voxels, lungs, infection = (part[::-1, ::-1] for part in (voxels, lungs, infection))
    folder = root / CASES
    save_volume(folder / CASES / f"{name}.nii.gz", voxels, affine)
    save_volume(folder / INFECTION / f"{name}.nii.gz", infection)  # without the volume's axes
    save_volume(folder / LUNGS / f"{name}.nii.gz", lungs)
    return root


@pytest.mark.parametrize("turned_over", [False, True])
@pytest.mark.parametrize("scale", ["hu", "8 bit"])
def test_slices_with_lung_are_evenly_taken_and_upright_with_their_masks(
    tmp_path, turned_over, scale
):
    reading = readers.read(VOLUMES, volume(tmp_path, "a", scale, 45, turned_over))
    assert reading.problems.empty
    frames = reading.rows["frame"].to_numpy()
    assert frames.tolist() == list(range(6, 45, 2)), "the middle of each of `MOST_SLICES` parts"
    assert set(reading.rows["patient_id"]) == {f"{VOLUMES}/a"}
    assert set(reading.rows["label_quality"]) == {"none"}
    row = reading.rows.iloc[3]
    image, mask = readers.load_image(tmp_path, row), readers.load_mask(tmp_path, row)
    lungs = readers.load_lungs(tmp_path, row)
    assert image.shape == mask.shape == lungs.shape == (24, 20)
    rows, columns = np.nonzero(mask)
    assert rows.max() < 12, "the front is on top"
    assert columns.min() > 10, "what lies at low x is the patient's right and shown at the left"
    assert mask.max() == 1
    assert lungs[mask > 0].all()
    assert image[lungs & (mask == 0)].max() < image[mask > 0].min() < 255


@pytest.mark.parametrize(
    ("place", "beside"), [("", True), ("COVID-19-CT-Seg_20cases", True), ("more", False)]
)
def test_volumes_and_masks_are_found_however_the_archives_were_unpacked(tmp_path, place, beside):
    folder = volume(tmp_path) / CASES
    whole = readers.read(VOLUMES, tmp_path).rows
    goal = folder / place / "a.nii.gz"
    goal.parent.mkdir(exist_ok=True)
    (folder / CASES / "a.nii.gz").rename(goal)
    for kind in (INFECTION, LUNGS) if beside else ():
        (folder / kind).rename(folder.parent / kind)
    reading = readers.read(VOLUMES, tmp_path)
    assert reading.problems.empty
    assert reading.rows["frame"].tolist() == whole["frame"].tolist()


CUT = "cut"
SHORT = np.zeros((20, 24, 29), np.uint8)


@pytest.mark.parametrize(
    ("folder", "content", "problem", "cause"),
    [
        (INFECTION, None, "missing", "Infection_Mask has no file of this name"),
        (INFECTION, CUT, "unreadable", "not a complete NIfTI file"),
        (CASES, CUT, "unreadable", "not a complete NIfTI file"),
        (INFECTION, SHORT, "unreadable", r"mask of \(20, 24, 29\) for a volume of \(20, 24, 30\)"),
        (LUNGS, np.zeros((20, 24, 30), np.uint8), "unreadable", "shows no lungs"),
    ],
    ids=["no mask", "cut mask", "cut volume", "other size", "no lungs"],
)
def test_a_damaged_volume_is_one_problem_and_the_others_are_read(
    tmp_path, folder, content, problem, cause
):
    path = volume(volume(tmp_path, "a"), "b") / CASES / folder / "b.nii.gz"
    if content is None:
        path.unlink()
    elif content is CUT:
        path.write_bytes(path.read_bytes()[:-40])
    else:
        save_volume(path, content)
    reading = readers.read(VOLUMES, tmp_path)
    assert kinds(reading) == [(problem, "b.nii.gz")]
    assert reading.problems["remedy"].str.contains(cause).all()
    assert set(reading.rows["patient_id"]) == {f"{VOLUMES}/a"}


def pictures(root, count=4):
    folder = root / EXPORT
    for number in range(count):
        for part in ("ct", "infection", "lungs"):
            save_png(folder / part / f"000{number}.png", number)
    lines = "".join(f"000{number},v0{number // 2}\n" for number in range(count))
    (folder / "slices.csv").write_text(f"slice,volume\n{lines}")
    return folder


def test_pictures_have_the_volume_of_the_table_and_one_problem_each(tmp_path):
    folder = pictures(tmp_path, 6)
    (folder / "lungs" / "0001.png").unlink()
    save_png(folder / "infection" / "0002.png", 2, (5, 5))
    (folder / "ct" / "0003.png").unlink()
    save_png(folder / "ct" / "9999.png", 9)
    reading = readers.read(PICTURES, tmp_path)
    assert reading.rows["patient_id"].tolist() == [f"{EXPORT}/v0{k}" for k in (0, 2, 2)]
    assert kinds(reading) == [
        ("missing", "0003"),
        ("unlabelled", "9999.png"),
        ("unreadable", "0001.png"),
        ("unreadable", "0002.png"),
    ]
    row = reading.rows.iloc[0]
    # The same picture is its own mask here: all that is not black is outlined.
    shown = readers.load_image(tmp_path, row) > 0
    assert np.array_equal(readers.load_mask(tmp_path, row), shown)
    assert np.array_equal(readers.load_lungs(tmp_path, row), shown)


# Apart from all training


def external_rows(**columns):
    return manifest({"v1": 3, "v2": 3}, EXPORT, "covid", "CT", **columns)


def test_external_rows_are_their_own_subset_and_move_no_other_row():
    own = join(
        manifest({f"p{k}": 2 for k in range(20)}),
        manifest({f"s{k}": 1 for k in range(12)}, "medseg", "covid", "CT"),
    )
    # Even where an external slice is a picture of two patients of the others.
    external = external_rows()
    external.loc[0, ["phash", "sha256"]] = own.loc[0, ["phash", "sha256"]].tolist()
    published = dict.fromkeys(own.loc[own["dataset"] == "medseg", "image_id"], "train")
    for given in (None, published):
        alone = splits.assign(own, validation=20, test=20, published=given)
        both = splits.assign(join(own, external), validation=20, test=20, published=given)
        is_own = both["dataset"] != EXPORT
        assert both[is_own].reset_index(drop=True).equals(alone)
        assert set(both.loc[~is_own, "subset"]) == {"external"}
    limited = collection.reduce(join(own, external), 5, 1)
    kept = limited[limited["dataset"] != EXPORT].reset_index(drop=True)
    assert kept.equals(collection.reduce(own, 5, 1))


@pytest.mark.parametrize("how", ["same hash", "turned"])
def test_a_slice_that_another_data_set_shows_tests_nothing_and_is_reported(tmp_path, how):
    own = manifest({f"s{k}": 1 for k in range(4)}, "covid-ct", "covid", "CT")
    rows = splits.assign(join(own, external_rows()))
    images = dict(zip(rows["path"], map(picture, range(len(rows))), strict=True))
    copied = rows["path"].str.endswith("v1-1.png")
    (path,) = rows.loc[copied, "path"]
    if how == "turned":
        images[path] = turned(picture(0), 90, flip=True)
    else:
        rows.loc[copied, "phash"] = rows["phash"][0]
    for name, image in images.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / name)
    table, problems = collection.without_seen(rows, tmp_path)
    assert problems[["path", "problem"]].to_numpy().tolist() == [[path, "near copy"]]
    assert rows["image_id"][0] in problems["remedy"][0]
    assert table["subset"].equals(rows["subset"].mask(copied, "unused"))
