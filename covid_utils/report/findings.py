"""What the paper's own numbers say of each other: arithmetic, for which nothing need be run."""

from __future__ import annotations

import math

import pandas as pd

from covid_utils.report import claims as ledger

#: By how much a gain that is given in tens of per cent can be rounded.
ROUNDED = 5.0


def collect() -> pd.DataFrame:
    """What does not fit, one row each: ``where``, ``finding`` and ``source``."""
    rows = [row for claim in ledger.of_kind("claim") for row in _granularity(claim)]
    return pd.DataFrame([*rows, _overlap()], columns=["where", "finding", "source"])


def neighbours(percent: float, n: int) -> tuple[int, int] | None:
    """The two counts out of n next to a percentage; None if one of them rounds to it."""
    places = len(str(percent).partition(".")[2])
    below = math.floor(percent / 100 * n)
    half = 0.5 * 10**-places + 1e-9
    fits = any(abs(100 * count / n - percent) <= half for count in (below, below + 1))
    return None if fits else (below, below + 1)


def _granularity(claim: ledger.Claim) -> list[tuple[str, str, str]]:
    size = claim.n or claim.size
    found = neighbours(float(claim.value), size) if size and claim.unit == "%" else None
    if not found:
        return []
    near = " and ".join(f"{count} are {100 * count / size:.3f} %" for count in found)
    unsaid = (
        "" if claim.n else ", if they are as many as the test images (their number is not given)"
    )
    what = f"{claim.value} % ({claim.classes} classes, {claim.subset}) is no share of {size} images"
    return [(claim.where, f"{what}{unsaid}: {near}", "arithmetic")]


def _overlap() -> tuple[str, str, str]:
    """Dice and IoU of consolidation, as the paper's gains imply them, against each other."""
    claims, published = ledger.load(), ledger.published()
    dice_gain, iou_gain = (float(claims[key].value) for key in ("p23b", "p24b"))
    is_base = published["metric"].eq("IoU") & published["class"].eq(claims["p24b"].class_)
    base = published[is_base].iloc[0]
    (other,) = claims["p23b"].over
    least = [iou_of(other * (1 + (dice_gain - off) / 100)) for off in (0, ROUNDED)]
    most = [base["value"] * (1 + (iou_gain + off) / 100) for off in (0, ROUNDED)]
    finding = (
        f"a gain of {dice_gain:g} % implies a Dice of {claims['p23b'].text} for consolidation, and "
        f"so an IoU of {least[0]:.3f} or more; a gain of {iou_gain:g} % over an IoU of "
        f"{base['value']}, of the same work, implies {most[0]:.3f}. If both are rounded to tens: "
        f"{least[1]:.3f} or more, {most[1]:.3f} at most"
    )
    return claims["p24b"].where, finding, base["note"]


def iou_of(dice: float) -> float:
    """Least mean IoU that goes with a mean Dice, 0 to 1: IoU is convex in Dice."""
    return dice / (2 - dice)
