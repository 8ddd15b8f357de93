"""Where the recognition network looks: sheets and numbers of Grad-CAM.

The sheet shows scans, so of real ones it stays on the disk that made it; the table of shares is
numbers and may travel.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from covid_utils import registry
from covid_utils.evaluation import explain, intervals, scoring
from covid_utils.report import figures
from covid_utils.training.bottlenecks import Extraction
from covid_utils.training.recognition import Fitted


def _heat(extraction: Extraction, fitted: Fitted, positions: np.ndarray) -> np.ndarray:
    """Heat of the class that the head names, for positions among all rows."""
    names = pd.Index(fitted.task.names)
    named = names.get_indexer(fitted.predictions["predicted"].iloc[positions])
    return explain.grad_cam(extraction.last_maps(positions), fitted.head.kernel, named)


def sheet(extraction: Extraction, fitted: Fitted, title: str) -> Figure:
    """The surest right and the surest wrong answer of each class, with what spoke for it.

    Args:
        extraction: Of the task's rows, in their order, up to the block that the head was trained
            on.
        fitted: The head.
        title: Heading.
    """
    test = np.flatnonzero(fitted.predictions["subset"] == "test")
    answers = fitted.predictions.iloc[test]
    right, wrong = (
        test[explain.most_certain(answers, fitted.task.names, is_right)]
        for is_right in (True, False)
    )
    chosen = np.concatenate([right, wrong])
    heats = _heat(extraction, fitted, chosen)
    captions = [_caption(fitted.predictions.iloc[at]) for at in chosen]
    cells = list(zip(extraction.images[chosen], heats, captions, strict=True))
    rows = {"surest, right": cells[: len(right)], "surest, wrong": cells[len(right) :]}
    return figures.heat_sheet({name: row for name, row in rows.items() if row}, title)


def _caption(answer: pd.Series) -> str:
    said, true = (registry.NAMES[answer[name]] for name in ("predicted", "truth"))
    sure = answer[f"p_{answer['predicted']}"]
    return f"{said} ({sure:.0%})" + ("" if said == true else f"\nis {true}")


def frame_table(extraction: Extraction, fitted: Fitted, images: int = 25) -> pd.DataFrame:
    """How much of what speaks for an answer lies in the frame of the picture, by true class.

    Args:
        extraction: As for `sheet`.
        fitted: The head.
        images: Test images of each class at most, drawn at random.

    Returns:
        A row a class: ``images``, mean share of heat ``in the frame`` with its 95 % interval by
        patient (none for fewer than three patients), and what heat spread evenly would give (``if
        even``), both in per cent.
    """
    test = fitted.predictions[fitted.predictions["subset"] == "test"]
    some = test.sample(frac=1, random_state=0).groupby("truth").head(images)
    share = 100 * explain.frame_share(_heat(extraction, fitted, some.index.to_numpy()))
    rows = []
    for name in fitted.task.names:
        here = (some["truth"] == name).to_numpy()
        if not np.isfinite(share[here]).any():
            continue
        patients = some["patient_id"].to_numpy()[here]
        found = intervals.bootstrap_mean(share[here], patients)
        said = f"{found.value:.0f} %"
        if len(np.unique(patients)) >= scoring.FEWEST_WITH_CLASS:
            said += f" [{found.low:.0f}, {found.high:.0f}]"
        even = f"{100 * explain.even_share():.0f} %"
        row = {"class": registry.NAMES[name], "images": int(here.sum())}
        rows.append(row | {"in the frame": said, "if even": even})
    return pd.DataFrame(rows)
