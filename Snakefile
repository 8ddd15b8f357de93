# The notebooks as a graph. `make reproduce` runs it; by hand:
#   snakemake --cores 2 --config profile=quick
#   COVID_DATA_DIR=../scans snakemake --cores 2 --config profile=sample
# One job is one notebook run, except the scores, and `covid_utils.graph` lists them. A job writes
# run folders below results/<profile>/ and leaves the executed notebook in results/<profile>/notebooks/,
# also when it fails. Its mark of success in .done/ is its only output for Snakemake, which deletes
# the outputs of jobs that fail: results of an earlier run stay until the new ones are whole.
#
# Snakemake takes braces in a path for a wildcard. So it works in the folder that results are written
# to, knows the marks only, and learns from a hash whether anything else has changed.

# What the data sets do not allow is left out, and said at the start.

import os
import sys
import time
from hashlib import sha256
from pathlib import Path

from filelock import FileLock, Timeout

from covid_utils import graph, paths, registry
from covid_utils.data import collection, readers

PROFILE = config.get("profile", "quick")
if PROFILE not in registry.PROFILES:
    sys.exit(f"profile '{PROFILE}' is none of {', '.join(registry.PROFILES)}; check PROFILE=.")

# Kernels inherit these. Folders and files come through the environment and never through a shell,
# so that their names may hold any sign.
os.environ.setdefault("COVID_STARTED", str(time.time()))
os.environ["COVID_EXACT"] = str(int(PROFILE not in registry.REAL_PROFILES))
DATA_FOLDER = os.environ.get("COVID_DATA_DIR", "")
IMAGENET = os.environ.get("COVID_IMAGENET", "")
# The phantom has every set; a folder without any gets all jobs, and the first says what is wrong.
FOLDER = paths.scans(DATA_FOLDER)
SETS = readers.present(FOLDER) if DATA_FOLDER else []
EVERY = graph.jobs(IMAGENET)
JOBS, LEFT_OUT = graph.possible(EVERY, SETS) if SETS else (EVERY, {})
OUT = f"results/{PROFILE}"
WORKFLOW = paths.PROJECT / "workflow"


workdir: str(paths.home())


# Snakemake's own lock would outlive a run that was killed; this one ends with its process.
LOCK = FileLock(f"{OUT}/.lock")
if workflow.is_main_process and not workflow.dryrun:
    try:
        Path(OUT).mkdir(parents=True, exist_ok=True)
        LOCK.acquire(timeout=0)
    except Timeout:
        sys.exit(
            f"Another run of the profile '{PROFILE}' is writing {OUT}; wait until it has ended, or "
            "stop it."
        )


if workflow.is_main_process and SETS:
    for sentence in graph.sentences(EVERY, SETS):
        print(f"Left out: {sentence}.", file=sys.stderr)
    if any(Path(OUT, run).exists() for name in LEFT_OUT for run in EVERY[name].runs):
        print(f"What an earlier run left of these in {OUT} is not used.", file=sys.stderr)


def done(name):
    """Mark of a finished job. It is never committed: results/sample holds another machine's run,
    and a fresh clone must not take that for its own."""
    return f"{OUT}/.done/{name}"


def depends_on(job):
    """Hash of what means running a job again when it changes: notebook, parameters, code, the
    paper's statements, the data folder and its files, and the job's own settings."""
    rooms = job.code or registry.NOTEBOOKS.get(job.notebook, registry.SCORES_CODE)
    utils = paths.PROJECT / "covid_utils"
    folders = [paths.PROJECT / room if room == "covid_read" else utils / room for room in rooms]
    folders += [paths.PROJECT / "chest_phantom"] if "data" in rooms else []
    files = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    if job.notebook:
        files += [paths.NOTEBOOKS / f"{job.notebook}.ipynb"]
        files += [paths.params(PROFILE) / f"{name}.yaml" for name in (job.notebook, job.name)]
        files += sorted(paths.CLAIMS.parent.glob("*.yaml")) if "report" in rooms else []
    contents = [path.read_bytes() for path in files if path.is_file()]
    scans = collection.fingerprint(FOLDER) if SETS and job.name == registry.DATA else ""
    return sha256(repr((DATA_FOLDER, SETS, scans, job.settings, contents)).encode()).hexdigest()


# A run folder that was deleted is made again.
for job in JOBS.values():
    if not all(Path(OUT, run).is_dir() for run in job.runs):
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
            [done(name) for name in job.needs],
        output:
            touch(done(job.name)),
        log:
            f"{OUT}/notebooks/{job.name}.ipynb",
        priority: job.priority
        threads: workflow.cores if job.all_cores else 1
        params:
            command=lambda _: [
                *(sys.executable, str(WORKFLOW / "environment.py")),
                *(sys.executable, str(WORKFLOW / "run_job.py")),
            ],
            job=f"{job.name} --profile {PROFILE} --position {position}/{len(JOBS)}",
            depends_on=depends_on(job),
        shell:
            "COVID_THREADS={threads} {params.command:q} {params.job}"


onerror:
    print(
        f"\nStopped. The failing notebook is in results/{PROFILE}/notebooks/, executed up to the error;"
        "\nthe same command continues from here once the cause is mended.",
        file=sys.stderr,
    )
