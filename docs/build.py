"""Build the site of a profile's results: python docs/build.py PROFILE.

The pages of this folder name in double braces what belongs where, such as figures.fig07.
"""

from __future__ import annotations

import io
import re
import shutil
import sys
from html import escape
from pathlib import Path

import nbformat
import pandas as pd
import site_tables
from sphinx.application import Sphinx

from covid_utils import paths, runs
from covid_utils.data.manifest import kind, left_out, saved_manifest
from covid_utils.errors import CompanionError, ParameterError, ResultsError
from covid_utils.graph import jobs
from covid_utils.registry import (
    DATA,
    FUSION,
    NOTEBOOKS,
    PROFILES,
    PUBLISHED,
    TASK1,
    TASK2,
    stream_run,
)
from covid_utils.report import claims, render, tables, verdicts

DOCS = Path(__file__).parent
JOBS = list(jobs(imagenet="imagenet").values())
ALL = stream_run("all")
#: Figures that the pages name -> a run without which they are of other data.
FIGURES = {"fig02": TASK2, "fig03": TASK1, "augmentation": TASK2, "fig09": TASK2, "fig10": FUSION}
FIGURES |= dict.fromkeys(("fig07", "fig08", "steps_and_rate", "rivals"), TASK1)
FIGURES |= {"reliability": TASK1, "grad_cam": TASK1, "fig11": ALL, "conventions": ALL}
FIGURES |= dict.fromkeys(("staircase", "condition_steps"), DATA)
PHANTOM = (
    "They are of simulated chests (a phantom): they show that the programs work, and say nothing "
    "about real scans or about the paper's numbers. `make report PROFILE=sample` shows real scans."
)


def figures(profile: str, target: Path) -> dict[str, str]:
    """Name -> figure with its alternative text; of a missing one, a sentence. Copies the files."""
    draw = f"<code>make reproduce PROFILE={profile} DATA=folder</code> draws them."
    words = f"Not among these results. Figures of scans are not published; {draw}"
    absent = f'<p class="absent">{words}</p>'
    html, absent_runs = dict.fromkeys(FIGURES, ""), left_out(profile)
    for pixels in sorted((paths.results(profile) / "figures").glob("*.png")):
        vector = pixels.with_suffix(".svg")
        is_small = vector.is_file() and vector.stat().st_size <= 300_000  # or it loads slowly
        file = vector if is_small else pixels
        name = re.sub(r"_\d+$", "", file.stem)
        if FIGURES.get(name) in absent_runs:
            continue
        shutil.copy(file, target)
        alt = escape(" ".join(file.with_suffix(".txt").read_text(encoding="utf8").split()))
        image = f'<img class="result" src="figures/{file.name}" alt="{alt}">'
        html[name] = html.get(name, "") + f'<a href="figures/{file.name}">{image}</a>'
    return {name: images or absent for name, images in html.items()}


def notebooks(profile: str) -> dict[str, nbformat.NotebookNode]:
    """Page name -> notebook: those that the profile's jobs executed, else the stored ones."""
    pages, absent = {}, left_out(profile)
    for name in NOTEBOOKS:
        for job in [job for job in JOBS if job.notebook == name and not absent.keys() & job.runs]:
            path = paths.results(profile) / "notebooks" / f"{job.name}.ipynb"
            # One that stopped at an error is kept for people to mend it.
            if path.is_file() and '"output_type": "error"' not in path.read_text(encoding="utf8"):
                page = f"{name}-{job.name}" if job.label else name
                pages[page] = _prepared(path, f"Executed by the job `{job.name}`", job.label)
        if not any(page.startswith(name) for page in pages):
            path = paths.NOTEBOOKS / f"{name}.ipynb"
            pages[name] = _prepared(path, "Outputs as the repository stores them")
    return pages


