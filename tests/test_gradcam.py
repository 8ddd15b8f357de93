"""Grad-CAM against traced gradients, and where the heat of an image lies."""

import numpy as np
import pandas as pd
import pytest

from covid_utils.evaluation import gradcam


def traced_grad_cam(maps, kernel, target):
    """Grad-CAM by its definition: gradients of the class score, averaged over each map."""
    import tensorflow as tf

    watched = tf.constant(maps)
    with tf.GradientTape() as tape:
        tape.watch(watched)
        score = tf.reduce_mean(watched, axis=(1, 2)) @ kernel
        chosen = tf.gather(score, target, axis=1, batch_dims=1)
    weights = tf.reduce_mean(tape.gradient(chosen, watched), axis=(1, 2), keepdims=True)
    return tf.nn.relu(tf.reduce_sum(weights * watched, axis=-1)).numpy()


@pytest.mark.parametrize("kept", [np.float32, np.float16])
def test_grad_cam_equals_traced_gradients_for_every_class(kept):
    rng = np.random.default_rng(0)
    maps = rng.normal(0, 1, (4, 5, 7, 6)).astype(kept)
    kernel = rng.normal(0, 1, (6, 3)).astype(np.float32)
    for target in (*(np.full(4, k) for k in range(3)), np.array([2, 0, 1, 1])):
        heat = gradcam.grad_cam(maps, kernel, target)
        assert (heat.dtype, heat.shape) == (np.float32, (4, 5, 7))
        expected = traced_grad_cam(maps.astype(np.float32), kernel, target)
        assert expected.max() > 0
        assert (expected == 0).any()
        assert np.allclose(heat, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("side", "cells", "share"),
    [
        (8, [(4, 4)], 0),
        (8, [(1, 6)], 0),
        (8, [(0, 7)], 1),
        (8, [(5, 7)], 1),
        (8, [(0, 0), (4, 4), (3, 3), (4, 3)], 0.25),
        # The frame is half a cell wide: it takes half of a border cell, three quarters of a corner.
        (4, [(0, 1)], 0.5),
        (4, [(3, 0)], 0.75),
        (4, [], np.nan),
    ],
)
def test_share_of_heat_in_the_frame(side, cells, share):
    heat = np.zeros((1, side, side))
    for cell in cells:
        heat[0][cell] = 2.0
    assert gradcam.frame_share(heat)[0] == pytest.approx(share, nan_ok=True)
    for shape in ((1, 1), (side, side), (10, 7)):  # even heat has the frame's share of the area
        even = gradcam.frame_share(np.full((2, *shape), 0.3))
        assert even == pytest.approx([gradcam.EVEN_SHARE] * 2) == [0.4375] * 2


def test_heat_in_the_frame_is_reported_by_class():
    truth = np.array(["covid", "normal", "viral"] * 6)
    answers = pd.DataFrame({"truth": truth, "patient_id": range(18)})
    answers[["p_covid", "p_normal", "p_viral", "p_bacterial"]] = 0.25
    heat = np.zeros((18, 8, 8), np.float32)
    heat[truth == "covid", 3:5, 3:5] = heat[truth == "normal", 0, 0] = 1
    table = gradcam.frame_table(answers, heat).set_index("class")
    # Nothing speaks for the third class, and of the fourth there is no image.
    assert table["images"].to_dict() == {"COVID-19": 6, "normal": 6}
    assert table["in the frame"].tolist() == ["0 % [0, 0]", "100 % [100, 100]"]
    assert set(table["if even"]) == {"44 %"}
    alone = answers.assign(patient_id=answers["truth"])
    assert gradcam.frame_table(alone, heat)["in the frame"].tolist() == ["0 %", "100 %"]
