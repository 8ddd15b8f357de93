"""Features of a frozen network: computed once per content, and those of the network."""

from types import SimpleNamespace

import numpy as np
import pytest
import toy_inception
from builders import adult_xrays

from covid_utils.data import augment, cache, readers
from covid_utils.data.images import Preprocessing
from covid_utils.errors import DataError
from covid_utils.training import features

pytestmark = pytest.mark.usefixtures("eager")

SMALL = Preprocessing(24)


@pytest.fixture
def toys(monkeypatch, tmp_path):
    """Toys in place of Inception-v3: what was built, and the rows that went through one."""
    monkeypatch.setenv("COVID_HOME", str(tmp_path / "home"))
    seen = SimpleNamespace(built=[], calibrated=[], rows=[], passes=0)
    extract = features.extract

    def network(weights, last, seed, calibrate=None, side=299):
        seen.built.append((weights, last, seed))
        seen.calibrated.append(calibrate)
        return toy_inception.network(weights, last, seed, side=side)

    def counting(model, images, positions):
        seen.passes += bool(len(positions))
        for chosen, outputs in extract(model, images, positions):
            seen.rows += chosen.tolist()
            yield chosen, outputs

    toy_inception.install(monkeypatch, network)
    monkeypatch.setattr(features, "extract", counting)
    return seen


@pytest.fixture
def xrays(tmp_path):
    """Six X-rays on disk, of which four train."""
    root = adult_xrays(tmp_path / "scans", patients=6)
    rows = readers.read("nih-adult", root).rows
    return SimpleNamespace(root=root, rows=rows.assign(subset=["train"] * 4 + ["test"] * 2))


def extraction(xrays, rows=None, settings=SMALL, weights="imagenet", last="mixed2", seed=3):
    rows = xrays.rows if rows is None else rows
    return features.Extraction(rows, xrays.root, settings, weights, last, seed)


def values(xrays, layer="mixed2", **changes):
    return extraction(xrays, **changes).features((layer,))[layer].values


def maps_of(images, layer, seed=3):
    """What a toy makes of images, past everything that is tested here."""
    import keras

    shown = features.to_input(np.stack(list(images)))
    model = toy_inception.network(seed=seed, side=shown.shape[1])
    part = keras.Model(model.input, model.get_layer(layer).output)
    return part.predict_on_batch(shown)


def test_only_images_over_299_pixels_are_resized_for_the_network():
    images = np.random.default_rng(3).integers(0, 256, (2, 80, 80)).astype(np.uint8)
    same = features.to_input(images)
    assert np.array_equal(same, np.repeat(images[..., None] / np.float32(127.5) - 1, 3, axis=-1))
    assert features.to_input(np.zeros((1, 512, 512), np.uint8)).shape == (1, 299, 299, 3)


def test_features_are_the_averages_of_each_blocks_maps_whatever_the_batches(
    toys, xrays, monkeypatch
):
    monkeypatch.setattr(features, "BATCH", 4)
    rows = xrays.rows.iloc[::-1]
    tables = extraction(xrays, rows).features(("mixed2", "mixed0"))
    images = cache.images(rows, xrays.root, SMALL)
    for layer, table in tables.items():
        assert table.index.tolist() == rows["image_id"].tolist()
        assert table.to_numpy().dtype == np.float32
        assert np.allclose(table.values, maps_of(images, layer).mean(axis=(1, 2)), atol=1e-5)
    assert np.unique(tables["mixed2"].values, axis=0).shape == (6, 5)
    assert toys.passes == 1


def test_maps_are_kept_in_the_same_pass_and_half_precision(toys, xrays):
    one = extraction(xrays)
    one.compute(("mixed2",), before="mixed2")
    maps = one.maps("mixed2")
    assert (toys.passes, sorted(toys.rows)) == (1, list(range(6)))
    assert (maps.shape, maps.dtype) == ((6, 4, 4, 5), np.float16)
    expected = maps_of(cache.images(xrays.rows, xrays.root, SMALL), "mixed1")
    assert np.allclose(maps[:], expected, atol=2e-3)
    assert (one.maps("mixed1").shape, toys.passes) == ((6, 4, 4, 3), 2)
    last = maps_of(cache.images(xrays.rows, xrays.root, SMALL), "mixed2")
    assert np.allclose(one.last_maps([4, 1]), last[[4, 1]], atol=1e-5)


