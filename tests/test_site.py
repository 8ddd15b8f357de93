"""The site: complete, self-contained, sortable, and accessible."""

import os
import re
import shutil
import subprocess
import sys
from html import unescape
from types import SimpleNamespace
from urllib.parse import unquote

import nbformat
import pandas as pd
import pytest
from builders import modules_of

from covid_utils import paths
from covid_utils.errors import ResultsError
from covid_utils.report import verdicts

#: What begins a path that exists on one machine only.
MACHINE = re.compile(r"(?<![\w.])(/work/|/root/|/home/\w|/tmp/\w|/Users/\w)")
#: Elements that load something by themselves, and the attribute that says what.
LOADING = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
PAGES = {"index", "images", "task1", "task2", "task3", "comparison", "audit", "models", "search"}
PAGES |= {"data", "data_card", "segmentation_log", "runs/task1", "notebooks/05_tables"}
#: Pages of runs are made alike, so that these stand for all.
RUNS = ("runs/index", "runs/task1", "runs/condition_S0", "runs/published_masks")
#: Of each kind of page one, for the dark theme.
DARK = ("index", "task1", "audit", "search", "notebooks/05_tables", "runs/task1")
#: A few rows and cells of code stand for all, so that axe is done in time. Colours change at once,
#: or axe would measure them half way.
FEWER = """() => {
    document.head.append(Object.assign(document.createElement('style'),
        { textContent: '* { transition: none !important; }' }));
    document.querySelectorAll('tbody tr:nth-child(n+5)').forEach(row => row.remove());
    [...document.querySelectorAll('div.cell_input')].slice(3).forEach(cell => cell.remove());
}"""


def values(html, tag, name):
    """Values of an attribute of all elements of a tag."""
    found = re.findall(rf'<{tag}\b[^<>]*?\s{name}="([^"]+)"', html)
    return [unescape(value) for value in found]


def ids(html):
    return re.findall(r'\sid="([^"]+)"', html)


def write_notebook(path, title, fails=False):
    v4 = nbformat.v4
    outputs = [v4.new_output("error", ename="ValueError", evalue="no")] if fails else []
    cells = [v4.new_markdown_cell(title), v4.new_code_cell('profile = "sample"', outputs=outputs)]
    path.parent.mkdir(parents=True, exist_ok=True)
    language = {"language_info": {"name": "python"}}
    nbformat.write(v4.new_notebook(cells=cells, metadata=language), path)


