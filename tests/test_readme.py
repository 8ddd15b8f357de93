"""The README's numbers are those of results/sample, and its commands exist."""

import re

import pytest

from covid_utils import __main__ as command
from covid_utils import params, paths
from covid_utils.data.images import LUNG_WINDOW
from covid_utils.errors import CompanionError

README = paths.PROJECT / "README.md"


def test_the_numbers_are_current():
    text = README.read_text(encoding="utf8")
    assert command.fill_readme(text) == text, "run: make readme"


def test_what_is_said_of_the_segmentation_is_what_the_profile_has():
    text = README.read_text(encoding="utf8")
    usual = params.load("sample", "04_task3_stream")
    own = params.load("sample", "04_task3_stream", "stream_all_deeplab_imagenet")
    assert (usual["optimizer"], usual["crop"], usual["clahe_clip"]) == ("adam", "lungs", 0)
    assert f" {usual['steps']} steps with Adam" in text
    assert f"slices of {usual['image_size']} px, cropped to the lungs and without CLAHE" in text
    assert usual["members"] == 3
    assert usual["flip_test"]
    assert "three trainings, and each slice's mirror image, are averaged" in text
    assert usual["attenuation_margin"] > 0
    assert "no denser than the slice's healthy lung is no lesion" in text
    assert own["width"] == 1 > usual["width"]
    assert own["steps"] < usual["steps"]
    assert "The run from ImageNet has the full width and fewer, longer steps" in text
    assert f"steps, on slices of {own['image_size']} px, a size" in text
    assert own["refit"]
    assert not usual["refit"]
    assert "then the validation slices taught as well" in text
    assert (len(own["test_scales"]), usual["test_scales"]) == (2, [1])
    assert "it answers at two sizes" in text


def test_the_margin_in_hounsfield_units_is_what_the_notebook_says():
    low, high = LUNG_WINDOW
    margin = params.load("sample", "04_task3_stream")["attenuation_margin"]
    said = f"({margin:g}, which are {margin * (high - low) / 255:.0f} HU)"
    assert said in (paths.notebooks() / "04_task3_stream.ipynb").read_text(encoding="utf8")


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
