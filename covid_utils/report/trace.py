"""Where a number comes from: from a cell of a table down to the file of predictions.

A cell names its run; a run's folder holds parameters, revision, packages, the hash of its data and
the predictions that every score is computed from.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import pandas as pd
import pyarrow.parquet as pq

from covid_utils import paths, runs
from covid_utils.errors import ParameterError, ResultsError
from covid_utils.report import cells, render

#: Rows that a trace shows at most: more words name fewer.
MOST = 12
#: What is no key of a row.
TEXTS = {*cells.WILSON, "note", "reason", "departures"}


def origin(profile: str, run: str) -> list[str]:
    """Origin of one run, read from its folder, as lines for a terminal."""
    facts = runs.read_provenance(profile, run)
    # The run that prepares the data predicts nothing: its manifest is where the numbers come from.
    folder = paths.results(profile) / run
    files = [folder / name for name in ("predictions.parquet", "manifest.csv")]
    file = next((path for path in files if path.is_file()), None)
    if file is None:
        raise ResultsError(f"{paths.shown(files[0])}: missing; run 'make reproduce' again.")
    is_table = file.suffix == ".csv"
    rows = len(pd.read_csv(file)) if is_table else pq.ParquetFile(file).metadata.num_rows
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    settings = ", ".join(f"{name} {value}" for name, value in facts["parameters"].items())
    return [
        f"run          {run}",
        f"parameters   {settings}",
        f"revision     {facts['revision']}",
        f"device       {facts['device']}, {facts['processor']}",
        f"data         {facts['images']} images, sha256 {facts['data_sha256']}",
        f"predictions  {paths.shown(file)}, {rows} rows, sha256 {digest}",
    ]


def find(profile: str, name: str, words: Sequence[str]) -> pd.DataFrame:
    """Rows of a written table that hold all words, those whose metric is one of them first."""
    folder = paths.results(profile)
    path = folder / ("verdicts.csv" if name == "verdicts" else f"tables/{name}.csv")
    if not path.is_file():
        raise ResultsError(f"{paths.shown(path)}: no such table; there are table1 to table9.")
    table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    wanted = {word.lower() for word in words}
    keys = table.drop(columns=[*TEXTS, "ours", "low", "high", "n"], errors="ignore")
    texts = [" ".join(map(str, row)).lower() for row in keys.to_numpy()]
    rows = table[[wanted <= set(re.split(r"[\s,:]+", text)) for text in texts]]
    if rows.empty:
        raise ParameterError(f"{name}: no row has all of {', '.join(words)}; try fewer words.")
    if "metric" not in rows:
        return rows
    return rows.sort_values("metric", key=lambda metric: ~metric.isin(wanted), kind="stable")


def trace(profile: str, name: str, words: Sequence[str]) -> str:
    """The chain behind some numbers: cell, run, parameters, revision, data, predictions."""
    rows = find(profile, name, words)
    shown = rows.head(MOST)
    lines = [_cell_line(name, row) for row in shown.to_dict("records")]
    if len(rows) > MOST:
        lines.append(f"... and {len(rows) - MOST} more; give more words to see fewer.")
    sources = shown["source_run"].dropna() if "source_run" in shown else ()
    behind = dict.fromkeys(run for text in sources for run in cells.sources(text))
    for run in behind:
        lines += ["", *origin(profile, run)]
    if not behind:
        counted = paths.shown(paths.results(profile) / "data" / "manifest.csv")
        lines += ["", f"Quoted from others, or counted from {counted}."]
    return "\n".join(lines)


def _cell_line(name: str, row: dict) -> str:
    left_out = {*cells.VALUES, *TEXTS}
    keys = ", ".join(str(value) for key, value in row.items() if key not in left_out)
    if not {"metric", "ours"} <= set(row):
        return f"{name}: {keys}"
    value = render.with_interval(pd.Series(row))
    parts = [f"{name}: {keys}: {row['metric']} {value or 'nothing of ours'}"]
    parts += [f"n = {row['n']:g}"] if value else []
    claim = row.get("claim", row.get("id"))
    if not pd.isna(claim):
        parts.append(f"claim {claim}: paper {row['paper']}, {row['verdict']}")
    return "; ".join(parts)
