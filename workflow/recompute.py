"""Rebuild all that follows from a profile's predictions: scores, tables, verdicts, their figures.

Neither scans nor networks are needed, so a clean clone can do it with the committed predictions of
``sample``; ``git diff results/sample`` then shows what came out otherwise.
"""

from __future__ import annotations

import sys

import one_profile

from covid_utils import paths
from covid_utils.report import recomputed, style


def recompute(profile: str) -> str:
    """Rebuild it; returns what was written."""
    style.use()
    names = recomputed.write(profile)
    shown = paths.shown(paths.results(profile))
    return f"{shown}: scores.csv, verdicts.csv, tables/ and of figures/ {', '.join(names)}."


if __name__ == "__main__":
    sys.exit(one_profile.run(recompute))
