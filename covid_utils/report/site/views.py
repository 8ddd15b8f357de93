"""How each of the nine tables is shown: what stands in rows, what in columns, what is left out.

The files hold a score a row, which is right for programs and too long for people. A view shows a
part of a table, either wide (a column a kind of score) or row by row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from covid_utils.registry import NAMES
from covid_utils.report import cells, render
from covid_utils.report import claims as ledger
from covid_utils.report.site import markup
from covid_utils.report.site.contents import ORIGIN, Results
from covid_utils.report.site.markup import Cell
from covid_utils.report.tables import TASK_RUNS

#: The run that reads and splits the images.
DATA = "data"
NO_BREAK = "\u00a0"
Choice = Callable[[pd.DataFrame], pd.Series]
#: Words of the files -> how a page says them.
WORDS = NAMES | {
    "dice": "Dice",
    "dice, mean over 256 thresholds": "Dice, mean over 256 thresholds",
    "dice difference": "difference in Dice",
    "accuracy difference": "difference in accuracy",
    "iou": "IoU",
    "per_image": "per image",
    "mcc": "MCC",
    "f1": "F1",
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "lesion": "any lesion",
    "mean": "mean with background",
    "all": "all",
}


@dataclass(frozen=True)
class View:
    """A part of a table, as people see it.

    Attributes:
        title: Caption, after the table's number.
        chosen: Which rows it shows.
        keys: Columns that name a row, if it is wide; else none.
        across: Columns that name a score, if it is wide.
        without: Columns that it leaves out, if it goes row by row.
    """

    title: str
    chosen: Choice
    keys: tuple[str, ...] = ()
    across: tuple[str, ...] = ("metric",)
    without: tuple[str, ...] = ()


def _is_difference(table: pd.DataFrame) -> pd.Series:
    return table["metric"].str.endswith("difference")


def _is_ours(table: pd.DataFrame) -> pd.Series:
    return (table["n"] > 0) & ~_is_difference(table)


def _is_quoted(table: pd.DataFrame) -> pd.Series:
    return (table["n"] == 0) & (table["paper"] != cells.NOT_AVAILABLE)


def _is_stated(table: pd.DataFrame) -> pd.Series:
    return _is_ours(table) & (table["claim"] != "")


def _labels(wanted: str) -> Choice:
    # Gains over other work stand beside the paper's, not among the scores.
    return lambda table: (
        _is_ours(table) & (table["labels"] == wanted) & ~table["metric"].str.contains(" gain ")
    )


#: The caption says what is subtracted, and a statement that one beats another has no number.
DIFFERENCE = ("metric", "paper")
BESIDE = "Beside what the paper states"
EXACT = "slices with exactly labelled classes"
WEAK = "all test slices, weak class labels among them"
PER_CLASS = ("metric", "average")
VIEWS: dict[str, tuple[View, ...]] = {
    "table2": (View("Recognition: accuracy on each subset", _is_ours, without=("metric",)),),
    "table3": (
        View("Recognition, ours and rules that look at no lung", _is_ours, ("work", "class")),
        View(
            "Differences in accuracy on the same images",
            _is_difference,
            without=("class", *DIFFERENCE),
        ),
        View(BESIDE, _is_stated, without=("class",)),
        View("What the paper quotes", _is_quoted, without=("class", "ours", "n", "verdict")),
    ),
    "table4": (
        View("Accuracy of each run", _is_ours, ("run",), ("tested on",)),
        View("Differences in accuracy", _is_difference, without=DIFFERENCE),
        View(BESIDE, _is_stated),
    ),
    "table5": (
        View(f"Manifestations: {WEAK}", _labels("all"), ("manifestation", "work")),
        View(f"Manifestations: {EXACT}", _labels("exact"), ("manifestation", "work")),
        View(BESIDE, _is_stated),
    ),
    "table6": (
        View(f"Streams: {EXACT}", _labels("exact"), ("work", "class"), PER_CLASS),
        View(f"Streams: {WEAK}", _labels("all"), ("work", "class"), PER_CLASS),
        View("Differences in Dice, first minus second", _is_difference, without=DIFFERENCE),
        View(BESIDE, _is_stated),
    ),
    "table7": (
        View(f"Each manifestation: {EXACT}", _labels("exact"), ("class", "work"), PER_CLASS),
        View(f"Each manifestation: {WEAK}", _labels("all"), ("class", "work"), PER_CLASS),
        View(BESIDE, _is_stated),
        View("What others report", _is_quoted, without=("ours", "n", "labels", "verdict")),
    ),
    "table9": (View("Time for one image, one slice, one case", _is_ours, without=("metric",)),),
    "table8": (
        View("The extent of disease", _is_ours, ("work",), PER_CLASS),
        View(BESIDE, _is_stated),
        View("What others report", _is_quoted, without=("ours", "n", "verdict")),
    ),
}
#: What is shown of the table of counts, whose numbers stand in columns of their own.
COUNTS = "Images of each task, and who they are of"
COUNTS_WITHOUT = ("claim", "unused")


def show(results: Results, name: str) -> str:
    """All views of a table, as HTML."""
    number = name.removeprefix("table")
    link = (
        f'<p class="download"><a href="tables/{name}.csv" download>{name}.csv</a> '
        f"has every row of Table {number}, with all digits.</p>"
    )
    table = results.tables[name]
    if "metric" not in table:
        made = plain(results, table, f"Table {number}. {COUNTS}", COUNTS_WITHOUT)
        return f'<div id="table-{number}">{made}{link}</div>'
    views = [view for view in VIEWS[name] if view.chosen(table).any()]
    signs = [""] if len(views) == 1 else [chr(ord("a") + i) for i in range(len(views))]
    shown = [
        part(results, table, view, f"Table {number}{sign}. {view.title}")
        for sign, view in zip(signs, views, strict=True)
    ]
    return f'<div id="table-{number}">{"".join(shown)}{link}</div>'


def part(results: Results, table: pd.DataFrame, view: View, caption: str) -> str:
    """One view of a table, with the notes that hold for it."""
    rows = table[view.chosen(table)].reset_index(drop=True)
    named = [*view.keys, *view.across]
    if view.keys and set(named) <= set(rows) and not rows.duplicated(named).any():
        return wide(results, rows, view, caption)
    return long(results, rows, view.without, caption)


def wide(results: Results, rows: pd.DataFrame, view: View, caption: str) -> str:
    """A table with a column a kind of score."""
    keys, across = list(view.keys), list(view.across)
    found = dict(zip(_tuples(rows, [*keys, *across]), number_cells(results, rows), strict=True))
    columns = _tuples(rows[across].drop_duplicates(), across)
    body = [
        [Cell(word(value)) for value in row]
        + [found.get((*row, *column), Cell("")) for column in columns]
        for row in _tuples(rows[keys].drop_duplicates(), keys)
    ]
    titles = [", ".join(word(value) for value in column) for column in columns]
    common, special = split_notes(rows)
    said = common + [f"{note} ({_whose(rows, note)})" for note in special]
    # What is said of the paper's values has no place where they are not shown.
    derived = [claim.how for claim in ledger.load().values() if claim.how]
    said = [n for n in said if "paper" not in n and not any(how in n for how in derived)]
    return markup.table(caption, [*keys, *titles], body) + markup.notes(said)


def long(results: Results, rows: pd.DataFrame, without: Sequence[str], caption: str) -> str:
    """A table with a row a score."""
    text = render.readable(rows).drop(columns=["verdict", "note", *without], errors="ignore")
    columns = {name: [Cell(word(value)) for value in text[name]] for name in text}
    hrefs = [origin(results, runs) for runs in rows["source_run"]]
    for name in text.select_dtypes("float"):  # a number of ours that has no unit of its own
        pairs = zip(text[name], hrefs, strict=True)
        columns[name] = [replace(number(value), href=href) for value, href in pairs]
    if "ours" in columns:
        columns["ours"] = number_cells(results, rows)
    if "Wilson" in columns:
        columns["Wilson"] = [Cell(unbroken(limits)) for limits in text["Wilson"]]
    for name in ("n", "paper"):
        if name in columns:
            columns[name] = [number(value) for value in text[name]]
    if rows["verdict"].ne("").any() and "verdict" not in without:
        columns["verdict"] = _verdict_cells(results, rows)
    common, special = split_notes(rows)
    if special:
        kept = [[part for part in _parts(note) if part in special] for note in rows["note"]]
        columns["note"] = [Cell("; ".join(parts)) for parts in kept]
    body = [list(row) for row in zip(*columns.values(), strict=True)]
    return markup.table(caption, list(columns), body) + markup.notes(common)


def plain(results: Results, table: pd.DataFrame, caption: str, without: Sequence[str]) -> str:
    """The table of counts. Each count of ours leads to where it was counted."""
    shown = table.drop(columns=[*without, *ORIGIN], errors="ignore").fillna("")
    body = []
    for row in shown.to_dict("records"):
        made = {name: number(value) for name, value in row.items()}
        for name, cell in made.items():
            if cell.sort is not None and not name.startswith("paper"):
                made[name] = replace(cell, href=origin(results, _counted(row["task"], name)))
        body.append(list(made.values()))
    return markup.table(caption, list(shown), body)


def runs_behind(table: pd.DataFrame) -> set[str]:
    """Runs that a table's numbers come from."""
    found = {run for names in table["source_run"].unique() for run in cells.sources(names)}
    if "task" in table and "metric" not in table:
        found |= {_counted(task, name) for task in table["task"] for name in table}
    return found


