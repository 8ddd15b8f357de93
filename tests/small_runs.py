"""The runs of a whole profile, made up and small; every table and verdict follows from them."""

import numpy as np
import pandas as pd
from builders import join, manifest

from covid_utils import params, paths, runs
from covid_utils.data.labels import scored_classes
from covid_utils.evaluation import outlines
from covid_utils.evaluation.task_scores import OTHERS, predictions_of
from covid_utils.registry import (
    EXTERNAL,
    EXTERNAL_SETS,
    HOSPITALS,
    LUNG_FIELD,
    RECOGNITION_TASKS,
    STEPS,
    SUBSETS,
)
from covid_utils.training import multilabel
from covid_utils.training.recognition import Task

#: Most claims of the paper are judged from this profile on.
PROFILE = "sample"
#: Seconds of each timed call. The slow ones are not the same of all runs.
EACH = {
    "task1": [0.01] * 15 + [0.02] * 5,
    "task2": [0.03] * 5 + [0.02] * 15,
    "unet": [0.04] * 20,
    "deeplab": [0.05, 0.06] * 10,
}


def seconds(of):
    """Times of a run's one step, as a notebook leaves them."""
    median, p95 = np.percentile(EACH[of], [50, 95])
    facts = {"median": median, "p95": p95, "calls": len(EACH[of]), "each": EACH[of]}
    return {"one image": facts}


def data_rows():
    """Patients of every data set that the tables look at, with subsets."""
    kermany = [
        manifest({f"{label}{i}": 1 for i in range(9)}, "chest_xray", label)
        for label in ("normal", "viral", "bacterial")
    ]
    covid = manifest({f"c{i}": 1 for i in range(12)}, "covid-chestxray-dataset", "covid")
    side = manifest({"c0": 2}, "covid-chestxray-dataset/side", "covid", view="L")
    slices = manifest({f"s{i}": 1 for i in range(12)}, "medseg", "covid", "CT")
    ct = [
        manifest({f"{label}{i}": 1 for i in range(9)}, "covid-ct", label, "CT")
        for label in ("covid", "non_covid")
    ]
    nodules = manifest({"one": 4}, "lidc-idri", "nodule", "CT")
    rows = join(*kermany, covid, side, slices, *ct, nodules)
    rows["subset"] = [SUBSETS[i % 3] for i in range(len(rows))]
    rows.loc[rows["dataset"] == "lidc-idri", "subset"] = "train"
    rows.loc[rows["dataset"] == "medseg", "label_quality"] = ["exact", "weak"] * 6
    return rows


def recognised(rows, names, task, rng, model="head", drawn=True, **marks):
    rows = rows.assign(target=rows["label"].map({n: i for i, n in enumerate(names)}).fillna(1))
    rows = rows.assign(target=rows["target"].astype(int), drawn=drawn)
    noise = rng.random((len(rows), len(names)))
    noise[np.arange(len(rows)), rows["target"]] += 0.4
    shares = noise / noise.sum(axis=1, keepdims=True)
    return Task(task, rows, names, **marks).predictions(shares, model)


def write_task1(rows):
    rng = np.random.default_rng(1)
    xrays = rows[(rows["modality"] == "X-ray") & (rows["view"] != "L")]
    pairs = xrays[xrays["label"].isin(RECOGNITION_TASKS["2 classes"])]
    both = rows[(rows["dataset"] == "covid-ct") | rows.index.isin(pairs.index)]
    found = []
    for task, part in (("2 classes", pairs), ("4 classes", xrays)):
        names = RECOGNITION_TASKS[task]
        found += [recognised(part, names, task, rng, run=run) for run in (1, 2)]
        found.append(recognised(part, names, task, rng, "head, chosen"))
        found += [recognised(part, names, task, rng, m) for m in OTHERS]
    two = ("covid", "non_covid")
    for run in (1, 2, 3):
        drawn = (
            both["modality"].eq("CT") | (both["subset"] != "test") | (rng.random(len(both)) < 0.6)
        )
        found.append(recognised(both, two, "X-ray + CT", rng, run=run, drawn=drawn.to_numpy()))
        found.append(recognised(pairs, two, "X-ray, as many", rng, run=run))
    for rule in ("modality only", "dataset only"):
        found.append(recognised(both, two, "X-ray + CT", rng, rule))
    chosen = {"rate": 0.1, "steps": 300}
    parameters = params.load(PROFILE, "02_task1_inception")
    with runs.record(PROFILE, "task1", parameters, rows) as run:
        run.write_predictions(pd.concat(found))
        run.write_metrics(
            {
                "seconds_per_image": seconds("task1"),
                "chosen": {"2 classes": chosen, "4 classes": chosen},
            }
        )


def write_task2(slices):
    rng = np.random.default_rng(2)
    truth = rng.random((len(slices), 3)) < (0.9, 0.5, 0.3)
    table = multilabel.prediction_table(slices, truth, rng.random(truth.shape))
    parameters = params.load(PROFILE, "03_task2_multilabel")
    with runs.record(PROFILE, "task2", parameters, slices) as run:
        run.write_predictions(table)
        run.write_metrics({"seconds_per_image": seconds("task2"), "shown": 1234})


