"""Tables 6, 7 and 8, and that of slices of other hospitals, selected from scores."""

from __future__ import annotations

import pandas as pd

from covid_utils import registry
from covid_utils.report import claims as ledger
from covid_utils.report import render
from covid_utils.report.recognition_tables import WEAK
from covid_utils.report.render import NOT_AVAILABLE, VALUES, joined, ordered, quoted
from covid_utils.runs import select

#: Runs that outline every manifestation, in the order of Table 7.
TOGETHER = (registry.stream_run("all"), registry.STARTS, registry.FUSION)
TOGETHER += (registry.stream_run("all", "unet"), registry.PUBLISHED)
#: Measures of each class in Tables 6 and 7.
METRICS = ["dice", "iou", "false alarms"]
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
#: Steps whose scores on other hospitals stand beside those on the benchmark: its own networks, on
#: slices prepared alike, and the shipped one.
BESIDE = ("E0", registry.SHIPPED)
#: Columns of `side_by_side`: metric and subset -> heading.
SIDES = {
    ("dice", "benchmark"): "benchmark",
    ("dice difference", "benchmark"): "benchmark, difference",
    ("dice", registry.EXTERNAL): "other hospitals",
    ("dice difference", registry.EXTERNAL): "other hospitals, difference",
}


def streams(scored: pd.DataFrame) -> pd.DataFrame:
    """Scores of what outlined slices, with the column ``work`` and notes on weak labels."""
    part = scored[scored["task"].str.startswith("stream ")]
    is_shown = part["subset"].eq(registry.EXTERNAL) & part["protocol"].isin(BESIDE)
    is_shown &= part["class"].eq("lesion") & ~part["metric"].str.endswith("difference")
    part = part[is_shown | (part["run"] != registry.HOSPITALS)]
    notes = joined(part["labels"].map(WEAK), part["note"])
    works = [registry.work(row) for row in part.to_dict("records")]
    works = pd.Series(works, part.index, dtype=object)
    return part.assign(work=works, note=notes)


def table6(scored: pd.DataFrame) -> pd.DataFrame:
    """Dice, IoU and false alarms of every stream."""
    part = select(streams(scored), metric=METRICS)
    return part[(part["class"] != "background") & (part["run"] != registry.PUBLISHED)]


def table7(scored: pd.DataFrame) -> pd.DataFrame:
    """Each manifestation against the literature; the paper's values are derived."""
    part, published, parts = streams(scored), ledger.published(), []
    for name in registry.MANIFESTATIONS:
        runs = (registry.stream_run(name), *TOGETHER)
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
    part = part[(part["run"] != registry.PUBLISHED) | part["value"].notna()]
    part = part.assign(measure=[*zip(part["metric"], part["average"], strict=True)])
    part = ordered(part, work=part["work"].unique(), measure=MEASURES)
    published = select(ledger.published(), class_=["lesion", "all"])
    return pd.concat([part.assign(metric=part["measure"].map(MEASURES)), _literature(published)])


def hospitals(scored: pd.DataFrame) -> pd.DataFrame:
    """Scores of every step towards slices of other hospitals, network by network."""
    part = select(scored, run=registry.HOSPITALS).rename(columns={"protocol": "step"})
    started = {start: name for name, start in registry.HOSPITAL_NETWORKS.items()}
    # What is trained anew is the small network.
    part["network"] = part["start"].map(started).fillna("small")
    part["tested on"] = part["subset"].replace("test", "benchmark")
    return ordered(part, network=registry.HOSPITAL_NETWORKS, step=registry.STEPS)


def sides(table: pd.DataFrame) -> pd.DataFrame:
    """Mean Dice of lesions and the difference that each step makes, from the table `hospitals`.

    ``network``, ``step`` and `render.VALUES`, the metric being one of the headings in `SIDES`.
    """
    part = select(table, class_="lesion", average="per_image")
    heads = [SIDES.get(pair, "") for pair in zip(part["metric"], part["tested on"], strict=True)]
    step = part["step"] + ": " + part["step"].map(registry.STEPS)
    part = part.assign(metric=heads, step=step)
    order = {"network": registry.HOSPITAL_NETWORKS, "step": sorted(step.unique())}
    return ordered(part, **order, metric=SIDES.values())[["network", "step", *VALUES]]


def side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """The same for people: a row per network and step, a column per heading, all text."""
    shown = render.wide(sides(table), ["network", "step"], ["metric"])
    return shown[[name for name in SIDES.values() if name in shown]]


def shares_called(shares: pd.DataFrame) -> pd.DataFrame:
    """`hospital_scores.shares_called` for people: a column per preparation, shares in per cent."""
    names = shares["network"].map(registry.NEIGHBOURS)
    text = shares.assign(network=names, n=shares["slices"], unit="%")
    text[["ours", "low", "high"]] = 100 * shares[["called", "low", "high"]]
    text["called"] = [render.with_interval(row) for row in text.itertuples()]
    keys = ["network", "tested on", "should be called", "slices"]
    return text.pivot(index=keys, columns="prepared", values="called")[[*registry.PREPARATIONS]]
