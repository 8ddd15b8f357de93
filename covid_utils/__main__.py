"""Command line of the companion: verdicts on the paper's claims, and where numbers come from."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from covid_utils.errors import CompanionError
from covid_utils.registry import PROFILES


def _verdicts(arguments: argparse.Namespace) -> str:
    from covid_utils.report import verdicts

    return verdicts.terminal(verdicts.load(arguments.profile))


def _trace(arguments: argparse.Namespace) -> str:
    from covid_utils.report import trace

    return trace.trace(arguments.profile, arguments.table, arguments.words)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m covid_utils", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    verdicts = commands.add_parser("verdicts", help="print the verdict on each claim of the paper")
    trace = commands.add_parser(
        "trace",
        help="show where numbers of a table come from: trace table6 ggo dice",
        description="Show the chain behind numbers of a table, down to the predictions file.",
    )
    tables = [*(f"table{number}" for number in range(1, 10)), "conditions", "verdicts"]
    trace.add_argument(
        "table", choices=tables, metavar="TABLE", help="table1 to table9, conditions or verdicts"
    )
    trace.add_argument("words", nargs="+", metavar="WORD", help="words that the row must have")
    for command, text_of in ((verdicts, _verdicts), (trace, _trace)):
        command.add_argument(
            "--profile",
            default="sample",
            choices=PROFILES,
            help="whose results; sample, which is committed, if not given",
        )
        command.set_defaults(text_of=text_of)
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
