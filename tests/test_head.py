"""The last layer, what is fitted with it, and the tables that predictions are kept in."""

from dataclasses import replace
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from builders import join, manifest

from covid_utils.data.store import Store
from covid_utils.errors import DataError, ParameterError
from covid_utils.evaluation import outlines
from covid_utils.training import head, multimodal, predictions, recognition
from covid_utils.training.head import HeadSettings, Lesson
from covid_utils.training.recognition import Task


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


def lesson(features, target, watched=()):
    """All rows train; those at the positions ``watched`` validate."""
    return Lesson(features, np.arange(len(target)), np.array(watched, int), target, 3)


def test_learns_what_can_be_separated(clusters):
    features, target = clusters
    fitted, history = head.train(lesson(*clusters), HeadSettings(300, 50, 0.5, 50, True))
    probability = fitted.probabilities(features)
    assert (probability.argmax(axis=1) == target).all()
    assert np.allclose(probability.sum(axis=1), 1, atol=1e-5)
    assert history["cross_entropy"].iloc[-1] < 0.2 < history["cross_entropy"].iloc[0]


@pytest.mark.parametrize(("items", "batch", "tolerance"), [(1, 7, 1e-3), (39, 200_000, 0.02)])
def test_one_step_follows_the_gradient_of_the_mean(items, batch, tolerance):
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (items, 5)).astype(np.float32)
    # As many of each class, because batches are balanced.
    taught = lesson(features, np.arange(items) % 3)
    # A step at rate 0 leaves the weights where they start.
    before, _ = head.train(taught, HeadSettings(1, batch, 0.0))
    after, _ = head.train(taught, HeadSettings(1, batch, 0.5))
    expected = numerical_gradient(features, taught.target, before.kernel, before.bias)
    moved = ((before.kernel - after.kernel) / 0.5, (before.bias - after.bias) / 0.5)
    for found, wanted in zip(moved, expected, strict=True):
        assert np.abs(found - wanted).max() < tolerance * np.abs(expected[0]).max()


def test_batches_are_drawn_class_by_class():
    """As retrain.py does: a class first, all alike, then one of its images."""
    target = np.array([0] * 60 + [2] * 3)
    taught = lesson(np.zeros((63, 1), np.float32), target)
    draw = head._balanced(taught.train, replace(taught, classes=3))
    drawn = draw(np.random.default_rng(0), 60_000)
    assert (target[drawn] == 2).mean() == pytest.approx(0.5, abs=0.01)
    counts = np.bincount(drawn, minlength=63)
    assert counts[:60] == pytest.approx(np.full(60, 500), rel=0.2)
    assert counts[60:] == pytest.approx(np.full(3, 10_000), rel=0.05)


def test_initial_weights_are_small_and_cut_off():
    taught = lesson(np.zeros((3, 4000), np.float32), np.arange(3))
    start, _ = head.train(taught, HeadSettings(1, 1, 0.0))
    assert np.abs(start.kernel).max() <= 0.002
    assert start.kernel.std() == pytest.approx(0.00088, rel=0.03), "cut off at two deviations"
    assert not start.bias.any()


def test_standardisation_is_folded_into_the_weights(clusters):
    features, target = clusters
    features = np.hstack([features, np.full((180, 1), 5, np.float32)])
    settings = HeadSettings(200, 50, 0.1, 50, True, 4)
    folded, _ = head.train(lesson(features, target), settings)
    spread = features.std(axis=0)
    spread[-1] = np.inf  # a channel that never varies says nothing
    explicit = (features - features.mean(axis=0)) / spread
    plain, _ = head.train(lesson(explicit, target), replace(settings, standardise=False))
    assert np.allclose(
        folded.probabilities(features), plain.probabilities(explicit), atol=2e-4, rtol=0
    )
    unseen = features[:20] + np.float32(0.3)
    moved = (unseen - features.mean(axis=0)) / spread
    assert np.allclose(folded.probabilities(unseen), plain.probabilities(moved), atol=5e-4, rtol=0)