def _counted(task: str, column: str) -> str:
    """Run that counted images: those that were shown to a network are counted by its training."""
    trained, _ = TASK_RUNS.get(task, (DATA, ""))
    return trained if column.endswith(" after") else DATA


def number_cells(results: Results, rows: pd.DataFrame) -> list[Cell]:
    """Our numbers with their intervals, each a link to the run that it comes from."""
    return [
        Cell(
            render.with_interval(row),
            None if pd.isna(row.ours) else float(row.ours),
            origin(results, row.source_run),
        )
        for row in rows.itertuples()
    ]


def origin(results: Results, runs: str) -> str:
    """Address of the provenance of a number, '' if it is not known or no run of this profile."""
    known = [name for name in cells.sources(runs) if name in results.provenance]
    return markup.run_href(known[0]) if known else ""


def word(value: object) -> str:
    """A value of a key column as a page says it."""
    return WORDS.get(str(value)) or phrase(str(value))


def unbroken(text: str) -> str:
    """A text that is never cut in two at the end of a line, or after a comma only."""
    return re.sub(r"(?<!,) ", NO_BREAK, text) if "[" not in text else text.replace(" ", NO_BREAK)


def phrase(text: str) -> str:
    """A text in which names of the files stand among words, as a page says it."""
    return re.sub(r"\b(dice|iou|mcc|f1|ggo)\b", lambda found: WORDS[found[0]], text)