#: Run -> model, stream and start that its provenance names.
STREAMS = {
    "stream_all_deeplab": ("deeplab", "all", "nodule"),
    "stream_all_deeplab_random": ("deeplab", "all", "random"),
    "stream_all_unet": ("unet", "all", "random"),
    "stream_consolidation_deeplab": ("deeplab", "consolidation", "nodule"),
    "stream_effusion_deeplab": ("deeplab", "effusion", "nodule"),
    "stream_ggo_deeplab": ("deeplab", "ggo", "nodule"),
    "stream_nodule_deeplab": ("deeplab", "nodule", "random"),
    "fusion_deeplab": ("deeplab", "fusion", "nodule"),
    "starts_deeplab": ("deeplab", "all", "all starts"),
}


#: Share of pixels that a run gets right for sure; so that one specialist beats the all-class
#: stream beyond doubt and another falls behind it.
HITS = {"stream_ggo_deeplab": 0.95, "stream_consolidation_deeplab": 0.0}


def outlined(run, slices):
    """Masks of random squares: the same truth for every run, of which each run finds about half."""
    shape, square = (len(slices), 5, 5), np.ones((1, 3, 3), np.uint8)
    truth = np.random.default_rng(3).integers(0, 4, shape, dtype=np.uint8)
    rng = np.random.default_rng(sum(run.encode()))
    share = HITS.get(run, 0.4)
    found = np.where(rng.random(shape) < share, truth, rng.choice([0, 0, 1, 2, 3], shape))
    return np.kron(truth, square), np.kron(found.astype(np.uint8), square)


def write_stream(run, slices, masks=None):
    """A run as its notebook leaves it, from the masks that are true and those that it found."""
    truth, found = masks or outlined(run, slices)
    if run in STREAMS:
        own = dict(zip(("model", "stream", "init"), STREAMS[run], strict=True))
        parameters = params.load(PROFILE, "04_task3_stream") | own
        lesion = np.random.default_rng(4).random(truth.shape)
    else:
        parameters, lesion = {"source": "authors"}, None
    stream = parameters.get("stream", "all")
    classes = scored_classes("all" if stream == "fusion" else stream)
    with runs.record(PROFILE, run, parameters, slices) as made:
        made.write_predictions(outlines.pixel_table(slices, truth, found, classes, lesion))
        times = seconds(parameters.get("model", "deeplab"))
        made.write_metrics({"seconds_per_image": times, "shown": 777})


def ct_rows():
    """The CT slices, with the size of their lungs."""
    rows = data_rows()
    return rows[rows["dataset"] == "medseg"].reset_index(drop=True).assign(lung_pixels=180)


def write_data(rows):
    """The manifest that the runs are said to have been made from."""
    folder = paths.results(PROFILE) / "data"
    folder.mkdir(parents=True)
    rows.to_csv(folder / "manifest.csv", index=False)
    runs.write_json(folder / "provenance.json", {"parameters": {"split": "infnet"}})


def write_all():
    """The runs of every notebook, and the data that they are said to have been made from."""
    rows = data_rows()
    write_data(rows)
    write_task1(rows)
    write_task2(ct_rows())
    nodules = rows[rows["dataset"] == "lidc-idri"].reset_index(drop=True)
    for run in STREAMS:
        write_stream(run, nodules if "nodule" in run else ct_rows())


def external_rows():
    """Two slices of each of nine volumes of other hospitals."""
    volumes = {f"v{number:02d}": 2 for number in range(1, 18, 2)}
    rows = manifest(volumes, EXTERNAL_SETS[1], "covid", "CT")
    return rows.assign(subset=EXTERNAL, lung_pixels=180)


def write_hospitals(steps=tuple(STEPS), chosen_on="v01, v03, v05, v07, v09"):
    """Slices of the benchmark and of other hospitals, of which each step finds more."""
    tested = ct_rows().query("subset == 'test'")
    rows = pd.concat([tested, external_rows()], ignore_index=True)
    rng, tables = np.random.default_rng(8), []
    truth = np.zeros((len(rows), 12, 12), np.uint8)
    truth[1:, 2:9, 2:8] = 1  # the first test slice shows no lesion
    for network, share in (("small", 0.3), ("large", 0.4)):
        for number, step in enumerate(steps):
            if network == "large" and step > "E3":
                continue
            found = np.where(rng.random(truth.shape) < share + number / 20, truth, 0)
            part = rows.index if step != "E7" else rows.index[len(tested) :]
            table = outlines.pixel_table(
                rows.loc[part], truth[part], found[part].astype(np.uint8), scored_classes("all")
            )
            tables.append(table.assign(step=step, network=network))
    field = tables[0].query("`class` == 'lesion' and subset == @EXTERNAL")
    tables.append(field.assign(step="E1", **{"class": LUNG_FIELD}))
    with runs.record(PROFILE, HOSPITALS, {"chosen_on": chosen_on}, rows) as made:
        made.write_predictions(pd.concat(tables, ignore_index=True))
    return pd.concat(tables, ignore_index=True)


def predictions(task, **criteria):
    """Predictions of a task of recognition."""
    return predictions_of(runs.read_predictions(PROFILE, "task1"), task, **criteria)
