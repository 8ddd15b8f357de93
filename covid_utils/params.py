"""Parameters of the notebooks: read from YAML, checked against the notebook that will take them.

papermill only warns of a parameter that a notebook does not have, and a value of the wrong type
surfaces hours later. Here both stop the run before it starts, with a sentence.
"""

from __future__ import annotations

import ast
import difflib
from pathlib import Path
from typing import Any

import yaml

from covid_utils import paths
from covid_utils.errors import ParameterError
from covid_utils.registry import PROFILES


def defaults(notebook: str) -> dict[str, Any]:
    """The plain assignments of a notebook's cell tagged ``parameters``.

    Args:
        notebook: Name without its ending, such as ``02_task1_inception``.

    Raises:
        ParameterError: There is no such notebook, or not exactly one such cell.
    """
    import nbformat  # two seconds, which reports that read no notebook can do without

    path = paths.notebooks() / f"{notebook}.ipynb"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in paths.notebooks().glob("*.ipynb")))
        raise ParameterError(f"{notebook}: no such notebook; there are {known}.")
    cells = nbformat.read(path, as_version=4).cells
    tagged = [c for c in cells if "parameters" in c.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ParameterError(f"{path.name}: {len(tagged)} cells tagged 'parameters'; tag one.")
    found = {}
    for node in ast.parse(tagged[0].source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = ast.literal_eval(node.value)
    return found


def load(profile: str, notebook: str, job: str = "", **changes: Any) -> dict[str, Any]:
    """Parameters of one notebook in one profile, checked.

    Args:
        profile: ``quick``, ``sample``, ``paper`` or ``ci``.
        notebook: Name without its ending.
        job: Run of that notebook; where the profile has a file of this name, what it states
            replaces what the notebook's file does.
        **changes: Values that replace those of the files.

    Returns:
        A value for every parameter of the notebook.

    Raises:
        ParameterError: The file is missing or no flat mapping, or `check` finds fault.
    """
    own = paths.params(profile) / f"{job}.yaml"
    if job and own.is_file():
        values = _values(own)
        check(values, defaults(notebook), own.name)  # here, so that a mistake names its own file
        changes = values | changes
    return read(_file(profile, notebook), notebook, **changes)


def stated(profile: str, notebook: str) -> dict[str, Any]:
    """Parameters as a profile's file states them, without a look at the notebook.

    Args:
        profile: As for `load`.
        notebook: As for `load`.

    Raises:
        ParameterError: The file is missing or no flat mapping.
    """
    return _values(_file(profile, notebook))


def _file(profile: str, notebook: str) -> Path:
    path = paths.params(profile) / f"{notebook}.yaml"
    if not path.is_file():
        raise ParameterError(
            f"{path.name}: profile '{profile}' has no such file; "
            f"profiles are {', '.join(PROFILES)}."
        )
    return path


def read(path: Path, notebook: str, **changes: Any) -> dict[str, Any]:
    """Like `load`, for a parameter file anywhere."""
    values = _values(path) | changes
    known = defaults(notebook)
    check(values, known, path.name)
    return known | values


def _values(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf8")) or {}
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        raise ParameterError(f"{path.name}: not valid YAML at line {line}; mend it.") from error
    if not isinstance(values, dict):
        raise ParameterError(f"{path.name}: must hold 'name: value' lines, nothing else.")
    return values


def taken(notebook: str, values: dict[str, Any]) -> dict[str, Any]:
    """The parameters that a running notebook has, for its record.

    Args:
        notebook: Name without its ending.
        values: Its variables, such as ``globals()``.
    """
    return {name: values[name] for name in defaults(notebook)}


def check(values: dict[str, Any], taken: dict[str, Any], source: str) -> None:
    """Refuse unknown names and values of another type than the notebook's default.

    Args:
        values: Parameters to be passed.
        taken: The notebook's parameters with their defaults.
        source: File to name in the message.

    Raises:
        ParameterError: With the nearest known name, or the type that is expected.
    """
    for name, value in values.items():
        if name not in taken:
            near = difflib.get_close_matches(str(name), taken, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(taken)}."
            raise ParameterError(f"{source}: unknown parameter '{name}'; {hint}")
        expected = type(taken[name])
        fits = type(value) is expected or (expected is float and type(value) is int)
        if not fits:
            hint = " YAML reads 1e-3 as text: write 0.001." if expected is float else ""
            raise ParameterError(
                f"{source}: '{name}' is {value!r}, but must be of type {expected.__name__}.{hint}"
            )
