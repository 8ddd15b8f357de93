"""Tables 6, 7 and 8 and the file of all segmentation scores, selected from scores."""

from __future__ import annotations

import pandas as pd

from covid_utils.registry import FUSION, MANIFESTATIONS, PUBLISHED, STARTS, stream_run, work
from covid_utils.report import claims as ledger
from covid_utils.report.cells import NOT_AVAILABLE, beside, quoted, sources
from covid_utils.report.recognition_tables import WEAK, joined
from covid_utils.runs import select

ALL, UNET = stream_run("all"), stream_run("all", "unet")
#: Measures of the extent in Table 8: metric, average.
MEASURES = (
    ("dice", "per_image"),
    ("dice_thresholds", "per_image"),
    ("dice", "pooled"),
    ("iou", "per_image"),
    ("iou", "pooled"),
    ("hd95", "per_image"),
    ("volume_error", "per_image"),
)
MEASURE_NAMES = {
    "dice_thresholds": "dice, mean over 256 thresholds",
    "hd95": "95 % Hausdorff distance",
    "volume_error": "absolute error of the extent",
}
#: What the paper states of the extent: a gain, and no value.
GAINS = {"dice": "p25b", "iou": "p25a"}


def streams(scored: pd.DataFrame) -> pd.DataFrame:
    """Scores of what outlined slices, with the column ``work`` and notes on weak labels."""
    part = scored[scored["task"].str.startswith("stream ")]
    notes = [joined(WEAK[at], note) for at, note in zip(part["labels"], part["note"], strict=True)]
    return part.assign(work=[work(row) for row in part.to_dict("records")], note=notes)


def segmentation_scores(scored: pd.DataFrame) -> pd.DataFrame:
    """Every score of every run, as ``segmentation_scores.csv`` has it."""
    part = streams(scored)
    part = part[part["groups"] > 0]
    weak = part["labels"].map({"exact": "", "all": ", weak labels among them"})
    stream = part["task"].str.removeprefix("stream ")
    table = part.assign(subset=part["subset"] + weak, stream=stream, init=part["start"])
    keys = ["model", "stream", "init", "split", "subset", "class", "metric", "average"]
    return table[[*keys, "value", "low", "high", "n"]]


def table6(scored: pd.DataFrame) -> pd.DataFrame:
    """Table 6: Dice and IoU of every stream, and what was gained by each of the paper's ideas."""
    part = select(streams(scored), metric=["dice", "iou"])
    own = part[(part["class"] != "background") & (part["run"] != PUBLISHED)].assign(claim="")
    differences = select(scored, metric="dice difference")
    works = dict(zip(part["run"], part["work"].str.removeprefix("ours, "), strict=True))
    pairs = [sources(run) for run in differences["run"]]
    notes = zip(differences["labels"], differences["note"], strict=True)
    differences = differences.assign(
        work=[" minus ".join(works[run] for run in pair) for pair in pairs],
        claim=["c04" if b == UNET else "c03" if a == ALL else "c01" for a, b in pairs],
        note=[joined(WEAK[scope], note) for scope, note in notes],
    )
    return beside(pd.concat([own, differences]), ["work", "class", "average", "labels"])


def table7(scored: pd.DataFrame) -> pd.DataFrame:
    """Table 7: each manifestation against the literature; the paper's values are derived."""
    part, keys = streams(scored), ["class", "work", "average", "labels"]
    published, tables = ledger.published(), []
    for name in MANIFESTATIONS:
        for run in (stream_run(name), ALL, STARTS, FUSION, UNET, PUBLISHED):
            for metric in ("dice", "iou"):
                rows = select(part, run=run, class_=name, metric=metric)
                tables.append(beside(_derived(rows, name, metric), keys))
        tables.append(_literature(published[published["class"] == name], keys))
    return pd.concat([table for table in tables if len(table)], ignore_index=True)


def _derived(rows: pd.DataFrame, name: str, metric: str) -> pd.DataFrame:
    # The paper's implied "mIoU" fits its implied Dice as the IoU of the class alone.
    stated, words = ledger.load(), {"dice": "Dice", "iou": "mIoU"}[metric]
    keys = {"where": "Table 7", "class_": name}
    implied = ledger.stated(stated, metric=words, source="D", **keys)
    if implied is None or rows.empty or rows["run"].iloc[0] != stream_run(name):
        return rows
    gain = ledger.stated(stated, metric=f"{words} gain over Inf-Net", source="P", **keys)
    base, _ = map(float, implied.how.split(" x "))
    how = f"paper's value derived: {implied.how}"
    over = f"over {base:g}, the value that the paper quotes"
    scores = rows.assign(claim=implied.id, note=[joined(note, how) for note in rows["note"]])
    limits = {limit: rows[limit] / base - 1 for limit in ("value", "low", "high")}
    gains = rows.assign(metric=f"{metric} gain over Inf-Net", unit="%", claim=gain.id, **limits)
    gains["note"] = [joined(note, over) for note in rows["note"]]
    return pd.concat([scores, gains]).sort_index(kind="stable")


def _literature(published: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    part = published[(published["task"] == 3) & (published["source"] != "D")]
    is_fair = part["test_set"].str.contains("Inf-Net benchmark")
    average = is_fair.map({True: "per_image", False: NOT_AVAILABLE})
    part = part.assign(average=average, labels="quoted")
    return quoted(pd.concat([part[is_fair], part[~is_fair]]), keys)


def table8(scored: pd.DataFrame) -> pd.DataFrame:
    """Table 8: the extent of disease, all manifestations together, against the literature."""
    part = select(streams(scored), class_="lesion")
    part = part[(part["run"] != PUBLISHED) | part["value"].notna()]
    kinds = [*zip(part["metric"], part["average"], strict=True)]
    order = pd.factorize(part["run"])[0] * len(MEASURES) + [MEASURES.index(kind) for kind in kinds]
    part = part.iloc[order.argsort()]
    stated, is_usual = ledger.load(), part["run"] == ALL
    claims = part["metric"].map(GAINS).where(is_usual).fillna("")
    table = part.assign(
        metric=part["metric"].replace(MEASURE_NAMES),
        claim=claims,
        paper=[f"a gain of {stated[claim].value} %" if claim else "" for claim in claims],
        note=claims.map(lambda claim: "the paper states a gain and no value" if claim else ""),
    )
    published = ledger.published()
    others = published[published["class"].isin(("lesion", "all"))]
    keys = ["work", "average"]
    return pd.concat([beside(table, keys), _literature(others, keys)], ignore_index=True)
