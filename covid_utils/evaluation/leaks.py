"""How much of a leak of known size a comparison of patients finds (docs/protocol.md, Controls)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from covid_utils.evaluation import bootstrap, intervals


def found(answers: pd.DataFrame) -> pd.DataFrame:
    """What the marks of hospitals are worth, from different patients and in truth.

    ``answers`` are those of `training.controls`: per image ``strength``, ``patient_id``, whether it
    is recognised at the ``same`` hospital as in training, and whether at the ``other`` one.

    Returns:
        One row per strength: accuracy of every second patient at the ``same`` hospital, of the
        others at the ``other``, and the ``difference`` with its limits ``low`` and ``high``, which
        is all that real scans can show; the ``truth``, which is the difference for the same
        patients; and the ``share`` of it that is found.
    """
    rows = []
    for strength, one in answers.groupby("strength"):
        patient = pd.factorize(one["patient_id"])[0]
        means = [
            bootstrap.mean(one[name].to_numpy(float)[half], patient[half])
            for name, half in (("same", patient % 2 == 0), ("other", patient % 2 == 1))
        ]
        gap, truth = intervals.difference(*means), one["same"].mean() - one["other"].mean()
        share = gap.value / truth if truth else np.nan
        rows.append((strength, *(mean.value for mean in means), *gap[:3], truth, share))
    columns = ["strength", "same", "other", "difference", "low", "high", "truth", "share"]
    return pd.DataFrame(rows, columns=columns)
