"""Simulated chests in Hounsfield units, written in the layouts of the real data sets.

Always labelled phantom: nothing here shows a person. `write` makes the whole data set.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from chest_phantom.settings import (
    FEWEST,
    HOSPITALS,
    LICENCE,
    SETTINGS_FILE,
    TRUTH_FILE,
    VERSION,
    Settings,
)

__all__ = [
    "FEWEST",
    "HOSPITALS",
    "LICENCE",
    "SETTINGS_FILE",
    "TRUTH_FILE",
    "VERSION",
    "Settings",
    "is_phantom",
    "write",
]


def is_phantom(folder: Path) -> bool:
    """Whether a data folder was simulated rather than scanned."""
    return (Path(folder) / SETTINGS_FILE).is_file()


def write(folder: Path, settings: Settings | None = None) -> Path:
    """Write the data set unless the folder holds it already, with these settings and this version.

    It is written beside ``folder`` and renamed when complete, so an interrupted run leaves nothing
    incomplete. A lock lets several processes call this at the same time.

    Args:
        folder: Where to write. A phantom with other settings is replaced.
        settings: What to simulate; the defaults if None.

    Returns:
        The folder, with one subfolder per data set.

    Raises:
        FileExistsError: The folder holds files that are not a phantom's.
    """
    # What simulates takes long to import, and readers of a finished set do not need it.
    from chest_phantom import dataset

    settings = settings or Settings()
    folder = Path(folder)
    recipe = {"version": VERSION, "settings": asdict(settings)}
    partial = folder.with_name(f".{folder.name}.partial")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if _recipe_of(folder) == recipe:
            return folder
        if folder.exists() and any(folder.iterdir()) and not is_phantom(folder):
            raise FileExistsError(
                f"{folder}: holds files that are no phantom; name another folder."
            )
        shutil.rmtree(partial, ignore_errors=True)
        try:
            dataset.write_all(partial, settings)
            text = json.dumps(recipe, indent=1) + "\n"
            (partial / SETTINGS_FILE).write_text(text, encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def _recipe_of(folder: Path) -> dict | None:
    try:
        return json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
