"""Tables as documents for people: Markdown and HTML beside the CSV."""

from __future__ import annotations

from html import escape
from pathlib import Path

import pandas as pd

from covid_utils.report import cells
from covid_utils.writing import whole

LEGEND = (
    "ours: value and 95 % interval, where there are cases enough for one; n: test cases; paper: "
    "what the paper's prose states, the bodies of its tables are not available; verdict: whether "
    "the paper's value lies in our interval, or, of a difference, whether it is above 0."
)
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; }}
body {{ padding: 0 1rem; }}
div {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
caption {{ font-weight: 600; text-align: left; padding-bottom: .5rem; }}
th, td {{ padding: .3rem .7rem; text-align: left; vertical-align: top; }}
thead th {{ border-bottom: 2px solid; }}
tbody td {{ border-bottom: 1px solid #8886; }}
</style>
</head>
<body>
<div role="region" aria-label="{title}" tabindex="0">
{table}
</div>
<p>Profile <code>{profile}</code>. {legend}</p>
</body>
</html>
"""


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """A table as people read it: text in every cell, numbers rounded where they carry a unit."""
    if set(cells.VALUES) <= set(table.columns):
        table = cells.readable(table)
    return table.map(_text)


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.4g}"
    return str(value)


def markdown(table: pd.DataFrame) -> str:
    """A table of texts in Markdown, without a line end at the end."""
    lines = [table.columns, ["---"] * len(table.columns), *table.to_numpy()]
    return "\n".join("| " + " | ".join(_in_cell(cell) for cell in line) + " |" for line in lines)


def _in_cell(value: object) -> str:
    """Text that does not end a cell of Markdown."""
    return str(value).replace("|", "\\|").replace("\n", " ")


def html(table: pd.DataFrame, title: str, profile: str) -> str:
    """A table of texts as a whole page that needs nothing else."""
    body = table.to_html(index=False, border=0, escape=True)
    body = body.replace("<th>", '<th scope="col">')
    body = body.replace("<thead>", f"<caption>{escape(title)}</caption>\n<thead>", 1)
    return PAGE.format(title=escape(title), table=body, profile=escape(profile), legend=LEGEND)


def write(table: pd.DataFrame, path: Path, title: str, profile: str) -> None:
    """Write a table as ``<path>.md`` and ``<path>.html``, each whole or not at all.

    Args:
        table: Any table; one that ends with `cells.VALUES` is shortened by `cells.readable`.
        path: Without an ending.
        title: Heading.
        profile: Whose numbers these are.
    """
    text = shown(table)
    made = {
        ".md": f"# {title}\n\n{markdown(text)}\n\nProfile `{profile}`. {LEGEND}\n",
        ".html": html(text, title, profile),
    }
    for ending, content in made.items():
        with whole(path.with_name(path.name + ending)) as partial:
            partial.write_text(content, encoding="utf8")
