"""The few numbers that a reader looks for first, taken from the written tables.

``paper/headlines.yaml`` names the question and the row of a table that answers it.
"""

from __future__ import annotations

import pandas as pd
import yaml

from covid_utils import paths
from covid_utils.data.manifest import left_out
from covid_utils.errors import ResultsError
from covid_utils.report import render
from covid_utils.report.render import NOTHING, VALUES
from covid_utils.runs import read_table, select


def _entries() -> list[dict]:
    return yaml.safe_load(paths.HEADLINES.read_text(encoding="utf8"))


def collect(profile: str) -> pd.DataFrame:
    """Headline numbers of a profile, with the columns ``question`` and `VALUES`."""
    rows = []
    for entry in _entries():
        rule = dict(entry["rule"])
        name, is_optional = rule.pop("table"), entry.get("optional")
        path = paths.results(profile) / "tables" / f"{name}.csv"
        if is_optional and not path.is_file():
            continue
        row = select(read_table(profile, f"tables/{name}"), **rule).head(1)
        if row.empty and not is_optional:
            if not left_out(profile):
                raise ResultsError(f"{paths.shown(path)}: no row for {rule}; rebuild the tables.")
            row = pd.DataFrame([NOTHING])
        rows.append(row.assign(question=entry["question"])[["question", *VALUES]])
    return pd.concat(rows, ignore_index=True)


def markdown(profile: str) -> str:
    """The headline numbers that the README shows, as a Markdown table."""
    places = {entry["readme"]: entry["question"] for entry in _entries() if "readme" in entry}
    table = collect(profile).set_index("question", drop=False)
    shown = [places[at] for at in sorted(places) if places[at] in table.index]
    return render.markdown(render.readable(table.loc[shown]))
