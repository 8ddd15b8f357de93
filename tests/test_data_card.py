"""The data card has every set, says the same things of each, and its numbers are the runs'."""

import json
import re
from types import SimpleNamespace

import pandas as pd
import pytest

import chest_phantom
from chest_phantom.cohort import plan
from covid_utils import paths
from covid_utils.data import collection, manifest, readers
from covid_utils.data.guard import table as read_table
from covid_utils.data.readers import covid_chestxray, covid_ct
from covid_utils.data.readers import medseg as medseg_reader
from covid_utils.data.similarity import SAME_BITS, same_pictures
from covid_utils.data.splits import memory

CARD = paths.PROJECT / "docs" / "data_card.md"
SAMPLE = paths.PROJECT / "results" / "sample"
FOLDERS = {source.NAME: source.FOLDER for source in readers.SOURCES.values()}
SETS = [*FOLDERS.values(), "phantom"]
SAID = (
    "What it is.",
    "Who made it.",
    "How it was made.",
    "Licence.",
    "Patients.",
    "Known defects.",
    "Not for.",
)

OVERVIEW = ("data set", "shows", "of whom", "labels come from", "largest trap")
READ = ("data set", "images", "patients or groups", "known from", "width, px", "height, px")
SPLITS = ("data set", "what stays on one side")
COUNTS = ("modality", "label", "images", "patients")
CLASSES = ("classes", "images", "published to train", "published to test", "in neither")
MEASURED = ("measured in the sample", "")
METADATA = ("measured in the metadata", "")
MASKS = ("measured in the masks", "all slices", "exact slices")
PEOPLE = (
    "X-rays labelled",
    "age known",
    "youngest",
    "median",
    "oldest",
    "men",
    "women",
    "sex not stated",
)
PLAN = ("X-rays go to", "covid", "normal", "viral", "bacterial", "nodule")
TABLES = {OVERVIEW, READ, SPLITS, COUNTS, CLASSES, MEASURED, METADATA, MASKS, PEOPLE, PLAN}


# The card


def text():
    return CARD.read_text(encoding="utf8")


def sections():
    """Text below each heading; what stands before the first heading has the key ''."""
    parts = re.split(r"^## (.+)$", text(), flags=re.MULTILINE)
    return {"": parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=True))


def items(name):
    """What a set's section says, by the bold words that begin each item."""
    parts = re.split(r"^- \*\*(.+?)\*\* ?", sections()[name].split("\n| ")[0], flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def tables(part):
    """Tables of a part of the card, in order: header and rows."""
    found = []
    for block in re.findall(r"(?:^\|.*\|\n?)+", part, flags=re.MULTILINE):
        rows = [
            tuple(cell.strip() for cell in line.strip("|").split("|"))
            for line in block.strip().splitlines()
        ]
        found.append((rows[0], rows[2:]))
    return found


def told(section, header):
    """Rows of the one table of a section with this header; none if it has no such table."""
    found = [rows for head, rows in tables(sections()[section]) if head == header]
    assert len(found) <= 1, f"{section}: two tables {header}"
    return found[0] if found else []


def test_the_sets_are_in_the_card_in_the_order_of_the_overview():
    linked = [re.fullmatch(r"\[(.+)\]\((.+)\)", row[0]).groups() for row in told("", OVERVIEW)]
    assert [name for name, _ in linked] == [name for name in sections() if name in SETS]
    assert sorted(name for name, _ in linked) == sorted(SETS)
    assert all(link == f"#{name.lower()}" for name, link in linked)


@pytest.mark.parametrize("name", SETS)
def test_every_set_has_the_same_items_and_none_is_empty(name):
    said = items(name)
    extra = {"Good for."} if name == "phantom" else set()
    assert tuple(word for word in said if word not in extra) == SAID
    assert all(len(content.strip()) > 5 for content in said.values()), said


def test_the_splits_are_told_for_every_real_set_once():
    named = [row[0] for row in told("How the splits treat each set", SPLITS)]
    assert sorted(", ".join(named).split(", ")) == sorted(FOLDERS.values())


def test_no_table_goes_unchecked():
    assert {header for header, _ in tables(text())} == TABLES


def anchors(page):
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_inside_the_docs_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text()) if "://" not in link]
    assert len(links) > len(SETS)
    for link in links:
        target, _, anchor = link.partition("#")
        page = (CARD.parent / target).resolve() if target else CARD
        assert page.is_file(), link
        assert not anchor or anchor in anchors(page), link


