"""Parameters of the notebooks: declared once, checked wherever they come from.

``params/declarations.yaml`` gives each parameter its type, its range and its meaning in the terms
of JSON Schema. Parameter files, ``--set``, papermill's ``-p`` and a running notebook's own cell are
all checked against it, before anything is computed.
"""

from __future__ import annotations

import ast
import difflib
import math
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from covid_utils import paths
from covid_utils.errors import ParameterError
from covid_utils.registry import NOTEBOOKS, PROFILES


@cache
def declared(notebook: str) -> dict[str, dict]:
    """Declarations of the parameters of a notebook, such as ``02_task1_inception``, in order."""
    if notebook not in NOTEBOOKS:
        raise ParameterError(f"{notebook}: no such notebook; there are {', '.join(NOTEBOOKS)}.")
    return yaml.safe_load(paths.DECLARATIONS.read_text(encoding="utf8"))[notebook]


def comment(notebook: str, name: str) -> str:
    """What stands beside a parameter in the notebook's cell and in parameter files."""
    rule = declared(notebook)[name]
    if "enum" not in rule:
        return rule["description"]
    *others, last = map(str, rule["enum"])
    return f"{', '.join(others)} or {last}; {rule['description']}"


def load(profile: str, notebook: str, job: str = "", **changes: Any) -> dict[str, Any]:
    """Value of every parameter of a notebook in a profile, checked.

    Where the profile has a file of the name of the ``job``, its values replace those of the
    notebook's file; ``changes`` replace both.
    """
    path, own = (paths.params(profile) / f"{name}.yaml" for name in (notebook, job))
    if profile not in PROFILES or not path.is_file():
        raise ParameterError(
            f"{path.name}: profile '{profile}' has no such file; "
            f"profiles are {', '.join(PROFILES)}."
        )
    values = _checked(path, notebook)
    missing = [name for name in declared(notebook) if name not in values]
    if missing:
        raise ParameterError(f"{path.name}: '{missing[0]}' is missing; state every parameter.")
    if job and own.is_file():
        values |= _checked(own, notebook)
    check(changes, notebook, notebook)
    return values | changes


def of_cell(notebook: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a running notebook from its ``globals()``, checked.

    Call it in the first cell that computes: of an unknown name papermill only warns. Such a name
    stands in a cell that only assigns plain values, the notebook's own or papermill's.
    """
    known = declared(notebook)
    given = {name: variables.get(name) for name in known}
    for source in variables.get("In", ()):
        given |= {name: value for name, value in _assigned(source).items() if name not in given}
    check(given, notebook, notebook)
    return {name: given[name] for name in known}


def _assigned(source: str) -> dict[str, Any]:
    """Names and plain values of a cell that does nothing but assign these; else nothing."""
    with suppress(ValueError, SyntaxError, AttributeError):
        body = ast.parse(source).body
        return {node.targets[0].id: ast.literal_eval(node.value) for node in body}
    return {}


def from_text(notebook: str, text: str) -> tuple[str, Any]:
    """Name and value of a setting ``NAME=VALUE``; what is declared as text stays as it is."""
    name, _, value = text.partition("=")
    if declared(notebook).get(name, {}).get("type") != "string":
        with suppress(ValueError, SyntaxError):
            return name, ast.literal_eval({"true": "True", "false": "False"}.get(value, value))
    return name, value


def check(values: Mapping[str, Any], notebook: str, source: str) -> None:
    """Hold some parameters of a notebook against their declarations; ``source`` is named in errors.

    An error has the nearest known name, or what the value must be.
    """
    from jsonschema import Draft202012Validator, validators

    rules = declared(notebook)
    strict = Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda _, value: type(value) is int,
            "number": lambda _, value: type(value) in (int, float) and math.isfinite(value),
        }
    )
    validator = validators.extend(Draft202012Validator, type_checker=strict)
    for name, value in values.items():
        if name not in rules:
            near = difflib.get_close_matches(str(name), rules, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(rules)}."
            raise ParameterError(f"{source}: unknown parameter '{name}'; {hint}")
        for error in validator(rules[name]).iter_errors(value):
            is_text = error.validator_value == "number" and isinstance(value, str)
            hint = "; YAML reads 1e-3 as text: write 0.001" if is_text else ""
            raise ParameterError(f"{source}: wrong '{name}': {error.message}{hint}.")


def _checked(path: Path, notebook: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf8")) or {}
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        raise ParameterError(f"{path.name}: not valid YAML at line {line}; correct it.") from error
    if not isinstance(values, dict):
        raise ParameterError(f"{path.name}: must hold 'name: value' lines, nothing else.")
    check(values, notebook, path.name)
    return values
