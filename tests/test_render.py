"""Tables as text and Markdown: nothing cut off, nothing that breaks out of its cell."""

import numpy as np
import pandas as pd
import pytest

from covid_utils.report import render

LONG = "a note that says more than a frame of pandas would show, to its very last word"


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "work": ["a | b", "Zhou <i>2020</i> & others"],
            "share": [0.123456, np.nan],
            "n": [12, 0],
            "note": [LONG, "short"],
        }
    )


def test_markdown_has_a_line_a_row_and_no_text_ends_its_cell(table):
    lines = render.markdown(table).split("\n")
    assert lines == [
        "| work | share | n | note |",
        "| --- | --- | --- | --- |",
        f"| a \\| b | 0.1235 | 12 | {LONG} |",
        "| Zhou <i>2020</i> & others |  | 0 | short |",
    ]
    two_lines = render.markdown(pd.DataFrame({"note": ["one\ntwo"]}))
    assert two_lines.split("\n")[2:] == ["| one two |"]


@pytest.mark.parametrize(
    ("changes", "ours", "n", "paper"),
    [
        ({}, "98.4 % [97.0, 99.9]", "536", "99.4 %"),
        ({"low": np.nan, "high": np.nan}, "98.4 %", "536", "99.4 %"),
        ({"unit": "fraction", "ours": 0.91149, "low": 0.9, "high": 0.92, "paper": "0.911"},
         "0.911 [0.900, 0.920]", "536", "0.911"),
        ({"ours": np.nan}, "undefined", "536", "99.4 %"),
        ({"ours": np.nan, "n": 0}, "", "", "99.4 %"),
        ({"paper": "3", "unit": "images"}, "98 images [97, 100]", "536", "3 images"),
        ({"ours": 3.14, "low": 2, "high": 4.06, "unit": "% of side", "paper": "not available"},
         "3.1 % of side [2.0, 4.1]", "536", "not available"),
    ],
)  # fmt: skip
def test_readable_formats(changes, ours, n, paper):
    row = {"class": "all", "metric": "accuracy", "unit": "%", "ours": 98.442, "low": 97.0}
    row |= {"high": 99.9, "n": 536, "paper": "99.4", "claim": "p01"}
    row |= {"source_run": "task1", "note": "so"}
    text = render.readable(pd.DataFrame([row | changes])).iloc[0].to_dict()
    assert (text["ours"], text["n"], text["paper"]) == (ours, n, paper)
    assert list(text) == ["class", "metric", "ours", "n", "paper", "claim", "note"]


def test_a_wide_table_has_a_column_a_score_in_the_order_of_the_rows():
    keys = {"unit": "fraction", "low": np.nan, "high": np.nan}
    keys |= dict.fromkeys(("paper", "claim", "source_run", "note"), "")
    rows = [
        {"work": work, "metric": metric, "average": "pooled", "ours": value, "n": 3} | keys
        for work, metric, value in (("b", "iou", 0.5), ("b", "dice", 0.25), ("a", "dice", 1.0))
    ]
    wide = render.wide(pd.DataFrame(rows), ["work"], ["metric", "average"])
    assert wide.index.tolist() == ["b", "a"]
    assert wide.columns.tolist() == [("iou", "pooled"), ("dice", "pooled")]
    assert wide.to_numpy().tolist() == [["0.500", "0.250"], ["", "1.000"]]
    with pytest.raises(ValueError, match="duplicate"):
        render.wide(pd.DataFrame(rows), ["average"], ["metric"])
