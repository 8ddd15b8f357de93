"""Grad-CAM against traced gradients, and where the heat of an image lies."""

import numpy as np
import pandas as pd
import pytest

from covid_utils.evaluation import gradcam


def traced_grad_cam(maps, kernel, bias, target):
    """Grad-CAM by its definition: gradients of the class score, averaged over each map."""
    import tensorflow as tf

    watched = tf.constant(maps)
    with tf.GradientTape() as tape:
        tape.watch(watched)
        score = tf.reduce_mean(watched, axis=(1, 2)) @ kernel + bias
        chosen = tf.gather(score, target, axis=1, batch_dims=1)
    weights = tf.reduce_mean(tape.gradient(chosen, watched), axis=(1, 2), keepdims=True)
    return tf.nn.relu(tf.reduce_sum(weights * watched, axis=-1)).numpy()


@pytest.mark.parametrize("shape", [(8, 8), (5, 7)])
@pytest.mark.parametrize("kept", [np.float32, np.float16])
def test_grad_cam_equals_traced_gradients_for_every_class(shape, kept):
    rng = np.random.default_rng(0)
    maps = rng.normal(0, 1, (4, *shape, 6)).astype(kept)
    kernel = rng.normal(0, 1, (6, 3)).astype(np.float32)
    bias = rng.normal(0, 1, 3).astype(np.float32)
    for target in (*(np.full(4, k) for k in range(3)), np.array([2, 0, 1, 1])):
        found = gradcam.grad_cam(maps, kernel, target)
        assert found.dtype == np.float32
        assert found.shape == (4, *shape)
        expected = traced_grad_cam(maps.astype(np.float32), kernel, bias, target)
        assert expected.max() > 0
        assert (expected == 0).any()
        assert np.allclose(found, expected, rtol=1e-4, atol=1e-7)


def test_what_speaks_against_a_class_gives_no_heat():
    maps = np.ones((1, 2, 2, 1), np.float32)
    maps[0, 0, 0] = 3
    kernel = np.array([[-1.0, 4.0]], np.float32)
    assert not gradcam.grad_cam(maps, kernel, np.array([0])).any()
    assert gradcam.grad_cam(maps, kernel, np.array([1]))[0].tolist() == [[3, 1], [1, 1]]


@pytest.mark.parametrize("frame", [0.05, 0.125, 0.3])
@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (8, 8), (17, 17), (35, 35), (10, 7)])
def test_even_heat_has_the_frames_share_of_the_area(shape, frame):
    found = gradcam.frame_share(np.full((2, *shape), 0.3), frame)
    assert np.allclose(found, gradcam.even_share(frame))
    # As much as random points in the unit square that lie within the frame.
    points = np.random.default_rng(0).random((200_000, 2))
    outside = ((points < frame) | (points > 1 - frame)).any(axis=1).mean()
    assert gradcam.even_share(frame) == pytest.approx(outside, abs=0.005)


def heat(side, *cells):
    found = np.zeros((1, side, side))
    for cell in cells:
        found[0][cell] = 2.0
    return found


def test_heat_in_the_centre_and_in_the_corner():
    assert gradcam.frame_share(heat(8, (4, 4)))[0] == pytest.approx(0)
    assert gradcam.frame_share(heat(8, (1, 6)))[0] == pytest.approx(0)
    for corner in ((0, 0), (0, 7), (7, 0), (7, 7), (0, 3), (5, 7)):
        assert gradcam.frame_share(heat(8, corner))[0] == pytest.approx(1)
    assert gradcam.frame_share(heat(8, (0, 0), (4, 4), (3, 3), (4, 3)))[0] == pytest.approx(0.25)


def test_a_cell_that_the_frame_cuts_counts_in_part():
    # The frame is half a cell wide: it takes half of a border cell, three quarters of a corner.
    assert gradcam.frame_share(heat(4, (0, 1)))[0] == pytest.approx(0.5)
    assert gradcam.frame_share(heat(4, (2, 3)))[0] == pytest.approx(0.5)
    assert gradcam.frame_share(heat(4, (3, 0)))[0] == pytest.approx(0.75)


def test_without_heat_there_is_no_share():
    both = np.concatenate([np.zeros((1, 4, 4)), np.ones((1, 4, 4))])
    found = gradcam.frame_share(both)
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(gradcam.even_share())


@pytest.fixture
def answers():
    shares = np.array(
        [
            [0.6, 0.3, 0.1],
            [0.9, 0.1, 0.0],
            [0.2, 0.7, 0.1],
            [0.1, 0.9, 0.0],
            [0.8, 0.1, 0.1],
            [0.4, 0.5, 0.1],
            [0.3, 0.6, 0.1],
        ]
    )
    table = pd.DataFrame({"truth": list("aaabbcc")}, index=[70, 10, 40, 20, 90, 60, 30])
    table[["p_a", "p_b", "p_c"]] = shares
    return table.assign(predicted=np.array(list("abc"))[shares.argmax(axis=1)])


def test_the_most_certain_are_right_answers_and_then_wrong_ones(answers):
    # No answer about c is right.
    assert gradcam.most_certain(answers).index.tolist() == [10, 20, 40, 90, 30]
    right = answers.iloc[[0, 1, 3]]
    assert gradcam.most_certain(right).index.tolist() == [10, 20]
    assert gradcam.most_certain(answers.iloc[:0]).empty


def test_a_draw_has_at_most_so_many_answers_of_each_class(answers):
    assert gradcam.draw(answers, 2)["truth"].value_counts().to_dict() == {"a": 2, "b": 2, "c": 2}
    assert gradcam.draw(answers).index.tolist() == gradcam.draw(answers).index.tolist()
    assert sorted(gradcam.draw(answers).index) == sorted(answers.index)
