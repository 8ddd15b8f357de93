"""What notebooks train is what reading says of the same files: recognition, and manifestations."""

import json
import shutil

import jsonschema
import keras
import numpy as np
import pandas as pd
import pytest
import toy_inception
from test_reading_outputs import SCHEMA

import covid_read
from covid_read import heads, pages, presence, shipped
from covid_utils import params, paths
from covid_utils.data import cache, readers
from covid_utils.data.collection import Collection
from covid_utils.data.images import Preprocessing
from covid_utils.evaluation import calibration, gradcam
from covid_utils.registry import MANIFESTATIONS
from covid_utils.training import features, multilabel, recognition
from covid_utils.training.features import Extraction
from covid_utils.training.head import PAPER

pytestmark = pytest.mark.usefixtures("eager")

FIELD = Preprocessing(32, clahe_clip=0.0, crop="field", gray="landmarks")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("COVID_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def scans(home, phantom):
    """Images of the phantom in their tasks; every fifth is tested, whoever's it is."""
    names = ("covid-chestxray-dataset", "chest_xray", "covid-ct", "medseg")
    rows = readers.read_all(phantom, names).rows
    subset = np.resize(["train", "train", "train", "validation", "test"], len(rows))
    return Collection(rows.assign(subset=subset), phantom, pd.DataFrame())


def records(result):
    schema = json.loads(SCHEMA.read_text(encoding="utf8"))
    found = [
        json.loads((result.folder / each["folder"] / "case.json").read_text(encoding="utf8"))
        for each in result.summary.records
    ]
    for record in found:
        jsonschema.validate(record, schema)
    return found


def test_recognition_says_of_a_file_what_the_notebook_predicted(
    scans, home, model, tmp_path, monkeypatch
):
    built = []

    def network(weights, last, seed, calibrate=None, side=299):
        built.append((weights, last, seed))
        return toy_inception.network(weights, last, seed, side=side)

    toy_inception.install(monkeypatch, network)
    tasks = [*recognition.xray_tasks(scans), *recognition.ct_tasks(scans)]
    rows = recognition.all_rows(tasks)
    weights = tmp_path / "weights.npz"
    weights.write_bytes(b"of Inception-v3")
    frozen = Extraction(rows, scans.root, Preprocessing(64), str(weights), "mixed1", 3)
    table = frozen.features(("mixed1",))["mixed1"]
    studied = recognition.study(
        table, tasks, PAPER | {"steps": 60, "learning_rate": 0.1, "standardise": True}
    )
    fits = {one.task.name: one.fitted(0.1, 60) for one in studied}
    heads.keep("ci", frozen, fits.values())
    folder = paths.models("ci")
    for path in model.iterdir():
        shutil.copy(path, folder)
    for modality, names in {"X-ray": ("2 classes", "4 classes"), "CT": ("CT",)}.items():
        row = fits[names[0]].part("test").iloc[0]
        file = scans.root / scans.select(image_id=row["image_id"])["path"].iloc[0]
        xrays = modality == "X-ray"
        result = covid_read.read(file, tmp_path / "out", model=folder, stages=[1], xrays=xrays)
        (record,) = records(result)
        assert [*record["recognition"]] == [*names]
        for name in names:
            classes, given = fits[name].task.names, record["recognition"][name]
            part = fits[name].predictions.query("image_id == @row.image_id")
            trained = part[[f"p_{each}" for each in classes]].to_numpy()
            degree = record["about"]["recognition"]["tasks"][name]["temperature"]
            assert degree >= 1
            expected = calibration.apply_temperature(trained, degree)[0]
            chances = [given["probabilities"][each] for each in classes]
            assert np.abs(chances - expected).max() < 1e-6
            least = given["answers_from"]
            is_sure = least is not None and expected.max() >= least
            assert given["answer"] == (classes[expected.argmax()] if is_sure else None)
    assert built[-1] == (str(folder / "weights.npz"), "mixed1", 3)
    with monkeypatch.context() as later:
        later.setattr(features, "VERSION", features.VERSION + 1)
        (record,) = records(covid_read.read(file, tmp_path / "out", model=folder, stages=[1]))
        assert "are outdated; `make reproduce" in record["why_not_recognised"]
    weights.write_bytes(b"of another network")
    (record,) = records(covid_read.read(file, tmp_path / "out", model=folder, stages=[1]))
    assert record["recognition"] is None
    assert (
        "lacks Inception-v3's weights weights.npz; `make reproduce" in record["why_not_recognised"]
    )


def test_manifestations_of_a_file_are_those_that_the_training_predicts(
    scans, home, model, tmp_path, monkeypatch
):
    monkeypatch.setattr(presence, "SIZE", 32)
    monkeypatch.setattr(presence, "FOLDS", 2)
    trained, train = [], multilabel.train

    def watched(images, *given, **settings):
        network, history = train(images, *given, **settings)
        trained.append((len(images), network))
        return network, history

    monkeypatch.setattr(multilabel, "train", watched)
    values = params.load("quick", "03_task2_multilabel") | {"epochs": 1}
    part = presence.train(scans, FIELD, values)
    rows = scans.select(dataset="medseg")
    count, network = trained[-1]
    assert count == len(rows)
    assert sum(size for size, _ in trained[:-1]) == count  # of two folds each trains on the other
    assert part.about["slices"] == count
    assert 0 <= part.about["quality"]["ggo"]["called"] <= count
    images = cache.images(rows, scans.root, Preprocessing(**part.about["preprocessing"]))
    chance = multilabel.predict(network, images)
    expected = presence.calibrated(chance, part.about["sigmoid"])
    folder = tmp_path / "model"
    committee = shipped.load(model / "shipped.npz")
    shipped.save(folder / "shipped.npz", *committee, **{presence.PART: part})
    file = scans.root / rows["path"].iloc[0]
    (record,) = records(covid_read.read(file, tmp_path / "out", model=folder, stages=[2, 3]))
    own = expected[(rows["path"] == rows["path"].iloc[0]).to_numpy()]
    assert record["outlined_slices"] == record["slices"] == len(own)
    for name, chances in zip(MANIFESTATIONS, own.T, strict=True):
        assert record["presence"][name]["probability"] == pytest.approx(chances.mean(), abs=1e-2)
        assert record["presence"][name]["highest"] == pytest.approx(chances.max(), abs=1e-2)
    assert record["recognition"] is record["why_not_recognised"] is None
    assert part.about["caution"] in pages.remarks(record)


def test_what_is_missing_or_not_asked_for_is_said_once(scans, model, tmp_path):
    file = scans.root / scans.select(dataset="medseg")["path"].iloc[0]
    (record,) = records(covid_read.read(file, tmp_path / "out", model=model))
    assert "`make reproduce PROFILE=sample DATA=folder`" in record["why_not_recognised"]
    assert "`make models`" in record["why_not_named"]
    assert record["manifestations"]
    result = covid_read.read(file, tmp_path / "out", model=model, stages=[2])
    (record,) = records(result)
    assert record["manifestations"] is record["why_not_outlined"] is None
    (folder,) = (each for each in result.folder.iterdir() if each.is_dir())
    assert [path.name for path in folder.iterdir()] == ["case.json"]


def test_heat_of_averaged_maps_is_their_activation_mapping():
    layers = keras.layers
    maps = layers.Conv2D(5, 3, padding="same", activation="elu")
    stack = [layers.Input((12, 12, 1)), maps, layers.GlobalAveragePooling2D()]
    network = keras.Sequential([*stack, layers.Dense(3, activation="sigmoid")])
    network.layers[-1].bias.assign([90.0, 0.0, 0.0])  # a sigmoid that is flat at once
    images = np.random.default_rng(0).integers(0, 256, (2, 12, 12), np.uint8)
    found = presence.evidence(network, images)
    assert (found.dtype, found.shape) == (np.float32, (2, 12, 12, 3))
    seen = maps(multilabel.to_input(images)).numpy()
    for label in range(3):
        kernel = network.layers[-1].get_weights()[0]
        wanted = gradcam.grad_cam(seen, kernel, np.full(2, label))
        assert wanted.max() > 0
        assert np.allclose(found[..., label], wanted, rtol=1e-4, atol=1e-7)


def test_answers_start_where_few_enough_of_them_are_wrong():
    sure = np.array([0.6, 0.7, 0.7, 0.8, 0.9, 0.95])
    right = np.array([1, 1, 0, 1, 1, 1], bool)
    probabilities = np.stack([1 - sure, sure], axis=1)
    # Of the five from 0.7 on one is wrong; the equally sure ones stay together.
    for wrong, least in ((1 / 6, 0.6), (0.1, 0.8)):
        assert heads.answers_from(probabilities, right.astype(int), wrong) == least
    assert heads.answers_from(probabilities, np.zeros(6, int)) is None


def test_where_a_probability_tells_nothing_all_slices_get_the_share():
    falling = np.linspace(0.9, 0.1, 8)
    for shown, is_better in ((falling < 0.5, True), (falling > 0, True), (falling > 0.5, False)):
        fitted = presence.sigmoid(falling, shown, is_better)
        assert fitted[0] == 0
        same = presence.calibrated(falling[:, None], [fitted])
        np.testing.assert_allclose(same, (shown.sum() + 1) / 10)
