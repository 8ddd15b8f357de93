"""The cache: made once, never stale, never half."""

import subprocess
import sys

import numpy as np
import pytest
from builders import adult_xrays, ct_slices, save_png

from covid_utils import paths
from covid_utils.data import cache, medseg, nih_adult, sources
from covid_utils.data.images import Preprocessing, preprocess, preprocess_mask
from covid_utils.errors import DataError

SMALL = Preprocessing(size=24)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("COVID_HOME", str(tmp_path / "home"))


@pytest.fixture
def root(tmp_path):
    return adult_xrays(tmp_path / "scans")


@pytest.fixture
def decoded(monkeypatch):
    """Paths that were decoded, in order."""
    seen, load = [], sources.load_image

    def counting(root, row):
        seen.append(row.path)
        return load(root, row)

    monkeypatch.setattr(sources, "load_image", counting)
    return seen


def rows_of(root):
    return nih_adult.read(root).rows


def expected(root, rows, settings=SMALL):
    return np.stack(
        [preprocess(sources.load_image(root, row), settings) for row in rows.itertuples()]
    )


def arrays(kind="images"):
    return sorted((paths.cache() / kind).glob("*.npy"))


def test_images_are_prepared_in_the_order_of_the_rows(root):
    rows = rows_of(root).iloc[::-1]
    assert np.array_equal(cache.images(rows, root, SMALL), expected(root, rows))


def test_made_once(root, decoded):
    rows = rows_of(root)
    first = np.array(cache.images(rows, root, SMALL))
    assert sorted(decoded) == rows["path"].tolist()
    decoded.clear()
    assert np.array_equal(cache.images(rows, root, SMALL), first)
    assert decoded == []
    assert len(arrays()) == 1


@pytest.mark.parametrize(
    "settings", [Preprocessing(16), Preprocessing(24, 0.0), Preprocessing(24, 2.0, 4)]
)
def test_other_settings_make_another_array(root, settings):
    rows = rows_of(root)
    cache.images(rows, root, SMALL)
    assert np.array_equal(cache.images(rows, root, settings), expected(root, rows, settings))
    assert len(arrays()) == 2


def test_another_order_or_choice_makes_another_array(root):
    rows = rows_of(root)
    cache.images(rows, root, SMALL)
    for other in (rows.iloc[::-1], rows.iloc[1:]):
        assert np.array_equal(cache.images(other, root, SMALL), expected(root, other))
    assert len(arrays()) == 3


def test_another_content_under_the_same_name_makes_another_array(root):
    before = np.array(cache.images(rows_of(root), root, SMALL))
    save_png(root / rows_of(root).loc[2, "path"], seed=99)
    rows = rows_of(root)
    after = cache.images(rows, root, SMALL)
    assert np.array_equal(after, expected(root, rows))
    assert [np.array_equal(a, b) for a, b in zip(before, after, strict=True)] == [
        True,
        True,
        False,
        True,
        True,
    ]


def test_masks_lie_on_their_images(tmp_path):
    root = ct_slices(tmp_path / "scans")
    rows = medseg.read(root).rows
    masks = cache.masks(rows, root, SMALL)
    for mask, row in zip(masks, rows.itertuples(), strict=True):
        assert np.array_equal(mask, preprocess_mask(sources.load_mask(root, row), SMALL))
    assert set(np.unique(masks)) == {0, 1, 2, 3}
    assert np.array_equal(cache.images(rows, root, SMALL), expected(root, rows))


def test_a_mended_mask_is_not_served_from_before(tmp_path):
    root = ct_slices(tmp_path / "scans", effusion=3)
    before = cache.masks(medseg.read(root).rows, root, SMALL)
    assert set(np.unique(before)) == {0, 1, 2, 3}
    ct_slices(root, effusion=2)
    after = cache.masks(medseg.read(root).rows, root, SMALL)
    assert set(np.unique(after)) == {0, 1, 2}


def test_read_only(root):
    array = cache.images(rows_of(root), root, SMALL)
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0, 0] = 1


def test_an_image_that_fails_leaves_no_array_behind(root):
    rows = rows_of(root)
    broken = root / rows.loc[3, "path"]
    whole = broken.read_bytes()
    broken.write_bytes(whole[:40])
    with pytest.raises(DataError, match=r"0003_000\.png"):
        cache.images(rows, root, SMALL)
    broken.write_bytes(whole)
    assert np.array_equal(cache.images(rows, root, SMALL), expected(root, rows))


def test_what_a_killed_process_left_is_not_served(root):
    rows = rows_of(root)
    right = np.array(cache.images(rows, root, SMALL))
    (whole,) = arrays()
    half = whole.read_bytes()[:-200] + bytes(200)
    whole.unlink()
    whole.with_name(f".partial-{whole.name}").write_bytes(half)
    assert np.array_equal(cache.images(rows, root, SMALL), right)
    assert arrays() == [whole]


@pytest.mark.parametrize("left", [0, 60, 500])
def test_a_damaged_array_is_made_anew_or_named(root, left):
    rows = rows_of(root)
    right = np.array(cache.images(rows, root, SMALL))
    (path,) = arrays()
    path.write_bytes(path.read_bytes()[:left])
    try:
        found = cache.images(rows, root, SMALL)
    except DataError as error:
        assert path.name in str(error)
    else:
        assert np.array_equal(found, right)


SECOND = """
import sys, time
import numpy as np
from covid_utils.data import cache

def write(target):
    with open(sys.argv[1], "a") as log:
        log.write("made\\n")
    time.sleep(1.0)
    np.save(target, np.arange(7))

print(cache.stored("features", ["a"], {}, write).sum())
"""


def test_two_processes_make_it_once(tmp_path):
    log = tmp_path / "log.txt"
    command = [sys.executable, "-c", SECOND, str(log)]
    both = [
        subprocess.Popen(command, cwd=paths.PROJECT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate()[0].strip() for process in both] == ["21", "21"]
    assert log.read_text() == "made\n"
