"""Rebuild all that follows from a profile's predictions: scores, tables, verdicts, their figures.

Neither scans nor networks are needed, so a clean clone can do it with the committed predictions of
``sample``; ``git diff results/sample`` then shows what came out otherwise.
"""

from __future__ import annotations

import sys

from covid_utils import paths, registry
from covid_utils.errors import CompanionError
from covid_utils.report import recomputed, style


def main() -> int:
    """Rebuild the profile that the command line names."""
    profile = sys.argv[1]
    if profile not in registry.PROFILES:
        print(f"profile '{profile}' is none of {', '.join(registry.PROFILES)}; check PROFILE=.")
        return 1
    style.use()
    try:
        names = recomputed.write(profile)
    except CompanionError as error:
        print(error, file=sys.stderr)
        return 1
    shown = paths.shown(paths.results(profile))
    print(f"{shown}: scores.csv, verdicts.csv, tables/ and of figures/ {', '.join(names)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
