"""The cache: made once per content and recipe, never stale, never half, and flat in memory."""

import hashlib
import shutil
from pkgutil import resolve_name
from traceback import walk_stack

import numpy as np
import pytest
from builders import adult_xrays, ct_slices, save_png

from covid_utils import paths
from covid_utils.data import cache, lung_field, readers
from covid_utils.data.images import Preprocessing, preprocess, preprocess_mask

pytestmark = pytest.mark.usefixtures("home")
SMALL = Preprocessing(size=24)


@pytest.fixture
def root(tmp_path):
    return adult_xrays(tmp_path / "scans")


@pytest.fixture
def decoded(monkeypatch):
    """Paths that were decoded, in order."""
    seen, load = [], readers.load_image

    def counting(root, row):
        seen.append(row.path)
        return load(root, row)

    monkeypatch.setattr(readers, "load_image", counting)
    return seen


def rows_of(root):
    return readers.read("nih-adult", root).rows


def expected(root, rows, settings=SMALL):
    return np.stack(
        [preprocess(readers.load_image(root, row), settings) for row in rows.itertuples()]
    )


def files(kind="images"):
    return sorted(file for file in (paths.cache() / kind).rglob("*") if file.is_file())


# Images and masks


def test_images_are_made_once_whatever_the_order_and_choice_of_rows(root, decoded):
    rows = rows_of(root)
    some = cache.images(rows.iloc[[3, 1]], root, SMALL)
    assert some.shape == (2, 24, 24)
    assert sorted(decoded) == sorted(rows["path"].iloc[[3, 1]])
    decoded.clear()
    every = cache.images(rows.iloc[::-1], root, SMALL)
    assert sorted(decoded) == sorted(rows["path"].drop([1, 3]))
    decoded.clear()
    assert np.array_equal(cache.images(rows, root, SMALL)[:], every[::-1])
    assert decoded == []
    assert np.array_equal(every, expected(root, rows.iloc[::-1]))
    assert len(files()) == len(rows)


@pytest.mark.parametrize("left", [None, 0, 60, 500])
def test_a_file_that_is_cut_or_gone_is_made_anew(root, left, decoded):
    rows = rows_of(root)
    right = cache.images(rows, root, SMALL)[:]
    content = files()[2].read_bytes()
    files()[2].unlink() if left is None else files()[2].write_bytes(content[:left])
    decoded.clear()
    assert np.array_equal(cache.images(rows, root, SMALL), right)
    assert len(decoded) == 1


def test_other_settings_and_versions_make_other_files(root, monkeypatch, decoded):
    gray = np.random.default_rng(0).integers(0, 256, (60, 50), dtype=np.uint8)
    content = hashlib.sha256(preprocess(gray, Preprocessing(32)).tobytes()).hexdigest()[:12]
    assert (cache.IMAGES, content) == (1, "cc8dea3c9220"), "raise cache.IMAGES with the new hash"
    rows = rows_of(root)
    for number, settings in enumerate((SMALL, Preprocessing(16), Preprocessing(24, 0.0)), 1):
        assert np.array_equal(cache.images(rows, root, settings), expected(root, rows, settings))
        assert len(files()) == number * len(rows)
    decoded.clear()
    monkeypatch.setattr(cache, "IMAGES", cache.IMAGES + 1)
    cache.images(rows, root, SMALL)
    assert len(decoded) == len(rows)


def test_changed_content_is_made_anew_and_equal_content_is_not(root, decoded):
    before = cache.images(rows_of(root), root, SMALL)[:]
    save_png(root / rows_of(root).loc[2, "path"], seed=99)
    (root / "nih-adult" / "No_findings" / "9999_000.png").write_bytes(
        (root / rows_of(root).loc[0, "path"]).read_bytes()
    )
    rows = rows_of(root)
    decoded.clear()
    after = cache.images(rows, root, SMALL)
    assert decoded == [rows.loc[2, "path"]]
    assert np.array_equal(after, expected(root, rows))
    assert (before == after[:5]).all(axis=(1, 2)).tolist() == [True, True, False, True, True]


def test_masks_lie_on_their_images_and_a_mended_one_is_not_served_from_before(tmp_path):
    root = ct_slices(tmp_path / "scans", effusion=3)
    rows = readers.read("medseg", root).rows
    masks = cache.masks(rows, root, SMALL)
    for mask, row in zip(masks, rows.itertuples(), strict=True):
        assert np.array_equal(mask, preprocess_mask(readers.load_mask(root, row), SMALL))
    assert set(np.unique(masks)) == {0, 1, 2, 3}
    assert np.array_equal(cache.images(rows, root, SMALL), expected(root, rows))
    ct_slices(root, effusion=2)
    assert set(np.unique(cache.masks(readers.read("medseg", root).rows, root, SMALL))) == {0, 1, 2}


