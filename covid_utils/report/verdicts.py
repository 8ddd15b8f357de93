"""Verdicts: does what we measure agree with what the paper states?

The ledger, ``paper/claims.yaml``, names for each statement the cell of a table that answers it, and
what an answer needs; the verdict follows by rule. *Reproduced*: the paper's value lies in our
interval (of a gain over others, one that it implies), or of a difference the interval lies above 0
(one of single trainings stays open: its interval is over cases only).
*Differs*: outside, or below 0. *Not comparable*: other data, or too few cases for an interval. *Not
reproducible*: something is missing, or our cases cannot decide.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from itertools import zip_longest

import pandas as pd

from covid_utils import graph, params, registry, runs
from covid_utils.data.manifest import kind, saved_manifest
from covid_utils.report import cells, render
from covid_utils.report import claims as ledger

REPRODUCED, DIFFERS = "reproduced", "differs"
NOT_COMPARABLE, NOT_REPRODUCIBLE = "not comparable", "not reproducible"
VERDICTS = (REPRODUCED, DIFFERS, NOT_COMPARABLE, NOT_REPRODUCIBLE)
#: Columns of ``verdicts.csv``.
VALUES = ("unit", "ours", "low", "high", "n", "paper", "verdict", "reason", "source_run")
COLUMNS = ("id", "where", "metric", *VALUES, "departures")
#: Parameters that are no settings of a method.
NEUTRAL = ("profile", "data_dir", "stream", "model", "seed", "evaluate_every")
#: Network -> parameters of the other one.
IDLE = {
    "deeplab": ("base",),
    "unet": ("width", "middle_blocks", "atrous_rates", "decoder_stride"),
}


def departures(profile: str, run: str) -> list[str]:
    """Settings in which a run differs from the published ones, as ``name value``."""
    job = graph.jobs("imagenet").get(run)
    if job is None or run == registry.DATA:
        return []
    published = params.load("paper", job.notebook)
    used = runs.read_provenance(profile, run)["parameters"]
    idle = (*NEUTRAL, *IDLE.get(used.get("model", ""), ()))
    return [
        f"{name} {_short(value)}"
        for name, value in used.items()
        if name not in idle and name in published and value != published[name]
    ]


def _short(value: object) -> str:
    if isinstance(value, list):
        return "/".join(f"{item:g}" for item in value)
    return f"{value:g}" if type(value) in (int, float) else str(value).lower()


def judge(
    cell: Mapping, claim: ledger.Claim, profile: str, manifest: pd.DataFrame
) -> tuple[str, str]:
    """Verdict on one cell of `cells.VALUES`, and why; ``manifest`` is that of the profile."""
    obstacle = _obstacle(cell, claim, profile, manifest)
    if obstacle:
        return obstacle
    return _superiority(cell) if claim.unit == "statement" else _agreement(cell, claim)


def _obstacle(
    cell: Mapping, claim: ledger.Claim, profile: str, manifest: pd.DataFrame
) -> tuple[str, str] | None:
    if "missing" in claim.needs:
        return NOT_REPRODUCIBLE, f"missing: {claim.needs['missing']}"
    if pd.isna(cell["ours"]) and cell["n"] == 0:
        return NOT_REPRODUCIBLE, f"missing: {_no_data(claim, manifest)}"
    if pd.isna(cell["ours"]):
        return NOT_REPRODUCIBLE, "missing: a test case that this score is defined on"
    if other := _otherness(claim, profile, manifest):
        return NOT_COMPARABLE, other
    if pd.isna(cell["low"]) and cell["unit"] != "images":
        return NOT_COMPARABLE, f"too few cases for an interval (n = {cell['n']:g})"
    return None


def _agreement(cell: Mapping, claim: ledger.Claim) -> tuple[str, str]:
    # Of a score beside a gain, the gain implies what to compare with.
    of_gain = claim.over and cell["unit"] == "fraction"
    ours, stated = float(cell["ours"]), claim.implied if of_gain else (float(cell["paper"]),)
    paper = min(stated, key=lambda value: abs(value - ours))
    if cell["unit"] == "images" and pd.isna(cell["low"]):
        same = ours == paper
        return (REPRODUCED, "as many") if same else (DIFFERS, f"{ours - paper:+g} images")
    if cell["low"] <= max(stated) and min(stated) <= cell["high"]:
        what = "overlaps" if len(stated) > 1 else "lies in"
        return REPRODUCED, f"{cell['paper']} {what} {_limits(cell)}"
    # A difference of percentages is in points.
    unit = {"%": " points", "fraction": ""}.get(cell["unit"], f" {cell['unit']}")
    gap = f"{abs(ours - paper):.{render.digits(cell['unit'])}f}{unit}"
    way = "lower" if ours < paper else "higher"
    return DIFFERS, f"{gap} {way}; {cell['paper']} is not in {_limits(cell)}"


def _note(cell: Mapping, beginning: str) -> str:
    parts = str(cell.get("note", "")).split("; ")
    return next((part for part in parts if part.startswith(beginning)), "")


def _otherness(claim: ledger.Claim, profile: str, manifest: pd.DataFrame) -> str:
    if kind(manifest) == "phantom":
        return "other data: simulated scans (the phantom)"
    smallest = registry.PROFILES[0]
    rank, needed = registry.PROFILES.index, claim.needs.get("profile", smallest)
    if rank(profile if profile in registry.PROFILES else smallest) < rank(needed):
        return f"other size: the profile '{needed}' would tell"
    lacking = _lacking(claim, manifest)
    return f"other data: {lacking}" if lacking else ""


def _lacking(claim: ledger.Claim, manifest: pd.DataFrame) -> str:
    there = set(manifest["dataset"].unique())
    names = [name for name in claim.needs.get("data", ()) if name not in there]
    return f"{', '.join(names)} {'were' if len(names) > 1 else 'was'} not there" if names else ""


def _no_data(claim: ledger.Claim, manifest: pd.DataFrame) -> str:
    """Why no cell answers a claim: its data sets are not there, or its run was left out."""
    return f"{cells.NO_DATA}, {_lacking(claim, manifest) or 'its run was left out'}"


def _superiority(cell: Mapping) -> tuple[str, str]:
    limits = _limits(cell)
    # Trainings of one network lie as far apart as such differences (docs/segmentation_log.md).
    if _note(cell, "limits over slices"):
        return NOT_REPRODUCIBLE, f"undecided: {limits} is over slices and not over trainings"
    if cell["low"] > 0:
        return REPRODUCED, f"the difference is above 0: {limits}"
    if cell["high"] < 0:
        return DIFFERS, f"the other way round: the difference is below 0: {limits}"
    return NOT_REPRODUCIBLE, f"undecided: {limits} holds 0; it would take more cases"


def _limits(cell: Mapping) -> str:
    low, high = (f"{cell[name]:.{render.digits(cell['unit'])}f}" for name in ("low", "high"))
    return f"[{low}, {high}]"


def judged(name: str, table: pd.DataFrame, profile: str, manifest: pd.DataFrame) -> pd.DataFrame:
    """The table ``name`` with ``verdict`` and ``reason`` of each cell that a rule names."""
    table = table.reset_index(drop=True).assign(verdict="", reason="")
    for claim in ledger.load().values():
        rows = named(claim, name, table)
        for index, cell in zip(rows.index, rows.to_dict("records"), strict=True):
            table.loc[index, ["verdict", "reason"]] = judge(cell, claim, profile, manifest)
    return table


def named(claim: ledger.Claim, name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the table ``name`` that the rule of a claim names."""
    rule = dict(claim.rule)
    names = rule.pop("table")
    is_there = name == names or (not isinstance(names, str) and name in names)
    return runs.select(table, claim=claim.id, **rule) if is_there else table[:0]


