"""The README's numbers are those of results/sample, and its commands exist."""

import re

import fill_readme

from covid_utils import params, paths
from covid_utils.data.readers.gray import LUNG_WINDOW

README = paths.PROJECT / "README.md"


def test_the_numbers_are_current():
    text = README.read_text(encoding="utf8")
    assert fill_readme.filled(text) == text, "run: make readme"


def test_what_came_out_stands_beside_what_was_expected():
    text = (paths.PROJECT / "docs" / "protocol.md").read_text(encoding="utf8")
    assert fill_readme.protocol(text) == text, "run: make readme"
    assert "not run" not in text


def test_what_is_said_of_the_segmentation_is_what_the_profiles_have():
    sample, paper = (params.load(profile, "04_task3_stream") for profile in ("sample", "paper"))
    said = f"were trained for {sample['steps']} steps instead of {paper['steps']:,}"
    assert said in README.read_text(encoding="utf8")


def test_the_margin_in_hounsfield_units_is_what_the_notebook_says():
    low, high = LUNG_WINDOW
    margin = params.load("sample", "04_task3_stream")["attenuation_margin"]
    said = f"({margin:g}, which are {margin * (high - low) / 255:.0f} HU)"
    assert said in (paths.NOTEBOOKS / "04_task3_stream.ipynb").read_text(encoding="utf8")


def test_every_make_target_named_exists():
    named = set(
        re.findall(r"^make ([a-z]+)|`make ([a-z]+)", README.read_text(encoding="utf8"), re.M)
    )
    named = {first or second for first, second in named}
    makefile = (paths.PROJECT / "Makefile").read_text(encoding="utf8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    assert {"reproduce", "test", "lab"} <= named <= targets
