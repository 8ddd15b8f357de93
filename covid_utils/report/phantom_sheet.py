"""One sheet that shows what the phantom looks like, with the names of what is to be seen.

Every label is placed by the volume itself: by its mask, its Hounsfield units and the geometry of
its lungs, never by hand, so that it stays right for any seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import cv2
import matplotlib.patheffects as effects
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from scipy import ndimage

from covid_utils.data import phantom
from covid_utils.data.images import LUNG_WINDOW
from covid_utils.data.phantom import imaging
from covid_utils.data.phantom.anatomy import BLOOD, Anatomy, build
from covid_utils.data.phantom.disease import (
    CONSOLIDATION,
    EFFUSION,
    GROUND_GLASS,
    NODULE,
    infect,
)
from covid_utils.errors import DataError
from covid_utils.registry import COLOURS, NAMES

#: Pixels of a CT slice and of an X-ray along each side.
CT_SIZE, XRAY_SIZE = 256, 256
#: Height of a CT panel as a share of its width: the body, without the air in front and behind.
CT_HEIGHT = 0.84
#: Free strips above and below a picture where the labels stand, as a share of its width.
CT_STRIP, XRAY_STRIP = 0.085, 0.105
#: What is so small that a ring around it is drawn, not a dot on it; the ring's radius as a share.
SMALL, RING = ("bronchogram", "vessel"), 0.018
WIDTH_IN, CT_ACROSS, XRAY_ACROSS = 10.0, 3, 4
#: Height of the line that names the colours.
LEGEND_IN = 0.3
FONT = 7.5
INK = "#222222"
MASK_NAMES = {
    GROUND_GLASS: "ggo",
    CONSOLIDATION: "consolidation",
    EFFUSION: "effusion",
    NODULE: "nodule",
}
#: HU between those of a disc (95) and of the marrow of a vertebra (120).
DISC_BELOW = 108
#: How many mm of disease a ray crosses inside the outline of an X-ray's opacity.
OPAQUE_MM = 25.0
#: What the X-rays show, in words, pattern by pattern.
PATTERN_LABELS = {
    "viral": "lines and haze",
    "bacterial": "dense lobe",
    "covid": "patchy haze",
}


@dataclass(frozen=True)
class Label:
    """A name and the place that it points at.

    Attributes:
        text: What stands in the sheet.
        row: Row in the panel's picture.
        column: Column in the panel's picture.
        structure: Short name without spaces, for instance ``heart`` or ``ggo``.
    """

    text: str
    row: float
    column: float
    structure: str


@dataclass(frozen=True)
class Panel:
    """One picture of the sheet.

    Attributes:
        title: Heading.
        image: uint8 (height, width), the patient's right at the left.
        labels: What is named in it.
        outlines: Colour name in `COLOURS` -> bool mask of the image's shape, drawn as an outline.
        hu: Hounsfield units of the voxels under the image, without noise; None for an X-ray.
        patient: Letter of the patient.
        span: First column, last column and row of a line across the heart, or None.
    """

    title: str
    image: np.ndarray
    labels: tuple[Label, ...]
    outlines: dict[str, np.ndarray] = field(default_factory=dict)
    hu: np.ndarray | None = None
    patient: str = ""
    span: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Patient:
    """A simulated patient: the healthy chest for its geometry, the volume for the pictures."""

    letter: str
    chest: Anatomy
    volume: phantom.Volume


def anatomy(seed: int = 2020) -> Figure:
    """Draw the sheet: CT with the masks' outlines, and X-rays from both sides, all labelled.

    Args:
        seed: Other patients for another seed.

    Returns:
        A figure 10 inches wide, taken out of pyplot's hands.
    """
    people = patients(seed)
    low, high = (f"{value:.0f}".replace("-", "\u2212") for value in LUNG_WINDOW)
    groups = (
        (
            f"CT of the phantom, lung window {low} to {high} HU; coloured: edges of the masks",
            ct_panels(people),
            CT_ACROSS,
            CT_STRIP,
        ),
        (
            "X-rays of the same phantom patients; coloured: "
            f"where a ray crosses more than {OPAQUE_MM:.0f} mm of disease",
            xray_panels(people),
            XRAY_ACROSS,
            XRAY_STRIP,
        ),
    )
    heights = [sum(_row_heights(panels, across, strip)) for _, panels, across, strip in groups]
    heights[0] += LEGEND_IN
    figure = plt.figure(figsize=(WIDTH_IN, sum(heights) + 1.0), layout="constrained")
    figure.suptitle("The phantom: computed chests, no person", fontsize=12)
    parts = figure.subfigures(2, 1, height_ratios=[height + 0.3 for height in heights])
    for part, group in zip(parts, groups, strict=True):
        _draw_group(part, *group)
    plt.close(figure)
    return figure


def patients(seed: int) -> dict[str, Patient]:
    """Simulate the patients of the sheet.

    Each is that of `phantom.simulate`, but where chance decides whether a finding shows: there the
    same chest's disease is drawn anew until it does.

    Args:
        seed: Decides on everything.

    Returns:
        ``normal``, ``covid``, ``bacterial``, ``effusion``, ``nodule`` and ``viral`` patients.

    Raises:
        DataError: No draw showed the finding.
    """
    wanted: dict[str, tuple[str, float, Callable[[Anatomy, phantom.Volume], bool]]] = {
        "normal": ("normal", 0.2, _anything),
        "covid": ("covid", 0.7, _hazy),
        "bacterial": ("bacterial", 0.8, _has_bronchogram),
        "effusion": ("covid", 0.55, _has_effusion),
        "nodule": ("nodule", 0.9, _anything),
        "viral": ("viral", 1.0, _anything),
    }
    people = {}
    for number, (name, (pattern, severity, good)) in enumerate(wanted.items()):
        chest = build(np.random.default_rng((seed, number)), CT_SIZE)
        volume = _first(chest, pattern, severity, (seed, number), good)
        people[name] = Patient("ABCDEF"[number], chest, volume)
    return people


def _first(
    chest: Anatomy,
    pattern: str,
    severity: float,
    seed: tuple[int, int],
    good: Callable[[Anatomy, phantom.Volume], bool],
    tries: int = 120,
) -> phantom.Volume:
    """The first disease that shows what is wanted; the first draw is that of `phantom.simulate`."""
    for turn in range(tries):
        volume = infect(chest, pattern, severity, (*seed, turn) if turn else seed)
        if good(chest, volume):
            return volume
    raise DataError(f"phantom sheet: no {pattern} that shows in {tries} draws; give another seed.")


def _anything(chest: Anatomy, volume: phantom.Volume) -> bool:
    return True


def _hazy(chest: Anatomy, volume: phantom.Volume) -> bool:
    """Ground-glass on both sides, hardly any of it dense, and no fluid that would cover it."""
    labels = volume.labels[chest.lung.box]
    haze = labels == GROUND_GLASS
    left = (haze & chest.lung.left).sum() / max(1, haze.sum())
    dense = (labels == CONSOLIDATION).sum() / max(1, haze.sum())
    return 0.2 < left < 0.8 and dense < 0.01 and not (labels == EFFUSION).any()


def _has_bronchogram(chest: Anatomy, volume: phantom.Volume) -> bool:
    dry = not (volume.labels == EFFUSION).any()
    return dry and bool(_bronchogram(chest, volume).sum(axis=(1, 2)).max() >= 16)


def _has_effusion(chest: Anatomy, volume: phantom.Volume) -> bool:
    area = (volume.labels == EFFUSION).sum(axis=(1, 2)).max() * volume.spacing[1] ** 2
    return bool(area > 1800)


def _bronchogram(chest: Anatomy, volume: phantom.Volume) -> np.ndarray:
    """Air of the bronchi well inside consolidation, bool of the volume's shape."""
    solid = (volume.labels == CONSOLIDATION).astype(np.uint8)
    around = np.zeros_like(solid)
    for index in np.flatnonzero(solid.any(axis=(1, 2))):
        closed = cv2.morphologyEx(solid[index], cv2.MORPH_CLOSE, np.ones((7, 7)))
        around[index] = cv2.erode(closed, np.ones((13, 13)))
    open_air = np.zeros(solid.shape, bool)
    open_air[chest.lung.box] = chest.lung.lumen > 0.5
    return open_air & (around > 0) & (volume.hu < -400)


