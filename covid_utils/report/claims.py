"""The ledger of what the paper states, and the published rows that the tables quote.

Both are YAML files in the folder ``paper``, whose headers say what each key means; their form is
checked by ``paper/schema.yaml``. No number of the paper is written down anywhere else.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from covid_utils import paths
from covid_utils.errors import ParameterError, ResultsError
from covid_utils.evaluation.intervals import Interval, wilson

#: The rules of a claim: the paper's apparent protocol, and patients apart.
PROTOCOLS = ("as_published", "honest")
#: By how much a gain that is given in tens of per cent can be rounded.
ROUNDED = 5.0


@dataclass(frozen=True)
class Claim:
    """One entry of the ledger; ``class_`` is ``class`` in the file, a list of numbers a tuple."""

    id: str
    kind: str
    where: str
    metric: str
    value: bool | float | tuple[float, ...]
    unit: str = ""
    n: int | None = None
    size: int | None = None
    quote: str = ""
    rules: Mapping[str, Any] = field(default_factory=dict)
    needs: Mapping[str, Any] = field(default_factory=dict)
    over: tuple[float, ...] = ()
    beside: tuple[Mapping[str, Any], ...] = ()
    shown: str = ""
    remark: str = ""
    same_as: str = ""
    setting: Mapping[str, list[str]] = field(default_factory=dict)
    network: str = ""
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
        if not self.over:
            return ()
        gain = float(self.value) / 100
        scores = {round(score, 3) for of in self.over for score in (of * (1 + gain), of + gain)}
        return tuple(sorted(score for score in scores if max(self.over) < score <= 1))

    @property
    def text(self) -> str:
        """What the column ``paper`` says."""
        if self.shown or self.unit == "statement":
            return self.shown or "stated without a number"
        ends = self.implied and dict.fromkeys((self.implied[0], self.implied[-1]))
        return " to ".join(map(str, ends or [self.value]))

    def stated(self, near: float) -> Interval:
        """What the paper states, in the unit of tables, with Wilson's limits on its ``n``.

        Exact where the paper gives no ``n``; of several implied values the one nearest to ``near``.
        """
        value = min(self.implied or (float(self.value),), key=lambda one: abs(one - near))
        if self.n is None:
            return Interval(value, value, value, 0)
        _, low, high, n = wilson(round(value / 100 * self.n), self.n)
        return Interval(value, 100 * low, 100 * high, n)

    def cells(self, protocol: str) -> list[dict[str, Any]]:
        """Rules of a protocol that name one row each; none of what cannot be asked."""
        rules = self.rules[protocol]
        rules = rules if isinstance(rules, list) else [rules]
        return [cell for rule in rules if "cannot" not in rule for cell in _expanded(rule)]

    def rows(self, table: str) -> Iterator[dict[str, Any]]:
        """Criteria of the rows of a table that the value stands beside."""
        compared = [cell for name in self.rules for cell in self.cells(name) if "minus" not in cell]
        for rule in (*self.beside, *compared):
            if rule["table"] == table:
                yield {key: value for key, value in rule.items() if key != "table"}


def _expanded(rule: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    values = (value if isinstance(value, list) else [value] for value in rule.values())
    return (dict(zip(rule, row, strict=True)) for row in product(*values))


def load(path: Path | None = None) -> dict[str, Claim]:
    """The ledger by id, in the order of the file; the project's own if no path is given."""
    path, claims = path or paths.CLAIMS, {}
    for row in _rows(path, "claim"):
        if row["id"] in claims:
            raise ParameterError(
                f"{paths.shown(path)}, entry {row['id']}: the id repeats; give each its own."
            )
        entry = {key: tuple(item) if isinstance(item, list) else item for key, item in row.items()}
        claims[row["id"]] = Claim(class_=entry.pop("class", None), **entry)
    return claims


def span(values: Collection[float]) -> str:
    """The lowest and the highest of some values in words, or the only one."""
    return " to ".join(f"{end:g}" for end in dict.fromkeys((min(values), max(values))))


def of_kind(kind: str) -> list[Claim]:
    """Entries of one kind, in the order of the file."""
    return [claim for claim in load().values() if claim.kind == kind]


@lru_cache(maxsize=1)
def margins() -> dict[str, float]:
    """Kind of metric -> difference within which two values count as equal."""
    return yaml.safe_load(paths.CLAIMS.with_name("margins.yaml").read_text(encoding="utf8"))


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


def findings() -> pd.DataFrame:
    """What does not fit in the paper's own numbers: ``where``, ``finding`` and ``source``.

    This is arithmetic, for which nothing need be run.
    """
    rows = [row for claim in of_kind("claim") for row in _granularity(claim)]
    return pd.DataFrame([*rows, _overlap()], columns=["where", "finding", "source"])


def neighbours(percent: float, n: int) -> tuple[int, int] | None:
    """The two counts out of n next to a percentage; None if one of them rounds to it."""
    places = len(str(percent).partition(".")[2])
    below = math.floor(percent / 100 * n)
    half = 0.5 * 10**-places + 1e-9
    fits = any(abs(100 * count / n - percent) <= half for count in (below, below + 1))
    return None if fits else (below, below + 1)


def _granularity(claim: Claim) -> list[tuple[str, str, str]]:
    size = claim.n or claim.size
    found = neighbours(float(claim.value), size) if size and claim.unit == "%" else None
    if not found:
        return []
    near = " and ".join(f"{count} are {100 * count / size:.3f} %" for count in found)
    unsaid = (
        "" if claim.n else ", if they are as many as the test images (their number is not given)"
    )
    what = f"{claim.value} % ({claim.classes} classes, {claim.subset}) is no share of {size} images"
    return [(claim.where, f"{what}{unsaid}: {near}", "arithmetic")]


def _overlap() -> tuple[str, str, str]:
    """Dice and IoU of consolidation, as the paper's gains imply them, against each other."""
    stated, quoted = load(), published()
    dice_gain, iou_gain = (float(stated[key].value) for key in ("p23b", "p24b"))
    is_base = quoted["metric"].eq("IoU") & quoted["class"].eq(stated["p24b"].class_)
    base = quoted[is_base].iloc[0]
    (other,) = stated["p23b"].over
    least = [iou_of(other * (1 + (dice_gain - off) / 100)) for off in (0, ROUNDED)]
    most = [base["value"] * (1 + (iou_gain + off) / 100) for off in (0, ROUNDED)]
    finding = (
        f"a gain of {dice_gain:g} % implies a Dice of {stated['p23b'].text} for consolidation, and "
        f"so an IoU of {least[0]:.3f} or more; a gain of {iou_gain:g} % over an IoU of "
        f"{base['value']}, of the same work, implies {most[0]:.3f}. If both are rounded to tens: "
        f"{least[1]:.3f} or more, {most[1]:.3f} at most"
    )
    return stated["p24b"].where, finding, base["note"]


def iou_of(dice: float) -> float:
    """Least mean IoU that goes with a mean Dice, 0 to 1: IoU is convex in Dice."""
    return dice / (2 - dice)