def _prepared(path: Path, origin: str, label: str = "") -> nbformat.NotebookNode:
    """A notebook with a note on its origin and alternative texts, without papermill's metadata."""
    notebook = nbformat.read(path, as_version=4)
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    # Parameters that papermill injects stand below those of the notebook.
    settings = dict(re.findall(r'^(profile|stream|model|init) = "(\w+)"', code, re.MULTILINE))
    note = f"{origin}, with {', '.join(f'{key} `{value}`' for key, value in settings.items())}."
    note += PHANTOM.replace("They", " Results") if settings.get("profile") == "quick" else ""
    notebook.metadata.pop("papermill", None)
    if label:  # several pages have the same heading
        notebook.cells[0].source = notebook.cells[0].source.replace("\n", f" ({label})\n", 1)
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = (re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE) or [heading])[-1]
            continue
        alt = f"Picture made by the code above it, in the section “{heading}”"
        cell.metadata = {"tags": cell.metadata.get("tags", []), "mystnb": {"image": {"alt": alt}}}
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell(f"```{{note}}\n{note}\n```"))
    return notebook


def run_page(profile: str, run: str, content: dict[str, pd.DataFrame], pages: list[str]) -> str:
    """Markdown of a run's page: provenance, settings, and its rows of all tables."""
    facts = runs.read_provenance(profile, run)
    settings = facts.pop("parameters", {})
    notebook = next((job.notebook for job in JOBS if run in job.runs), "04_task3_together")
    page = next(page for page in (f"{notebook}-{run}", notebook, *pages) if page in pages)
    others = {text.split(" ")[0] for text in verdicts.departures(profile, run)}
    of_run = pd.DataFrame(facts.items(), columns=["what", "value"]).map(_text)
    given = pd.DataFrame(settings.items(), columns=["setting", "value"]).map(_text)
    given["as in the paper"] = ["no" if name in others else "" for name in settings]
    folder = paths.results(profile) / run
    files = ", ".join(f"<code>{path.name}</code>" for path in sorted(folder.glob("*.*")))
    html = (
        f'<p>Made by the notebook <a href="notebooks/{page}.html">{page}</a>. '
        '<a href="models.html">What each network is for, and what not</a>.</p>'
        f'<p id="files">Its scores are computed from files in <code>{escape(paths.shown(folder))}'
        f"</code>: {files}.</p>"
        f"{site_tables.table(of_run, 'Provenance')}{site_tables.table(given, 'Settings')}"
    )
    for name, table in content.items():
        is_own = [run in render.sources(text) for text in table.get("source_run", [])]
        html += site_tables.show(name, table[is_own]) if any(is_own) else ""
    html = html.replace('href="', 'href="../')
    # A row is where a number on another page leads to; from here it goes on to the files.
    for row in dict.fromkeys(re.findall(rf'href="(\.\./runs/{run}\.html#[\w-]+)"', html)):
        html = html.replace(f'href="{row}"', f'id="{row.partition("#")[2]}" href="#files"', 1)
    return f"# {run}\n\n{html}"


def _text(value: object) -> str:
    pairs = value.items() if isinstance(value, dict) else []
    return escape(", ".join(f"{key} {one}" for key, one in pairs) or str(value))


def substitutions(profile: str, content: dict, judged: pd.DataFrame) -> dict[str, object]:
    """What the pages name in double braces, but for the figures."""
    is_phantom = kind(saved_manifest(profile)) == "phantom"
    real = (paths.home() / "build" / "site" / "sample" / "index.html").is_file()
    link = ' <a href="../sample/index.html">Their site</a>.' if is_phantom and real else ""
    headline, own = tables.headlines(profile), verdicts.own(judged)
    answers = {prefix: verdicts.answers(own, prefix) for prefix in verdicts.HEADINGS}
    every = pd.concat(content.values())
    headline.index = _rows_of(headline, "metric", every, "metric")
    for answer in answers.values():
        answer.index = _rows_of(answer, "id", every, "claim")
    number, select = site_tables.number, runs.select
    quoted = judged[judged["patients_apart_verdict"] == verdicts.QUOTED]
    published = select(content["table8"], source_run=PUBLISHED, metric="dice")
    accuracy = select(content["table3"], metric="accuracy")
    rule = "baseline: name of the data set only, 2 classes"
    return {
        "profile": f"`{profile}`",
        "command": f"`make reproduce PROFILE={profile}`",
        "kind": PHANTOM + link if is_phantom else "They are of real scans.",
        "summary": verdicts.summary(judged),
        "tally": site_tables.tally(judged),
        "verdicts": site_tables.verdict_table(own, answers, "Claims of the paper"),
        "quoted": site_tables.quoted_table(quoted, "Works that the paper quotes"),
        "findings": site_tables.table(claims.findings().map(escape), "Numbers that do not fit"),
        "headlines": site_tables.long(headline, "Headline numbers"),
        "hospitals": site_tables.hospitals(content),
        "tables": {name: site_tables.show(name, table) for name, table in content.items()},
        "numbers": {
            "published_mean": number(select(published, average="per_image")),
            "published_pooled": number(select(published, average="pooled")),
            "source_rule": number(select(accuracy, work=rule)),
            "network": number(select(accuracy, work="ours, 2 classes")),
        },
    }


