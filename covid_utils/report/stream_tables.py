"""Tables 6, 7 and 8, and the file of all segmentation scores.

Whatever outlined the slices (a stream of either network, the specialists put together, or the
authors, whose masks were published) is a run with the same file of pixel counts, so all of them are
scored by the same code.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd

from covid_utils import paths, runs
from covid_utils.evaluation import intervals, metrics, stream_scores
from covid_utils.registry import FUSION, MANIFESTATIONS, NETWORKS, PUBLISHED, STARTS, stream_run
from covid_utils.report import cells
from covid_utils.report import claims as ledger
from covid_utils.report.label_tables import WEAK

DEEPLAB = NETWORKS["deeplab"]
PUBLISHED_WORK = "EL-Bana 2020, published masks, scored here"
#: What a difference of two runs does not tell.
ONE_TRAINING = "limits over slices: another training of either could move it"
#: Columns of ``segmentation_scores.csv``.
COLUMNS = ("model", "stream", "init", "split", "subset", "class", "metric", "average")
LIMITS = ("value", "low", "high", "n")
#: Subset of the scores on slices whose classes may be weak labels; ``test`` has exact ones only.
WITH_WEAK = "test, weak labels among them"
#: Columns of a score that say what it is of.
SCOPE = ("class", "average", "labels")

#: Measures of the extent in Table 8: metric, average, unit.
MEASURES = (
    ("dice", "per_image", "fraction"),
    ("dice_thresholds", "per_image", "fraction"),
    ("dice", "pooled", "fraction"),
    ("iou", "per_image", "fraction"),
    ("iou", "pooled", "fraction"),
    ("hd95", "per_image", "% of side"),
    ("volume_error", "per_image", "% of lung"),
)
MEASURE_NAMES = {
    "dice_thresholds": "dice, mean over 256 thresholds",
    "hd95": "95 % Hausdorff distance",
    "volume_error": "absolute error of the extent",
}


def present(profile: str) -> list[str]:
    """Runs that outlined slices: streams by name, then those put together and the authors'.

    Raises:
        ResultsError: The all-class stream, which all others are compared with, is not there.
    """
    folders = paths.results(profile).glob("*/predictions.parquet")
    names = {path.parent.name for path in folders}
    if stream_run("all") not in names:
        runs.read_predictions(profile, stream_run("all"))  # says what is missing, and the remedy
    known = sorted(name for name in names if name.startswith("stream_"))
    return known + [name for name in (STARTS, FUSION, PUBLISHED) if name in names]


def scores_of(profile: str, run: str) -> pd.DataFrame:
    """Scores of a run on what it is tested on; none if no slice is held out."""
    return _scored(profile, run, _changed(profile, run)).copy()


@lru_cache(maxsize=32)
def _scored(profile: str, run: str, changed: int) -> pd.DataFrame:
    pixels = _test_pixels(profile, run, "", changed)
    if pixels.empty:
        empty = pd.DataFrame(columns=["class", "metric", "average", "labels", *LIMITS])
        # Columns of objects would make those of other runs objects, written with all digits.
        return empty.astype(dict.fromkeys(LIMITS, float) | {"n": int})
    return stream_scores.segmentation(pixels)


def test_pixels(profile: str, run: str, name: str = "") -> pd.DataFrame:
    """Measures of a run's test slices, or of one class of them, in the order of their names."""
    return _test_pixels(profile, run, name, _changed(profile, run)).copy(deep=False)


def _changed(profile: str, run: str) -> int:
    """When a run's predictions were last written, in nanoseconds."""
    return (paths.results(profile) / run / "predictions.parquet").stat().st_mtime_ns


@lru_cache(maxsize=64)
def _test_pixels(profile: str, run: str, name: str, changed: int) -> pd.DataFrame:
    pixels = runs.read_predictions(profile, run)
    chosen = pixels[pixels["subset"].isin(("test", "published"))]
    if name:
        chosen = chosen[chosen["class"] == name]
    return chosen.sort_values(["class", "image_id"], kind="stable").reset_index(drop=True)


def segmentation_scores(profile: str) -> pd.DataFrame:
    """Every score of every run: the columns `COLUMNS` and `LIMITS`, a row a score.

    ``class`` ``lesion`` is the union of the manifestations, ``mean`` the mean over classes with
    background and ``mean of lesions`` without. ``subset`` is ``test`` for the extent on all test
    slices and classes on exactly labelled ones; see `WITH_WEAK`.
    """
    split = runs.read_provenance(profile, "data")["parameters"]["split"]
    tables = []
    for run in present(profile):
        scores = scores_of(profile, run)
        subset = scores["labels"].map({"exact": "test", "all": WITH_WEAK})
        if run == PUBLISHED:
            subset = subset.str.replace("test", "270 published images")
        tables.append(scores.assign(**_identity(profile, run, split), subset=subset))
    table = pd.concat(tables, ignore_index=True)
    return table[[*COLUMNS, *LIMITS]]


