"""The metric ladder as a table, a figure, and an answer: which convention states the paper's gains?

The paper states gains in Dice and mean IoU over other work, and neither its values nor how they
were averaged. `evaluation.ladder` scores the same outlines under every convention; here each score
is held against the value that the paper compares with, so that a reader sees which conventions, if
any, would state the paper's gain for outlines that can be looked at: ours, and those that the
authors published. That a gain lies within an interval does not show that the paper meant this
convention; that it lies in none shows that no convention alone explains it.
"""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from covid_utils import paths
from covid_utils.errors import ResultsError
from covid_utils.evaluation import ladder
from covid_utils.registry import COLOURS, PUBLISHED, name_of, stream_run
from covid_utils.report import claims as ledger
from covid_utils.report import look, tables
from covid_utils.report.stream_tables import present, shown_name, test_pixels

#: Words of the ledger for a metric -> that metric here.
METRICS = {"Dice": "dice", "mIoU": "iou"}
#: Targets that a gain "overall" can be of.
OVERALL = ("lesion", "mean of lesions")
#: How a gain can be meant: in per cent of the other value, or in points.
READINGS = ("percent", "points")
#: Words of an average, in a sentence and in a figure.
AVERAGES = {
    "pooled": "pooled pixels",
    "pooled_classes": "pixels of all classes pooled",
    "per_image": "mean over slices",
    "per_class": "mean over the slices of each class",
}
SHORT = {
    "pooled": "pixels",
    "pooled_classes": "all pixels",
    "per_image": "slices",
    "per_class": "slices, by class",
}
EMPTY = {"left out": "left out", "as 1": "1", "as 0": "0"}
#: Targets of the figure -> their heading, and the slices that they are shown on.
SHOWN = {
    "lesion": ("Any lesion", "exact"),
    "mean of lesions": ("Mean of manifestations", "all"),
    "ggo": ("Ground-glass", "all"),
}
#: Where the words of a rung stand, as shares of their column's width.
PLACES = {"average": (0.0, "left"), "background": (0.65, "center"), "empty": (1.05, "right")}


def table(profile: str) -> pd.DataFrame:
    """Every run's test slices under every convention.

    Returns:
        ``run, work`` and `ladder.COLUMNS`: run after run, the highest value first. Runs without a
        manifestation, or without test slices, have no ladder.

    Raises:
        ResultsError: The all-class stream is not there, or there is no test slice.
    """
    found = []
    for run in present(profile):
        pixels = test_pixels(profile, run)
        if set(ladder.MANIFESTATIONS) & set(pixels["class"]):
            names = {"run": run, "work": shown_name(profile, run)}
            found.append(ladder.rungs(pixels).assign(**names))
    if not found:
        folder = paths.shown(paths.results(profile))
        raise ResultsError(f"{folder}: no run holds test slices of a manifestation; add slices.")
    made = pd.concat(found, ignore_index=True)
    return made[["run", "work", *ladder.COLUMNS]]


def gains(rungs: pd.DataFrame) -> pd.DataFrame:
    """The gain that each rung would state, beside the one that the paper states.

    Args:
        rungs: From `table`.

    Returns:
        The columns of ``rungs``, for each of the paper's gains and each work that it can be over:
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
            part = rungs[(rungs["metric"] == metric) & rungs["class"].isin(targets)]
            named = {"claim": claim.id, "over": over, "base": base, "stated": float(claim.value)}
            parts.append(_gained(part.assign(**named)))
    return pd.concat(parts, ignore_index=True)


def _bases(claim: ledger.Claim) -> dict[str, float]:
    """Works that a stated gain can be over -> their value, 0 to 1; none if it is no such gain.

    What it is over is told for a manifestation, where the value is part of what follows from the
    claim. For the gain overall it is not told, so it can be any value that the paper quotes.
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
        # A rung without limits holds nothing: comparisons with NaN are false.
        holds = part["stated"].between(part[f"low_{reading}"], part[f"high_{reading}"])
        part = part.assign(**{f"holds_{reading}": holds})
    return part


