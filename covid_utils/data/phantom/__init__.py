"""The embedded phantom: chests computed in Hounsfield units, on disk like the real data sets.

Always labelled phantom: nothing here shows a person. ``ensure`` makes the whole data set;
``simulate``, ``ct_slice`` and ``xray`` show a single patient.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from filelock import FileLock

from covid_utils.data.phantom.cohort import VERSION, PhantomSettings
from covid_utils.data.phantom.disease import LABELS, PATTERNS, Volume, simulate
from covid_utils.data.phantom.imaging import (
    HOSPITALS,
    Exposure,
    ct_slice,
    lung_window,
    sample_exposure,
    xray,
)
from covid_utils.data.phantom.write import LICENCE, SETTINGS_FILE, recipe, write_all
from covid_utils.errors import DataError

__all__ = [
    "HOSPITALS",
    "LABELS",
    "LICENCE",
    "PATTERNS",
    "VERSION",
    "Exposure",
    "PhantomSettings",
    "Volume",
    "ct_slice",
    "ensure",
    "is_phantom",
    "lung_window",
    "sample_exposure",
    "simulate",
    "xray",
]


def is_phantom(folder: Path) -> bool:
    """Whether a data folder was made here rather than scanned."""
    return (Path(folder) / SETTINGS_FILE).is_file()


def ensure(folder: Path, settings: PhantomSettings | None = None) -> Path:
    """Make the data set unless it is there already, with these settings and this version.

    It is written next to ``folder`` and renamed when whole, so that an interrupted run leaves
    nothing half-written; a lock lets several processes call this at once.

    Args:
        folder: Where it belongs. A phantom with other settings is replaced.
        settings: What to make; the defaults if None.

    Returns:
        The folder, which holds one folder for each data set.

    Raises:
        DataError: The folder holds something that is no phantom.
    """
    settings = settings or PhantomSettings()
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if _is_current(folder, settings):
            return folder
        if folder.exists() and any(folder.iterdir()) and not (folder / SETTINGS_FILE).is_file():
            raise DataError(f"{folder}: holds files that are no phantom; name another folder.")
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            write_all(partial, settings)
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def _is_current(folder: Path, settings: PhantomSettings) -> bool:
    try:
        content = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return content == recipe(settings)
