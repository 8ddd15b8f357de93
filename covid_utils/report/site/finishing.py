"""The last hand on every page: tables that can be sorted, scrolled and read aloud.

A Sphinx extension. Tables come from three hands (ours, Markdown's, and pandas' in notebooks); here
all get the same: a caption, headings with a scope, a button to sort by, a place of their own to
scroll in that the keyboard reaches, and numbers that sort as numbers.
"""

from __future__ import annotations

import re
from typing import Any

from bs4 import BeautifulSoup, Tag

#: A cell that begins like this sorts as a number.
NUMBER = re.compile(r"\s*([-+\u2212]?\d+(?:\.\d+)?)(?![\w:/])")


def setup(app: Any) -> dict[str, bool]:
    """Entry point of the extension."""
    app.connect("html-page-context", _on_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _on_page(_app: Any, _name: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
    if context.get("body"):
        context["body"] = finish(context["body"])


def finish(body: str) -> str:
    """A page's body with all its tables finished.

    Args:
        body: HTML.
    """
    soup = BeautifulSoup(body, "html.parser")
    taken: dict[str, int] = {}
    for table in soup.find_all("table"):
        label = _label(table)
        taken[label] = taken.get(label, 0) + 1
        if taken[label] > 1:  # places on one page need names of their own
            label = f"{label} ({taken[label]})"
        _caption(soup, table, label)
        _headings(soup, table)
        _numbers(table)
        _place(soup, table, label)
    return str(soup)


def _label(table: Tag) -> str:
    """What a table is called: its caption, or the heading above it."""
    caption = table.find("caption")
    if caption:
        return caption.get_text(" ", strip=True)
    heading = table.find_previous(re.compile("^h[1-6]$"))
    text = heading.get_text(" ", strip=True).rstrip("#").strip() if heading else ""
    return f"Table in the section “{text}”" if text else "Table"


def _caption(soup: BeautifulSoup, table: Tag, label: str) -> None:
    if not table.find("caption"):
        caption = soup.new_tag("caption", attrs={"class": "for-ears"})
        caption.string = label
        table.insert(0, caption)


def _headings(soup: BeautifulSoup, table: Tag) -> None:
    """Give headings a scope, and a button where rows may change places."""
    head = table.find("thead")
    lines = head.find_all("tr") if head else []
    for line in lines:
        for place, cell in enumerate(line.find_all("th")):
            cell["scope"] = "col"
            if not cell.get_text(strip=True):
                _name(soup, cell, "row" if place == 0 else "value", is_alone=len(lines) == 1)
    for cell in table.select("tbody th"):
        cell["scope"] = "row"
    is_plain = len(lines) == 1 and not table.select("[rowspan], [colspan]")
    if is_plain and len(table.select("tbody tr")) > 1:
        for cell in lines[0].find_all("th"):
            _button(soup, cell)


def _name(soup: BeautifulSoup, cell: Tag, name: str, is_alone: bool) -> None:
    """A heading without text: for ears a word, or no heading at all where there are several."""
    if not is_alone:
        cell.name = "td"
        del cell["scope"]
        return
    word = soup.new_tag("span", attrs={"class": "for-ears"})
    word.string = name
    cell.clear()
    cell.append(word)


def _button(soup: BeautifulSoup, cell: Tag) -> None:
    button = soup.new_tag("button", attrs={"type": "button", "class": "sort"})
    button.extend(list(cell.contents))
    cell.append(button)
    cell["aria-sort"] = "none"


def _numbers(table: Tag) -> None:
    """Note the value of cells that begin with a number."""
    for cell in table.select("tbody td, tbody th"):
        found = NUMBER.match(cell.get_text())
        if found and not cell.has_attr("data-sort"):
            cell["data-sort"] = found[1].replace("\u2212", "-")


def _place(soup: BeautifulSoup, table: Tag, label: str) -> None:
    """A region that scrolls by itself, so that the page never does."""
    parent = table.parent
    if parent is None or "pst-scrollable-table-container" not in parent.get("class", []):
        parent = table.wrap(soup.new_tag("div", attrs={"class": "pst-scrollable-table-container"}))
    parent["class"] = [*parent["class"], "table-region"]
    parent["role"], parent["tabindex"], parent["aria-label"] = "region", "0", label
