"""Volumes of other hospitals in the layout of Ma et al. 2021, with masks of infection and lungs.

Neither looks like the slices of the other sets: one is stored upside down and shows the patient's
table, the other has been through another window, gamma and contrast equalisation.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from chest_phantom import files
from chest_phantom.anatomy import build
from chest_phantom.cohort import Person
from chest_phantom.ct import ct_slice, to_uint8
from chest_phantom.job import Job, Notes, spread
from chest_phantom.settings import CONSOLIDATION, GROUND_GLASS, Settings

CASES = "COVID-19-CT-Seg_20cases"
#: Names of the volumes, which tell the gray scale as the names of that set do.
HOUNSFIELD, PICTURES = "coronacases_001", "radiopaedia_1_00001_0"
#: Slices of each.
SLICES = 6
#: Density of the patient's table.
TABLE_HU = 120
#: How the second volume became a picture: window in HU, exponent, limit and tiles of CLAHE.
WINDOW, GAMMA, CLIP, TILES = (-1250.0, 250.0), 0.75, 2.5, (4, 4)


def people(settings: Settings) -> list[Person]:
    """The two patients, whom no other set has."""
    numbers = (settings.patients + 1, settings.patients + 2)
    return [
        Person(number, rank, "external", "covid", 0.8, "", (settings.seed, number))
        for rank, number in enumerate(numbers)
    ]


def write(root: Path, settings: Settings, person: Person) -> Notes:
    """Write the volume of one of `people` with its masks."""
    chest = build(np.random.default_rng(person.seed), settings.ct_size)
    job = Job(root, settings, person, chest, Notes())
    volume, lung = job.state(), chest.lung
    sides = np.zeros(volume.labels.shape, np.uint8)
    sides[lung.box] = np.where(lung.share < 0.5, 0, np.where(lung.left, 1, 2))
    chosen = sorted(set(spread(volume, SLICES)))
    hu = np.stack([ct_slice(volume, index, person.number)[0] for index in chosen])
    infection = np.isin(volume.labels[chosen], (GROUND_GLASS, CONSOLIDATION))
    is_picture = person.rank == 1
    name = PICTURES if is_picture else HOUNSFIELD
    shown = np.stack([_picture(plane) if is_picture else _on_table(plane) for plane in hu])
    for folder, planes in (
        (CASES, shown),
        ("Infection_Mask", infection.astype(np.uint8)),
        ("Lung_Mask", sides[chosen]),
    ):
        # The axes of the file say nothing of its being upside down.
        turned = planes if is_picture else planes[:, ::-1]
        path = f"{CASES}/{folder}/{name}.nii.gz"
        files.save_nifti(root / path, turned.T, np.diag([-1.0, -1.0, 1.0, 1.0]))
    for frame in range(len(chosen)):
        job.record(f"{CASES}/{CASES}/{name}.nii.gz", volume, frame)
    return job.notes


def _on_table(hu: np.ndarray) -> np.ndarray:
    """Hounsfield units of a slice with the table that the patient lies on."""
    size = len(hu)
    back = int(np.flatnonzero((hu > -300).any(axis=1))[-1])
    arc = np.zeros(hu.shape, np.uint8)
    for below in (2, 2 + size // 20):
        axes = (round(0.44 * size), round(0.1 * size))
        centre = (size // 2, back + below - axes[1])
        cv2.ellipse(arc, centre, axes, 0, 15, 165, 1, max(1, size // 100))
    return np.where((arc > 0) & (hu < -500), np.int16(TABLE_HU), hu)


def _picture(hu: np.ndarray) -> np.ndarray:
    """A slice as 8-bit gray, through another window, a gamma curve and CLAHE."""
    gray = np.rint(255 * (to_uint8(hu, *WINDOW) / 255.0) ** GAMMA).astype(np.uint8)
    return cv2.createCLAHE(CLIP, TILES).apply(gray)
