"""The line that tells how far a computation is: seen in a live notebook, stored in none."""

import IPython.display
import nbformat
from nbclient import NotebookClient

from covid_utils import progress

CELL = """
from covid_utils import progress
with progress.line():
    progress.tell(1, 4, "step 1 of 4")
print("the end")
"""


def test_a_stored_notebook_never_holds_the_line(monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "watched")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    NotebookClient(notebook, kernel_name="python3").execute()
    assert [output.text for output in notebook.cells[0].outputs] == ["the end\n"]


def test_the_time_left_follows_the_share_and_a_new_computation_begins_anew(monkeypatch):
    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda text: shown.append(text.data))
    clock = iter([0.0, 10.0, 20.0, 26.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    monkeypatch.setenv("JPY_SESSION_NAME", "watched")
    with progress.line():
        progress.tell(1, 4, "first, 1 of 4")
        progress.tell(2, 4, "first, 2 of 4")
        progress.tell(1, 4, "second, 1 of 4")
    progress.tell(3, 4, "nobody watches")
    assert shown == [
        "first, 1 of 4, about 30 s left",
        "first, 2 of 4, about 20 s left",
        "second, 1 of 4, about 18 s left",
    ]