def test_only_training_images_standardise(clusters):
    features, target = clusters
    train = np.arange(0, 180, 2)
    settings = HeadSettings(40, 20, 0.1, 10, True)
    spoiled = features.copy()
    spoiled[1::2] = 1e6
    nobody = np.array([], int)
    clean, _ = head.train(Lesson(features, train, nobody, target, 3), settings)
    other, _ = head.train(Lesson(spoiled, train, nobody, target, 3), settings)
    assert np.array_equal(clean.kernel, other.kernel)
    assert np.array_equal(clean.bias, other.bias)


@pytest.mark.parametrize(("classes", "parameters"), [(2, 4098), (4, 8196)])
def test_number_of_parameters_on_the_whole_network(classes, parameters):
    taught = replace(
        lesson(np.zeros((4, 2048), np.float32), np.arange(4) % classes), classes=classes
    )
    fitted, _ = head.train(taught, HeadSettings(1, 2))
    assert fitted.parameters == parameters


def test_the_seed_decides(clusters):
    (first, curve), (again, same), (other, _) = (
        head.train(lesson(*clusters, range(9)), HeadSettings(20, 10, seed=seed))
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first.kernel, again.kernel)
    assert curve.equals(same)
    assert not np.array_equal(first.kernel, other.kernel)


def test_watching_does_not_change_the_weights(clusters):
    settings = HeadSettings(30, 10, 0.1, 10)
    alone, _ = head.train(lesson(*clusters), settings)
    watched, _ = head.train(lesson(*clusters, range(9)), settings)
    often, _ = head.train(lesson(*clusters, range(180)), replace(settings, evaluate_every=1))
    assert np.array_equal(watched.kernel, alone.kernel)
    assert np.array_equal(often.kernel, alone.kernel)
    assert np.array_equal(often.bias, alone.bias)


def test_features_and_validation_are_not_changed(clusters):
    features, target = clusters
    kept = features.copy()
    features.setflags(write=False)
    head.train(lesson(features, target, range(180)), HeadSettings(5, 10, standardise=True))
    head.train(lesson(features, target, range(180)), HeadSettings(5, 10))
    assert np.array_equal(features, kept)


def test_no_steps_are_refused_in_words(clusters):
    with pytest.raises(ParameterError, match="0 is no number of steps"):
        head.train(lesson(*clusters), HeadSettings(0, 10))


def test_history_has_its_points(clusters):
    _, history = head.train(lesson(*clusters, range(180)), HeadSettings(35, 10, 0.1, 10))
    for subset in ("train", "validation"):
        part = history[history["subset"] == subset]
        assert part["step"].tolist() == [1, 10, 20, 30]
        assert part["accuracy"].between(0, 1).all()
    _, empty = head.train(lesson(*clusters), HeadSettings(5, 10))
    assert set(empty["subset"]) == {"train"}


def test_points_say_what_the_head_was_worth():
    # One training and one validation image: whatever is drawn, it is that one.
    features = np.array([[1.0, -2.0], [0.5, 3.0]], np.float32)
    taught = Lesson(features, np.array([0]), np.array([1]), np.array([2, 0]), 3)
    settings = HeadSettings(1, 4, 0.7, 1)
    start, _ = head.train(taught, replace(settings, learning_rate=0.0))
    _, history = head.train(taught, settings)
    # Both subsets see the head as it was before the step.
    for subset, one, image, truth in (("train", start, 0, 2), ("validation", start, 1, 0)):
        point = history[history["subset"] == subset].iloc[0]
        wanted = cross_entropy(features[[image]], np.array([truth]), one.kernel, one.bias)
        assert point["cross_entropy"] == pytest.approx(wanted, rel=1e-4)
        said = (features[image].astype(float) @ one.kernel + one.bias).argmax()
        assert point["accuracy"] == float(said == truth)


