"""The few numbers that a reader looks for first, taken from the written tables."""

from __future__ import annotations

import pandas as pd

from covid_utils import paths, runs
from covid_utils.errors import ResultsError
from covid_utils.evaluation.scores import select
from covid_utils.report import render, tables
from covid_utils.report.cells import VALUES
from covid_utils.report.recognition_tables import OTHERS, PUBLISHED, SPLITS

#: Rows of Table 2 that say most; of several, the split that the data were prepared with is first.
HONEST = {"settings": PUBLISHED, "subset": "test"}
OVERALL = {"manifestation": "overall", "metric": "accuracy"}
EXTENT = {"average": "per_image", "metric": "dice"}
EXACT = {"average": "per_image", "labels": "exact"}
STREAM = "ours, DeepLab-v3+, stream"
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
    "manifestations of a slice": ("table5", OVERALL | {"work": "ours"}),
    "the same, always answering 'present'": (
        "table5",
        OVERALL | {"work": "baseline: always present"},
    ),
    "extent of disease, mean over slices": ("table8", EXTENT | {"work": f"{STREAM} all"}),
    "the same, started from ImageNet": (
        "table8",
        EXTENT | {"work": f"{STREAM} all, from imagenet"},
    ),
    "the same, networks of every start together": (
        "table8",
        EXTENT | {"work": f"{STREAM} all, all starts together"},
    ),
    "the same by U-Net": ("table8", EXTENT | {"work": "ours, U-Net, stream all"}),
    "the same, three specialists together": (
        "table8",
        EXTENT | {"work": "ours, DeepLab-v3+, specialists together"},
    ),
    "ground-glass, its own stream, mean over exactly labelled slices": (
        "table7",
        EXACT | {"work": f"{STREAM} ggo"},
    ),
    "consolidation, the same": ("table7", EXACT | {"work": f"{STREAM} consolidation"}),
    "effusion, the same": ("table7", EXACT | {"work": f"{STREAM} effusion"}),
}
#: Questions about a run that is made on demand only; left out where there is none.
OPTIONAL = ("the same, started from ImageNet",)
#: The few that the README shows.
KEY = (
    "COVID-19 or normal, X-ray",
    "COVID-19 or normal, knowing only the data set's name",
    "four classes, X-ray",
    "extent of disease, mean over slices",
    "ground-glass, its own stream, mean over exactly labelled slices",
)


def collect(profile: str) -> pd.DataFrame:
    """Headline numbers of a profile, with the columns ``question`` and `VALUES`.

    Raises:
        ResultsError: A table has not been written, or lacks a row.
    """
    rows = []
    for question, (name, criteria) in ROWS.items():
        row = select(tables.read(profile, name), **criteria).head(1)
        if len(row):
            rows.append(row.assign(question=question)[["question", *VALUES]])
        elif question not in OPTIONAL:
            path = paths.shown(paths.results(profile) / "tables" / f"{name}.csv")
            raise ResultsError(f"{path}: no row for {criteria}; rebuild the tables.")
    return pd.concat(rows, ignore_index=True)


def write(profile: str) -> pd.DataFrame:
    """Collect the headline numbers and keep them as ``results/<profile>/overview.json``."""
    table = collect(profile)
    records = table.astype(object).where(table.notna(), None).to_dict("records")
    runs.write_json(paths.results(profile) / "overview.json", records)
    return table


def markdown(profile: str) -> str:
    """The headline numbers of `KEY` as a Markdown table, for the README."""
    table = collect(profile).set_index("question", drop=False)
    return render.markdown(render.readable(table.loc[list(KEY)]))
