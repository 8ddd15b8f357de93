"""The page that every number leads to: what each run was told, on which data, with which code."""

from __future__ import annotations

from typing import Any

from covid_utils.report import verdicts
from covid_utils.report.site import markup, views
from covid_utils.report.site.contents import Results

#: Page of each of the paper's tables.
PAGES = {
    "table1": "data.html",
    "table2": "task1.html",
    "table3": "task1.html",
    "table4": "task1.html",
    "table5": "task2.html",
    "table6": "task3.html",
    "table7": "comparison.html",
    "table8": "comparison.html",
    "table9": "comparison.html",
}
UNKNOWN = "not recorded"


def facts(provenance: dict[str, Any]) -> str:
    """Code, packages, data, machine and times of a run."""
    return markup.facts(
        [
            ("code, git revision", _text(provenance.get("revision"))),
            ("Python", _text(provenance.get("python"))),
            ("packages", _packages(provenance.get("packages"))),
            ("images", _text(provenance.get("images"))),
            ("data, SHA-256", _text(provenance.get("data_sha256"))),
            ("device", _text(provenance.get("device"))),
            ("processor", _text(provenance.get("processor"))),
            ("threads", _threads(provenance)),
            ("time on the clock", duration(provenance.get("wall_seconds"))),
            ("processor time", duration(provenance.get("cpu_seconds"))),
            ("peak memory", _memory(provenance.get("peak_memory_mb"))),
        ]
    )


def parameters(provenance: dict[str, Any]) -> str:
    """Everything that was set."""
    settings = provenance.get("parameters") or {}
    return markup.facts([(name, setting(value)) for name, value in sorted(settings.items())])


def setting(value: Any) -> str:
    """A parameter's value for people."""
    if isinstance(value, list):
        return ", ".join(setting(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value) or "(empty)"


def duration(seconds: float | None) -> str:
    """A time as minutes and seconds."""
    if seconds is None:
        return UNKNOWN
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def departures(results: Results, run: str) -> str:
    """Settings of a run that are not the paper's, as one text; '' if none is known."""
    return ", ".join(verdicts.of_profile(results.profile).departures(run))


def uses(results: Results, run: str) -> list[tuple[str, str]]:
    """Where numbers of a run are shown: name and address of each place."""
    found = []
    for name, table in results.tables.items():
        if run in views.runs_behind(table):
            number = name.removeprefix("table")
            found.append((f"Table {number}", f"{PAGES[name]}#table-{number}"))
    if run in views.runs_behind(results.verdicts):
        found.insert(0, ("verdicts", "index.html#verdicts"))
    return found


def _text(value: Any) -> str:
    return UNKNOWN if value is None else str(value)


def _packages(packages: dict[str, str] | None) -> str:
    return ", ".join(f"{n} {v}" for n, v in sorted((packages or {}).items())) or UNKNOWN


def _threads(provenance: dict[str, Any]) -> str:
    threads = _text(provenance.get("threads"))
    known = {True: ", with oneDNN", False: ", without oneDNN"}
    return threads + known.get(provenance.get("onednn"), "")


def _memory(megabytes: float | None) -> str:
    return UNKNOWN if megabytes is None else f"{megabytes / 1024:.1f} GB"