def test_a_reference_leads_to_what_it_names():
    pairs = re.findall(r"\[([^\]]+)\]\((https://[^)]+)\)", text())
    for name, link in pairs:
        if name.startswith("10."):
            assert link == f"https://doi.org/{name}"
        elif name.startswith("arXiv:"):
            assert link == f"https://arxiv.org/abs/{name.removeprefix('arXiv:')}"
        elif "." in name:
            assert name in link
        else:
            assert re.search(r"/(issues|pull)/\d+$", link), link
            assert link.endswith(name.split()[-1])


# What the runs say


@pytest.fixture(scope="module")
def sample():
    """Manifest, problems and settings of the sample profile, and what is one picture twice."""
    rows = manifest.load(SAMPLE / "data" / "manifest.csv")
    pairs = same_pictures(rows["phash"].tolist())
    first, second = (rows.iloc[side].reset_index(drop=True) for side in pairs.T)
    apart = first["patient_id"] != second["patient_id"]
    return SimpleNamespace(
        rows=rows,
        parts=dict(tuple(rows.groupby("dataset"))),
        problems=pd.read_csv(SAMPLE / "data" / "skipped.csv")["problem"].value_counts(),
        settings=json.loads((SAMPLE / "data" / "provenance.json").read_text())["parameters"],
        first=first[apart],
        second=second[apart],
    )


def per_cent(share):
    return f"{100 * share:.1f} %"


def span(values):
    low, high = values.min(), values.max()
    return str(low) if low == high else f"{low}–{high}"


def test_what_the_readers_found(sample):
    found = {
        FOLDERS[name]: (
            str(len(part)),
            str(part["patient_id"].nunique()),
            ", ".join(sorted(part["patient_basis"].unique())),
            span(part["width"]),
            span(part["height"]),
        )
        for name, part in sample.parts.items()
    }
    assert {row[0]: row[1:] for row in told("", READ)} == found


@pytest.mark.parametrize("name", FOLDERS)
def test_counts_of_a_set(name, sample):
    part = sample.parts.get(name, sample.rows.iloc[:0])
    found = {
        (modality, label): (len(rows), rows["patient_id"].nunique())
        for (modality, label), rows in part.groupby(["modality", "label"])
    }
    numbers = {row[:2]: tuple(map(int, row[2:])) for row in told(FOLDERS[name], COUNTS)}
    assert numbers == found


def test_counts_of_exact_and_weak_classes(sample):
    # Validation slices are taken from the published training part.
    published = {"train": 0, "validation": 0, "test": 1, "unused": 2}
    found = {}
    for quality, rows in sample.parts["medseg"].groupby("label_quality"):
        sides = rows["subset"].map(published).value_counts()
        found[quality] = (len(rows), *(int(sides.get(side, 0)) for side in range(3)))
    assert {row[0]: tuple(map(int, row[1:])) for row in told("medseg", CLASSES)} == found


def traps(sample):
    frontal = collection.frontal_xrays(sample.rows)
    two = frontal[frontal["label"].isin(("covid", "normal"))]
    right = (two["dataset"] == covid_chestxray.NAME) == (two["label"] == "covid")
    test = two["subset"] == "test"
    ours = json.loads((SAMPLE / "overview.json").read_text())
    seen = memory(
        sample.rows,
        seed=sample.settings["seed"],
        validation=sample.settings["validation_percent"],
        test=sample.settings["test_percent"],
    ).set_index("split")["per cent"]
    return {
        "frontal X-rays of COVID-19 or normal chests": len(two),
        "of these, right by the rule of the source": per_cent(right.mean()),
        "of these, in the test": test.sum(),
        "of the test, right by the rule of the source": per_cent(right[test].mean()),
        "of the test, right by our network": per_cent(
            next(row["ours"] for row in ours if row["claim"] == "p01") / 100
        ),
        "test images of a patient in training, dealt out by image": f"{seen['image']} %",
        "the same, dealt out by patient": f"{seen['patient']} %",
        "pairs of images that are one picture under two patients": len(sample.first),
        "of these pairs, in two data sets": (
            sample.first["dataset"] != sample.second["dataset"]
        ).sum(),
    }


def identical_files(part):
    return (part.groupby("sha256")["patient_id"].nunique() > 1).sum()


def also_in(sample, name):
    """CT slices of the image collection that are the same picture as one in another set."""
    both = [(sample.first, sample.second), (sample.second, sample.first)]
    return sum(
        ((here["dataset"] == covid_chestxray.NAME) & (there["dataset"] == name)).sum()
        for here, there in both
    )