def _identity(profile: str, run: str, split: str) -> dict[str, str]:
    if run == PUBLISHED:
        return {"model": run, "stream": "all", "init": "nodule", "split": "after augmentation"}
    settings = runs.read_provenance(profile, run)["parameters"]
    return {name: settings[name] for name in ("model", "stream", "init")} | {"split": split}


def shown_name(profile: str, run: str) -> str:
    """A run in words."""
    if run == PUBLISHED:
        return PUBLISHED_WORK
    if run == FUSION:
        return f"ours, {DEEPLAB}, specialists together"
    if run == STARTS:
        return f"ours, {DEEPLAB}, stream all, all starts together"
    settings = runs.read_provenance(profile, run)["parameters"]
    words = f"ours, {NETWORKS[settings['model']]}, stream {settings['stream']}"
    usual = run == stream_run(settings["stream"], settings["model"])
    return words if usual else f"{words}, from {settings['init']}"


def table6(profile: str) -> pd.DataFrame:
    """Table 6: Dice and IoU of every stream, and what was gained by each of the paper's ideas."""
    rows = []
    for run in present(profile):
        if run == PUBLISHED:
            continue
        scores = scores_of(profile, run)
        name = shown_name(profile, run)
        if scores.empty:
            note = "too few patients to hold one out for a test"
            cell = cells.cell("dice", None, None, "fraction", note, run)
            own = "nodule"
            rows.append({"work": name, "class": own, "average": "pooled", "labels": "exact"} | cell)
        wanted = scores["metric"].isin(stream_scores.PIXEL_METRICS)
        for _, score in scores[wanted & (scores["class"] != "background")].iterrows():
            keys = {"work": name} | score[list(SCOPE)].to_dict()
            note = WEAK[score["labels"]]
            cell = cells.cell(score["metric"], score, None, "fraction", note, run)
            rows.append(keys | cell)
    return pd.DataFrame(rows + differences(profile))


def differences(profile: str) -> list[dict]:
    """Differences in Dice on the same slices: the paper's statements, each with an interval.

    Specialised streams against the all-class one (alone, and put together), a start from nodules
    against a random one, DeepLab-v3+ against U-Net, which starts from random weights: so the second
    of these differences, in which both do, is the fair one.
    """
    stated = ledger.load()
    pairs = [(stream_run(name), stream_run("all"), name, "c01") for name in MANIFESTATIONS]
    pairs += [(FUSION, stream_run("all"), name, "c01") for name in (*MANIFESTATIONS, "lesion")]
    pairs.append((stream_run("all"), f"{stream_run('all')}_random", "lesion", "c03"))
    pairs.append((stream_run("all"), stream_run("all", "unet"), "lesion", "c04"))
    pairs.append((f"{stream_run('all')}_random", stream_run("all", "unet"), "lesion", "c04"))
    there = set(present(profile))
    rows = []
    for first, second, name, claim in pairs:
        if {first, second} <= there:
            rows += _difference(profile, (first, second), name, stated.get(claim))
    return rows


def _difference(
    profile: str, names: tuple[str, str], of_class: str, claim: ledger.Claim | None
) -> list[dict]:
    """Difference in Dice of two runs, first minus second, pooled and per image.

    Limits are given as for the scores themselves: where enough patients show the class, and
    resamples differ.
    """
    first, second = (test_pixels(profile, run, of_class) for run in names)
    if first.empty:
        return []
    groups = first["patient_id"].to_numpy()
    counts = [stream_scores.slice_counts(part) for part in (first, second)]
    each = metrics.dice(counts[0]) - metrics.dice(counts[1])
    found = {
        "pooled": intervals.paired_bootstrap(*counts, groups, metrics.dice),
        "per_image": intervals.bootstrap_mean(each, groups),
    }
    is_exact = of_class == "lesion" or bool((first["label_quality"] == "exact").all())
    scope = "exact" if is_exact else "all"
    words = " minus ".join(shown_name(profile, run).removeprefix("ours, ") for run in names)
    rows = []
    for average, interval in found.items():
        keys = {"work": words, "class": of_class, "average": average, "labels": scope}
        score = pd.Series(stream_scores.sure(interval, counts[0], groups)._asdict())
        if interval.low == interval.high:
            score[["low", "high"]] = np.nan
        note = "; ".join(part for part in (WEAK[scope], ONE_TRAINING) if part)
        cell = cells.cell("dice difference", score, claim, "fraction", note, ", ".join(names))
        rows.append(keys | cell)
    return rows


