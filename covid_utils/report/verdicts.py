"""Verdicts: does what we measure agree with what the paper states?

Each claim of the ledger, ``paper/claims.yaml``, has two answers: under the paper's apparent
protocol (as published) and with patients apart (honest). A rule names the row of a table behind
each; the verdict follows from the difference to the paper's value, whose interval combines our
error and the paper's own, and a margin that was fixed beforehand (``paper/margins.yaml``).
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from itertools import zip_longest

import numpy as np
import pandas as pd

from covid_utils import graph, params, registry, runs
from covid_utils.data.manifest import kind, saved_manifest
from covid_utils.errors import ResultsError
from covid_utils.evaluation.intervals import difference
from covid_utils.report import claims as ledger
from covid_utils.report import render
from covid_utils.report.judging import (
    CANNOT_BE_ASKED,
    DIFFERS,
    NO_DATA,
    NOT_COMPARABLE,
    QUOTED,
    REPRODUCED,
    UNDECIDED,
    VERDICTS,
    WORST,
    exact,
    interval,
    judge,
)

#: Columns of an answer, and what ``verdicts.csv`` calls them under each of `ledger.PROTOCOLS`.
ANSWER = ("ours", "low", "high", "n", "difference", "difference_low", "difference_high")
ANSWER += ("verdict", "reason", "source_run", "departures")
PREFIXES = dict(zip(ledger.PROTOCOLS, ("published", "honest"), strict=True))
NOTHING = dict.fromkeys(ANSWER, np.nan) | dict.fromkeys(ANSWER[-4:], "") | {"n": 0}
#: What people read above the value and the verdict of each answer.
HEADINGS = (("as published", "verdict"), ("patients apart", "verdict, apart"))
#: Columns of ``verdicts.csv`` that both answers share.
SHARED = ("id", "where", "claim", "metric", "unit", "paper", "paper_n", "margin")
#: Parameters that are no settings of a method.
NEUTRAL = ("profile", "data_dir", "stream", "model", "seed", "evaluate_every")
NEUTRAL += ("conditions", "longer", "repeats", "stream_repeats", "specialists")
STREAM = "04_task3_stream"
#: Network -> parameters of the other one.
IDLE = {
    "deeplab": ("base",),
    "unet": ("width", "middle_blocks", "atrous_rates", "decoder_stride"),
}


def departures(profile: str, run: str) -> list[str]:
    """Settings in which a run differs from the published ones, as ``name value``."""
    job = next((job for job in graph.jobs("imagenet").values() if run in job.runs), None)
    if job is None or run == registry.DATA:
        return []
    return _differing(job.notebook, runs.read_provenance(profile, run)["parameters"])


def _of_networks(profile: str, run: str) -> list[str]:
    """Departures of the networks behind a run: streams have the same under every condition."""
    if run.startswith(registry.condition_run("S")):
        return _differing(STREAM, params.load(profile, STREAM) | {"members": 1, "refit": False})
    return departures(profile, run)


def _differing(notebook: str, used: Mapping) -> list[str]:
    published = params.load("paper", notebook)
    idle = (*NEUTRAL, *IDLE.get(used.get("model", ""), ()))
    return [
        f"{name} {_short(value)}"
        for name, value in used.items()
        if name not in idle and name in published and value != published[name]
    ]


def _short(value: object) -> str:
    if isinstance(value, list):
        return "/".join(map(_short, value))
    return f"{value:g}" if type(value) in (int, float) else str(value).lower()


def answer(
    claim: ledger.Claim,
    protocol: str,
    tables: Mapping[str, pd.DataFrame],
    profile: str,
    manifest: pd.DataFrame,
    widened: float = 1.0,
) -> dict:
    """The answer to a claim under a protocol: ``unit``, and the columns `ANSWER`.

    ``tables`` are those of the profile by name, ``manifest`` is its manifest. Of a claim about
    several rows the answer is the first with the worst verdict. ``widened``: see `judging.judge`.
    """
    if barrier := _barrier(claim, protocol, manifest):
        return NOTHING | dict(zip(("verdict", "reason"), barrier, strict=True))
    found = [_cell(claim, rule, tables) for rule in claim.cells(protocol)]
    if not all(found):
        lacking = _lacking(claim, manifest) or "not run yet"
        return NOTHING | {"verdict": NO_DATA, "reason": lacking}
    other, answers = _otherness(claim, profile, manifest), []
    for cell in found:
        gap, verdict, reason = judge(cell, claim, widened)
        if other:
            verdict, reason = NOT_COMPARABLE, other
        named = {"difference": gap.value, "difference_low": gap.low, "difference_high": gap.high}
        answers.append(NOTHING | cell | named | {"verdict": verdict, "reason": reason})
    worst = _worst(answers)
    if worst["verdict"] in (REPRODUCED, DIFFERS, UNDECIDED):
        behind = render.sources(worst["source_run"])
        settings = dict.fromkeys(text for run in behind for text in _of_networks(profile, run))
        worst["departures"] = ", ".join(settings)
    return {name: worst[name] for name in ("unit", *ANSWER)}


def _worst(answers: list[dict]) -> dict:
    """Of several answers the first with the worst verdict, which says how many there are."""
    worst = min(answers, key=lambda one: WORST.index(one["verdict"]))
    if len(answers) > 1 and worst["verdict"] != NOT_COMPARABLE:
        same = sum(one["verdict"] == worst["verdict"] for one in answers)
        worst["reason"] = f"{same} of {len(answers)}; {worst['of']}: {worst['reason']}"
    return worst


def _barrier(claim: ledger.Claim, protocol: str, manifest: pd.DataFrame) -> tuple[str, str] | None:
    if claim.kind == "quoted":
        return QUOTED, "not run again"
    rule, there = claim.rules[protocol], set(manifest["dataset"])
    if "cannot" in rule:
        return CANNOT_BE_ASKED, f"missing: {rule['cannot']}"
    for name, why in claim.needs.get("essential", {}).items():
        if name not in there:
            return CANNOT_BE_ASKED, f"{why}; with {name} it could be asked"
    return None


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
    other = rule.get("minus", 0.0)
    other = _cell(claim, other, tables) if isinstance(other, dict) else exact(other)
    if not rows or not rows[0]["n"] or not other:
        return None
    cell = rows[0] | {"of": ", ".join(str(rows[0].get(key, "")) for key in ("task", "metric"))}
    if "minus" in rule:
        names = render.sources(f"{cell['source_run']}, {other['source_run']}")
        cell |= difference(interval(cell), interval(other))._asdict()
        cell |= {"ours": cell["value"], "source_run": ", ".join(dict.fromkeys(names))}
    return cell


def _otherness(claim: ledger.Claim, profile: str, manifest: pd.DataFrame) -> str:
    if kind(manifest) == "phantom":
        return "simulated scans"
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


def collect(tables: Mapping[str, pd.DataFrame], profile: str, widened: float = 1.0) -> pd.DataFrame:
    """Both answers to each claim, and the quoted works: `SHARED`, and `ANSWER` with `PREFIXES`."""
    manifest, rows = saved_manifest(profile), []
    for claim in (*ledger.of_kind("claim"), *ledger.of_kind("quoted")):
        line = {"id": claim.id, "where": claim.where, "claim": _asked(claim)}
        unit = "fraction" if claim.over else claim.unit
        line |= {"metric": claim.metric, "unit": unit, "paper": claim.text}
        metric = next((cell["metric"] for name in claim.rules for cell in claim.cells(name)), "")
        line |= {"paper_n": claim.n, "margin": ledger.margins().get(metric.partition(" ")[0])}
        for protocol, prefix in PREFIXES.items():
            found = answer(claim, protocol, tables, profile, manifest, widened)
            line["unit"] = found.pop("unit", line["unit"])
            line |= {f"{prefix}_{name}": found[name] for name in ANSWER}
        rows.append(line)
    columns = [f"{prefix}_{name}" for prefix in PREFIXES.values() for name in ANSWER]
    return pd.DataFrame(rows, columns=[*SHARED, *columns]).astype({"paper_n": "Int64"})


def _asked(claim: ledger.Claim) -> str:
    classes = f"{claim.classes} classes" if claim.classes else ""
    class_ = registry.name_of(claim.class_ or "")
    parts = (claim.metric, claim.work, classes, claim.subset, claim.modality, class_)
    return ", ".join(part for part in parts if part)


def load(profile: str) -> pd.DataFrame:
    """Verdicts as `tables.write_all` left them; see `collect` and `runs.read_table`."""
    return runs.read_table(profile, "verdicts")


def answers(table: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """One of the two answers to each claim: `SHARED` and `ANSWER`."""
    names = {f"{prefix}_{name}": name for name in ANSWER}
    return table[[*SHARED, *names]].rename(columns=names)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Verdicts for people, all text: what is claimed, both answers, and why."""
    text = table[["id", "where", "claim"]].assign(paper=render.stated(table))
    for prefix, (value, verdict) in zip(PREFIXES.values(), HEADINGS, strict=True):
        part = answers(table, prefix)
        text[value] = [render.with_interval(row) for row in part.itertuples()]
        text[verdict] = part["verdict"]
    first, second = (table[f"{prefix}_reason"] for prefix in PREFIXES.values())
    both = "As published: " + first + ". Patients apart: " + second
    return text.assign(reason=both.where(first != second, first))