def image_collection(sample):
    part = sample.parts[covid_chestxray.NAME]
    covid = part[(part["label"] == "covid") & (part["modality"] == "X-ray")]
    family = part["licence"].str.replace(r" [\d.]+$", "", regex=True).value_counts()
    return {
        **{f"images under {name}": family[name] for name in family.index if name.startswith("CC")},
        'images "listed as authorized for everyone"': family["listed as authorized for everyone"],
        "images whose licence is unknown": family["unknown"],
        "COVID-19 X-rays whose licence is unknown": (covid["licence"] == "unknown").sum(),
        "COVID-19 X-rays that are not frontal": (~covid["view"].isin(manifest.FRONTAL)).sum(),
        "rows whose image is not on disk": sample.problems["missing"],
        "files that several rows name": sample.problems["repeated"],
        "files that no row names": sample.problems["unreferenced"],
        "identical files of two patients": identical_files(part),
        "CT slices that are also in `medseg`": also_in(sample, "medseg"),
        "CT slices that are also in `COVID-CT`": also_in(sample, "covid-ct"),
    }


def children(sample):
    part = sample.parts["chest_xray"]
    ill = part[part["label"].isin(("viral", "bacterial"))]
    published = part["path"].str.split("/").str[1]
    return {
        "numbers that occur with both causes": (
            ill.groupby("patient_id")["label"].nunique() > 1
        ).sum(),
        "numbers that occur in both published parts": (
            published.groupby(part["patient_id"]).nunique() > 1
        ).sum(),
        "files that repeat another file exactly": part["sha256"].duplicated().sum(),
        "identical files of two patients": identical_files(part),
    }


def adults(sample):
    labels = sample.parts["nih-adult"].groupby("patient_id")["label"].nunique()
    return {"patients with images in both folders": (labels > 1).sum()}


def figures(sample):
    part = sample.parts["covid-ct"]
    names = part["path"].str.rsplit("/", n=1).str[1]
    positive = part["label"] == "covid"
    groups = part.groupby("patient_id")
    jpeg = names.str.lower().str.endswith((".jpg", ".jpeg"))
    return {
        "papers with COVID-19": names[positive].map(covid_ct.paper).nunique(),
        "figures without COVID-19": names[~positive].map(covid_ct.figure).nunique(),
        "groups after joining near copies": groups.ngroups,
        "groups with both classes": (groups["label"].nunique() > 1).sum(),
        "images in the largest group": groups.size().max(),
        "JPEG files with COVID-19": (jpeg & positive).sum(),
        "JPEG files without COVID-19": (jpeg & ~positive).sum(),
    }


def slices(sample):
    part = sample.parts["medseg"]
    # Validation slices are taken from the published training part.
    learned = set(part.loc[part["subset"].isin(("train", "validation")), "patient_id"])
    tested = part.loc[part["subset"] == "test", "patient_id"]
    return {
        "groups of more than one slice": (part.groupby("patient_id").size() > 1).sum(),
        "groups on both sides of the published split": len(learned & set(tested)),
        "test slices with a near copy in training": tested.isin(learned).sum(),
    }


MEASURES = {
    "Before you use any of these for a claim": traps,
    "covid-chestxray-dataset": image_collection,
    "chest_xray": children,
    "nih-adult": adults,
    "COVID-CT": figures,
    "medseg": slices,
}


@pytest.mark.parametrize("section", MEASURES)
def test_what_was_measured_in_the_sample(section, sample):
    found = {what: str(number) for what, number in MEASURES[section](sample).items()}
    assert dict(told(section, MEASURED)) == found


def test_measured_numbers_stand_nowhere_else():
    having = {name for name in sections() if told(name, MEASURED)}
    assert having == set(MEASURES)


def test_what_the_text_says_in_words_is_so(sample):
    found = traps(sample)
    share = {what: float(str(value).removesuffix(" %")) for what, value in found.items()}
    rule, network = (
        f"of the test, right by {who}" for who in ("the rule of the source", "our network")
    )
    assert share[rule] > share[network], "the rule is right more often than our network"
    by_image = share["test images of a patient in training, dealt out by image"]
    assert by_image > 50, "more than half"
    part = sample.parts[covid_chestxray.NAME]
    assert (part["licence"] == "unknown").mean() == pytest.approx(1 / 3, abs=0.03), "a third"
    assert {"rsna", "luna16"}.isdisjoint(sample.parts), "the sample holds neither"
    groups = sample.parts["medseg"].set_index("frame").loc[[41, 54, 73], ["patient_id", "subset"]]
    assert groups["patient_id"].is_unique
    assert sorted(groups["subset"]) == ["test", "train", "train"]


