"""Table 5 of the paper, rebuilt from the predictions of the multi-label run."""

from __future__ import annotations

import pandas as pd

from covid_utils import runs
from covid_utils.evaluation import scoring
from covid_utils.registry import MANIFESTATIONS
from covid_utils.registry import TASK2 as RUN
from covid_utils.report import cells

#: Run that all of it comes from.
#: Metrics that are no percentages.
FRACTIONS = ("mcc", "roc_auc", "average_precision")
#: Which slices a score is of -> what must be said beside it.
WEAK = {"exact": "", "all": "weak labels"}
#: What must be said of a ranking in which all labels are pooled.
POOLED = "labels pooled: knowing which are common already ranks them"


def table5(profile: str) -> pd.DataFrame:
    """Table 5: the multi-label CNN, per manifestation and overall, beside two trivial baselines.

    One baseline finds every manifestation in every slice; the other answers with the share of the
    training slices that show it. Where some test slices have weak labels, the exactly labelled ones
    are scored apart as well.

    Args:
        profile: Profile of the run.

    Returns:
        Columns ``work, manifestation, labels`` and those of `cells.VALUES`: a row a work,
        manifestation (or ``overall``, ``macro``), scope and metric.

    Raises:
        ResultsError: The run is not there.
        DataError: The run has no training slices.
    """
    predictions = runs.read_predictions(profile, RUN)
    training = predictions[predictions["subset"] == "train"]
    test = predictions[predictions["subset"] == "test"]
    exact = test[test["label_quality"] == "exact"]
    scopes = {"exact": exact} if len(exact) == len(test) else {"all": test, "exact": exact}
    rows = []
    for scope, part in scopes.items():
        if part.empty:
            continue
        for work, scores in _works(part, training).items():
            keys = {"work": work, "labels": scope}
            rows += [_line(keys, score) for _, score in scores.iterrows()]
    return pd.DataFrame(rows)


def _works(part: pd.DataFrame, training: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Scores of the network and of the baselines on the same slices."""
    return {
        "ours": scoring.labels(part, MANIFESTATIONS),
        "baseline: always present": scoring.always_positive(part, MANIFESTATIONS),
        "baseline: share in training": scoring.prevalence(part, training, MANIFESTATIONS),
    }


def _line(keys: dict[str, str], score: pd.Series) -> dict:
    """One row of the table."""
    unit = "fraction" if score["metric"] in FRACTIONS else "%"
    is_pooled = score["class"] == "overall" and score["metric"] in scoring.CURVE_METRICS
    note = "; ".join(filter(None, (WEAK[keys["labels"]], POOLED if is_pooled else "")))
    first = {"work": keys["work"], "manifestation": score["class"], "labels": keys["labels"]}
    return first | cells.cell(score["metric"], score, None, unit, note, RUN)