@pytest.mark.parametrize("standardise", [False, True])
def test_heads_of_a_sweep_are_those_trained_alone(clusters, standardise):
    settings = HeadSettings(0, 20, 0.0, 10, standardise, 7)
    taught = lesson(*clusters, range(0, 180, 3))
    rates, steps = (0.01, 0.03, 0.003), (40, 15)
    swept = head.sweep(taught, settings, rates, steps)
    assert set(swept.heads) == {(rate, step) for rate in rates for step in steps}
    assert swept.steps == (15, 40)
    for (rate, step), one in swept.heads.items():
        alone, history = head.train(taught, replace(settings, learning_rate=rate, steps=step))
        assert np.allclose(one.kernel, alone.kernel, rtol=1e-4, atol=1e-6)
        assert np.allclose(one.bias, alone.bias, rtol=1e-4, atol=1e-5)
        curve = swept.history[(swept.history["rate"] == rate) & (swept.history["step"] <= step)]
        columns = ["step", "subset"]
        assert curve[columns].to_numpy().tolist() == history[columns].to_numpy().tolist()
        for name in ("accuracy", "cross_entropy"):
            assert np.allclose(curve[name].to_numpy(), history[name].to_numpy(), atol=1e-4)
        found = one.probabilities(taught.features[::3]).argmax(axis=1)
        assert swept.accuracy[rate, step] == pytest.approx((found == taught.target[::3]).mean())
    kernels = [one.kernel for one in swept.heads.values()]
    assert all(not np.allclose(a, b) for a, b in combinations(kernels, 2))


def test_a_sweep_without_validation_images_has_no_accuracy(clusters):
    swept = head.sweep(lesson(*clusters), HeadSettings(batch_size=10), (0.1, 0.2), (3,))
    assert swept.accuracy == {}
    assert set(swept.history["subset"]) == {"train"}


@pytest.mark.parametrize("standardise", [False, True])
def test_stored_features_give_the_head_of_an_array(clusters, standardise, tmp_path, monkeypatch):
    monkeypatch.setenv("COVID_HOME", str(tmp_path))
    monkeypatch.setattr(head, "BLOCK", 50)
    features, target = clusters
    names = [f"image {number}" for number in range(180)]
    store = Store("features", {}, (8,))
    # Other images between them, and in another order.
    order = np.random.default_rng(0).permutation(180)
    store.add(
        [(["stranger"], np.full((1, 8), np.nan)), ([names[i] for i in order], features[order])]
    )
    rows = store.read(names)
    settings = HeadSettings(40, 20, 0.1, 10, standardise)
    kept, curve = head.train(lesson(rows, target, range(60)), settings)
    plain, same = head.train(lesson(features, target, range(60)), settings)
    assert np.array_equal(kept.kernel, plain.kernel)
    assert np.array_equal(kept.bias, plain.bias)
    assert curve.equals(same)
    found = kept.probabilities(rows)
    assert found.shape == (180, 3)
    assert np.allclose(found, head.softmax(features @ plain.kernel + plain.bias), atol=1e-6)
    assert kept.probabilities(rows[:0]).shape == (0, 3)


def test_softmax_does_not_overflow():
    found = head.softmax(np.array([[1e4, 0.0, -1e4], [-1e4, -1e4, -1e4]], np.float32))
    assert np.allclose(found, [[1, 0, 0], [1 / 3] * 3])


NAMES = ("covid", "normal")


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


def fit(table, task, settings):
    """The head of one task, with the settings' own rate and number of steps."""
    (one,) = recognition.study(table, [task], settings)
    return one.fitted(settings.learning_rate, settings.steps)


def test_fit_predicts_every_row_and_trains_on_some(fitting):
    table, rows = fitting
    shuffled = rows.sample(frac=1, random_state=0)
    task = Task("2 classes", shuffled, NAMES, run=3, split="path_hash")
    found = fit(table, task, HeadSettings(50, 8, 0.1))
    assert found.predictions["image_id"].tolist() == shuffled["image_id"].tolist()
    assert (found.predictions["truth"] == shuffled["label"]).all()
    assert (found.predictions["predicted"] == found.predictions["truth"]).all()
    marks = found.predictions[["task", "model", "split", "run"]].drop_duplicates()
    assert marks.to_numpy().tolist() == [["2 classes", "head", "path_hash", 3]]
    assert len(found.part("test")) == 4
    assert set(found.part("test")["subset"]) == {"test"}
    assert found.predictions["drawn"].tolist() == [True] * 24


