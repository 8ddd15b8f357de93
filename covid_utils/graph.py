"""The jobs of the graph: what a run of all notebooks consists of, and what each job needs.

The Snakefile makes its rules of them.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace

from covid_utils.registry import (
    CONDITIONS,
    DATA,
    EXTERNAL_SETS,
    FUSION,
    HOSPITALS,
    LESION_SETS,
    NODULE_SETS,
    RECOGNITION_SETS,
    STARTS,
    STREAMS,
    TASK1,
    TASK2,
    condition_run,
    missing_sets,
    stream_run,
)


@dataclass(frozen=True)
class Job:
    """One job of the graph: a notebook run, or, where no notebook is named, the scores."""

    name: str  # also of its executed notebook and its parameter file, if it has one
    notebook: str
    label: str = ""  # distinguishes the jobs of one notebook on the terminal
    settings: dict = field(default_factory=dict)  # parameters that make this job what it is
    needs: tuple[str, ...] = ()  # jobs before it
    takes_any: bool = False  # whether it runs even if some of them are left out
    sets: tuple[tuple[str, ...], ...] = ()  # folders of data sets: it needs one of each group
    parts: dict = field(default_factory=dict)  # what it does only with further sets -> such groups
    runs: tuple[str, ...] = ()  # run folders that it writes
    priority: int = 0  # jobs with a larger one start first
    all_cores: bool = False
    code: tuple[str, ...] = ()  # packages whose change runs it again, where not its notebook's

    @property
    def title(self) -> str:
        """Its notebook and label, as the terminal names it."""
        name = self.notebook or self.name
        return f"{name} ({self.label})" if self.label else name


def _stream_job(label: str, stream: str, model: str = "deeplab", start: str = "", **own) -> Job:
    """Job of a stream; one without a start of its own starts from nodules, if it is DeepLab."""
    is_first = stream == "nodule"
    after_nodules = model == "deeplab" and not start and not is_first
    name = stream_run(stream, model, start)
    priority = 0
    if is_first:
        priority = 20  # most streams wait for it
    elif name == stream_run("all"):
        priority = 15  # the test on other hospitals, a long job, waits for it
    return Job(
        name,
        "04_task3_stream",
        label,
        settings={"stream": stream, "model": model} | own,
        needs=(stream_run("nodule"),) if after_nodules else (DATA,),
        sets=(NODULE_SETS if is_first else LESION_SETS,),
        runs=(name,),
        priority=priority,
        all_cores=start == "imagenet",
    )


def _condition_job(label: str, conditions: tuple[str, ...], needs: tuple[str, ...], *sets) -> Job:
    return Job(
        f"as_published_{label}",
        "06_as_published",
        label,
        settings={"conditions": ", ".join(conditions)},
        needs=needs,
        sets=sets,
        runs=tuple(map(condition_run, conditions)),
    )


def jobs(imagenet: str = "") -> dict[str, Job]:
    """Every job of a profile, in the order in which the terminal counts them.

    ``imagenet``, the word or a weight file, adds a run of the all-class stream that starts there.
    """
    # Streams start from one nodule training, of training slices alone.
    nodule = _stream_job("nodule", "nodule", init="random", members=1, refit=False)
    recognition = Job(
        TASK1,
        "02_task1_inception",
        needs=(DATA,),
        sets=RECOGNITION_SETS,
        parts={"Table 4, X-rays and CT together,": (("COVID-CT",),)},
        runs=(TASK1,),
        priority=10,
    )
    labels = Job(TASK2, "03_task2_multilabel", needs=(DATA,), sets=(LESION_SETS,), runs=(TASK2,))
    streams = _lesion_streams(imagenet)
    chain = [Job(DATA, "01_data", runs=(DATA,)), nodule, recognition, labels, *streams]
    together, others = _jobs_of_streams(streams, imagenet)
    chain += [together, *_condition_jobs(streams), others]
    chain.append(Job("scores", "", needs=tuple(job.name for job in chain), takes_any=True))
    chain.append(Job("tables", "05_tables", needs=("scores",)))
    chain.append(
        Job(
            "as_published",
            "06_as_published",
            settings={"conditions": ""},
            needs=("tables",),
            code=("report",),
        )
    )
    # It reads one scan, so it can start beside the first job, when nothing else can.
    chain.append(Job("read_a_scan", "08_read_a_scan"))
    chain.append(Job("overview", "00_overview", needs=("as_published", "read_a_scan")))
    return {job.name: job for job in chain}


def _lesion_streams(imagenet: str) -> list[Job]:
    """Streams of lesions, the all-class one also with other networks and starts."""
    chain = [_stream_job(name, name) for name in STREAMS if name != "nodule"]
    chain.append(_stream_job("unet, random", "all", "unet", init="random"))
    chain.append(_stream_job("deeplab, random", "all", start="random", init="random"))
    if imagenet:
        weights = {"init": "imagenet", "weights": imagenet}
        chain.append(_stream_job("deeplab, imagenet", "all", start="imagenet", **weights))
    return chain


def _jobs_of_streams(streams: list[Job], imagenet: str) -> tuple[Job, Job]:
    """What fuses and averages streams, and what tests them on slices of other hospitals."""
    deeplab = tuple(job.name for job in streams if job.settings["model"] != "unet")
    # The usual all-class stream, and the one from ImageNet if there is one.
    tested = tuple(
        job.name
        for job in streams
        if job.name == stream_run("all") or job.settings.get("init") == "imagenet"
    )
    fused = {"needs": deeplab, "sets": (LESION_SETS,), "runs": (FUSION, STARTS)}
    others = {"needs": tested, "sets": (LESION_SETS, EXTERNAL_SETS), "runs": (HOSPITALS,)}
    settings = {"imagenet": imagenet}
    return (
        Job("together", "04_task3_together", settings=settings, **fused),
        Job(HOSPITALS, "07_other_hospitals", settings=settings, priority=10, **others),
    )


def _condition_jobs(streams: list[Job]) -> list[Job]:
    """Jobs that train under the conditions, each from what earlier jobs have computed."""
    of = {kind: tuple(name for name in CONDITIONS if name[0] == kind) for kind in "RM"}
    nodules = (stream_run("nodule"),)
    # S0 trains as the streams do, and reads the weights of those that are trained already; M2 has
    # X-rays, whose features the job before it has computed.
    trained = tuple(job.name for job in streams if job.settings.get("init") != "imagenet")
    xray = _condition_job("xray", of["R"], (DATA,), *RECOGNITION_SETS)
    return [
        xray,
        _condition_job("ct", of["M"], (xray.name,), *RECOGNITION_SETS, ("COVID-CT",)),
        _condition_job("S0", ("S0",), trained, LESION_SETS),
        _condition_job("others", ("S1", "S2", "S3", "T0", "T3"), nodules, LESION_SETS),
    ]


def possible(
    every: Mapping[str, Job], sets: Container[str]
) -> tuple[dict[str, Job], dict[str, str]]:
    """Jobs that can run on some data sets, and the name of each other one -> why it cannot.

    A job is left out if it lacks a data set, or if a job before it is left out and it does not take
    whatever is there.
    """
    kept, left_out = {}, {}
    for name, job in every.items():
        before = [every[need].title for need in job.needs if need in left_out]
        reason = missing_sets(job.sets, sets)
        if not reason and before and not job.takes_any:
            reason = f"comes after {before[0]}, which is left out"
        if reason:
            left_out[name] = reason
        else:
            needs = tuple(need for need in job.needs if need not in left_out)
            kept[name] = replace(job, needs=needs)
    return kept, left_out


def sentences(every: Mapping[str, Job], sets: Container[str]) -> list[str]:
    """For each job, or part of one, that is left out, its name and the reason."""
    kept, left_out = possible(every, sets)
    lines = [f"{every[name].title} {reason}" for name, reason in left_out.items()]
    for job in kept.values():
        for part, groups in job.parts.items():
            if reason := missing_sets(groups, sets):
                lines.append(f"{part} of {job.title} {reason}")
    return lines