def collect(tables: Mapping[str, pd.DataFrame], profile: str) -> pd.DataFrame:
    """Verdict on each entry of the ledger: a row for each cell that its rule names, or one without.

    Args:
        tables: Name -> table that is `judged`; of Table 1 its `tables.counts`.
        profile: Whose tables.
    """
    manifest, rows = saved_manifest(profile), []
    for claim in ledger.load().values():
        missing = f"missing: {claim.needs.get('missing') or _no_data(claim, manifest)}"
        nothing = cells.NOTHING | {"metric": claim.metric, "unit": claim.unit, "paper": claim.shown}
        nothing |= {"verdict": NOT_REPRODUCIBLE, "reason": missing}
        parts = [named(claim, name, table) for name, table in tables.items()]
        cells_ = [cell for part in parts for cell in part.to_dict("records")]
        for cell in cells_ or [nothing]:
            line = {"id": claim.id, "where": claim.where, "metric": _asked(claim, cell)}
            line |= {name: cell[name] for name in VALUES}
            is_compared = cell["verdict"] in (REPRODUCED, DIFFERS)
            sources = cells.sources(cell["source_run"]) if is_compared else []
            settings = dict.fromkeys(text for run in sources for text in departures(profile, run))
            rows.append(line | {"departures": ", ".join(settings)})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _asked(claim: ledger.Claim, cell: Mapping) -> str:
    if claim.unit == "statement":  # the two sides of the difference
        of = [str(cell[key]) for key in ("average", "class", "tested on") if key in cell]
        sides = [str(cell[key]) for key in ("run", "work") if key in cell]
        asked = f"{', '.join([cell['metric'], *of])}: {', '.join(sides)}"
        return asked if sides else claim.metric
    classes = f"{claim.classes} classes" if claim.classes else ""
    parts = (claim.work, classes, claim.subset, claim.modality, claim.class_)
    # A quoted work may be asked about several classes, and only its rows say which.
    of = cell.get("class", "") if claim.source == "L" and cell.get("class") != "all" else ""
    return ", ".join(part for part in (cell["metric"], *parts, of) if part)


