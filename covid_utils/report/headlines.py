"""The few numbers that a reader looks for first, taken from the written tables."""

from __future__ import annotations

import pandas as pd

from covid_utils import paths, runs
from covid_utils.errors import ResultsError
from covid_utils.report import documents
from covid_utils.report.cells import VALUES, readable
from covid_utils.report.recognition_tables import OTHERS, PUBLISHED, SPLITS

#: Rows of Table 2 that say most; of several, the split that the data were prepared with is first.
HONEST = {"settings": PUBLISHED, "subset": "test"}
#: Question -> table and the values of its key columns that answer it.
ROWS = {
    "COVID-19 or normal, X-ray": ("table2", HONEST | {"classes": 2}),
    "four classes, X-ray": ("table2", HONEST | {"classes": 4}),
    "COVID-19 or normal, knowing only the data set's name": (
        "table3",
        {"work": f"{OTHERS['dataset only']}, 2 classes", "metric": "accuracy"},
    ),
    "four classes, split by hash of the path: patients on both sides": (
        "table2",
        HONEST | {"classes": 4, "split": SPLITS["path_hash"]},
    ),
    "COVID-19 or not, X-ray + CT, mean of runs": (
        "table4",
        {"tested on": "X-ray + CT", "run": "mean"},
    ),
    "manifestations of a slice": (
        "table5",
        {"work": "ours", "manifestation": "overall", "metric": "accuracy"},
    ),
    "the same, always answering 'present'": (
        "table5",
        {
            "work": "baseline: always present",
            "manifestation": "overall",
            "metric": "accuracy",
        },
    ),
    "extent of disease, mean over slices": (
        "table8",
        {"work": "ours, DeepLab-v3+, stream all", "average": "per_image", "metric": "dice"},
    ),
    "the same, started from ImageNet": (
        "table8",
        {
            "work": "ours, DeepLab-v3+, stream all, from imagenet",
            "average": "per_image",
            "metric": "dice",
        },
    ),
    "the same, networks of every start together": (
        "table8",
        {
            "work": "ours, DeepLab-v3+, stream all, all starts together",
            "average": "per_image",
            "metric": "dice",
        },
    ),
    "the same by U-Net": (
        "table8",
        {"work": "ours, U-Net, stream all", "average": "per_image", "metric": "dice"},
    ),
    "the same, three specialists together": (
        "table8",
        {
            "work": "ours, DeepLab-v3+, specialists together",
            "average": "per_image",
            "metric": "dice",
        },
    ),
    "ground-glass, its own stream, mean over exactly labelled slices": (
        "table7",
        {
            "work": "ours, DeepLab-v3+, stream ggo",
            "average": "per_image",
            "labels": "exact",
        },
    ),
    "consolidation, the same": (
        "table7",
        {
            "work": "ours, DeepLab-v3+, stream consolidation",
            "average": "per_image",
            "labels": "exact",
        },
    ),
    "effusion, the same": (
        "table7",
        {
            "work": "ours, DeepLab-v3+, stream effusion",
            "average": "per_image",
            "labels": "exact",
        },
    ),
}

#: Questions about a run that is made on demand only; left out where there is none.
OPTIONAL = ("the same, started from ImageNet",)


def collect(profile: str) -> pd.DataFrame:
    """Headline numbers of a profile, with the columns ``question`` and `VALUES`.

    Raises:
        ResultsError: A table has not been written, or lacks a row.
    """
    rows = []
    for question, (name, criteria) in ROWS.items():
        path = paths.results(profile) / "tables" / f"{name}.csv"
        if not path.is_file():
            raise ResultsError(f"{paths.shown(path)}: not there yet; run notebook 05_tables first.")
        table = pd.read_csv(path, keep_default_na=False, na_values=[""])
        for column, wanted in criteria.items():
            table = table[table[column] == wanted]
        if table.empty and question in OPTIONAL:
            continue
        if table.empty:
            raise ResultsError(f"{paths.shown(path)}: no row for {criteria}; rebuild the tables.")
        rows.append({"question": question} | table.iloc[0][list(VALUES)].to_dict())
    found = pd.DataFrame(rows)
    texts = ["claim", "verdict", "source_run", "note"]
    found[texts] = found[texts].fillna("")
    return found


def write(profile: str) -> pd.DataFrame:
    """Collect the headline numbers and keep them as ``results/<profile>/overview.json``."""
    table = collect(profile)
    records = table.astype(object).where(table.notna(), None).to_dict("records")
    runs.write_json(paths.results(profile) / "overview.json", records)
    return table


def markdown(profile: str) -> str:
    """The headline numbers as a Markdown table, for the README."""
    return documents.markdown(readable(collect(profile)))
