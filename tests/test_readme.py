"""Numbers in README, pages and notebooks are those of stored results, and commands exist."""

import json
import re

import fill_readme
import numpy as np
import pandas as pd
import pytest

from covid_utils import params, paths
from covid_utils.data.readers.gray import LUNG_WINDOW

README = paths.PROJECT / "README.md"
LOG = paths.PROJECT / "docs" / "segmentation_log.md"


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


# Intervals in the text are those of a stored output or result

NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
NUMBER = r"[-+−]?\d+\.\d+"
INTERVAL = re.compile(rf"({NUMBER})(?: %| points)? \[({NUMBER}), ({NUMBER})\]")


def cells(path, kind):
    notebook = json.loads(path.read_text(encoding="utf8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def plain(text):
    return text.replace("−", "-").replace("+", "")


def shown(path):
    """Lines of a notebook's stored outputs, and of the texts of figures."""
    outputs = [output for cell in cells(path, "code") for output in cell["outputs"]]
    texts = [output.get("text") or output["data"].get("text/plain", "") for output in outputs]
    return [line for text in texts for line in plain("".join(text)).splitlines()]


@pytest.fixture(scope="module")
def known():
    """Numbers of each line that some notebook shows, and of each row of the committed tables."""
    sets = [re.findall(NUMBER, line) for path in NOTEBOOKS for line in shown(path)]
    folder = paths.PROJECT / "results" / "sample"
    sets += [re.findall(NUMBER, plain(path.read_text())) for path in folder.rglob("*.txt")]
    files = [folder / "scores.csv", folder / "tables" / "conventions.csv"]
    scores = pd.concat([pd.read_csv(file, usecols=["value", "low", "high"]) for file in files])
    return [np.array(each, float) for each in sets], scores[["value", "low", "high"]].to_numpy()


def is_known(texts, known):
    """Whether some line has all three numbers, or those of the difference the other way round."""
    lines, scores = known
    half = 0.5 * 10.0 ** -np.array([len(text.partition(".")[2]) for text in texts]) + 1e-9
    value, low, high = map(float, texts)
    for wanted in ((value, low, high), (-value, -high, -low)):
        if any((abs(line[:, None] - wanted) <= half).any(axis=0).all() for line in lines):
            return True
        if any((abs(of * scores - wanted) <= half).all(axis=1).any() for of in (1, 100)):
            return True
    return False


# The log tells of trials whose results are not kept.
PAGES = [README, *sorted(set((paths.PROJECT / "docs").glob("*.md")) - {LOG})]


@pytest.mark.parametrize("path", [*NOTEBOOKS, *PAGES], ids=lambda path: path.name)
def test_intervals_in_the_text_are_those_of_an_output(path, known):
    text = path.read_text(encoding="utf8")
    if path in NOTEBOOKS:
        text = "\n".join("".join(cell["source"]) for cell in cells(path, "markdown"))
    for texts in INTERVAL.findall(plain(text)):
        assert is_known(texts, known), f"{path.name}: {texts}"


def test_an_interval_of_no_output_is_noticed(known):
    assert not is_known(("0.612", "0.431", "0.999"), known)


def test_marks_that_were_lost_are_asked_for():
    with pytest.raises(SystemExit, match="marks"):
        fill_readme.filled("# no marks here")
