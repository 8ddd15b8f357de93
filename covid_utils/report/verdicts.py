"""Verdicts: does what we measure agree with what the paper states?

The ledger, ``paper/claims.yaml``, names for each statement the cell of a rebuilt table that answers
it, and what an answer needs. Everything else follows by rule, so that no verdict is ever typed:

* *reproduced*: the paper's value lies in our interval; of a claim that one thing beats another, the
  interval of the paired difference lies above 0.
* *differs*: it does not, and by how much; of such a claim, the interval lies below 0.
* *not comparable*: other data, numbers of images of a reduced profile, or too few cases for an
  interval.
* *not reproducible*: what would be needed is missing; of such a claim, our cases or our trainings
  cannot decide.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest

import pandas as pd

from covid_utils import params, paths, runs
from covid_utils.data.manifest import kind, saved_manifest
from covid_utils.errors import ParameterError, ResultsError
from covid_utils.report import cells, documents
from covid_utils.report import claims as ledger

REPRODUCED, DIFFERS = "reproduced", "differs"
NOT_COMPARABLE, NOT_REPRODUCIBLE = "not comparable", "not reproducible"
VERDICTS = (REPRODUCED, DIFFERS, NOT_COMPARABLE, NOT_REPRODUCIBLE)
#: Columns of ``verdicts.csv``.
COLUMNS = (
    "id",
    "where",
    "metric",
    "unit",
    "ours",
    "low",
    "high",
    "n",
    "paper",
    "verdict",
    "reason",
    "source_run",
    "departures",
)
#: Profiles from the furthest from the paper to its own settings.
RANK = {"quick": 0, "ci": 1, "sample": 2, "paper": 3}
#: Run -> notebook whose parameters it has.
NOTEBOOKS = {"task1": "02_task1_inception", "task2": "03_task2_multilabel"}
STREAM = "04_task3_stream"
#: Parameters that are no settings of a method.
NEUTRAL = ("profile", "data_dir", "stream", "model", "seed", "evaluate_every")
#: Network -> parameters of the other one.
IDLE = {
    "deeplab": ("base",),
    "unet": ("width", "middle_blocks", "output_stride", "atrous_rates", "decoder_stride"),
}


@dataclass(frozen=True)
class Made:
    """What a profile's numbers were made with.

    Attributes:
        profile: Its name.
        manifest: Its images.
    """

    profile: str
    manifest: pd.DataFrame

    @cached_property
    def is_phantom(self) -> bool:
        """Whether the scans are simulated."""
        return kind(self.manifest) == "phantom"

    @cached_property
    def data_sets(self) -> frozenset[str]:
        """Names of the data sets that were read."""
        return frozenset(self.manifest["dataset"])

    @cached_property
    def refitted(self) -> frozenset[str]:
        """Runs that learned from validation slices as well."""
        here = {path.parent.name for path in paths.results(self.profile).glob("*/provenance.json")}
        each = {run: runs.read_provenance(self.profile, run)["parameters"] for run in here}
        return frozenset(run for run, used in each.items() if used.get("refit"))

    @cached_property
    def _published(self) -> dict[str, dict]:
        notebooks = {*NOTEBOOKS.values(), STREAM}
        return {name: params.stated("paper", name) for name in notebooks}

    def departures(self, run: str) -> list[str]:
        """Settings in which a run differs from the published ones, as ``name value``."""
        notebook = NOTEBOOKS.get(run, STREAM if run.startswith("stream_") else "")
        if not notebook:
            return []
        published = self._published[notebook]
        used = runs.read_provenance(self.profile, run)["parameters"]
        idle = (*NEUTRAL, *IDLE.get(used.get("model", ""), ()))
        return [
            f"{name} {_short(value)}"
            for name, value in used.items()
            if name not in idle and name in published and value != published[name]
        ]


def _short(value: object) -> str:
    if isinstance(value, list):
        return "/".join(f"{item:g}" for item in value)
    return f"{value:g}" if ledger.is_number(value) else str(value).lower()


def of_profile(profile: str) -> Made:
    """What a profile's numbers were made with, from its manifest."""
    return Made(profile, saved_manifest(profile))


def judge(cell: Mapping, claim: ledger.Claim, made: Made) -> tuple[str, str]:
    """Verdict on one cell.

    Args:
        cell: Columns of `cells.VALUES`; ``paper`` is a number, or text for a statement.
        claim: What the cell answers.
        made: What the cell was made with.

    Returns:
        One of `VERDICTS`, and why.
    """
    obstacle = _obstacle(cell, claim, made)
    if obstacle:
        return obstacle
    if claim.unit == "statement":
        return _superiority(cell)
    ours, paper = float(cell["ours"]), float(cell["paper"])
    if cell["unit"] == "images" and pd.isna(cell["low"]):
        same = REPRODUCED if ours == paper else DIFFERS
        return same, "as many" if ours == paper else f"{ours - paper:+g} images"
    limits = f"[{_number(cell, 'low')}, {_number(cell, 'high')}]"
    if cell["low"] <= paper <= cell["high"]:
        return REPRODUCED, f"{cell['paper']} lies in {limits}"
    gap = abs(ours - paper)
    way = "lower" if ours < paper else "higher"
    return (
        DIFFERS,
        f"{gap:.{_digits(cell)}f}{_points(cell)} {way}; {cell['paper']} is not in {limits}",
    )


