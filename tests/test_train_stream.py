"""Training of a stream: what it keeps, what it starts from, and that it survives a kill."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from stream_cases import NOWHERE, PLAIN, TINY, TOY, same, scramble, small_networks, state_of, toy

from covid_utils.errors import DataError
from covid_utils.models import deeplab
from covid_utils.training import networks, predict_stream, streams, train_stream
from covid_utils.training.streams import StreamData

pytestmark = pytest.mark.usefixtures("small_networks")


def state_files(settings, data):
    each = [settings.replace(members=1, member=number) for number in range(settings.members)]
    paths = [streams.weights_path("quick", own, data.rows) for own in each]
    return [path.with_suffix("").with_suffix(".state.npz") for path in paths]


class KilledError(Exception):
    pass


@contextmanager
def killed_at(call):
    """The training dies when it begins this piece, counted from 1; the one before is kept."""
    fit, calls = keras.Model.fit, []

    def dying(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            raise KilledError
        return fit(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(keras.Model, "fit", dying)
        yield


def test_a_stream_learns_keeps_its_best_and_never_sees_the_test(monkeypatch):
    data, parts = toy(), []
    part = StreamData.part
    monkeypatch.setattr(
        StreamData, "part", lambda self, subset: parts.append(subset) or part(self, subset)
    )
    trained, history = train_stream.train("quick", TOY, NOWHERE, data)
    assert set(parts) == {"train", "validation"}
    assert list(history) == ["step", "loss", "dice", "member"]
    assert history["step"].tolist() == [8, 16, 24]
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    best = train_stream.validation_dice(trained, *part(data, "validation"), TOY)
    assert best == pytest.approx(history["dice"].max())
    # A later use reads the weights, and no state is left.
    monkeypatch.setattr(keras.Model, "fit", None)
    again, history = train_stream.train("quick", TOY, NOWHERE, data, reuse=True)
    assert history.empty
    assert all(same(again.members[0], trained.members[0]))
    assert not state_files(TOY, data)[0].exists()


@pytest.mark.parametrize(
    ("average_last", "kept"), [(0, [1]), (1, [2]), (2, [1, 2]), (9, [0, 1, 2])]
)
def test_the_best_checkpoint_counts_or_the_mean_of_the_last(average_last, kept, monkeypatch):
    settings, scores, seen = TOY.replace(average_last=average_last), [0.2, 0.7, 0.1], []

    def evaluate(network, *_):
        seen.append(network.get_weights())
        return scores[len(seen) - 1]

    def step(self, *_, **__):
        self.set_weights([w + 1 for w in self.get_weights()])
        return SimpleNamespace(history={"loss": [0.0]})

    monkeypatch.setattr(train_stream, "validation_dice", evaluate)
    monkeypatch.setattr(keras.Model, "fit", step)
    trained, history = train_stream.train("quick", settings, NOWHERE, toy())
    assert history["dice"].tolist() == scores
    expected = [np.mean(parts, axis=0) for parts in zip(*(seen[i] for i in kept), strict=True)]
    for weights, wanted in zip(trained.members[0], expected, strict=True):
        assert np.allclose(weights, wanted, atol=1e-5)


def test_the_dice_of_validation_is_pooled_and_counts_the_classes_that_occur(monkeypatch):
    masks = np.zeros((2, 4, 4), np.uint8)
    masks[0, 0], masks[1, 0, :2] = 1, 3
    classes = np.zeros((2, 4, 4), int)
    classes[0, 0, :2], classes[1, 0, 2] = 1, 2
    parts = [np.eye(4)[part[None]] for part in classes]
    monkeypatch.setattr(train_stream, "probabilities", lambda *_: iter(parts))
    # Ground glass 2 * 2 / (4 + 2), effusion 0, the extent of disease 2 * 2 / (6 + 3).
    score = train_stream.validation_dice(None, masks, masks, PLAIN)
    assert score == pytest.approx(np.mean([4 / 6, 0, 4 / 9]))
    assert np.isnan(train_stream.validation_dice(None, masks, masks * 0, PLAIN))


def test_members_differ_are_averaged_and_are_not_trained_again_after_a_kill(monkeypatch):
    settings, data = TOY.replace(members=2, steps=6, evaluate_every=2), toy()
    with killed_at(5):  # the second piece of the second member
        train_stream.train("quick", settings, NOWHERE, data)
    fit, calls = keras.Model.fit, []
    monkeypatch.setattr(
        keras.Model, "fit", lambda self, *a, **k: calls.append(1) or fit(self, *a, **k)
    )
    trained, history = train_stream.train("quick", settings, NOWHERE, data)
    assert len(calls) == 2
    assert history.groupby("member")["step"].apply(list).tolist() == [[2, 4, 6]] * 2
    first, second = trained.members
    assert not any(same(first[:1], second[:1]))
    inputs = predict_stream.to_input(data.part("validation")[0], settings)
    each = []
    for weights in trained.members:
        trained.network.set_weights(weights)
        each.append(trained.network.predict_on_batch(inputs))
    assert np.allclose(trained.predict_on_batch(inputs), np.mean(each, axis=0), atol=1e-6)
    assert not any(path.exists() for path in state_files(settings, data))


def test_a_killed_training_that_goes_on_from_weights_leaves_no_state():
    settings, data = TOY.replace(members=2, steps=4, evaluate_every=2), toy()
    with killed_at(3):  # the first piece of the second member
        train_stream.train("quick", settings, NOWHERE, data)
    assert state_files(settings, data)[0].exists()
    train_stream.train("quick", settings, NOWHERE, data, reuse=True)
    assert not any(path.exists() for path in state_files(settings, data))


def test_a_damaged_state_is_named():
    data, content = toy(), b"PK\x03\x04 not whole"
    (state,) = state_files(TOY, data)
    state.parent.mkdir(parents=True)
    state.write_bytes(content)
    with pytest.raises(DataError, match=r"\.state\.npz: not a complete training state.*delete it"):
        train_stream.train("quick", TOY, NOWHERE, data)
    assert state.read_bytes() == content


@pytest.mark.parametrize("kind", ["deeplab", "float16"])
def test_a_training_that_was_killed_ends_as_if_it_had_not_been(kind):
    """Dropout's state, the optimiser's, the scale of a float16 loss and the best so far go on."""
    settings = TINY
    tf.config.run_functions_eagerly(kind == "deeplab")  # to trace it takes longer than two steps
    if kind == "float16":
        settings = TOY.replace(learning_rate=0.002, steps=4, evaluate_every=2, average_last=2)
        keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        data = toy(shown=(1, 2, 3))
        whole, expected = train_stream.train("quick", settings, NOWHERE, data)
        names = [v.name for v in whole.network.optimizer.variables]
        assert ("dynamic_scale" in names) == (kind == "float16")
        end = state_of(whole.network)
        with killed_at(2):
            train_stream.train("quick", settings, NOWHERE, data)
        assert state_files(settings, data)[0].exists()
        scramble(networks.build(settings))
        again, history = train_stream.train("quick", settings, NOWHERE, data)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
        tf.config.run_functions_eagerly(False)
    assert history.equals(expected)
    assert all(same(again.members[0], whole.members[0]))
    assert all(same(state_of(again.network), end))


# Where a network starts


def test_a_stream_starts_from_nodules_but_for_the_last_layer(monkeypatch):
    fits, settings, logits = [], TINY.replace(init="nodule", steps=1), deeplab.LOGITS

    def fit(self, *_, **__):
        fits.append(self)
        scramble(self)
        return SimpleNamespace(history={"loss": [0.0]})

    monkeypatch.setattr(train_stream, "validation_dice", lambda *_: 0.5)
    monkeypatch.setattr(streams, "load_data", lambda *_: toy())
    monkeypatch.setattr(keras.Model, "fit", fit)
    model = networks.build(settings)
    last = model.get_layer(logits).get_weights()
    train_stream.start(model, "quick", settings, NOWHERE)
    donor = settings.replace(stream="nodule", init="random")
    trained, _ = train_stream.train("quick", donor, NOWHERE, reuse=True)
    trained.network.set_weights(trained.members[0])
    expected = {layer.name: layer.get_weights() for layer in trained.network.layers}
    report = train_stream.start(model, "quick", settings, NOWHERE)
    assert len(fits) == 1  # the nodule stream is trained once
    expected[logits] = last
    for layer in model.layers:
        assert all(same(layer.get_weights(), expected[layer.name])), layer.name
    with_weights = [la.name for la in model.layers if la.weights and la.name != logits]
    assert report["layer"].tolist() == with_weights
    assert set(report["how"]) == {"carried"}
    assert not any(np.any(variable) for variable in model.optimizer.variables)


def with_still_norms(model):
    """Batch norms that keep their statistics: those of a batch depend on the number of devices."""
    for layer in model.layers:
        layer.trainable = type(layer).__name__ != "BatchNormalization"
    return model


def plain_steps(home, is_killed=False):
    """Weights after two steps, losses, and what the network then predicts of three slices."""
    data = toy(shown=(1, 2, 3))
    data.rows["subset"] = ["train"] * 8 + ["test"] * 2
    with small_networks(home), pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "with_fused_norms", with_still_norms)
        if is_killed:
            with killed_at(2):
                train_stream.train("quick", PLAIN, NOWHERE, data)
        trained, history = train_stream.train("quick", PLAIN, NOWHERE, data)
        parts = list(predict_stream.probabilities(trained.network, data.images[:3], PLAIN))
    return {"loss": history["loss"].to_numpy(), "predicted": np.concatenate(parts)} | {
        f"weight_{number}": weight for number, weight in enumerate(trained.members[0])
    }


ON_TWO_DEVICES = """
import sys
import numpy as np
import tensorflow as tf

one = tf.config.LogicalDeviceConfiguration()
processor = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(processor, [one, one])

import test_networks
import test_train_stream
from covid_utils.training import networks

strategy = networks.strategy_of("CPU")
networks.strategy_of = lambda kind: strategy
np.savez(sys.argv[1], **test_train_stream.plain_steps(sys.argv[2], is_killed=True))
agree = test_networks.statistics_agree(strategy)
print(type(strategy).__name__, strategy.num_replicas_in_sync, agree)
"""


def test_two_devices_train_as_one_does(tmp_path):
    plain = plain_steps(tmp_path / "one")
    network = networks.build(PLAIN)
    before = network.get_weights()
    moved = [not np.allclose(plain[f"weight_{n}"], w, atol=1e-5) for n, w in enumerate(before)]
    assert sum(moved) == len(network.trainable_variables)
    places = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(places)}
    command = [sys.executable, "-c", ON_TWO_DEVICES, str(tmp_path / "arrays.npz"), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["MirroredStrategy", "2", "True"]
    with np.load(tmp_path / "arrays.npz") as arrays:
        assert list(arrays) == list(plain)
        for name, value in plain.items():
            assert np.allclose(arrays[name], value, rtol=1e-4, atol=1e-6), name
