"""Which convention of Dice would state the paper's gains? A table, a sentence and a figure.

The paper states gains in Dice over other work, but neither its values nor how they were averaged.
That a value which a gain implies lies within an interval does not show that the paper used this
convention; that none lies within any shows that no convention alone explains the gain.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from covid_utils import paths, runs
from covid_utils.registry import (
    COLOURS,
    CONVENTION,
    EMPTY_CASES,
    MANY_THRESHOLDS,
    NONE_EMPTY,
    PUBLISHED,
    WITH_CLASS,
    stream_run,
)
from covid_utils.report import claims as ledger
from covid_utils.report import style, tables

AVERAGES = {
    "pooled": "pooled pixels",
    "pooled_classes": "pooled pixels of all classes",
    "per_image": "mean over slices",
    "per_class": "mean over slices, by class",
}
#: Targets of the figure -> their title.
SHOWN = {"lesion": "Any lesion", "mean of lesions": "Mean of manifestations", "ggo": "Ground-glass"}
#: Run -> name, shift of its line and mark.
OURS = stream_run("all")
EMPTY = (
    "mean over slices: of those that have the class; with empty: of all, where a false alarm is 0\n"
    "and a slice in which the class is neither true nor predicted counts as stated"
)
MARKS = {
    OURS: ("ours", 0.15, {"fmt": "o", "color": COLOURS["ours"]}),
    PUBLISHED: ("published masks", -0.15, {"fmt": "D", "color": COLOURS["paper"], "mfc": "white"}),
}


def write(profile: str) -> pd.DataFrame:
    """Read ``tables/conventions.csv``, and write the `gains` beside it."""
    table = tables.read_scores(profile, "tables/conventions")
    path = paths.results(profile) / "tables" / "conventions_gains.csv"
    tables.write(gains(table), path)
    return table


def gains(scored: pd.DataFrame) -> pd.DataFrame:
    """Dice under each convention, beside each value that one of the paper's gains implies.

    To the columns of `write`'s table come the id of the ``claim``, the value ``implied`` by it, and
    whether it lies within the limits: ``holds``.
    """
    parts = [
        runs.select(scored, metric="dice", class_=_targets(claim)).assign(
            claim=claim.id, implied=value
        )
        for claim in _gains()
        for value in claim.implied
    ]
    table = pd.concat(parts, ignore_index=True)
    # Without limits nothing is held: comparisons with NaN are false.
    return table.assign(holds=table["implied"].between(table["low"], table["high"]))


def _gains() -> list[ledger.Claim]:
    """The paper's gains over values that it quotes."""
    return [claim for claim in ledger.load().values() if claim.over]


def _targets(claim: ledger.Claim) -> list[str]:
    """What a gain can be of: one overall, of the extent or of the mean of manifestations."""
    return [claim.class_] if claim.class_ else ["lesion", "mean of lesions"]


def verdict(gained: pd.DataFrame, run: str) -> str:
    """Whether one convention states all of the paper's `gains` for a run's outlines, in words."""
    part = gained[gained["run"] == run]
    work, claims = part["work"].iloc[0], sorted(part["claim"].unique())
    held = part[part["holds"]]
    if held.empty:
        return f"{work}: no convention states any of {', '.join(claims)}."
    # Where all slices have the class, all ways to count the others give this value; labels that are
    # exact for the extent are so on all slices.
    ways = [WITH_CLASS, *EMPTY_CASES]
    empty = [ways if way == NONE_EMPTY else [way] for way in held["empty"]]
    labels = held["labels"].where(held["class"] != "lesion", "exact all").str.split()
    held = held.assign(empty=empty, labels=labels).explode("empty").explode("labels")
    by_convention = held.groupby([*CONVENTION, "labels"], sort=False)["claim"]
    stated = by_convention.agg(lambda ids: tuple(sorted(set(ids))))
    most = stated.map(len).max()
    listed = [
        f"{words(*convention)}, {'all' if labels == 'all' else 'exactly labelled'} slices "
        f"({', '.join(ids)})"
        for (*convention, labels), ids in stated[stated.map(len) == most].drop_duplicates().items()
    ]
    one = "one" if most == len(claims) else "no"
    tried = len(part.drop_duplicates(["class", "metric", *CONVENTION, "labels"]))
    return (
        f"{work}: {one} convention states all of {', '.join(claims)} ({tried} scores tried); "
        f"most are stated by: {'; '.join(listed)}."
    )


