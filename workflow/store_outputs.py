"""Run a notebook with its own defaults and store its outputs in place, with clean metadata.

For maintainers, after a change to a notebook or to what it shows. What nbval would compare is kept;
what differs from run to run (times, papermill's notes) is taken out.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import nbformat
import papermill

from covid_utils import paths

NOISE = ("papermill", "execution", "ExecuteTime")


def main() -> int:
    """Run the notebook named on the command line."""
    path = Path(sys.argv[1]).resolve()
    kept = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / path.name
        papermill.execute_notebook(path, target, cwd=paths.NOTEBOOKS, progress_bar=False)
        executed = nbformat.read(target, as_version=4)
    for cell, clean in zip(executed.cells, kept.cells, strict=True):
        cell.metadata = {k: v for k, v in clean.metadata.items() if k not in NOISE}
        cell.id = clean.id
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    executed.metadata = {k: v for k, v in kept.metadata.items() if k not in NOISE}
    nbformat.write(executed, path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
