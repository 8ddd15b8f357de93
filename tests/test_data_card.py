"""The data card has every set, describes each by the same items, and its numbers are the runs'."""

import re
from types import SimpleNamespace

import pandas as pd
import pytest

import chest_phantom
from chest_phantom.cohort import plan
from covid_utils import paths, runs
from covid_utils.data import collection, manifest, readers
from covid_utils.data.guard import table as read_table
from covid_utils.data.readers import covid_chestxray, folders
from covid_utils.data.readers import medseg as medseg_reader
from covid_utils.data.similarity import SAME_BITS, same_pictures

TEXT = (paths.PROJECT / "docs" / "data_card.md").read_text(encoding="utf8")
PARTS = re.split(r"^## (.+)$", TEXT, flags=re.MULTILINE)
#: Text below each heading; what stands before the first heading has the key ''.
SECTIONS = {"": PARTS[0]} | dict(zip(PARTS[1::2], PARTS[2::2], strict=True))
COHEN = covid_chestxray.NAME
SAMPLE = paths.PROJECT / "results" / "sample"
FOLDERS = {source.name: source.folder for source in readers.SOURCES.values()}
SETS = [*FOLDERS.values(), "phantom"]
ITEMS = ["What it is.", "Who made it.", "How it was made.", "Licence.", "Patients."]
ITEMS += ["Known defects.", "Not for."]


def rows(section, *heading):
    """Rows of the table of a section whose heading begins so; none without such a table."""
    below = SECTIONS[section].partition(f"\n| {' | '.join(heading)} |")[2].split("\n\n")[0]
    lines = [line.strip("|").split("|") for line in below.strip().split("\n")[2:]]
    return [tuple(cell.strip() for cell in line) for line in lines]


def test_every_set_has_a_section_and_a_row_in_each_overview():
    named = ", ".join(row[0] for row in rows("How the splits treat each set", "data set"))
    assert sorted(named.split(", ")) == sorted(FOLDERS.values())
    shown = {row[0] for row in rows("", "data set", "shows")}
    assert shown == {f"[{name}](#{name.lower()})" for name in SETS}
    for name in SETS:
        items = re.findall(r"^- \*\*(.+?)\*\*", SECTIONS[name].split("\n| ")[0], re.MULTILINE)
        assert [item for item in items if item != "Good for."] == ITEMS, name


# What the runs say


@pytest.fixture(scope="module")
def sample():
    """Manifest and problems of the sample profile, and pairs that are one picture."""
    table = manifest.saved_manifest("sample")
    pairs = same_pictures(table["phash"].tolist())
    first, second = (table.iloc[side].reset_index(drop=True) for side in pairs.T)
    apart = first["patient_id"] != second["patient_id"]
    names = [set(pair) for pair in zip(first["dataset"], second["dataset"], strict=True)]
    return SimpleNamespace(
        rows=table,
        parts=dict(tuple(table.groupby("dataset"))),
        problems=pd.read_csv(SAMPLE / "data" / "skipped.csv")["problem"].value_counts(),
        pairs=pd.Series(names)[apart],  # names of their sets
    )


def test_counts_of_all_sets(sample):
    read, counts = {}, {}
    for name, part in sample.parts.items():
        basis = ", ".join(sorted(part["patient_basis"].unique()))
        sides = (sorted({part[side].min(), part[side].max()}) for side in ("width", "height"))
        spans = ("–".join(map(str, side)) for side in sides)
        patients = str(part["patient_id"].nunique())
        read[FOLDERS[name]] = (str(len(part)), patients, basis, *spans)
        for (modality, label), group in part.groupby(["modality", "label"]):
            numbers = (str(len(group)), str(group["patient_id"].nunique()))
            counts[FOLDERS[name], modality, label] = numbers
    assert {row[0]: row[1:] for row in rows("", "data set", "images")} == read
    tables = {folder: rows(folder, "modality") for folder in FOLDERS.values()}
    written = {(name, *row[:2]): row[2:] for name, table in tables.items() for row in table}
    assert written == counts
    # Validation slices are taken from the published training part.
    published = {"train": 0, "validation": 0, "test": 1, "unused": 2}
    measured = {}
    for quality, part in sample.parts["medseg"].groupby("label_quality"):
        sides = part["subset"].map(published).value_counts()
        measured[quality] = [len(part), *(int(sides.get(side, 0)) for side in range(3))]
    assert {row[0]: list(map(int, row[1:])) for row in rows("medseg", "classes")} == measured


