"""The ledger of what the paper states, and the published rows that the tables quote.

Both are YAML files in the folder ``paper``, whose headers say what each key means; their form is
checked by ``paper/schema.yaml``. No number of the paper is written down anywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from covid_utils import paths
from covid_utils.errors import ParameterError, ResultsError


@dataclass(frozen=True)
class Claim:
    """One entry of the ledger; ``class_`` is ``class`` in the file, a list of numbers a tuple."""

    id: str
    where: str
    metric: str
    value: bool | float | tuple[float, ...]
    unit: str
    source: str
    rule: Mapping[str, Any]
    needs: Mapping[str, Any]
    beside: tuple[Mapping[str, Any], ...]
    shown: str
    remark: str
    over: tuple[float, ...] = ()
    quote: str = ""
    task: int | str | None = None
    subset: str | None = None
    classes: int | None = None
    class_: str | None = None
    modality: str | None = None
    how: str | None = None
    work: str | None = None
    note: str | None = None

    @property
    def implied(self) -> tuple[float, ...]:
        """Scores, 0 to 1, that a gain ``over`` others implies, lowest first.

        The gain can be per cent of another's score, or points; a gain over the literature leaves
        none of it above.
        """
        gain = float(self.value) / 100
        scores = {round(score, 3) for of in self.over for score in (of * (1 + gain), of + gain)}
        return tuple(sorted(score for score in scores if max(self.over) < score <= 1))


def load(path: Path | None = None) -> dict[str, Claim]:
    """The ledger by id, in the order of the file; the project's own if no path is given."""
    path, claims = path or paths.CLAIMS, {}
    for row in _rows(path, "claim"):
        if row["id"] in claims:
            raise ParameterError(
                f"{paths.shown(path)}, entry {row['id']}: the id repeats; give each its own."
            )
        entry = {key: tuple(item) if isinstance(item, list) else item for key, item in row.items()}
        entry = _defaults(entry) | entry
        claims[row["id"]] = Claim(class_=entry.pop("class", None), **entry)
    return claims


def _defaults(row: Mapping[str, Any]) -> dict[str, Any]:
    is_statement = row["unit"] == "statement"
    return {
        "beside": (row["rule"],) if row["source"] != "L" else (),
        "shown": "stated without a number" if is_statement else str(row["value"]),
        "remark": f"paper's value derived: {row['how']}" if row["source"] == "D" else "",
    }


def published(path: Path | None = None) -> pd.DataFrame:
    """The published rows that tables quote, one per value, with the columns of the schema."""
    path = path or paths.CLAIMS.with_name("published.yaml")
    columns = list(_schema()["published"]["properties"])
    table = pd.DataFrame(_rows(path, "published"), columns=columns)
    return table.fillna({"claim": "", "note": ""}).astype({"value": "float64", "of": "Int64"})


@lru_cache(maxsize=4)
def _rows(path: Path, kind: str) -> list[dict]:
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
    return yaml.safe_load(paths.CLAIMS.with_name("schema.yaml").read_text(encoding="utf8"))