def build(home):
    command = [sys.executable, str(paths.PROJECT / "docs" / "build.py"), "sample"]
    env = os.environ | {"COVID_HOME": str(home), "PYTHONPATH": str(paths.PROJECT)}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site of what is committed and of two executed notebooks, of which one failed."""
    home = tmp_path_factory.mktemp("home")
    command = ["git", "ls-files", "-z", "results/sample"]
    listed = subprocess.run(command, cwd=paths.PROJECT, capture_output=True, text=True, check=False)
    files = [paths.PROJECT / name for name in listed.stdout.split("\0") if name]
    if not files:
        pytest.skip("no git here, or no repository")
    for file in filter(lambda path: path.is_file(), files):
        copied = home / file.relative_to(paths.PROJECT)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copied)
    results, folder = home / "results" / "sample", home / "build" / "site" / "sample"
    write_notebook(results / "notebooks" / "data.ipynb", "# 1 · Data: executed")
    write_notebook(results / "notebooks" / "task1.ipynb", "# 2 · Recognition: failed", fails=True)
    done = build(home)
    assert done.stdout == "build/site/sample/index.html: open it in a browser.\n", done.stderr
    html = [path for path in folder.rglob("*.html") if not {"_static", "tables"} & {*path.parts}]
    names = {path.relative_to(folder).as_posix().removesuffix(".html"): path for path in html}
    pages = {name: path.read_text(encoding="utf8") for name, path in sorted(names.items())}
    return SimpleNamespace(folder=folder, pages=pages, results=results)


# What is there


def test_every_page_is_there_and_in_the_navigation(site):
    runs = {f"runs/{path.parent.name}" for path in site.results.glob("*/provenance.json")}
    assert set(site.pages) >= PAGES | runs
    links = values(site.pages["index"], "a", "href")
    assert {f"{name}.html" for name in PAGES - {"index", "search", "runs/task1"}} <= set(links)
    pages = ["images", "task1", "task1", "task1", "task2", "task3", *["comparison"] * 3]
    for number, page in enumerate(pages, start=1):
        assert f"<caption>Table {number}. " in site.pages[page]
        assert f"tables/table{number}.csv" in values(site.pages[page], "a", "href")


def test_first_page_counts_claims_under_both_protocols(site):
    judged = verdicts.own(pd.read_csv(site.results / "verdicts.csv"))
    html = site.pages["index"]
    counts = re.findall(r"<li><span>(\d+) \| (\d+)</span> <span[^>]*>([^<]+)<", html)
    for *pair, word in counts:
        columns = (judged["as_published_verdict"], judged["patients_apart_verdict"])
        assert [int(n) for n in pair] == [(column == word).sum() for column in columns]
    assert [sum(int(count[at]) for count in counts) for at in (0, 1)] == [len(judged)] * 2
    assert " ".join(verdicts.summary(judged).split()) in html
    table = html.partition("<caption>Claims of the paper")[2].partition("</table>")[0]
    ours = judged[["as_published_ours", "patients_apart_ours"]].notna()
    assert table.count('class="origin"') == ours.sum().sum()
    assert {f"claim-{one}" for one in pd.read_csv(site.results / "verdicts.csv")["id"]} <= set(
        ids(html)
    )
    assert "no share of 5219 images" in html
    marks = (paths.PROJECT / "docs" / "_static" / "site.css").read_text(encoding="utf8")
    assert all(f".{name.replace(' ', '-')} {{ --tone" in marks for name in verdicts.VERDICTS)


def test_executed_notebooks_come_first_and_failed_ones_not_at_all(site):
    assert "1 · Data: executed" in site.pages["notebooks/01_data"]
    assert "Executed by the job" in site.pages["notebooks/01_data"]
    stored = site.pages["notebooks/02_task1_inception"]
    assert "2 · Recognition: failed" not in stored
    assert "simulated chests" in stored


# Links, numbers and pictures


def test_every_link_and_anchor_leads_somewhere(site):
    for name, page in site.pages.items():
        for href in map(unquote, values(page, "a", "href")):
            if re.match(r"[a-z]+:", href):
                continue
            target, _, anchor = href.partition("#")
            file = (site.folder / name).parent / target if target else site.folder / f"{name}.html"
            assert file.resolve().is_file(), f"{name}: {href}"
            other = file.resolve().relative_to(site.folder.resolve()).as_posix()
            if anchor and other.removesuffix(".html") in site.pages:
                assert anchor in ids(site.pages[other.removesuffix(".html")]), f"{name}: {href}"


def test_nothing_is_loaded_from_elsewhere_and_no_path_is_of_a_machine(site):
    for name, page in site.pages.items():
        assert not MACHINE.search(page), f"{name}: {MACHINE.search(page)}"
        for tag, attribute in LOADING.items():
            for address in values(page, tag, attribute):
                assert not re.match(r"(https?:)?//", address), f"{name}: {address}"
    for sheet in site.folder.rglob("*.css"):
        text = sheet.read_text(encoding="utf8")
        assert not re.search(r"url\(\s*[\"']?(https?:)?//|@import\s+[\"']?http", text), sheet.name


def test_scores_are_links_to_their_runs(site):
    links = [href for page in site.pages.values() for href in values(page, "a", "href")]
    assert sum("runs/" in href for href in links) > 300
    for name in ("task2", "task3"):  # on other pages the paper's numbers are plain
        assert not re.search(r"<td>-?\d+\.\d", site.pages[name]), name
    assert re.search(r'<a class="origin" href="runs/task1.html">2100</a>', site.pages["images"])
    assert not any("not measured in this profile" in page for page in site.pages.values())


def test_every_picture_has_the_words_written_with_it(site):
    for name, page in site.pages.items():
        alts = values(page, "img", "alt")
        assert len(alts) == page.count("<img "), name
        assert not any(alt.endswith((".png", ".svg")) for alt in alts), name
    written = (site.results / "figures" / "fig07.txt").read_text(encoding="utf8")
    assert " ".join(written.split()) in values(site.pages["task1"], "img", "alt")
    assert "Not among these results" in site.pages["images"]


# What is refused


def test_without_results_there_is_no_site(tmp_path):
    done = build(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("results/sample/verdicts.csv: not there yet")
    assert "make reproduce PROFILE=sample" in done.stderr
    assert not (tmp_path / "build" / "site" / "sample").exists()


def test_a_build_that_fails_leaves_the_site_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setenv("COVID_HOME", str(tmp_path))

    def write_a_dead_link(_profile, source):
        (source / "extra").mkdir(parents=True)
        (source / "index.md").write_text("# Data\n\n[nowhere](nowhere.md)\n", encoding="utf8")
        return {}

    page = tmp_path / "build" / "site" / "sample" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("before", encoding="utf8")
    with modules_of("docs", "build") as (module,):
        monkeypatch.setattr(module, "write_source", write_a_dead_link)
        with pytest.raises(ResultsError, match="nowhere"):
            module.build("sample")
    assert page.read_text(encoding="utf8") == "before"


# In a browser


@pytest.fixture(scope="module")
def tab():
    """A tab that notes what it complains of and asks for."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "google-chrome", "chromium-browser", "google-chrome-stable")
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if not program:
        pytest.skip("no browser: neither chromium nor google-chrome on PATH, nor CHROMIUM set")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        page = browser.new_context(offline=True).new_page()
        page.set_default_timeout(120_000)  # a machine may be busy with other work
        page.errors, page.asked = [], []
        page.on("console", lambda m: page.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        yield page
        browser.close()


def show(tab, site, name, width=1280):
    tab.set_viewport_size({"width": width, "height": 900})
    tab.goto((site.folder / f"{name}.html").as_uri())


def serious(axe, tab, *rules):
    """What axe calls serious or critical, by all of its rules or some."""
    # Without preload: it would fetch style sheets anew, which pages from disk may not.
    options = {"resultTypes": ["violations"], "preload": False}
    options |= {"runOnly": {"type": "rule", "values": list(rules)}} if rules else {}
    return [
        (violation["id"], violation["nodes"][0]["html"][:200])
        for violation in axe.run(tab, options=options).response["violations"]
        if violation["impact"] in ("serious", "critical")
    ]


def test_pages_open_quietly_and_fit_and_axe_finds_nothing_serious(tab, site):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    for name in [name for name in site.pages if name in RUNS or not name.startswith("runs/")]:
        tab.emulate_media(color_scheme="light")
        show(tab, site, name, width=360)
        sizes = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        size = tab.evaluate(sizes)
        assert size[0] <= size[1], f"{name} scrolls sideways: {size}"
        assert tab.errors == [], name
        tab.set_viewport_size({"width": 1280, "height": 900})
        tab.evaluate(FEWER)
        assert serious(axe, tab) == [], name
        if name in DARK:  # the themes differ in colours alone
            tab.emulate_media(color_scheme="dark")
            tab.wait_for_function("document.documentElement.dataset.theme === 'dark'")
            assert serious(axe, tab, "color-contrast", "link-in-text-block") == [], name
    assert [url for url in tab.asked if not url.startswith(("file:", "data:", "blob:"))] == []


def column(tab, place):
    script = "place => [...document.querySelector('table').tBodies[0].rows]"
    return tab.evaluate(f"{script}.map(row => row.cells[place].textContent)", place)


def test_the_keyboard_sorts_numbers_as_numbers(tab, site):
    show(tab, site, "images")
    region = tab.get_by_role("region", name="Table 1. Data")
    region.focus()
    assert region.evaluate("one => getComputedStyle(one).outlineStyle") != "none"
    heading = tab.locator("table").first.locator("th").nth(4)
    before = [int(text) for text in column(tab, 4)]
    for order, expected in (("ascending", sorted(before)), ("descending", sorted(before)[::-1])):
        heading.get_by_role("button").press("Enter")
        assert heading.get_attribute("aria-sort") == order
        assert [int(text) for text in column(tab, 4)] == expected


def test_a_number_leads_to_its_row_and_from_there_to_the_files(tab, site):
    show(tab, site, "index")
    link = tab.locator("table a.origin").first
    number = link.text_content()
    link.click()
    row = tab.locator("tr:has(:target)")
    row.wait_for()
    assert number in row.text_content()
    row.locator("a.origin").first.click()
    assert "predictions.parquet" in tab.locator("#files:target").text_content()
