"""Names that more than one module uses: profiles, classes, streams, runs, notebooks, colours.

A name that two modules share is typed here alone. A new stream, condition or notebook also needs
its job in `graph.jobs`; the tables, the figures and the site follow.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

#: Profiles, from the furthest from the paper's settings to the paper's own.
PROFILES = ("quick", "ci", "sample", "paper")
#: Profiles that read real scans, and so need a data folder.
REAL_PROFILES = ("ci", "sample", "paper")

#: Subsets of the images; ``unused`` ones serve no task.
SUBSETS = ("train", "validation", "test")
UNUSED = "unused"
#: Adults without findings whom a network is tested on, and whose source it never learned from.
ADULTS = "adults"
#: Of the test images under R0 those that R1 tests too, which tests no adult normals.
TESTED_BY_R1 = "test images of R1"
#: What identifies a row in every predictions file.
PREDICTION_KEYS = ("image_id", "patient_id", "dataset", "modality", "subset", "label_quality")
#: Whether a training has seen the picture of a row or a copy of it, and a picture of its patient.
SEEN = ("seen_image", "seen_patient")

#: Classes of the recognition task; the two-class task has the first two.
RECOGNITION_CLASSES = ("covid", "normal", "viral", "bacterial")
#: Models of recognition: the head with the paper's settings, and with those validation chose.
HEAD, TUNED = "head", "head, chosen"
#: Classes of the task on X-rays and CT together. On CT, anything but COVID-19 is ``non_covid``.
MULTIMODAL_CLASSES = ("covid", "non_covid")
#: Tasks on X-rays and CT together, and on the same X-rays without the CT images.
BOTH, XRAY_SHARE = "X-ray + CT", "X-ray, as many"
#: Task on CT without X-rays.
CT_ALONE = "CT"
#: Recognition task -> its classes.
RECOGNITION_TASKS = {
    "2 classes": RECOGNITION_CLASSES[:2],
    "4 classes": RECOGNITION_CLASSES,
    BOTH: MULTIMODAL_CLASSES,
    XRAY_SHARE: MULTIMODAL_CLASSES,
    CT_ALONE: MULTIMODAL_CLASSES,
}
#: Manifestations, in the order of their mask labels 1, 2, 3.
MANIFESTATIONS = ("ggo", "consolidation", "effusion")
LABEL_CLASSES = dict(enumerate(MANIFESTATIONS, start=1))
#: Any of the three manifestations: the extent of disease.
LESION = {"lesion": tuple(LABEL_CLASSES)}
#: Name of the average score of the manifestations.
MEAN_OF_LESIONS = "mean of lesions"
#: Columns with the pixels of a mask label that lie outside the crop of a slice.
BEYOND = {label: f"{name}_beyond" for label, name in LABEL_CLASSES.items()}

#: Stream -> names of its classes and the mask labels that count as each; the first is background.
STREAMS = {
    "nodule": {"background": (0,), "nodule": (1,)},
    "all": {"background": (0,), "ggo": (1,), "consolidation": (2,), "effusion": (3,)},
    "ggo": {"background": (0, 2, 3), "ggo": (1,)},
    "consolidation": {"background": (0, 1, 3), "consolidation": (2,)},
    "effusion": {"background": (0, 1, 2), "effusion": (3,)},
}
#: Data sets whose masks show nodules, and those whose masks show manifestations of COVID-19.
NODULE_SETS = ("lidc-idri", "luna16")
LESION_SETS = ("medseg",)
#: Data sets of other hospitals, whose slices never train a network, and the subset that they are.
EXTERNAL_SETS = ("covid-19-ct-seg_20cases", "covid19-ct-external")
EXTERNAL = "external"
#: Data sets that recognition needs: of each group one. Only together do they hold all its classes.
RECOGNITION_SETS = (("covid-chestxray-dataset",), ("chest_xray",))

#: Columns that tell one convention of Dice from another.
CONVENTION = ("average", "background", "empty", "threshold")
#: ``empty``, what a mean does with slices that lack the class: only those that have it count, as in
#: all tables; or a false alarm counts as 0, and an empty case, a slice in which the class is not
#: predicted either, is left out or has a value. Or why there are none to count.
WITH_CLASS = "only slices with the class"
EMPTY_CASES = {"left out": float("nan"), "as 1": 1.0, "as 0": 0.0}
NONE_EMPTY, SUMMED = "none occur", "summed over slices"
#: ``threshold``: the label of each pixel, or Dice averaged over thresholds of the probability.
ONE_THRESHOLD, MANY_THRESHOLDS = "one label a pixel", "mean over 256"

#: Segmentation networks, as tables and figures call them.
NETWORKS = {"deeplab": "DeepLab-v3+", "unet": "U-Net"}

DATA, TASK1, TASK2 = "data", "task1", "task2"
#: Runs that outline slices and are not one stream: three specialists fused, all starts averaged,
#: and the masks that the paper's authors published.
FUSION, STARTS, PUBLISHED = "fusion_deeplab", "starts_deeplab", "published_masks"
#: Run that tests streams on slices of other hospitals.
HOSPITALS = "other_hospitals"
#: Steps of that run, each added to those before it. What precedes `TRAINED` changes how slices are
#: prepared for the networks of the benchmark; from there on, networks are trained anew.
STEPS = {
    "E0": "networks of the benchmark, slices prepared as for the benchmark",
    "E1": "crop to the lung field",
    "E2": "gray scale by landmarks",
    "E3": "lesions only in the lung field",
    "E4": "trained under many gray scales",
    "E5": "phantom slices train too",
    "E6": "several trainings averaged",
    "E7": "the benchmark's test slices train too",
}
TRAINED, SHIPPED = "E4", "E7"
#: Networks of that run -> the start of their weights. What is scored there beside lesions, and the
#: subset of the volumes on which its settings were chosen.
HOSPITAL_NETWORKS = {"small": "nodule", "large": "imagenet"}
LUNG_FIELD, CHOSEN_ON = "lung field", f"{EXTERNAL}, chosen on"
#: Networks that outline nothing and are asked about slices of other hospitals too, and how slices
#: are prepared for them: as in which step.
NEIGHBOURS = {"labels": "Any manifestation (task 2)", "recognition": "COVID-19 (recognition on CT)"}
PREPARATIONS = {"as they are": "E0", "in one gray scale and cropped": "E2"}


def stream_run(stream: str, model: str = "deeplab", init: str = "") -> str:
    """Folder of a stream's run; ``init`` names a start of the weights that is not the usual one."""
    return "_".join(part for part in ("stream", stream, model, init) if part)


