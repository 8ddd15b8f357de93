"""Named points of a chest, for labels in figures."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from chest_phantom.anatomy import Anatomy
from chest_phantom.ct import lung_slices
from chest_phantom.disease import Volume
from chest_phantom.settings import CONSOLIDATION, GROUND_GLASS, LABELS

Points = dict[str, tuple[int, int, int]]


def landmarks(chest: Anatomy, volume: Volume) -> Points:
    """Voxels (z, y, x) inside healthy structures and, if there is a disease, its lesions, by name.

    Points that a figure names together lie in one slice: trachea, aortic arch and spine; heart,
    lungs and aorta; a lesion and what shows in it.
    """
    body, grid = chest.habitus, chest.grid
    arch, heart = body.carina + 24, body.dome + 36
    places = {
        "trachea": (arch, 15, body.lean),
        "aortic arch": (arch, 25, 22),
        "spine": (arch, body.depth - 22, 0),
        "heart": (heart, -25, 36),
        "right lung": (heart, 5, -0.6 * body.width),
        "left lung": (heart, 25, 0.7 * body.width),
        "aorta": (heart, body.depth - 42, 20),
        "diaphragm": (body.dome - 3, -8, -0.44 * body.width),
    }
    points = {
        name: tuple(int(n) for n in np.rint((np.array(place) - grid.origin) / grid.spacing))
        for name, place in places.items()
    }
    for label in np.unique(volume.labels)[1:]:
        points |= _lesion_points(chest, volume, int(label))
    return points


def _lesion_points(chest: Anatomy, volume: Volume, label: int) -> Points:
    """Middle of a lesion where it is largest above the diaphragm, and what shows inside it."""
    usable = lung_slices(volume)
    usable = usable[usable * volume.spacing[0] > chest.habitus.dome + 6]
    index = int(usable[(volume.labels[usable] == label).sum(axis=(1, 2)).argmax()])
    lesion = np.pad(volume.labels[index] == label, 1)
    points = {LABELS[label]: (index, *_peak(ndimage.distance_transform_edt(lesion)[1:-1, 1:-1]))}
    lung = chest.lung
    inside = {
        GROUND_GLASS: ("vessel in the haze", lung.vessel),
        CONSOLIDATION: ("air bronchogram", lung.lumen),
    }
    if label in inside:
        name, part = inside[label]
        shown = np.zeros(volume.labels.shape[1:])
        shown[lung.box[1:]] = part[index - lung.box[0].start] > 0.5
        around = ndimage.uniform_filter(1.0 * lesion, 21)[1:-1, 1:-1]
        points[name] = (index, *_peak(shown * ndimage.uniform_filter(shown, 3) * around**2))
    return points


def _peak(values: np.ndarray) -> tuple[int, int]:
    row, column = np.unravel_index(values.argmax(), values.shape)
    return int(row), int(column)