def words(average: str, background: str, empty: str, threshold: str) -> str:
    """A convention in words; a mean over slices is of those with the class, or says ``empty``."""
    is_accuracy = (average, background) == ("pooled_classes", "with")
    parts = [
        "pixel accuracy" if is_accuracy else AVERAGES[average],
        "with background" if background == "with" else "",
        "256 thresholds" if threshold == MANY_THRESHOLDS else "",
        f"empty: {empty.removeprefix('as ')}" if empty in EMPTY_CASES else "",
    ]
    return ", ".join(filter(None, parts))


def figure(scored: pd.DataFrame) -> Figure | None:
    """Dice of the same outlines, from `write`: ours, if there are any, and the authors' masks."""
    dice = runs.select(scored, metric="dice", run=[*MARKS])
    if OURS not in set(dice["run"]):
        return None
    dice = dice.assign(words=[words(*row) for row in dice[[*CONVENTION]].itertuples(index=False)])
    targets = [name for name in SHOWN if name in set(dice["class"])]
    panels = [_lines(dice[dice["class"] == name]) for name in targets]
    heights = [part["line"].nunique() + 1.0 for part in panels]
    size = (6.4, 0.9 + 0.16 * sum(heights))
    drawn, axes = plt.subplots(
        len(panels), figsize=size, sharex=True, squeeze=False, height_ratios=heights
    )
    sentences = ["Dice of the same outlines under every convention."]
    for axis, target, part in zip(axes[:, 0], targets, panels, strict=True):
        sentences += _draw_panel(axis, target, part)
    axes[-1, 0].set(xlabel="Dice", xlim=(0, 1.02))
    style.legend_below(drawn)
    drawn.suptitle(EMPTY, fontsize=style.SMALL)
    return style.finished(drawn, " ".join(sentences))


def _lines(part: pd.DataFrame) -> pd.DataFrame:
    """Values of one target with their ``line``, 0 for the lowest of ours."""
    if "all" in set(part["labels"]):
        part = part[part["labels"] == "all"]
    order = part.loc[part["run"] == OURS].sort_values("value", kind="stable")[["words"]]
    # A convention of the other outlines only, such as one of empty cases, has no line.
    return part.merge(order.assign(line=range(len(order))), on="words")


def _draw_panel(axis: Axes, target: str, part: pd.DataFrame) -> list[str]:
    """Draw the lines of one target; their ranges, in sentences."""
    title, sentences = SHOWN[target], []
    for run, (name, shift, look) in MARKS.items():
        rows = part[part["run"] == run].sort_values("value")
        if rows.empty:
            continue
        limits = style.spread(rows["value"], rows["low"], rows["high"])
        common = {"markersize": 3.2, "elinewidth": 0.9, "label": f"{name}, 95 % interval"}
        axis.errorbar(rows["value"], rows["line"] + shift, xerr=limits, **look, **common)
        low, high = (f"{rows['value'].iat[end]:.2f} ({rows['words'].iat[end]})" for end in (0, -1))
        sentences.append(f"{title}, {name}: from {low} to {high}.")
    named = part.drop_duplicates("line").sort_values("line")
    axis.set_yticks(named["line"], named["words"])
    axis.set_ylim(-0.6, len(named) - 0.4)
    axis.grid(color="0.9", linewidth=0.5)
    axis.set_axisbelow(True)
    for claim in (claim for claim in _gains() if target in _targets(claim)):
        look = {"color": COLOURS["paper"], "alpha": 0.4, "linewidth": 0, "zorder": 1}
        # A single value would be a band without width.
        band = (min(claim.implied) - 0.0015, max(claim.implied) + 0.0015)
        axis.axvspan(*band, **look, label="the paper's value, as its gain implies")
        title += f" (paper: {ledger.span(claim.implied)})"
    axis.set_title(title, loc="left")
    return sentences