def traps(sample):
    frontal = collection.frontal_xrays(sample.rows)
    two = frontal[frontal["label"].isin(("covid", "normal"))]
    right = (two["dataset"] == COHEN) == (two["label"] == "covid")
    test = two["subset"] == "test"
    found = pd.read_parquet(SAMPLE / "task1" / "predictions.parquet")
    keys = {"task": "2 classes", "model": "head", "subset": "test", "run": 1}
    found = runs.select(found, **keys)
    ours = 100 * (found["truth"] == found["predicted"]).mean()
    return {
        "frontal X-rays of COVID-19 or normal chests": len(two),
        "of these, right by the rule of the source": f"{100 * right.mean():.1f} %",
        "of these, in the test": test.sum(),
        "of the test, right by the rule of the source": f"{100 * right[test].mean():.1f} %",
        "of the test, right by our network": f"{ours:.1f} %",
        "pairs of images that are one picture under two patients": len(sample.pairs),
        "of these pairs, in two data sets": (sample.pairs.map(len) == 2).sum(),
    }


def several(part, key, value):
    """How many groups of a key have more than one value of a column."""
    return (part.groupby(key)[value].nunique() > 1).sum()


def image_collection(sample):
    part = sample.parts[COHEN]
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
        "identical files of two patients": several(part, "sha256", "patient_id"),
        "CT slices that are also in `medseg`": sample.pairs.tolist().count({COHEN, "medseg"}),
        "CT slices that are also in `COVID-CT`": sample.pairs.tolist().count({COHEN, "covid-ct"}),
    }


def children(sample):
    part = sample.parts["chest_xray"]
    ill = part[part["label"].isin(("viral", "bacterial"))]
    published = part.assign(published=part["path"].str.split("/").str[1])
    return {
        "numbers that occur with both causes": several(ill, "patient_id", "label"),
        "numbers that occur in both published parts": several(published, "patient_id", "published"),
        "files that repeat another file exactly": part["sha256"].duplicated().sum(),
        "identical files of two patients": several(part, "sha256", "patient_id"),
    }


def adults(sample):
    count = several(sample.parts["nih-adult"], "patient_id", "label")
    return {"patients with images in both folders": count}


def figures(sample):
    part = sample.parts["covid-ct"]
    names = part["path"].str.rsplit("/", n=1).str[1]
    positive = part["label"] == "covid"
    jpeg = names.str.lower().str.endswith((".jpg", ".jpeg"))
    return {
        "papers with COVID-19": names[positive].map(folders.paper).nunique(),
        "figures without COVID-19": names[~positive].map(folders.figure).nunique(),
        "groups after joining near copies": part["patient_id"].nunique(),
        "groups with both classes": several(part, "patient_id", "label"),
        "images in the largest group": part.groupby("patient_id").size().max(),
        "JPEG files with COVID-19": (jpeg & positive).sum(),
        "JPEG files without COVID-19": (jpeg & ~positive).sum(),
    }


def slices(sample):
    part = sample.parts["medseg"]
    learned = set(part.loc[part["subset"].isin(("train", "validation")), "patient_id"])
    tested = part.loc[part["subset"] == "test", "patient_id"]
    return {
        "groups of more than one slice": (part.groupby("patient_id").size() > 1).sum(),
        "groups on both sides of the published split": len(learned & set(tested)),
        "test slices with a near copy in training": tested.isin(learned).sum(),
    }


MEASURES = {"Before you use any of these for a claim": traps, COHEN: image_collection}
MEASURES |= {"chest_xray": children, "nih-adult": adults, "COVID-CT": figures, "medseg": slices}


@pytest.mark.parametrize("section", SECTIONS)
def test_what_was_measured_in_the_sample(section, sample):
    measured = MEASURES[section](sample) if section in MEASURES else {}
    written = dict(rows(section, "measured in the sample"))
    assert written == {what: str(number) for what, number in measured.items()}


