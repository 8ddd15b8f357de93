"""What a trained network must beat: another last layer, and rules that need no network at all.

A rule that uses only the size of an image, or the data set that it comes from, knows nothing of
lungs. Where it does as well as a network, the score does not show that the network does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from covid_utils.data import readers
from covid_utils.training.recognition import Task

#: Strengths of the linear SVM that validation chooses from.
SVM_C = (1e-5, 1e-4, 1e-3, 1e-2)
HISTOGRAM_BINS = 16
#: Side of a corner, as a share of the image's.
CORNER = 0.08


def trivial_features(gray: np.ndarray) -> np.ndarray:
    """What can be measured of an image without knowing what it shows.

    Args:
        gray: uint8 image (height, width), as it was decoded.

    Returns:
        float32 (23,): width and height in pixels, their ratio, the mean of each corner in [0, 1],
        and the shares of pixels in 16 bins of brightness.
    """
    height, width = gray.shape
    down, right = max(1, int(CORNER * height)), max(1, int(CORNER * width))
    halves = gray[:down], gray[-down:]
    corners = [part.mean() / 255 for half in halves for part in (half[:, :right], half[:, -right:])]
    bins = np.histogram(gray, HISTOGRAM_BINS, (0, 256))[0] / gray.size
    return np.array([width, height, width / height, *corners, *bins], np.float32)


def trivial_table(rows: pd.DataFrame, root: Path) -> pd.DataFrame:
    """`trivial_features` of manifest rows without copies."""
    return pd.DataFrame(readers.measured(root, rows, trivial_features), rows["image_id"])


def svm(table: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Predictions of a linear support vector machine on deep features (Sethy et al. 2020).

    The strength of the margin is chosen on validation images.
    """
    from sklearn.svm import LinearSVC

    return _best_of(table, task, [LinearSVC(C=c, random_state=0) for c in SVM_C], "linear SVM")


def trivial(table: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Predictions of logistic regression on a table of `trivial_features`."""
    from sklearn.linear_model import LogisticRegression

    return _best_of(table, task, [LogisticRegression(max_iter=5000)], "trivial features")


def _best_of(table: pd.DataFrame, task: Task, candidates: list, model: str) -> pd.DataFrame:
    """Predictions of the candidate that does best on validation; of equals the first."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    values, target = task.values(table), task.rows["target"].to_numpy()
    train, validation = task.parts()
    fits = [make_pipeline(StandardScaler(), one) for one in candidates]
    fits = [fit.fit(values[train], target[train]) for fit in fits]
    best = fits[0]
    if len(validation):
        best = max(fits, key=lambda fit: fit.score(values[validation], target[validation]))
    return task.predictions(best.predict(values), model)


def majority(task: Task, column: str) -> pd.DataFrame:
    """The rule that knows one manifest column only: a value's most frequent class in training."""
    known = task.rows.iloc[task.parts()[0]]
    usual = known.groupby(column)["target"].agg(lambda target: target.mode().iloc[0])
    overall = known["target"].mode().iloc[0]
    predicted = task.rows[column].map(usual).fillna(overall).astype("int64").to_numpy()
    return task.predictions(predicted, f"{column} only")
