"""Write the comment beside each parameter, in notebooks and parameter files, from its declaration.

For maintainers, after a change to ``params/declarations.yaml``; values stay as they are.
"""

from __future__ import annotations

import re
from pathlib import Path

import nbformat

from covid_utils import params, paths
from covid_utils.registry import NOTEBOOKS, PROFILES

ASSIGNMENT = re.compile(r"^(\w+)( = |: +)(.*?)(?: +#.*)?$")
#: Column of the comments in parameter files.
COLUMN = 34


def commented(line: str, notebook: str) -> str:
    """An assignment of a parameter with its declared comment; other lines as they are."""
    match = ASSIGNMENT.match(line)
    if not match or match[1] not in params.declared(notebook):
        return line
    value = f"{match[1]}{match[2]}{match[3]}"
    width = 0 if match[2] == " = " else COLUMN - 2
    return f"{value:<{width}}  # {params.comment(notebook, match[1])}"


def rewrite(path: Path, notebook: str) -> None:
    """Renew the comments of a parameter file."""
    lines = path.read_text(encoding="utf8").splitlines()
    text = "\n".join(commented(line, notebook) for line in lines)
    path.write_text(text + "\n", encoding="utf8")


def main() -> None:
    """Renew the comments of every notebook and every parameter file."""
    for notebook in NOTEBOOKS:
        path = paths.NOTEBOOKS / f"{notebook}.ipynb"
        content = nbformat.read(path, as_version=4)
        for cell in content.cells:
            if "parameters" in cell.metadata.get("tags", []):
                lines = cell.source.splitlines()
                cell.source = "\n".join(commented(line, notebook) for line in lines)
        nbformat.write(content, path)
        for profile in PROFILES:
            rewrite(paths.params(profile) / f"{notebook}.yaml", notebook)
    for path in paths.DECLARATIONS.parent.glob("*/stream_*.yaml"):
        rewrite(path, "04_task3_stream")


if __name__ == "__main__":
    main()
