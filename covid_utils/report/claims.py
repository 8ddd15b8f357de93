"""The ledger of what the paper states, and the published rows that the tables quote.

Both are YAML files in the folder ``paper``, whose headers say what each key means. They are the
only place where a number of the paper or of others is written down; everything else looks it up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from covid_utils import paths
from covid_utils.errors import ParameterError, ResultsError
from covid_utils.registry import PROFILES

SOURCES = {
    "P": "stated in the paper's prose",
    "D": "derived from the paper's prose",
    "L": "literature that the paper quotes",
    "R": "the work's own result files",
}
UNITS = ("%", "fraction", "images", "statement")

#: Keys that every entry needs, and those that entries of one source need besides.
REQUIRED = ("id", "where", "metric", "value", "unit", "source", "rule", "needs")
REQUIRED_BY_SOURCE = {"P": ("task",), "D": ("task", "how"), "L": ("work",)}
NEEDS = ("profile", "data", "missing")

PUBLISHED_COLUMNS = (
    "work",
    "task",
    "metric",
    "class",
    "value",
    "of",
    "unit",
    "test_set",
    "source",
    "rerun",
    "claim",
    "note",
)
PUBLISHED_OPTIONAL = ("of", "claim", "note")

Value = bool | float | tuple[float, ...]


@dataclass(frozen=True)
class Claim:
    """One entry of the ledger; the header of ``paper/claims.yaml`` explains each key.

    Attributes:
        id: Name that never changes.
        where: Table, figure or section of the paper.
        metric: What was measured, or the statement itself.
        value: Number, tuple of numbers, or True for a statement.
        unit: One of `UNITS`.
        source: One of P, D and L of `SOURCES`.
        rule: ``table`` (one or several) and values of its columns: the cells that answer it.
        needs: What a verdict needs, by `NEEDS`: the least profile, data sets, or what is missing
            for good.
        task: 1, 2, 3 or "all"; None for quoted work.
        subset: train, validation or test.
        classes: Number of classes.
        class_: The manifestation (``class`` in the file).
        modality: X-ray, or X-ray + CT.
        how: How a derived value follows.
        work: The quoted work.
        note: What else a reader must know.
    """

    id: str
    where: str
    metric: str
    value: Value
    unit: str
    source: str
    rule: Mapping[str, Any]
    needs: Mapping[str, Any]
    task: int | str | None = None
    subset: str | None = None
    classes: int | None = None
    class_: str | None = None
    modality: str | None = None
    how: str | None = None
    work: str | None = None
    note: str | None = None


def load(path: Path | None = None) -> dict[str, Claim]:
    """Read the ledger.

    Args:
        path: The file; the project's ``paper/claims.yaml`` if None.

    Returns:
        Claims by id, in the order of the file.

    Raises:
        ResultsError: The file is missing or is no list of entries.
        ParameterError: An entry has an unknown key, lacks one or has a value of the wrong kind, or
            an id repeats.
    """
    path = paths.claims() if path is None else Path(path)
    claims: dict[str, Claim] = {}
    for number, row in enumerate(_rows(path), start=1):
        entry = f"{paths.shown(path)}, entry {row.get('id', f'number {number}')}"
        claim = _claim(row, entry)
        if claim.id in claims:
            raise ParameterError(f"{entry}: the id repeats; give each entry its own.")
        claims[claim.id] = claim
    return claims


def published(path: Path | None = None) -> pd.DataFrame:
    """Read the published rows that tables quote.

    Args:
        path: The file; the project's ``paper/published.yaml`` if None.

    Returns:
        One row a value with the columns of `PUBLISHED_COLUMNS`; what a row lacks is missing
        (``of``) or empty (``claim``, ``note``).

    Raises:
        ResultsError: The file is missing or is no list of rows.
        ParameterError: A row has an unknown key, lacks one, or has a value of the wrong kind.
    """
    path = paths.claims().with_name("published.yaml") if path is None else Path(path)
    rows = _rows(path)
    required = [name for name in PUBLISHED_COLUMNS if name not in PUBLISHED_OPTIONAL]
    for number, row in enumerate(rows, start=1):
        entry = f"{paths.shown(path)}, row {number} ({row.get('work', 'no work')})"
        _check_keys(row, required, PUBLISHED_COLUMNS, entry)
        _check_words(row, entry, SOURCES)
        if not is_number(row["value"]):
            raise ParameterError(f"{entry}: the value {row['value']!r} is not a number; write one.")
        if not isinstance(row["rerun"], bool):
            raise ParameterError(f"{entry}: rerun is {row['rerun']!r}; write true or false.")
    table = pd.DataFrame(rows, columns=list(PUBLISHED_COLUMNS))
    texts = {"claim": "", "note": ""}
    return table.fillna(texts).astype({"value": "float64", "of": "Int64"})


def stated(claims: Mapping[str, Claim], **criteria: Any) -> Claim | None:
    """Find what the paper states about something.

    Args:
        claims: The ledger, as `load` returns it.
        **criteria: Fields of `Claim` with the values wanted. ``where`` need only be contained
            (``where="Table 4"``), every other field must be equal; None asks for a claim without
            that field.

    Returns:
        The claim, or None if the paper states nothing of the kind: the cell is "not available".

    Raises:
        ParameterError: A criterion is no field of a claim, or several claims fit.
    """
    unknown = sorted(set(criteria) - {field.name for field in fields(Claim)})
    if unknown:
        raise ParameterError(
            f"claims: {unknown} are no fields of a claim; see report.claims.Claim."
        )
    where = criteria.pop("where", "")
    fitting = [
        claim
        for claim in claims.values()
        if where in claim.where
        and all(getattr(claim, name) == wanted for name, wanted in criteria.items())
    ]
    if len(fitting) > 1:
        names = ", ".join(claim.id for claim in fitting)
        raise ParameterError(f"claims: {names} all fit; name a further field to tell them apart.")
    return fitting[0] if fitting else None


def _rows(path: Path) -> list[dict]:
    shown = paths.shown(path)
    try:
        rows = _parsed(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        raise ResultsError(f"{shown}: no such file; check out the folder 'paper' again.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ResultsError(f"{shown}: not valid YAML ({reason}); correct that line.") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ResultsError(f"{shown}: not a list of entries with keys; see the header of the file.")
    return rows


@lru_cache(maxsize=8)
def _parsed(path: Path, changed: int) -> Any:
    """Content of a file as it was when it last changed: tables ask for it a hundred times."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _claim(row: dict, entry: str) -> Claim:
    known = [field.name.rstrip("_") for field in fields(Claim)]
    _check_keys(row, REQUIRED, known, entry)
    _check_words(row, entry, REQUIRED_BY_SOURCE)
    _check_keys(row, REQUIRED_BY_SOURCE[row["source"]], known, entry)
    if not isinstance(row["id"], str):
        raise ParameterError(f"{entry}: the id is not a text; put it in quotes.")
    _check_rule(row, entry)
    value = row["value"]
    if isinstance(value, list):
        value = tuple(value)
    parts = value if isinstance(value, tuple) else (value,)
    if value is not True and not (parts and all(map(is_number, parts))):
        raise ParameterError(
            f"{entry}: the value {row['value']!r} is neither a number, a list of numbers nor true."
        )
    renamed = {"class_" if key == "class" else key: item for key, item in row.items()}
    return Claim(**(renamed | {"value": value}))


