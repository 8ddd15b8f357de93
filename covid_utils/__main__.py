"""Command line of the companion: verdicts on the paper's claims, and where numbers come from."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from covid_utils.errors import CompanionError
from covid_utils.registry import PROFILES
from covid_utils.report import tables, trace, verdicts
from covid_utils.runs import read_table


def main(argv: Sequence[str] | None = None) -> int:
    """Print what a command shows; an error is one sentence on standard error, and the status 1."""
    parser = argparse.ArgumentParser(prog="python -m covid_utils", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    judged = commands.add_parser("verdicts", help="print the verdict on each claim of the paper")
    words = (
        "show where numbers of a table come from, down to the predictions: trace table6 ggo dice"
    )
    traced = commands.add_parser("trace", help=words, description=words)
    names = [*tables.TITLES, "verdicts"]
    traced.add_argument("table", choices=names, metavar="TABLE", help=f"one of {', '.join(names)}")
    traced.add_argument("words", nargs="+", metavar="WORD", help="words that the row must have")
    for command in (judged, traced):
        words = "whose results; sample, which is committed, if not given"
        command.add_argument("--profile", default="sample", choices=PROFILES, help=words)
    given = parser.parse_args(argv)
    try:
        if given.command == "verdicts":
            print(verdicts.terminal(read_table(given.profile, "verdicts")))
        else:
            print(trace.trace(given.profile, given.table, given.words))
    except CompanionError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
