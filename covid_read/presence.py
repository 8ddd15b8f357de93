"""Which manifestations a slice shows: the multi-label CNN for slices from anywhere.

It learns from all slices with outlined manifestations, prepared as for the network that outlines
lesions. Cross-validation, one training per fold with near copies in the same fold, shows what its
probabilities are worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit, logit

from covid_read import shipped
from covid_read.cases import Batch
from covid_read.extent import crops, put_back
from covid_read.stages import CALLED, Present
from covid_utils.data import cache, foreign
from covid_utils.data.collection import Collection
from covid_utils.data.images import Preprocessing
from covid_utils.evaluation import scoring
from covid_utils.evaluation.calibration import fit_sigmoid
from covid_utils.models.ml_cnn import ml_cnn
from covid_utils.registry import EXTERNAL, EXTERNAL_SETS, LESION_SETS, MANIFESTATIONS, name_of
from covid_utils.training import multilabel, streams

if TYPE_CHECKING:
    import keras

#: Part of a pack with the network, and what to say where there is none.
PART = "presence"
ABSENT = "Not named: the pack holds no network of manifestations; `make models` adds it."
#: Side of its slices in pixels, at which its weights take half a megabyte.
SIZE = 64
FOLDS = 5
#: A sigmoid of float32 is taken to be this far from 0 and 1 at least.
SMALLEST = 1e-7


def train(scans: Collection, like: Preprocessing, values: Mapping[str, Any]) -> shipped.Part:
    """Train the network on all slices, and judge it by cross-validation.

    Args:
        scans: The profile's images.
        like: How slices are prepared for the network that outlines lesions; only the size differs.
        values: Parameters of ``03_task2_multilabel``.

    Returns:
        The part of a pack that `load` takes, with what is known of its ``quality``.
    """
    own, least = replace(like, size=SIZE), values["minimum_share"]
    rows = scans.training_rows(LESION_SETS, "the network of manifestations", near_copies=True)
    data = streams.prepared(rows, scans.root, own, values["seed"])
    images, truth = data.images[:], multilabel.present(data.masks, least)
    groups = rows["patient_id"].to_numpy()
    chance = _cross_validated(images, truth, groups, values)
    quality, fitted = _judged(chance, truth, groups)
    network, _ = multilabel.train(images, truth, None, values, changed=_foreign)
    about = {"preprocessing": asdict(own), "sigmoid": fitted, "caution": _caution(quality)}
    about |= {"slices": len(rows), "groups": len(set(groups)), "quality": quality}
    others = scans.select(dataset=EXTERNAL_SETS, subset=EXTERNAL)
    if len(others):
        chance = multilabel.predict(network, cache.images(others, scans.root, own))
        called = (calibrated(chance, fitted) >= CALLED).sum(axis=0).tolist()
        about["elsewhere"] = {"slices": len(others), "volumes": others["patient_id"].nunique()}
        about["elsewhere"]["called"] = dict(zip(MANIFESTATIONS, called, strict=True))
    return shipped.Part(about, shipped.halved(network.get_weights()))


def _foreign(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    return foreign.pair(rng, image, np.zeros_like(image))[0]


def _cross_validated(
    images: np.ndarray, truth: np.ndarray, groups: np.ndarray, values: Mapping[str, Any]
) -> np.ndarray:
    """Probabilities (n, 3) of slices by trainings that saw none of their group."""
    from sklearn.model_selection import GroupKFold

    chance = np.zeros(truth.shape)
    folds = GroupKFold(FOLDS, shuffle=True, random_state=values["seed"])
    for seen, unseen in folds.split(images, groups=groups):
        network, _ = multilabel.train(images[seen], truth[seen], None, values, changed=_foreign)
        chance[unseen] = multilabel.predict(network, images[unseen])
    return chance


def _judged(
    chance: np.ndarray, truth: np.ndarray, groups: np.ndarray
) -> tuple[dict[str, dict[str, float | None]], list[tuple[float, float]]]:
    """How well each manifestation is ranked, and the sigmoid that calibrates it.

    Where the ranking is not shown to be better than chance, every slice gets the share of slices
    that show the manifestation.
    """
    areas = scoring.areas(truth, chance, groups, MANIFESTATIONS)
    quality, fitted = {}, []
    for name, chances, shown in zip(MANIFESTATIONS, chance.T, truth.T, strict=True):
        area = areas[name, "roc_auc"]
        is_better = bool(area.low > 0.5)
        fitted.append(sigmoid(chances, shown, is_better))
        called = calibrated(chances[:, None], fitted[-1:]) >= CALLED
        row = {"auc": area.value, "auc_low": area.low, "auc_high": area.high}
        row = {key: None if np.isnan(value) else float(value) for key, value in row.items()}
        counts = {"present": int(shown.sum()), "called": int(called.sum())}
        quality[name] = row | counts | {"better_than_chance": is_better}
    return quality, fitted


def _caution(quality: Mapping[str, Mapping[str, Any]]) -> str:
    """Which manifestations are recognised no better than by chance, as far as the slices show."""
    unsure = [name_of(name) for name, row in quality.items() if not row["better_than_chance"]]
    said = "No better than chance in cross-validation, so every slice gets about the share in "
    said += f"training, which says nothing about it: {', '.join(unsure)}."
    return said if unsure else ""


def sigmoid(chance: np.ndarray, shown: np.ndarray, is_better: bool) -> tuple[float, float]:
    """Slope and intercept that calibrate the probabilities (n,) of a label, on their logits.

    Where a higher one does not go with the label, all get the label's share, by Laplace's rule.
    """
    fitted = fit_sigmoid(_logits(chance), shown) if is_better else None
    return fitted or (0.0, float(logit((shown.sum() + 1) / (len(shown) + 2))))


def calibrated(chance: np.ndarray, fitted: Sequence[tuple[float, float]]) -> np.ndarray:
    """Probabilities of labels (n, labels) on the scale that `sigmoid` found for each."""
    slopes, intercepts = np.transpose(fitted)
    return expit(_logits(chance) * slopes + intercepts)


def _logits(chance: np.ndarray) -> np.ndarray:
    return logit(np.clip(np.asarray(chance, np.float64), SMALLEST, 1 - SMALLEST))


def load(part: shipped.Part) -> Present:
    """The network of such a part, for slices as they are."""
    network, own = _network(part)

    def present(batch: Batch) -> np.ndarray:
        inputs = multilabel.to_input(crops(batch, own).images)
        # Of a few slices `keras.Model.predict` would take longer to start than to compute.
        return calibrated(np.asarray(network.predict_on_batch(inputs)), part.about["sigmoid"])

    return present


def heat(part: shipped.Part, batch: Batch) -> np.ndarray:
    """What in slices as they are speaks for each of `MANIFESTATIONS`, see `evidence`.

    float32 (n, height, width, 3), 0 outside the crop.
    """
    network, own = _network(part)
    given = crops(batch, own)
    each = zip(evidence(network, given.images), given.places, given.squares, strict=True)
    return np.stack([put_back(of, own, place, square) for of, place, square in each])[given.own]


def evidence(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Where in a slice something speaks for each label, and how much.

    Grad-CAM without its mean over places (HiResCAM, Draelos and Carin 2020): this network does not
    average its maps but knows the place of each value. Of averaged maps both are the same.

    Args:
        model: A network that ends with sigmoids of a dense layer.
        images: uint8 (n, size, size).

    Returns:
        float32 (n, side, side, labels), 0 or above, on the maps of the last convolution.
    """
    import keras
    import tensorflow as tf

    last = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)][-1]
    ends = [last.output, model.layers[-1].input]
    kernel = tf.constant(model.layers[-1].get_weights()[0])
    with tf.GradientTape(persistent=True) as tape:
        maps, features = keras.Model(model.inputs[0], ends)(multilabel.to_input(images))
        # Before the sigmoid, which is flat where the network is sure. The bias adds no gradient.
        scores = tf.unstack(features @ kernel, axis=-1)
    each = [tf.reduce_sum(maps * tape.gradient(score, maps), axis=-1) for score in scores]
    return tf.nn.relu(tf.stack(each, axis=-1)).numpy()


def _network(part: shipped.Part) -> tuple[keras.Model, Preprocessing]:
    own = Preprocessing(**part.about["preprocessing"])
    network = ml_cnn(len(MANIFESTATIONS), own.size)
    network.set_weights([np.asarray(each, np.float32) for each in part.arrays])
    return network, own
