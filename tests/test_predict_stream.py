"""Probabilities of a stream: their sizes, scales and sums, and several streams together."""

from types import SimpleNamespace

import cv2
import keras
import numpy as np
import pytest
from stream_cases import TINY, TOY, gray

from covid_utils.models import deeplab
from covid_utils.registry import STREAMS
from covid_utils.training import networks, predict_stream

pytestmark = pytest.mark.usefixtures("small_networks", "eager")


@pytest.mark.parametrize("settings", [TOY.replace(image_size=13), TINY], ids=["unet", "deeplab"])
def test_probabilities_sum_to_one_and_have_the_slices_size(settings):
    images, model = gray(9, settings.image_size), networks.build(settings)
    inputs, side = predict_stream.to_input(images, settings), settings.side
    assert inputs.shape[1:3] == (side, side)
    logits = model.predict_on_batch(inputs[:8])
    last = model.layers[-1]
    last.kernel.assign(last.kernel / logits.std())  # else all classes are about as likely
    parts = list(predict_stream.probabilities(model, images, settings))
    assert [len(part) for part in parts] == [8, 1]
    predicted = np.concatenate(parts)
    assert predicted.shape == (*images.shape, len(STREAMS[settings.stream]))
    assert predicted.dtype == np.float32
    assert np.allclose(predicted.sum(axis=-1), 1, atol=1e-5)
    large, size = deeplab.resize_aligned(logits / logits.std(), (side, side)), images.shape[1]
    expected = np.asarray(keras.ops.softmax(large))[:, :size, :size]
    assert np.allclose(predicted[:8], expected, atol=1e-4)
    # A mirrored slice has the mirrored prediction: padding stays on the right.
    mirror = settings.replace(flip_test=True)
    (both,), (turned,) = (
        predict_stream.probabilities(model, part, mirror)
        for part in (images[:3], images[:3, :, ::-1])
    )
    assert np.allclose(turned, both[:, :, ::-1], atol=1e-6)
    assert np.allclose(both.sum(axis=-1), 1, atol=1e-5)
    assert not np.allclose(both, predicted[:3], atol=1e-4)


def test_what_is_no_denser_than_healthy_lung_is_background():
    settings = TOY.replace(clahe_clip=0.0, attenuation_margin=16.0)
    images = np.full((9, 16, 16), 80, np.uint8)
    images[:, 4:10, 4:10] = np.arange(88, 115, 3)[:, None, None]
    logits = np.log(np.float32([0.2, 0.8]))
    model = SimpleNamespace(predict_on_batch=lambda inputs: np.tile(logits, (*inputs.shape[:3], 1)))
    predicted = np.concatenate(list(predict_stream.probabilities(model, images, settings)))
    assert np.allclose(predicted.sum(axis=-1), 1)
    dense = predicted[..., 1] > 0
    assert np.allclose(predicted[dense], (0.2, 0.8))
    assert not dense[:, :4].any()
    assert not dense[:, :, 10:].any()
    assert dense[:, 5:9, 5:9].all(axis=(1, 2)).tolist() == [False] * 3 + [True] * 6
    off = settings.replace(attenuation_margin=0.0)
    assert np.allclose(next(predict_stream.probabilities(model, images, off)), (0.2, 0.8))


def test_predictions_at_several_sizes_are_averaged(monkeypatch):
    settings = TOY.replace(flip_test=True)
    network = networks.build(settings)
    members = [network.get_weights(), [2 * weight for weight in network.get_weights()]]
    committee, images = predict_stream.Committee(network, members), gray(3, 16)
    both, larger = settings.replace(test_scales=(1.0, 1.5)), settings.replace(image_size=24)
    predicted = np.concatenate([*predict_stream.probabilities(committee, images, both)])
    assert predicted.shape == (3, 16, 16, 2)
    (own,) = predict_stream.probabilities(committee, images, settings)
    enlarged = np.stack([cv2.resize(i, (24, 24), interpolation=cv2.INTER_LINEAR) for i in images])
    twin = predict_stream.Committee(networks.build(larger), members)
    (other,) = predict_stream.probabilities(twin, enlarged, larger)
    other = np.stack([cv2.resize(p, (16, 16), interpolation=cv2.INTER_LINEAR) for p in other])
    assert np.allclose(predicted, (own + other) / 2, atol=1e-6)
    assert not np.allclose(predicted, own, atol=1e-3)
    # The network of the other size is built once.
    monkeypatch.setattr(networks, "build", lambda _: pytest.fail("built again"))
    again = np.concatenate([*predict_stream.probabilities(committee, images, both)])
    assert np.array_equal(again, predicted)


def test_streams_together_have_the_mean_of_their_logits_in_the_same_places():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (3, 10, 4, 4, 3))
    each = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    parts = [iter([part[:8], part[8:]]) for part in each.astype(np.float32)]
    mean = [*predict_stream.together(parts, 4)]
    assert [len(part) for part in mean] == [8, 2]
    expected = np.exp(logits.mean(axis=0))
    expected /= expected.sum(-1, keepdims=True)
    assert np.allclose(np.concatenate(mean), expected, atol=1e-5)
    # One that is certain does not overrule the others for good.
    certain, other = np.float32([[[[1, 0]]]]), np.float32([[[[0.1, 0.9]]]])
    (both,) = predict_stream.together([iter([certain]), iter([other])], 1)
    assert 0 < both[0, 0, 0, 1] < 0.9
    with pytest.raises(ValueError, match="shorter"):
        [*predict_stream.together([iter([certain, certain]), iter([other])], 1)]
    # Of other sizes: the same quarter of the slice, pixel edge on pixel edge.
    fine, coarse = (np.full((3, side, side, 2), 0.5, np.float32) for side in (32, 16))
    for part in (fine, coarse):
        quarter = part.shape[1] // 4
        part[:, quarter : 2 * quarter, : 2 * quarter] = (0.1, 0.9)
    (mean,) = predict_stream.together([iter([coarse]), iter([fine])], 32)
    assert np.allclose(mean.sum(-1), 1)
    assert np.array_equal(mean[..., 1] > 0.7, fine[..., 1] > 0.7)
