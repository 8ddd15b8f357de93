# The notebooks as a graph. `make reproduce` runs it; by hand:
#   snakemake --cores 2 --config profile=quick
#   COVID_DATA_DIR=../scans snakemake --cores 2 --config profile=sample
# One job is one notebook run. Every job writes its run folder under results/<profile>/ and leaves
# the executed notebook in results/<profile>/notebooks/, also when it fails.

import os
import sys
import time
from glob import glob
from hashlib import sha256
from pathlib import Path

from covid_utils import paths
from covid_utils.registry import PROFILES, STREAMS

PROFILE = config.get("profile", "quick")
OUT = str(paths.results(PROFILE))
SPECIAL = [stream for stream in STREAMS if stream != "nodule"]
# Further runs of the all-class stream. ImageNet weights come on demand only, with
# `--config imagenet=imagenet` (downloads) or a file. They fit the full width and nothing else: what
# that run has for itself is in `params/<profile>/stream_all_deeplab_imagenet.yaml`.
VARIANTS = {
    "stream_all_unet": {"model": "unet", "init": "random"},
    "stream_all_deeplab_random": {"model": "deeplab", "init": "random"},
}
if config.get("imagenet"):
    VARIANTS["stream_all_deeplab_imagenet"] = {
        "model": "deeplab",
        "init": "imagenet",
        "weights": config["imagenet"],
    }
JOBS = ["data", "stream_nodule_deeplab", "task1", "task2"]
JOBS += [f"stream_{stream}_deeplab" for stream in SPECIAL]
JOBS += [*VARIANTS, "together", "tables", "overview"]

if PROFILE not in PROFILES:
    sys.exit(f"profile '{PROFILE}' is none of {', '.join(PROFILES)}; check PROFILE=.")

os.environ.setdefault("COVID_STARTED", str(time.time()))


def command(notebook, job, label="", **settings):
    """Shell command of one notebook run."""
    place = f"{JOBS.index(job) + 1}/{len(JOBS)}" if job in JOBS else ""
    pairs = " ".join(f"'{name}={value}'" for name, value in settings.items())
    return (
        f"'{sys.executable}' workflow/run_notebook.py {notebook} --profile {PROFILE} --job {job}"
        f" --position '{place}' --label '{label}' --set {pairs}"
    )


def done(job):
    """Marker of a finished job. It is never committed: results/sample holds another machine's run,
    and a fresh clone must not take that for its own."""
    return f"{OUT}/.done/{job}"


def sources(notebook, *floors):
    """What a change of means running a notebook again: the notebook, its parameters, its code."""
    code = [path for floor in floors for path in sorted(Path("covid_utils", floor).rglob("*.py"))]
    return [f"notebooks/{notebook}.ipynb", f"params/{PROFILE}/{notebook}.yaml", *map(str, code)]


rule all:
    input:
        done("overview"),
    default_target: True


rule data:
    input:
        sources("01_data", "data"),
    output:
        f"{OUT}/data/manifest.csv",
        touch(done("data")),
    log:
        f"{OUT}/notebooks/data.ipynb",
    params:
        command=command("01_data", "data"),
        # Another folder means reading anew. Its hash, because a name may hold any sign.
        folder=sha256(os.environ.get("COVID_DATA_DIR", "").encode()).hexdigest(),
    shell:
        "{params.command}"


rule task1:
    input:
        sources("02_task1_inception", "data", "models", "training"),
        done("data"),
    output:
        f"{OUT}/task1/metrics.json",
        touch(done("task1")),
    log:
        f"{OUT}/notebooks/task1.ipynb",
    priority: 10
    params:
        command=command("02_task1_inception", "task1"),
    shell:
        "{params.command}"


rule task2:
    input:
        sources("03_task2_multilabel", "data", "models", "training"),
        done("data"),
    output:
        f"{OUT}/task2/metrics.json",
        touch(done("task2")),
    log:
        f"{OUT}/notebooks/task2.ipynb",
    params:
        command=command("03_task2_multilabel", "task2"),
    shell:
        "{params.command}"