def summary(table: pd.DataFrame) -> str:
    """How many claims come out under either protocol, in a sentence; quoted works do not count."""
    table = own(table)
    published, honest = (table[f"{name}_verdict"] for name in PREFIXES.values())
    is_out, is_held = published == REPRODUCED, honest == REPRODUCED
    cannot = (published == CANNOT_BE_ASKED) & (honest == CANNOT_BE_ASKED)
    text = f"Of {len(table)} claims {is_out.sum()} come out as published; of these "
    text += f"{(is_out & is_held).sum()} hold with patients apart; {cannot.sum()} cannot be asked"
    verbs = {NOT_COMPARABLE: "are not comparable", NO_DATA: "were not run"}
    unsure = {words: (published == name).sum() for name, words in verbs.items()}
    return "; ".join([text, *(f"{n} {words}" for words, n in unsure.items() if n)]) + "."


def other_margins(tables: Mapping[str, pd.DataFrame], profile: str) -> str:
    """Which verdicts would be others with margins half and twice as wide, in a sentence."""
    found, texts = collect(tables, profile), []
    for words, factor in (("half", 0.5), ("twice", 2.0)):
        other, changed = collect(tables, profile, factor), []
        for prefix, (title, _) in zip(PREFIXES.values(), HEADINGS, strict=True):
            name = f"{prefix}_verdict"
            different = other[other[name] != found[name]]
            changed += (different["id"] + f" {title}: " + different[name]).tolist()
        named = f" ({'; '.join(changed)})" if changed else ""
        texts.append(f"{len(changed)} with margins {words} as wide{named}")
    return f"Of {2 * len(own(found))} verdicts these would be others: {', and '.join(texts)}."