def ct_panels(people: dict[str, Patient]) -> list[Panel]:
    """Six CT slices: two of a healthy chest, and one for each manifestation."""
    normal = people["normal"]
    body, tall = normal.chest.habitus, normal.volume.spacing[0]
    arch, heart = int((body.carina + 27) / tall), int((body.dome + 36) / tall)
    panels = [
        _ct_panel(normal, arch, "normal, at the aortic arch", _upper_labels),
        _ct_panel(normal, heart, "normal, at the heart", _heart_labels),
    ]
    for name, value, title, label in (
        ("covid", GROUND_GLASS, "ground-glass, COVID-19", _lesion_labels(GROUND_GLASS)),
        ("bacterial", CONSOLIDATION, "consolidation, bacterial", _consolidation_labels),
        ("effusion", EFFUSION, "pleural effusion", _lesion_labels(EFFUSION)),
        ("nodule", NODULE, "nodule", _lesion_labels(NODULE)),
    ):
        patient = people[name]
        lesion = patient.volume.labels == value
        shown = _bronchogram(patient.chest, patient.volume) if value == CONSOLIDATION else lesion
        panels.append(_ct_panel(patient, _best(patient, shown), title, label))
    return panels


def _best(patient: Patient, shown: np.ndarray) -> int:
    """Slice above the diaphragm with the most of what is to be shown."""
    usable = imaging.lung_slices(patient.volume)
    height = usable * patient.volume.spacing[0]
    above = usable[height > patient.chest.habitus.dome + 6]
    return int(above[shown[above].sum(axis=(1, 2)).argmax()])


