"""What a phantom is made from, and the names that it is made with."""

from __future__ import annotations

from dataclasses import dataclass

#: Version of the generator. Raise it whenever a byte of the data set changes.
VERSION = 3
SETTINGS_FILE = "phantom.json"
TRUTH_FILE = "phantom_truth.csv"
LICENCE = "CC0 1.0 (phantom)"

PATTERNS = ("normal", "covid", "viral", "bacterial", "nodule")
#: What a mask's values mean.
LABELS = ("background", "ground-glass", "consolidation", "effusion", "nodule")
BACKGROUND, GROUND_GLASS, CONSOLIDATION, EFFUSION, NODULE = range(5)
HOSPITALS = ("north", "south")

#: Role -> the pattern of each of its patients; so many for every 60 patients.
EXTRAS = {
    "other": ("viral", "bacterial", "normal"),
    "rsna": ("covid", "bacterial", "normal", "nodule"),
    "nih": ("normal", "bacterial"),
}
#: Shares of the remaining patients, by pattern, with at least two of each.
SHARES = {"covid": 0.43, "normal": 0.22, "viral": 0.175, "bacterial": 0.175}
FEWEST = sum(len(patterns) for patterns in EXTRAS.values()) + 2 * len(SHARES)


@dataclass(frozen=True)
class Settings:
    """What to simulate.

    Attributes:
        seed: Seed of everything random.
        patients: Number of patients, at least `FEWEST`.
        ct_size: Pixels of a CT slice along each side.
        xray_size: Pixels of an X-ray along each side.
        hospital_mark: Strength 0-1 of the marks that identify the two hospitals; 0 leaves none.
        any_extent: Whether COVID-19 takes anything from a trace to most of the lungs, so that a
            network that learns from it expects no extent; else about as much as in a ward.

    Raises:
        ValueError: A setting is out of its range.
    """

    seed: int = 2020
    patients: int = 60
    ct_size: int = 160
    xray_size: int = 256
    hospital_mark: float = 0.5
    any_extent: bool = False

    def __post_init__(self) -> None:
        ranges = {
            "seed": (0, 2**31),
            "patients": (FEWEST, 10_000),
            "ct_size": (64, 512),
            "xray_size": (64, 2048),
            "hospital_mark": (0, 1),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"phantom: {name} is {value}; give {low} to {high}.")
