"""The site of the committed results, built in a folder of its own."""

import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import nbformat
import pytest

from covid_utils import paths


def write_notebook(path, title, fails=False):
    v4 = nbformat.v4
    outputs = [v4.new_output("error", ename="ValueError", evalue="no")] if fails else []
    cells = [v4.new_markdown_cell(title), v4.new_code_cell('profile = "sample"', outputs=outputs)]
    path.parent.mkdir(parents=True, exist_ok=True)
    language = {"language_info": {"name": "python"}}
    nbformat.write(v4.new_notebook(cells=cells, metadata=language), path)


def build(home, profile="sample"):
    command = [sys.executable, str(paths.PROJECT / "docs" / "build.py"), profile]
    env = os.environ | {"COVID_HOME": str(home), "PYTHONPATH": str(paths.PROJECT)}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def built_in(home):
    """The site in a home, with one notebook executed and one that failed; its pages as text."""
    command = ["git", "ls-files", "-z", "results/sample"]
    listed = subprocess.run(command, cwd=paths.PROJECT, capture_output=True, text=True, check=False)
    files = [name for name in listed.stdout.split("\0") if name]
    if not files:
        pytest.skip("no git here, or no repository")
    for name in files:
        if (paths.PROJECT / name).is_file():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(paths.PROJECT / name, home / name)
    results = home / "results" / "sample"
    write_notebook(results / "notebooks" / "data.ipynb", "# 1 · Data: executed")
    write_notebook(results / "notebooks" / "task1.ipynb", "# 2 · Recognition: failed", fails=True)
    done = build(home)
    assert done.stdout == "build/site/sample/index.html: open it in a browser.\n", done.stderr
    folder = home / "build" / "site" / "sample"
    pages = {
        path.relative_to(folder).as_posix().removesuffix(".html"): path.read_text(encoding="utf8")
        for path in sorted(folder.rglob("*.html"))
        if "_static" not in path.parts and "tables" not in path.parts
    }
    return SimpleNamespace(home=home, folder=folder, pages=pages, results=results)
