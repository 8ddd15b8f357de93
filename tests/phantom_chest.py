"""Slices of a simulated chest, whose Hounsfield units and lungs are known."""

import numpy as np

from chest_phantom.anatomy import build
from chest_phantom.ct import ct_slice
from chest_phantom.disease import infect


def slices_of_a_chest(count):
    """Slices with mild disease in Hounsfield units, and where the lungs are."""
    chest = build(np.random.default_rng(5), 192)
    volume = infect(chest, "covid", 0.3, 5)
    lungs = np.zeros(volume.hu.shape, bool)
    lungs[chest.lung.box] = chest.lung.share >= 0.5
    numbers = (np.linspace(0.4, 0.75, count) * len(volume.hu)).astype(int)
    return [(ct_slice(volume, number)[0], lungs[number]) for number in numbers]
