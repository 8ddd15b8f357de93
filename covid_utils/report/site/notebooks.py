"""Which notebooks a site shows: those that the profile's jobs executed, else the stored ones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import nbformat

from covid_utils import paths
from covid_utils.registry import NETWORKS

#: Jobs of the graph that run 04_task3_stream, once each.
STREAM, STREAM_JOBS = "04_task3_stream", "stream_*"
#: Notebook -> its job, where that is not its name without number.
JOBS = {
    "02_task1_inception": "task1",
    "03_task2_multilabel": "task2",
    "04_task3_together": "together",
}


@dataclass(frozen=True)
class Page:
    """A notebook of the site.

    Attributes:
        name: Of its page.
        title: In the navigation.
        source: The file.
        is_stored: Whether it is the repository's own, and so shows what that shows.
    """

    name: str
    title: str
    source: Path
    is_stored: bool


def choose(profile: str) -> list[Page]:
    """Notebooks in reading order; the one of the streams once for each stream that was run."""
    pages = []
    for stored in sorted(paths.notebooks().glob("*.ipynb")):
        executed = [path for path in _executed(profile, stored.stem) if _is_whole(path)]
        if executed:
            pages += [_page(path, stored.stem) for path in executed]
        else:
            pages.append(Page(stored.stem, _title(stored), stored, is_stored=True))
    return pages


def _executed(profile: str, notebook: str) -> list[Path]:
    """Executed versions of a notebook, those of runs that still exist."""
    folder = paths.results(profile) / "notebooks"
    if notebook == STREAM:
        found = sorted(folder.glob(f"{STREAM_JOBS}.ipynb"))
        return [path for path in found if (paths.results(profile) / path.stem).is_dir()]
    job = JOBS.get(notebook, notebook.partition("_")[2])
    return [path for path in [folder / f"{job}.ipynb"] if path.is_file()]


def _is_whole(path: Path) -> bool:
    """Whether a notebook ran to its end; one that failed is kept for people to mend it."""
    outputs = [
        output
        for cell in nbformat.read(path, as_version=4).cells
        for output in cell.get("outputs", [])
    ]
    return all(output["output_type"] != "error" for output in outputs)


def _page(executed: Path, notebook: str) -> Page:
    title = _title(executed)
    if notebook == STREAM:
        stream, model, *rest = executed.stem.removeprefix("stream_").split("_")
        start = f", from {rest[0]}" if rest else ""
        title = f"{title.partition(':')[0]}: {stream}, {NETWORKS.get(model, model)}{start}"
        return Page(f"{notebook}-{executed.stem}", title, executed, is_stored=False)
    return Page(notebook, title, executed, is_stored=False)


def _title(path: Path) -> str:
    """First heading; up to its colon where no other notebook has the same number."""
    first = nbformat.read(path, as_version=4).cells[0]["source"].splitlines()[0]
    whole = first.lstrip("# ").strip()
    number = whole.split(" ")[0]
    is_alone = len(list(paths.notebooks().glob(f"{number.zfill(2)}_*.ipynb"))) == 1
    return whole.partition(":")[0] if is_alone else whole


def prepared(page: Page) -> nbformat.NotebookNode:
    """A notebook as the site takes it: its pictures described, papermill's notes left out."""
    notebook = nbformat.read(page.source, as_version=4)
    notebook.metadata = {
        key: value for key, value in notebook.metadata.items() if key != "papermill"
    }
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell(_origin(page, notebook)))
    heading = page.title
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = _last_heading(cell.source) or heading
            continue
        tags = cell.metadata.get("tags", [])
        cell.metadata = {"tags": tags} if tags else {}
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            alt = f"Picture made by the code above it, in the section “{heading}”"
            cell.metadata["mystnb"] = {"image": {"alt": alt}}
    return notebook


def _origin(page: Page, notebook: nbformat.NotebookNode) -> str:
    """A note that says whose outputs these are."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    # Parameters that were handed in stand below those of the notebook.
    found = re.findall(r'^profile = "(\w+)"', text, re.MULTILINE)
    profile = found[-1] if found else ""
    of = f" of the profile `{profile}`" if profile else ""
    if not page.is_stored:
        said = f"Executed by the job `{page.source.stem}`{of}."
    elif profile == "quick":
        said = f"Outputs{of}, as the repository stores them: of the phantom, not of real scans."
    else:
        said = f"Outputs{of}, as the repository stores them."
    return f"```{{note}}\n{said}\n```"


def section(notebook: str, heading: str) -> str:
    """Text of one section of a stored notebook, as Markdown, without its heading; '' if none."""
    path = paths.notebooks() / f"{notebook}.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    _, found, rest = f"\n{text}".partition(f"\n## {heading}\n")
    return rest.split("\n## ")[0].strip() if found else ""


def _last_heading(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith("#")]
    return lines[-1].lstrip("# ").strip() if lines else ""