def load(profile: str) -> pd.DataFrame:
    """Verdicts as `tables.write_all` left them, `COLUMNS`; see `runs.read_table`."""
    return runs.read_table(profile, "verdicts")


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Verdicts for people: ``id, where, what, ours, paper, verdict, reason``, all text."""
    table = table.assign(what=table["metric"], claim=table["id"], note=table["reason"])
    text = render.readable(table[["id", "where", "what", *cells.VALUES]])
    return text.drop(columns=["metric", "n"]).rename(columns={"note": "reason"})


def summary(table: pd.DataFrame) -> str:
    """How many cells got which verdict, in a sentence; quoted works are not counted."""
    counts = tally(table)
    verbs = {REPRODUCED: "were reproduced", DIFFERS: "differ"}
    parts = [f"{n} {verbs.get(name, f'are {name}')}" for name, n in counts.items()]
    return f"Of {sum(counts.values())} comparisons, {', '.join(parts[:-1])} and {parts[-1]}."


def tally(table: pd.DataFrame) -> dict[str, int]:
    """Verdict -> number of cells, without those of quoted works."""
    counts = own(table)["verdict"].value_counts()
    return {verdict: int(counts.get(verdict, 0)) for verdict in VERDICTS}


def own(table: pd.DataFrame) -> pd.DataFrame:
    """Without the values that the paper quotes from others."""
    return table[~table["id"].str.startswith("q")]


def terminal(table: pd.DataFrame) -> str:
    """The verdicts for a terminal: one line each, without the quoted works, then the sum."""
    room = {"where": 11, "what": 23, "ours": 24, "paper": 14, "verdict": 16}
    lines = _wrapped(dict(zip(room, room, strict=True)), room)
    lines.append("-" * (sum(room.values()) + 2 * (len(room) - 1)))
    for row in readable(own(table)).to_dict("records"):
        lines += _wrapped(row, room)
    return "\n".join([*lines, "", summary(table)])


def _wrapped(row: Mapping[str, str], room: Mapping[str, int]) -> list[str]:
    columns = [textwrap.wrap(row[name], size) or [""] for name, size in room.items()]
    return [
        "  ".join(part.ljust(n) for part, n in zip(line, room.values(), strict=True)).rstrip()
        for line in zip_longest(*columns, fillvalue="")
    ]
