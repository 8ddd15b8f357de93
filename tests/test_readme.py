"""The README's numbers are those of results/sample, and its commands exist."""

import re

import pytest

from covid_utils import __main__ as command
from covid_utils import paths
from covid_utils.errors import CompanionError

README = paths.PROJECT / "README.md"


def test_the_numbers_are_current():
    text = README.read_text(encoding="utf8")
    assert command.fill_readme(text) == text, "run: make readme"


def test_marks_that_were_lost_are_asked_for():
    with pytest.raises(CompanionError, match="marks"):
        command.fill_readme("# no marks here")


def test_every_make_target_named_exists():
    named = set(
        re.findall(r"^make ([a-z]+)|`make ([a-z]+)", README.read_text(encoding="utf8"), re.M)
    )
    named = {first or second for first, second in named}
    makefile = (paths.PROJECT / "Makefile").read_text(encoding="utf8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    assert {"reproduce", "test", "lab"} <= named <= targets
