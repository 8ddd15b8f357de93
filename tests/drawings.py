"""One example of each figure."""

import numpy as np
import pandas as pd

from covid_utils.evaluation import calibration
from covid_utils.report import figures, sheets


def confusion():
    four = np.array([[82, 5, 2, 0], [7, 213, 8, 5], [3, 10, 85, 27], [9, 5, 34, 116]])
    names = ("covid", "normal", "viral", "bacterial")
    two = np.array([[88, 1], [8, 225]])
    matrices = {"2 classes, test patients": (two, names[:2])}
    return figures.confusion_matrices(matrices | {"4 classes, test patients": (four, names)})


def labels():
    counts = {"ground-glass": [[48, 0], [0, 0]], "consolidation": [[33, 4], [8, 3]]}
    counts["pleural effusion"] = [[2, 6], [4, 36]]
    classes = ("present", "absent")
    return figures.confusion_matrices(
        {name: (np.array(matrix), classes) for name, matrix in counts.items()}
    )


def curves():
    steps = np.arange(0, 10001, 500)
    parts = [
        pd.DataFrame({"step": steps, "accuracy": 1 - 0.5 / (1 + steps / rate), "subset": subset})
        for subset, rate in (("train", 500), ("validation", 3000), ("test", 9000))
    ]
    table = pd.concat(parts, ignore_index=True)
    table["loss"] = table["accuracy"].where(table["subset"] != "test")
    panels = {"accuracy": "accuracy of 100 random images", "loss": "cross entropy"}
    return figures.training_curves(table, panels)


def maps():
    rates, steps = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3], [100, 300, 1000, 2800, 5000, 10000]
    table = pd.DataFrame(np.linspace(0.741, 0.964, 36).reshape(6, 6), rates, steps)
    return figures.setting_maps(
        {"2 classes": table, "4 classes": table / 2, "CT": table}, (0.01, 2800)
    )


def diagrams():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet((0.4,) * 4, 400)
    truth = np.array([rng.choice(4, p=share) for share in shares])
    table = calibration.reliability(shares, truth)
    return figures.reliability({"four classes, as trained": table, "at temperature 1.53": table})


def rivals():
    names = ["ours", "ours, chosen on validation"]
    names += ["baseline: linear SVM on the same features", "baseline: name of the data set only"]
    rows = {"name": names, "ours": [97.2, 100, 97.5, 53.4]}
    rows |= {"low": [95.1, 97.4, 95.5, np.nan], "high": [99.1, 100, 99.1, np.nan]}
    panels = dict.fromkeys(("2 classes", "4 classes"), pd.DataFrame(rows))
    return figures.forest(panels, "accuracy on test images, %", {"2 classes": 99.4})


def scores():
    rows = [
        {"class": name, "metric": metric, "value": 0.7, "low": 0.6, "high": 0.9}
        for name in ("covid", "normal", "viral", "bacterial")
        for metric in ("sensitivity", "specificity", "precision", "f1")
    ]
    rows[1] |= {"value": np.nan, "low": np.nan, "high": np.nan}
    return figures.score_bars(pd.DataFrame(rows), "score on test patients")


def slices(n, side=16):
    rng = np.random.default_rng(1)
    masks = np.zeros((n, side, side), np.uint8)
    masks[:, 4:8, 4:8], masks[:, 8:10, 4:8], masks[:, 10:12, 4:8] = 1, 2, 3
    return rng.integers(0, 256, masks.shape, dtype=np.uint8), masks


def images():
    names = ("covid", "normal", "viral", "bacterial")
    rows = {name: list(slices(5)[0]) for name in names}
    return sheets.image_sheet(rows, "The four classes of the recognition task (phantom)")


def one_slice():
    pictures, masks = slices(1)
    title = "A CT slice and its mask (phantom)"
    return sheets.segmentation_sheet(pictures, {"mask": masks}, title)


def pairs():
    names = ["original", *(f"augmented {number}" for number in range(1, 5))]
    cells = list(zip(*slices(5), strict=True))
    return sheets.pair_sheet(cells, names, "One CT slice and its mask, augmented (phantom)")


def streams():
    pictures, masks = slices(4)
    names = ["reference", *(f"stream:\n{name}" for name in ("all classes", "ground-glass"))]
    names += ["stream:\nconsolidation", "stream:\npleural effusion", "specialists\ntogether"]
    columns = dict.fromkeys(names, masks)
    return sheets.segmentation_sheet(pictures, columns, "Streams on the same slices (phantom)")


def outcomes():
    pictures, masks = slices(3)
    classes = {1: "found", 2: "missed", 3: "false alarm"}
    lines = pd.DataFrame({"DeepLab-v3+": ["Dice 0.90", "Dice 0.69", "no Dice"]})
    lines = lines.assign(**{"U-Net": lines}).set_axis(["best", "middle", "worst"])
    title = "Lesions of three slices by two networks (phantom)"
    return sheets.segmentation_sheet(pictures, dict.fromkeys(lines, masks), title, classes, lines)


def heats():
    pictures, _ = slices(8)
    heat = np.zeros((8, 8, 8))
    heat[0, 0, 3] = heat[1, 4, 4] = 1
    answers = pd.DataFrame({"predicted": "bacterial", "truth": ["bacterial"] * 4 + ["viral"] * 4})
    answers["p_bacterial"] = 0.996
    return sheets.heat_sheet(answers, pictures, heat, "What spoke for the prediction (phantom)")


DRAWN = [confusion, labels, curves, maps, diagrams, rivals, scores]
DRAWN += [images, one_slice, pairs, streams, outcomes, heats]
