"""How far a computation is: seen where somebody watches, stored in no notebook; times."""

import nbformat
import pytest
from nbclient import NotebookClient

from covid_utils import progress

CELL = """
from covid_utils import progress
print(*progress.bar("abc", desc="letters"))
"""


def test_a_stored_notebook_holds_no_bar(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    NotebookClient(notebook, kernel_name="python3").execute()
    assert [output.text for output in notebook.cells[0].outputs] == ["a b c\n"]


@pytest.mark.parametrize("is_watched", [True, False])
def test_who_watches_sees_what_is_counted(is_watched, monkeypatch, capsys):
    if is_watched:
        monkeypatch.setenv("JPY_SESSION_NAME", "watched")
    assert [*progress.bar("abc", desc="letters")] == [*"abc"]
    assert ("letters" in capsys.readouterr().err) == is_watched


def test_time_per_item_warms_up_and_goes_round(monkeypatch):
    monkeypatch.setattr(progress, "CALLS", 7)
    seen = []
    times = progress.time_per_item(seen.append, items=3)
    assert seen == [0, 0, 1, 2, 0, 1, 2, 0]
    assert 0 <= times["median"] <= times["p95"]
    assert times["calls"] == len(times["each"]) == 7
