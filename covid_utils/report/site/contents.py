"""What a site is made of, read once: verdicts, tables, headline numbers and runs of a profile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from covid_utils import paths, runs
from covid_utils.data.manifest import kind, saved_manifest
from covid_utils.errors import ResultsError
from covid_utils.registry import FUSION, PUBLISHED, STARTS
from covid_utils.report import headlines, verdicts

TABLES = tuple(f"table{number}" for number in range(1, 10))
#: What a row rests on: the verdict on it, and the folder of the run that it comes from.
ORIGIN = ("verdict", "source_run")
#: Runs in the order in which they are made; others follow by name.
ORDER = ("data", "task1", "task2", "stream_nodule_deeplab", "stream_all_deeplab")
LAST = (STARTS, FUSION, PUBLISHED)


@dataclass(frozen=True)
class Results:
    """Everything that a profile's runs left behind for people to look at.

    Attributes:
        profile: Name of the profile.
        verdicts: Rows of ``verdicts.csv``, columns `verdicts.COLUMNS`.
        tables: ``table1`` to ``table9``, each with the columns `ORIGIN` (empty where not known).
        headlines: Columns of `headlines.collect`.
        scores: Rows of ``segmentation_scores.csv``, and ``source_run``.
        provenance: Run -> content of its ``provenance.json``, in the order of making.
        kind: ``phantom`` or ``real scans``.
    """

    profile: str
    verdicts: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    headlines: pd.DataFrame
    scores: pd.DataFrame
    provenance: dict[str, dict[str, Any]]
    kind: str


def load(profile: str) -> Results:
    """Read the results of a profile.

    Raises:
        ResultsError: Something that a page shows is missing or damaged.
    """
    judged = read_verdicts(profile)
    provenance = {name: runs.read_provenance(profile, name) for name in _run_names(profile)}
    tables = {name: _table(profile, name) for name in TABLES}
    return Results(
        profile=profile,
        verdicts=judged,
        tables=tables,
        headlines=_headlines(profile),
        scores=_scores(profile, provenance),
        provenance=provenance,
        kind=kind(saved_manifest(profile)),
    )


def read_verdicts(profile: str) -> pd.DataFrame:
    """The verdict on each statement of the paper.

    Raises:
        ResultsError: The file is missing, lacks a column, or has an unknown verdict.
    """
    path = paths.results(profile) / "verdicts.csv"
    table = _csv(path, profile)
    missing = [name for name in verdicts.COLUMNS if name not in table]
    if missing:
        raise ResultsError(
            f"{paths.shown(path)}: the columns {missing} are missing; {_remedy(profile)}."
        )
    unknown = sorted(set(table["verdict"].astype(str)) - set(verdicts.VERDICTS))
    if unknown:
        raise ResultsError(
            f"{paths.shown(path)}: {unknown} are no verdicts, only {list(verdicts.VERDICTS)} are; "
            f"{_remedy(profile)}."
        )
    texts = [name for name in verdicts.COLUMNS if name not in ("ours", "low", "high", "n")]
    table[texts] = table[texts].fillna("").astype(str)
    return table.assign(n=table["n"].fillna(0).astype(int))


def _table(profile: str, name: str) -> pd.DataFrame:
    """One of the nine tables, with the columns `ORIGIN`."""
    table = _csv(paths.results(profile) / "tables" / f"{name}.csv", profile)
    for column in (*ORIGIN, "note", "claim"):
        if column in table or column in ORIGIN:
            table[column] = table[column].fillna("").astype(str) if column in table else ""
    return table


def _csv(path: Path, profile: str) -> pd.DataFrame:
    """A table as it was written: only an empty field is missing, no word is."""
    try:
        return pd.read_csv(path, keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise ResultsError(f"{paths.shown(path)}: not there yet; {_remedy(profile)}.") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ResultsError(f"{paths.shown(path)}: damaged; {_remedy(profile)}.") from error


def _remedy(profile: str) -> str:
    return f"'make reproduce PROFILE={profile}' makes it"


def _headlines(profile: str) -> pd.DataFrame:
    """The headline numbers, with the run that each comes from."""
    found = headlines.collect(profile)
    for column in (*ORIGIN, "claim", "note"):
        found[column] = found[column].fillna("").astype(str)
    return found


def _scores(profile: str, provenance: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """All scores of all segmentations, with the run that each comes from."""
    table = _csv(paths.results(profile) / "segmentation_scores.csv", profile)
    keys = ["model", "stream", "init"]
    known = {}
    for run, facts in provenance.items():
        settings = facts.get("parameters", {})
        identity = tuple(settings.get(key) for key in keys)
        # The authors' masks were outlined by no network of ours; their rows carry the run's name.
        known[(PUBLISHED, "all", "nodule") if run == PUBLISHED else identity] = run
    found = [known.get(row, "") for row in table[keys].itertuples(index=False, name=None)]
    return table.assign(source_run=found)


def _run_names(profile: str) -> list[str]:
    """Runs that are there, in the order of `ORDER` and `LAST`."""
    found = {path.parent.name for path in paths.results(profile).glob("*/provenance.json")}
    found = {name for name in found if not name.startswith(".")}
    first = [name for name in ORDER if name in found]
    last = [name for name in LAST if name in found]
    return [*first, *sorted(found - {*ORDER, *LAST}), *last]