def _ct_panel(
    patient: Patient,
    index: int,
    title: str,
    name: Callable[[Patient, int], list[Label]],
) -> Panel:
    """Cut a slice, cropped to the body, with its labels and its masks."""
    hu, labels = phantom.ct_slice(patient.volume, index)
    rows = _body_rows(patient.volume.hu[index])
    outlines = {
        colour: (labels == value)[rows]
        for value, colour in MASK_NAMES.items()
        if (labels == value).sum() > 12
    }
    named = tuple(
        Label(label.text, label.row - rows.start, label.column, label.structure)
        for label in name(patient, index)
    )
    image = phantom.lung_window(hu)[rows]
    truth = patient.volume.hu[index][rows]
    return Panel(title, image, named, outlines, truth, patient.letter)


def _body_rows(hu: np.ndarray) -> slice:
    """Rows of a slice around the body, as many for every patient."""
    found = np.flatnonzero((hu > -300).any(axis=1))
    count = round(CT_HEIGHT * len(hu))
    start = round((found[0] + found[-1]) / 2 - count / 2)
    start = int(np.clip(start, 0, len(hu) - count))
    return slice(start, start + count)


def _point(
    text: str, structure: str, mask: np.ndarray, free: np.ndarray | None = None
) -> list[Label]:
    """A label where a mask is farthest from its edge, or none where the mask is empty.

    Args:
        text: What stands in the sheet.
        structure: Short name.
        mask: bool (height, width).
        free: Where the label may point within the mask; anywhere if None.
    """
    allowed = mask if free is None else mask & free
    if not allowed.any():
        return []
    inside = np.pad(mask.astype(np.uint8), 1)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = np.unravel_index(np.where(allowed, depth, 0).argmax(), mask.shape)
    return [Label(text, int(row), int(column), structure)]


