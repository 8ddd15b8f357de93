"""Heads of recognition, as a user's own training leaves them for reading.

A head is small, and Inception-v3 before it is not: its weights are linked to where they are, and
never copied. Random weights are drawn again from their seed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from covid_read import shipped
from covid_read.stages import Recognition
from covid_utils import paths
from covid_utils.data.images import Preprocessing, preprocess
from covid_utils.evaluation import calibration, task_scores
from covid_utils.models import inception
from covid_utils.registry import CT_ALONE
from covid_utils.training import features
from covid_utils.training.features import Extraction
from covid_utils.training.head import Head
from covid_utils.training.recognition import Fitted
from covid_utils.writing import digest

#: Part of a pack with the heads.
PART = "recognition"
#: Tasks whose heads are kept -> what they recognise.
MODALITIES = {"2 classes": "X-ray", "4 classes": "X-ray", CT_ALONE: "CT"}
#: Where Keras keeps what it has downloaded, below ``KERAS_HOME``.
DOWNLOADED = "models/inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"
#: What to do where there is no head, or no network before it.
REMEDY = "`make reproduce PROFILE=sample DATA=folder` makes it from scans (docs/data.md)"
ABSENT = f"Not recognised: the repository holds no trained last layer of Inception-v3; {REMEDY}."


def path(folder: Path) -> Path:
    """File of heads beside a pack."""
    return folder / "recognition.npz"


def keep(profile: str, frozen: Extraction, fits: Iterable[Fitted]) -> None:
    """Keep heads, calibrated on validation images, and a link to the weights before them."""
    folder = paths.models(profile)
    kept = {fit.task.name: fit for fit in fits if fit.task.name in MODALITIES}
    arrays = [array for fit in kept.values() for array in (fit.head.kernel, fit.head.bias)]
    about = {"preprocessing": asdict(frozen.settings), "layer": frozen.last, "seed": frozen.seed}
    about["version"] = features.VERSION
    about["tasks"] = {name: _calibrated(fit) for name, fit in kept.items()}
    if frozen.weights == "none":
        arrays += inception.statistics(frozen.network)
        about |= {"weights": "none"}
    else:
        file = frozen.root / frozen.weights
        if frozen.weights == "imagenet":
            file = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / DOWNLOADED
        about |= {"weights": file.name, "weights_sha256": digest(file)}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file.name).unlink(missing_ok=True)
        (folder / file.name).symlink_to(file.resolve())
    shipped.write(path(folder), {PART: shipped.Part(about, tuple(arrays))})


def _calibrated(fit: Fitted) -> dict[str, Any]:
    """A head's temperature and the probability above which it answers, from validation images."""
    validation = fit.part("validation")
    about = {"modality": MODALITIES[fit.task.name], "classes": fit.task.names}
    about |= {"temperature": 1.0, "answers_from": None, "validation_images": len(validation)}
    if validation.empty:
        return about
    chances, truth = task_scores.shares(validation, fit.task.names)
    # A few images that are all classified correctly would make a head certain of everything.
    degree = max(1.0, calibration.fit_temperature(chances, truth))
    chances = calibration.apply_temperature(chances, degree)
    least = answers_from(chances, truth)
    answered = 0.0 if least is None else float((chances.max(axis=1) >= least).mean())
    right = float((chances.argmax(axis=1) == truth).mean())
    about |= {"temperature": degree, "answers_from": least, "answered": answered}
    return about | {"validation_accuracy": right}


def answers_from(probabilities: np.ndarray, truth: np.ndarray, wrong: float = 0.05) -> float | None:
    """Smallest confidence at which at most this share of validation answers is wrong.

    None if even the most confident answers are worse. ``probabilities`` are (n, classes),
    ``truth`` the numbers of the true classes, int (n,).
    """
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    good = [least for least in np.unique(sure) if (~right[sure >= least]).mean() <= wrong]
    return float(good[0]) if good else None


def load(part: shipped.Part, folder: Path) -> Recognition | str:
    """Heads and the network before them, which is built when it is first needed.

    Without the network's weights in the folder of the pack, the sentence that says so.
    """
    about, arrays = part.about, list(part.arrays)
    name, tasks = about["weights"], about["tasks"]
    file = folder / name
    if about.get("version") != features.VERSION:
        return f"Not recognised: the heads in {paths.shown(folder)} are outdated; {REMEDY}."
    if name != "none" and not (file.is_file() and digest(file) == about["weights_sha256"]):
        place = paths.shown(folder)
        return f"Not recognised: {place} lacks Inception-v3's weights {name}; {REMEDY}."
    heads = {task: Head(arrays.pop(0), arrays.pop(0)) for task in tasks}
    own = Preprocessing(**about["preprocessing"])

    @cache
    def network() -> Any:
        weights = name if name == "none" else str(file)
        side = inception.input_side(own.size)
        model = inception.network(weights, about["layer"], about["seed"], side=side)
        if name == "none":
            inception.set_statistics(model, arrays)
        return inception.outputs(model, (about["layer"],))

    def probabilities(slices: np.ndarray, modality: str) -> Mapping[str, np.ndarray]:
        asked = [task for task, each in tasks.items() if each["modality"] == modality]
        if not asked:
            return {}
        images = features.to_input(np.stack([preprocess(each, own) for each in slices]))
        values = np.reshape(network().predict_on_batch(images), (len(images), -1))
        chances = {task: heads[task].probabilities(values) for task in asked}
        return {
            task: calibration.apply_temperature(each, tasks[task]["temperature"])
            for task, each in chances.items()
        }

    return Recognition(tasks, probabilities)
