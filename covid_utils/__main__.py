"""Command line of the companion: verdicts on the paper's claims, and where numbers come from.

A trace goes from a cell of a table to its run, whose folder holds parameters, revision, packages,
the hash of its data and the predictions that every score is computed from.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence

import pandas as pd

from covid_utils import paths, runs
from covid_utils.errors import CompanionError, ParameterError
from covid_utils.registry import PROFILES, name_of
from covid_utils.report import render, tables, verdicts
from covid_utils.writing import digest

#: Columns that are not keys of a row.
OTHERS = (*render.WILSON, "note", "reason", "departures", "paper_n", "margin", "verdict")
OTHERS += ("difference", "difference_low", "difference_high", "ours", "low", "high", "n")


def origin(profile: str, run: str) -> list[str]:
    """Origin of one run, read from its folder, as lines for a terminal."""
    facts = runs.read_provenance(profile, run)
    file = paths.results(profile) / run / "predictions.parquet"
    rows = len(runs.read_predictions(profile, run))
    settings = ", ".join(f"{name} {value}" for name, value in facts["parameters"].items())
    return [
        f"run          {run}",
        f"parameters   {settings}",
        f"revision     {facts['revision']}",
        f"device       {facts['device']}, {facts['processor']}",
        f"data         {facts['images']} images, sha256 {facts['data_sha256']}",
        f"predictions  {paths.shown(file)}, {rows} rows, sha256 {digest(file)}",
    ]


def find(profile: str, name: str, words: Sequence[str]) -> pd.DataFrame:
    """Rows of a written table that hold all words, or phrases, in their keys."""
    if name == "verdicts":  # a row for each of the two answers to a claim
        both = runs.read_table(profile, "verdicts")
        parts = [
            verdicts.answers(both, protocol).assign(answer=heading)
            for protocol, (heading, _) in verdicts.HEADINGS.items()
        ]
        # ``claim`` is the number of a claim, as in the other tables; its words are keys of the row.
        table = pd.concat(parts, ignore_index=True)
        table = table.rename(columns={"claim": "asked", "id": "claim"})
    else:
        table = runs.read_table(profile, f"tables/{name}")
    wanted = [(_plain(word), _plain(word.replace(" ", "_"))) for word in words]
    keys = table.drop(columns=[*OTHERS], errors="ignore")
    # As the files have them, and as figures do.
    texts = [
        _plain(" ".join(f"{key} {name_of(str(key))}" for key in row)) for row in keys.to_numpy()
    ]
    rows = table[[all(one in text or other in text for one, other in wanted) for text in texts]]
    if rows.empty:
        raise ParameterError(f"{name}: no row has all of {', '.join(words)}; try other words.")
    return rows


def _plain(text: str) -> str:
    """A text in lower case with one space around each word."""
    return " " + re.sub(r"[\s,:]+", " ", text.lower()).strip() + " "


def trace(profile: str, name: str, words: Sequence[str]) -> str:
    """The chain behind some numbers: cell, run, parameters, revision, data, predictions."""
    rows = find(profile, name, words)
    lines = [_cell_line(name, row) for _, row in rows.iterrows()]
    behind = [run for text in rows.get("source_run", ()) for run in render.sources(text)]
    for run in dict.fromkeys(behind):
        lines += ["", *origin(profile, run)]
    if not behind:
        counted = paths.shown(paths.results(profile) / "data" / "manifest.csv")
        lines += ["", f"Quoted from others, or counted from {counted}."]
    return "\n".join(lines)


def _cell_line(name: str, row: pd.Series) -> str:
    keys = row.drop([*render.VALUES, *OTHERS], errors="ignore")
    line = f"{name}: {', '.join(map(str, keys))}"
    if "metric" not in row:
        return line
    value = render.with_interval(row)
    line += f": {row['metric']} {value or 'nothing of ours'}"
    line += f"; n = {row['n']:g}" if value else ""
    stated = ", ".join(filter(None, (f"paper {row['paper']}", row.get("verdict"))))
    return f"{line}; claim {row['claim']}: {stated}" if row["claim"] else line


def main(argv: Sequence[str] | None = None) -> int:
    """Print what a command shows; an error is one sentence on standard error, and the status 1."""
    parser = argparse.ArgumentParser(
        prog="python -m covid_utils", description=__doc__.partition("\n")[0]
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    judged = commands.add_parser("verdicts", help="print the verdict on each claim of the paper")
    purpose = (
        "show where numbers of a table come from, down to the predictions: trace table6 ggo dice"
    )
    traced = commands.add_parser("trace", help=purpose, description=purpose)
    names = [*tables.TITLES, "verdicts"]
    traced.add_argument("table", choices=names, metavar="TABLE", help=f"one of {', '.join(names)}")
    asked = "words, or quoted phrases, that the row must have"
    traced.add_argument("words", nargs="+", metavar="WORD", help=asked)
    whose = "whose results; sample, which is committed, if not given"
    for command in (judged, traced):
        command.add_argument("--profile", default="sample", choices=PROFILES, help=whose)
    given = parser.parse_args(argv)
    try:
        if given.command == "verdicts":
            print(verdicts.terminal(runs.read_table(given.profile, "verdicts")))
        else:
            print(trace(given.profile, given.table, given.words))
    except CompanionError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