def _verdict_cells(results: Results, rows: pd.DataFrame) -> list[Cell]:
    known = set(results.verdicts["id"])
    return [
        Cell(verdict, href=markup.claim_href(claim) if claim in known else "", verdict=verdict)
        for verdict, claim in zip(rows["verdict"], rows["claim"], strict=True)
    ]


def number(value: object) -> Cell:
    """A cell that sorts as a number if it begins with one."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    found = re.match(r"[-+]?\d+(\.\d+)?(?![\w:])", text)
    return Cell(word(text), float(found[0]) if found else None)


def _tuples(table: pd.DataFrame, columns: list[str]) -> list[tuple]:
    return list(table[columns].itertuples(index=False, name=None))


def _parts(note: str) -> list[str]:
    return [part for part in note.split("; ") if part]


def split_notes(rows: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Parts of the notes that all rows share, and those that only some have."""
    if "note" not in rows or rows.empty:
        return [], []
    of_rows = [_parts(note) for note in rows["note"]]
    known = list(dict.fromkeys(part for parts in of_rows for part in parts))
    common = [part for part in known if all(part in parts for parts in of_rows)]
    return common, [part for part in known if part not in common]


def _whose(rows: pd.DataFrame, note: str) -> str:
    """Which rows a note is of, by the column that tells most."""
    of = [note in _parts(text) for text in rows["note"]]
    names = rows.loc[of, "work" if "work" in rows else rows.columns[0]].astype(str)
    found = list(dict.fromkeys(names))
    return ", ".join(found) if len(found) <= 2 else f"{found[0]} and {len(found) - 1} others"
