"""Put the numbers of results/sample into README.md and docs/protocol.md; for maintainers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import pandas as pd

from covid_utils import paths, runs
from covid_utils.registry import CONDITIONS, FINE_TUNED, condition_run
from covid_utils.report import claims, render, tables, verdicts
from covid_utils.report.verdicts import CANNOT_BE_TESTED

#: Scores that docs/protocol.md shows beside what was expected: words -> rows of the table.
ACCURACY = {"metric": "accuracy", "subset": "test", "class": "all"}
DICE = {"metric": "dice", "average": "per_image", "labels": "exact", "model": "deeplab"}
SHOWN = {
    "two classes": {"task": "2 classes"} | ACCURACY,
    "four classes": {"task": "4 classes"} | ACCURACY,
    "CT": {"task": "CT"} | ACCURACY,
    "X-ray and CT": {"task": "X-ray + CT"} | ACCURACY,
    "adults without a finding called COVID-19": {"task": "2 classes", "metric": "false positives"},
    "any lesion": {"task": "stream all", "class": "lesion"} | DICE,
    "ground-glass": {"task": "stream ggo", "class": "ggo"} | DICE,
    "manifestations": {"task": "manifestations", "metric": "accuracy", "class": "overall"},
}
#: Model -> what is written before its value.
MODELS = {
    "head": "",
    "deeplab": "",
    "network": "",
    "fine-tuned": "",
    "head, as many images": "frozen, same images ",
    "modality only": "modality only ",
    "nearest neighbour": "nearest neighbour ",
}
#: Row of the trainings with more steps, of which the table has a task each.
LONGER = "S0 and S3"


def filled(text: str) -> str:
    """README with the verdicts and the key numbers of the ``sample`` profile."""
    found = verdicts.own(runs.read_table("sample", "verdicts"))
    parts = {
        "verdicts": f"**{verdicts.summary(found)}**",
        "answers": answers(found),
        "numbers": key_numbers(),
    }
    for part, content in parts.items():
        begin, end = f"<!-- {part}: sample -->", f"<!-- end of {part} -->"
        if begin not in text or end not in text:
            raise SystemExit(f"README.md: the marks {begin} and {end} are missing; put them back.")
        before, rest = text.split(begin, 1)
        text = f"{before}{begin}\n{content}\n{end}{rest.split(end, 1)[1]}"
    return text


def answers(found: pd.DataFrame) -> str:
    """Both answers to each claim that can be asked, as a Markdown table without reasons."""
    text = verdicts.readable(found)
    is_asked = (
        text[[verdict for _, verdict in verdicts.HEADINGS.values()]] != CANNOT_BE_TESTED
    ).any(axis=1)
    return render.markdown(text[is_asked].drop(columns=["id", "reason"]))


def key_numbers() -> str:
    """The headline numbers that have a place in the README, as a Markdown table."""
    places = {entry["question"]: entry.get("readme") for entry in claims.read("headlines")}
    table = tables.headlines("sample")
    table = table.assign(place=table["question"].map(places)).dropna(subset="place")
    return render.markdown(render.readable(table.sort_values("place").drop(columns="place")))


def protocol(text: str) -> str:
    """The page of the conditions, with what came out in the last cell of each row."""
    table = runs.read_table("sample", "tables/conditions")
    lines = []
    for line in text.splitlines():
        cells = line.split(" | ")
        names = re.findall(r"\b[RMST]\d\b", cells[0]) if line.startswith("| ") else []
        if len(cells) == 4 and names and set(names) <= set(CONDITIONS):
            came_out = _came_out(table, cells[0], names)
            cells[3] = f"{came_out or 'not run'} |"
        lines.append(" | ".join(cells))
    return "\n".join(lines) + "\n"


def _came_out(table: pd.DataFrame, title: str, names: list[str]) -> str:
    is_tuned = table["source_run"] == condition_run(FINE_TUNED)
    if FINE_TUNED in names:  # its rows are those of the conditions whose images it learns from
        return _outcome(table[is_tuned], ("R0", "R3"))
    rows = table[table["condition"].isin(names) & ~is_tuned]
    return _longer(rows) if LONGER in title else _outcome(rows, names)


def _outcome(rows: pd.DataFrame, names: Iterable[str]) -> str:
    """Scores of one row of the page; of several conditions each with its name."""
    texts = []
    for name in names:
        own = rows[rows["condition"] == name]
        for words, keys in SHOWN.items():
            part = runs.select(own, **keys).drop_duplicates("model").set_index("model")
            title = f"{name}, {words} " if len(names) > 1 else f"{words} "
            values = [
                f"{label}{render.with_interval(part.loc[model])}"
                for model, label in MODELS.items()
                if model in part.index
            ]
            texts += [title + ", ".join(values)] if values else []
    return "; ".join(texts)


def _longer(rows: pd.DataFrame) -> str:
    """Dice of any lesion of the trainings with more steps."""
    rows = runs.select(rows, **DICE | {"class": "lesion"})
    rows = rows[rows["task"].str.fullmatch(r"stream all, \d+ steps")]
    steps = rows["task"].str.extract(r"(\d+) steps", expand=False)
    values = zip(
        rows["condition"], steps, map(render.with_interval, rows.itertuples()), strict=True
    )
    return "; ".join(f"{name}, {count} steps: {value}" for name, count, value in values)


def _write(name: str, change: Callable[[str], str]) -> None:
    path = paths.PROJECT / name
    path.write_text(change(path.read_text(encoding="utf8")), encoding="utf8")


if __name__ == "__main__":
    _write("README.md", filled)
    _write("docs/protocol.md", protocol)
