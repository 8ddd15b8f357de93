"""Tables 6, 7 and 8, selected from scores."""

from __future__ import annotations

import pandas as pd

from covid_utils.registry import FUSION, MANIFESTATIONS, PUBLISHED, STARTS, stream_run, work
from covid_utils.report import claims as ledger
from covid_utils.report.cells import NOT_AVAILABLE, joined, ordered, quoted
from covid_utils.report.recognition_tables import WEAK
from covid_utils.runs import select

ALL, UNET = stream_run("all"), stream_run("all", "unet")
#: Measures of each class in Tables 6 and 7.
METRICS = ("dice", "iou", "false alarms")
#: Measures of the extent in Table 8: metric and average -> its name.
MEASURES = {
    ("dice", "per_image"): "dice",
    ("dice_thresholds", "per_image"): "dice, mean over 256 thresholds",
    ("dice", "pooled"): "dice",
    ("iou", "per_image"): "iou",
    ("iou", "pooled"): "iou",
    ("hd95", "per_image"): "95 % Hausdorff distance",
    ("volume_error", "per_image"): "absolute error of the extent",
    ("false alarms", "per_image"): "false alarms",
}


def streams(scored: pd.DataFrame) -> pd.DataFrame:
    """Scores of what outlined slices, with the column ``work`` and notes on weak labels."""
    part = scored[scored["task"].str.startswith("stream ")]
    notes = joined(part["labels"].map(WEAK), part["note"])
    works = pd.Series([work(row) for row in part.to_dict("records")], part.index, dtype=object)
    return part.assign(work=works, note=notes)


def table6(scored: pd.DataFrame) -> pd.DataFrame:
    """Dice, IoU and false alarms of every stream."""
    part = select(streams(scored), metric=[*METRICS])
    return part[(part["class"] != "background") & (part["run"] != PUBLISHED)]


def table7(scored: pd.DataFrame) -> pd.DataFrame:
    """Each manifestation against the literature; the paper's values are derived."""
    part, published, parts = streams(scored), ledger.published(), []
    for name in MANIFESTATIONS:
        runs = (stream_run(name), ALL, STARTS, FUSION, UNET, PUBLISHED)
        parts += [ordered(part, class_=[name], run=runs, metric=METRICS)]
        parts += [_literature(select(published, class_=name))]
    return pd.concat(parts)


def _literature(published: pd.DataFrame) -> pd.DataFrame:
    """Quoted rows, those on the same benchmark first."""
    part = published[(published["task"] == 3) & (published["source"] != "D")]
    is_fair = part["test_set"].str.contains("Inf-Net benchmark")
    average = is_fair.map({True: "per_image", False: NOT_AVAILABLE})
    part = quoted(part.assign(average=average, labels="quoted"))
    return pd.concat([part[is_fair], part[~is_fair]])


def table8(scored: pd.DataFrame) -> pd.DataFrame:
    """The extent of disease, all manifestations together, against the literature."""
    part = select(streams(scored), class_="lesion")
    part = part[(part["run"] != PUBLISHED) | part["value"].notna()]
    part = part.assign(measure=[*zip(part["metric"], part["average"], strict=True)])
    part = ordered(part, run=part["run"].unique(), measure=MEASURES)
    published = select(ledger.published(), class_=["lesion", "all"])
    return pd.concat([part.assign(metric=part["measure"].map(MEASURES)), _literature(published)])