def test_fit_never_looks_at_test_images(fitting):
    table, rows = fitting
    is_test = (rows["subset"] == "test").to_numpy()
    spoiled = table.values.copy()
    spoiled[is_test] = np.nan
    lied = rows.assign(target=np.where(is_test, 1 - rows["target"], rows["target"]))
    settings = HeadSettings(20, 8, 0.1, standardise=True)
    other = recognition.FeatureTable(table.image_id, spoiled)
    (clean,) = recognition.study(table, [Task("x", rows, NAMES)], settings, (0.2,), 300)
    (blind,) = recognition.study(other, [Task("x", lied, NAMES)], settings, (0.2,), 300)
    assert len(clean.sweep.heads) == 6
    for key, one in clean.sweep.heads.items():
        assert np.array_equal(blind.sweep.heads[key].kernel, one.kernel)
        assert np.array_equal(blind.sweep.heads[key].bias, one.bias)
    assert blind.sweep.accuracy == clean.sweep.accuracy
    assert blind.sweep.history.equals(clean.sweep.history)


def test_validation_images_never_change_the_weights(fitting):
    table, rows = fitting
    settings = HeadSettings(20, 8, 0.1, standardise=True)
    spoiled = table.values.copy()
    spoiled[(rows["subset"] == "validation").to_numpy()] = 1e3
    other = recognition.FeatureTable(table.image_id, spoiled)
    clean, blind = (fit(one, Task("x", rows, NAMES), settings).head for one in (table, other))
    assert np.array_equal(blind.kernel, clean.kernel)


def test_fit_refuses_a_class_without_training_images(fitting):
    table, rows = fitting
    rows.loc[rows["label"] == "normal", "subset"] = "test"
    with pytest.raises(DataError, match="task 'two': no training image of normal"):
        fit(table, Task("two", rows, NAMES), HeadSettings(5, 8))


def test_features_of_an_unknown_image_are_refused(fitting):
    table, rows = fitting
    known = table.of(rows.iloc[[5, 0]])
    assert np.array_equal(known, table.values[[5, 0]])
    stranger = rows.iloc[:1].assign(image_id="chest_xray/never/seen.png")
    with pytest.raises(DataError, match=r"never/seen\.png: no features of this image"):
        table.of(stranger)
    with pytest.raises(DataError, match=r"never/seen\.png: no features of this image"):
        table.lesson(Task("x", pd.concat([rows, stranger]), NAMES))


def test_a_lesson_points_at_the_tasks_images_in_a_larger_table(fitting):
    table, rows = fitting
    some = rows.iloc[[20, 3, 9, 16, 23, 0]]
    taught = table.lesson(Task("x", some, NAMES))
    assert taught.features is table.values
    assert taught.train.tolist() == [3, 16, 0]
    assert taught.validation.tolist() == [20, 9]
    assert taught.target[taught.train].tolist() == [0, 1, 0]
    assert taught.target[taught.validation].tolist() == [1, 0]
    assert taught.classes == 2


def test_each_run_has_a_seed_of_its_own(fitting):
    table, rows = fitting
    settings = HeadSettings(3, 8, 0.1, seed=5)
    runs = Task("x", rows, NAMES).runs(3)
    assert [task.run for task in runs] == [1, 2, 3]
    studies = recognition.study(table, runs, settings)
    for one, seed in zip(studies, (5, 6, 7), strict=True):
        alone, _ = head.train(table.lesson(runs[0]), replace(settings, seed=seed))
        assert np.array_equal(one.sweep.heads[0.1, 3].kernel, alone.kernel)
    kernels = [one.sweep.heads[0.1, 3].kernel for one in studies]
    assert all(not np.array_equal(a, b) for a, b in combinations(kernels, 2))


def test_a_study_keeps_the_papers_setting_and_the_checkpoints(fitting):
    table, rows = fitting
    tasks = Task("x", rows, NAMES).runs(2)
    settings = HeadSettings(250, 8, 0.01, 100)
    studies = recognition.study(table, tasks, settings, (0.1,), 400)
    assert studies[0].sweep.steps == (100, 250, 300, 400)
    assert studies[0].sweep.rates == (0.01, 0.1)
    found = recognition.validation_accuracy(studies)
    assert list(found) == ["task", "run", "rate", "steps", "accuracy"]
    assert len(found) == 2 * 2 * 4
    assert (
        found.groupby(["run", "rate"])["steps"].apply(list).tolist() == [[100, 250, 300, 400]] * 4
    )
    watched = rows[rows["subset"] == "validation"]
    for line in found.itertuples():
        one = studies[line.run - 1].sweep.heads[line.rate, line.steps]
        said = one.probabilities(table.of(watched)).argmax(axis=1)
        assert line.accuracy == (said == watched["target"]).mean()
    curve = studies[1].history(0.1)
    assert set(curve["rate"]) == {0.1}
    assert set(curve["run"]) == {2}
    assert curve["step"].max() == 400


