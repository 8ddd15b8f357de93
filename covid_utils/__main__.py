"""Command line of the companion: verdicts and where numbers come from, data sets."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from covid_utils import paths
from covid_utils.errors import CompanionError


def _download(arguments: argparse.Namespace) -> int:
    from covid_utils.data import download

    if not arguments.names:
        print(_listing())
        return 0
    folder = arguments.to.expanduser().absolute()
    missing = download.fetch(
        arguments.names, folder, lambda line: print(line, file=sys.stderr, flush=True)
    )
    if missing:
        print(f"Not complete: {', '.join(missing)}; see above.", file=sys.stderr)
        return 1
    print(f"Next: make reproduce PROFILE=paper DATA={shlex.quote(str(folder))}")
    return 0


def _verdicts(arguments: argparse.Namespace) -> int:
    from covid_utils.report import verdicts

    print(verdicts.terminal(verdicts.load(arguments.profile)))
    return 0


def _trace(arguments: argparse.Namespace) -> int:
    from covid_utils.report import trace

    print(trace.trace(arguments.profile, arguments.table, arguments.words))
    return 0


def _listing() -> str:
    """The data sets that can be fetched, for a terminal."""
    from covid_utils.data import download

    lines = []
    for data_set in download.catalogue().values():
        size = f"{data_set.size / 1e9:.1f} GB" if data_set.size else "size not stated"
        way = "by hand" if data_set.steps else f"fetched, {size}"
        lines.append(f"{data_set.name:<24} {data_set.title}")
        lines.append(f"{'':<24} {way}; licence: {data_set.licence}; {data_set.source}")
    lines.append("\nFetch with: python -m covid_utils download NAME ... [--to FOLDER]")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="covid-companion", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    verdicts = commands.add_parser("verdicts", help="print the verdict on each claim of the paper")
    trace = commands.add_parser(
        "trace",
        help="show where numbers of a table come from: trace table6 ggo dice",
        description="Show the chain behind numbers of a table, down to the predictions file.",
    )
    trace.add_argument("table", metavar="TABLE", help="table1 to table9, or verdicts")
    trace.add_argument("words", nargs="+", metavar="WORD", help="words that the row must have")
    for command, run in ((verdicts, _verdicts), (trace, _trace)):
        command.add_argument("--profile", default="sample", help="whose results (default: sample)")
        command.set_defaults(run=run)
    download = commands.add_parser(
        "download",
        help="fetch public data sets; without a name, list them",
        description="Fetch public data sets. An interrupted download goes on when it is run again.",
    )
    download.add_argument("names", nargs="*", metavar="NAME", help="data set; none lists all")
    download.add_argument(
        "--to",
        type=Path,
        default=paths.home() / "data" / "downloads",
        metavar="FOLDER",
        help="data folder (default: data/downloads in the project)",
    )
    download.set_defaults(run=_download)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; errors are one sentence on standard error, and the exit status 1 or 130."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except CompanionError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on where it was.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
