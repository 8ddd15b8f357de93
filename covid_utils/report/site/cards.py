"""Model cards: what stands in them comes from the runs of a network, never from memory."""

from __future__ import annotations

from functools import cache
from typing import Any

import pandas as pd
import papermill

from covid_utils import paths
from covid_utils.errors import ResultsError
from covid_utils.report.site import markup, views
from covid_utils.report.site.contents import Results
from covid_utils.report.site.markup import Cell
from covid_utils.report.site.origins import setting

#: Network -> the notebook that trains it, whose parameters are explained there.
NOTEBOOKS = {
    "inception": "02_task1_inception",
    "ml_cnn": "03_task2_multilabel",
    "deeplab": "04_task3_stream",
    "unet": "04_task3_stream",
}
#: Network -> how its rows of Table 1 begin.
TASKS = {"inception": "1:", "ml_cnn": "2:", "deeplab": "3:", "unet": "3:"}
#: Parameters that say where files are, not how a network learns.
PLACES = ("data_dir", "profile")
#: Scores of segmentation that a card shows.
CARD_SCORES = (("dice", "per_image"), ("dice", "pooled"), ("iou", "per_image"), ("iou", "pooled"))


def runs_of(results: Results, network: str) -> list[str]:
    """Runs that trained a network.

    Raises:
        ResultsError: There is none.
    """
    if network in ("inception", "ml_cnn"):
        names = {"inception": "task1", "ml_cnn": "task2"}[network]
        found = [name for name in results.provenance if name == names]
    else:
        found = [
            name
            for name, facts in results.provenance.items()
            if facts.get("parameters", {}).get("model") == network and name.startswith("stream_")
        ]
    if not found:
        raise ResultsError(
            f"results/{results.profile}: no run of the network '{network}'; "
            f"'make reproduce PROFILE={results.profile}' makes it."
        )
    return found


def data(results: Results, network: str) -> str:
    """What the network learned from and was tested on: its rows of Table 1."""
    table = results.tables["table1"]
    rows = table[table["task"].str.startswith(TASKS[network])]
    if network == "unet":
        rows = rows[~rows["task"].str.contains("nodule")]
    without = ("claim", "unused", "paper train", "paper test")
    return views.plain(results, rows, "Images, before and after augmentation", without)


def settings(results: Results, network: str) -> str:
    """What was set: once where all runs agree, and a table of what they differ in."""
    names = runs_of(results, network)
    values = {
        name: {k: setting(v) for k, v in results.provenance[name]["parameters"].items()}
        for name in names
    }
    known = [k for k in dict.fromkeys(k for v in values.values() for k in v) if k not in PLACES]
    shared = [k for k in known if len({v.get(k, "") for v in values.values()}) == 1]
    help_of = explanations(NOTEBOOKS[network])
    first = values[names[0]]
    body = [[Cell(k), Cell(first[k]), Cell(help_of.get(k, ""))] for k in sorted(shared)]
    title = "Settings" if len(names) == 1 else "Settings that all its runs share"
    made = markup.table(title, ["parameter", "value", "meaning"], body)
    different = [k for k in known if k not in shared]
    if different:
        body = [
            [Cell(name, href=markup.run_href(name))]
            + [Cell(values[name].get(k, "")) for k in different]
            for name in names
        ]
        made += markup.table("Settings that differ", ["run", *different], body)
    return made


@cache
def explanations(notebook: str) -> dict[str, str]:
    """What each parameter of a notebook means, by the comment behind it."""
    found: dict[str, Any] = papermill.inspect_notebook(str(paths.notebooks() / f"{notebook}.ipynb"))
    return {name: entry["help"] for name, entry in found.items()}


def scores(results: Results, network: str) -> str:
    """Scores on test images, with intervals."""
    if network == "inception":
        table = results.tables["table2"]
        rows = table[table["subset"] == "test"].assign(verdict="").reset_index(drop=True)
        return views.long(results, rows, ("paper", "metric", "subset"), "Accuracy")
    if network == "ml_cnn":
        table = results.tables["table5"]
        view = views.View("", lambda t: t["work"] == "ours", ("labels", "manifestation"))
        return views.part(results, table, view, "Scores on test slices")
    return _segmentation(results, network)


def _segmentation(results: Results, network: str) -> str:
    """Scores of each stream: the extent on all test slices, classes on exactly labelled ones."""
    table = results.scores
    names = runs_of(results, network)
    kinds = pd.MultiIndex.from_tuples(CARD_SCORES)
    is_wanted = pd.MultiIndex.from_frame(table[["metric", "average"]]).isin(kinds)
    rows = table[
        table["source_run"].isin(names)
        & table["subset"].eq("test")
        & ~table["class"].eq("background")
        & is_wanted
    ]
    rows = rows.rename(columns={"value": "ours"}).assign(
        run=rows["source_run"], unit="fraction", note=""
    )
    view = views.View("", lambda t: t["n"] > 0, ("run", "class"), ("metric", "average"))
    return views.part(results, rows, view, "Test scores")
