"""Complete a profile's pack, which its notebook of other hospitals wrote, and write its card.

Added are how unlike the slices that the network learned from others are; the network that names
manifestations, which is trained here in about three minutes; and the heads of recognition, if the
notebook of recognition has left some.
"""

from __future__ import annotations

import os
import sys

import card
import one_profile

from covid_read import heads, likeness, other_hospitals, presence, shipped
from covid_utils import params, paths
from covid_utils.data import collection
from covid_utils.training import reproducible


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
        xrays = likeness.prepared_xrays(scans, settings.preprocessing, settings.seed)
        parts[likeness.PART] = likeness.learned(committee, settings, data.images, groups, xrays)
        labels = params.load(profile, "03_task2_multilabel")
        parts[presence.PART] = presence.train(scans, settings.preprocessing, labels)
        if heads.path(file.parent).is_file():
            parts |= shipped.read(heads.path(file.parent))
        shipped.write(file, parts)
    return str(paths.shown(card.write(profile)))


if __name__ == "__main__":
    sys.exit(one_profile.run(pack))
