"""Tables of the site as HTML, in which each number is a link to the page of its run."""

from __future__ import annotations

import re
from html import escape

import pandas as pd

from covid_utils.registry import DATA, NAMES
from covid_utils.report import render, stream_tables, verdicts
from covid_utils.report.tables import TASK_RUNS, TITLES

#: Words of the files, and how a page writes them: as a whole cell, and inside a text.
WORDS = NAMES | {"per_image": "per image", "roc_auc": "ROC AUC", "all": "all"}
WORDS |= {"average_precision": "average precision", "mean": "mean with background"}
INSIDE = {"dice": "Dice", "iou": "IoU", "mcc": "MCC", "f1": "F1", "ggo": NAMES["ggo"]}
#: Values of the column ``labels``, and what a caption says of them.
LABELS = {"exact": ": slices with exactly labelled classes", "": ""}
LABELS |= {"all": ": all test slices, weak class labels among them"}


def words(value: object) -> str:
    """A value of a table as a page writes it, escaped."""
    text = WORDS.get(str(value), str(value))
    return escape(re.sub(rf"\b({'|'.join(INSIDE)})\b", lambda match: INSIDE[match[0]], text))


def table(content: pd.DataFrame, caption: str) -> str:
    """A table of HTML cells with a caption."""
    body = content.to_html(index=False, escape=False, border=0, justify="left")
    return body.replace("<thead>", f"<caption>{escape(caption)}</caption><thead>", 1)


def numbers(rows: pd.DataFrame) -> list[str]:
    """Our values with intervals, linked to their rows, the index, on the page of the first run."""
    linked = []
    for row in rows.itertuples():
        text = re.sub(r" (?!\[)", "&nbsp;", escape(render.with_interval(row)))
        of = render.sources(row.source_run)
        link = f'<a class="origin" href="runs/{of[0]}.html#{row.Index}">{text}</a>' if of else text
        linked.append(link if text else "")
    return linked


def number(rows: pd.DataFrame) -> str:
    """The number of the first row."""
    return "".join(numbers(rows[:1])) or "not measured in this profile"


def verdict(name: str) -> str:
    """A verdict with its colour and shape."""
    return f'<span class="verdict {name.replace(" ", "-")}">{name}</span>' if name else ""


def show(name: str, rows: pd.DataFrame) -> str:
    """Rows of one of the paper's tables: scores, then differences and what is stated elsewhere."""
    title = TITLES[name]
    link = f'<a href="tables/{name}.csv" download>{name}.csv</a>'
    download = f'<p class="download">Every row, all digits: {link}</p>'
    if "metric" not in rows:
        return table(_counts(rows), title) + download
    is_gap = rows["metric"].str.contains(" gain |difference$")
    scores = rows[(rows["n"] > 0) & ~is_gap]
    if scores["metric"].nunique() <= 1 and "average" not in rows:
        return long(rows, title) + download
    parts = scores.groupby(scores.get("labels", pd.Series("", scores.index)), sort=False)
    html = "".join(wide(part, title + LABELS[kind]) for kind, part in parts)
    is_stated = rows["note"].str.startswith(render.NO_DATA)
    is_stated |= (rows["claim"] != "") | (rows["n"] == 0) & (rows["paper"] != render.NOT_AVAILABLE)
    caption = f"{title}: beside what the paper and others state, and differences"
    return html + long(rows[is_gap | is_stated], caption) + download


def hospitals(content: dict[str, pd.DataFrame]) -> str:
    """What networks reach on slices of other hospitals, step by step, if they were tested there."""
    if "hospitals" not in content:
        return "<p>No data: they were not tested in this profile.</p>"
    rows = stream_tables.sides(content["hospitals"])
    return wide(rows, TITLES["hospitals"] + ": mean Dice of lesions")


