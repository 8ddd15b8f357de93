"""Where a number comes from: from a cell of a table down to the file of predictions.

A cell names its run; a run's folder holds parameters, revision, packages, the hash of its data and
the predictions that every score is computed from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from covid_utils import paths, runs
from covid_utils.errors import ParameterError, ResultsError
from covid_utils.report import cells, render

#: Rows that a trace shows at most: more words name fewer.
MOST = 12
PREDICTIONS = "predictions.parquet"


@dataclass(frozen=True)
class Origin:
    """What one run was made of.

    Attributes:
        run: Its folder below ``results/<profile>``.
        parameters: Everything that was set.
        revision: Git revision of the code.
        device: Where it ran.
        data_sha256: Hash over the rows of the manifest that it used.
        images: Number of these rows.
        predictions: The file that its scores are computed from, relative to the project.
        predictions_sha256: Hash of that file.
        rows: Rows of that file.
    """

    run: str
    parameters: dict
    revision: str
    device: str
    data_sha256: str
    images: int
    predictions: str
    predictions_sha256: str
    rows: int


def origin(profile: str, run: str) -> Origin:
    """What a run was made of, read from its folder.

    Raises:
        ResultsError: The run, or its predictions, are not there.
    """
    facts = runs.read_provenance(profile, run)
    # The run that prepares the data predicts nothing: its manifest is where the numbers come from.
    names = (PREDICTIONS, "manifest.csv")
    files = [paths.results(profile) / run / name for name in names]
    file = next((path for path in files if path.is_file()), None)
    if file is None:
        raise ResultsError(f"{paths.shown(files[0])}: missing; run 'make reproduce' again.")
    return Origin(
        run=run,
        parameters=facts["parameters"],
        revision=facts["revision"],
        device=f"{facts['device']}, {facts['processor']}",
        data_sha256=facts["data_sha256"],
        images=facts["images"],
        predictions=paths.shown(file),
        predictions_sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        rows=_rows(file),
    )


def _rows(file: Path) -> int:
    if file.suffix == ".parquet":
        return pq.ParquetFile(file).metadata.num_rows
    return len(pd.read_csv(file, usecols=[0]))


def find(profile: str, name: str, words: Sequence[str]) -> pd.DataFrame:
    """Rows of a written table that hold all words.

    Args:
        profile: Profile.
        name: ``table1`` to ``table9``, or ``verdicts``.
        words: Each must be a word of the row's keys, of its metric or of its claim; case does not
            count.

    Returns:
        The rows, with those first whose metric is one of the words.

    Raises:
        ResultsError: The table has not been written.
        ParameterError: No row holds them all.
    """
    folder = paths.results(profile)
    path = folder / ("verdicts.csv" if name == "verdicts" else f"tables/{name}.csv")
    if not path.is_file():
        raise ResultsError(f"{paths.shown(path)}: no such table; there are table1 to table9.")
    table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    wanted = {word.lower() for word in words}
    held = [wanted <= _words(row) for row in table.to_dict("records")]
    if not any(held):
        raise ParameterError(f"{name}: no row has all of {', '.join(words)}; try fewer words.")
    chosen = table[held]
    is_metric = (
        chosen["metric"].isin(wanted) if "metric" in chosen else pd.Series(True, chosen.index)
    )
    return pd.concat([chosen[is_metric], chosen[~is_metric]])


def _words(row: dict) -> set[str]:
    left_out = {"ours", "low", "high", "n", *cells.WILSON, "note", "reason", "departures"}
    texts = (str(value) for key, value in row.items() if key not in left_out)
    return set(" ".join(texts).lower().replace(",", " ").replace(":", " ").split())


def trace(profile: str, name: str, words: Sequence[str]) -> str:
    """The chain behind some numbers, as text: cell, run, parameters, revision, data, predictions.

    Args:
        profile: Profile.
        name: As for `find`.
        words: As for `find`.

    Returns:
        Lines for a terminal: the cells that were found, then each run behind them once.

    Raises:
        ResultsError: As for `find` and `origin`.
        ParameterError: As for `find`.
    """
    rows = find(profile, name, words)
    shown = rows.head(MOST)
    lines = [_cell_line(name, row) for row in shown.to_dict("records")]
    if len(rows) > MOST:
        lines.append(f"... and {len(rows) - MOST} more; give more words to see fewer.")
    sources = shown["source_run"] if "source_run" in shown else pd.Series(dtype=str)
    names = dict.fromkeys(run for text in sources.dropna() for run in cells.sources(text))
    for run in names:
        lines += ["", *_run_lines(origin(profile, run))]
    if not names:
        counted = paths.shown(paths.results(profile) / "data" / "manifest.csv")
        lines += ["", f"Quoted from others, or counted from {counted}."]
    return "\n".join(lines)


def _cell_line(name: str, row: dict) -> str:
    left_out = {*cells.VALUES, *cells.WILSON, "reason", "departures"}
    keys = ", ".join(str(value) for key, value in row.items() if key not in left_out)
    if not {"metric", "ours"} <= set(row):
        return f"{name}: {keys}"
    value = render.with_interval(pd.Series(row))
    parts = [f"{name}: {keys}: {row['metric']} {value or 'nothing of ours'}"]
    if value:
        parts.append(f"n = {row['n']:g}")
    if not pd.isna(row.get("claim", row.get("id", ""))):
        claim = row.get("claim") or row.get("id")
        parts.append(f"claim {claim}: paper {row['paper']}, {row['verdict']}")
    return "; ".join(parts)


def _run_lines(made: Origin) -> list[str]:
    settings = ", ".join(f"{name} {value}" for name, value in made.parameters.items())
    return [
        f"run          {made.run}",
        f"parameters   {settings}",
        f"revision     {made.revision}",
        f"device       {made.device}",
        f"data         {made.images} images, sha256 {made.data_sha256}",
        f"predictions  {made.predictions}, {made.rows} rows, sha256 {made.predictions_sha256}",
    ]
