"""One patient whose images are being written, and the rows that the tables get."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from chest_phantom.anatomy import Anatomy
from chest_phantom.cohort import Person
from chest_phantom.ct import lung_slices
from chest_phantom.disease import Volume, infect
from chest_phantom.projection import sample_exposure
from chest_phantom.settings import Settings
from chest_phantom.xray import take_xray


@dataclass
class Notes:
    """Table rows and segmentation slices of one patient."""

    truth: list[dict] = field(default_factory=list)
    metadata: list[dict] = field(default_factory=list)
    boxes: list[dict] = field(default_factory=list)
    classes: list[dict] = field(default_factory=list)
    nodules: list[dict] = field(default_factory=list)
    slices: list[tuple[str, np.ndarray, np.ndarray]] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """One patient whose images are being written below ``root``."""

    root: Path
    settings: Settings
    person: Person
    chest: Anatomy
    notes: Notes

    def state(self, visit: int = 0) -> Volume:
        """The chest at a visit: the same lesions, a bit larger or smaller."""
        person = self.person
        drift = person.generator(f"visit {visit}").normal(0, 0.12) if visit else 0.0
        severity = float(np.clip(person.severity + drift, 0.05, max(1, person.severity)))
        return infect(self.chest, person.pattern, severity, person.seed)

    def xray(self, volume: Volume, view: str, purpose: str) -> np.ndarray:
        """An X-ray; ``purpose`` decides on pose, exposure and noise."""
        rng = self.person.generator(purpose)
        return take_xray(
            volume,
            sample_exposure(rng, view),
            self.settings.xray_size,
            int(rng.integers(2**31)),
            self.person.hospital,
            self.settings.hospital_mark,
        )

    def record(self, path: str, volume: Volume, frame: int = 0) -> None:
        """Add what an image shows to the table of the truth."""
        person = self.person
        self.notes.truth.append(
            {
                "path": path,
                "frame": frame,
                "person": person.number,
                "pattern": volume.pattern,
                "severity": round(volume.severity, 3),
                "hospital": person.hospital,
            }
        )


def views(rng: np.random.Generator, count: int) -> list[str]:
    """Views of a patient's X-rays: standing patients stay PA, the others stay in bed."""
    if rng.random() < 0.5:
        return ["PA"] * count
    return ["AP Supine" if rng.random() < 0.4 else "AP" for _ in range(count)]


def spread(volume: Volume, count: int) -> list[int]:
    """Slices spread over the disease, or over the lungs where there is none."""
    weight = (volume.labels > 0).sum(axis=(1, 2)).astype(float)
    usable = lung_slices(volume)
    inside = np.zeros(len(weight))
    inside[usable] = 1 + weight[usable]
    places = np.cumsum(inside) / inside.sum()
    return [int(np.searchsorted(places, (k + 0.5) / count)) for k in range(count)]