def test_all_rows_hold_each_image_once(fitting):
    _, rows = fitting
    few = rows.iloc[[3, 20, 5]].assign(target=7)
    found = recognition.all_rows([Task("few", few, NAMES), Task("x", rows, NAMES)])
    first = few["image_id"].tolist()
    others = [name for name in rows["image_id"] if name not in first]
    assert found["image_id"].tolist() == first + others
    assert found.index.tolist() == list(range(24))
    # An image may have another class in each task.
    assert "target" not in found


def accuracies(*rows):
    return pd.DataFrame(rows, columns=["run", "rate", "steps", "accuracy"]).assign(task="x")


def test_the_best_setting_is_best_on_average_over_runs():
    table = accuracies(
        (1, 0.1, 100, 1.0),
        (2, 0.1, 100, 0.5),
        (1, 0.01, 300, 0.8),
        (2, 0.01, 300, 0.8),
    )
    assert recognition.best_setting(table) == (0.01, 300)


def test_of_equally_good_settings_the_fewest_steps_and_then_the_smallest_rate():
    # The sums differ in the last digit only, by the order in which they are taken.
    table = accuracies(
        (1, 0.1, 300, 0.3),
        (2, 0.1, 300, 0.6),
        (1, 0.2, 100, 0.1 + 0.2),
        (2, 0.2, 100, 0.6),
        (1, 0.01, 300, 0.1 + 0.2),
        (2, 0.01, 300, 0.6),
        (1, 0.05, 100, 0.6),
        (2, 0.05, 100, 0.3),
    )
    for seed in range(4):
        shuffled = table.sample(frac=1, random_state=seed)
        assert recognition.best_setting(shuffled) == (0.05, 100)


def test_no_setting_is_best_without_validation_images(fitting):
    table, rows = fitting
    rows = rows[rows["subset"] != "validation"]
    studies = recognition.study(table, [Task("x", rows, NAMES)], HeadSettings(5, 8))
    with pytest.raises(DataError, match="no validation image to choose on"):
        recognition.best_setting(recognition.validation_accuracy(studies))


def test_the_best_layer_is_chosen_on_validation_alone(fitting):
    table, rows = fitting
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, table.values.shape).astype(np.float32)
    # This block tells the test images apart and nothing else.
    leaking = np.where((rows[["subset"]] == "test").to_numpy(), table.values * 9, noise)
    tables = {
        name: recognition.FeatureTable(table.image_id, values.astype(np.float32))
        for name, values in (
            ("mixed0", leaking),
            ("mixed4", table.values),
            ("mixed8", table.values),
        )
    }
    tasks = [Task("x", rows, NAMES), Task("y", rows.iloc[::-1], NAMES)]
    best, compared = recognition.best_layer(tables, tasks, HeadSettings(60, 8, 0.1))
    assert best == "mixed4"
    assert compared.index.tolist() == ["mixed0", "mixed4", "mixed8"]
    assert compared.columns.tolist() == ["x", "y"]
    assert (compared.loc["mixed4"] == 1).all()
    assert compared.loc["mixed0"].mean() < 1
    unwatched = [Task("x", rows[rows["subset"] != "validation"], NAMES)]
    best, compared = recognition.best_layer(tables, unwatched, HeadSettings(5, 8))
    assert best == "mixed8"
    assert compared.empty


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


def candidates():
    rows = both_modalities()
    select = lambda **wanted: rows[  # noqa: E731
        np.logical_and.reduce([rows[k].isin(np.atleast_1d(v)) for k, v in wanted.items()])
    ].reset_index(drop=True)
    return multimodal.candidate_rows(SimpleNamespace(select=select))


def test_undersampling_balances_and_keeps_all_ct():
    both = candidates()
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


