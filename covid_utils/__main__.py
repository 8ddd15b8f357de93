"""Command line of the companion: verdicts on the paper's claims, and where numbers come from."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from covid_utils.errors import CompanionError
from covid_utils.registry import PROFILES
from covid_utils.report import tables, trace, verdicts
from covid_utils.runs import read_table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m covid_utils", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    judged = commands.add_parser("verdicts", help="print the verdict on each claim of the paper")
    judged.set_defaults(
        text_of=lambda given: verdicts.terminal(read_table(given.profile, "verdicts"))
    )
    traced = commands.add_parser(
        "trace",
        help="show where numbers of a table come from: trace table6 ggo dice",
        description="Show the chain behind numbers of a table, down to the predictions file.",
    )
    names = [*tables.TITLES, "verdicts"]
    traced.add_argument("table", choices=names, metavar="TABLE", help=f"one of {', '.join(names)}")
    traced.add_argument("words", nargs="+", metavar="WORD", help="words that the row must have")
    traced.set_defaults(text_of=lambda given: trace.trace(given.profile, given.table, given.words))
    for command in (judged, traced):
        command.add_argument(
            "--profile",
            default="sample",
            choices=PROFILES,
            help="whose results; sample, which is committed, if not given",
        )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print what a command shows; an error is one sentence on standard error, and the status 1."""
    arguments = _parser().parse_args(argv)
    try:
        print(arguments.text_of(arguments))
    except CompanionError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