def test_the_pair_that_escapes_the_hashes_is_as_told(sample):
    pair = sample.rows[sample.rows["path"].str.contains("/A7E260CE-|/case_76_1-3.png")]
    first, second = (int(digits, 16) for digits in pair["phash"])
    told_bits = re.search(r"hashes differ by (\d+) bits, where (\d+) may", text()).groups()
    assert tuple(map(int, told_bits)) == ((first ^ second).bit_count(), SAME_BITS)
    assert pair["patient_id"].nunique() == 2
    assert pair["subset"].nunique() == 1, "the splits keep both on one side"


# The phantom


def test_the_phantoms_licence_is_the_one_in_its_manifest():
    licence = chest_phantom.LICENCE.removesuffix(" (phantom)")
    assert items("phantom")["Licence."].strip() == f"{licence}."


def test_the_phantoms_patients():
    # Where a patient's X-rays go hangs from the role, see `chest_phantom.dataset`.
    roles = {
        "covid": "covid-chestxray-dataset",
        "other": "covid-chestxray-dataset",
        "chest": "chest_xray",
        "rsna": "rsna",
        "nih": "nih-adult",
    }
    people = [(roles[person.role], person.pattern) for person in plan(chest_phantom.Settings())]
    for folder, *numbers in told("phantom", PLAN):
        found = [people.count((folder, pattern)) for pattern in PLAN[1:]]
        assert list(map(int, numbers)) == found, folder
    assert len(people) == sum(int(n) for row in told("phantom", PLAN) for n in row[1:])


# What the manifest does not hold: these need the scans


@pytest.fixture(scope="module")
def notes(real_data, sample):
    """The image collection's metadata, with our label and patient where the image is there."""
    root = real_data / covid_chestxray.FOLDER
    table = read_table(root / covid_chestxray.METADATA, covid_chestxray.COLUMNS)
    table = table.apply(lambda column: column.str.strip())
    path = covid_chestxray.FOLDER + "/" + table["folder"] + "/" + table["filename"]
    part = sample.parts[covid_chestxray.NAME].drop_duplicates("path").set_index("path")
    return table.assign(
        patient=path.map(part["patient_id"]),
        label=table["finding"].map(covid_chestxray.label_of),
        age=pd.to_numeric(table["age"], errors="coerce"),
        sex=table["sex"].replace("", None),
    )


@pytest.mark.real
def test_age_and_sex(notes):
    xrays = notes[notes["patient"].notna() & (notes["modality"] == "X-ray")]
    found = {}
    for label, rows in xrays.groupby("label"):
        people = rows.groupby("patient")[["age", "sex"]].first()
        age = people["age"].dropna()
        numbers = (len(age), age.min(), age.median(), age.max())
        sexes = ((people["sex"] == "M").sum(), (people["sex"] == "F").sum())
        found[label] = tuple(map(float, (*numbers, *sexes, people["sex"].isna().sum())))
    rows = told("covid-chestxray-dataset", PEOPLE)
    assert {row[0]: tuple(map(float, row[1:])) for row in rows} == found


@pytest.mark.real
def test_what_was_measured_in_the_metadata(notes):
    here = notes[notes["patient"].notna()]
    xrays = here[here["modality"] == "X-ray"]
    covid = xrays[xrays["label"] == "covid"]
    found = {
        "rows, with or without an image": len(notes),
        "images labelled `todo`": (here["finding"] == "todo").sum(),
        "COVID-19 X-rays from Hannover": covid["location"].str.contains("Hannover").sum(),
        "COVID-19 X-rays from Radiopaedia": covid["url"].str.contains("//radiopaedia.org").sum(),
        "COVID-19 X-rays from SIRM": covid["url"].str.contains("//www.sirm.org").sum(),
        "patients with an X-ray who are under 18": xrays.loc[
            xrays["age"] < 18, "patient"
        ].nunique(),
    }
    rows = told("covid-chestxray-dataset", METADATA)
    assert {what: int(number) for what, number in rows} == found


@pytest.mark.real
def test_what_was_measured_in_the_masks(real_data):
    table = read_table(real_data / medseg_reader.FOLDER / medseg_reader.SLICES, ("labels",))
    columns = {
        "ground-glass": "ggo_px",
        "consolidation": "consolidation_px",
        "effusion": "effusion_px",
    }
    found = {}
    for name, column in columns.items():
        shows = pd.to_numeric(table[column]) > 0
        found[f"with {name}"] = (shows.sum(), (shows & (table["labels"] == "exact")).sum())
    assert {row[0]: tuple(map(int, row[1:])) for row in told("medseg", MASKS)} == found
    lesions = table[list(columns.values())].apply(pd.to_numeric).sum(axis=1)
    assert lesions[lesions == 0].index.tolist() == [48], "slice 48 shows no lesion"