def _plane(patient: Patient, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A slice without noise and disease in HU, and the positions along y and x in mm."""
    _, y, x = patient.chest.grid.axes()
    return patient.chest.tissue[index], y[0], x[0]


def _blood(hu: np.ndarray) -> np.ndarray:
    return np.abs(hu - BLOOD) < 1.5


def _spine_mask(patient: Patient, index: int) -> np.ndarray:
    """Vertebral body of a slice."""
    hu, y, x = _plane(patient, index)
    behind = (y > patient.chest.habitus.depth - 40) & (y < patient.chest.habitus.depth - 4)
    return (hu > 80) & (np.abs(x) < 18) & behind


def _spine_label(patient: Patient, index: int) -> list[Label]:
    """The vertebra of a slice, or the disc where the slice goes through one."""
    labels = _point("vertebra", "spine", _spine_mask(patient, index))
    return [
        label
        if patient.volume.hu[index, label.row, label.column] >= DISC_BELOW
        else replace(label, text="disc")
        for label in labels
    ]


def _rib_mask(patient: Patient, index: int) -> np.ndarray:
    """Ribs of the patient's right side, away from spine and sternum."""
    hu, y, x = _plane(patient, index)
    return (hu > 400) & (x < -70) & (np.abs(y) < 70)


def _lung_label(text: str, structure: str, patient: Patient, index: int) -> list[Label]:
    """One lung of a slice; the label points between its vessels."""
    lung = patient.chest.lung
    level = index - lung.box[0].start
    whole, free = np.zeros((2, *patient.chest.tissue[index].shape), bool)
    side = lung.left[level] == (structure == "left_lung")
    whole[lung.box[1:]] = (lung.share[level] == 1) & side
    free[lung.box[1:]] = lung.vessel[level] + lung.wall[level] == 0
    return _point(text, structure, whole, free)


def _upper_labels(patient: Patient, index: int) -> list[Label]:
    """Trachea, arch of the aorta, a rib and a vertebra."""
    hu, y, x = _plane(patient, index)
    trachea = (hu < -700) & (np.abs(x) < 18) & (np.abs(y - 14) < 22)
    arch = _blood(hu) & (x > -4) & (np.abs(y) < 60)
    return [
        *_point("trachea", "trachea", trachea),
        *_point("aortic arch", "aorta", arch),
        *_point("rib", "rib", _rib_mask(patient, index)),
        *_spine_label(patient, index),
    ]


def _heart_labels(patient: Patient, index: int) -> list[Label]:
    """Both lungs, heart, descending aorta and a vertebra."""
    hu, y, x = _plane(patient, index)
    before_spine = y > patient.chest.habitus.depth - 62
    aorta = _blood(hu) & (np.abs(x - 20) < 24) & before_spine
    return [
        *_lung_label("right lung", "right_lung", patient, index),
        *_lung_label("left lung", "left_lung", patient, index),
        *_point("heart", "heart", heart_mask(patient)[index]),
        *_point("descending aorta", "aorta", aorta),
        *_spine_label(patient, index),
    ]


def _lesion_labels(value: int) -> Callable[[Patient, int], list[Label]]:
    """Labels of a slice whose lesion is the thing to see."""

    def name(patient: Patient, index: int) -> list[Label]:
        colour = MASK_NAMES[value]
        found = patient.volume.labels[index] == value
        labels = _point(NAMES.get(colour, colour), colour, found)
        if value == GROUND_GLASS:
            vessel = _covered_vessel(patient, index)
            # By its own extent: by density, the bright mediastinum next to it would decide.
            labels += _widest("vessel in the haze", "vessel", vessel, 1.0 * vessel)
        return labels + _point("heart", "heart", heart_mask(patient)[index])

    return name


def _widest(text: str, structure: str, mask: np.ndarray, strength: np.ndarray) -> list[Label]:
    """A label at the part of a broken-up mask that shows best."""
    if not mask.any():
        return []
    shown = cv2.GaussianBlur(strength.astype(np.float32), (0, 0), 1.5)
    row, column = np.unravel_index(np.where(mask, shown, -np.inf).argmax(), mask.shape)
    return [Label(text, int(row), int(column), structure)]


def _covered_vessel(patient: Patient, index: int) -> np.ndarray:
    """Vessels that stay visible inside ground-glass."""
    lung = patient.chest.lung
    haze = (patient.volume.labels[index] == GROUND_GLASS).astype(np.uint8)
    around = cv2.erode(cv2.morphologyEx(haze, cv2.MORPH_CLOSE, np.ones((7, 7))), np.ones((9, 9)))
    vessel = np.zeros(haze.shape, bool)
    vessel[lung.box[1:]] = lung.vessel[index - lung.box[0].start] > 0.7
    return vessel & (around > 0)


def _consolidation_labels(patient: Patient, index: int) -> list[Label]:
    """Consolidation, the air in its bronchi, and the fissure where it ends."""
    volume = patient.volume
    air = _bronchogram(patient.chest, volume)[index]
    solid = volume.labels[index] == CONSOLIDATION
    return [
        *_point("consolidation", "consolidation", solid),
        *_widest("air bronchogram", "bronchogram", air, -volume.hu[index]),
        *_fissure_label(patient, index),
        *_point("heart", "heart", heart_mask(patient)[index]),
    ]


def _fissure_label(patient: Patient, index: int) -> list[Label]:
    """Where a dense lobe ends at a healthy one: the middle of that edge, if it is long enough."""
    lung = patient.chest.lung
    level = index - lung.box[0].start
    lobe = np.full(patient.chest.tissue[index].shape, 255, np.uint8)
    lobe[lung.box[1:]] = np.where(lung.share[level] > 0.9, lung.lobe[level], 255)
    solid = patient.volume.labels[index] == CONSOLIDATION
    here = np.bincount(lobe[solid], minlength=256)[:5].argmax()
    near = cv2.dilate(solid.astype(np.uint8), np.ones((3, 3))) > 0
    edge = np.argwhere(near & (lobe != here) & (lobe != 255))
    if len(edge) < 8:
        return []
    edge = edge[edge[:, 1].argsort(kind="stable")]
    row, column = edge[len(edge) // 2]
    return [Label("fissure", int(row), int(column), "fissure")]


def xray_panels(people: dict[str, Patient]) -> list[Panel]:
    """Four patterns PA with names, then AP, the same patients, with the edges of the opacities."""
    panels = []
    for view in ("PA", "AP"):
        for number, pattern in enumerate(("normal", "viral", "bacterial", "covid")):
            patient = people[pattern]
            # The same draw for both views: only what the view itself changes differs.
            exposure = phantom.sample_exposure(np.random.default_rng(number), view)
            name, span, outlines = NAMES[pattern], None, {}
            labels = _opacity_labels if pattern != "normal" else _normal_labels
            if pattern == "normal":
                *span, share = heart_width(patient, exposure)
                name = f"normal, heart {share:.0%} of the chest"
            elif view == "AP":
                thick = shadow(patient, patient.volume.labels > 0, exposure)
                outlines = {pattern: cv2.GaussianBlur(thick, (0, 0), 3) > OPAQUE_MM}
            panels.append(
                Panel(
                    title=f"{view}, {name}",
                    image=phantom.xray(patient.volume, exposure, XRAY_SIZE, seed=number),
                    labels=tuple(labels(patient, exposure)) if view == "PA" else (),
                    outlines=outlines,
                    patient=patient.letter,
                    span=tuple(span) if span else None,
                )
            )
    return panels


def shadow(patient: Patient, mask: np.ndarray, exposure: phantom.Exposure) -> np.ndarray:
    """How many mm of a structure the ray to each pixel of an X-ray crosses.

    Args:
        patient: Whose X-ray it is.
        mask: bool (z, y, x), the structure.
        exposure: How the X-ray is taken.

    Returns:
        float32 (`XRAY_SIZE`, `XRAY_SIZE`).
    """
    water = np.where(mask, 0, -1000).astype(np.int16)
    labels = np.zeros((1, 1, 1), np.uint8)
    alone = phantom.Volume(water, labels, patient.volume.spacing, "normal", 0.0)
    return imaging.project(alone, exposure, XRAY_SIZE) / imaging.WATER_PER_MM


def heart_mask(patient: Patient) -> np.ndarray:
    """The heart without the great vessels: where a disc of 19 mm fits into blood.

    Returns:
        bool (z, y, x).
    """
    tall, pixel, _ = patient.volume.spacing
    dome = patient.chest.habitus.dome
    # Lower down, the organs under the diaphragm are as dense as blood.
    levels = slice(int((dome - 12) / tall), int((dome + 90) / tall))
    radius = round(19 / pixel)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
    heart = np.zeros(patient.volume.hu.shape, bool)
    for index in range(levels.start, levels.stop):
        blood = _blood(patient.chest.tissue[index]).astype(np.uint8)
        heart[index] = cv2.morphologyEx(blood, cv2.MORPH_OPEN, disc)
    return heart


def heart_width(patient: Patient, exposure: phantom.Exposure) -> tuple[float, float, float, float]:
    """Measure the heart on an X-ray, as for the cardiothoracic ratio.

    Returns:
        First and last column of its shadow, the row where it is widest, and its share of the inner
        width of the chest.
    """
    chest = patient.chest
    lung = np.zeros(chest.tissue.shape, bool)
    lung[chest.lung.box] = chest.lung.share > 0.5
    inner = np.flatnonzero((shadow(patient, lung, exposure) > 8).any(axis=0))
    heart = shadow(patient, heart_mask(patient), exposure) > 15
    first, last = np.flatnonzero(heart.any(axis=0))[[0, -1]]
    row = heart.sum(axis=1).argmax()
    share = (last - first) / (inner[-1] - inner[0])
    return float(first), float(last), float(row), float(share)


def _normal_labels(patient: Patient, exposure: phantom.Exposure) -> list[Label]:
    """Trachea, arch of the aorta, heart and diaphragm of an X-ray."""
    body, chest = patient.chest.habitus, patient.chest
    z, y, x = chest.grid.axes()
    # In the neck, where nothing but the spine lies behind it.
    air = (chest.tissue < -700) & (np.abs(x) < 16) & (np.abs(z - body.carina - 72) < 10)
    blood = _blood(chest.tissue)
    parts = {
        "trachea": ("trachea", air & (np.abs(y - 8) < 24)),
        "aorta": ("aortic arch", blood & (x > 15) & (np.abs(z - body.carina - 22) < 12)),
        # Beside the spine, where nothing else could be meant.
        "heart": ("heart", heart_mask(patient) & (x > 24)),
        "diaphragm": ("diaphragm", _dome(patient)),
    }
    return [
        label
        for structure, (text, mask) in parts.items()
        for label in _peak(text, structure, shadow(patient, mask, exposure))
    ]


def _dome(patient: Patient) -> np.ndarray:
    """A thin sheet at the top of the right half of the diaphragm, bool (z, y, x)."""
    lung = patient.chest.lung
    z, _, x = lung.axes
    height = z - patient.chest.habitus.dome
    mask = np.zeros(patient.volume.hu.shape, bool)
    below = (lung.share == 0) & (lung.wall_distance > 10) & (x < -35)
    mask[lung.box] = below & (height < 0) & (height > -9)
    return mask


def _peak(text: str, structure: str, thickness: np.ndarray) -> list[Label]:
    """A label in the middle of where a shadow is more than half as thick as it gets."""
    if thickness.max() <= 0:
        return []
    return _point(text, structure, thickness > 0.5 * thickness.max())


def _opacity_labels(patient: Patient, exposure: phantom.Exposure) -> list[Label]:
    """The opacity of an X-ray; on both sides where the disease is."""
    thickness = shadow(patient, patient.volume.labels > 0, exposure)
    pattern = patient.volume.pattern
    middle = round((0.5 + exposure.shift[0]) * XRAY_SIZE)
    sides = [thickness.copy(), thickness.copy()]
    sides[0][:, middle:] = 0
    sides[1][:, :middle] = 0
    if pattern == "bacterial":
        sides = [max(sides, key=np.sum)]
    text = PATTERN_LABELS[pattern]
    return [label for side in sides for label in _peak(text, "opacity", side)]


def _row_heights(panels: Sequence[Panel], across: int, strip: float) -> list[float]:
    """Height of each row of panels in inches, with its headings."""
    inches = WIDTH_IN / across - 0.1
    heights = []
    for start in range(0, len(panels), across):
        row = panels[start : start + across]
        height, width = row[0].image.shape
        heights.append((height / width + sum(_strips(row, strip))) * inches + 0.25)
    return heights


def _strips(row: Sequence[Panel], strip: float) -> tuple[float, float]:
    """Strips above and below a row of pictures; narrow where nothing is to be named."""
    named = [_is_upper(panel, label) for panel in row for label in panel.labels]
    return (strip if any(named) else 0.015, strip if not all(named) else 0.0)


def _is_upper(panel: Panel, label: Label) -> bool:
    """Whether a label stands above the picture; a bit more than half of it, the spine never."""
    return label.row < 0.58 * len(panel.image)


def _draw_group(
    figure: SubFigure, title: str, panels: Sequence[Panel], across: int, strip: float
) -> None:
    """Draw panels row by row under a heading."""
    figure.suptitle(title, fontsize=9.5, color=INK)
    _name_colours(figure, panels)
    heights = _row_heights(panels, across, strip)
    axes = figure.subplots(len(heights), across, squeeze=False, height_ratios=heights)
    for line, start in zip(axes, range(0, len(panels), across), strict=True):
        row = panels[start : start + across]
        for axis, panel in zip(line, row, strict=True):
            draw(axis, panel, _strips(row, strip), WIDTH_IN / across - 0.15)


def _name_colours(figure: SubFigure, panels: Sequence[Panel]) -> None:
    """Say which colour is which manifestation; an X-ray's own heading says it already."""
    seen = {colour for panel in panels if panel.hu is not None for colour in panel.outlines}
    lines = [
        Line2D([], [], color=COLOURS[colour], label=NAMES.get(colour, colour))
        for colour in MASK_NAMES.values()
        if colour in seen
    ]
    if lines:
        look = {"frameon": False, "fontsize": FONT, "labelcolor": INK, "handlelength": 1.2}
        figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), **look)


