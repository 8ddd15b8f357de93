"""One sheet that shows the phantom: CT slices and X-rays, with names and the edges of the masks."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

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
from covid_utils.report.style import DOUBLE, LARGE, PLAIN, SMALL, finished

#: Points that are named in an X-ray of a healthy chest.
CHEST = ("aortic arch", "trachea", "heart", "diaphragm")
#: Patient -> pattern, severity and draw of the disease, points through which CT slices go, and
#: points that are named in the X-ray; without any there is none.
PATIENTS = {
    "A": ("normal", 0.2, 0, ("aortic arch", "heart"), CHEST),
    "B": ("covid", 0.7, 0, ("ground-glass",), ("ground-glass",)),
    "C": ("bacterial", 0.8, 16, ("consolidation",), ("consolidation",)),
    "D": ("covid", 0.55, 4, ("effusion",), ()),
    "E": ("nodule", 0.9, 0, ("nodule",), ()),
    "F": ("viral", 1.0, 0, (), ("ground-glass",)),
}
KEY = "R, L: the patient's right and left. PA: rays from behind; AP: from the front, at the bedside"
#: Pixels of a picture, and mm of disease inside an edge.
SIZE, OPAQUE_MM = 256, 25
#: A rim that makes lines and rings visible on any gray.
RIM = [effects.withStroke(linewidth=1.8, foreground="white")]
#: Title, picture, name -> place (row, column), and colour -> mask whose edge is shown.
Panel = tuple[str, np.ndarray, dict[str, tuple[float, float]], dict[str, np.ndarray]]


def anatomy() -> Figure:
    """CT and X-rays of six simulated patients, labelled; a page high."""
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        drawn = list(pool.map(_patient, range(len(PATIENTS))))
    panels = {view: [one for each in drawn for one in each[view]] for view in ("CT", "PA", "AP")}
    figure = plt.figure(figsize=(DOUBLE, 9.2), layout="constrained")
    figure.suptitle("The phantom: simulated chests, no person", fontsize=LARGE)
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.1, 1))
    words = _group(upper, "CT of the phantom, lung window; edges: masks", panels["CT"])
    rays = f"edges: rays through more than {OPAQUE_MM} mm of disease"
    title = f"X-rays of the same phantom patients; {rays}"
    words |= _group(lower, title, panels["PA"] + panels["AP"])
    figure.supxlabel(KEY, fontsize=SMALL)
    # The layout takes as long as the drawing, so it is made once for all files.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return finished(figure, f"{figure.get_suptitle()}. {KEY}", words)


def _patient(number: int) -> dict[str, list[Panel]]:
    """Panels of a patient of `PATIENTS`: CT slices, and X-rays in two views."""
    letter, (pattern, severity, draw, middles, named) = list(PATIENTS.items())[number]
    chest = build(np.random.default_rng((2020, number)), SIZE)
    volume = infect(chest, pattern, severity, (2020, number, draw))
    points = landmarks(chest, volume)
    panels = {"CT": [_slice(letter, volume, points, middle) for middle in middles]}
    places = {name: points[name] for name in named}
    for view in ("PA", "AP"):
        panels[view] = [_xray(letter, volume, places, view)] if named else []
    return panels


def _slice(letter: str, volume: Volume, points: Points, middle: str) -> Panel:
    """The CT slice of a point, with the names of all points in it and the edges of the masks."""
    index = points[middle][0]
    hu, labels = ct_slice(volume, index)
    masks = {name: labels == label for label, name in enumerate((*MANIFESTATIONS, "nodule"), 1)}
    edges = {name: mask for name, mask in masks.items() if mask.sum() > 12}
    places = {name: (y, x) for name, (z, y, x) in points.items() if z == index}
    return f"{letter}  {name_of(volume.pattern)}", lung_window(hu), places, edges


def _xray(letter: str, volume: Volume, points: Points, view: str) -> Panel:
    """An X-ray: PA with names, AP with edges."""
    # The same draw for both views, so that only what the view itself changes differs.
    exposure = sample_exposure(np.random.default_rng(ord(letter)), view)
    image = take_xray(volume, exposure, SIZE, seed=ord(letter))
    title = f"{letter}  {view}, {name_of(volume.pattern)}"
    if view == "PA":
        places = {name: locate(point, volume, exposure, SIZE) for name, point in points.items()}
        return title, image, places, {}
    shadow = thickness(volume.labels > 0, volume, exposure, SIZE) > OPAQUE_MM
    return title, image, {}, {volume.pattern: shadow} if shadow.any() else {}


def _group(figure: SubFigure, title: str, panels: list[Panel]) -> dict[str, list[str]]:
    """Draw panels with a legend of their colours; returns in words what they show."""
    figure.suptitle(title, fontsize=PLAIN)
    for axis, panel in zip(figure.subplots(2, len(panels) // 2).flat, panels, strict=True):
        _draw(axis, *panel)
    colours = dict.fromkeys(name for *_, edges in panels for name in edges)
    lines = [Line2D([], [], color=COLOURS[name], label=name_of(name)) for name in colours]
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), fontsize=PLAIN)
    shown = [": ".join(filter(None, (name, ", ".join(places)))) for name, _, places, _ in panels]
    return {title: [*shown, f"colours: {', '.join(map(name_of, colours))}"]}


def _draw(axis: Axes, title: str, image: np.ndarray, places: dict, edges: dict) -> None:
    """Draw one picture, with names above and below it and a line from each to its place."""
    axis.imshow(image, cmap="gray", vmin=0, vmax=255)
    axis.set_axis_off()
    axis.set_title(title, fontsize=PLAIN, pad=15 if places else 4)
    for colour, mask in edges.items():
        # Vessels and bronchi leave holes, whose edges would hide the picture.
        axis.contour(binary_fill_holes(mask), [0.5], colors=COLOURS[colour], linewidths=1)
    for letter, x in (("R", 0.04), ("L", 0.96)):
        axis.text(x, 0.96, letter, color="white", ha="center", va="top", transform=axis.transAxes)
    line = {"arrowstyle": "-", "color": INK, "path_effects": RIM, "shrinkB": 2.5}
    text = {"fontsize": SMALL, "ha": "center", "va": "center", "arrowprops": line}
    ring = {"ms": 5, "mew": 0.7, "mfc": "none", "mec": INK, "path_effects": RIM}
    for y, is_upper in ((1.055, True), (-0.055, False)):
        names = [name for name, (row, _) in places.items() if (row < 0.55 * SIZE) == is_upper]
        for slot, name in enumerate(sorted(names, key=lambda each: places[each][1])):
            row, column = places[name]
            # Wider than the picture, for the longest names.
            spot = (0.5 + 1.25 * ((slot + 0.5) / len(names) - 0.5), y)
            axis.annotate(name, (column, row), spot, textcoords="axes fraction", **text)
            axis.plot(column, row, "o", **ring)