rule nodule:
    input:
        sources("04_task3_stream", "data", "models", "training"),
        done("data"),
    output:
        f"{OUT}/stream_nodule_deeplab/metrics.json",
        touch(done("stream_nodule_deeplab")),
    log:
        f"{OUT}/notebooks/stream_nodule_deeplab.ipynb",
    priority: 20
    params:
        command=command(
            "04_task3_stream",
            "stream_nodule_deeplab",
            "nodule",
            stream="nodule",
            init="random",
            # Streams start from one training, of training slices alone.
            members=1,
            refit="false",
        ),
    shell:
        "{params.command}"


rule stream:
    input:
        sources("04_task3_stream", "data", "models", "training"),
        done("stream_nodule_deeplab"),
    output:
        f"{OUT}/stream_{{stream}}_deeplab/metrics.json",
        touch(f"{OUT}/.done/stream_{{stream}}_deeplab"),
    log:
        f"{OUT}/notebooks/stream_{{stream}}_deeplab.ipynb",
    wildcard_constraints:
        stream="|".join(SPECIAL),
    params:
        command=lambda wildcards: command(
            "04_task3_stream",
            f"stream_{wildcards.stream}_deeplab",
            wildcards.stream,
            stream=wildcards.stream,
        ),
    shell:
        "{params.command}"


rule variant:
    input:
        sources("04_task3_stream", "data", "models", "training"),
        lambda wildcards: glob(f"params/{PROFILE}/{wildcards.job}.yaml"),
        done("data"),
    output:
        f"{OUT}/{{job}}/metrics.json",
        touch(f"{OUT}/.done/{{job}}"),
    log:
        f"{OUT}/notebooks/{{job}}.ipynb",
    wildcard_constraints:
        job="|".join(VARIANTS),
    # The network of full width alone takes every core that there is.
    threads: lambda wildcards: workflow.cores if "imagenet" in wildcards.job else 1
    params:
        command=lambda wildcards: command(
            "04_task3_stream",
            wildcards.job,
            "{model}, {init}".format(**VARIANTS[wildcards.job]),
            stream="all",
            **VARIANTS[wildcards.job],
        ),
    shell:
        "TF_NUM_INTRAOP_THREADS={threads} OMP_NUM_THREADS={threads} {params.command}"


rule together:
    input:
        sources("04_task3_together", "data", "models", "training", "evaluation"),
        [done(f"stream_{stream}_deeplab") for stream in SPECIAL],
        [done(job) for job in VARIANTS if "deeplab" in job],
    output:
        f"{OUT}/fusion_deeplab/predictions.parquet",
        f"{OUT}/starts_deeplab/predictions.parquet",
        touch(done("together")),
    log:
        f"{OUT}/notebooks/together.ipynb",
    params:
        command=command("04_task3_together", "together", imagenet=config.get("imagenet", "")),
    shell:
        "{params.command}"


rule tables:
    input:
        sources("05_tables", "evaluation", "report"),
        "paper/claims.yaml",
        "paper/published.yaml",
        [done(job) for job in JOBS[:-2]],
    output:
        expand(f"{OUT}/tables/table{{number}}.csv", number=range(1, 10)),
        f"{OUT}/verdicts.csv",
        touch(done("tables")),
    log:
        f"{OUT}/notebooks/tables.ipynb",
    params:
        command=command("05_tables", "tables"),
    shell:
        "{params.command}"


rule overview:
    input:
        sources("00_overview", "report"),
        done("tables"),
    output:
        f"{OUT}/overview.json",
        touch(done("overview")),
    log:
        f"{OUT}/notebooks/overview.ipynb",
    params:
        command=command("00_overview", "overview"),
    shell:
        "{params.command}"


onerror:
    print(
        f"\nStopped. The failing notebook is in results/{PROFILE}/notebooks/, executed up to the error;"
        "\nthe same command continues from here once the cause is mended.",
        file=sys.stderr,
    )
