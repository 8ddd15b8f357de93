"""The ledger of what the paper states, and the published rows that the tables quote.

Both are YAML files in the folder ``paper``, whose headers say what each key means; their form is
checked by ``paper/schema.yaml``. They are the only place where a number of the paper or of others
is written down; everything else looks it up.
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

Value = bool | float | tuple[float, ...]


@dataclass(frozen=True)
class Claim:
    """One entry of the ledger; the header of ``paper/claims.yaml`` explains each key.

    ``class_`` is ``class`` in the file, and a list of numbers is a tuple here.
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
        ParameterError: An entry does not have the form of the schema, or an id repeats.
    """
    path = paths.claims() if path is None else Path(path)
    claims: dict[str, Claim] = {}
    for row in _rows(path, "claim"):
        if row["id"] in claims:
            raise ParameterError(
                f"{paths.shown(path)}, entry {row['id']}: the id repeats; give each its own."
            )
        value = tuple(row["value"]) if isinstance(row["value"], list) else row["value"]
        renamed = {"class_" if key == "class" else key: item for key, item in row.items()}
        claims[row["id"]] = Claim(**(renamed | {"value": value}))
    return claims


def published(path: Path | None = None) -> pd.DataFrame:
    """Read the published rows that tables quote.

    Returns:
        One row per value with the columns of the schema; what a row lacks is missing (``of``) or
        empty (``claim``, ``note``).

    Raises:
        ResultsError: The file is missing or is no list of rows.
        ParameterError: A row does not have the form of the schema.
    """
    path = paths.claims().with_name("published.yaml") if path is None else Path(path)
    columns = list(_schema()["published"]["properties"])
    table = pd.DataFrame(_rows(path, "published"), columns=columns)
    return table.fillna({"claim": "", "note": ""}).astype({"value": "float64", "of": "Int64"})


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
        raise ParameterError(f"claims: {unknown} are no fields of a claim; see claims.Claim.")
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


def is_number(value: object) -> bool:
    """Whether a value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _rows(path: Path, kind: str) -> list[dict]:
    if not path.is_file():
        raise ResultsError(
            f"{paths.shown(path)}: no such file; check out the folder 'paper' again."
        )
    return _checked(path, kind, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _checked(path: Path, kind: str, _changed: int) -> list[dict]:
    """Entries of a file that have the form of the schema; read once, though many tables ask."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    shown = paths.shown(path)
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ResultsError(f"{shown}: not valid YAML ({reason}); correct that line.") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ResultsError(f"{shown}: not a list of entries with keys; see the header of the file.")
    validator = Draft202012Validator(_schema()[kind])
    for number, row in enumerate(rows, start=1):
        error = best_match(validator.iter_errors(row))
        if error:
            name = row.get("id", f"number {number} ({row.get('work', 'no work')})")
            key = f"{error.json_path.removeprefix('$.')}: " if error.absolute_path else ""
            raise ParameterError(
                f"{shown}, entry {name}: {key}{error.message}; see the header of the file."
            )
    return rows


@lru_cache(maxsize=1)
def _schema() -> dict[str, dict]:
    return yaml.safe_load(paths.claims().with_name("schema.yaml").read_text(encoding="utf8"))