def test_the_pair_that_escapes_the_hashes_is_as_described(sample):
    pair = sample.rows[sample.rows["path"].str.contains("/A7E260CE-|/case_76_1-3.png")]
    first, second = (int(digits, 16) for digits in pair["phash"])
    bits = re.search(r"hashes differ by (\d+) bits, where (\d+) may", TEXT).groups()
    assert tuple(map(int, bits)) == ((first ^ second).bit_count(), SAME_BITS)
    assert pair["patient_id"].nunique() == 2
    assert pair["subset"].nunique() == 1, "the splits keep both on one side"


def test_the_phantoms_licence_and_patients():
    licence = chest_phantom.LICENCE.removesuffix(" (phantom)")
    assert f"- **Licence.** {licence}." in SECTIONS["phantom"]
    # Where a patient's X-rays go follows from the role.
    roles = dict.fromkeys(("covid", "other"), "covid-chestxray-dataset")
    roles |= {"chest": "chest_xray", "rsna": "rsna", "nih": "nih-adult"}
    people = [(roles[one.role], one.pattern) for one in plan(chest_phantom.Settings())]
    patterns = ("covid", "normal", "viral", "bacterial", "nodule")
    counted = {
        folder: [people.count((folder, pattern)) for pattern in patterns]
        for folder in roles.values()
    }
    written = rows("phantom", "X-rays go to")
    assert {folder: list(map(int, numbers)) for folder, *numbers in written} == counted


# What the manifest does not hold: these need the scans


@pytest.mark.real
def test_age_sex_and_what_was_measured_in_the_metadata(real_data, sample):
    """Of the image collection, with our label and patient where the image is there."""
    table = read_table(real_data / COHEN / covid_chestxray.METADATA, covid_chestxray.COLUMNS)
    table = table.apply(lambda column: column.str.strip())
    path = COHEN + "/" + table["folder"] + "/" + table["filename"]
    part = sample.parts[COHEN].drop_duplicates("path").set_index("path")
    table["patient"], table["sex"] = path.map(part["patient_id"]), table["sex"].replace("", None)
    table["label"] = table["finding"].map(covid_chestxray.label_of)
    table["age"] = pd.to_numeric(table["age"], errors="coerce")
    here = table[table["patient"].notna()]
    xrays = here[here["modality"] == "X-ray"]
    covid = xrays[xrays["label"] == "covid"]
    measured = {
        "rows, with or without an image": len(table),
        "images labelled `todo`": (here["finding"] == "todo").sum(),
        "COVID-19 X-rays from Hannover": covid["location"].str.contains("Hannover").sum(),
        "COVID-19 X-rays from Radiopaedia": covid["url"].str.contains("//radiopaedia.org").sum(),
        "COVID-19 X-rays from SIRM": covid["url"].str.contains("//www.sirm.org").sum(),
        "patients with an X-ray who are under 18": xrays[xrays["age"] < 18]["patient"].nunique(),
    }
    written = dict(rows(COHEN, "measured in the metadata"))
    assert written == {what: str(number) for what, number in measured.items()}
    written = rows(COHEN, "X-rays labelled")
    assert [row[0] for row in written] == sorted(xrays["label"].unique())
    for label, *numbers in written:
        people = xrays[xrays["label"] == label].groupby("patient")[["age", "sex"]].first()
        age, sex = people["age"].dropna(), people["sex"]
        ages = [len(age), age.min(), age.median(), age.max()]
        sexes = [(sex == "M").sum(), (sex == "F").sum(), sex.isna().sum()]
        assert list(map(float, numbers)) == [*ages, *sexes], label


@pytest.mark.real
def test_what_was_measured_in_the_masks(real_data):
    table = read_table(real_data / medseg_reader.NAME / medseg_reader.SLICES, ("labels",))
    names = {"ground-glass": "ggo", "consolidation": "consolidation", "effusion": "effusion"}
    pixels = pd.DataFrame({key: pd.to_numeric(table[f"{n}_px"]) for key, n in names.items()})
    exact = table["labels"] == "exact"
    assert len(rows("medseg", "measured in the masks")) == len(names)
    for what, *numbers in rows("medseg", "measured in the masks"):
        shows = pixels[what.removeprefix("with ")] > 0
        assert list(map(int, numbers)) == [shows.sum(), (shows & exact).sum()], what
    assert pixels[pixels.sum(axis=1) == 0].index.tolist() == [48], "slice 48 shows no lesion"
