"""Which convention of Dice would state the paper's gains? A table, a sentence and a figure.

The paper states gains in Dice and mean IoU over other work, but neither its values nor how they
were averaged. Here the values of `evaluation.conventions` are held against the work that the paper
compares with, for our outlines and for those that the authors published. That a stated gain lies
within an interval does not show that the paper used this convention; that it lies within none shows
that no convention alone explains it.
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from covid_utils import paths
from covid_utils.errors import ResultsError
from covid_utils.evaluation import conventions, scores, stream_scores
from covid_utils.registry import COLOURS, MANIFESTATIONS, PUBLISHED, stream_run
from covid_utils.report import claims as ledger
from covid_utils.report import style, tables

#: Words of the ledger for a metric -> that metric here.
METRICS = {"Dice": "dice", "mIoU": "iou"}
#: Targets that a gain "overall" can be of.
OVERALL = ("lesion", "mean of lesions")
#: How a gain can be meant: in per cent of the other value, or in points.
READINGS = ("percent", "points")
AVERAGES = {
    "pooled": "pooled pixels",
    "pooled_classes": "pooled pixels of all classes",
    "per_image": "mean over slices",
    "per_class": "mean over slices, by class",
}
#: Targets of the figure -> their title, and the slices that are shown.
SHOWN = {
    "lesion": ("Any lesion", "exact"),
    "mean of lesions": ("Mean of manifestations", "all"),
    "ggo": ("Ground-glass", "all"),
}
#: Columns that identify a convention, whatever its target.
FIELDS = ["average", "background", "empty", "threshold"]


def write(profile: str) -> pd.DataFrame:
    """Score every run's test slices under every convention.

    The table goes to ``results/<profile>/tables/conventions.csv``, the gains that it would state to
    ``conventions_gains.csv`` beside it.

    Returns:
        ``run, work`` and `conventions.COLUMNS`: run after run, the highest value first; without
        runs of no manifestation or no test slices.

    Raises:
        ResultsError: The all-class stream is not there, or there is no test slice.
    """
    parts = []
    for run in stream_scores.stream_runs(profile):
        pixels = stream_scores.test_pixels(profile, run)
        if set(MANIFESTATIONS) & set(pixels["class"]):
            scored = conventions.score(pixels)
            scored.insert(0, "run", run)
            scored.insert(1, "work", scores.work(stream_scores.identity(profile, run)))
            parts.append(scored)
    if not parts:
        folder = paths.shown(paths.results(profile))
        raise ResultsError(f"{folder}: no run holds test slices of a manifestation; add slices.")
    table = pd.concat(parts, ignore_index=True)
    folder = paths.results(profile) / "tables"
    tables.write(table, folder / "conventions.csv")
    tables.write(gains(table), folder / "conventions_gains.csv")
    return table


def gains(scored: pd.DataFrame) -> pd.DataFrame:
    """The gain that each convention would state, beside the one that the paper states.

    Args:
        scored: From `write`.

    Returns:
        The columns of ``scored``, for each of the paper's gains and each work that it can be over:
        ``claim``, ``over`` (that work), ``base`` (its value, 0 to 1), ``stated`` (the paper's, in
        per cent or points); ``gain_percent`` with ``low_percent`` and ``high_percent``, and
        ``gain_points`` likewise; ``holds_percent`` and ``holds_points`` say whether the stated gain
        lies within these limits.
    """
    parts = []
    for claim in ledger.load().values():
        for over, base in _bases(claim).items():
            metric = METRICS[claim.metric.split()[0]]
            targets = [claim.class_] if claim.class_ else OVERALL
            part = scored[(scored["metric"] == metric) & scored["class"].isin(targets)]
            named = {"claim": claim.id, "over": over, "base": base, "stated": float(claim.value)}
            parts.append(_gained(part.assign(**named)))
    return pd.concat(parts, ignore_index=True)


def _bases(claim: ledger.Claim) -> dict[str, float]:
    """Works that a stated gain can be over -> their value, 0 to 1; none if it is no such gain.

    For a manifestation the value is part of what follows from the claim. What the gain overall is
    over is not told, so it can be any value that the paper quotes.
    """
    words = claim.metric.split()
    if claim.source != "P" or words[0] not in METRICS or "gain" not in words:
        return {}
    if claim.class_:
        implied = {"where": claim.where, "source": "D", "metric": words[0], "class_": claim.class_}
        derived = ledger.stated(ledger.load(), **implied)
        return {"Inf-Net": float(derived.how.split(" x ")[0])}
    rows = ledger.published()
    chosen = rows[rows["class"].isin(("lesion", "all")) & (rows["metric"] == words[0])]
    chosen = chosen[(chosen["source"] == "L") & (chosen["task"] == 3)]
    shares = chosen["value"] / np.where(chosen["unit"] == "%", 100, 1)
    return dict(zip(chosen["work"], shares, strict=True))


def _gained(part: pd.DataFrame) -> pd.DataFrame:
    for reading in READINGS:
        scale = 100 / (part["base"] if reading == "percent" else 1)
        for limit, name in (("value", "gain"), ("low", "low"), ("high", "high")):
            part = part.assign(**{f"{name}_{reading}": scale * (part[limit] - part["base"])})
        # Without limits nothing is held: comparisons with NaN are false.
        holds = part["stated"].between(part[f"low_{reading}"], part[f"high_{reading}"])
        part = part.assign(**{f"holds_{reading}": holds})
    return part


def verdict(gained: pd.DataFrame, run: str) -> str:
    """Whether one convention states all of the paper's gains for the outlines of a run, in words.

    Args:
        gained: From `gains`.
        run: Such as `registry.PUBLISHED`.
    """
    part = gained[gained["run"] == run]
    work, claims = part["work"].iloc[0], sorted(part["claim"].unique())
    states = _stated_claims(part[part["holds_percent"] | part["holds_points"]])
    if not states:
        return f"{work}: no convention states any of {', '.join(claims)}."
    most = max(map(len, states.values()))
    best: dict[str, tuple[str, ...]] = {}
    for convention, ids in states.items():
        if len(ids) == most:
            best.setdefault(", ".join(ids), convention)
    listed = "; ".join(
        f"{words(dict(zip(FIELDS, convention, strict=True)))}, "
        f"{'all' if labels == 'all' else 'exactly labelled'} slices ({ids})"
        for ids, (*convention, labels) in best.items()
    )
    if most == len(claims):
        return f"{work}: one convention states all of {', '.join(claims)}: {listed}."
    tried = f"{len(part.drop_duplicates(list(conventions.KEYS)))} scores tried"
    return (
        f"{work}: no convention states all of {', '.join(claims)} ({tried}); most are stated by: "
        f"{listed}."
    )


def _stated_claims(held: pd.DataFrame) -> dict[tuple[str, ...], list[str]]:
    """Convention and slices -> the claims that it states, from rows that hold a stated gain."""
    states: dict[tuple[str, ...], set[str]] = {}
    for row in held.to_dict("records"):
        # Where no case is empty, all ways to count empty cases give this value; labels that are
        # exact for the extent are so on all slices.
        none_empty = row["empty"] == conventions.NONE_EMPTY
        for empty in conventions.EMPTY if none_empty else [row["empty"]]:
            for labels in ("exact", "all") if row["class"] == "lesion" else [row["labels"]]:
                convention = row["average"], row["background"], empty, row["threshold"], labels
                states.setdefault(convention, set()).add(row["claim"])
    return {convention: sorted(ids) for convention, ids in states.items()}


def words(convention: Mapping[str, str]) -> str:
    """A convention in words, from its entries `FIELDS`."""
    has_background = convention["background"] == "with"
    is_accuracy = has_background and convention["average"] == "pooled_classes"
    parts = ["pixel accuracy" if is_accuracy else AVERAGES[convention["average"]]]
    if has_background:
        parts.append("with background")
    if convention["threshold"] == conventions.MANY:
        parts.append("256 thresholds")
    if convention["empty"] in conventions.EMPTY:
        parts.append(f"empty: {convention['empty'].removeprefix('as ')}")
    return ", ".join(parts)


def figure(scored: pd.DataFrame) -> Figure:
    """Dice of the same outlines under every convention: ours, and the authors' published masks.

    Args:
        scored: From `write`.
    """
    runs = [name for name in (stream_run("all"), PUBLISHED) if name in set(scored["run"])]
    dice = scored[(scored["metric"] == "dice") & scored["run"].isin(runs)]
    panels = {target: _lines(dice, target, runs[0]) for target in SHOWN}
    panels = {target: part for target, part in panels.items() if len(part)}
    heights = [part["line"].nunique() + 1.0 for part in panels.values()]
    drawn, axes = plt.subplots(
        len(panels),
        figsize=(5.0, 0.6 + 0.16 * sum(heights)),
        sharex=True,
        squeeze=False,
        height_ratios=heights,
    )
    for axis, (target, part) in zip(axes[:, 0], panels.items(), strict=True):
        _draw_panel(axis, part, runs)
        title = SHOWN[target][0] + ("" if target in OVERALL else _mark_paper(axis, target))
        axis.set_title(title, loc="left")
    axes[-1, 0].set(xlabel="Dice", xlim=(0, 1.02))
    drawn.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return style.finished(drawn, _alt(panels, runs))


def _lines(dice: pd.DataFrame, target: str, run: str) -> pd.DataFrame:
    """Values of one target with their ``line``, 0 for the lowest of the run."""
    part = dice[dice["class"] == target]
    labels = SHOWN[target][1] if SHOWN[target][1] in set(part["labels"]) else "exact"
    part = part[part["labels"] == labels]
    order = part[part["run"] == run].sort_values("value", kind="stable")[FIELDS]
    # A convention of the other outlines only, such as one of empty cases, has no line.
    return part.merge(order.assign(line=range(len(order))), on=FIELDS)


def _draw_panel(axis: Axes, part: pd.DataFrame, runs: list[str]) -> None:
    styles = (
        {"label": "ours", "fmt": "o", "color": COLOURS["ours"]},
        {"label": "published masks", "fmt": "D", "color": COLOURS["paper"], "mfc": "white"},
    )
    for run, marker, shift in zip(runs, styles, (0.15, -0.15), strict=False):
        rows = part[part["run"] == run]
        limits = [(rows["value"] - rows["low"]).fillna(0), (rows["high"] - rows["value"]).fillna(0)]
        sizes = {"markersize": 3.2, "elinewidth": 0.9}
        axis.errorbar(rows["value"], rows["line"] + shift, xerr=limits, **marker, **sizes)
    named = part.drop_duplicates("line").sort_values("line")
    axis.set_yticks(named["line"], [words(convention) for convention in named.to_dict("records")])
    axis.set_ylim(-0.6, len(named) - 0.4)
    axis.grid(color="0.9", linewidth=0.5)
    axis.set_axisbelow(True)


def _mark_paper(axis: Axes, name: str) -> str:
    """Draw the Dice that the paper implies for a manifestation; what to add to the title."""
    criteria = {"where": "Table 7", "source": "D", "metric": "Dice", "class_": name}
    value = ledger.stated(ledger.load(), **criteria).value
    axis.axvline(value, color=COLOURS["paper"], linestyle="--", linewidth=1)
    return f" (paper: {value:g})"


def _alt(panels: dict[str, pd.DataFrame], runs: list[str]) -> str:
    """The figure in words."""
    sentences = ["Dice of the same outlines under every convention."]
    for target, part in panels.items():
        for run, name in zip(runs, ("ours", "the authors' published masks"), strict=False):
            rows = part[part["run"] == run].sort_values("value").to_dict("records")
            if rows:
                low, high = (f"{row['value']:.2f} ({words(row)})" for row in (rows[0], rows[-1]))
                sentences.append(f"{SHOWN[target][0]}, {name}: from {low} to {high}.")
    return " ".join(sentences)
