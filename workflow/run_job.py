"""Run one job of the graph, with its progress on the terminal: a notebook, or the scores.

A notebook runs through papermill, and the executed one is written to
``results/<profile>/notebooks/<job>.ipynb``. When a cell fails, that file holds everything up to it,
the terminal gets the notebook, the cell and the exception, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat

from covid_utils import graph, params, paths, registry, runs
from covid_utils.data.manifest import left_out
from covid_utils.errors import CompanionError

SOURCE_LINES = 6


def main() -> int:
    """Read the command line, run the job, report."""
    arguments = _arguments()
    job = graph.jobs(os.environ.get("COVID_IMAGENET", "")).get(arguments.job)
    if job is None:
        _print(f"{arguments.job}: no such job; there are {', '.join(graph.jobs('imagenet'))}.")
        return 1
    label = f"[{arguments.position or '1/1'}] {job.title}"
    started = float(os.environ.get("COVID_STARTED") or time.time())
    if reason := _left_out(job, arguments):
        _print(f"{_elapsed(started)}  {label} left out: {reason}")
        return 0
    _print(f"{_elapsed(started)}  {label} ...")
    begin = time.perf_counter()
    try:
        failure = run(job, arguments.profile, arguments.set)
    except CompanionError as error:
        failure = f"  {error}"
    except OSError as error:  # a full disk, a folder that nobody may write to
        place = paths.shown(Path(error.filename)) if error.filename else "results"
        failure = f"  {place}: {error.strerror}; mend that, and the same command goes on from here."
    if failure:
        _print(f"\n{_elapsed(started)}  {label} FAILED\n{failure}\n")
        return 1
    _print(f"{_elapsed(started)}  {label} done in {time.perf_counter() - begin:.0f} s")
    if job.name == registry.DATA:
        _print_untested(arguments.profile)
    return 0


def _left_out(job: graph.Job, arguments: argparse.Namespace) -> str:
    """Why the graph leaves a job out once the data are read: what it needs could not be read.

    By hand there is no position, and the notebook itself says what it needs.
    """
    absent = left_out(arguments.profile) if arguments.position else {}
    reasons = [absent[run] for run in job.runs if run in absent]
    skipped = paths.shown(paths.results(arguments.profile) / "data" / "skipped.csv")
    return f"{reasons[0]}; {skipped} says what cannot be read." if reasons else ""


def _print_untested(profile: str) -> None:
    """Say which classes have no patient in a subset: their scores will be missing."""
    from covid_utils.data.collection import NO_PATIENT  # other jobs only start a kernel

    skipped = runs.read_table(profile, "data/skipped")
    for row in skipped[skipped["problem"].str.match(NO_PATIENT.format(".*"))].itertuples():
        _print(f"         {row.dataset}, {row.path}: {row.problem}. {row.remedy}")


def run(job: graph.Job, profile: str, settings: list[str]) -> str:
    """Run a job; returns what failed, as text, '' if nothing did."""
    if not job.notebook:
        from covid_utils.evaluation import scores  # other jobs only start a kernel

        scores.write(profile)
        return ""
    values = parameters(job, profile, settings)
    target = paths.results(profile) / "notebooks" / f"{job.name}.ipynb"
    return execute(job.notebook, target, values)


def parameters(job: graph.Job, profile: str, settings: list[str]) -> dict:
    """Parameters of a job: its profile's files, then its own, then those of the command line."""
    changes = job.settings | dict(params.from_text(job.notebook, text) for text in settings)
    if os.environ.get("COVID_DATA_DIR"):
        changes["data_dir"] = os.environ["COVID_DATA_DIR"]
    return params.load(profile, job.notebook, job.name, **changes)


def execute(notebook: str, target: Path, values: dict) -> str:
    """Run a notebook.

    Returns:
        What failed, as text; '' if nothing did.
    """
    import papermill
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    logging.getLogger("papermill").setLevel(logging.ERROR)
    target.parent.mkdir(parents=True, exist_ok=True)
    source = paths.NOTEBOOKS / f"{notebook}.ipynb"
    # Papermill formats paths, so braces in a folder's name are doubled.
    files = (str(path).replace("{", "{{").replace("}", "}}") for path in (source, target))
    try:
        with quiet() as words:
            papermill.execute_notebook(*files, values, cwd=paths.NOTEBOOKS, progress_bar=False)
    except PapermillExecutionError as error:
        what = f"{error.ename}: {error.evalue}"
        return _failure(target, error.cell_index, error.source, what)
    except DeadKernelError:
        what = "DeadKernelError: the kernel stopped without a message; is memory short?"
        return _failure(target, *_last_started(target), what)
    except NoSuchKernel as error:
        return f"  {error}; 'make setup' installs the kernel."
    except RuntimeError as error:
        causes = re.findall(r"^\w+(?:Error|Exception): .*", words.getvalue(), re.M) or [str(error)]
        return f"  The kernel did not start: {causes[-1]}; 'make setup' installs what it needs."
    return ""


def _failure(target: Path, index: int, code: str, what: str) -> str:
    lines = code.strip().splitlines()
    more = ["..."] if len(lines) > SOURCE_LINES else []
    shown = "\n".join(f"    | {line}" for line in [*lines[:SOURCE_LINES], *more])
    where = f"{paths.shown(target)}, executed up to the failing cell"
    return f"  notebook  {where}\n  cell      number {index}\n{shown}\n  {what}"


def _last_started(target: Path) -> tuple[int, str]:
    """Number and source of the last cell that the saved notebook says was started."""
    cells = nbformat.read(target, as_version=4).cells
    started = [
        (index, cell.source)
        for index, cell in enumerate(cells)
        if cell.metadata.get("papermill", {}).get("start_time")
    ]
    return started[-1] if started else (0, "")


@contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Keep what kernels and libraries write to standard error from the terminal.

    What matters of it is in the executed notebook; the terminal is for `_print`. Gives the text
    when the block has ended.
    """
    sys.stderr.flush()
    kept, words = os.dup(2), io.StringIO()
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield words
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            words.write(file.read().decode(errors="replace"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", help="name of a job in covid_utils.graph")
    parser.add_argument("--profile", default="quick", choices=registry.PROFILES)
    parser.add_argument("--position", default="", help="which job of how many")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    return parser.parse_args()


def _elapsed(started: float) -> str:
    minutes, seconds = divmod(int(time.time() - started), 60)
    return f"{minutes:3d}:{seconds:02d}"


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
