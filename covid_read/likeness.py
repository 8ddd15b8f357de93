"""How unlike the slices that a network learned from another slice is.

A network answers whatever it is shown. What its encoder makes of an X-ray, a photograph or half a
slice lies far from what it makes of the slices that trained it. The distance is that of Mahalanobis
(Lee et al. 2018), with a covariance that is shrunk (Ledoit and Wolf 2004), since slices are fewer
than features. Its limits are set on training slices that are held out in turn. X-rays lie nearer
than other pictures, so a logistic regression on the same features tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from covid_read.shipped import Part
from covid_utils.data import foreign, readers
from covid_utils.data.images import Preprocessing, preprocess
from covid_utils.training import predict_stream

if TYPE_CHECKING:
    from covid_utils.data.cache import Rows
    from covid_utils.data.collection import Collection
    from covid_utils.training.predict_stream import Committee
    from covid_utils.training.streams import StreamSettings

#: Part of a pack that holds it.
PART = "likeness"
#: Last layer of a network's encoder. It ranks slices of other hospitals below parts of slices,
#: X-rays and other pictures in 97 of 100 pairs; layers before it in 83 at most.
ENCODED = {
    "deeplab": "exit_flow.block2.unit_1.separable_conv3_pointwise.relu",
    "unet": "bottom_conv2_relu",
}
#: Shares of slices that lie beyond the two limits although they are like those that trained.
UNLIKE, STRANGE = 0.05, 0.01
#: How often each slice is also shown as another hospital might, which trained the network, too.
TIMES = 2
#: Parts that are held out in turn.
FOLDS = 10
#: Data sets of X-rays, whose licences allow it, and how many of each are shown. The strength of the
#: regression's penalty.
XRAYS, EACH, PENALTY = ("chest_xray", "nih-adult"), 80, 10.0


def encoder(committee: Committee, settings: StreamSettings) -> Callable[[np.ndarray], np.ndarray]:
    """From prepared slices, uint8 (n, size, size), to features, float32 (n, features).

    They are the means over the slice of what the first training's encoder gives.
    """
    import keras

    network = committee.network
    network.set_weights(committee.members[0])  # a committee itself leaves these as they are
    maps = network.get_layer(ENCODED[settings.model]).output
    part = keras.Model(network.input, keras.ops.mean(maps, axis=(1, 2)))

    def encoded(images: np.ndarray) -> np.ndarray:
        starts = range(0, len(images), predict_stream.BATCH)
        batches = [images[at : at + predict_stream.BATCH] for at in starts]
        inputs = [predict_stream.to_input(each, settings) for each in batches]
        # Not traced, which would take longer than the slices of most cases.
        return np.concatenate([np.asarray(part(each, training=False)) for each in inputs])

    return encoded


def learned(
    committee: Committee,
    settings: StreamSettings,
    images: np.ndarray | Rows,
    groups: Sequence[str],
    radiographs: np.ndarray,
) -> Part:
    """The likeness to slices that trained a network.

    Args:
        committee: The network.
        settings: Its settings.
        images: The slices as they were prepared for it, uint8 (n, size, size).
        groups: Patient or group of each; slices of one are held out together.
        radiographs: X-rays prepared in the same way.

    Returns:
        The part of a pack that `load` takes.
    """
    from sklearn.model_selection import GroupKFold

    rng, encode = np.random.default_rng(settings.seed), encoder(committee, settings)
    images, no_lesion = images[:], np.zeros(images.shape[1:], np.uint8)
    shown = [images]
    shown += [
        np.stack([foreign.pair(rng, each, no_lesion)[0] for each in images]) for _ in range(TIMES)
    ]
    features = np.concatenate([encode(each) for each in shown])
    groups = np.tile(groups, len(shown))
    distances = np.empty(len(features))
    folds = GroupKFold(min(FOLDS, len(set(groups))))
    for kept, held_out in folds.split(features, groups=groups):
        distances[held_out] = _distances(features[held_out], *_fitted(features[kept]))
    unlike, strange = np.quantile(distances, [1 - UNLIKE, 1 - STRANGE]).tolist()
    centre, whitening = _fitted(features)
    direction, start = _told_apart(features, encode(radiographs))
    about = {"unlike": unlike, "strange": strange, "start": start}
    return Part(about, (centre, whitening.astype(np.float16), direction))


def prepared_xrays(scans: Collection, settings: Preprocessing, seed: int) -> np.ndarray:
    """X-rays of `XRAYS` as `covid_read` would prepare them if they were CT slices."""
    rows = scans.select(dataset=XRAYS)
    mixed = rows.sample(frac=1, random_state=seed).groupby("dataset").head(EACH)
    images = [readers.load_image(scans.root, row) for row in mixed.itertuples()]
    return np.stack([preprocess(each, settings) for each in images])


def load(
    part: Part, committee: Committee, settings: StreamSettings
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """From prepared slices, uint8 (n, size, size), to how unlike they are, integers (n,).

    0 is like those that trained, 1 beyond the limit ``unlike``, 2 beyond ``strange``. Beside it
    stands which look like an X-ray, bool (n,).
    """
    centre, whitening, direction = (np.asarray(each, np.float32) for each in part.arrays)
    limits, start = [part.about["unlike"], part.about["strange"]], part.about["start"]
    encode = encoder(committee, settings)

    def levels(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        features = encode(images)
        unlike = np.searchsorted(limits, _distances(features, centre, whitening))
        return unlike, features @ direction > start

    return levels


def _told_apart(slices: np.ndarray, xrays: np.ndarray) -> tuple[np.ndarray, float]:
    """Direction in which X-rays lie, float32 (features,), and how far along it they start."""
    from sklearn.linear_model import LogisticRegression

    features = np.concatenate([slices, xrays]).astype(np.float64)
    centre, spread = features.mean(0), features.std(0) + 1e-6
    labels = np.arange(len(features)) >= len(slices)
    fitted = LogisticRegression(C=1 / PENALTY, max_iter=1000, class_weight="balanced")
    fitted.fit((features - centre) / spread, labels)
    direction = (fitted.coef_[0] / spread).astype(np.float32)
    return direction, float(centre @ direction - fitted.intercept_[0])


def _fitted(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean, and the matrix that whitens: the length of a difference times it is the distance."""
    from sklearn.covariance import LedoitWolf

    about = LedoitWolf().fit(features.astype(np.float64))  # else the precision may be indefinite
    return about.location_, np.linalg.cholesky(about.precision_)


def _distances(features: np.ndarray, centre: np.ndarray, whitening: np.ndarray) -> np.ndarray:
    return np.linalg.norm((features - centre) @ whitening, axis=1)
