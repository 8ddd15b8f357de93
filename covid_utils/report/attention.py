"""Where the recognition network gets its evidence: a sheet of Grad-CAM maps and a table of shares.

The sheet shows scans, so of real ones it stays on the disk that made it; the table of shares is
numbers and may travel.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from covid_utils.evaluation import gradcam, intervals, scoring
from covid_utils.registry import name_of
from covid_utils.report import figures


def sheet(answers: pd.DataFrame, images: np.ndarray, heat: np.ndarray, title: str) -> Figure:
    """Images with what spoke for their answers, right ones above wrong ones.

    Args:
        answers: ``truth``, ``predicted`` and ``p_<class>``, such as `gradcam.most_certain` chooses.
        images: uint8 (answers, height, width).
        heat: From `gradcam.grad_cam`, of the predicted classes.
        title: Heading.
    """
    rows: dict[str, list] = {"most certain, right": [], "most certain, wrong": []}
    for (_, answer), image, one in zip(answers.iterrows(), images, heat, strict=True):
        predicted, truth = answer["predicted"], answer["truth"]
        caption = f"{name_of(predicted)} ({answer[f'p_{predicted}']:.0%})"
        is_right = predicted == truth
        row = rows["most certain, right" if is_right else "most certain, wrong"]
        row.append((image, one, caption if is_right else f"{caption}\nis {name_of(truth)}"))
    return figures.heat_sheet({name: row for name, row in rows.items() if row}, title)


def frame_table(answers: pd.DataFrame, heat: np.ndarray) -> pd.DataFrame:
    """How much of what speaks for an answer lies in the frame of the picture, by true class.

    Args:
        answers: ``truth``, ``patient_id`` and ``p_<class>`` in the order of the classes.
        heat: As for `sheet`.

    Returns:
        One row per class: ``images``, mean share of heat ``in the frame`` with its 95 % interval
        by patient (none for fewer than three patients), and what heat spread evenly would give
        (``if even``), both in per cent.
    """
    share, even = 100 * gradcam.frame_share(heat), 100 * gradcam.even_share()
    rows = []
    for name in (column.removeprefix("p_") for column in answers if column.startswith("p_")):
        here = (answers["truth"] == name).to_numpy()
        if not np.isfinite(share[here]).any():
            continue
        patients = answers["patient_id"].to_numpy()[here]
        mean = intervals.bootstrap_mean(share[here], patients)
        text = f"{mean.value:.0f} %"
        if len(np.unique(patients)) >= scoring.FEWEST_WITH_CLASS:
            text += f" [{mean.low:.0f}, {mean.high:.0f}]"
        row = {"class": name_of(name), "images": int(here.sum())}
        rows.append(row | {"in the frame": text, "if even": f"{even:.0f} %"})
    return pd.DataFrame(rows)
