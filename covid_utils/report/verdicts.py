"""Verdicts: does what we measure agree with what the paper states?

Each claim of the ledger, ``paper/claims.yaml``, has two answers: under the paper's apparent
protocol (as published) and with patients apart. A rule names the row of a table behind each; the
verdict follows from the difference to the paper's value, whose interval combines our error and the
paper's own, and a margin that was fixed beforehand (``paper/margins.yaml``).

*Reproduced*: the whole interval of the difference lies within the margin. *Differs*: it excludes 0,
and the difference is larger than the margin. That one method is better than another is reproduced
if the interval lies above 0, and differs if it lies below 0 or wholly within the margin.
*Undecided*: neither. *Not comparable*: other data or size. *Cannot be tested*: something is missing
for good. Work that the paper quotes is *quoted*, and what was not run has *no data*.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from tabulate import tabulate

from covid_utils import graph, params, registry, runs
from covid_utils.data.manifest import kind, saved_manifest
from covid_utils.errors import ResultsError
from covid_utils.evaluation.intervals import Interval, difference
from covid_utils.report import claims as ledger
from covid_utils.report import render

REPRODUCED, DIFFERS, UNDECIDED = "reproduced", "differs", "undecided"
NOT_COMPARABLE, CANNOT_BE_TESTED, NO_DATA = "not comparable", "cannot be tested", render.NO_DATA
VERDICTS = (REPRODUCED, DIFFERS, UNDECIDED, NOT_COMPARABLE, CANNOT_BE_TESTED, NO_DATA)
QUOTED = "quoted"
#: Of the verdicts on several rows the first of these that occurs is that of the claim.
WORST = (NO_DATA, NOT_COMPARABLE, DIFFERS, UNDECIDED, REPRODUCED)
#: Multiples of the number of patients and trainings, tried until the verdict would be decided.
TIMES = np.geomspace(1.1, 1000, 144)
MORE = "times as many patients and trainings would decide"
#: Columns of an answer; in ``verdicts.csv`` one of `ledger.PROTOCOLS` stands before each.
OURS = ("ours", "low", "high", "n")
GAP = ("difference", "difference_low", "difference_high")
ANSWER = (*OURS, *GAP, "verdict", "reason", "source_run", "departures")
NOTHING = dict.fromkeys(ANSWER, "") | dict.fromkeys((*OURS, *GAP), np.nan) | {"n": 0}
#: Protocol -> what people read above the value and the verdict of its answer.
HEADINGS = {
    "as_published": ("as published", "verdict"),
    "patients_apart": ("patients apart", "verdict, apart"),
}
#: Columns of ``verdicts.csv`` that both answers share.
SHARED = ("id", "where", "claim", "metric", "unit", "paper", "paper_n", "margin")
#: Parameters that are not settings of a method.
NEUTRAL = ("profile", "data_dir", "stream", "model", "seed", "evaluate_every")
NEUTRAL += ("conditions", "longer", "repeats", "stream_repeats", "specialists")
STREAM = "04_task3_stream"
#: Network -> parameters of the other one.
IDLE = {"deeplab": ("base",), "unet": ("width", "middle_blocks", "atrous_rates", "decoder_stride")}


def departures(profile: str, run: str) -> list[str]:
    """Settings in which a run's networks differ from the published ones, as ``name value``.

    Streams have the same under every condition, and are scored one training at a time there.
    """
    if run.startswith(registry.condition_run("S")):
        notebook, used = STREAM, params.load(profile, STREAM) | {"members": 1, "refit": False}
    else:
        job = next((job for job in graph.jobs("imagenet").values() if run in job.runs), None)
        if job is None or run == registry.DATA:
            return []
        notebook, used = job.notebook, runs.read_provenance(profile, run)["parameters"]
    published = params.load("paper", notebook)
    idle = (*NEUTRAL, *IDLE.get(used.get("model", ""), ()))
    others = {key: used[key] for key in used if key in published and used[key] != published[key]}
    return [f"{key} {_short(value)}" for key, value in others.items() if key not in idle]


def _short(value: object) -> str:
    if isinstance(value, list):
        return "/".join(map(_short, value))
    return f"{value:g}" if type(value) in (int, float) else str(value).lower()


def judge(cell: Mapping, claim: ledger.Claim, widened: float = 1.0) -> tuple[Interval, str, str]:
    """Difference to what a claim states, the verdict on it, and why.

    ``cell`` has ``ours``, ``low``, ``high``, ``n``, ``unit`` and ``metric`` of a row of a table;
    for a statement ``ours`` is a difference, which is compared with 0. ``widened`` is a factor of
    the margin.
    """
    ours = Interval(*(cell[name] for name in OURS))
    margin = widened * ledger.read("margins")[cell["metric"].split()[0]]
    is_statement = claim.unit == "statement"
    paper = Interval(0.0, 0.0, 0.0, 0) if is_statement else claim.stated(ours.value)
    gap = difference(ours, paper)
    if np.isnan(gap.value):
        return gap, UNDECIDED, "the score is undefined for every test case"
    if np.isnan(gap.low):
        return gap, UNDECIDED, f"too few cases for an interval (n = {cell['n']:g})"
    value, low, high = (render.number(one, cell["unit"], "+") for one in gap[:3])
    unit = "" if cell["unit"] == "fraction" else " points"
    reason = f"{value}{unit} [{low}, {high}], margin {margin:g}"
    if verdict := _decided(gap, margin, is_statement):
        return gap, verdict, reason
    # How many more cases would settle it, if they varied as those that we have.
    for times in TIMES:
        near = (ours.value + (limit - ours.value) / np.sqrt(times) for limit in ours.limits)
        if _decided(difference(Interval(ours.value, *near, ours.n), paper), margin, is_statement):
            return gap, UNDECIDED, f"{reason}; {float(f'{times:.2g}'):g} {MORE}"
    return gap, UNDECIDED, f"{reason}; not even {TIMES[-1]:g} {MORE}"


def _decided(gap: Interval, margin: float, is_statement: bool) -> str:
    """The verdict on a difference, or that on one method being better; '' if undecided."""
    is_within, excludes_0 = max(-gap.low, gap.high) <= margin, not gap.low <= 0 <= gap.high
    if is_statement:
        is_reproduced, differs = gap.low > 0, gap.high < 0 or is_within
    else:
        is_reproduced, differs = is_within, abs(gap.value) > margin and excludes_0
    if is_reproduced:
        return REPRODUCED
    return DIFFERS if differs else ""


def answer(
    claim: ledger.Claim,
    protocol: str,
    tables: Mapping[str, pd.DataFrame],
    profile: str,
    manifest: pd.DataFrame,
    widened: float = 1.0,
) -> dict:
    """The answer to a claim under a protocol: ``unit``, where there is a row, and `ANSWER`.

    ``tables`` are those of the profile by name, ``manifest`` is its manifest. Of a claim about
    several rows the answer is the first with the worst verdict. ``widened``: see `judge`.
    """
    if claim.kind == "quoted":
        return NOTHING | {"verdict": QUOTED, "reason": "not run again"}
    if barrier := _barrier(claim, claim.rules[protocol], manifest):
        return NOTHING | {"verdict": CANNOT_BE_TESTED, "reason": barrier}
    cells, answers = [_cell(claim, rule, tables) for rule in claim.cells(protocol)], []
    lacking = _lacking(claim, manifest)
    if not all(cells):
        return NOTHING | {"verdict": NO_DATA, "reason": lacking or "not run yet"}
    other = _otherness(claim, profile, manifest) or (lacking and f"other data: {lacking}")
    for cell in cells:
        gap, verdict, reason = judge(cell, claim, widened)
        if other:
            verdict, reason = NOT_COMPARABLE, other
        judged = {"verdict": verdict, "reason": reason} | dict(zip(GAP, gap[:3], strict=True))
        answers.append(NOTHING | cell | judged)
    worst = min(answers, key=lambda one: WORST.index(one["verdict"]))
    if not other:
        if len(answers) > 1:
            same = sum(one["verdict"] == worst["verdict"] for one in answers)
            row = f"{worst.get('task', '')}, {worst['metric']}"
            worst["reason"] = f"{same} of {len(answers)}; {row}: {worst['reason']}"
        behind = render.sources(worst["source_run"])
        settings = dict.fromkeys(text for run in behind for text in departures(profile, run))
        worst["departures"] = ", ".join(settings)
    return {name: worst[name] for name in ("unit", *ANSWER)}


def _barrier(claim: ledger.Claim, rule: Mapping, manifest: pd.DataFrame) -> str:
    """Why a claim cannot be tested; '' if it can."""
    if "cannot" in rule:
        return f"missing: {rule['cannot']}"
    there, essential = set(manifest["dataset"]), claim.needs.get("essential", {}).items()
    absent = {name: why for name, why in essential if name not in there}
    return "; ".join(f"{why}; with {name} it could be tested" for name, why in absent.items())


def _cell(claim: ledger.Claim, rule: Mapping, tables: Mapping[str, pd.DataFrame]) -> dict | None:
    """The row that a rule names, less what it subtracts; None if it is not there."""
    keys = {key: value for key, value in rule.items() if key not in ("table", "minus")}
    table = tables.get(rule["table"], pd.DataFrame(columns=list(keys)))
    rows = runs.select(table, **keys).to_dict("records")
    if len(rows) > 1:
        raise ResultsError(
            f"paper/claims.yaml, entry {claim.id}: its rule names {len(rows)} rows of "
            f"{rule['table']}; add the column that tells them apart."
        )
    cell = rows[0] if rows and rows[0]["n"] else None
    if not cell or "minus" not in rule:
        return cell
    other = rule["minus"]
    if not isinstance(other, dict):  # a value that the paper quotes
        other = {"ours": other, "low": other, "high": other, "n": 0, "source_run": ""}
    elif not (other := _cell(claim, other, tables)):
        return None
    first, second = (Interval(*(one[name] for name in OURS)) for one in (cell, other))
    behind = render.sources(f"{cell['source_run']}, {other['source_run']}")
    gap = dict(zip(OURS, difference(first, second), strict=True))
    return cell | gap | {"source_run": ", ".join(dict.fromkeys(behind))}


def _otherness(claim: ledger.Claim, profile: str, manifest: pd.DataFrame) -> str:
    """What makes a comparison unfair; '' for nothing."""
    if kind(manifest) == "phantom":
        return "simulated scans"
    rank, needed = registry.PROFILES.index, claim.needs.get("profile", registry.PROFILES[0])
    return f"other size: the profile '{needed}' would tell" if rank(profile) < rank(needed) else ""


def _lacking(claim: ledger.Claim, manifest: pd.DataFrame) -> str:
    there = set(manifest["dataset"])
    names = [name for name in claim.needs.get("data", ()) if name not in there]
    return f"{', '.join(names)} {'are' if len(names) > 1 else 'is'} missing" if names else ""


def collect(tables: Mapping[str, pd.DataFrame], profile: str, widened: float = 1.0) -> pd.DataFrame:
    """Both answers to each claim, and the quoted works: `SHARED`, and `ANSWER` by protocol."""
    manifest, rows = saved_manifest(profile), []
    for claim in (*ledger.of_kind("claim"), *ledger.of_kind("quoted")):
        classes = f"{claim.classes} classes" if claim.classes else ""
        class_ = registry.name_of(claim.class_ or "")
        asked = (claim.metric, claim.work, classes, claim.subset, claim.modality, class_)
        tested = next((cell["metric"] for name in claim.rules for cell in claim.cells(name)), "")
        line = {
            "id": claim.id,
            "where": claim.where,
            "claim": ", ".join(filter(None, asked)),
            "metric": claim.metric,
            "unit": "fraction" if claim.over else claim.unit,
            "paper": claim.text,
            "paper_n": claim.n,
            "margin": ledger.read("margins").get(tested.partition(" ")[0]),
        }
        for protocol in ledger.PROTOCOLS:
            found = answer(claim, protocol, tables, profile, manifest, widened)
            line["unit"] = found.pop("unit", line["unit"])
            line |= {f"{protocol}_{name}": found[name] for name in ANSWER}
        rows.append(line)
    return pd.DataFrame(rows).astype({"paper_n": "Int64"})


def answers(table: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """One of the two answers to each claim: `SHARED` and `ANSWER`."""
    names = {f"{protocol}_{name}": name for name in ANSWER}
    return table[[*SHARED, *names]].rename(columns=names)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Verdicts for people, all text: what is claimed, both answers, and why."""
    text = table[["id", "where", "claim"]].assign(paper=render.stated(table))
    for protocol, (value, verdict) in HEADINGS.items():
        part = answers(table, protocol)
        text[value] = [render.with_interval(row) for row in part.itertuples()]
        text[verdict] = part["verdict"]
    first, second = (table[f"{name}_reason"] for name in HEADINGS)
    both = "As published: " + first + ". Patients apart: " + second
    return text.assign(reason=both.where(first != second, first))


