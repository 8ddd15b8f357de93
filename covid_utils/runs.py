"""Run folders: what a training run leaves behind, whole or not at all.

``results/<profile>/<run>/`` holds ``metrics.json``, ``predictions.parquet``, ``history.csv`` and
``provenance.json``. It is written under a temporary name and renamed when complete, so a run that
was killed leaves nothing that a table could pick up. Of two processes that record the same run the
second waits with renaming, and readers wait until it is done.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import psutil
from filelock import FileLock

from covid_utils import paths
from covid_utils.errors import ResultsError
from covid_utils.writing import whole, whole_folder

T = TypeVar("T")
RECORDED_PACKAGES = ("tensorflow", "tensorflow-cpu", "keras", "numpy", "opencv-python-headless")
#: Columns of texts that can be empty, of scores and of what is selected from them, and keys of the
#: tables, which are empty where there are no data.
TEXTS = {"task", "model", "start", "split", "subset", "unit", "note", "claim", "source_run"}
TEXTS |= {"work", "class", "average", "labels", "metric", "manifestation", "tested on", "run"}
TEXTS |= {"settings", "classes", "stage", "step", "without a patient"}
_ANSWERS = ("verdict", "reason", "source_run", "departures")
TEXTS |= {f"{answer}_{name}" for answer in ("as_published", "patients_apart") for name in _ANSWERS}


@dataclass
class Run:
    """A run that is being written; its folder gets its final name when the run ends well."""

    folder: Path

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Write ``metrics.json``: plain numbers, texts, lists and mappings."""
        write_json(self.folder / "metrics.json", metrics)

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """Write a table as ``<name>.csv``."""
        table.to_csv(self.folder / f"{name}.csv", index=False, float_format="%.6g")

    def write_predictions(self, table: pd.DataFrame) -> None:
        """Write ``predictions.parquet``, from which every score of the run is computed."""
        table.to_parquet(self.folder / "predictions.parquet", index=False)

    def write_outlines(self, pixels: pd.DataFrame, maps: dict[str, np.ndarray]) -> None:
        """Write pixel counts, and predicted labels and probabilities as ``maps.npz``; no scan."""
        self.write_predictions(pixels)
        if maps:
            np.savez_compressed(self.folder / "maps.npz", **maps)


@contextmanager
def record(
    profile: str, name: str, parameters: dict[str, Any], manifest: pd.DataFrame
) -> Iterator[Run]:
    """Record a run with its provenance; if the block raises, nothing is left of it.

    ``manifest`` has the rows that the run used: their hashes identify the data.
    """
    final = paths.results(profile) / name
    final.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(final, FileLock(_lock(final))) as partial:
        yield Run(partial)
        write_json(partial / "provenance.json", provenance(parameters, manifest))
    forget_done(profile, name)


def _lock(run: Path) -> Path:
    return run.with_name(f".{run.name}.lock")


def forget_done(profile: str, name: str) -> None:
    """Remove the graph's mark that a job is done.

    The graph sets it after its own jobs. After a run by hand, perhaps with other parameters, it is
    missing, so ``make reproduce`` computes the profile's own numbers again.
    """
    (paths.results(profile) / ".done" / name).unlink(missing_ok=True)


def opening(parameters: Mapping[str, Any], *names: str) -> str:
    """What to know before a notebook computes: its folders, and which runs it will replace.

    Folders are relative to where the notebook runs, so that the code of another checkout is told
    from one's own. ``names`` are the runs that the notebook writes; of those that are there, the
    settings that were others are listed.
    """
    results = paths.results(parameters["profile"])
    has_home = bool(os.environ.get("COVID_HOME"))
    shown = f"$COVID_HOME/{paths.shown(results)}" if has_home else os.path.relpath(results)
    lines = [f"Results: {shown}. Code: {os.path.relpath(paths.PROJECT / 'covid_utils')}."]
    new = {key: _without_folder(value) for key, value in parameters.items()}
    for name in names:
        path = results / name / "provenance.json"
        old = _json(path)["parameters"] if path.is_file() else {}
        others = [key for key in new if key in old and old[key] != new[key]]
        changed = ", ".join(f"{key} {old[key]!r}, now {new[key]!r}" for key in others)
        lines += [f"This replaces the run {name}, made with {changed}."] if changed else []
    return "\n".join(lines)


