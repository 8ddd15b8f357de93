"""What a trained network must beat: another last layer, and rules that need no network at all.

A rule that uses only the size of an image, or the data set that it comes from, knows nothing of
lungs. Where it does as well as a network, the score does not show that the network does.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from covid_utils.data import readers
from covid_utils.training.recognition import Task

#: Penalties of the linear SVM on margin violations (its C) that validation chooses from.
SVM_C = (1e-5, 1e-4, 1e-3, 1e-2)
HISTOGRAM_BINS = 16
#: Side of a corner, as a share of the image's.
CORNER = 0.08


def trivial_features(gray: np.ndarray) -> np.ndarray:
    """What can be measured of an image, uint8 (height, width), without knowing what it shows.

    Given are, float32 (23,), width and height in pixels, their ratio, the mean of each corner in
    [0, 1], and the shares of pixels in 16 bins of brightness.
    """
    height, width = gray.shape
    down, right = max(1, int(CORNER * height)), max(1, int(CORNER * width))
    top, bottom = gray[:down], gray[-down:]
    corners = (top[:, :right], top[:, -right:], bottom[:, :right], bottom[:, -right:])
    means = [corner.mean() / 255 for corner in corners]
    bins = np.histogram(gray, HISTOGRAM_BINS, (0, 256))[0] / gray.size
    return np.array([width, height, width / height, *means, *bins], np.float32)


def trivial_table(rows: pd.DataFrame, root: Path) -> pd.DataFrame:
    """`trivial_features` of manifest rows without copies."""
    return pd.DataFrame(readers.measured(root, rows, trivial_features), rows["image_id"])


def svm(table: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Predictions of a linear support vector machine on deep features (Sethy et al. 2020).

    The penalty is chosen on validation images; of equals it is the smallest.
    """
    values, target = task.values(table), task.rows["target"].to_numpy()
    train, validation = task.parts()
    fits = [make_pipeline(StandardScaler(), LinearSVC(C=c, random_state=0)) for c in SVM_C]
    fits = [fit.fit(values[train], target[train]) for fit in fits]
    best = fits[0]
    if len(validation):
        best = max(fits, key=lambda fit: fit.score(values[validation], target[validation]))
    return task.predictions(best.predict(values), "linear SVM")


def trivial(table: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Predictions of logistic regression on a table of `trivial_features`."""
    values, target, (train, _) = task.values(table), task.rows["target"].to_numpy(), task.parts()
    fit = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    fit.fit(values[train], target[train])
    return task.predictions(fit.predict(values), "trivial features")


def nearest(table: pd.DataFrame, task: Task, standardise: bool) -> pd.DataFrame:
    """The class of the training image with the nearest features: what memory alone gives.

    Training images are left out, since each is its own nearest. ``standardise`` divides each
    feature by its spread among training images, so that all weigh the same.
    """
    values, target, (train, _) = task.values(table), task.rows["target"].to_numpy(), task.parts()
    model, name = KNeighborsClassifier(1, algorithm="brute"), "nearest neighbour"
    if standardise:
        model, name = make_pipeline(StandardScaler(), model), f"{name}, standardised"
    model.fit(values[train], target[train])
    asked = np.flatnonzero(task.rows["subset"] != "train")
    predicted = model.predict(values[asked])
    return replace(task, rows=task.rows.iloc[asked]).predictions(predicted, name)


def majority(task: Task, column: str) -> pd.DataFrame:
    """The rule that knows one manifest column only: a value's most frequent class in training."""
    known = task.rows.iloc[task.parts()[0]]
    usual = known.groupby(column)["target"].agg(lambda target: target.mode().iloc[0])
    overall = known["target"].mode().iloc[0]
    predicted = task.rows[column].map(usual).fillna(overall).astype("int64").to_numpy()
    return task.predictions(predicted, f"{column} only")
