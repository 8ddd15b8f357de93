"""Predictions under conditions, made up: what a notebook leaves, without training anything."""

import numpy as np
import pandas as pd
from builders import manifest

from covid_utils import paths, registry
from covid_utils.data.labels import scored_classes
from covid_utils.evaluation import outlines

PROFILE = "sample"
CLASSES = registry.RECOGNITION_TASKS


def save(condition, table):
    folder = paths.results(PROFILE) / registry.condition_run(condition)
    folder.mkdir(parents=True)
    table.to_parquet(folder / "predictions.parquet", index=False)


def recognised(task, right, run=1, learned="R0", model="head", seed=0, **columns):
    """One training's X-rays, 40 patients of two images of each class, of which a share is right."""
    names, rng = CLASSES[task], np.random.default_rng([seed, run])
    patients = {f"{name}{i}": 2 for name in names for i in range(40)}
    rows = manifest(patients).drop(columns="label")
    truth = np.repeat(names, 80)
    wrong = np.array([names[(names.index(name) + 1) % len(names)] for name in truth])
    found = np.where(rng.random(len(truth)) < right, truth, wrong)
    own = {"task": task, "model": model, "split": learned, "run": run, "subset": "test"}
    own |= {"drawn": True, "seen_image": False, "seen_patient": rng.random(len(truth)) < 0.25}
    return rows.assign(truth=truth, predicted=found, **own | columns)


def outlined(stream="all", share=0.6, repeat=1, seed=0, quality=None, first=0, **columns):
    """One training's test slices: of each class a square, of which the rows found are a share."""
    quality = quality or ["exact"] * 6 + ["weak"] * 6
    patients = {f"s{first + i:02d}": 1 for i in range(len(quality))}
    rows = manifest(patients, "medseg", "covid", "CT").assign(label_quality=quality, subset="test")
    rng = np.random.default_rng([seed, repeat])
    truth = np.zeros((len(rows), 12, 12), np.uint8)
    for label, wide in ((1, 6), (2, 4), (3, 2)):
        truth[:, 4 * label - 4 : 4 * label, :wide] = label
    found = np.where(rng.random(truth.shape) < share, truth, 0).astype(np.uint8)
    table = outlines.pixel_table(rows, truth, found, scored_classes(stream))
    own = {"stream": stream, "model": "deeplab", "start": "nodule", "steps": 350}
    return table.assign(**own | {"repeat": repeat, "seen_image": False} | columns)


def labelled(right, repeat=1):
    """One training's slices with three labels each."""
    rows = manifest({f"s{i:02d}": 1 for i in range(30)}, "medseg", "covid", "CT")
    rng = np.random.default_rng(repeat)
    columns = {"subset": "test", "label_quality": ["exact", "weak"] * 15, "repeat": repeat}
    for name in registry.MANIFESTATIONS:
        truth = rng.random(len(rows)) < 0.5
        columns |= {
            f"truth_{name}": truth,
            f"p_{name}": np.where(rng.random(30) < right, truth, ~truth),
        }
    return rows.assign(seen_image=False, **columns)


def write_ladder(seen=(0.97, 0.98, 0.985, 0.995, 0.975)):
    """Every condition that a figure shows, with two trainings of each."""
    for number, right in enumerate(seen):
        learned = f"R{min(number, 3)}"
        tables = [
            recognised(task, right - 0.1 * (task == "4 classes"), run, learned)
            for task in ("2 classes", "4 classes")
            for run in (1, 2)
        ]
        tables += [table.assign(model="nearest neighbour") for table in tables[::2]]
        if number == 4:
            tables.append(
                recognised("2 classes", 0.6, 1, learned, subset="adults").query("truth == 'normal'")
            )
        save(f"R{number}", pd.concat(tables))
    tuned = [recognised("4 classes", 0.93, 1, of, "fine-tuned") for of in ("R0", "R3")]
    save("R5", pd.concat(tuned))
    for number, share in enumerate((0.5, 0.55, 0.6, 0.8)):
        tables = [outlined("all", share, k) for k in (1, 2)]
        tables += [outlined("ggo", share + 0.05, k) for k in (1, 2)]
        if number == 0:
            tables += [outlined("all", 0.5, k, start="random") for k in (1, 2)]
            tables += [outlined("all", 0.45, k, start="random", model="unet") for k in (1, 2)]
        if number in (0, 3):
            tables += [outlined("all", share + 0.1, steps=350 * factor) for factor in (4, 16)]
        save(f"S{number}", pd.concat(tables))
    for number, right in ((0, 0.7), (3, 0.9)):
        save(f"T{number}", pd.concat([labelled(right, k) for k in (1, 2)]))