def reconciling(found: pd.DataFrame) -> pd.DataFrame:
    """Rungs under which the paper's gain lies within the interval.

    Args:
        found: From `gains`.

    Returns:
        These rows, with ``reading``, one of `READINGS`; a rung that holds the gain in both appears
        twice.
    """
    held = [found[found[f"holds_{reading}"]].assign(reading=reading) for reading in READINGS]
    return pd.concat(held).sort_index(kind="stable").reset_index(drop=True)


def answers(found: pd.DataFrame, runs: tuple[str, ...] = ()) -> list[str]:
    """What the ladder says of each of the paper's gains, a sentence a claim and run.

    Args:
        found: From `gains`.
        runs: Runs to speak of; by default the usual all-class stream and the published masks.
    """
    wanted = runs or (stream_run("all"), PUBLISHED)
    chosen = found[found["run"].isin(wanted)]
    order = {run: number for number, run in enumerate(wanted)}
    groups = sorted(chosen.groupby(["claim", "run"], sort=False), key=lambda g: order[g[0][1]])
    return [_answer(part) for _, part in sorted(groups, key=lambda g: g[0][0])]


def _answer(part: pd.DataFrame) -> str:
    first, held = part.iloc[0], reconciling(part)
    metric = {name: said for said, name in METRICS.items()}[first["metric"]]
    of = name_of(first["class"]) if part["class"].nunique() == 1 else "all manifestations"
    said = f"{first['claim']}, {first['stated']:+g} % {metric}, {of}; {first['work']}: "
    limited = part[part["low"].notna()].drop_duplicates(list(ladder.KEYS))
    if limited.empty:
        return said + "too few patients show it for any interval."
    if held.empty:
        off = (part["gain_percent"] - part["stated"]).abs().where(part["low"].notna())
        nearest = part.loc[[off.idxmin()]].assign(reading="percent")
        return f"{said}in the interval of none of {len(limited)} rungs; nearest: {_way(nearest)}."
    rungs = [_way(rung) for _, rung in held.groupby(list(ladder.KEYS), sort=False)]
    return f"{said}in the interval of {len(rungs)} of {len(limited)} rungs: {'; '.join(rungs)}."


def _way(rung: pd.DataFrame) -> str:
    """One rung with the gains that it would state."""
    units = {"percent": " %", "points": " points"}
    over = [
        " or ".join(f"{row[f'gain_{r}']:+.0f}{units[r]}" for (_, row), r in _each(part))
        + f" over {work} ({part['base'].iloc[0]:.3g})"
        for work, part in rung.groupby("over", sort=False)
    ]
    return f"{words(rung.iloc[0])}, {_value(rung.iloc[0])}, {', '.join(over)}"


def _each(part: pd.DataFrame) -> Iterator[tuple[tuple, str]]:
    return zip(part.iterrows(), part["reading"], strict=True)


def _value(row: pd.Series) -> str:
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def conventions(found: pd.DataFrame) -> pd.DataFrame:
    """Which of the paper's gains each convention would state, for those of one run together.

    A paper has one convention, so what counts is whether one states all its gains.

    Args:
        found: From `gains`.

    Returns:
        A row a run, convention and slices: ``run, work, average, background, empty, threshold,
        labels``, ``states`` (claims, with a comma between them) and ``number`` of these; the
        highest number first. Conventions that state none are left out.
    """
    held = reconciling(found)
    # Where no case is empty, every way to count empty cases gives this value.
    expanded = held.assign(
        empty=[[*ladder.EMPTY] if e == ladder.NONE_EMPTY else [e] for e in held["empty"]],
        # What is exact for the extent is so on all slices.
        labels=[["exact", "all"] if c == "lesion" else [at] for c, at in _labelled(held)],
    )
    expanded = expanded.explode("empty").explode("labels")
    keys = ["run", "work", "average", "background", "empty", "threshold", "labels"]
    grouped = expanded.groupby(keys, sort=False)["claim"]
    made = grouped.agg(lambda claims: ", ".join(sorted(set(claims)))).rename("states").reset_index()
    made["number"] = made["states"].str.count(",") + 1
    return made.sort_values("number", ascending=False, kind="stable", ignore_index=True)


def _labelled(held: pd.DataFrame) -> Iterator[tuple[str, str]]:
    return zip(held["class"], held["labels"], strict=True)


