"""Reasons to doubt a case: no chest, an odd picture of one, or slices unlike those learned.

The shares and limits below were set on slices of ten sources and parts of them; what they refuse,
and what they let pass, is in ``benchmarks/refusal.md``.
"""

from __future__ import annotations

import numpy as np

from covid_utils.data import body, gray_scale, lung_field

#: Least share of a picture that is body, and least and largest of the body that is lung, where
#: nothing else says that it is a CT slice. Of 280 slices of ten sources all fill a quarter, and
#: lungs at their base less; in tight figures of papers lungs fill up to two thirds.
BODY, LUNG = 0.2, (0.08, 0.7)
#: Gray value of the corners from which a picture may be inverted: around a body is air, or black.
#: A corner is this part of the shorter side.
BRIGHT, CORNER = 128, 1 / 20
#: Lung field at the picture's edge, in roots of the field's area, from which the edge cuts it.
CUT = 1.0
INVERTED = "Its gray values seem to be inverted, air white and bone black; invert them."
BEYOND = "The lungs reach beyond the picture's edge; what lies outside is not known."
TURNED = "The spine seems to be on top, so it may be stored upside down."
#: Largest share of a picture that is body if it is an X-ray; figures of CT slices without anything
#: around them look like X-rays otherwise.
SURROUNDED = 0.95
XRAY = "It looks like an X-ray; only CT slices are outlined. Add `--xrays` to have it recognised."
#: Why nothing is said about a case whose slices are for the most part so unlike.
STRANGE = "It is very unlike the slices that the network learned from, so nothing is said about it."


def shows_chest(picture: np.ndarray, field: np.ndarray) -> bool:
    """Whether a uint8 picture (height, width) may be an axial slice of a chest in some window.

    ``field`` is its `lung_field.field`.
    """
    if gray_scale.landmarks(picture).confidence < gray_scale.SURE:
        return False
    share = body.parts(picture).body.mean()
    lung = field.mean() / max(share, BODY)
    return bool(share >= BODY and LUNG[0] <= lung <= LUNG[1])


def may_be_xray(picture: np.ndarray, scale: str) -> bool:
    """Whether a picture without Hounsfield units has something other than body around it."""
    return scale != gray_scale.KNOWN and body.parts(picture).body.mean() < SURROUNDED


def is_inverted(picture: np.ndarray) -> bool:
    """Whether it is its negative that shows a chest, with something dark around it."""
    side = max(1, round(min(picture.shape) * CORNER))
    ends = slice(side), slice(-side, None)
    corners = [picture[rows, columns].mean() for rows in ends for columns in ends]
    negative = 255 - picture
    return np.median(corners) > BRIGHT and shows_chest(negative, lung_field.field(negative))


def of_anatomy(picture: np.ndarray, field: np.ndarray) -> tuple[str, ...]:
    """What the lungs in a slice, uint8 (height, width), say against it; ``field`` is theirs."""
    parts = body.parts(picture)
    air, said = lung_field.aerated(parts), ()
    at_edge = sum(np.count_nonzero(edge) for edge in (field[0], field[-1], *field.T[[0, -1]]))
    if at_edge > CUT * np.sqrt(field.sum()):
        said += (BEYOND,)
    if air.any() and lung_field.is_upside_down(air, parts):
        said += (TURNED,)
    return said