def summary(table: pd.DataFrame) -> str:
    """How many claims have which verdict under either protocol; quoted works do not count."""
    sides, claims, tallied = [], own(table), tally(table)
    for at, (heading, _) in enumerate(HEADINGS.values()):
        counts = {name: pair[at] for name, pair in tallied.items()}
        words = [f"{n} {'differ' if name == DIFFERS else name}" for name, n in counts.items() if n]
        sides.append(f"{heading}: {', '.join(words)}")
    both = (claims[[f"{name}_verdict" for name in HEADINGS]] == REPRODUCED).all(axis=1)
    return f"Of {len(claims)} claims, {'; '.join(sides)}; {both.sum()} reproduced both ways."


def other_margins(tables: Mapping[str, pd.DataFrame], profile: str) -> pd.DataFrame:
    """The verdicts that would be others with margins half or twice as wide, a row for each."""
    factors = {"verdict": 1.0, "margin half as wide": 0.5, "margin twice as wide": 2.0}
    judged = {words: collect(tables, profile, factor) for words, factor in factors.items()}
    parts = []
    for protocol, (title, _) in HEADINGS.items():
        of = pd.DataFrame({words: each[f"{protocol}_verdict"] for words, each in judged.items()})
        part = pd.concat([judged["verdict"]["id"], of], axis=1).assign(answer=title)
        parts.append(part[of.nunique(axis=1) > 1])
    return pd.concat(parts).set_index(["id", "answer"])


def tally(table: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Verdict -> number of claims, as published and with patients apart."""
    counts = [own(table)[f"{name}_verdict"].value_counts() for name in HEADINGS]
    return {name: tuple(int(of.get(name, 0)) for of in counts) for name in VERDICTS}


def own(table: pd.DataFrame) -> pd.DataFrame:
    """Without the values that the paper quotes from others."""
    return table[table["patients_apart_verdict"] != QUOTED]


def terminal(table: pd.DataFrame) -> str:
    """The verdicts for a terminal, without the quoted works, and the sum."""
    text = readable(own(table))
    for value, verdict in HEADINGS.values():
        text[value] += "\n" + text.pop(verdict)
    shown = text.drop(columns=["id", "reason"])
    lines = tabulate(shown, "keys", showindex=False, maxcolwidths=[11, 22, 10, 22, 22])
    return f"{lines}\n\n{summary(table)}"
