"""The site: complete, self-contained, sortable, and readable by eye, ear and keyboard."""

import os
import re
import shutil
import subprocess
from collections import Counter
from types import SimpleNamespace
from urllib.parse import unquote

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from covid_utils import __main__ as command
from covid_utils import paths
from covid_utils.errors import ResultsError
from covid_utils.report import verdicts
from covid_utils.report.site import (
    build,
    contents,
    finishing,
    markup,
    notebooks,
    origins,
    pictures,
    views,
)

PROFILE = "sample"
#: What begins a path that exists on one machine only.
MACHINE = re.compile(r"(?<![\w.])(/work/|/root/|/home/\w|/tmp/\w|/Users/\w)")
#: Elements that load something by themselves, and the attribute that says what.
LOADING = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
PAGES = {
    *("index", "data", "task1", "task2", "task3", "comparison", "audit", "provenance", "search"),
    *("model-inception", "model-ml-cnn", "model-deeplab", "model-unet"),
    *("docs/data_card", "docs/data", "docs/segmentation_log"),
}


#: Rows of a table and cells of code are made by one hand: a few stand for all, and axe is done
#: in time. Colours change at once, or axe would measure what is half way.
FEWER = """() => {
    document.head.append(Object.assign(document.createElement('style'),
        { textContent: '* { transition: none !important; }' }));
    document.querySelectorAll('tbody tr:nth-child(n+5)').forEach(row => row.remove());
    [...document.querySelectorAll('div.cell_input')].slice(3).forEach(cell => cell.remove());
}"""


def committed_results(target):
    """Copy what git has of results/sample: a clean checkout has no more."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "results/sample"],
        cwd=paths.PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    files = [name for name in done.stdout.split("\0") if name]
    if done.returncode or not files:
        pytest.skip("no git here, or no repository")
    assert "results/sample/verdicts.csv" in files
    for name in files:
        if (paths.PROJECT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(paths.PROJECT / name, target / name)


def built_site(home):
    """A built site: its folder, and its pages parsed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COVID_HOME", str(home))
        folder = build.build(PROFILE).parent
    pages = {
        path.relative_to(folder).as_posix().removesuffix(".html"): BeautifulSoup(
            path.read_text(encoding="utf8"), "html.parser"
        )
        for path in sorted(folder.rglob("*.html"))
    }
    return SimpleNamespace(folder=folder, pages=pages)


@pytest.fixture(scope="module")
def sample_site(tmp_path_factory):
    """The site of the committed results."""
    home = tmp_path_factory.mktemp("committed")
    committed_results(home)
    return built_site(home)


@pytest.fixture(scope="module")
def small_site(small_profile, tmp_path_factory):
    """The site of made-up results, with one notebook executed and one that failed."""
    home = tmp_path_factory.mktemp("made-up")
    shutil.copytree(small_profile[0] / "results", home / "results")
    folder = home / "results" / PROFILE / "notebooks"
    write_notebook(folder / "data.ipynb", "# 1 · Data: executed")
    write_notebook(folder / "task1.ipynb", "# 2 · Recognition: failed", fails=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "notebooks", lambda: without_outputs(home / "notebooks"))
        return built_site(home)


def without_outputs(folder):
    """The stored notebooks without their pictures and tables, which another site shows."""
    if not folder.is_dir():
        folder.mkdir()
        for path in (paths.PROJECT / "notebooks").glob("*.ipynb"):
            notebook = nbformat.read(path, as_version=4)
            for cell in notebook.cells:
                if cell.cell_type == "code":
                    cell.outputs = []
            nbformat.write(notebook, folder / path.name)
    return folder


@pytest.fixture(params=["sample_site", "small_site"])
def site(request):
    return request.getfixturevalue(request.param)


