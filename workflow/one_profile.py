"""What commands share that work on one profile, which the command line names."""

from __future__ import annotations

import sys
from collections.abc import Callable

from covid_utils import registry
from covid_utils.errors import CompanionError


def run(work: Callable[[str], str]) -> int:
    """Print what ``work`` says of the profile; an error is one sentence, and the exit code 1."""
    profile = sys.argv[1]
    if profile not in registry.PROFILES:
        known = ", ".join(registry.PROFILES)
        print(f"profile '{profile}' is none of {known}; check PROFILE=.", file=sys.stderr)
        return 1
    try:
        print(work(profile))
    except CompanionError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
