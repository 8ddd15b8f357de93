"""The ledger of what the paper states, and the published rows that the tables quote.

They are YAML files in the folder ``paper``, whose headers say what each key means; a test checks
their form by ``paper/schema.yaml``. No number of the paper is written down anywhere else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import lru_cache
from itertools import product
from types import SimpleNamespace
from typing import Any

import pandas as pd
import yaml

from covid_utils import paths
from covid_utils.errors import ResultsError
from covid_utils.evaluation.intervals import Interval, wilson

#: The rules of a claim: the paper's apparent protocol, and patients apart.
PROTOCOLS = ("as_published", "patients_apart")


class Claim(SimpleNamespace):
    """One entry of the ledger, with the keys and the defaults of ``paper/schema.yaml``.

    ``class_`` is ``class`` in the file; a list of numbers is a tuple.
    """

    @property
    def implied(self) -> tuple[float, ...]:
        """Scores, 0 to 1, that a gain ``over`` others implies, lowest first.

        The gain can be per cent of another's score, or points; a gain over the literature leaves
        none of it above.
        """
        gain = float(self.value) / 100 if self.over else 0.0
        scores = {round(score, 3) for of in self.over for score in (of * (1 + gain), of + gain)}
        return tuple(sorted(score for score in scores if max(self.over) < score <= 1))

    @property
    def text(self) -> str:
        """What the column ``paper`` says."""
        if self.shown or self.unit == "statement":
            return self.shown or "stated without a number"
        return span(self.implied) if self.implied else str(self.value)

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
        """Rules of a protocol that name one row each; none of what cannot be tested."""
        rules, cells = self.rules[protocol], []
        for rule in rules if isinstance(rules, list) else [rules]:
            if "cannot" not in rule:
                choices = (value if isinstance(value, list) else [value] for value in rule.values())
                cells += [dict(zip(rule, chosen, strict=True)) for chosen in product(*choices)]
        return cells

    def rows(self, table: str) -> Iterator[dict[str, Any]]:
        """Criteria of the rows of a table that the value stands beside."""
        compared = [cell for name in self.rules for cell in self.cells(name) if "minus" not in cell]
        for rule in (*self.beside, *compared):
            if rule["table"] == table:
                yield {key: value for key, value in rule.items() if key != "table"}


@lru_cache
def read(name: str) -> Any:
    """A YAML file of the folder ``paper``."""
    return yaml.safe_load(paths.CLAIMS.with_name(f"{name}.yaml").read_text(encoding="utf8"))


@lru_cache
def load() -> dict[str, Claim]:
    """The ledger by id, in the order of the file."""
    keys = read("schema")["claim"]["properties"]
    absent, claims = {key: form.get("default") for key, form in keys.items()}, {}
    for row in read("claims"):
        if unknown := set(row) - set(keys):
            raise ResultsError(
                f"{paths.CLAIMS.name}, entry {row['id']}: there is no key '{min(unknown)}'; "
                "schema.yaml beside it has them all."
            )
        filled = (absent | row).items()
        entry = {key: tuple(item) if isinstance(item, list) else item for key, item in filled}
        claims[row["id"]] = Claim(class_=entry.pop("class"), **entry)
    return claims


def span(values: Collection[float]) -> str:
    """The lowest and the highest of some values in words, or the only one."""
    return " to ".join(f"{end:g}" for end in dict.fromkeys((min(values), max(values))))


def of_kind(kind: str) -> list[Claim]:
    """Entries of one kind, in the order of the file."""
    return [claim for claim in load().values() if claim.kind == kind]


def gains() -> list[Claim]:
    """Gains over values that the paper quotes, in the order of the file."""
    return [claim for claim in load().values() if claim.over]


def published() -> pd.DataFrame:
    """The published rows that tables quote, one per value, with the columns of the schema."""
    table = pd.DataFrame(read("published"), columns=[*read("schema")["published"]["properties"]])
    return table.fillna({"claim": "", "note": ""}).astype({"value": "float64", "of": "Int64"})


def findings() -> pd.DataFrame:
    """What does not fit in the paper's own numbers: ``where``, ``finding`` and ``source``.

    This is arithmetic, for which nothing need be run; a test repeats it.
    """
    return pd.DataFrame(read("findings"))
