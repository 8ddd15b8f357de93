"""Run one notebook through papermill, and say on the terminal how it goes.

The executed notebook is written to ``results/<profile>/notebooks/<job>.ipynb``. When a cell fails,
that file holds everything up to it, the terminal gets the notebook, the cell and the exception, and
the exit code is 1.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import warnings
from pathlib import Path

import yaml

from covid_utils import params, paths
from covid_utils.errors import CompanionError

SOURCE_LINES = 6


def main() -> int:
    """Read the command line, run the notebook, report."""
    arguments = _arguments()
    shown = f"{arguments.notebook}" + (f" ({arguments.label})" if arguments.label else "")
    where = f"[{arguments.position}] {shown}"
    started = float(os.environ.get("COVID_STARTED") or time.time())
    _say(f"{_elapsed(started)}  {where} ...")
    begin = time.perf_counter()
    try:
        changes = dict(_setting(text) for text in arguments.set)
        values = params.load(arguments.profile, arguments.notebook, **changes)
        target = paths.results(arguments.profile) / "notebooks" / f"{arguments.job}.ipynb"
        failure = execute(arguments.notebook, target, values)
    except CompanionError as error:
        failure = f"  {error}"
    if failure:
        _say(f"\n{_elapsed(started)}  {where} FAILED\n{failure}\n")
        return 1
    _say(f"{_elapsed(started)}  {where} done in {time.perf_counter() - begin:.0f} s")
    return 0


def execute(notebook: str, target: Path, values: dict) -> str:
    """Run a notebook; what failed, as text, or '' if nothing did."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    logging.getLogger("papermill").setLevel(logging.ERROR)
    # papermill remarks on its own use of nbformat and asyncio, which nobody here can act on.
    warnings.filterwarnings("ignore", module="papermill|nbformat|nbclient|jupyter_client")
    target.parent.mkdir(parents=True, exist_ok=True)
    source = paths.notebooks() / f"{notebook}.ipynb"
    try:
        papermill.execute_notebook(
            source, target, values, cwd=paths.notebooks(), progress_bar=False
        )
    except PapermillExecutionError as error:
        lines = error.source.strip().splitlines()
        more = ["..."] if len(lines) > SOURCE_LINES else []
        code = "\n".join(f"    | {line}" for line in [*lines[:SOURCE_LINES], *more])
        return (
            f"  notebook  {paths.shown(target)}, executed up to the failing cell\n"
            f"  cell      number {error.cell_index}, [{error.exec_count}]\n{code}\n"
            f"  {error.ename}: {error.evalue}"
        )
    return ""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebook", help="name without .ipynb")
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--job", required=True, help="name of the executed notebook")
    parser.add_argument("--label", default="", help="what tells this job from its siblings")
    parser.add_argument("--position", default="1/1", help="which job of how many")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    return parser.parse_args()


def _setting(text: str) -> tuple[str, object]:
    name, _, value = text.partition("=")
    return name, yaml.safe_load(value) if value else ""


def _elapsed(started: float) -> str:
    minutes, seconds = divmod(int(time.time() - started), 60)
    return f"{minutes:3d}:{seconds:02d}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
