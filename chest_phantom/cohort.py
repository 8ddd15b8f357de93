"""The phantom's patients: what each of them has, and which data sets each belongs to."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from dataclasses import dataclass

import numpy as np

from chest_phantom.settings import EXTRAS, HOSPITALS, SHARES, Settings

#: Part of every name and UID, so that a new version of the generator does not change them.
NAMES = 1
#: How often a patient's X-rays come from the hospital that is usual for the data set.
LOYALTY = 0.8
#: Severity with which the lesions of COVID-19 fill most of the lungs.
MOST = 3.0


@dataclass(frozen=True)
class Person:
    """One patient of the phantom.

    Attributes:
        number: Counts from 1 over all patients.
        rank: Counts from 0 over the patients with the same role and pattern.
        role: ``covid``, ``chest``, ``other``, ``rsna`` or ``nih``: which data set gets the X-rays;
            ``external`` patients have none.
        pattern: One of `PATTERNS`.
        severity: Extent of the disease, 0-1; up to `MOST` with `Settings.any_extent`.
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
        """A separate generator per purpose, so that nothing depends on the order of work."""
        digest = hashlib.sha256(purpose.encode()).digest()
        return np.random.default_rng((*self.seed, int.from_bytes(digest[:4], "big")))


def plan(settings: Settings) -> list[Person]:
    """List all patients.

    The hospital goes with the data set more often than not, as in the real sets, so a model can
    mistake its mark for the disease.
    """
    scale = max(1, settings.patients // 60)
    roles = [(role, p) for role, patterns in EXTRAS.items() for p in patterns * scale]
    rest = settings.patients - len(roles)
    counts = {pattern: max(2, round(share * rest)) for pattern, share in SHARES.items()}
    counts["covid"] += rest - sum(counts.values())
    main = [("covid" if p == "covid" else "chest", p) for p, n in counts.items() for _ in range(n)]
    people, ranks = [], Counter()
    for number, (role, pattern) in enumerate(main + roles, start=1):
        people.append(_person(settings, number, ranks[role, pattern], role, pattern))
        ranks[role, pattern] += 1
    return people


def _person(settings: Settings, number: int, rank: int, role: str, pattern: str) -> Person:
    rng = np.random.default_rng((settings.seed, number, 1))
    # All are drawn, so that the hospital does not depend on the pattern.
    severity = {
        "covid": 0.3 + 0.7 * rng.beta(2.0, 1.6),
        "viral": rng.uniform(0.25, 1.0),
        "bacterial": rng.uniform(0.35, 1.0),
        "nodule": rng.uniform(0.2, 1.0),
        "normal": rng.uniform(0.0, 1.0),
    }[pattern]
    if settings.any_extent and pattern == "covid":
        # A generator of its own leaves all else about the patient as it is. Squared, half of the
        # patients have less than a quarter of the most.
        severity = MOST * np.random.default_rng((settings.seed, number, 2)).random() ** 2
    usual, other = HOSPITALS if role in ("covid", "other") else HOSPITALS[::-1]
    hospital = usual if rng.random() < LOYALTY else other
    return Person(number, rank, role, pattern, float(severity), hospital, (settings.seed, number))


def uid(settings: Settings, *parts: object) -> str:
    """A DICOM UID that depends on nothing but the seed and what it names."""
    return f"2.25.{_digest(settings, parts).int}"


def name_of(settings: Settings, *parts: object) -> str:
    """A name that looks random, as RSNA's patients have."""
    return str(_digest(settings, parts))


def _digest(settings: Settings, parts: tuple) -> uuid.UUID:
    text = "/".join(str(part) for part in ("phantom", NAMES, settings.seed, *parts))
    return uuid.UUID(bytes=hashlib.sha256(text.encode()).digest()[:16])