def verdict(found: pd.DataFrame, run: str) -> str:
    """Whether one convention states all of the paper's gains for the outlines of a run, in words.

    Args:
        found: From `gains`.
        run: Such as `stream_tables.PUBLISHED`.
    """
    part = found[found["run"] == run]
    claims = sorted(part["claim"].unique())
    made = conventions(part)
    name = part["work"].iloc[0]
    if made.empty:
        return f"{name}: no convention states any of {', '.join(claims)}."
    best = made.iloc[0]
    ways = made[made["number"] == best["number"]].drop_duplicates("states")
    most = "; ".join(_found(way) for _, way in ways.iterrows())
    if best["number"] == len(claims):
        return f"{name}: one convention states all of {', '.join(claims)}: {most}."
    tried = f"{len(part.drop_duplicates(list(ladder.KEYS)))} scores tried"
    return (
        f"{name}: no convention states all of {', '.join(claims)} ({tried}); most are stated by: "
        f"{most}."
    )


def _found(way: pd.Series) -> str:
    """A convention, the slices that it was found on, and the claims that it states."""
    where = {"exact": "exactly labelled slices", "all": "all slices"}[way["labels"]]
    return f"{words(way, target=False)}, {where} ({way['states']})"


def words(row: pd.Series, target: bool = True) -> str:
    """A rung in words.

    Args:
        row: Of `table`.
        target: Whether to say what it is of, and on which slices.
    """
    parts = [name_of(row["class"])] if target else []
    with_background = row["background"] == "with"
    if row["average"] == "pooled_classes" and with_background:
        of_all = "IoU of all pixels" if row.get("metric") == "iou" else "pixel accuracy"
        parts.append(f"{of_all}, background among them")
    else:
        parts.append(AVERAGES[row["average"]] + ", with background" * with_background)
    parts += ["256 thresholds"] if row["threshold"] == ladder.MANY else []
    parts += [f"empty cases {_counted(row['empty'])}"] if row["empty"] in EMPTY else []
    if target and row["labels"] == "all":
        parts.append("weak labels among them")
    return ", ".join(parts)


def _counted(empty: str) -> str:
    return empty if empty == "left out" else f"counted {empty}"


def write(profile: str) -> pd.DataFrame:
    """Make the ladder of a profile, and keep it.

    It goes to ``results/<profile>/tables/ladder.csv``, the gains that it would state to
    ``ladder_gains.csv`` beside it.

    Returns:
        The ladder, from `table`.

    Raises:
        ResultsError: The all-class stream is not there.
    """
    made = table(profile)
    folder = paths.results(profile) / "tables"
    tables.write(made, folder / "ladder.csv")
    tables.write(gains(made), folder / "ladder_gains.csv")
    return made


