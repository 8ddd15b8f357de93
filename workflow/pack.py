"""Write the card beside a profile's shipped network, whose checksum its notebook wrote."""

from __future__ import annotations

import sys

from covid_utils import paths, registry
from covid_utils.errors import CompanionError
from covid_utils.report import card


def main() -> int:
    """Pack the profile that the command line names."""
    profile = sys.argv[1]
    if profile not in registry.PROFILES:
        print(f"profile '{profile}' is none of {', '.join(registry.PROFILES)}; check PROFILE=.")
        return 1
    try:
        print(paths.shown(card.write(profile)))
    except CompanionError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
