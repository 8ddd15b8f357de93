"""Rows that are computed once and found again, and arrays whose rows are made when asked for."""

import os
import subprocess
import sys

import numpy as np
import pytest
from builders import adult_xrays

from covid_utils import paths
from covid_utils.data import cache, nih_adult, sources
from covid_utils.data.images import Preprocessing, preprocess
from covid_utils.data.lazy import Chosen, LazyRows
from covid_utils.data.store import Store

SETTINGS = {"weights": "one", "size": 8}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("COVID_HOME", str(tmp_path / "home"))


def store(settings=SETTINGS, shape=(2, 3), dtype=np.float32, kind="features"):
    return Store(kind, settings, shape, dtype)


def row(key, shape=(2, 3)):
    """The row of a key: no two are alike."""
    return np.random.default_rng(list(key.encode())).normal(0, 1, shape).astype(np.float32)


class Maker:
    """Makes rows in batches of two, and remembers what it was asked to make."""

    def __init__(self, keys, fails_at=""):
        self.keys, self.fails_at, self.made = keys, fails_at, []

    def __call__(self, positions):
        for first in range(0, len(positions), 2):
            some = positions[first : first + 2]
            if self.fails_at in [self.keys[i] for i in some]:
                raise KeyboardInterrupt
            self.made += [self.keys[i] for i in some]
            yield some, np.stack([row(self.keys[i]) for i in some])


def filled(keys, into=None):
    """A store's rows of some keys, and the keys that had to be made."""
    maker = Maker(keys)
    rows = (into or store()).fill(keys, maker)
    return rows, maker.made


def expected(keys):
    return np.stack([row(key) for key in keys])


def files(kind="features"):
    """The only values file of a kind, and its keys."""
    (values,) = (paths.cache() / kind).glob("*.rows")
    return values, values.with_suffix(".keys")


# Store


def test_an_empty_store_has_nothing_and_writes_nothing():
    empty = store()
    assert len(empty.keys()) == 0
    assert empty.missing(["a", "b"]).tolist() == [0, 1]
    assert empty.read([])[:].shape == (0, 2, 3)
    with pytest.raises(KeyError, match="a"):
        empty.read(["a"])
    assert not paths.cache().exists()


def test_rows_are_read_in_any_order_and_several_times():
    store().add([(["a", "b"], expected("ab")), (["c"], expected("c"))])
    assert store().keys().tolist() == ["a", "b", "c"]
    for keys in ("abc", "cab", "b", "aacab"):
        found = store().read(list(keys))
        assert found.shape == (len(keys), 2, 3)
        assert found.dtype == np.float32
        assert np.array_equal(found[:], expected(keys))
    with pytest.raises(KeyError, match="z"):
        store().read(["a", "z"])


def test_only_what_is_missing_is_made():
    assert filled(["a", "b", "c"])[1] == ["a", "b", "c"]
    assert filled(["c", "a"])[1] == []
    rows, made = filled(["d", "b", "e", "a", "f"])
    assert made == ["d", "e", "f"]
    assert np.array_equal(rows[:], expected("dbeaf"))
    assert store().keys().tolist() == list("abcdef")


def test_equal_keys_are_made_once():
    rows, made = filled(["a", "b", "a", "c", "b"])
    assert made == ["a", "b", "c"]
    assert np.array_equal(rows[:], expected("abacb"))
    assert store().missing(["x", "a", "x", "y"]).tolist() == [0, 3]


def test_batches_may_come_in_any_order():
    keys = ["a", "b", "c"]

    def make(positions):
        for position in positions[::-1]:
            yield np.array([position]), row(keys[position])[None]

    assert np.array_equal(store().fill(keys, make)[:], expected(keys))
    assert store().keys().tolist() == ["c", "b", "a"]


@pytest.mark.parametrize(
    "other",
    [
        {"settings": SETTINGS | {"weights": "two"}},
        {"settings": SETTINGS | {"layer": "mixed8"}},
        {"shape": (3, 2)},
        {"shape": (6,)},
        {"dtype": np.float16},
        {"kind": "maps"},
    ],
)
def test_other_settings_are_another_store(other):
    filled(["a"])
    assert store(**other).missing(["a"]).tolist() == [0]
    assert store(dict(reversed(SETTINGS.items()))).missing(["a"]).tolist() == []


