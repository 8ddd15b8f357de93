"""Who is in the phantom: its settings, and what each patient has and is used for."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass

import numpy as np

from covid_utils.data.phantom.imaging import HOSPITALS
from covid_utils.errors import ParameterError

#: Version of the generator. Raise it whenever a byte of the data set changes.
VERSION = 1

#: Role -> patterns of its patients, one after the other.
EXTRAS = {
    "other": ("viral", "bacterial", "normal"),
    "rsna": ("covid", "bacterial", "normal", "nodule"),
    "nih": ("normal", "bacterial"),
}
#: Shares of the remaining patients, by pattern; two of each is the least.
SHARES = {"covid": 0.43, "normal": 0.22, "viral": 0.175, "bacterial": 0.175}
FEWEST = sum(len(patterns) for patterns in EXTRAS.values()) + 2 * len(SHARES)
#: How often a hospital keeps to the data set that it is usually in.
LOYALTY = 0.8


@dataclass(frozen=True)
class PhantomSettings:
    """What the data set is made from.

    Attributes:
        seed: Everything random hangs from it.
        patients: Number of patients, at least `FEWEST`.
        ct_size: Pixels of a CT slice along each side.
        xray_size: Pixels of an X-ray along each side.
        hospital_mark: Strength 0-1 of what gives the two hospitals away; 0 leaves no trace.
    """

    seed: int = 2020
    patients: int = 60
    ct_size: int = 160
    xray_size: int = 256
    hospital_mark: float = 0.5

    def __post_init__(self) -> None:
        """Refuse settings that no chest can be made from.

        Raises:
            ParameterError: A setting is out of its range.
        """
        ranges = {
            "seed": (0, 2**31),
            "patients": (FEWEST, 10_000),
            "ct_size": (64, 512),
            "xray_size": (64, 2048),
            "hospital_mark": (0, 1),
        }
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                value = getattr(self, name)
                raise ParameterError(f"phantom: {name} is {value}; give {low} to {high}.")


@dataclass(frozen=True)
class Person:
    """One patient of the phantom.

    Attributes:
        number: Counts from 1 over all patients.
        rank: Counts from 0 over the patients with the same role and pattern.
        role: ``covid``, ``chest``, ``other``, ``rsna`` or ``nih``: where the X-rays go.
        pattern: What the patient has.
        severity: Extent of the disease, 0-1.
        hospital: Where the X-rays are taken.
        seed: Seed of the patient's generators.
    """

    number: int
    rank: int
    role: str
    pattern: str
    severity: float
    hospital: str
    seed: tuple[int, int]

    def generator(self, purpose: str) -> np.random.Generator:
        """A generator of its own for each purpose, so that nothing depends on the order of work."""
        digest = hashlib.sha256(purpose.encode()).digest()
        return np.random.default_rng((*self.seed, int.from_bytes(digest[:4], "big")))


def plan(settings: PhantomSettings) -> list[Person]:
    """Draw up the list of all patients.

    The hospital goes with the data set more often than not, as in the real sets, so that a model
    can take it for the disease while its mark is on.
    """
    scale = max(1, settings.patients // 60)
    roles = [(role, p) for role, patterns in EXTRAS.items() for p in patterns * scale]
    rest = settings.patients - len(roles)
    counts = {pattern: max(2, round(share * rest)) for pattern, share in SHARES.items()}
    counts["covid"] += rest - sum(counts.values())
    main = [("covid" if p == "covid" else "chest", p) for p, n in counts.items() for _ in range(n)]
    people = []
    for number, (role, pattern) in enumerate(main + roles, start=1):
        rank = sum((each.role, each.pattern) == (role, pattern) for each in people)
        people.append(_person(settings, number, rank, role, pattern))
    return people


def _person(settings: PhantomSettings, number: int, rank: int, role: str, pattern: str) -> Person:
    rng = np.random.default_rng((settings.seed, number, 1))
    severity = {
        "covid": 0.3 + 0.7 * rng.beta(2.0, 1.6),
        "viral": rng.uniform(0.25, 1.0),
        "bacterial": rng.uniform(0.35, 1.0),
        "nodule": rng.uniform(0.2, 1.0),
        "normal": rng.uniform(0.0, 1.0),
    }[pattern]
    usual = HOSPITALS[0 if role in ("covid", "other") else 1]
    other = HOSPITALS[1 if role in ("covid", "other") else 0]
    hospital = usual if rng.random() < LOYALTY else other
    return Person(number, rank, role, pattern, float(severity), hospital, (settings.seed, number))


def uid(settings: PhantomSettings, *parts: object) -> str:
    """A DICOM UID that depends on the seed and on what it names only."""
    return f"2.25.{_digest(settings, parts).int}"


def name_of(settings: PhantomSettings, *parts: object) -> str:
    """A name like a random one, as RSNA gives its patients."""
    return str(_digest(settings, parts))


def _digest(settings: PhantomSettings, parts: tuple) -> uuid.UUID:
    text = "/".join(str(part) for part in ("phantom", VERSION, settings.seed, *parts))
    return uuid.UUID(bytes=hashlib.sha256(text.encode()).digest()[:16])
