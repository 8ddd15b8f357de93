"""Write the card beside a profile's shipped network, whose checksum its notebook wrote."""

from __future__ import annotations

import sys

import one_profile

from covid_utils import paths
from covid_utils.report import card


def pack(profile: str) -> str:
    """Write the card; returns where it is."""
    return str(paths.shown(card.write(profile)))


if __name__ == "__main__":
    sys.exit(one_profile.run(pack))
