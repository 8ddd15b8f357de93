"""Builds the site: a source folder of pages, notebooks and pictures, then Sphinx on it."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path
from typing import Any

import nbformat

from covid_utils import paths, runs
from covid_utils.errors import ResultsError
from covid_utils.report.site import contents, notebooks, pages, pictures

STATIC = Path(__file__).with_name("static")
#: Documents of the project that are pages as they are.
DOCUMENTS = ("data_card.md", "data.md", "segmentation_log.md")
#: Nothing is executed, and nothing is loaded from elsewhere: no MathJax, no widgets, no Binder.
SETTINGS: dict[str, Any] = {
    "project": "Companion: a pipeline for COVID-19 scans",
    "language": "en",
    "extensions": ["myst_nb", "covid_utils.report.site.finishing"],
    "exclude_patterns": ["extra"],
    "html_extra_path": ["extra"],
    "html_static_path": ["static"],
    "html_css_files": ["site.css"],
    "html_js_files": [("sort.js", {"defer": "defer"})],
    "html_theme": "sphinx_book_theme",
    "html_context": {"default_mode": "auto"},
    "html_copy_source": False,
    "html_show_sourcelink": False,
    "html_show_sphinx": False,
    "html_show_copyright": False,
    "html_use_index": False,
    "html_permalinks": False,
    "myst_heading_anchors": 3,
    "nb_execution_mode": "off",
    "nb_ipywidgets_js": {},
    "nb_merge_streams": True,
    "nb_output_stderr": "remove",
}
WIDE = ("index", *pages.SECTIONS, *pages.CARDS)
THEME: dict[str, Any] = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "navbar_persistent": [],
    # Pages of wide tables need the room; the others have their contents on the right.
    "secondary_sidebar_items": {"**": ["page-toc.html"]} | {name: [] for name in WIDE},
    "show_toc_level": 2,
    "search_bar_text": "Search",
    "navigation_with_keys": False,
    "footer_content_items": ["extra-footer.html"],
    "extra_footer": "Nothing here is fit for diagnosis. Code under the MIT licence; "
    "the data sets have licences of their own.",
}


def build(profile: str) -> Path:
    """Build the site of a profile.

    Args:
        profile: Profile whose results it shows.

    Returns:
        Its first page, ``build/site/<profile>/index.html``.

    Raises:
        ResultsError: A result that a page shows is missing, or Sphinx refuses a page.
    """
    source, final = paths.site_source(profile), paths.site(profile)
    write_source(profile, source)
    workshop = final.with_name(f".{profile}.partial")
    shutil.rmtree(workshop, ignore_errors=True)
    try:
        _sphinx(profile, source, workshop)
        runs.replace_folder(workshop / "site", final)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    return final / "index.html"


def write_source(profile: str, source: Path) -> None:
    """Write all that Sphinx reads; what was there before goes."""
    results = contents.load(profile)
    chosen = notebooks.choose(profile)
    texts = pages.write(results, chosen)
    shutil.rmtree(source, ignore_errors=True)
    for folder in ("notebooks", "docs", "extra/tables", "extra/figures"):
        (source / folder).mkdir(parents=True)
    for name, text in texts.items():
        (source / f"{name}.md").write_text(text, encoding="utf8")
    for page in chosen:
        nbformat.write(notebooks.prepared(page), source / "notebooks" / f"{page.name}.ipynb")
    for name in DOCUMENTS:
        shutil.copy(paths.PROJECT / "docs" / name, source / "docs" / name)
    for name in contents.TABLES:
        file = paths.results(profile) / "tables" / f"{name}.csv"
        shutil.copy(file, source / "extra" / "tables")
    for name in pictures.CAPTIONS:
        for file in pictures.files(profile, name):
            shutil.copy(file, source / "extra" / "figures")
    shutil.copytree(STATIC, source / "static")


def _sphinx(profile: str, source: Path, workshop: Path) -> None:
    """Run Sphinx in this process, without a word unless something is wrong.

    Args:
        profile: Profile that the title names.
        source: The pages.
        workshop: Gets the site as its folder ``site``, and what else Sphinx leaves lying about.
    """
    from sphinx.application import Sphinx
    from sphinx.errors import SphinxError
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    title = {"html_title": f"Companion · {profile}", "html_theme_options": THEME}
    complaints = io.StringIO()
    places = (source, None, workshop / "site", workshop / "doctrees", "html")
    quiet = {"status": None, "warning": complaints, "freshenv": True}
    try:
        with patch_docutils(), docutils_namespace():
            Sphinx(*places, confoverrides=SETTINGS | title, **quiet).build()
    except SphinxError as error:
        complaints.write(str(error))
    said = re.sub(r"\x1b\[[\d;]*m", "", complaints.getvalue()).strip().splitlines()
    if said:
        first = said[0].replace(f"{source}/", "")
        raise ResultsError(f"{paths.shown(source)}: Sphinx says '{first}'; correct that page.")
    for macros in (workshop / "site" / "_static").glob("*macros.html"):
        macros.unlink()  # of the theme, and no page
