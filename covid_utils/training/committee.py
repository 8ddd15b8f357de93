"""Several trainings of one network that answer together.

With a few dozen slices, what a network learns depends on the order that it saw them in; the mean of
several trainings depends on it less (deep ensembles; Lakshminarayanan et al. 2017, who average
probabilities; here logits are averaged, so that a committee answers as a network does).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from covid_utils.training import networks

if TYPE_CHECKING:
    import keras

    from covid_utils.training.segmentation import StreamSettings


class Committee:
    """Trainings of one architecture, whose logits are averaged.

    There is one network in memory, filled with the weights of each member in turn.

    Attributes:
        network: The network; which member's weights it holds is not defined.
        members: Weights of each member, as `keras.Model.get_weights` gives them.
    """

    def __init__(self, network: keras.Model, members: list[list[np.ndarray]]):
        """Put trainings together.

        Args:
            network: Of the architecture that they share.
            members: Their weights, at least of one.
        """
        self.network, self.members = network, members
        self._others: dict[int, Committee] = {}

    def at(self, settings: StreamSettings) -> Committee:
        """The same members for slices of another size, whose network is built once.

        Args:
            settings: Of the stream, with that ``image_size``.
        """
        if settings.image_size not in self._others:
            twin = Committee(networks.build(settings), self.members)
            self._others[settings.image_size] = twin
        return self._others[settings.image_size]

    def predict_on_batch(self, inputs: np.ndarray) -> np.ndarray:
        """Mean of the members' logits, float32, shaped as the network's own answer."""
        total = 0.0
        for weights in self.members:
            self.network.set_weights(weights)
            total = total + np.asarray(self.network.predict_on_batch(inputs))
        return total / len(self.members)