def test_numbers_are_kept_in_the_stores_own_type():
    half = store(dtype=np.float16)
    half.add([(["a"], expected("a").astype(np.float64))])
    found = half.read(["a"])
    assert found[0].dtype == found.dtype == np.float16
    assert np.array_equal(found[:], expected("a").astype(np.float16))
    assert files()[0].stat().st_size == 2 * 6


def test_what_was_made_before_a_kill_stays():
    keys = list("abcdefg")
    with pytest.raises(KeyboardInterrupt):
        store().fill(keys, Maker(keys, fails_at="e"))
    assert store().keys().tolist() == list("abcd")
    rows, made = filled(keys)
    assert made == list("efg")
    assert np.array_equal(rows[:], expected(keys))


@pytest.mark.parametrize("lost", [1, 23, 24, 25, 47])
def test_a_cut_values_file_is_mended(lost):
    keys = list("abcd")
    filled(keys)
    values, _ = files()
    size = values.stat().st_size
    os.truncate(values, size - lost)
    whole = 4 - -(-lost // 24)
    assert store().keys().tolist() == keys[:whole]
    rows, made = filled(keys)
    assert made == keys[whole:]
    assert np.array_equal(rows[:], expected(keys))
    assert values.stat().st_size == size


@pytest.mark.parametrize("lost", [1, 3, 4])
def test_a_cut_line_of_keys_is_mended(lost):
    keys = ["key1", "key2", "key3"]
    filled(keys)
    values, names = files()
    # From the last letter on: the key before it still has its line's end.
    os.truncate(names, names.stat().st_size - lost)
    assert store().keys().tolist() == keys[:2]
    rows, made = filled(["key4", *keys])
    assert made == ["key4", "key3"]
    assert np.array_equal(rows[:], expected(["key4", *keys]))
    assert names.read_text().split() == ["key1", "key2", "key4", "key3"]
    assert values.stat().st_size == 4 * 24


@pytest.mark.parametrize("which", [0, 1])
def test_without_one_of_its_files_a_store_starts_anew(which):
    filled(["a", "b"])
    files()[which].unlink()
    rows, made = filled(["b", "a"])
    assert made == ["b", "a"]
    assert np.array_equal(rows[:], expected("ba"))
    assert files()[0].stat().st_size == 2 * 24


def test_rows_without_keys_are_overwritten():
    filled(["a"])
    with files()[0].open("ab") as values:
        values.write(b"\x07" * 31)
    rows, made = filled(["b", "a"])
    assert made == ["b"]
    assert np.array_equal(rows[:], expected("ba"))


def test_a_reader_keeps_its_rows_while_others_are_added():
    rows, _ = filled(["a", "b"])
    later = store()
    filled(["c", "d"])
    assert np.array_equal(rows[:], expected("ab"))
    assert np.array_equal(later.read(["d", "a"])[:], expected("da"))
    assert len(rows) == 2


def test_stored_rows_cannot_be_changed():
    rows, _ = filled(["a", "b"])
    with pytest.raises(ValueError, match="read-only"):
        rows[0][:] = 1
    some = rows[np.array([0, 1])]
    some[:] = 1
    assert np.array_equal(rows[:], expected("ab"))


def test_the_second_process_waits_and_finds_what_the_first_has_made():
    code = """
import sys
import numpy as np
from covid_utils.data.store import Store

def make(positions):
    print("making", *positions, flush=True)
    sys.stdin.readline()
    yield positions, np.full((len(positions), 2), 7.0)

print(Store("features", {}, (2,)).fill(["a", "b"], make)[:].tolist())
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", code]
    with (
        subprocess.Popen(command, cwd=paths.PROJECT, **pipes) as first,
        subprocess.Popen(command, cwd=paths.PROJECT, **pipes) as second,
    ):
        try:
            for process in (first, second):
                process.stdin.write("\n")
                process.stdin.flush()
            said = [process.communicate(timeout=60)[0] for process in (first, second)]
        finally:
            first.kill()
            second.kill()
    numbers = "[[7.0, 7.0], [7.0, 7.0]]\n"
    assert sorted(said) == [numbers, f"making 0 1\n{numbers}"]
    assert Store("features", {}, (2,)).keys().tolist() == ["a", "b"]


def test_one_process_may_hold_the_lock_twice():
    one = store()
    with one.lock:
        assert filled(["a"], store())[1] == ["a"]


# Lazy rows


class Squares(LazyRows):
    """Row k is k and its square; remembers which were made."""

    def __init__(self, rows=7):
        self.shape, self.dtype, self.made = (rows, 2), np.dtype(np.float32), []

    def _row(self, position):
        self.made.append(position)
        return np.array([position, position**2], np.float32)


def several():
    """Lazy rows of each kind, with the array that they stand for."""
    array = np.stack([np.arange(7), np.arange(7) ** 2], axis=1).astype(np.float32)
    names = [f"row {number}" for number in range(7)]
    kept = Store("squares", {}, (2,))
    shuffled = [4, 0, 6, 1, 5, 2, 3]
    if len(kept.missing(names)):
        kept.add([([names[i] for i in shuffled], array[shuffled])])
    mapped = cache.stored("squares", [], {}, lambda path: np.save(path, array[::-1].copy()))
    chosen = cache.Rows(mapped, np.arange(7)[::-1])
    twice = Chosen(Chosen(Squares(9), np.arange(9)[::-1]), np.arange(8, 1, -1))
    return {"made": Squares(), "stored": kept.read(names), "read": chosen, "twice": twice}, array


KINDS = ("made", "stored", "read", "twice")
INDICES = {
    "first": 0,
    "last": -1,
    "numpy's": np.int64(3),
    "slice": slice(2, 5),
    "backwards": slice(None, None, -2),
    "beyond": slice(5, 99),
    "nothing": slice(3, 3),
    "all": slice(None),
    "some": np.array([5, 0, 5, -2]),
    "list": [6, 1],
    "no position": np.array([], int),
    "where": np.array([True, False, False, True, True, False, False]),
    "nowhere": np.zeros(7, bool),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_lazy_rows_are_indexed_like_an_array(kind, index):
    rows, array = several()
    found = rows[kind][index]
    assert np.array_equal(found, array[index])
    assert found.shape == array[index].shape
    assert found.dtype == array.dtype


@pytest.mark.parametrize("kind", KINDS)
def test_lazy_rows_refuse_what_lies_outside(kind):
    rows = several()[0][kind]
    for outside in (7, -8, np.array([0, 7]), np.array([-8]), np.ones(6, bool)):
        with pytest.raises(IndexError):
            rows[outside]


@pytest.mark.parametrize("kind", KINDS)
def test_lazy_rows_become_an_array_and_can_be_gone_through(kind):
    rows, array = several()
    rows = rows[kind]
    assert len(rows) == 7
    assert rows.shape == (7, 2)
    assert np.array_equal(np.asarray(rows), array)
    assert np.asarray(rows).dtype == np.float32
    assert np.asarray(rows, np.float64).dtype == np.float64
    assert np.array_equal(np.stack(list(rows)), array)


def test_rows_are_made_only_when_asked_for():
    rows = Squares()
    assert rows.shape == (7, 2)
    assert rows.made == []
    rows[-2]
    rows[np.array([4, 0])]
    assert rows.made == [5, 4, 0]


# Prepared images


@pytest.fixture
def root(tmp_path):
    return adult_xrays(tmp_path / "scans")


def test_prepared_images_are_those_of_the_cache_and_none_is_kept(root, monkeypatch):
    settings = Preprocessing(size=24)
    rows = nih_adult.read(root).rows.iloc[::-1]
    decoded, load = [], sources.load_image

    def counting(root, row):
        decoded.append(row["image_id"])
        return load(root, row)

    monkeypatch.setattr(sources, "load_image", counting)
    prepared = cache.Prepared(rows, root, settings)
    assert prepared.shape == (5, 24, 24)
    assert prepared.dtype == np.uint8
    assert decoded == []
    names = rows["image_id"].tolist()
    for number in (3, 3):
        one = preprocess(load(root, rows.iloc[number]), settings)
        assert np.array_equal(prepared[number], one)
    assert decoded == [names[3]] * 2
    some = prepared[np.array([4, 1])]
    assert decoded[2:] == [names[4], names[1]]
    assert not paths.cache().exists()
    whole = np.array(cache.images(rows, root, settings))
    assert np.array_equal(some, whole[[4, 1]])
    assert np.array_equal(np.asarray(prepared), whole)