def table7(profile: str) -> pd.DataFrame:
    """Table 7: each manifestation against the literature; the paper's values are derived.

    Rows measured on the slices of the Inf-Net benchmark come first: only those are of the same test
    as ours, where our split is ``infnet``.
    """
    published, stated, there = ledger.published(), ledger.load(), present(profile)
    rows = []
    for name in MANIFESTATIONS:
        for run in (
            stream_run(name),
            stream_run("all"),
            STARTS,
            FUSION,
            stream_run("all", "unet"),
            PUBLISHED,
        ):
            if run in there:
                rows += _manifestation(profile, run, name, stated)
        rows += _quoted(published[published["class"] == name])
    return pd.DataFrame(rows)


def _quoted(published: pd.DataFrame) -> list[dict]:
    """Rows of the literature, those of the same benchmark first."""
    chosen = published[(published["task"] == 3) & (published["source"] != "D")]
    is_fair = chosen["test_set"].str.contains("Inf-Net benchmark")
    rows = []
    for _, row in pd.concat([chosen[is_fair], chosen[~is_fair]]).iterrows():
        average = "per_image" if "Inf-Net" in row["test_set"] else cells.NOT_AVAILABLE
        keys = {"class": row["class"], "work": row["work"], "average": average, "labels": "quoted"}
        rows.append(keys | cells.quoted(row))
    return rows


def _manifestation(
    profile: str, run: str, name: str, stated: dict[str, ledger.Claim]
) -> list[dict]:
    """Scores of one manifestation by one run, beside what the paper implies for its own stream.

    The paper's implied "mIoU" fits its implied Dice as the IoU of the class alone, without
    background (0.911 / (2 - 0.911) = 0.837, stated 0.848), so that is what stands beside it.
    """
    scores = scores_of(profile, run)
    rows = []
    for metric, paper_metric in (("dice", "Dice"), ("iou", "mIoU")):
        claim = None
        if run == stream_run(name):
            derived = {"where": "Table 7", "metric": paper_metric, "class_": name, "source": "D"}
            claim = ledger.stated(stated, **derived)
        chosen = scores[(scores["class"] == name) & (scores["metric"] == metric)]
        for _, score in chosen.iterrows():
            how = f"paper's value derived: {claim.how}" if claim else ""
            note = "; ".join(part for part in (WEAK[score["labels"]], how) if part)
            keys = {"class": name, "work": shown_name(profile, run)}
            keys |= score[["average", "labels"]].to_dict()
            rows.append(keys | cells.cell(metric, score, claim, "fraction", note, run))
            if claim:
                rows.append(keys | _gain(metric, score, claim, run))
    return rows


def _gain(metric: str, score: pd.Series, derived: ledger.Claim, run: str) -> dict:
    """The gain over Inf-Net that the paper states, beside the one that our score would be.

    Both scores were measured on other slices than the 403 of the paper; ours, where the split is
    the benchmark's, on the same as Inf-Net's.
    """
    base, _ = map(float, derived.how.split(" x "))
    criteria = {"where": "Table 7", "source": "P", "class_": derived.class_}
    claim = ledger.stated(ledger.load(), metric=f"{derived.metric} gain over Inf-Net", **criteria)
    gain = score[["value", "low", "high"]].astype(float) / base - 1
    source = pd.concat([gain, score[["n"]]])
    note = f"over {base:g}, the value that the paper quotes"
    weak = WEAK[score["labels"]]
    note = "; ".join(part for part in (weak, note) if part)
    return cells.cell(f"{metric} gain over Inf-Net", source, claim, "%", note, run)


def table8(profile: str) -> pd.DataFrame:
    """Table 8: the extent of disease, all manifestations together, against the literature."""
    stated = ledger.load()
    rows = []
    for run in present(profile):
        scores = scores_of(profile, run)
        for metric, average, unit in MEASURES:
            score = cells.pick(scores, **{"class": "lesion"}, metric=metric, average=average)
            if score is None or (run == PUBLISHED and np.isnan(score["value"])):
                continue
            gain = {"dice": "p25b", "iou": "p25a"}.get(metric) if run == stream_run("all") else None
            note = "the paper states a gain and no value" if gain else ""
            cell = cells.cell(MEASURE_NAMES.get(metric, metric), score, None, unit, note, run)
            if gain:
                cell |= {"claim": gain, "paper": f"a gain of {stated[gain].value} %"}
            rows.append({"work": shown_name(profile, run), "average": average} | cell)
    published = ledger.published()
    quoted = _quoted(published[published["class"].isin(("lesion", "all"))])
    return pd.DataFrame(rows + [{k: v for k, v in row.items() if k in rows[0]} for row in quoted])
