"""Command line: ``python -m covid_utils readme`` refreshes the numbers in the README."""

from __future__ import annotations

import argparse
import sys

from covid_utils import paths
from covid_utils.errors import CompanionError

BEGIN, END = "<!-- numbers: sample -->", "<!-- end of numbers -->"


def fill_readme(text: str) -> str:
    """Put the headline numbers of the ``sample`` profile between the README's two marks.

    Raises:
        CompanionError: A mark is missing.
    """
    from covid_utils.report import headlines

    if BEGIN not in text or END not in text:
        raise CompanionError(f"README.md: the marks {BEGIN} and {END} are missing; put them back.")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    return f"{before}{BEGIN}\n{headlines.markdown('sample')}\n{END}{after}"


def main() -> int:
    """Run a command; errors are one sentence on standard error."""
    parser = argparse.ArgumentParser(prog="covid-companion", description=__doc__)
    parser.add_argument("command", choices=["readme"])
    parser.parse_args()
    path = paths.PROJECT / "README.md"
    try:
        path.write_text(fill_readme(path.read_text(encoding="utf8")), encoding="utf8")
    except CompanionError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{path.name}: numbers are those of results/sample now.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
