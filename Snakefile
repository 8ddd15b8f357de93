# The notebooks as a graph. `make reproduce` runs it; by hand:
#   snakemake --cores 2 --config profile=quick
#   COVID_DATA_DIR=../scans snakemake --cores 2 --config profile=sample
# One job is one notebook run, except the scores, and `covid_utils.registry` lists them. A job writes
# run folders below results/<profile>/ and leaves the executed notebook in results/<profile>/notebooks/,
# also when it fails. Its mark of success in .done/ is its only output for Snakemake, which deletes the outputs of
# jobs that fail: results of an earlier run stay until the new ones are whole.

import os
import sys
import time
from glob import glob
from hashlib import sha256
from pathlib import Path

from covid_utils import paths, registry

PROFILE = config.get("profile", "quick")
if PROFILE not in registry.PROFILES:
    sys.exit(f"profile '{PROFILE}' is none of {', '.join(registry.PROFILES)}; check PROFILE=.")

# Kernels inherit these. Folders and files come through the environment and never through a shell,
# so that their names may hold any sign.
os.environ.setdefault("COVID_STARTED", str(time.time()))
os.environ["COVID_EXACT"] = str(int(PROFILE not in registry.REAL_PROFILES))
DATA_FOLDER = os.environ.get("COVID_DATA_DIR", "")
IMAGENET = os.environ.get("COVID_IMAGENET", "")
JOBS = registry.jobs(IMAGENET)
OUT = paths.results(PROFILE)


def done(name):
    """Mark of a finished job. It is never committed: results/sample holds another machine's run,
    and a fresh clone must not take that for its own."""
    return f"{OUT}/.done/{name}"


def sources(job):
    """Files whose change means running a job again: notebook, parameters, code, paper."""
    rooms = registry.NOTEBOOKS.get(job.notebook, registry.SCORES_CODE)
    folders = [Path("covid_utils", room) for room in rooms]
    folders += [Path("chest_phantom")] if "data" in rooms else []
    code = [str(path) for folder in folders for path in sorted(folder.rglob("*.py"))]
    paper = sorted(glob("paper/*.yaml")) if "report" in rooms else []
    if not job.notebook:
        return code
    parameters = [f"params/{PROFILE}/{job.notebook}.yaml", *glob(f"params/{PROFILE}/{job.name}.yaml")]
    return [f"notebooks/{job.notebook}.ipynb", *parameters, *code, *paper]


# A run folder that was deleted is made again.
for job in JOBS.values():
    if not all((OUT / run).is_dir() for run in job.runs):
        Path(done(job.name)).unlink(missing_ok=True)


rule all:
    input:
        done("overview"),
    default_target: True


for position, job in enumerate(JOBS.values(), start=1):

    rule:
        name:
            job.name
        input:
            sources(job),
            [done(name) for name in job.needs],
        output:
            touch(done(job.name)),
        log:
            f"{OUT}/notebooks/{job.name}.ipynb",
        priority: job.priority
        threads: workflow.cores if job.all_cores else 1
        params:
            command=f"workflow/run_job.py {job.name} --profile {PROFILE}",
            position=f"{position}/{len(JOBS)}",
            python=sys.executable,
            # Other data or settings mean a new run. Hashed, because a name may hold any sign.
            inputs=sha256(repr((DATA_FOLDER, job.settings)).encode()).hexdigest(),
        shell:
            "COVID_THREADS={threads} {params.python:q} {params.command} --position {params.position}"


onerror:
    print(
        f"\nStopped. The failing notebook is in results/{PROFILE}/notebooks/, executed up to the error;"
        "\nthe same command continues from here once the cause is mended.",
        file=sys.stderr,
    )