def provenance(parameters: dict[str, Any], manifest: pd.DataFrame) -> dict[str, Any]:
    """Where the numbers of a run come from: settings, code, packages, data, machine."""
    installed = {}
    for name in RECORDED_PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    tensorflow = sys.modules.get("tensorflow")
    gpus = tensorflow.config.list_physical_devices("GPU") if tensorflow else []
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in KiB, but bytes on a Mac
    return {
        "parameters": {name: _without_folder(value) for name, value in parameters.items()},
        # GPUs that TensorFlow sees, if it is in use; else the processor does the work.
        "device": ", ".join(gpu.name for gpu in gpus) or "CPU",
        "revision": revision(),
        "python": platform.python_version(),
        "packages": installed,
        "data_sha256": data_hash(manifest),
        "images": len(manifest),
        "threads": os.environ.get("TF_NUM_INTRAOP_THREADS", "all"),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") != "0",
        "processor": processor(),
        "peak_memory_mb": round(peak / (2**20 if sys.platform == "darwin" else 2**10)),
        # Of the whole process so far: a notebook's kernel records its run when all is computed.
        "cpu_seconds": round(time.process_time(), 1),
        "wall_seconds": round(time.time() - psutil.Process().create_time(), 1),
    }


def _without_folder(value: Any) -> Any:
    """A parameter as it may be published: an absolute path is cut to its last part."""
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def data_hash(manifest: pd.DataFrame) -> str:
    """Hash over a manifest's rows, in order: ids, content of images and masks, subsets."""
    columns = ["image_id", "sha256", "mask_sha256", "subset"]
    parts = [manifest[name].astype(str) for name in columns if name in manifest]
    text = "\n".join(" ".join(row) for row in zip(*parts, strict=True))
    return hashlib.sha256(text.encode()).hexdigest()


def revision() -> str:
    """Git revision of the code, with ``+changes`` if files differ; 'unknown' outside git."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(paths.PROJECT), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    folders = ("covid_utils", "covid_read", "chest_phantom", "notebooks", "params")
    try:
        changed = git("status", "--porcelain", "--", *folders)
        return git("rev-parse", "HEAD")[:12] + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def processor() -> str:
    """Name of the processor and the number of cores that may be used."""
    name = platform.processor() or platform.machine()
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        named = [line for line in listing.read_text().splitlines() if "model name" in line]
        name = named[0].split(":")[1].strip() if named else name
    return f"{name}, {os.cpu_count()} cores"


def write_json(path: Path, content: Any) -> None:
    """Write JSON that reads well in a diff."""
    text = json.dumps(_plain(content), indent=1, sort_keys=True, allow_nan=False)
    with whole(path) as partial:
        partial.write_text(text + "\n", encoding="utf8")


def _plain(content: Any) -> Any:
    """Content as JSON can hold it: NumPy numbers as numbers, what is not finite as null."""
    if isinstance(content, dict):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    if isinstance(content, np.generic):
        content = content.item()
    return None if isinstance(content, float) and not math.isfinite(content) else content


def read_metrics(profile: str, name: str) -> dict[str, Any]:
    """Metrics of a finished run."""
    return read(profile, f"{name}/metrics.json", _json)


def read_provenance(profile: str, name: str) -> dict[str, Any]:
    """Provenance of a finished run."""
    return read(profile, f"{name}/provenance.json", _json)


def read_predictions(profile: str, name: str) -> pd.DataFrame:
    """Predictions of a finished run."""
    return read(profile, f"{name}/predictions.parquet", pd.read_parquet)


def read_table(profile: str, name: str) -> pd.DataFrame:
    """``scores``, ``verdicts`` or ``tables/<name>``, as written; empty texts are ''."""
    form = {"keep_default_na": False, "na_values": [""], "dtype": {"paper": str}}
    form |= {"float_precision": "round_trip"}
    table = read(profile, f"{name}.csv", lambda path: pd.read_csv(path, **form))
    return table.fillna(dict.fromkeys(TEXTS & set(table), ""))


def select(table: pd.DataFrame, **criteria: object) -> pd.DataFrame:
    """Rows with these values, or one of a list of them; ``class_`` is the column ``class``."""
    for name, wanted in criteria.items():
        column = table[name.rstrip("_")]
        several = isinstance(wanted, list | tuple)
        table = table[column.isin(wanted) if several else column == wanted]
    return table


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except ValueError as error:
        raise ResultsError(
            f"{paths.shown(path)}: damaged; delete its folder and run again."
        ) from error


def read(profile: str, name: str, decode: Callable[[Path], T]) -> T:
    """Read a file of a profile's results; one that is not there is an error with the remedy."""
    path = paths.results(profile) / name
    with suppress(FileNotFoundError):
        return decode(path)
    lock = _lock(path.parent)
    if lock.is_file():  # the run may be getting its name at this moment
        with FileLock(lock), suppress(FileNotFoundError):
            return decode(path)
    raise ResultsError(
        f"{paths.shown(path)}: not there yet; 'make reproduce PROFILE={profile}' computes every "
        "result of this profile."
    )