def test_features_are_made_once_for_each_network(toys, xrays, monkeypatch):
    file = xrays.root / "weights.npz"
    file.write_bytes(b"one")
    changes = [
        {"weights": file.name},
        {"weights": "imagenet"},
        {"weights": "none"},
        {"weights": "none", "seed": 4},
        {"settings": Preprocessing(16)},
        {"settings": Preprocessing(24, 0.0)},
        {"layer": "mixed1"},
    ]
    for number, change in enumerate(changes, 1):
        for _ in range(2):
            values(xrays, **change)
            assert toys.passes == number
    # The seed decides nothing here, nor does the depth at which the network is cut.
    values(xrays, seed=9)
    values(xrays, "mixed1", last="mixed1")
    assert toys.passes == 7
    file.write_bytes(b"two")
    values(xrays, weights=file.name)
    assert toys.passes == 8
    assert toys.built[-1][0] == str(file)
    monkeypatch.setattr(features, "VERSION", features.VERSION + 1)
    values(xrays)
    assert toys.passes == 9


def test_random_weights_are_calibrated_on_some_training_images(toys, xrays, monkeypatch):
    monkeypatch.setattr(features, "CALIBRATION_IMAGES", 3)
    rows = xrays.rows.iloc[::-1]
    one = extraction(xrays, rows, weights="none")
    one.features(("mixed2",))
    training = rows[rows["subset"] == "train"]
    shown = features.to_input(cache.images(training, xrays.root, SMALL)[:])
    used = {image.tobytes() for image in toys.calibrated[0]}
    assert len(used) == 3 < len(training)
    assert used <= {image.tobytes() for image in shown}
    # The same network is applied to other rows, though it would not be calibrated on them.
    tests = one.of(rows[rows["subset"] == "test"])
    tests.features(("mixed2",))
    assert (len(toys.built), len(toys.rows)) == (1, 6)
    with pytest.raises(DataError, match="calibrated on training images, and there are none"):
        values(xrays, rows=rows[rows["subset"] == "test"], weights="none")


def test_copies_have_features_of_their_own(toys, xrays):
    rows = augment.expand(xrays.rows, {"train": 10, "test": 3}, seed=3)
    values(xrays)
    toys.rows.clear()
    every = values(xrays, rows=rows)
    assert toys.rows == list(range(6, 13)), "the originals were there already"
    originals = cache.images(xrays.rows, xrays.root, SMALL)
    moved = augment.copies(originals, rows, seed=3)
    assert np.allclose(every, maps_of(moved, "mixed2").mean(axis=(1, 2)), atol=1e-5)
    assert np.unique(every, axis=0).shape == (13, 5)
    toys.rows.clear()
    built = len(toys.built)
    again = values(xrays, rows=rows.sample(frac=1, random_state=0))
    assert (toys.rows, len(toys.built)) == ([], built), "nothing is missing, so nothing is built"
    assert np.array_equal(np.sort(again, axis=0), np.sort(every, axis=0))
    # Another seed moves the copies otherwise, and leaves the originals as they are.
    values(xrays, rows=rows, seed=4)
    assert toys.rows == list(range(6, 13))


def test_only_what_is_new_is_computed_and_of_a_further_block_everything(toys, xrays):
    few = values(xrays, rows=xrays.rows.iloc[[1, 3]])
    toys.rows.clear()
    every = values(xrays)
    assert toys.rows == [0, 2, 4, 5]
    assert np.array_equal(every[[1, 3]], few)
    toys.rows.clear()
    extraction(xrays).features(("mixed0", "mixed2"))
    assert toys.rows == list(range(6))
