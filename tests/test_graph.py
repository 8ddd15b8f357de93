"""The graph of notebooks: its jobs, how it fails, where it goes on."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from filelock import FileLock

from covid_utils import paths
from covid_utils.graph import jobs


def run(command, **variables):
    """Run a command in the project's folder."""
    options = {"cwd": paths.PROJECT, "env": os.environ | variables, "timeout": 300}
    return subprocess.run(command, check=False, capture_output=True, text=True, **options)


@pytest.fixture
def graph(tmp_path):
    """Run Snakemake with results below a temporary folder; (exit code, terminal text)."""

    def snakemake(*options, data="", cores=1, imagenet="", home=tmp_path):
        command = [Path(sys.executable).with_name("snakemake"), "--profile", "profiles/local"]
        command += ["--cores", str(cores), *options, "--config", "profile=quick"]
        folders = {"COVID_HOME": str(home), "COVID_DATA_DIR": data}
        done = run(command, COVID_IMAGENET=imagenet, **folders)
        return done.returncode, done.stdout + done.stderr

    return snakemake


def planned(text):
    """Job counts of a dry run's summary."""
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", text, re.M)}


def test_every_notebook_runs_and_the_streams_wait_for_the_nodules(graph, tmp_path):
    home = tmp_path / "br{a}ce it's $HOME `x`"
    file = "my $weights `x` {y}.h5"
    options = ("--dry-run", "--printshellcmds", "--quiet", "host")
    code, text = graph(*options, cores=2, imagenet=file, home=home)
    assert code == 0, text
    counts, every = planned(text), jobs(file)
    assert counts.pop("total") == len(every) + 1  # and the rule that asks for all of them
    assert counts == dict.fromkeys([*every, "all"], 1)
    stream = text.split("rule stream_ggo_deeplab:")[1]
    assert ".done/stream_nodule_deeplab" in stream.split("output:")[0]
    assert file not in text  # it goes through the environment, never through a shell
    # The run from ImageNet takes every core, and is averaged with the other starts.
    rules = re.split(r"^\s*(?:local)?rule ", text, flags=re.M)
    (together,) = (rule for rule in rules if rule.startswith("together:"))
    for job in ("stream_all_deeplab", "stream_all_deeplab_random", "stream_all_deeplab_imagenet"):
        assert f".done/{job}" in together.split("output:")[0]
    (own,) = (rule for rule in rules if rule.startswith("stream_all_deeplab_imagenet:"))
    assert "COVID_THREADS=2" in own
    assert all("COVID_THREADS=2" not in rule for rule in rules if rule != own)
    assert every["stream_all_deeplab_imagenet"].settings["weights"] == file


def test_a_failing_notebook_stops_the_run_and_says_why(graph, tmp_path):
    code, text = graph(data="a folder #1 {x}")
    assert code != 0
    assert "01_data FAILED" in text
    assert re.search(r"cell +number \d+\n +\|", text)
    assert "DataError: a folder #1 {x}: no such folder" in text
    executed = tmp_path / "results" / "quick" / "notebooks" / "data.ipynb"
    cells = nbformat.read(executed, as_version=4).cells
    outputs = [out for cell in cells if cell.cell_type == "code" for out in cell.outputs]
    assert any(out.output_type == "error" and out.ename == "DataError" for out in outputs)
    assert not (tmp_path / "results" / "quick" / "data" / "manifest.csv").exists()


def test_a_mistyped_parameter_stops_before_the_notebook_starts(tmp_path):
    command = [sys.executable, "workflow/run_job.py", "data", "--set", "vaildation_percent=10"]
    done = run(command, COVID_HOME=str(tmp_path))
    assert done.returncode == 1
    assert "did you mean 'validation_percent'?" in done.stderr
    assert not (tmp_path / "results").exists()


def execute(folder, *sources, kernel="python3"):
    """Run a notebook of some cells through `run_job.execute`."""
    kernel = {"name": kernel, "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(notebook, folder / "own.ipynb")
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, 'workflow')\n"
        "import run_job\n"
        f"run_job.paths.NOTEBOOKS = Path({str(folder)!r})\n"
        f"target = Path({str(folder / 'out' / 'own.ipynb')!r})\n"
        "print(run_job.execute('own', target, {}))\n"
    )
    return run([sys.executable, "-c", code], JUPYTER_PATH=str(folder))


def test_a_kernel_that_does_not_start_says_why_in_a_sentence(tmp_path):
    missing = execute(tmp_path, "1", kernel="absent")
    assert missing.stdout == "  No such kernel named absent; 'make setup' installs the kernel.\n"
    folder = tmp_path / "kernels" / "broken"
    folder.mkdir(parents=True)
    command = [sys.executable, "-c", "raise ImportError('no ipykernel')", "{connection_file}"]
    spec = {"argv": command, "display_name": "broken", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    broken = execute(tmp_path, "1", kernel="broken")
    assert broken.stdout.startswith("  The kernel did not start: ImportError: no ipykernel; 'make")
    assert broken.stderr == ""


def test_a_kernel_that_dies_is_named_with_its_cell(tmp_path):
    ending = "import os\nos._exit(1)  # what the system does when memory is short"
    done = execute(tmp_path, "fine = 1", ending)
    assert "DeadKernelError" in done.stdout, done.stderr[-500:]
    assert re.search(r"cell +number 1\n +\| import os\n", done.stdout)
    assert (tmp_path / "out" / "own.ipynb").is_file()


def test_a_second_run_of_a_profile_is_refused_in_one_sentence(graph, tmp_path):
    folder = tmp_path / "results" / "quick"
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):
        code, text = graph("--", "data")
    assert code == 1
    assert "Another run of the profile 'quick' is writing results/quick; wait until" in text
    assert not (folder / "data").exists()