def figure(rungs: pd.DataFrame, run: str = "") -> Figure:
    """Dice of the same outlines under every convention: ours, and the authors' published masks.

    Args:
        rungs: From `table`.
        run: Whose values order the rungs; by default the usual all-class stream.
    """
    runs = [name for name in (run or stream_run("all"), PUBLISHED) if name in set(rungs["run"])]
    dice = rungs[(rungs["metric"] == "dice") & rungs["run"].isin(runs)]
    parts = {target: _shown(dice, target, runs[0]) for target in SHOWN}
    parts = {target: part for target, part in parts.items() if len(part)}
    heights = [part["line"].max() + 2.0 for part in parts.values()]
    drawn, axes = plt.subplots(
        *(len(parts), 2),
        figsize=(look.SINGLE, 0.6 + 0.155 * sum(heights)),
        sharex="col",
        squeeze=False,
        gridspec_kw={"height_ratios": heights, "width_ratios": (1.15, 1.0)},
    )
    for (left, right), (target, part) in zip(axes, parts.items(), strict=True):
        _name_rungs(left, part, SHOWN[target][0])
        _ladder(right, part, runs)
        _mark_paper(right, target)
    for column, (place, side) in PLACES.items():
        above = (place, axes[0, 0].get_ylim()[1] + 1.1)
        axes[0, 0].text(*above, column, ha=side, fontsize=look.SMALL, color="0.35")
    axes[-1, 1].set(xlabel="Dice", xlim=(0, 1.02), xticks=np.arange(0, 1.1, 0.2))
    drawn.legend(*axes[0, 1].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return look.finished(drawn, _alt(parts, runs))


def _shown(dice: pd.DataFrame, target: str, run: str) -> pd.DataFrame:
    """Rungs of one target, with the ``line`` of each: 0 for the lowest value of the run."""
    part = dice[dice["class"] == target]
    labels = SHOWN[target][1] if SHOWN[target][1] in set(part["labels"]) else "exact"
    part = part[part["labels"] == labels]
    keys = ["average", "background", "empty", "threshold"]
    order = part[part["run"] == run].sort_values("value", kind="stable")[keys]
    lines = order.assign(line=range(len(order)))
    # What the other outlines have and these do not, such as empty cases, has no line.
    return part.merge(lines, on=keys)


def _name_rungs(axis: Axes, part: pd.DataFrame, heading: str) -> None:
    """The words of each rung, in columns."""
    axis.set(xlim=(0, 1), ylim=(-0.7, part["line"].max() + 0.7))
    axis.axis("off")
    axis.set_title(heading, loc="left", fontsize=look.PLAIN, fontweight="bold", pad=2)
    for _, row in part.drop_duplicates("line").iterrows():
        has_background = row["background"] == "with"
        average = SHORT[row["average"]]
        if has_background and row["average"] == "pooled_classes":
            average = "pixel accuracy"
        if row["threshold"] == ladder.MANY:
            average += ", 256 thresholds"
        said = {
            "average": average,
            "background": "yes" if has_background else "",
            "empty": EMPTY.get(row["empty"], ""),
        }
        for column, (place, side) in PLACES.items():
            look_of = {"ha": side, "va": "center", "fontsize": look.SMALL}
            axis.text(place, row["line"], said[column], **look_of)


def _ladder(axis: Axes, part: pd.DataFrame, runs: list[str]) -> None:
    """Points with intervals, a line a rung."""
    roles = (("ours", "o", COLOURS["ours"]), ("published masks", "D", COLOURS["paper"]))
    for run, (said, mark, colour), shift in zip(runs, roles, (0.15, -0.15), strict=False):
        rows = part[part["run"] == run]
        limits = [(rows["value"] - rows["low"]).fillna(0), (rows["high"] - rows["value"]).fillna(0)]
        axis.errorbar(
            rows["value"],
            rows["line"] + shift,
            xerr=limits,
            fmt=mark,
            color=colour,
            markersize=3.2,
            markerfacecolor=colour if said == "ours" else "white",
            elinewidth=0.9,
            label=said,
        )
    axis.set(yticks=range(part["line"].max() + 1), ylim=(-0.7, part["line"].max() + 0.7))
    axis.tick_params(axis="y", length=0, labelleft=False)
    axis.grid(axis="both", color="0.9", linewidth=0.5)
    axis.set_axisbelow(True)


def _mark_paper(axis: Axes, target: str) -> None:
    """What the paper implies for a manifestation."""
    criteria = {"where": "Table 7", "source": "D", "metric": "Dice", "class_": target}
    derived = ledger.stated(ledger.load(), **criteria) if target not in OVERALL else None
    if derived is None:
        return
    axis.axvline(derived.value, color=COLOURS["paper"], linestyle="--", linewidth=1)
    text = f"paper implies {derived.value:g}"
    place = (derived.value, axis.get_ylim()[1])
    axis.text(*place, text, color=COLOURS["paper"], ha="right", va="bottom", fontsize=look.SMALL)


def _alt(parts: dict[str, pd.DataFrame], runs: list[str]) -> str:
    """The figure in words."""
    said = ["Dice of the same outlines under every convention."]
    for target, part in parts.items():
        for run, name in zip(runs, ("ours", "the authors' published masks"), strict=False):
            rows = part[part["run"] == run].sort_values("value")
            if rows.empty:
                continue
            low, high = rows.iloc[0], rows.iloc[-1]
            said.append(
                f"{SHOWN[target][0]}, {name}: from {low['value']:.2f} "
                f"({words(low, target=False)}) to {high['value']:.2f} "
                f"({words(high, target=False)})."
            )
    return " ".join(said)