@pytest.mark.parametrize("crop", ["lungs", "field"])
def test_image_mask_and_field_are_cropped_to_what_the_manifest_says(tmp_path, crop):
    root, settings = ct_slices(tmp_path / "scans"), Preprocessing(24, 0.0, crop=crop)
    rows = readers.read("medseg", root).rows.assign(lungs="1 0 9 9", field="2 3 8 9")
    place = rows.loc[0, crop]
    image, mask = (load(root, rows.loc[0]) for load in (readers.load_image, readers.load_mask))
    assert np.array_equal(cache.images(rows, root, settings)[0], preprocess(image, settings, place))
    outlined = preprocess_mask(mask, settings, place)
    assert np.array_equal(cache.masks(rows, root, settings)[0], outlined)
    field = preprocess_mask(lung_field.field(image).astype(np.uint8), settings, place)
    assert np.array_equal(cache.fields(rows, root, settings)[0], field)


def test_prepared_images_are_those_of_the_cache_and_none_is_kept(root, decoded):
    rows = rows_of(root).iloc[::-1]
    prepared = cache.prepared(rows, root, SMALL)
    assert (prepared.shape, prepared.dtype, decoded) == ((5, 24, 24), np.uint8, [])
    assert np.array_equal(prepared[3], prepared[3])
    assert decoded == [rows["path"].iloc[3]] * 2
    assert not paths.cache().exists()
    assert np.array_equal(prepared, cache.images(rows, root, SMALL))


OURS = str(paths.PROJECT / "covid_utils")
DECODERS = {"lidc-idri": "pydicom.dcmread", "medseg": "nibabel.load", "luna16": "numpy.fromfile"}
DECODERS |= {"chest_xray": "PIL.Image.open", "rsna": "pydicom.dcmread"}


@pytest.mark.parametrize("name", DECODERS)
def test_an_image_comes_from_disk_to_the_cache_through_eight_functions(
    phantom, tmp_path, monkeypatch, name
):
    """A reader follows it from `cache.images` to the library that decodes the file."""
    row, decode, stacks = readers.read(name, phantom).rows[:1], resolve_name(DECODERS[name]), []
    folder = row["path"].str.split("/")[0][0]
    shutil.copytree(phantom / folder, tmp_path / folder)  # no file that is known already

    def decoding(*given, **named):
        codes = [frame.f_code for frame, _ in walk_stack(None)]
        stacks.append([one.co_qualname for one in codes if OURS in one.co_filename])
        return decode(*given, **named)

    monkeypatch.setattr(DECODERS[name], decoding)
    cache.images(row, tmp_path, SMALL)
    (outside,) = {stack[-1] for stack in stacks}
    assert outside == "prepared.<locals>.row", "the thread begins within images and Recipe.filled"
    assert max(map(len, stacks)) + 2 <= 8, stacks


# Recipes


@pytest.mark.parametrize("dtype", [np.uint8, np.float16])
@pytest.mark.parametrize("shape", [(), (35, 35, 288)])
def test_a_file_is_an_npy_array_with_the_header_that_is_skipped(shape, dtype):
    one = cache.Recipe("features", 1, {}, shape, dtype)
    array = np.random.default_rng(0).integers(0, 99, shape).astype(dtype)
    one.write("a", array.astype(np.float64))
    assert np.array_equal(np.load(one.path("a")), array)
    assert np.array_equal(one.rows(["a"])[0], array)


# Lazy rows


INDICES = (0, -1, np.int64(3), slice(2, 5), slice(None, None, -2), slice(5, 99))
INDICES += (np.array([5, 0, 5, -2]), [6, 1], np.array([], int), np.arange(7) % 3 == 0)


def test_more_are_made_than_are_in_memory_at_a_time(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    recipe, names = cache.Recipe("features", 1, {}, (), np.int64), [str(at) for at in range(40)]
    assert recipe.filled(names, np.arange(40).__getitem__)[:].tolist() == list(range(40))


@pytest.mark.parametrize("kind", ["kept", "made", "chosen"])
def test_rows_are_indexed_like_an_array(kind):
    array = np.stack([np.arange(7), np.arange(7) ** 2], axis=1).astype(np.float32)
    if kind == "kept":
        recipe = cache.Recipe("features", 1, {}, (2,), np.float32)
        rows = recipe.filled([f"row {at}" for at in range(7)], array.__getitem__)
    else:
        rows = cache.Rows((7, 2), np.float32, array.__getitem__)
    if kind == "chosen":
        backwards = np.arange(7)[::-1]
        rows, array = cache.rows_of(rows, backwards), cache.rows_of(array, backwards)
        assert isinstance(rows, cache.Rows)
    for index in INDICES:
        assert np.array_equal(rows[index], array[index])
        assert rows[index].shape == array[index].shape
        assert rows[index].dtype == array.dtype
    for outside in (7, -8, np.array([0, 7]), np.ones(6, bool)):
        with pytest.raises(IndexError):
            rows[outside]
    assert (len(rows), rows.shape) == (7, (7, 2))
    assert np.array_equal(np.asarray(rows, np.float64), array)
    assert np.array_equal(np.stack(list(rows)), array)
