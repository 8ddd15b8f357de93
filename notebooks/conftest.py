"""How nbval reads the notebooks' stored outputs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

#: Notebooks that show the committed results of the sample profile, compared to the letter.
SHOW_RESULTS = ("00_overview.ipynb", "05_tables.ipynb", "06_as_published.ipynb")


def pytest_collectstart(collector):
    """Leave warnings out of the comparison: they come and go with the versions of libraries."""
    if collector.fspath and collector.fspath.ext == ".ipynb":
        collector.skip_compare += ("stderr",)


def pytest_collection_modifyitems(items):
    """Skip the strict comparison where results/sample holds another machine's run."""
    changed = _changed_results()
    for item in items:
        if changed and item.path.name in SHOW_RESULTS:
            reason = "results/sample was made anew here; the stored outputs show the committed ones"
            item.add_marker(pytest.mark.skip(reason=reason))


def _changed_results() -> bool:
    root = Path(__file__).parents[1]
    names = ["results/sample/data", "results/sample/*/predictions.parquet"]
    command = [
        "git",
        "-C",
        str(root),
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        *names,
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return bool(done.stdout.strip())
