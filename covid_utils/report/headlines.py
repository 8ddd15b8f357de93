"""The few numbers that a reader looks for first, taken from the written tables."""

from __future__ import annotations

import pandas as pd

from covid_utils import paths, runs
from covid_utils.errors import ResultsError
from covid_utils.report import render
from covid_utils.report.cells import VALUES
from covid_utils.report.recognition_tables import OTHERS, PUBLISHED, SPLITS

#: Question -> table and the values of its key columns that answer it. Of several rows of Table 2,
#: the split that the data were prepared with is first.
HONEST = {"settings": PUBLISHED, "subset": "test"}
OVERALL = {"manifestation": "overall", "metric": "accuracy"}
KNOWN_SET = {"work": f"{OTHERS['dataset only']}, 2 classes", "metric": "accuracy"}
ROWS = {
    "COVID-19 or normal, X-ray": ("table2", HONEST | {"classes": 2}),
    "four classes, X-ray": ("table2", HONEST | {"classes": 4}),
    "COVID-19 or normal, knowing only the data set's name": ("table3", KNOWN_SET),
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
}
EXTENT = {
    "extent of disease, mean over slices": "DeepLab-v3+, stream all",
    "the same, started from ImageNet": "DeepLab-v3+, stream all, from imagenet",
    "the same, networks of every start together": "DeepLab-v3+, stream all, all starts together",
    "the same by U-Net": "U-Net, stream all",
    "the same, three specialists together": "DeepLab-v3+, specialists together",
}
OWN_STREAM = {
    "ground-glass, its own stream, mean over exactly labelled slices": "ggo",
    "consolidation, the same": "consolidation",
    "effusion, the same": "effusion",
}
MEAN_DICE = {"average": "per_image", "metric": "dice"}
MEAN_EXACT = {"average": "per_image", "labels": "exact"}
ROWS |= {q: ("table8", MEAN_DICE | {"work": f"ours, {work}"}) for q, work in EXTENT.items()}
ROWS |= {
    q: ("table7", MEAN_EXACT | {"work": f"ours, DeepLab-v3+, stream {name}"})
    for q, name in OWN_STREAM.items()
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
    """Headline numbers of a profile, with the columns ``question`` and `VALUES`."""
    rows = []
    for question, (name, criteria) in ROWS.items():
        row = runs.select(runs.read_table(profile, f"tables/{name}"), **criteria).head(1)
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
