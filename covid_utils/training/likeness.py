"""How unlike the slices that a network learned from another slice is.

A network answers whatever it is shown. What its encoder makes of an X-ray, a photograph or half a
slice lies far from what it makes of the slices that trained it. The distance is that of Mahalanobis
(Lee et al. 2018), with a covariance that is shrunk (Ledoit and Wolf 2004), since slices are fewer
than features. Its limits are set on training slices that are held out in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from covid_utils.data import foreign
from covid_utils.training import predict_stream
from covid_utils.training.shipped import Part

if TYPE_CHECKING:
    from covid_utils.data.cache import Rows
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


@dataclass(frozen=True)
class Likeness:
    """Where the features of training slices lie, and how far from there others may lie.

    Attributes:
        centre: Mean of the features, float32 (features,).
        whitening: What a difference from it is multiplied by so that its length is the distance:
            float32 (features, features).
        unlike: Distance beyond which `UNLIKE` of the slices lie that were held out.
        strange: The same of `STRANGE`.
    """

    centre: np.ndarray
    whitening: np.ndarray
    unlike: float = np.inf
    strange: float = np.inf

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Distance of each slice (n,) by its features (n, features)."""
        return np.linalg.norm((features - self.centre) @ self.whitening, axis=1)

    def part(self) -> Part:
        """The part of a pack that holds it."""
        about = {"unlike": self.unlike, "strange": self.strange}
        return Part(about, (self.centre, self.whitening.astype(np.float16)))


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
) -> Part:
    """The likeness to slices that trained a network.

    Args:
        committee: The network.
        settings: Its settings.
        images: The slices as they were prepared for it, uint8 (n, size, size).
        groups: Patient or group of each; slices of one are held out together.

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
        distances[held_out] = _fitted(features[kept]).distances(features[held_out])
    unlike, strange = np.quantile(distances, [1 - UNLIKE, 1 - STRANGE]).tolist()
    return replace(_fitted(features), unlike=unlike, strange=strange).part()


def load(
    part: Part, committee: Committee, settings: StreamSettings
) -> Callable[[np.ndarray], np.ndarray]:
    """From prepared slices, uint8 (n, size, size), to how unlike they are, uint8 (n,).

    0 is like those that trained, 1 beyond the limit ``unlike``, 2 beyond ``strange``.
    """
    known = Likeness(*(np.asarray(each, np.float32) for each in part.arrays), **part.about)
    encode = encoder(committee, settings)

    def levels(images: np.ndarray) -> np.ndarray:
        return np.searchsorted([known.unlike, known.strange], known.distances(encode(images)))

    return levels


def _fitted(features: np.ndarray) -> Likeness:
    from sklearn.covariance import LedoitWolf

    about = LedoitWolf().fit(features.astype(np.float64))  # else the precision may be indefinite
    return Likeness(about.location_, np.linalg.cholesky(about.precision_))