def _counts(rows: pd.DataFrame) -> pd.DataFrame:
    """Numbers of images, each a link to the run that counted them."""
    rows = rows.drop(columns=["claim", "unused"]).astype(str)
    trained = rows["task"].map({task: run for task, (run, _) in TASK_RUNS.items()})
    for name in [name for name in rows if "paper" not in name]:
        runs = trained if name.endswith(" after") else pd.Series(DATA, rows.index)
        links = '<a class="origin" href="runs/' + runs + '.html">' + rows[name] + "</a>"
        rows[name] = links.where(rows[name].str.isdecimal(), rows[name].map(words))
    return rows


def wide(rows: pd.DataFrame, caption: str) -> str:
    """Scores with one column per metric."""
    across = [name for name in ("metric", "average") if name in rows]
    keys = [c for c in rows if c not in (*render.VALUES, *render.WILSON, *across, "labels")]
    names = [", ".join(map(words, row)) for row in rows[across].itertuples(index=False)]
    filled = rows.assign(names=names, linked=numbers(rows))
    form = {"columns": "names", "values": "linked", "aggfunc": "first", "sort": False}
    shown = filled.pivot_table(index=keys, **form).fillna("")
    extremes = rows.groupby(keys)["n"].agg(["min", "max"]).astype(str).agg("–".join, axis=1)
    shown["n"] = extremes.str.replace(r"^(.+)–\1$", r"\1", regex=True)
    shown = shown.reset_index().rename_axis(columns=None)
    shown[keys] = shown[keys].map(words)
    # The paper's values are not shown here, and so no notes on them.
    notes = rows["note"].str.replace(r"(^|; )[^;]*paper[^;]*", "", regex=True)
    return table(shown, caption) + _notes(rows.assign(note=notes.str.removeprefix("; ")))


def long(rows: pd.DataFrame, caption: str) -> str:
    """Scores row by row; nothing for no rows."""
    if rows.empty:
        return ""
    text = render.readable(rows).drop(columns="note", errors="ignore")
    text = text.replace({"run": {"mean": "mean of runs"}}).map(words)
    text["ours"] = numbers(rows)
    if rows["claim"].any():
        links = '<a class="reason" href="index.html#claim-' + rows["claim"] + '">'
        text["claim"] = (links + rows["claim"] + "</a>").where(rows["claim"] != "", "")
    return table(text, caption) + _notes(rows)


def _notes(rows: pd.DataFrame) -> str:
    """What must be known of the numbers above, with the rows that a note holds for."""
    parts = rows.assign(part=rows["note"].str.split("; ")).explode("part")
    items = []
    for note, part in parts[parts["part"] != ""].groupby("part", sort=False):
        names = part["work" if "work" in part else part.columns[0]].astype(str).unique()
        some = "; ".join(names[:2]) + (f"; {len(names) - 2} more" if len(names) > 2 else "")
        items.append(words(note if len(part) == len(rows) else f"{note} ({some})"))
    return f'<ul class="notes"><li>{"</li><li>".join(items)}</li></ul>' if items else ""


def verdict_table(rows: pd.DataFrame, answers: dict[str, pd.DataFrame], caption: str) -> str:
    """Claims of the paper with both of our answers, as `numbers` takes them, and the reasons."""
    text = verdicts.readable(rows).drop(columns="id").map(words)
    text["where"] = '<span id="claim-' + rows["id"] + '"></span>' + text["where"]
    for answer, (value, word) in zip(answers.values(), verdicts.HEADINGS.values(), strict=True):
        text[value] = numbers(answer)
        text[word] = [*map(verdict, answer["verdict"])]
    return table(text, caption)


def quoted_table(rows: pd.DataFrame, caption: str) -> str:
    """What the paper quotes of others."""
    text = rows[["where", "claim"]].assign(paper=render.stated(rows)).map(words)
    text["where"] = '<span id="claim-' + rows["id"] + '"></span>' + text["where"]
    return table(text, caption)


def tally(judged: pd.DataFrame) -> str:
    """How many of the paper's claims got which verdict, as published and with patients apart."""
    counts = verdicts.tally(judged).items()
    items = [f"<li><span>{a} | {b}</span> {verdict(name)}</li>" for name, (a, b) in counts if a + b]
    return f'<ul class="tally">{"".join(items)}</ul>'
