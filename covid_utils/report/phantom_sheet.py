"""One sheet that shows the phantom: CT slices and X-rays, with names and the edges of the masks."""

from __future__ import annotations

from typing import NamedTuple

import matplotlib.patheffects as effects
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from scipy.ndimage import binary_fill_holes

from chest_phantom.anatomy import build
from chest_phantom.ct import ct_slice, lung_window
from chest_phantom.disease import Volume, infect
from chest_phantom.landmarks import Points, landmarks
from chest_phantom.projection import locate, sample_exposure, thickness
from chest_phantom.xray import take_xray
from covid_utils.registry import COLOURS, INK, MANIFESTATIONS, name_of
from covid_utils.report.style import LARGE, PLAIN, SMALL, finished

#: Patient -> pattern, severity, and which draw of the disease.
PATIENTS = {
    "A": ("normal", 0.2, 0),
    "B": ("covid", 0.7, 0),
    "C": ("bacterial", 0.8, 16),
    "D": ("covid", 0.55, 4),
    "E": ("nodule", 0.9, 0),
    "F": ("viral", 1.0, 0),
}
#: Patients and what is named in their pictures; a CT slice goes through the first.
SLICES = (
    ("A", ("aortic arch", "trachea", "spine")),
    ("A", ("heart", "right lung", "left lung", "aorta")),
    ("B", ("ground-glass", "vessel in the haze")),
    ("C", ("consolidation", "air bronchogram")),
    ("D", ("effusion",)),
    ("E", ("nodule",)),
)
XRAYS = (
    ("A", ("aortic arch", "trachea", "heart", "diaphragm")),
    ("F", ("ground-glass",)),
    ("C", ("consolidation",)),
    ("B", ("ground-glass",)),
)
#: Lesions in the order of their mask labels, from 1.
LESIONS = (*MANIFESTATIONS, "nodule")
#: Pixels of a picture, rows of a slice that show the body, and mm of disease inside an edge.
SIZE, BODY, OPAQUE_MM = 256, (240, 24), 25
#: A rim that makes lines and rings visible on any gray.
RIM = [effects.withStroke(linewidth=2.2, foreground="white")]


class Panel(NamedTuple):
    """A picture, its named places (row, column), and colour -> mask whose edge it shows."""

    title: str
    image: np.ndarray
    places: dict[str, tuple[float, float]]
    edges: dict[str, np.ndarray]


def anatomy() -> Figure:
    """CT and X-rays of six simulated patients, labelled; 10 inches wide."""
    people = {}
    for number, (letter, (pattern, severity, draw)) in enumerate(PATIENTS.items()):
        chest = build(np.random.default_rng((2020, number)), SIZE)
        volume = infect(chest, pattern, severity, (2020, number, draw))
        people[letter] = (volume, landmarks(chest, volume))
    slices = [_slice(letter, *people[letter], names) for letter, names in SLICES]
    views = [(view, *row) for view in ("PA", "AP") for row in XRAYS]
    xrays = [_xray(letter, *people[letter], names, view) for view, letter, names in views]
    figure = plt.figure(figsize=(10, 14), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.12)
    figure.suptitle("The phantom: computed chests, no person", fontsize=LARGE + 2)
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.1, 1))
    edges = f"edges: rays through more than {OPAQUE_MM} mm of disease"
    alt = [
        _group(upper, "CT of the phantom, lung window; edges: masks", slices, BODY),
        _group(lower, f"X-rays of the same phantom patients; {edges}", xrays, (SIZE, 0)),
    ]
    return finished(figure, " ".join([figure.get_suptitle() + ".", *alt]))


def _slice(letter: str, volume: Volume, points: Points, names: tuple[str, ...]) -> Panel:
    """The CT slice of the first name, with the masks' edges."""
    hu, labels = ct_slice(volume, points[names[0]][0])
    masks = {name: labels == label for label, name in enumerate(LESIONS, start=1)}
    edges = {name: mask for name, mask in masks.items() if mask.sum() > 12}
    places = {name: points[name][1:] for name in names}
    return Panel(f"{letter}  {name_of(volume.pattern)}", lung_window(hu), places, edges)


def _xray(letter: str, volume: Volume, points: Points, names: tuple[str, ...], view: str) -> Panel:
    """An X-ray: PA with names, AP with edges."""
    # The same draw for both views, so that only what the view itself changes differs.
    exposure = sample_exposure(np.random.default_rng(ord(letter)), view)
    image = take_xray(volume, exposure, SIZE, seed=ord(letter))
    title = f"{letter}  {view}, {name_of(volume.pattern)}"
    if view == "PA":
        places = {name: locate(points[name], volume, exposure, SIZE) for name in names}
        return Panel(title, image, places, {})
    shadow = thickness(volume.labels > 0, volume, exposure, SIZE) > OPAQUE_MM
    return Panel(title, image, {}, {volume.pattern: shadow} if shadow.any() else {})


def _group(figure: SubFigure, title: str, panels: list[Panel], rows: tuple[int, int]) -> str:
    """Draw panels with a legend of their colours; returns in words what they show."""
    figure.suptitle(title, fontsize=LARGE)
    for axis, panel in zip(figure.subplots(2, len(panels) // 2).flat, panels, strict=True):
        _draw(axis, panel)
        axis.set_ylim(rows)
    colours = dict.fromkeys(name for panel in panels for name in panel.edges)
    lines = [Line2D([], [], color=COLOURS[name], label=name_of(name)) for name in colours]
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), fontsize=PLAIN)
    shown = [": ".join(filter(None, (each.title, ", ".join(each.places)))) for each in panels]
    return f"{title}. {'; '.join(shown)}. Colours: {', '.join(map(name_of, colours))}."


def _draw(axis: Axes, panel: Panel) -> None:
    """Draw one picture, with names above and below it and a line from each to its place."""
    axis.imshow(panel.image, cmap="gray", vmin=0, vmax=255)
    axis.set_axis_off()
    axis.set_title(panel.title, fontsize=PLAIN, pad=22 if panel.places else 5)
    for colour, mask in panel.edges.items():
        # Vessels and bronchi leave holes, whose edges would hide the picture.
        axis.contour(binary_fill_holes(mask), [0.5], colors=COLOURS[colour], linewidths=1)
    for letter, x in (("R", 0.04), ("L", 0.96)):
        axis.text(x, 0.96, letter, color="white", ha="center", va="top", transform=axis.transAxes)
    for y, upper in ((1.055, True), (-0.055, False)):
        names = [name for name, (row, _) in panel.places.items() if (row < 0.55 * SIZE) == upper]
        for slot, name in enumerate(sorted(names, key=lambda each: panel.places[each][1])):
            row, column = panel.places[name]
            line = {"arrowstyle": "-", "color": INK, "path_effects": RIM, "shrinkB": 4}
            text = {"fontsize": SMALL, "ha": "center", "va": "center", "arrowprops": line}
            spot = ((slot + 0.5) / len(names), y)
            axis.annotate(name, (column, row), spot, textcoords="axes fraction", **text)
            axis.plot(column, row, "o", ms=8, mew=0.8, mfc="none", mec=INK, path_effects=RIM)
