"""The line that tells how far a computation is: seen in a live notebook, stored in none."""

import json
import os
import subprocess
import sys

import IPython.display
import pytest

from covid_utils import progress

CELL = """
from covid_utils import progress
with progress.line():
    for step in (1, 2, 4):
        progress.tell(step, 4, f"step {step} of 4")
print("the end")
"""


@pytest.mark.parametrize("is_watched", [True, False])
def test_a_stored_notebook_never_holds_the_line(tmp_path, is_watched):
    code = f"""if True:
        import json, nbformat
        from nbclient import NotebookClient
        seen = []
        client = NotebookClient(nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell({CELL!r})]), kernel_name="python3")
        process = client.process_message
        def listen(message, *others):
            seen.append(message["content"].get("data", dict()).get("text/plain"))
            return process(message, *others)
        client.process_message = listen
        stored = client.execute().cells[0].outputs
        print(json.dumps([seen, [output.text for output in stored]]))
    """
    variables = os.environ | ({"JPY_SESSION_NAME": "watched"} if is_watched else {})
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=variables,
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    seen, stored = json.loads(done.stdout)
    assert stored == ["the end\n"]
    lines = [text for text in seen if text and text.startswith("step ")]
    assert lines == (
        [
            "step 1 of 4, about 0 s left",
            "step 2 of 4, about 0 s left",
            "step 4 of 4, about 0 s left",
        ]
        if is_watched
        else []
    )


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