def write_notebook(path, title, fails=False):
    v4 = nbformat.v4
    outputs = [v4.new_output("error", ename="ValueError", evalue="no")] if fails else []
    code = v4.new_code_cell('profile = "sample"', outputs=outputs, metadata={"papermill": {}})
    notebook = v4.new_notebook(cells=[v4.new_markdown_cell(title), code])
    notebook.metadata = {"language_info": {"name": "python"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def results_tables(site):
    for name, page in site.pages.items():
        for table in page.select("table.results"):
            yield name, table


# What is there


def test_every_page_is_there_and_in_the_navigation(site):
    assert set(site.pages) >= PAGES
    shown = [link["href"] for link in site.pages["task1"].select(".bd-links__item a, nav a[href]")]
    order = ["data.html", "task2.html", "notebooks/00_overview.html", "audit.html"]
    order += ["docs/data_card.html", "model-inception.html", "provenance.html"]
    assert [shown.index(page) for page in order] == sorted(shown.index(page) for page in order)


def test_pages_hold_all_tables_in_their_places(site):
    for name, page in origins.PAGES.items():
        number = name.removeprefix("table")
        place = site.pages[page.removesuffix(".html")].find(id=f"table-{number}")
        caption = place.find("caption").get_text()
        assert re.match(rf"Table {number}[a-z]?\. ", caption)
        assert place.find("a", href=f"tables/{name}.csv")


def test_figures_are_shown_or_said_to_be_elsewhere(sample_site):
    text = sample_site.pages["data"].get_text()
    assert "Figure 2 shows scans, which are no part of this repository" in text
    shown = sample_site.pages["task1"].select("figure.card-figure img")
    assert [img["src"].partition(".")[0] for img in shown][:2] == ["figures/fig07", "figures/fig08"]


def test_first_page_counts_the_paper_s_own_statements(site):
    page = site.pages["index"]
    counts = [int(item.get_text()) for item in page.select(".tally .count")]
    own, *quoted = page.select("table.results")[:2]
    assert sum(counts) == len(own.select("tbody tr"))
    words = Counter(cell.get_text() for cell in own.select("tbody .verdict"))
    assert counts == [words[verdict] for verdict in verdicts.VERDICTS]
    assert quoted


def test_executed_notebooks_come_first_and_failed_ones_not_at_all(small_site):
    assert "1 · Data: executed" in small_site.pages["notebooks/01_data"].get_text()
    assert "Executed by the job data" in small_site.pages["notebooks/01_data"].get_text()
    stored = small_site.pages["notebooks/02_task1_inception"].get_text()
    assert "2 · Recognition: failed" not in stored
    assert "of the phantom, not of real scans" in stored


def test_model_cards_say_what_runs_were_told(small_site):
    page = small_site.pages["model-deeplab"]
    text = page.get_text(" ")
    for part in ("What it must not be used for", "What it learned from", "Scores", "Settings"):
        assert part in text
    runs = {link.get_text() for link in page.select('a[href^="provenance.html#run-stream"]')}
    assert "stream_ggo_deeplab" in runs
    assert "fusion_deeplab" not in runs
    assert "stream_all_unet" not in runs


# Links, and what is loaded


def test_every_link_and_anchor_leads_somewhere(site):
    anchors = {
        name: {tag["id"] for tag in page.find_all(id=True)} for name, page in site.pages.items()
    }
    for name, page in site.pages.items():
        for link in page.find_all("a", href=True):
            href = unquote(link["href"])
            if re.match(r"[a-z]+:", href):
                continue
            target, _, anchor = href.partition("#")
            file = (site.folder / name).parent / target if target else site.folder / f"{name}.html"
            assert file.resolve().is_file(), f"{name}: {href}"
            if anchor and file.suffix == ".html":
                there = file.resolve().relative_to(site.folder.resolve()).as_posix()
                assert anchor in anchors[there.removesuffix(".html")], f"{name}: {href}"


def test_nothing_is_loaded_from_elsewhere(site):
    for name, page in site.pages.items():
        for kind, attribute in LOADING.items():
            for tag in page.find_all(kind, attrs={attribute: True}):
                address = re.split("[?#]", tag[attribute])[0] or f"{name.split('/')[-1]}.html"
                assert not re.match(r"(https?:)?//", address), f"{name}: {tag}"
                if not address.startswith("data:"):
                    file = (site.folder / name).parent / unquote(address)
                    assert file.resolve().is_file(), f"{name}: {address}"
    for sheet in site.folder.rglob("*.css"):
        text = sheet.read_text(encoding="utf8")
        assert not re.search(r"url\(\s*[\"']?(https?:)?//|@import\s+[\"']?http", text), sheet.name


def test_no_page_holds_a_path_of_a_machine(site):
    for name, page in site.pages.items():
        assert not MACHINE.search(str(page)), f"{name}: {MACHINE.search(str(page))}"


def test_the_numbers_of_every_table_lead_to_their_run(site):
    known = {tag["id"] for tag in site.pages["provenance"].find_all(id=re.compile("^run-"))}
    found = 0
    for name, table in results_tables(site):
        heads = [cell.get_text(strip=True) for cell in table.select("thead th")]
        for row in table.select("tbody tr"):
            for head, cell in zip(heads, row.find_all(["th", "td"]), strict=True):
                link = cell.find("a", class_="origin")
                if link:
                    found += 1
                    assert link["href"].partition("#")[2] in known, f"{name}: {link}"
                if head == "ours" and cell.has_attr("data-sort"):
                    assert link, f"{name}: {row.get_text(' ')}"
    assert found > 300


def test_a_verdict_in_a_table_leads_to_its_reason(site):
    links = site.pages["task1"].select("a.reason .verdict")
    assert links
    assert links[0].parent["href"].startswith("index.html#claim-p0")


# Tables and pictures


def test_every_picture_has_words(site):
    for name, page in site.pages.items():
        for picture in page.find_all("img"):
            assert picture.get("alt", "").strip(), f"{name}: {picture}"
            assert not picture["alt"].endswith((".png", ".svg")), f"{name}: {picture}"


def test_every_table_has_a_caption_headings_and_a_place_of_its_own(site):
    for name, page in site.pages.items():
        labels = []
        for table in page.find_all("table"):
            assert table.find("caption").get_text(strip=True), name
            assert all(cell.has_attr("scope") for cell in table.find_all("th")), name
            place = table.parent
            assert (place["role"], place["tabindex"]) == ("region", "0"), name
            labels.append(place["aria-label"])
        assert len(labels) == len(set(labels)), f"{name}: {labels}"


def test_our_tables_sort_by_buttons_and_numbers_as_numbers(site):
    for name, table in results_tables(site):
        if len(table.select("tbody tr")) > 1:
            heads = table.select("thead th")
            assert all(head.find("button", type="button") for head in heads), name
            assert all(head["aria-sort"] == "none" for head in heads), name
        for cell in table.select("tbody [data-sort]"):
            float(cell["data-sort"])


def finished(html):
    return BeautifulSoup(finishing.finish(html), "html.parser")


def test_tables_whose_cells_span_rows_get_no_buttons():
    html = "<h2>Scores</h2><table><thead><tr><th></th><th>a</th></tr></thead><tbody>"
    html += "<tr><th rowspan=2>x</th><td>1</td></tr><tr><td>2</td></tr></tbody></table>"
    page = finished(html)
    assert not page.find("button")
    assert page.find("caption").get_text() == "Table in the section “Scores”"


def test_headings_without_text_are_named_for_ears():
    html = "<table><thead><tr><th></th><th>a</th></tr></thead>"
    html += "<tbody><tr><th>0</th><td>\u22123.5 %</td></tr><tr><th>1</th><td>x</td></tr></tbody>"
    page = finished(html + "</table>")
    assert [head.get_text() for head in page.select("thead button")] == ["row", "a"]
    assert [cell.get("data-sort") for cell in page.select("td")] == ["-3.5", None]


def test_tables_of_one_section_get_names_of_their_own():
    table = "<table><thead><tr><th>a</th></tr></thead><tbody><tr><td>1</td></tr></tbody></table>"
    page = finished(f"<h2>Scores</h2>{table}{table}")
    labels = [place["aria-label"] for place in page.select("[role=region]")]
    assert labels == ["Table in the section “Scores”", "Table in the section “Scores” (2)"]


def test_markup_escapes_what_it_is_given():
    made = markup.table("<b>", ["<i>"], [[markup.Cell("<script>", href="a&b")]])
    assert "<script>" not in made
    assert "<b>" not in made
    assert "<i>" not in made
    assert 'href="a&amp;b"' in made


def test_notes_that_all_rows_share_stand_apart():
    rows = pd.DataFrame({"note": ["weak; one", "weak", "weak; one"]})
    assert views.split_notes(rows) == (["weak"], ["one"])


def test_words_of_a_figure_are_those_written_with_it(tmp_path):
    (tmp_path / "fig07.txt").write_text("Heat maps.\nThe left one is dark.\n")
    assert pictures.alt(tmp_path / "fig07.svg", "fig07") == "Heat maps. The left one is dark."
    assert pictures.alt(tmp_path / "fig08.svg", "fig08") == pictures.ALT["fig08"]


def test_vectors_are_taken_where_they_are_small(tmp_path, monkeypatch):
    monkeypatch.setenv("COVID_HOME", str(tmp_path))
    folder = paths.results(PROFILE) / "figures"
    folder.mkdir(parents=True)
    for name, size in (("fig07.svg", 10), ("fig10_1.svg", pictures.VECTOR_LIMIT + 1)):
        (folder / name).write_bytes(b"x" * size)
    (folder / "fig10_1.png").write_bytes(b"x")
    assert [file.name for file in pictures.files(PROFILE, "fig07")] == ["fig07.svg"]
    assert [file.name for file in pictures.files(PROFILE, "fig10")] == ["fig10_1.png"]
    assert pictures.files(PROFILE, "fig1") == []


# What is refused


@pytest.fixture
def few_results(tmp_path, monkeypatch):
    monkeypatch.setenv("COVID_HOME", str(tmp_path))
    paths.results(PROFILE).mkdir(parents=True)
    return paths.results(PROFILE)


def test_without_verdicts_there_is_no_site(few_results, capsys):
    assert command.main(["report", "--profile", PROFILE]) == 1
    said = capsys.readouterr().err
    assert "results/sample/verdicts.csv: not there yet" in said
    assert "make reproduce PROFILE=sample" in said
    assert not paths.site(PROFILE).exists()


def test_a_verdict_that_nobody_knows_is_refused(few_results):
    row = dict.fromkeys(verdicts.COLUMNS, "") | {"id": "p01", "verdict": "perhaps"}
    pd.DataFrame([row]).to_csv(few_results / "verdicts.csv", index=False)
    with pytest.raises(ResultsError, match="perhaps"):
        contents.read_verdicts(PROFILE)


def test_verdicts_without_a_column_are_refused(few_results):
    (few_results / "verdicts.csv").write_text("id,verdict\np01,differs\n")
    with pytest.raises(ResultsError, match=r"verdicts\.csv.*source_run"):
        contents.read_verdicts(PROFILE)


def test_a_build_that_fails_leaves_the_site_as_it_was(small_site, monkeypatch):
    home = small_site.folder.parents[2]
    monkeypatch.setenv("COVID_HOME", str(home))

    def write_a_dead_link(profile, source):
        shutil.rmtree(source)
        (source / "extra").mkdir(parents=True)
        (source / "static").mkdir()
        (source / "index.md").write_text("# Data\n\n[nowhere](nowhere.md)\n", encoding="utf8")

    monkeypatch.setattr(build, "write_source", write_a_dead_link)
    before = (small_site.folder / "data.html").read_bytes()
    with pytest.raises(ResultsError, match="nowhere"):
        build.build(PROFILE)
    assert (small_site.folder / "data.html").read_bytes() == before
    assert [path.name for path in small_site.folder.parent.iterdir()] == [PROFILE]


def test_a_section_that_a_notebook_lacks_is_empty():
    assert notebooks.section("05_tables", "No such heading") == ""


# In a browser


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "google-chrome", "chromium-browser", "google-chrome-stable")
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if not program:
        pytest.skip("no browser: neither chromium nor google-chrome on PATH, nor CHROMIUM set")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        yield browser
        browser.close()


@pytest.fixture
def tab(browser):
    """A new tab, wide and light; what it complains of and asks for is noted."""
    yield from opened(browser, 1280, "light")


def opened(browser, width, theme):
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=theme, offline=True
    )
    page = context.new_page()
    page.set_default_timeout(120_000)  # a machine may be busy with other work
    page.said, page.asked = [], []
    page.on("console", lambda line: page.said.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    yield page
    context.close()


def show(tab, site, name):
    tab.goto((site.folder / f"{name}.html").as_uri())


def test_pages_open_quietly_and_fit_and_axe_finds_nothing_serious(browser, sample_site):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    for tab in opened(browser, 360, "light"):
        for name in sample_site.pages:
            tab.set_viewport_size({"width": 360, "height": 740})
            tab.emulate_media(color_scheme="light")
            show(tab, sample_site, name)
            size = tab.evaluate(
                "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
            )
            assert size[0] <= size[1], f"{name} scrolls sideways: {size}"
            assert tab.said == [], name
            tab.set_viewport_size({"width": 1280, "height": 900})
            tab.evaluate(FEWER)
            assert serious(axe, tab) == [], name
            # The themes differ in colours alone, so the dark one is asked about these.
            tab.emulate_media(color_scheme="dark")
            tab.wait_for_function("document.documentElement.dataset.theme === 'dark'")
            assert serious(axe, tab, "color-contrast", "link-in-text-block") == [], name
        foreign = [url for url in tab.asked if not url.startswith(("file:", "data:", "blob:"))]
        assert foreign == []


def serious(axe, tab, *rules):
    """What axe calls serious or critical, by all of its rules or some."""
    # Without preload: it would fetch style sheets anew, which pages from disk may not.
    options = {"resultTypes": ["violations"], "preload": False}
    if rules:
        options["runOnly"] = {"type": "rule", "values": list(rules)}
    return [
        (violation["id"], violation["nodes"][0]["html"][:200])
        for violation in axe.run(tab, options=options).response["violations"]
        if violation["impact"] in ("serious", "critical")
    ]


def column(tab, place):
    script = """place => [...document.querySelectorAll('table.results')[0].tBodies[0].rows]
        .map(row => row.cells[place]).map(cell => cell.dataset.sort || cell.textContent)"""
    return tab.evaluate(script, place)


def test_a_press_sorts_and_another_turns_it_round(tab, small_site):
    show(tab, small_site, "index")
    heading = tab.locator("table.results").first.locator("thead th").nth(2)
    before = [text for text in column(tab, 2) if text]
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    sorted_up = column(tab, 2)
    filled = [float(text) for text in sorted_up if text]
    assert filled == sorted(map(float, before))
    assert sorted_up[: len(filled)] == [text for text in sorted_up if text], "empty cells are last"
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert [float(text) for text in column(tab, 2) if text] == filled[::-1]


def test_the_keyboard_reaches_and_sorts_tables(tab, small_site):
    show(tab, small_site, "data")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to main content"
    tab.keyboard.press("Enter")
    for _ in range(30):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.getAttribute('role')") == "region":
            break
    label = tab.evaluate("document.activeElement.getAttribute('aria-label')")
    assert label.startswith("Table 1. ")
    outline = tab.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "sort"
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.parentElement.ariaSort") == "ascending"


def test_a_number_leads_to_its_run(tab, small_site):
    show(tab, small_site, "task1")
    tab.locator("table.results a.origin").first.click()
    assert tab.url.endswith("provenance.html#run-task1")
    assert tab.locator("section:target h2").inner_text() == "task1"
