"""Sentences that answer a notebook's question from its own numbers, on phantom and real scans."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from covid_utils.registry import name_of

#: Difference between classes in the share of dark borders that is called a shortcut.
NOTICEABLE = 0.2


def fine_tuning(history: pd.DataFrame) -> str:
    """What fine-tuning did on validation images, from `finetune.Finetuned.history`."""
    points = history[history["subset"] == "validation"].set_index("epoch")
    if points.empty:
        return "There are no validation images; the last epoch is kept."
    kept = points["cross_entropy"].idxmin()
    at = kept or points.index[-1]
    before, after = points.loc[0], points.loc[at]
    text = (
        f"Until epoch {at}, validation cross entropy went from {before['cross_entropy']:.3f} to "
        f"{after['cross_entropy']:.3f}, and accuracy from {100 * before['accuracy']:.1f} to "
        f"{100 * after['accuracy']:.1f} %. "
    )
    if not kept:
        return text + (
            "No epoch has a lower validation cross entropy than the frozen network, which is kept: "
            "the trained blocks fitted the training images and did no better on others."
        )
    text += f"Epoch {kept} has the lowest cross entropy and is kept."
    if after["accuracy"] < before["accuracy"]:
        text += (
            " Its accuracy is lower all the same: cross entropy depends on how sure each "
            "prediction is, accuracy only on which class comes first."
        )
    return text


def against_prevalence(history: pd.DataFrame, truth: np.ndarray, subset: pd.Series) -> str:
    """Whether labels of validation slices are easier to guess than those of training slices.

    Args:
        history: Of `multilabel.train`: ``epoch``, ``subset`` and ``accuracy``.
        truth: bool (slices, manifestations).
        subset: Of each slice.
    """
    if not (subset == "validation").any():
        return "There are no validation slices."
    last = history[history["epoch"] > 0.8 * history["epoch"].max()]
    network = last.groupby("subset")["accuracy"].mean()
    usual = truth[subset == "train"].mean(axis=0) >= 0.5
    rule = pd.Series({name: (truth[subset == name] == usual).mean() for name in network.index})
    text = (
        "Over the last fifth of the epochs the network is right for "
        f"{_both(network)}; a rule that sees no slice, and predicts what most training slices "
        f"show, for {_both(rule)}. "
    )
    if network["validation"] > network["train"]:
        text += "Validation lies above training because "
        easier = "its labels are easier to guess, and because "
        text += easier if rule["validation"] > rule["train"] else ""
        text += "training is measured with dropout and on augmented slices. "
    is_better = network["validation"] > rule["validation"]
    verb = "does better than" if is_better else "has not yet learned more than"
    return f"{text}On validation slices the network {verb} the rule."


def specialists(differences: pd.DataFrame) -> str:
    """Whether three specialists together beat the one network for all manifestations.

    ``differences`` are of pooled Dice, specialists minus the one network: ``class``, ``value`` and
    the limits ``low`` and ``high``, NaN where there are none.
    """
    if differences.empty:
        return "There are no test slices to compare on."
    texts = [
        f"{name_of(row['class'])} {row['value']:+z.3f}"
        + (f" [{row['low']:+z.3f}, {row['high']:+z.3f}]" if np.isfinite(row["low"]) else "")
        for row in differences.to_dict("records")
    ]
    is_better, is_worse = differences["low"] > 0, differences["high"] < 0
    groups = {
        "do better for": is_better,
        "do worse for": is_worse,
        "cannot be told apart from the one network for": ~is_better & ~is_worse,
    }
    parts = [
        f"{words} {_listed(map(name_of, differences.loc[chosen, 'class']))}"
        for words, chosen in groups.items()
        if chosen.any()
    ]
    return (
        f"Dice of the specialists together minus Dice of the one network: {', '.join(texts)}. "
        f"On these test slices the specialists {', '.join(parts)}."
    )


def shortcut(truth: Iterable[str], is_bordered: np.ndarray, kind: str) -> str:
    """Whether a dark border goes with the class, so that a network need not look at the lungs.

    Args:
        truth: Class of each X-ray.
        is_bordered: bool, from `gradcam.is_bordered`.
        kind: Of the scans, ``phantom`` or ``real scans``.
    """
    shares = pd.Series(is_bordered).groupby(list(truth)).mean().sort_values(ascending=False)
    listed = (f"{100 * share:.0f} % of {name_of(name)}" for name, share in shares.items())
    text = f"A dark border surrounds {_listed(listed)}."
    if shares.max() - shares.min() > NOTICEABLE:
        text += (
            " So the border tells something about the class, and a network can use it as a "
            "shortcut: heat in the frame is what that looks like."
        )
    if kind == "phantom":
        text += (
            " In the phantom this is on purpose: X-rays of one hospital have an L and no border, "
            "those of the other an R and a border; the set with the COVID-19 X-rays comes mostly "
            "from the first, the set with most of the others from the second."
        )
    return text


def _both(shares: pd.Series) -> str:
    validation, train = (100 * shares[name] for name in ("validation", "train"))
    return f"{validation:.0f} % of validation and {train:.0f} % of training labels"


def _listed(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def staircases(found: Mapping[str, pd.DataFrame], stated: Mapping[str, Iterable[float]]) -> str:
    """What the steps between conditions are worth: a Markdown list with an item for each claim.

    Args:
        found: Of `staircase.steps`.
        stated: The paper's value for each, or all values that its gain implies.
    """
    items = []
    for title, rows in found.items():
        if not {"0", "3"} <= set(rows["condition"].str[1]):
            continue  # both ends make a staircase
        values = {row["condition"][1]: _value(row, row["ours"]) for row in rows.to_dict("records")}
        paper = _listed([f"{value:g}" for value in stated[title]])
        unit = " %" if rows["unit"].iloc[0] == "%" else ""
        text = (
            f"**{title}.** {values['0']} with patients apart, {values['3']} with copies made "
            f"before the split; the paper has {paper}{unit}."
        )
        upwards = rows[rows["condition"].str.endswith(("1", "2", "3"))]
        if upwards["change"].notna().any():
            top = upwards.loc[upwards["change"].idxmax()]
            before = rows["condition"].shift()[top.name]
            limits = f"[{_number(top, 'change_low')}, {_number(top, 'change_high')}]"
            text += f" The largest step up is that from {before} to {top['condition']}: "
            text += f"{_number(top, 'change')}{' points' if top['unit'] == '%' else ''} {limits}; "
            text += f"the interval {'excludes' if top['change_low'] > 0 else 'includes'} 0."
        if "4" in values:
            text += f" The same networks reach {values['4']} on patients of the same sources whom "
            text += "they never saw."
        known = rows.set_index(rows["condition"].str[1])["neighbour"].dropna()
        if {"0", "3"} <= set(known.index):
            ends = (_value(rows.iloc[0], known[name]) for name in "03")
            text += f" A nearest neighbour, which only remembers, goes from {' to '.join(ends)}."
        items.append(f"- {text}")
    return "\n".join(items)


def _value(row: Mapping, value: float) -> str:
    return f"{value:.2f}" if row["unit"] == "fraction" else f"{value:.1f} %"


def _number(row: Mapping, name: str) -> str:
    return f"{row[name]:+z.2f}" if row["unit"] == "fraction" else f"{row[name]:+z.1f}"
