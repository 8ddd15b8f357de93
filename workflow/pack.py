"""Complete a profile's pack, which its notebook of other hospitals wrote, and write its card.

Added is how unlike the slices that the network learned from others are.
"""

from __future__ import annotations

import os
import sys

import one_profile

from covid_utils import paths
from covid_utils.data import collection
from covid_utils.report import card
from covid_utils.training import likeness, other_hospitals, reproducible, shipped


def pack(profile: str) -> str:
    """Complete the pack and write the card; returns where the card is."""
    file = shipped.path(profile)
    if file.is_file():  # else the card says what to do
        parts = shipped.read(file)
        committee, settings = shipped.committee(parts[shipped.OUTLINES])
        reproducible.start(settings.seed)
        scans = collection.open_or_prepare(profile, os.environ.get("COVID_DATA_DIR", ""))
        data = other_hospitals.everything(scans, settings)
        groups = data.rows["patient_id"]
        parts[likeness.PART] = likeness.learned(committee, settings, data.images, groups)
        shipped.write(file, parts)
    return str(paths.shown(card.write(profile)))


if __name__ == "__main__":
    sys.exit(one_profile.run(pack))
