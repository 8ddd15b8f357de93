"""What follows from a profile's predictions alone, computed anew; no scan is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from covid_utils import paths
from covid_utils.data import labels
from covid_utils.data.manifest import left_out
from covid_utils.errors import ResultsError
from covid_utils.evaluation import scores
from covid_utils.registry import TASK1, condition_run
from covid_utils.report import (
    dice_conventions,
    figures,
    hospital_figures,
    staircase,
    style,
    tables,
)
from covid_utils.report.recognition_tables import TASKS, rivals, stated_accuracy
from covid_utils.runs import read_predictions, read_table, select


def write(profile: str) -> list[str]:
    """Write scores, tables, verdicts and the figures of scores; the names of the figures.

    Before that, stored maps are held against the predictions, see `check_maps`.
    """
    check_maps(profile)
    scores.write(profile)
    built = tables.write_all(profile)
    dice_conventions.write(profile)
    drawn = drawings(profile, built)
    for name, figure in drawn.items():
        style.save(figure, profile, name)
    return [*drawn]


def check_maps(profile: str) -> None:
    """Hold the stored maps of labels and probabilities against the pixels in the predictions.

    The maps are those of the first training of each stream, see `outlines.several`.

    Raises:
        ResultsError: Maps of a run show something else than its predictions.
    """
    for path in sorted(paths.results(profile).glob("*/maps.npz")):
        counts = read_predictions(profile, path.parent.name)
        counts = select(counts, **counts.iloc[0][["model", "start", "steps", "repeat"]])
        called = counts.groupby(["stream", "class", "image_id"])[["tp", "fp"]].sum().sum(axis=1)
        with np.load(path) as maps:
            if wrong := next(_contradictions(maps, called), ""):
                raise ResultsError(
                    f"{paths.shown(path)}: {wrong}; take it and predictions.parquet from one run."
                )


def _contradictions(maps: Mapping[str, np.ndarray], called: pd.Series) -> Iterator[str]:
    """What maps show otherwise than ``called``, pixels by stream, class and slice."""
    for stream in called.index.unique("stream"):
        predicted, probability = maps[f"{stream}_labels"], maps[f"{stream}_probability"]
        for name, members in labels.scored_classes(stream).items():
            shown = np.isin(predicted, members).sum(axis=(1, 2))
            if not np.array_equal(shown, called[stream, name][maps["image_id"]]):
                yield f"stream {stream} has another number of pixels of {name} than was counted"
        if (probability[predicted > 0] < 128).any():
            yield f"stream {stream} has lesions with a probability below one half"


def drawings(profile: str, built: Mapping[str, pd.DataFrame]) -> dict[str, Figure]:
    """Figures of scores by name, of those runs that a profile has.

    ``built`` is from `tables.write_all`; `dice_conventions.write` has written its conventions.
    """
    scored = built["scores"]
    drawn = {
        "conventions": dice_conventions.figure(read_table(profile, "tables/conventions")),
        "staircase": staircase.figure(scored),
    }
    if (scored["protocol"] == "S0").any():
        steps = read_predictions(profile, condition_run("S0"))["steps"]
        drawn["condition_steps"] = staircase.curve(scored, int(steps.min()))
    if "hospitals" in built:
        drawn["other_hospitals"] = hospital_figures.steps(built["hospitals"])
    if TASK1 not in left_out(profile):
        panels = {task: rivals(scored, classes) for task, classes in TASKS.items()}
        label = "accuracy on test images, %"
        drawn["rivals"] = figures.forest(panels, label, stated_accuracy())
    return {name: figure for name, figure in drawn.items() if figure}
