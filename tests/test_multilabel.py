"""Loss and baseline of the multi-label task against hand calculations, and its table."""

import keras
import numpy as np
import pandas as pd
import pytest
from builders import scans_of, slice_rows

from covid_utils.data import cache
from covid_utils.data.cache import Rows
from covid_utils.models import ml_cnn
from covid_utils.report import claims as ledger
from covid_utils.training import multilabel

pytestmark = pytest.mark.usefixtures("eager")

#: Present in one, three, all and none of four slices.
LABELS = np.array([[1, 1, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 1, 0]], bool)


def test_the_network_has_the_numbers_that_the_paper_sets():
    layers = keras.layers
    network = ml_cnn.ml_cnn(3, 32).layers
    flat = next(at for at, layer in enumerate(network) if isinstance(layer, layers.Flatten))
    parts = network[:flat], network[flat:]
    drops, ends = ({one.rate for one in part if isinstance(one, layers.Dropout)} for part in parts)
    units = [one.units for one in parts[1] if isinstance(one, layers.Dense)]
    sides = {one.kernel_size for one in network if isinstance(one, layers.Conv2D)}
    pools = {one.pool_size for one in network if isinstance(one, layers.MaxPooling2D)}
    stated = ledger.load()
    assert drops == {stated["s05"].value / 100}
    assert (sides, pools) == tuple({(side, side)} for side in stated["s06"].value)
    assert (*units[:2], *ends) == stated["s07"].value
    assert {claim.id for claim in ledger.of_kind("setting") if claim.network == "ml_cnn"} == {
        "s05",
        "s06",
        "s07",
    }


def test_present_needs_the_minimum_area():
    masks = np.zeros((3, 10, 10), np.uint8)
    masks[0, 0, 0] = 1
    masks[1, :2, :1] = 1
    masks[2, 5:, :] = 3
    every = [[True, False, False], [True, False, False], [False, False, True]]
    for given in (masks, Rows(masks.shape, np.uint8, masks.__getitem__)):
        assert multilabel.present(given).tolist() == every
    assert multilabel.present(masks, 0.02)[:, 0].tolist() == [False, True, False]
    assert multilabel.present(masks, 0.6).sum() == 0
    assert multilabel.present(masks * 0, 0.0).sum() == 0
    assert multilabel.present(masks[:0]).shape == (0, 3)


SETTINGS = {"epochs": 2, "batch_size": 4, "learning_rate": 0.001, "seed": 5}


def tiny_network(labels):
    tiny = keras.Sequential([keras.layers.Input((8, 8, 1)), keras.layers.GlobalMaxPooling2D()])
    tiny.add(keras.layers.Dense(labels, activation="sigmoid"))
    return tiny


def test_the_loss_equals_a_hand_calculation(monkeypatch):
    # One pixel decides; moved images keep it, as all their pixels are alike.
    tiny = tiny_network(4)
    tiny.set_weights([np.array([[3.0, -2, 0.5, 1]]), np.array([-1.0, 0.5, 0, 0.2])])
    monkeypatch.setattr(multilabel, "ml_cnn", lambda labels, size: tiny)
    images = np.repeat(np.array([0, 85, 170, 255], np.uint8), 64).reshape(4, 8, 8)
    settings = SETTINGS | {"epochs": 1, "learning_rate": 1e-12}
    _, history = multilabel.train(images, LABELS, (images, LABELS), settings)
    p = multilabel.predict(tiny, images).astype(float)
    expected = -(LABELS * np.log(p) + ~LABELS * np.log(1 - p)).sum(axis=1).mean()
    # Each of the four slices is drawn once an epoch; the loss is a mean over slices.
    assert history["loss"].tolist() == pytest.approx([expected] * 2, rel=1e-4)


@pytest.mark.parametrize(("condition", "shown", "slices"), [("T0", 7, 3), ("T3", 30, 10)])
def test_both_conditions_take_the_same_steps(monkeypatch, condition, shown, slices):
    """Of eight slices that train, one shows a patient who is tested, so T0 has seven: two steps."""
    rows = slice_rows(["exact"] * 11).assign(subset=["train"] * 8 + ["test"] * 3)
    rows.loc[10, "patient_id"] = rows.loc[0, "patient_id"]
    masks = np.zeros((11, 8, 8), np.uint8)
    masks[::2, 2:6, 2:6] = 2
    networks, train = [], multilabel.train
    monkeypatch.setattr(multilabel, "ml_cnn", lambda labels, size: tiny_network(labels))
    monkeypatch.setattr(cache, "images", lambda rows, *_: masks * 20)
    monkeypatch.setattr(cache, "masks", lambda rows, *_: masks)

    def watched(images, labels, validation, values, steps):
        assert len(images) == len(labels) == shown
        networks.append((train(images, labels, validation, values, steps)[0], values["seed"]))
        return networks[-1][0], None

    monkeypatch.setattr(multilabel, "train", watched)
    parameters = SETTINGS | {"image_size": 8, "minimum_share": 0.01}
    table = multilabel.under_condition(condition, scans_of(rows), parameters, 40, 10, 2)
    assert [int(one.optimizer.iterations) for one, _ in networks] == [4, 4]
    assert len({seed for _, seed in networks}) == 2
    assert table.groupby("repeat").size().to_dict() == {1: slices, 2: slices}
    assert set(table["subset"]) == {"test"}
    at = pd.Series(range(11), rows["image_id"])[table["image_id"].str.split("~").str[0]]
    assert table["truth_consolidation"].tolist() == (at % 2 == 0).tolist()
    assert table["seen_image"].any() == (condition == "T3")
