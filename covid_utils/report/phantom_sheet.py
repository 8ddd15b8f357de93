"""One sheet that shows the phantom: CT slices and X-rays, with names and the colours of masks."""

from __future__ import annotations

import numpy as np
from matplotlib import patheffects
from matplotlib.figure import Figure

from chest_phantom.anatomy import build
from chest_phantom.ct import ct_slice
from chest_phantom.disease import infect
from chest_phantom.landmarks import landmarks
from chest_phantom.projection import locate, sample_exposure
from chest_phantom.xray import take_xray
from covid_utils.data.labels import overlay
from covid_utils.data.readers.gray import LUNG_WINDOW, to_uint8
from covid_utils.registry import MANIFESTATIONS, name_of
from covid_utils.report.sheets import sheet
from covid_utils.report.style import SMALL

#: Of each patient the pattern, severity and draw of the disease, the point through which the CT
#: slice goes, and the points that are named in the X-ray.
PATIENTS = (
    ("normal", 0.2, 0, "heart", ("aortic arch", "trachea", "heart", "diaphragm")),
    ("covid", 0.7, 0, "ground-glass", ("ground-glass",)),
    ("bacterial", 0.8, 16, "consolidation", ("consolidation",)),
    ("covid", 0.55, 4, "effusion", ()),
    ("nodule", 0.9, 0, "nodule", ()),
)
CLASSES = dict(enumerate((*MANIFESTATIONS, "nodule"), start=1))
SIZE = 256
RIM = [patheffects.withStroke(linewidth=1.5, foreground="black")]


def anatomy() -> Figure:
    """A CT slice and a PA X-ray of each of `PATIENTS`, with what is seen in them."""
    slices, xrays, seen, located = [], [], [], []
    for number, (pattern, severity, draw, middle, named) in enumerate(PATIENTS):
        chest = build(np.random.default_rng((2020, number)), SIZE)
        volume = infect(chest, pattern, severity, (2020, number, draw))
        points, exposure = landmarks(chest, volume), sample_exposure(np.random.default_rng(0), "PA")
        level = points[middle][0]
        hu, labels = ct_slice(volume, level)
        slices.append((overlay(to_uint8(hu, *LUNG_WINDOW), labels, CLASSES), name_of(pattern)))
        seen.append({name: point[1:] for name, point in points.items() if point[0] == level})
        xrays.append((take_xray(volume, exposure, SIZE, seed=number), ""))
        located.append({name: locate(points[name], volume, exposure, SIZE) for name in named})
    titles = [heading for _, heading in slices]
    words = {
        view: [f"{title}: {', '.join(at)}" for title, at in zip(titles, places, strict=True)]
        for view, places in (("CT", seen), ("X-ray", located))
    }
    rows = [("CT, lung window", slices), ("X-ray, rays from behind (PA)", xrays)]
    figure = sheet(rows, "The phantom: simulated chests, no person", words, CLASSES.values())
    look = {"textcoords": "offset points", "fontsize": SMALL, "ha": "center", "va": "center"}
    look |= {"color": "white", "path_effects": RIM}
    for axis, places in zip(figure.axes, (*seen, *located), strict=True):
        # From top to bottom above and below by turns, so that no name hides another.
        for at, name in enumerate(sorted(places, key=places.get)):
            row, column = places[name]
            axis.plot(column, row, "o", markersize=2.5, color="white", path_effects=RIM)
            axis.annotate(name, (column, row), (0, -7 if at % 2 else 7), **look)
    return figure
