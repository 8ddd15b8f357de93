"""The data card has every set, says the same of each, and its counts are those of the runs."""

import re

import pytest

from covid_utils import paths
from covid_utils.data import manifest, phantom, sources

CARD = paths.PROJECT / "docs" / "data_card.md"
SAID = ("What it is.", "Who made it.", "Licence.", "Known defects.", "Not for.")
NAMES = [source.folder for source in sources.SOURCES.values()] + ["phantom"]


def section(name):
    """Text below a set's heading."""
    parts = re.split(r"^## (.+)$", CARD.read_text(encoding="utf8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))[name]


@pytest.mark.parametrize("name", NAMES)
def test_every_set_has_a_section_that_says_the_same_things(name):
    bold = re.findall(r"\*\*(.+?)\*\*", section(name))
    assert tuple(word for word in bold if word in SAID) == SAID
    overview = CARD.read_text(encoding="utf8").split("## Before")[0]
    assert f"[{name}](#{name.lower()})" in overview


@pytest.fixture(scope="module")
def counted():
    """Images of the sample profile by data set, modality and label."""
    table = manifest.load(paths.PROJECT / "results" / "sample" / "data" / "manifest.csv")
    return table.groupby(["dataset", "modality", "label"]).size()


@pytest.mark.parametrize("source", sources.SOURCES.values(), ids=lambda source: source.name)
def test_counts_are_those_of_the_sample_profile(source, counted):
    rows = re.findall(r"^\| (X-ray|CT) \| (\w+) \| (\d+) \|$", section(source.folder), re.MULTILINE)
    told = {(modality, label): int(number) for modality, label, number in rows}
    found = counted[source.name].to_dict() if source.name in counted.index else {}
    assert told == found


def test_the_phantoms_licence_is_the_one_in_the_manifest():
    licence = phantom.LICENCE.removesuffix(" (phantom)")
    assert f"**Licence.** {licence}." in section("phantom")
