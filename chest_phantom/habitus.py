"""Build of one adult: the measures that every part of a chest follows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Habitus:
    """Build of one patient; lengths in mm, heights from the bottom of the volume.

    Attributes:
        female: Sex, which decides on the breasts.
        age: Years; the aorta widens with it.
        width: Half of the chest's inner width.
        depth: Half of the chest's inner depth.
        fat: Thickness of the fat under the skin.
        muscle: Thickness of the muscles outside the ribs.
        apex: Height of the tops of the lungs.
        dome: Height of the right dome of the diaphragm.
        dome_gap: How much lower the left dome is.
        heart: Size of the heart, 1 is usual.
        rib_gap: Distance from rib to rib.
        rib_phase: Where the ribs start, 0-1 of their distance.
        rib_drop: How far a rib falls from the spine to its front end.
        lean: Shift of the trachea and the middle of the chest.
        lung_hu: Density of the lung, in Hounsfield units.
        gas: Radius of the gas in the stomach.
    """

    female: bool
    age: int
    width: float
    depth: float
    fat: float
    muscle: float
    apex: float
    dome: float
    dome_gap: float
    heart: float
    rib_gap: float
    rib_phase: float
    rib_drop: float
    lean: float
    lung_hu: float
    gas: float

    @property
    def carina(self) -> float:
        """Height at which the trachea divides."""
        return self.apex - 0.42 * (self.apex - self.dome) - 6

    @property
    def reach(self) -> float:
        """Half of the body's width."""
        return self.width + 9 + self.muscle + self.fat

    def seam(self, y: np.ndarray) -> np.ndarray:
        """Where the two lungs would meet, in mm along x; to the front it leans to the left."""
        return np.float32(self.lean) - np.float32(0.22) * np.minimum(y - 10, 0)


def sample_habitus(rng: np.random.Generator) -> Habitus:
    """Draw the build of one adult."""
    female = bool(rng.random() < 0.45)
    small = 0.94 if female else 1.0
    return Habitus(
        female=female,
        age=int(rng.integers(24, 86)),
        width=small * rng.uniform(132, 147),
        depth=small * rng.uniform(88, 104),
        fat=rng.uniform(7, 20),
        muscle=small * rng.uniform(12, 18),
        apex=rng.uniform(281, 292),
        dome=rng.uniform(84, 110),
        dome_gap=rng.uniform(6, 16),
        heart=rng.uniform(0.9, 1.1),
        rib_gap=rng.uniform(28, 32),
        rib_phase=rng.uniform(0, 1),
        rib_drop=rng.uniform(88, 118),
        lean=rng.uniform(-3, 3),
        lung_hu=rng.uniform(-885, -835),
        gas=rng.uniform(0, 26),
    )