def _check_rule(row: dict, entry: str) -> None:
    if not isinstance(row["rule"], dict) or "table" not in row["rule"]:
        raise ParameterError(f"{entry}: the rule names no table; see the header of the file.")
    needs = row["needs"]
    if not isinstance(needs, dict) or not needs or set(needs) - set(NEEDS):
        raise ParameterError(f"{entry}: needs is {needs!r}; name some of {', '.join(NEEDS)}.")
    profile = needs.get("profile", PROFILES[0])
    if profile not in PROFILES:
        known = ", ".join(PROFILES)
        raise ParameterError(f"{entry}: needs profile {profile!r}, which is none of {known}.")


def _check_keys(row: dict, required: tuple | list, known: tuple | list, entry: str) -> None:
    unknown = [key for key in row if key not in known]
    if unknown:
        raise ParameterError(f"{entry}: unknown keys {unknown}; use only {list(known)}.")
    missing = [key for key in required if row.get(key) is None]
    if missing:
        raise ParameterError(f"{entry}: the keys {missing} are missing; add them.")


def _check_words(row: dict, entry: str, sources: Mapping[str, object]) -> None:
    for key, allowed in (("unit", list(UNITS)), ("source", list(sources))):
        if row[key] not in allowed:
            raise ParameterError(f"{entry}: {key} is {row[key]!r}; use one of {allowed}.")


def is_number(value: object) -> bool:
    """Whether a value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)
