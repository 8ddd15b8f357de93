"""The last layer, what is fitted with it, and the tables that predictions are kept in."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from builders import join, manifest

from covid_utils.errors import DataError
from covid_utils.training import head, multimodal, predictions, recognition
from covid_utils.training.head import HeadSettings


@pytest.fixture
def clusters():
    """Three clouds of 60 points in 8 dimensions, far from 0 and of very different spread."""
    rng = np.random.default_rng(1)
    target = np.repeat([0, 1, 2], 60)
    centres = rng.normal(0, 3, (3, 8))
    features = centres[target] + rng.normal(0, 0.5, (180, 8))
    return (features * np.geomspace(0.01, 10, 8) + 2).astype(np.float32), target


def cross_entropy(features, target, kernel, bias):
    logits = features.astype(np.float64) @ kernel + bias
    peak = logits.max(axis=1)
    norm = peak + np.log(np.exp(logits - peak[:, None]).sum(axis=1))
    return float(np.mean(norm - logits[np.arange(len(target)), target]))


def numerical_gradient(features, target, kernel, bias, delta=1e-5):
    """Central differences of the mean cross entropy, for the kernel and the bias."""
    parts = [kernel.astype(np.float64), bias.astype(np.float64)]
    gradients = [np.zeros(part.shape) for part in parts]
    for part, gradient in zip(parts, gradients, strict=True):
        for index in np.ndindex(part.shape):
            kept = part[index]
            part[index] = kept + delta
            above = cross_entropy(features, target, *parts)
            part[index] = kept - delta
            gradient[index] = (above - cross_entropy(features, target, *parts)) / (2 * delta)
            part[index] = kept
    return gradients


def test_learns_what_can_be_separated(clusters):
    features, target = clusters
    fitted = head.train(features, target, 3, HeadSettings(300, 50, 0.5, 50, True))
    probability = fitted.probabilities(features)
    assert (probability.argmax(axis=1) == target).all()
    assert np.allclose(probability.sum(axis=1), 1, atol=1e-5)
    assert fitted.history["cross_entropy"].iloc[-1] < 0.2 < fitted.history["cross_entropy"].iloc[0]


@pytest.mark.parametrize(("items", "batch", "tolerance"), [(1, 7, 1e-3), (40, 200_000, 0.02)])
def test_one_step_follows_the_gradient_of_the_mean(items, batch, tolerance):
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (items, 5)).astype(np.float32)
    target = rng.integers(0, 3, items)
    before = head.train(features, target, 3, HeadSettings(0, batch, 0.5))
    after = head.train(features, target, 3, HeadSettings(1, batch, 0.5))
    expected = numerical_gradient(features, target, before.kernel, before.bias)
    moved = ((before.kernel - after.kernel) / 0.5, (before.bias - after.bias) / 0.5)
    for found, wanted in zip(moved, expected, strict=True):
        assert np.abs(found - wanted).max() < tolerance * np.abs(expected[0]).max()


def test_standardisation_is_folded_into_the_weights(clusters):
    features, target = clusters
    features = np.hstack([features, np.full((180, 1), 5, np.float32)])
    settings = HeadSettings(200, 50, 0.1, 50, True, 4)
    folded = head.train(features, target, 3, settings)
    spread = features.std(axis=0)
    spread[-1] = np.inf  # a channel that never varies says nothing
    explicit = (features - features.mean(axis=0)) / spread
    plain = head.train(explicit, target, 3, HeadSettings(200, 50, 0.1, 50, False, 4))
    assert np.allclose(
        folded.probabilities(features), plain.probabilities(explicit), atol=2e-4, rtol=0
    )
    unseen = features[:20] + np.float32(0.3)
    moved = (unseen - features.mean(axis=0)) / spread
    assert np.allclose(folded.probabilities(unseen), plain.probabilities(moved), atol=5e-4, rtol=0)


@pytest.mark.parametrize(("classes", "parameters"), [(2, 4098), (4, 8196)])
def test_number_of_parameters_on_the_whole_network(classes, parameters):
    features = np.zeros((4, 2048), np.float32)
    fitted = head.train(features, np.arange(4) % classes, classes, HeadSettings(1, 2))
    assert fitted.parameters == parameters


def test_the_seed_decides(clusters):
    first, again, other = (
        head.train(*clusters, 3, HeadSettings(20, 10, seed=seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(first.kernel, again.kernel)
    assert first.history.equals(again.history)
    assert not np.array_equal(first.kernel, other.kernel)


def test_watching_does_not_change_the_weights(clusters):
    features, target = clusters
    settings = HeadSettings(30, 10, 0.1, 10)
    alone = head.train(features, target, 3, settings)
    watched = head.train(features, target, 3, settings, (features[:9], target[:9]))
    often = head.train(features, target, 3, HeadSettings(30, 10, 0.1, 1), (features, target))
    assert np.array_equal(watched.kernel, alone.kernel)
    assert np.array_equal(often.kernel, alone.kernel)


def test_features_and_validation_are_not_changed(clusters):
    features, target = clusters
    kept = features.copy()
    features.setflags(write=False)
    head.train(features, target, 3, HeadSettings(5, 10, standardise=True), (features, target))
    assert np.array_equal(features, kept)


def test_history_has_its_points(clusters):
    features, target = clusters
    fitted = head.train(features, target, 3, HeadSettings(35, 10, 0.1, 10), (features, target))
    for subset in ("train", "validation"):
        part = fitted.history[fitted.history["subset"] == subset]
        assert part["step"].tolist() == [1, 10, 20, 30]
        assert part["accuracy"].between(0, 1).all()
    empty = head.train(features, target, 3, HeadSettings(5, 10), (features[:0], target[:0]))
    assert set(empty.history["subset"]) == {"train"}


def test_softmax_does_not_overflow():
    found = head.softmax(np.array([[1e4, 0.0, -1e4], [-1e4, -1e4, -1e4]], np.float32))
    assert np.allclose(found, [[1, 0, 0], [1 / 3] * 3])


@pytest.fixture
def fitting():
    """Rows of two classes with features that tell them apart."""
    rows = join(
        manifest({f"a{i}": 1 for i in range(12)}, label="covid"),
        manifest({f"b{i}": 1 for i in range(12)}, label="normal"),
    )
    rows["subset"] = (["train"] * 8 + ["validation"] * 2 + ["test"] * 2) * 2
    rows["target"] = (rows["label"] == "normal").astype(int)
    values = np.where(rows[["target"]] == 1, 4, -4) * np.ones((1, 3), np.float32)
    return recognition.FeatureTable(pd.Index(rows["image_id"]), values.astype(np.float32)), rows


def test_fit_predicts_every_row_and_trains_on_some(fitting):
    table, rows = fitting
    shuffled = rows.sample(frac=1, random_state=0)
    found = recognition.fit(
        table, shuffled, ("covid", "normal"), HeadSettings(50, 8, 0.1), "2 classes"
    )
    assert found.predictions["image_id"].tolist() == shuffled["image_id"].tolist()
    assert (found.predictions["truth"] == shuffled["label"]).all()
    assert (found.predictions["predicted"] == found.predictions["truth"]).all()
    assert set(found.predictions["task"]) == {"2 classes"}
    assert len(found.test) == 4


def test_fit_never_looks_at_test_images(fitting):
    table, rows = fitting
    spoiled = table.values.copy()
    spoiled[(rows["subset"] == "test").to_numpy()] = np.nan
    settings = HeadSettings(20, 8, 0.1, standardise=True)
    names = ("covid", "normal")
    clean = recognition.fit(table, rows, names, settings, "x").head.kernel
    other = recognition.FeatureTable(table.image_id, spoiled)
    assert np.array_equal(recognition.fit(other, rows, names, settings, "x").head.kernel, clean)


def test_fit_refuses_a_class_without_training_images(fitting):
    table, rows = fitting
    rows.loc[rows["label"] == "normal", "subset"] = "test"
    with pytest.raises(DataError, match="task 'two': no training image of normal"):
        recognition.fit(table, rows, ("covid", "normal"), HeadSettings(5, 8), "two")


def test_features_of_an_unknown_image_are_refused(fitting):
    table, rows = fitting
    known = table.of(rows.iloc[[5, 0]])
    assert np.array_equal(known, table.values[[5, 0]])
    with pytest.raises(DataError):
        table.of(rows.iloc[:1].assign(image_id="chest_xray/never/seen.png"))


def both_modalities():
    parts = []
    sizes = {"train": (20, 6, 12, 4), "test": (5, 3, 2, 3)}
    for subset, (covid, ct_covid, normal, ct_not) in sizes.items():
        for label, count, dataset, modality in (
            ("covid", covid, "covid-chestxray-dataset", "X-ray"),
            ("normal", normal, "chest_xray", "X-ray"),
            ("covid", ct_covid, "covid-ct", "CT"),
            ("non_covid", ct_not, "covid-ct", "CT"),
        ):
            patients = {f"{subset}{i}": 1 for i in range(count)}
            part = manifest(patients, dataset, label, modality)
            parts.append(part.assign(subset=subset))
    return join(*parts, manifest({"s": 5}, "medseg", "covid", "CT").assign(subset="train"))


def test_undersampling_balances_and_keeps_all_ct():
    rows = both_modalities()
    select = lambda **wanted: rows[  # noqa: E731
        np.logical_and.reduce([rows[k].isin(np.atleast_1d(v)) for k, v in wanted.items()])
    ].reset_index(drop=True)
    both = multimodal.candidate_rows(SimpleNamespace(select=select))
    assert "medseg" not in set(both["dataset"])
    positions = multimodal.undersample(both, seed=1)
    assert len(set(positions)) == len(positions)
    chosen = both.iloc[positions]
    counts = chosen.groupby(["subset", "target", "modality"]).size()
    for subset, target, images in (("train", 0, 6), ("train", 1, 4), ("test", 0, 3)):
        assert counts[subset, target, "CT"] == counts[subset, target, "X-ray"] == images
    # There are fewer X-rays than CT images here: all of them are taken.
    assert counts["test", 1].to_dict() == {"CT": 3, "X-ray": 2}
    assert (both["modality"] == "CT").sum() == (chosen["modality"] == "CT").sum()
    assert multimodal.undersample(both, 1).tolist() == positions.tolist()
    assert multimodal.undersample(both, 2).tolist() != positions.tolist()


def test_pixel_table_counts_like_a_loop():
    rng = np.random.default_rng(2)
    truth, found = rng.integers(0, 4, (2, 5, 6, 6), dtype=np.uint8)
    rows = manifest({f"s{i}": 1 for i in range(5)}, "medseg", "covid", "CT").assign(subset="test")
    names = {"background": (0,), "ggo": (1,), "effusion": (3,), "lesion": (1, 2, 3)}
    table = predictions.pixel_table(rows, truth, found, names)
    assert len(table) == 20
    for _, line in table.iterrows():
        slice_ = rows["image_id"].tolist().index(line["image_id"])
        counts = dict.fromkeys(("tp", "fp", "fn", "tn"), 0)
        for t, p in zip(truth[slice_].ravel(), found[slice_].ravel(), strict=True):
            is_true, is_found = t in names[line["class"]], p in names[line["class"]]
            key = ("t" if is_true == is_found else "f") + ("p" if is_found else "n")
            counts[key] += 1
        assert line[list(counts)].to_dict() == counts
        assert line["patient_id"] == rows.loc[slice_, "patient_id"]


def test_class_table_names_the_most_probable():
    rows = manifest({"a": 3}).assign(subset="test", target=[1, 0, 2])
    rows.index = [7, 3, 5]
    table = predictions.class_table(
        rows, np.array([[0.2, 0.7, 0.1], [0.1, 0.1, 0.8], [0, 0, 1]]), ("x", "y", "z")
    )
    assert table["truth"].tolist() == ["y", "x", "z"]
    assert table["predicted"].tolist() == ["y", "z", "z"]
    assert table["p_z"].tolist() == pytest.approx([0.1, 0.8, 1])
    assert list(table)[: len(predictions.KEYS)] == list(predictions.KEYS)


def test_label_table_keeps_every_label_apart():
    rows = manifest({"a": 2}).assign(subset="test")
    truth = np.array([[1, 0], [1, 1]], bool)
    table = predictions.label_table(rows, truth, np.array([[0.9, 0.4], [0.2, 0.6]]), ("ggo", "x"))
    assert table[["truth_ggo", "truth_x"]].to_numpy().tolist() == truth.tolist()
    assert table["p_x"].tolist() == pytest.approx([0.4, 0.6])
    assert table["image_id"].tolist() == rows["image_id"].tolist()


def test_time_per_item_warms_up_and_goes_round():
    seen = []
    times = predictions.time_per_item(seen.append, items=3, repeats=7)
    assert seen == [0, 0, 1, 2, 0, 1, 2, 0]
    assert 0 <= times["median"] <= times["p95"]
    assert times["calls"] == 7