def draw(axis: Axes, panel: Panel, strips: tuple[float, float], inches: float) -> None:
    """Draw one panel: the picture, its masks' outlines, and its labels above and below it.

    Args:
        axis: Where to draw.
        panel: What to draw.
        strips: Height of the free strips above and below, as shares of the picture's width.
        inches: Width of the picture on paper.
    """
    height, width = panel.image.shape
    top, bottom = (share * width for share in strips)
    axis.imshow(panel.image, cmap="gray", vmin=0, vmax=255, interpolation="bicubic")
    axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5 + bottom, -0.5 - top))
    axis.axis("off")
    axis.set_title(f"{panel.patient}  {panel.title}", fontsize=8.5, color=INK, pad=2)
    for colour, mask in panel.outlines.items():
        # Vessels and bronchi leave holes in a mask; drawn as well, they would hide the picture.
        whole = ndimage.binary_fill_holes(mask)
        axis.contour(whole, [0.5], colors=[COLOURS[colour]], linewidths=1.0)
    look = {"color": "white", "ha": "center", "va": "center", "fontweight": "bold"}
    for letter, place in (("R", 0.04), ("L", 0.96)):
        spot = (place * width, 0.04 * width)
        axis.text(*spot, letter, fontsize=FONT, path_effects=_halo("black"), **look)
    if panel.span:
        first, last, row = panel.span
        _line(axis, (first, last), (row, row), marker="|", markersize=5)
    for upper, edge, row in ((True, -0.5, -0.45 * top), (False, height - 0.5, bottom)):
        labels = [label for label in panel.labels if _is_upper(panel, label) == upper]
        _draw_labels(axis, labels, edge, row if upper else height + 0.45 * row, width / inches)