def _rows_of(numbers: pd.DataFrame, about: str, every: pd.DataFrame, same: str) -> pd.Series:
    """Row of all tables that has each number: of its run, its metric or claim; '' if none has."""
    wanted = numbers["source_run"] + numbers[about] + numbers["ours"].astype(str)
    known = every["source_run"] + every[same] + every["ours"].astype(str)
    return wanted.map(dict(zip(known, every.index, strict=True))).fillna("")


def write_source(profile: str, source: Path) -> dict[str, object]:
    """Write all that Sphinx reads, and return what the pages name."""
    judged = runs.read_table(profile, "verdicts")
    there = {path.stem for path in (paths.results(profile) / "tables").glob("*.csv")}
    names = [name for name in tables.TITLES if name in there]
    content = {name: runs.read_table(profile, f"tables/{name}") for name in names}
    for name, table in content.items():  # a link can lead to a row
        table.index = f"{name}-" + table.index.astype(str)
    pages = notebooks(profile)
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(DOCS, source, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (source / "extra" / "figures").mkdir(parents=True)
    shutil.copytree(paths.results(profile) / "tables", source / "extra" / "tables")
    for name, notebook in pages.items():
        nbformat.write(notebook, source / "notebooks" / f"{name}.ipynb")
    found = {path.parent.name for path in paths.results(profile).glob("*/provenance.json")}
    for run in sorted(found - set(left_out(profile))):
        page = run_page(profile, run, content, list(pages))
        (source / "runs" / f"{run}.md").write_text(page, encoding="utf8")
    drawn = figures(profile, source / "extra" / "figures")
    return substitutions(profile, content, judged) | {"figures": drawn}


def build(profile: str) -> Path:
    """Build the site of a profile and return its first page; if this fails, an older one stays."""
    if profile not in PROFILES:
        raise ParameterError(f"profile '{profile}' is none of {', '.join(PROFILES)}.")
    folder = paths.home() / "build"
    source, final, new = (folder / name / profile for name in ("site-src", "site", "site-new"))
    shutil.rmtree(new, ignore_errors=True)
    overrides = {
        "myst_substitutions": write_source(profile, source),
        "html_title": f"Companion · {profile}",
        "html_extra_path": [str(source / "extra")],
    }
    warnings = io.StringIO()
    places = (source, DOCS, new / "html", new / "doctrees", "html", overrides)
    Sphinx(*places, status=None, warning=warnings, freshenv=True).build()
    complaint = re.sub(rf"\x1b\[[\d;]*m|{re.escape(str(source))}/", "", warnings.getvalue()).strip()
    if complaint:
        words = complaint.partition("\n")[0]
        raise ResultsError(f"{paths.shown(source)}: Sphinx says '{words}'; correct that page.")
    final.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(final, ignore_errors=True)
    (new / "html").rename(final)
    return final / "index.html"


if __name__ == "__main__":
    try:
        first_page = build(sys.argv[1] if sys.argv[1:] else "sample")
    except CompanionError as error:
        sys.exit(str(error))
    print(f"{paths.shown(first_page)}: open it in a browser.")