def tally(table: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Verdict -> number of claims, as published and with patients apart."""
    counts = [own(table)[f"{name}_verdict"].value_counts() for name in PREFIXES.values()]
    return {name: tuple(int(of.get(name, 0)) for of in counts) for name in VERDICTS}


def own(table: pd.DataFrame) -> pd.DataFrame:
    """Without the values that the paper quotes from others."""
    return table[table["honest_verdict"] != QUOTED]


def markdown(table: pd.DataFrame) -> str:
    """Both answers to each claim that can be asked, as a Markdown table without reasons."""
    text = readable(own(table))
    is_asked = (text[[verdict for _, verdict in HEADINGS]] != CANNOT_BE_ASKED).any(axis=1)
    return render.markdown(text[is_asked].drop(columns=["id", "reason"]))


def terminal(table: pd.DataFrame) -> str:
    """The verdicts for a terminal: one line each, without the quoted works, then the sum."""
    room = {"where": 11, "claim": 22, "paper": 10, "as published": 22, "patients apart": 22}
    lines = _wrapped(dict(zip(room, room, strict=True)), room)
    lines.append("-" * (sum(room.values()) + 2 * (len(room) - 1)))
    for row in readable(own(table)).to_dict("records"):
        for value, verdict in HEADINGS:
            row[value] = ", ".join(filter(None, (row[value], row[verdict])))
        lines += _wrapped(row, room)
    return "\n".join([*lines, "", summary(table)])


def _wrapped(row: Mapping[str, str], room: Mapping[str, int]) -> list[str]:
    columns = [textwrap.wrap(row[name], size) or [""] for name, size in room.items()]
    return [
        "  ".join(part.ljust(n) for part, n in zip(line, room.values(), strict=True)).rstrip()
        for line in zip_longest(*columns, fillvalue="")
    ]