#: Conditions under which the same network is trained, to see which step makes a difference: R of
#: recognition on X-rays, M of recognition on CT, S of segmentation, T of the manifestations of a
#: slice. 0 keeps patients apart; docs/protocol.md says what is expected of each.
CONDITIONS = {
    "R0": "patients apart, all sources",
    "R1": "patients apart, all but COVID-19 from the children's set",
    "R2": "images split by the hash of their path",
    "R3": "copies made before the split",
    "R4": "the networks of R3 on patients they never saw",
    "R5": "the last blocks trained too",
    "M0": "COVID-CT, groups of near copies apart",
    "M1": "COVID-CT, copies made before the split",
    "M2": "CT of COVID-19 only, normals on X-rays only",
    "S0": "benchmark split without near copies",
    "S1": "benchmark split with near copies",
    "S2": "slices split at random",
    "S3": "copies made before the split",
    "T0": "benchmark split without near copies",
    "T3": "copies made before the split",
}
#: The condition whose rows belong to others, those that its networks learned from; and conditions
#: in which streams are compared, the one with near copies apart and the paper's.
FINE_TUNED, COMPARED = "R5", ("S0", "S3")


def condition_run(condition: str) -> str:
    """Folder of the run that trains under a condition."""
    return f"condition_{condition}"