def _draw_labels(
    axis: Axes, labels: Sequence[Label], edge: float, row: float, per_inch: float
) -> None:
    """Names in one strip, each with a thin line from the picture's edge to its place."""
    labels = sorted(labels, key=lambda label: label.column)
    sizes = [len(label.text) * FONT / 72 * 0.56 * per_inch for label in labels]
    places = spread([label.column for label in labels], sizes, axis.get_xlim()[1])
    for label, place in zip(labels, places, strict=True):
        axis.text(place, row, label.text, fontsize=FONT, color=INK, ha="center", va="center")
        end = np.array((label.column, label.row), float)
        way = end - (place, edge)
        if label.structure in SMALL:
            radius = RING * axis.get_xlim()[1]
            ring = Circle(tuple(end), radius, fill=False, edgecolor=INK, linewidth=0.8)
            ring.set_path_effects(_halo("white"))
            axis.add_patch(ring)
            end = end - way * radius / np.linalg.norm(way)
        _line(axis, (place, end[0]), (edge, end[1]))
        if label.structure not in SMALL:
            axis.plot(*end, "o", color=INK, markersize=3)


def _line(axis: Axes, columns: Sequence[float], rows: Sequence[float], **look: object) -> None:
    """A thin line that can be seen on any gray."""
    axis.plot(columns, rows, color=INK, linewidth=0.8, path_effects=_halo("white"), **look)


def spread(wanted: Sequence[float], sizes: Sequence[float], width: float) -> list[float]:
    """Centres of texts in a row, near where they are wanted, without overlap.

    Args:
        wanted: Wished centres, rising.
        sizes: Width of each text.
        width: Width of the row, in the same unit.

    Returns:
        Centres, rising; they keep to the row as long as the texts fit into it.
    """
    gap = 0.02 * width
    left = []
    edge = 0.0
    for centre, size in zip(wanted, sizes, strict=True):
        start = max(edge, centre - size / 2)
        left.append(start)
        edge = start + size + gap
    edge = width
    for index in range(len(left) - 1, -1, -1):
        left[index] = min(left[index], edge - sizes[index])
        edge = left[index] - gap
    return [start + size / 2 for start, size in zip(left, sizes, strict=True)]


def _halo(colour: str) -> list[effects.AbstractPathEffect]:
    """A thin rim that keeps a line or a letter readable on any gray."""
    return [effects.withStroke(linewidth=2.0, foreground=colour)]
