"""The text of every page, from its template and the results of a profile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2

from covid_utils.evaluation import intervals
from covid_utils.report import claims as ledger
from covid_utils.report.recognition_tables import OTHERS
from covid_utils.report.site import (
    cards,
    markup,
    notebooks,
    origins,
    overview,
    pictures,
    views,
)
from covid_utils.report.site.contents import Results

TEMPLATES = Path(__file__).with_name("templates")
#: Page of a model card -> its network.
CARDS = {
    "model-inception": "inception",
    "model-ml-cnn": "ml_cnn",
    "model-deeplab": "deeplab",
    "model-unet": "unet",
}
#: Pages that need tables, figures and notebooks, and nothing else.
SECTIONS = ("data", "task1", "task2", "task3", "comparison")


def write(results: Results, pages: list[notebooks.Page]) -> dict[str, str]:
    """All pages but the notebooks and the documents: name -> Markdown.

    Args:
        results: What the pages show.
        pages: Notebooks of the site, which pages link to.
    """
    environment = _environment(results, pages)
    made = {name: environment.get_template(f"{name}.md").render() for name in SECTIONS}
    made["index"] = environment.get_template("index.md").render(
        notebooks=pages,
        tally=overview.tally(results),
        verdict_table=overview.verdict_table(results),
        quoted_table=overview.verdict_table(results, of_others=True),
        headline_table=overview.headline_table(results),
    )
    made["audit"] = environment.get_template("audit.md").render(**_audit(pages))
    made["provenance"] = environment.get_template("provenance.md").render(
        provenance=results.provenance,
        anchor=markup.run_anchor,
        uses=lambda run: origins.uses(results, run),
        departures=lambda run: origins.departures(results, run),
        origins=origins,
    )
    for name, network in CARDS.items():
        made[name] = environment.get_template(f"{name}.md").render(card=_card(results, network))
    return made


def _environment(results: Results, pages: list[notebooks.Page]) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.globals.update(
        profile=results.profile,
        kind=results.kind,
        table=lambda name: views.show(results, name),
        figure=lambda name: pictures.show(results.profile, name),
        differs=lambda name: notebooks.section(name, "Differs from the paper"),
        notebook=lambda name: _links(pages, name),
        number=_finder(results),
        href=markup.run_href,
    )
    return environment


def _links(pages: list[notebooks.Page], name: str) -> str:
    """Links to a notebook, to each of its runs if there are several."""
    found = [page for page in pages if page.name.startswith(name)]
    links = [f"[{page.title}](notebooks/{page.name}.ipynb)" for page in found]
    if len(links) <= 1:
        return f"notebook {links[0]}" if links else f"notebook `{name}`"
    return f"notebooks {', '.join(links)}"


def _finder(results: Results) -> Callable[..., str]:
    """A function that finds one number in a table, and gives it as a link to its run."""
    tables = results.tables | {
        "scores": results.scores.rename(columns={"value": "ours"}).assign(unit="fraction")
    }

    def number(name: str, **criteria: Any) -> str:
        rows = tables[name]
        for column, wanted in criteria.items():
            rows = rows[rows[column] == wanted]
        if rows.empty:
            return "(not measured in this profile)"
        return views.number_cells(results, rows.head(1))[0].html()

    return number


def _audit(pages: list[notebooks.Page]) -> dict[str, Any]:
    """What the page of the audit computes: point 4, and the notebooks that go with it."""
    wrong, tested = ledger.load()["d05"].value
    interval = intervals.wilson(tested - wrong, tested)
    return {
        "right": tested - wrong,
        "tested": tested,
        "low": f"{100 * interval.low:.1f}",
        "high": f"{100 * interval.high:.1f}",
        "rule": f"{OTHERS['dataset only']}, 2 classes",
        "audits": [page for page in pages if "audit" in page.name],
    }


def _card(results: Results, network: str) -> dict[str, Any]:
    return {
        "runs": cards.runs_of(results, network),
        "data": cards.data(results, network),
        "settings": cards.settings(results, network),
        "scores": cards.scores(results, network),
        "differs": notebooks.section(cards.NOTEBOOKS[network], "Differs from the paper"),
    }
