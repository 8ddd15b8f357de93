"""Every path of the project, resolved in one place.

Notebook kernels start in the notebook's folder and papermill starts in the caller's, so no path may
depend on the working directory: everything hangs from the folder that holds the package. What a run
writes can be sent elsewhere with the environment variable ``COVID_HOME`` (tests do).
"""

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
NOTEBOOKS = PROJECT / "notebooks"
#: Declarations of all parameters.
DECLARATIONS = PROJECT / "params" / "declarations.yaml"
#: The ledger of what the paper states.
CLAIMS = PROJECT / "paper" / "claims.yaml"


def home() -> Path:
    """Folder under which runs write ``results``, ``data``, ``cache`` and ``models``."""
    return Path(os.environ.get("COVID_HOME") or PROJECT).expanduser().resolve()


def params(profile: str) -> Path:
    """Folder of a profile's parameter files, one YAML file a notebook."""
    return PROJECT / "params" / profile


def results(profile: str) -> Path:
    """Folder that a profile's runs, tables and figures are written to."""
    return home() / "results" / profile


def models(profile: str) -> Path:
    """Folder of a profile's trained weights (not kept in git)."""
    return home() / "models" / profile


def cache() -> Path:
    """Folder of preprocessed images and features; safe to delete at any time."""
    return home() / "cache"


def scans(data_dir: str) -> Path:
    """A data folder as people name it: absolute, from their home, or from the project."""
    return PROJECT / Path(data_dir).expanduser()


def phantom() -> Path:
    """Folder that the embedded phantom data set is written to."""
    return home() / "data" / "phantom"


def shown(path: Path) -> str:
    """Path as it may be shown to a reader: relative to the project where it lies inside it."""
    path = Path(path).resolve()
    for base in (home(), PROJECT):
        if path.is_relative_to(base):
            return path.relative_to(base).as_posix()
    return path.name