def _obstacle(cell: Mapping, claim: ledger.Claim, made: Made) -> tuple[str, str] | None:
    """Why there is nothing to compare; None if there is."""
    if "missing" in claim.needs:
        return NOT_REPRODUCIBLE, f"missing: {claim.needs['missing']}"
    if pd.isna(cell["ours"]):
        return NOT_REPRODUCIBLE, "missing: a test case that this score is defined on"
    other = _otherness(claim, made)
    if other:
        return NOT_COMPARABLE, other
    if pd.isna(cell["low"]) and cell["unit"] != "images":
        return NOT_COMPARABLE, _no_interval(cell)
    return None


def _no_interval(cell: Mapping) -> str:
    """Why a cell has no interval: what its note says of it, or else that cases are few."""
    said = _said(cell, "no interval")
    return said[0] if said else f"too few cases for an interval (n = {cell['n']:g})"


def _said(cell: Mapping, beginning: str) -> list[str]:
    """Parts of a cell's note that begin so."""
    return [part for part in str(cell.get("note", "")).split("; ") if part.startswith(beginning)]


def _otherness(claim: ledger.Claim, made: Made) -> str:
    """In what a profile's data or size are not what a claim needs; '' if they are."""
    if made.is_phantom:
        return "other data: simulated scans (the phantom)"
    needed = claim.needs.get("profile", "quick")
    if RANK.get(made.profile, 0) < RANK[needed]:
        return f"other size: the profile '{needed}' would tell"
    lacking = [name for name in claim.needs.get("data", ()) if name not in made.data_sets]
    return f"other data: {', '.join(lacking)} was not there" if lacking else ""


def _superiority(cell: Mapping) -> tuple[str, str]:
    """Verdict on a difference, first minus second, of which the paper says that it is positive."""
    limits = f"[{_number(cell, 'low')}, {_number(cell, 'high')}]"
    # Trainings of one network lie as far apart as such differences (docs/segmentation_log.md).
    if _said(cell, "limits over slices"):
        return NOT_REPRODUCIBLE, f"undecided: {limits} is over slices and not over trainings"
    if cell["low"] > 0:
        return REPRODUCED, f"the difference is above 0: {limits}"
    if cell["high"] < 0:
        return DIFFERS, f"the other way round: the difference is below 0: {limits}"
    return NOT_REPRODUCIBLE, f"undecided: {limits} holds 0; it would take more cases"


def _digits(cell: Mapping) -> int:
    return cells.digits(cell["unit"])


def _number(cell: Mapping, name: str) -> str:
    return f"{cell[name]:.{_digits(cell)}f}"


def _points(cell: Mapping) -> str:
    """A difference of percentages is in points."""
    return {"%": " points", "fraction": ""}.get(cell["unit"], f" {cell['unit']}")


def judged(table: pd.DataFrame, made: Made) -> pd.DataFrame:
    """A table with the verdict of each of its cells that a claim stands behind."""
    if "verdict" not in table:
        return table
    claims = ledger.load()
    found = [
        judge(row, claims[row["claim"]], made)[0] if row["claim"] else row["verdict"]
        for row in table.to_dict("records")
    ]
    return table.assign(verdict=found)