def work(row: Mapping[str, object]) -> str:
    """A run that outlines slices in words, from its row of scores.

    Needed are ``run``, ``model``, ``task`` and ``start``; on other hospitals also ``protocol``.
    """
    if row["run"] == PUBLISHED:
        return "EL-Bana 2020, published masks, scored here"
    if row["run"] == FUSION:
        return f"ours, {NETWORKS['deeplab']}, specialists together"
    if row["run"] == STARTS:
        return f"ours, {NETWORKS['deeplab']}, stream all, all starts together"
    words = f"ours, {NETWORKS[row['model']]}, {row['task']}"
    if row["run"] == HOSPITALS:
        large = ", from imagenet" if row["start"] == HOSPITAL_NETWORKS["large"] else ""
        how = "the shipped network" if row["protocol"] == SHIPPED else STEPS[row["protocol"]]
        return f"ours, {NETWORKS[row['model']]}, on other hospitals: {how}{large}"
    usual = row["run"] == stream_run(row["task"].removeprefix("stream "), row["model"])
    return words if usual else f"{words}, from {row['start']}"


#: Notebooks in reading order, and the code that a change of makes them run again: floors of
#: `covid_utils`, or another package.
NOTEBOOKS = {
    "00_overview": ("report",),
    "01_data": ("data",),
    "02_task1_inception": ("data", "models", "training", "covid_read"),
    "03_task2_multilabel": ("data", "models", "training"),
    "04_task3_stream": ("data", "models", "training", "evaluation"),
    "04_task3_together": ("data", "models", "training", "evaluation"),
    "05_tables": ("report",),
    "06_as_published": ("data", "models", "training", "evaluation"),
    "07_other_hospitals": ("data", "models", "training", "evaluation", "covid_read"),
    "08_read_a_scan": ("data", "models", "training", "covid_read"),
}
#: Code that a change of computes the scores again.
SCORES_CODE = ("evaluation",)


def missing_sets(groups: tuple[tuple[str, ...], ...], sets: Container[str]) -> str:
    """What must be added to some data sets so that each group has one, in words; else ''."""
    absent = [" or ".join(of) for of in groups if not any(name.lower() in sets for name in of)]
    noun = "data set" if len(absent) == 1 else "data sets"
    return f"needs the {noun} {' and '.join(absent)}" if absent else ""


#: Colour of text, axes and everything that is not a category.
INK = "#222222"
#: One colour for each category, the same in every figure; heat maps have their own colour scales.
#: Classes and manifestations start from the palette of Okabe and Ito (2008); names that can meet in
#: one figure stay apart for people with any of the three kinds of colour blindness, which a test
#: simulates.
COLOURS = {
    "covid": "#D55E00",
    "normal": "#0072B2",
    "viral": "#009E73",
    "bacterial": "#5A3A1A",
    "non_covid": "#7A4F5A",
    "ggo": "#56B4E9",
    "consolidation": "#E69F00",
    # Darker than the palette's pink, which turns into the grey of soft tissue without red or green.
    "effusion": "#AA3399",
    "nodule": "#F0E442",
    "lesion": "#1E4620",
}
COLOURS |= {"train": "#303030", "validation": "#A68F49", "test": "#7A78F0"}
COLOURS |= {"found": "#8EF06A", "missed": "#3B30D0", "false alarm": "#F53B43"}
COLOURS |= {"ours": "#005A5E", "others": "#8C8C8C", "paper": "#B5122E"}
#: A second sign beside the colour: dashes of a subset's curve, and marks of points.
DASHES = {"train": "-", "validation": (0, (4, 1.2)), "test": (0, (1, 1))}
MARKS = ("o", "s", "^", "D", "v", "P", "X")
#: What keys are called in figures and tables, where that is another word.
NAMES = {
    "covid": "COVID-19",
    "normal": "normal",
    "viral": "viral pneumonia",
    "bacterial": "bacterial pneumonia",
    "non_covid": "not COVID-19",
    "ggo": "ground-glass",
    "consolidation": "consolidation",
    "effusion": "pleural effusion",
    "nodule": "nodule",
    "lesion": "any lesion",
    "all": "all classes",
    "f1": "F1",
}


def name_of(key: str) -> str:
    """What a key is called in figures and tables."""
    return NAMES.get(key, key)