def ids(task, subset, modality):
    rows = task.rows[(task.rows["subset"] == subset) & (task.rows["modality"] == modality)]
    return rows["image_id"].tolist()


def test_the_control_of_a_run_has_exactly_its_xrays():
    both = candidates()
    found = multimodal.tasks(both, repeats=3, seed=11)
    for tasks, name in zip(found, (multimodal.BOTH, multimodal.XRAY_SHARE), strict=True):
        assert [(task.name, task.run) for task in tasks] == [(name, run) for run in (1, 2, 3)]
    drawn = []
    for run, (joint, alone) in enumerate(zip(*found, strict=True)):
        assert joint.names == alone.names == multimodal.CLASSES
        assert set(alone.rows["modality"]) == {"X-ray"}
        for subset in ("train", "test"):
            assert ids(alone, subset, "X-ray") == ids(joint, subset, "X-ray")
        chosen = both.iloc[multimodal.undersample(both, 11 + run)]
        chosen = chosen[chosen["subset"] == "train"]
        trained = ids(joint, "train", "X-ray") + ids(joint, "train", "CT")
        assert sorted(trained) == sorted(chosen["image_id"])
        assert len(ids(joint, "train", "CT")) == 10
        drawn.append(tuple(ids(joint, "train", "X-ray")))
    assert len(set(drawn)) == 3


def test_all_runs_are_tested_on_the_same_images():
    both = candidates()
    all_tests = both[both["subset"] == "test"]
    together, twins = multimodal.tasks(both, repeats=2, seed=4)
    for task in (*together, *twins):
        wanted = all_tests
        if task.name == multimodal.XRAY_SHARE:
            wanted = all_tests[all_tests["modality"] == "X-ray"]
        tests = task.rows[task.rows["subset"] == "test"]
        assert tests["image_id"].tolist() == wanted["image_id"].tolist()
        chosen = set(both.iloc[multimodal.undersample(both, 3 + task.run)]["image_id"])
        assert tests["drawn"].tolist() == [name in chosen for name in tests["image_id"]]
        # Of five X-rays with COVID-19 three are drawn, as there are three CT images of it.
        assert (~tests["drawn"]).sum() == 2
        assert task.rows.loc[task.rows["subset"] != "test", "drawn"].all()
        assert "unused" not in set(task.rows["subset"])


def test_predictions_say_which_test_images_were_drawn():
    both = candidates()
    (task,), _ = multimodal.tasks(both, repeats=1, seed=4)
    values = np.random.default_rng(0).normal(0, 1, (len(both), 2)).astype(np.float32)
    table = recognition.FeatureTable(pd.Index(both["image_id"]), values)
    found = fit(table, task, HeadSettings(3, 4)).predictions
    assert found["drawn"].tolist() == task.rows["drawn"].tolist()


def test_the_multimodal_study_needs_ct():
    xrays = candidates()
    xrays = xrays[xrays["modality"] == "X-ray"]
    with pytest.raises(DataError, match="COVID-CT, or set multimodal_runs to 0"):
        multimodal.tasks(xrays, repeats=1, seed=1)
    assert multimodal.tasks(xrays, repeats=0, seed=1) == ([], [])


def test_pixel_table_counts_like_a_loop():
    rng = np.random.default_rng(2)
    truth, found = rng.integers(0, 4, (2, 5, 6, 6), dtype=np.uint8)
    rows = manifest({f"s{i}": 1 for i in range(5)}, "medseg", "covid", "CT").assign(subset="test")
    names = {"background": (0,), "ggo": (1,), "effusion": (3,), "lesion": (1, 2, 3)}
    table = outlines.pixel_table(rows, truth, found, names)
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


def test_an_answer_needs_no_probability():
    rows = manifest({"a": 3}).assign(subset="test", target=[1, 0, 2])
    rows.index = [7, 3, 5]
    table = predictions.answer_table(rows, np.array([1, 2, 2]), ("x", "y", "z"))
    assert table["truth"].tolist() == ["y", "x", "z"]
    assert table["predicted"].tolist() == ["y", "z", "z"]
    assert list(table) == [*predictions.KEYS, "truth", "predicted"]


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