def collect(profile: str, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The verdict on every entry of the ledger.

    Args:
        profile: Profile of the tables.
        tables: Name -> table, as `tables.build` makes them; of Table 1 its `tables.counts`.

    Returns:
        Columns `COLUMNS`: a row a cell that the entry's rule names, one without numbers where the
        tables have no such cell, and one a value of a quoted work.

    Raises:
        ParameterError: A rule names a table or column that there is not.
    """
    made = of_profile(profile)
    rows = []
    for claim in ledger.load().values():
        found = list(_answers(claim, tables))
        if not found:
            reason = f"missing: {claim.needs.get('missing', 'a run that answers it')}"
            nothing = cells.cell(claim.metric, None, claim, claim.unit)
            rows.append(_line(claim, nothing, (NOT_REPRODUCIBLE, reason)) | {"departures": ""})
        for cell in found:
            line = _line(claim, cell, judge(cell, claim, made))
            rows.append(line | {"departures": _departures(line, made)})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def load(profile: str) -> pd.DataFrame:
    """Verdicts as `tables.write_all` left them, `COLUMNS`.

    Raises:
        ResultsError: They have not been made.
    """
    path = paths.results(profile) / "verdicts.csv"
    if not path.is_file():
        raise ResultsError(
            f"{paths.shown(path)}: not there yet; 'make reproduce PROFILE={profile}' makes it."
        )
    return pd.read_csv(path, keep_default_na=False, na_values=[""], dtype={"paper": str}).fillna(
        {"unit": "", "n": 0, "reason": "", "source_run": "", "departures": ""}
    )


def readable(found: pd.DataFrame) -> pd.DataFrame:
    """Verdicts for people: ``id, where, what, ours, paper, verdict, reason``, all text."""
    table = found.rename(columns={"metric": "what"}).assign(
        metric=found["metric"], claim=found["id"], note=found["reason"]
    )
    text = cells.readable(table[["id", "where", "what", *cells.VALUES]])
    return text.drop(columns=["metric", "n"]).rename(columns={"note": "reason"})


def summary(found: pd.DataFrame) -> str:
    """How many cells got which verdict, in a sentence; quoted works are not counted."""
    counts = tally(found)
    said = {DIFFERS: "differ"}
    parts = [f"{count} {said.get(one, one)}" for one, count in counts.items()]
    return f"Of {sum(counts.values())} comparisons {', '.join(parts[:-1])} and {parts[-1]}."


def tally(found: pd.DataFrame) -> dict[str, int]:
    """Verdict -> number of cells, without those of quoted works."""
    counts = own(found)["verdict"].value_counts()
    return {verdict: int(counts.get(verdict, 0)) for verdict in VERDICTS}


def own(found: pd.DataFrame) -> pd.DataFrame:
    """Without the values that the paper quotes from others."""
    return found[~is_quoted(found)]


def is_quoted(found: pd.DataFrame) -> pd.Series:
    """Whether each row is a value that the paper quotes from others."""
    return found["id"].str.startswith("q")


def markdown(profile: str) -> str:
    """The verdicts as a Markdown table with their sum above it, for the README."""
    found = load(profile)
    text = readable(own(found)).drop(columns="id")
    return f"**{summary(found)}**\n\n{documents.markdown(text)}"


def terminal(found: pd.DataFrame, width: int = 100) -> str:
    """The verdicts for a terminal: a line each, without the quoted works, then the sum."""
    text = readable(own(found))
    room = {"where": 11, "what": width - 77, "ours": 24, "paper": 14, "verdict": 16}
    lines = _wrapped(dict(zip(room, room, strict=True)), room)
    lines.append("-" * (sum(room.values()) + 2 * (len(room) - 1)))
    for row in text.to_dict("records"):
        lines += _wrapped(row, room)
    return "\n".join([*lines, "", summary(found)])


def _wrapped(row: Mapping[str, str], room: Mapping[str, int]) -> list[str]:
    """Lines of a row of which each column is as wide as there is room."""
    columns = [textwrap.wrap(row[name], size) or [""] for name, size in room.items()]
    lines = zip_longest(*columns, fillvalue="")
    sizes = room.values()
    return [
        "  ".join(part.ljust(size) for part, size in zip(line, sizes, strict=True)).rstrip()
        for line in lines
    ]


def _answers(claim: ledger.Claim, tables: Mapping[str, pd.DataFrame]) -> Iterator[dict]:
    """Cells that a claim's rule names."""
    rule = dict(claim.rule)
    names = rule.pop("table")
    for name in [names] if isinstance(names, str) else names:
        if name not in tables:
            raise ParameterError(f"claims, {claim.id}: there is no table '{name}'; mend its rule.")
        table = tables[name]
        unknown = [column for column in rule if column not in table]
        if unknown:
            raise ParameterError(f"claims, {claim.id}: {name} has no column {unknown[0]!r}.")
        chosen = table[table["claim"] == claim.id]
        for column, wanted in rule.items():
            chosen = chosen[chosen[column].isin(wanted if isinstance(wanted, list) else [wanted])]
        yield from chosen.to_dict("records")


def _line(claim: ledger.Claim, cell: Mapping, verdict: tuple[str, str]) -> dict:
    """One row of the verdicts."""
    names = ("unit", "ours", "low", "high", "n", "paper", "source_run")
    base = {"id": claim.id, "where": claim.where, "metric": _asked(claim, cell)}
    values = {name: cell[name] for name in names}
    return base | values | {"verdict": verdict[0], "reason": verdict[1]}


def _asked(claim: ledger.Claim, cell: Mapping) -> str:
    """What a cell measures, in words."""
    if claim.unit == "statement":  # the two sides of the difference
        of = [str(cell[key]) for key in ("average", "class", "tested on") if key in cell]
        sides = [str(cell[key]) for key in ("run", "work") if key in cell]
        said = f"{', '.join([cell['metric'], *of])}: {', '.join(sides)}"
        return said if sides else claim.metric
    classes = f"{claim.classes} classes" if claim.classes else ""
    parts = (claim.work, classes, claim.subset, claim.modality, claim.class_)
    # A quoted work may be asked about several classes, and only its rows say which.
    of = cell.get("class", "") if claim.source == "L" and cell.get("class") != "all" else ""
    return ", ".join(part for part in (cell["metric"], *parts, of) if part)


def _departures(line: Mapping, made: Made) -> str:
    """Settings that are not the paper's, where a comparison rests on them."""
    if line["verdict"] not in (REPRODUCED, DIFFERS):
        return ""
    names = cells.sources(line["source_run"])
    return ", ".join(dict.fromkeys(text for name in names for text in made.departures(name)))
