"""The nine tables from small synthetic runs: our numbers are ours, the paper's are the ledger's."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from builders import manifest
from small_runs import PROFILE, STREAMS, ct_rows, outlined, write_banded, write_stream

import chest_phantom
from covid_utils import paths, runs
from covid_utils.errors import ResultsError
from covid_utils.evaluation import intervals, scores, task_scores, times
from covid_utils.registry import MANIFESTATIONS, SUBSETS
from covid_utils.report import cells, headlines, recognition_tables, stream_tables, tables
from covid_utils.report import claims as ledger

TWO = {"work": "ours, 2 classes"}
BY_PATIENT = {"split": "by patient", "settings": "published rate and steps"}
NUMBERED = [f"table{number}" for number in range(1, 10)]
SCORED = NUMBERED[1:8]


@pytest.fixture(scope="module")
def stated():
    return ledger.load()


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("COVID_HOME", str(tmp_path))
    return tmp_path


def only(table, **keys):
    """The one row with these keys."""
    rows = runs.select(table, **keys)
    assert len(rows) == 1, f"{keys}: {len(rows)} rows"
    return rows.iloc[0]


def predictions(task, **criteria):
    return task_scores.predictions_of(runs.read_predictions(PROFILE, "task1"), task, **criteria)


def is_quoted(table):
    return table["note"].str.startswith("quoted")


# Files


def test_everything_is_written_whole(built):
    folder = paths.results(PROFILE) / "tables"
    assert list(built) == [*NUMBERED, "verdicts", "scores"]
    files = {f"{name}.{ending}" for name in NUMBERED for ending in ("csv", "md")}
    files |= {"calibration.csv", "conventions.csv"}
    assert {path.name for path in folder.iterdir()} == files
    for name, table in built.items():
        path = folder / f"{name}.csv" if name in NUMBERED else folder.with_name(f"{name}.csv")
        read = pd.read_csv(path, keep_default_na=False)
        assert list(read) == list(table)
        assert len(read) == len(table) > 0
        assert not table.drop(columns="note", errors="ignore").duplicated().any(), name
    pd.testing.assert_frame_equal(
        runs.read_table(PROFILE, "scores"), built["scores"], check_dtype=False
    )
    assert not built["scores"].duplicated(list(scores.KEYS)).any()


def test_a_table_that_fails_leaves_the_written_ones_alone(built, monkeypatch):
    folder = paths.results(PROFILE) / "tables"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def broken(_scored):
        raise ResultsError("no such run")

    monkeypatch.setitem(tables.SCORED, "table9", (broken, ()))
    with pytest.raises(ResultsError):
        tables.write_all(PROFILE)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_missing_run_or_file_is_named_with_the_remedy(elsewhere):
    remedy = rf"results/{PROFILE}/.*make reproduce PROFILE={PROFILE}"
    for part in ("task1", "task2", "streams", "times"):
        with pytest.raises(ResultsError, match=remedy):
            scores.compute(PROFILE, part)
    with pytest.raises(ResultsError, match=rf"results/{PROFILE}/scores.csv: not there yet"):
        runs.read_table(PROFILE, "scores")
    with pytest.raises(ResultsError, match=r"tables/table2.csv: not there yet; 'make reproduce"):
        headlines.collect(PROFILE)


#: What each notebook does with results, after its imports.
WORK = {
    "00_overview": "verdicts.load(PROFILE); headlines.collect(PROFILE)",
    "05_tables": "tables.write_all(PROFILE); dice_conventions.write(PROFILE)",
}


@pytest.mark.parametrize("notebook", WORK)
def test_reading_results_loads_few_modules_and_no_tensorflow(built, notebook):
    cells_ = json.loads((paths.notebooks() / f"{notebook}.ipynb").read_text("utf8"))["cells"]
    lines = [line for c in cells_ if c["cell_type"] == "code" for line in c["source"]]
    code = "".join(line for line in lines if line.startswith(("import ", "from ")))
    code += f"\nimport sys\nPROFILE = '{PROFILE}'\n{WORK[notebook]}\nprint(*sys.modules)\n"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=paths.PROJECT
    )
    loaded = done.stdout.split()
    assert len([name for name in loaded if name.split(".")[0] == "covid_utils"]) <= 20
    assert not {"tensorflow", "keras"} & set(loaded)


def test_scores_are_computed_again_once_a_run_is_newer(built):
    written = paths.results(PROFILE) / "scores.csv"
    before = written.stat().st_mtime_ns
    tables.read_scores(PROFILE, "scores")
    assert written.stat().st_mtime_ns == before
    newer = (before + 10**9,) * 2
    os.utime(paths.results(PROFILE) / "task1" / "predictions.parquet", ns=newer)
    tables.read_scores(PROFILE, "scores")
    assert written.stat().st_mtime_ns > before


# The paper's column


#: Confusion matrices: their errors are counted in Table 3.
CONFUSION = ("Fig 7a", "Fig 7b")


def said_of(claim):
    """What a claim says in a table, and in which unit; None where ours is something else."""
    if claim.unit == "statement":
        return "stated without a number", None
    if claim.id in ("p25a", "p25b"):
        return f"a gain of {claim.value} %", None
    if claim.where in CONFUSION:
        wrong, images = claim.value
        return f"{100 * wrong / images:.2f}", "%"
    return str(claim.value), claim.unit


@pytest.mark.parametrize("name", SCORED)
def test_the_papers_column_is_never_invented(built, stated, name):
    published = ledger.published()
    quoted = {(row.work, f"{row.value:g}", row.claim) for row in published.itertuples()}
    for row in built[name].to_dict("records"):
        if row["paper"] == cells.NOT_AVAILABLE:
            continue
        work = row.get("work", "ours")
        if work.startswith("ours") or " minus " in work:
            claim = stated[row["claim"]]
            said, unit = said_of(claim)
            assert row["paper"] == said
            assert unit in (row["unit"], None)
            in_its_table = name.removeprefix("table") in re.findall(r"Table (\d)", claim.where)
            assert in_its_table or claim.unit == "statement" or claim.where in CONFUSION
        else:
            assert (row["work"], row["paper"], row["claim"]) in quoted
            assert np.isnan(row["ours"])
            assert "not run again" in row["note"]


#: What the paper quotes of Inf-Net, and what it implies for itself.
INF_NET = {("ggo", "dice"): (0.646, "0.911", "41"), ("ggo", "iou"): (0.479, "0.848", "77")}
INF_NET |= {("consolidation", "dice"): (0.238, "0.928", "290")}
INF_NET |= {("consolidation", "iou"): (0.138, "0.828", "500")}


def test_a_gain_is_the_share_by_which_our_score_is_above_that_of_inf_net(built):
    table = built["table7"]
    gains = table[table["metric"].str.endswith(" gain over Inf-Net")]
    assert len(gains) == len(INF_NET) * 4, "pooled and per image, exact labels and all"
    keys = ["class", "work", "average", "labels"]
    for gain in gains.to_dict("records"):
        metric = gain["metric"].removesuffix(" gain over Inf-Net")
        score = only(table, metric=metric, **{name: gain[name] for name in keys})
        base, implied, stated = INF_NET[gain["class"], metric]
        for limit in ("ours", "low", "high"):
            assert gain[limit] == pytest.approx(100 * (score[limit] / base - 1), nan_ok=True)
        assert (gain["n"], gain["unit"], gain["paper"]) == (score["n"], "%", stated)
        assert f"over {base}, the value that the paper quotes" in gain["note"]
        assert score["paper"] == implied
        assert f"paper's value derived: {base} x" in score["note"]
    assert gains["low"].notna().any()
    beside = table[(table["paper"] != cells.NOT_AVAILABLE) & table["work"].str.startswith("ours")]
    streams = {f"ours, DeepLab-v3+, stream {name}" for name in ("ggo", "consolidation")}
    assert set(beside["work"]) == streams, "derived values stand beside their own stream only"


# Recognition


def test_ours_is_what_the_predictions_say(built):
    table = runs.read_predictions(PROFILE, "task1")
    models = {words: model for model, words in recognition_tables.SETTINGS.items()}
    splits = {words: split for split, words in recognition_tables.SPLITS.items()}
    splits["by patient"] = "prepared"
    assert len(built["table2"]) == 3 * 2 * 3 + 2
    for row in built["table2"].to_dict("records"):
        keys = {"subset": row["subset"], "run": 1, "split": splits[row["split"]]}
        keys |= {"task": f"{row['classes']} classes", "model": models[row["settings"]]}
        part = runs.select(table, **keys)
        hits = int((part["truth"] == part["predicted"]).sum())
        assert row["ours"] == pytest.approx(100 * hits / len(part))
        assert row["n"] == len(part)
        assert 0 <= row["low"] <= row["ours"] <= row["high"] <= 100
        wilson = intervals.wilson(hits, len(part))
        assert row["wilson_low"] == pytest.approx(100 * wilson.low)
        assert row["wilson_high"] == pytest.approx(100 * wilson.high)


@pytest.mark.parametrize(
    ("classes", "claim", "paper", "note"),
    [(2, "d05", "0.56", "paper: 3 of 536"), (4, "d06", "1.88", "paper: 18 of 955")],
)
def test_the_error_rate_is_what_accuracy_leaves(built, classes, claim, paper, note):
    keys = {"work": f"ours, {classes} classes", "class": "all"}
    wrong, right = (only(built["table3"], **keys, metric=m) for m in ("error rate", "accuracy"))
    for limit, other in (("ours", "ours"), ("low", "high"), ("high", "low")):
        assert wrong[limit] == pytest.approx(100 - right[other])
    assert (wrong["n"], wrong["unit"]) == (right["n"], "%")
    assert (wrong["claim"], wrong["paper"]) == (claim, paper)
    assert wrong["note"].startswith(f"{note} images; no other number of errors")


def test_the_difference_of_two_models_is_paired(built):
    svm, head = (
        predictions("4 classes", subset="test", model=model).set_index("image_id").sort_index()
        for model in ("linear SVM", "head")
    )
    right, ours = ((one["truth"] == one["predicted"]).to_numpy() for one in (svm, head))
    work = "baseline: linear SVM on the same features, 4 classes, minus ours"
    row = only(built["table3"], work=work)
    assert row["ours"] == pytest.approx(100 * (right.mean() - ours.mean()))
    assert row["low"] <= row["ours"] <= row["high"]
    note = (
        f"only the first right: {(right & ~ours).sum()}, only the second: {(ours & ~right).sum()}"
    )
    assert row["note"].startswith(note)


def test_the_forest_repeats_the_tables(built):
    forest = recognition_tables.rivals(built["scores"], 4).set_index("name")
    assert forest.index[0] == "ours, split by patient"
    assert len(forest) == 1 + 2 + 1 + len(recognition_tables.OTHERS)
    prepared = only(built["table2"], **BY_PATIENT, classes=4, subset="test")
    assert forest.iloc[0].tolist() == pytest.approx(prepared[["ours", "low", "high"]].tolist())
    for words in recognition_tables.OTHERS.values():
        row = only(built["table3"], work=f"{words}, 4 classes", metric="accuracy")
        assert forest.loc[words, "ours"] == pytest.approx(row["ours"])
    assert recognition_tables.stated_accuracy() == {"2 classes": 99.4, "4 classes": 98.1}


def test_table4_means_and_extremes(built):
    table = built["table4"]
    plain = table[table["run"].isin(["1", "2", "3", "mean"])]
    for _, part in plain.groupby("tested on"):
        each, mean = part[part["run"] != "mean"], part[part["run"] == "mean"].iloc[0]
        assert each["run"].tolist() == ["1", "2", "3"]
        assert mean["ours"] == pytest.approx(each["ours"].mean())
        # How far runs lie apart is no interval of their mean, which is no proportion either.
        assert np.isnan([mean["low"], mean["high"], mean["wilson_low"]]).all()
        extremes = f"runs from {each['ours'].min():.1f} to {each['ours'].max():.1f} %; "
        assert mean["note"].startswith(extremes)
        assert f"standard deviation {each['ours'].std():.1f}" in mean["note"]
        drew = "each run on the X-rays that it drew" in mean["note"]
        assert drew == ("X-ray" in mean["tested on"])
    both = table[table["run"] == "1"].set_index("tested on")["n"]
    assert both["X-ray + CT"] == both["X-ray"] + both["CT"]


def test_table4_compares_on_all_test_xrays_and_scores_the_drawn_ones(built):
    table = built["table4"].set_index(["tested on", "run"])
    part = predictions("X-ray + CT", subset="test", run=0)
    xrays = part[part["modality"] == "X-ray"]
    assert 0 < xrays["drawn"].sum() < len(xrays)
    assert table.loc[("X-ray", "1"), "n"] == len(xrays[(xrays["run"] == 1) & xrays["drawn"]])
    alone = predictions("X-ray, as many", subset="test", run=0)
    row = table.loc[("X-ray", "mean, minus as many X-rays alone")]
    right = [100 * (part["truth"] == part["predicted"]) for part in (xrays, alone)]
    assert row["ours"] == pytest.approx(right[0].mean() - right[1].mean())
    assert row["n"] == xrays["image_id"].nunique()
    assert (row["paper"], row["claim"]) == ("stated without a number", "c02")
    single = right[0].groupby(xrays["run"]).mean() - right[1].groupby(alone["run"]).mean()
    assert row["note"].startswith(f"single runs {single.min():.1f} to {single.max():.1f};")
    for rule in ("modality only", "dataset only"):
        assert table.loc[("X-ray + CT", rule), "note"].startswith("baseline: knows")


def changed_task1(monkeypatch, change):
    """Scores of task 1 if its predictions were others."""
    table = change(runs.read_predictions(PROFILE, "task1").copy())
    monkeypatch.setattr(runs, "read_predictions", lambda profile, run: table)
    return scores.compute(PROFILE, "task1")


def test_a_class_in_one_group_gets_no_interval(built, monkeypatch):
    def join_ct(table):
        is_covid_ct = (table["modality"] == "CT") & (table["truth"] == "covid")
        return table.assign(patient_id=table["patient_id"].mask(is_covid_ct, "figure 1"))

    images = predictions("X-ray + CT", subset="test", run=0)
    is_covid_ct = (images["modality"] == "CT") & (images["truth"] == "covid")
    number = images[is_covid_ct]["image_id"].nunique()
    keys = {"tested on": "CT", "run": "1"}
    joined = tables.select("table4", changed_task1(monkeypatch, join_ct))
    unsure, plain = only(joined, **keys), only(built["table4"], **keys)
    assert f"near copies join the {number} CT images of covid into 1" in unsure["note"]
    assert np.isnan(unsure["low"])
    assert plain["low"] < plain["high"]
    assert unsure["ours"] == plain["ours"]


def test_copies_get_no_wilson_interval_and_leave_differences_alone(built, monkeypatch):
    def with_copies(table):
        is_head = (table["model"] == "head") & (table["task"] == "2 classes")
        copies = table[is_head & (table["run"] == 1) & (table["subset"] == "test")]
        return pd.concat([table, copies.assign(image_id=copies["image_id"] + "~1")])

    scored = changed_task1(monkeypatch, with_copies)
    table = tables.select("table3", scored)
    ours, before = (only(t, **TWO, metric="accuracy") for t in (table, built["table3"]))
    assert np.isnan(ours["wilson_low"])
    assert (ours["ours"], ours["n"]) == (pytest.approx(before["ours"]), 2 * before["n"])
    is_difference = table["metric"] == "accuracy difference"
    assert table[is_difference]["ours"].tolist() == pytest.approx(
        built["table3"][is_difference]["ours"].tolist()
    )


def test_calibration_is_fitted_on_validation_and_told_of_the_test(built):
    table = tables.select("calibration", built["scores"])
    assert table.groupby("task")["temperature"].nunique().tolist() == [2, 2]
    test = predictions("4 classes", subset="test")
    of_truth = [row[f"p_{row['truth']}"] for _, row in test.iterrows()]
    plain = only(table, task="4 classes", temperature=1, metric="log loss")
    assert plain["ours"] == pytest.approx(-np.log(of_truth).mean(), rel=1e-5)
    degree = task_scores.temperature(runs.read_predictions(PROFILE, "task1"), "4 classes")
    assert round(degree, 3) in set(table["temperature"])


# Counts


def test_table1_counts_what_the_tasks_use(built):
    table = built["table1"].set_index("task")
    for task, images, paper in (("4 classes", 39, (9618, 955)), ("2 classes", 21, (5219, 536))):
        line = table.loc[f"1: recognition, {task}"]
        assert (line["images"], (line["paper train"], line["paper test"])) == (images, paper)
        counts = predictions(task)["subset"].value_counts()
        assert {name: line[name] for name in SUBSETS} == counts.to_dict()
        assert (line["train after"], line["test after"]) == (counts["train"], counts["test"])
        assert (line["augmentation"], line["grouped by"]) == ("none", "patient")
    segmentation = table.loc["3: segmentation"]
    each_saw = 777 // 3  # of three trainings
    assert segmentation["train after"] == each_saw
    assert segmentation["augmentation"] == "anew at each showing"
    assert table.loc["2: manifestations of a slice", "train after"] == 1234
    assert table.loc["2: manifestations of a slice", "paper train"] == cells.NOT_AVAILABLE


# Segmentation


def dice_of(truth, predicted):
    return 2 * (truth & predicted).sum() / (truth.sum() + predicted.sum())


def of_test(run, quality=None):
    """True and predicted masks of a run's test slices, or of those with these labels."""
    slices = ct_rows()
    wanted = slices["subset"] == "test"
    if quality:
        wanted &= slices["label_quality"] == quality
    return (masks[wanted.to_numpy()] for masks in outlined(run, slices))


def test_segmentation_scores_are_those_of_the_masks(built):
    table = stream_tables.segmentation_scores(built["scores"])
    for run in ("stream_all_deeplab", "stream_all_unet", "fusion_deeplab"):
        run_keys = dict(zip(("model", "stream", "init"), STREAMS[run], strict=True))
        truth, predicted = of_test(run)
        keys = run_keys | {"class": "lesion", "metric": "dice", "subset": "test"}
        pooled = only(table, **keys, average="pooled")
        assert pooled["value"] == pytest.approx(dice_of(truth > 0, predicted > 0))
        assert pooled["n"] == 4
        each = [dice_of(t > 0, p > 0) for t, p in zip(truth, predicted, strict=True)]
        mean = only(table, **keys, average="per_image")
        assert mean["value"] == pytest.approx(np.mean(each))
        keys = run_keys | {"class": "ggo", "metric": "dice", "average": "pooled"}
        scopes = (("test", "exact", 2), ("test, weak labels among them", None, 4))
        for subset, quality, n in scopes:
            truth, predicted = of_test(run, quality)
            row = only(table, **keys, subset=subset)
            assert row["value"] == pytest.approx(dice_of(truth == 1, predicted == 1))
            assert row["n"] == n
    is_lesion = table["class"] == "lesion"
    assert set(table[is_lesion]["subset"]) == {"test"}
    measures = {"dice", "iou", "hd95", "volume_error", "dice_thresholds"}
    assert set(table[is_lesion]["metric"]) == measures


def test_weak_labels_are_told(built):
    for name in ("table6", "table7"):
        table = built[name]
        ours = table[table["ours"].notna()]
        weak = ours["note"].str.contains("weak labels")
        lesion = ours["class"].eq("lesion")
        # Four test slices; the classes are exact on two of them, the extent on all.
        assert set(ours[weak]["n"]) <= {3, 4}
        assert set(ours[~weak & ~lesion]["n"]) <= {1, 2}
        assert weak.any()
        assert not (weak & lesion).any()


def test_literature_on_the_same_benchmark_stands_before_all_other(built):
    seen = 0
    parts = [part for _, part in built["table7"].groupby("class", sort=False)]
    for part in (*parts, built["table8"]):
        quoted = is_quoted(part).to_numpy()
        assert not quoted[: (~quoted).sum()].any(), "ours come first"
        is_fair = part[quoted]["note"].str.contains("Inf-Net benchmark").to_numpy()
        assert is_fair[: is_fair.sum()].all()
        seen += (~is_fair).sum()
        expected = np.where(is_fair, "per_image", cells.NOT_AVAILABLE)
        assert part[quoted]["average"].tolist() == expected.tolist()
    assert seen, "there is other literature to stand behind"
    assert not built["table7"]["work"].str.contains("implied").any()


def test_table8_has_every_measure_of_the_extent_with_its_unit(built):
    table = built["table8"]
    ours = runs.select(table, work="ours, DeepLab-v3+, stream all")
    expected = [(name, average) for (_, average), name in stream_tables.MEASURES.items()]
    assert list(zip(ours["metric"], ours["average"], strict=True)) == expected
    units = dict(zip(ours["metric"], ours["unit"], strict=True))
    measures = ("95 % Hausdorff distance", "absolute error of the extent")
    assert [units[name] for name in measures] == ["% of side", "% of lung"]
    for metric, claim, gain in (("dice", "p25b", "4"), ("iou", "p25a", "7")):
        rows = runs.select(ours, metric=metric)
        assert set(rows["claim"]) == {claim}
        assert set(rows["paper"]) == {f"a gain of {gain} %"}
        assert set(rows["note"]) == {"the paper states a gain and no value"}
    others = table[table["work"] != "ours, DeepLab-v3+, stream all"]
    assert not {"p25a", "p25b"} & set(others["claim"])
    assert set(others["paper"][~is_quoted(others)]) == {cells.NOT_AVAILABLE}


def test_the_authors_masks_are_scored_by_the_same_code_where_they_are(built):
    name = "EL-Bana 2020, published masks, scored here"
    slices = ct_rows().drop(columns="lung_pixels").assign(subset="published")
    masks = outlined("published_masks", slices)
    try:
        write_stream("published_masks", slices, masks)
        scored = scores.compute(PROFILE, "streams")
    finally:
        shutil.rmtree(paths.results(PROFILE) / "published_masks", ignore_errors=True)
    assert name not in set(tables.select("table6", scored)["work"])
    truth, predicted = masks
    exact = (slices["label_quality"] == "exact").to_numpy()
    for index, label in enumerate(MANIFESTATIONS, start=1):
        keys = {"work": name, "class": label, "metric": "dice", "average": "pooled"}
        row = only(tables.select("table7", scored), **keys, labels="exact")
        expected = dice_of(truth[exact] == index, predicted[exact] == index)
        assert (row["ours"], row["paper"]) == (pytest.approx(expected), cells.NOT_AVAILABLE)
    theirs = runs.select(tables.select("table8", scored), work=name)
    row = only(theirs, metric="dice", average="pooled")
    assert row["ours"] == pytest.approx(dice_of(truth > 0, predicted > 0))
    # They come without a probability, and without a lung field at their size.
    assert set(theirs["metric"]) == {"dice", "iou", "95 % Hausdorff distance"}
    kept = runs.select(stream_tables.segmentation_scores(scored), model="published_masks")
    known = {"270 published images", "270 published images, weak labels among them"}
    assert (set(kept["subset"]), set(kept["split"])) == (known, {"after augmentation"})


#: Run -> how many of ten columns of each lesion it finds, slice by slice.
KEPT = {
    "stream_all_deeplab": (5, 6, 7, 5, 6),
    "stream_all_deeplab_random": (3, 4, 4, 2, 5),
    "stream_all_unet": (7, 8, 9, 9, 7),
    "stream_ggo_deeplab": (9, 10, 8, 9, 10),
    "stream_consolidation_deeplab": (5, 4, 3, 4, 5),
    "stream_effusion_deeplab": (8, 8, 9, 10, 8),
    "fusion_deeplab": (9, 9, 9, 8, 10),
}
COMPARED = [
    *((f"stream_{name}_deeplab", "stream_all_deeplab", name, "c01") for name in MANIFESTATIONS),
    *(("fusion_deeplab", "stream_all_deeplab", n, "c01") for n in (*MANIFESTATIONS, "lesion")),
    ("stream_all_deeplab", "stream_all_deeplab_random", "lesion", "c03"),
    ("stream_all_deeplab", "stream_all_unet", "lesion", "c04"),
    ("stream_all_deeplab_random", "stream_all_unet", "lesion", "c04"),
]


def differences():
    table = tables.select("table6", scores.compute(PROFILE, "streams"))
    return runs.select(table, metric="dice difference").to_dict("records")


def test_differences_are_the_first_minus_the_second(elsewhere):
    write_banded(KEPT)
    rows = differences()
    assert [row["average"] for row in rows] == ["pooled", "per_image"] * len(COMPARED)
    for (first, second, name, claim), *pair in zip(COMPARED, rows[::2], rows[1::2], strict=True):
        kept = [np.array(KEPT[run]) for run in (first, second)]
        pooled = [2 * columns.sum() / (columns.sum() + 50) for columns in kept]
        each = 2 * kept[0] / (kept[0] + 10) - 2 * kept[1] / (kept[1] + 10)
        for row, expected in zip(pair, (pooled[0] - pooled[1], each.mean()), strict=True):
            assert (row["source_run"], row["class"]) == (f"{first}, {second}", name)
            assert row["ours"] == pytest.approx(expected)
            assert row["low"] < row["ours"] < row["high"]
            assert (row["n"], row["labels"], row["claim"]) == (5, "exact", claim)
    signs = {row["work"]: np.sign(row["ours"]) for row in rows}
    assert signs["DeepLab-v3+, stream all minus U-Net, stream all"] == -1
    assert signs["DeepLab-v3+, stream all minus DeepLab-v3+, stream all, from random"] == 1
    assert signs["DeepLab-v3+, specialists together minus DeepLab-v3+, stream all"] == 1


def test_a_difference_has_limits_only_where_a_score_would_have_them(elsewhere):
    same = dict.fromkeys(("stream_all_deeplab", "stream_all_unet"), (5,) * 5)
    different = {run: KEPT[run] for run in ("stream_effusion_deeplab", "stream_ggo_deeplab")}
    write_banded(same | different, shown=(5, 5, 2))
    rows = {(row["class"], row["average"]): row for row in differences()}
    for average in ("pooled", "per_image"):
        # Two networks that never differ, and a class that two patients show.
        assert rows["lesion", average]["ours"] == 0
        for name in ("lesion", "effusion"):
            assert np.isnan([rows[name, average][limit] for limit in ("low", "high")]).all()
        assert rows["ggo", average]["low"] < rows["ggo", average]["high"]


def test_segmentation_scores_have_one_row_per_score_of_every_run(built):
    table = pd.read_csv(paths.results(PROFILE) / "segmentation_scores.csv")
    keys = ["model", "stream", "init", "split", "subset", "class", "metric", "average"]
    assert list(table) == [*keys, "value", "low", "high", "n"]
    # Of the nodules none is held out, so there is nothing to score.
    expected = {key for run, key in STREAMS.items() if "nodule" not in run}
    assert set(zip(table["model"], table["stream"], table["init"], strict=True)) == expected
    assert set(table["subset"]) == {"test", "test, weak labels among them"}
    assert not table[keys].duplicated().any()


# Times


def each_call(run):
    return runs.read_metrics(PROFILE, run)["seconds_per_image"]["one image"]["each"]


def test_table9_has_each_stage_the_pipeline_and_the_machine(built):
    table = built["table9"].set_index("stage")
    wholes = [f"whole pipeline, one {of}" for of in ("X-ray", "CT slice", "case of CT")]
    assert table.index.tolist() == [*times.STAGES, *wholes]
    for stage, run in times.STAGES.items():
        row = table.loc[stage]
        assert row["ours"] == pytest.approx(np.median(each_call(run)))
        assert row["p95 [s]"] == pytest.approx(np.percentile(each_call(run), 95))
        assert (row["source_run"], row["step"]) == (run, "one image")
    assert (table["low"] <= table["ours"]).all()
    assert (table["ours"] <= table["high"]).all()
    assert set(zip(table["n"], table["unit"], strict=True)) == {(20, "s")}
    assert set(table["note"]) == {runs.read_provenance(PROFILE, "task1")["processor"]}
    case = table.loc["whole pipeline, one CT slice"]
    assert (case["paper"], case["claim"]) == ("-60 % of readers' time", "p26")
    assert set(table.drop("whole pipeline, one CT slice")["claim"]) == {""}


def test_a_case_of_ct_has_the_slices_of_a_test_patient_on_average(built, monkeypatch):
    slices = manifest({"a": 4, "b": 1, "c": 9}, "medseg", "covid", "CT")
    slices = slices.assign(subset=["test"] * 5 + ["train"] * 9)
    monkeypatch.setattr(times, "saved_manifest", lambda profile: slices)
    table = tables.select("table9", scores.compute(PROFILE, "times")).set_index("stage")
    one, case = (table.loc[f"whole pipeline, one {of}"] for of in ("CT slice", "case of CT"))
    for name in ("ours", "low", "high", "p95 [s]"):
        assert case[name] == pytest.approx(2.5 * one[name])
    assert (one["step"], case["step"]) == ("stages in turn", "stages in turn, 2.5 slices a case")


# Remarks and origins


def test_our_numbers_on_the_phantom_are_marked_and_only_those(built):
    path = paths.results(PROFILE) / "data" / "manifest.csv"
    scans = path.read_bytes()
    try:
        pd.read_csv(path).assign(licence=chest_phantom.LICENCE).to_csv(path, index=False)
        marked = tables.build("table7", PROFILE, built["scores"])
    finally:
        path.write_bytes(scans)
    is_marked = marked["note"].str.startswith("on the phantom")
    assert is_marked.equals(marked["ours"].notna())
    assert 0 < is_marked.sum() < len(marked)
    assert not built["table7"]["note"].str.contains("phantom").any()


def test_a_run_that_learned_from_validation_slices_says_so(built):
    path = paths.results(PROFILE) / "stream_all_deeplab" / "provenance.json"
    written = path.read_bytes()
    provenance = json.loads(written)
    provenance["parameters"]["refit"] = True
    try:
        path.write_text(json.dumps(provenance))
        table = tables.build("table6", PROFILE, built["scores"])
    finally:
        path.write_bytes(written)
    taught = table["note"].str.contains("validation slices taught as well")
    expected = table["source_run"].map(lambda names: "stream_all_deeplab" in cells.sources(names))
    assert taught.equals(expected)
    assert 0 < taught.sum() < len(taught)
    assert not built["table6"]["note"].str.contains("taught").any()


def test_slice_scores_say_how_far_patients_are_known():
    subsets = ["train", "train", "test", "test", "validation"]
    slices = manifest({f"s{i}": 1 for i in range(5)}, "medseg", "covid", "CT")
    slices = slices.assign(subset=subsets, patient_basis="none")
    assert tables.unsure_of_patients(slices.assign(patient_basis="given")) == []
    assert "kept together" in tables.unsure_of_patients(slices)[0]
    shared = slices.assign(patient_id=["a", "b", "a", "c", "d"])
    assert "near copies of test slices left out" in tables.unsure_of_patients(shared)[0]


def test_every_number_names_the_runs_that_it_was_computed_from(built):
    there = {path.parent.name for path in paths.results(PROFILE).glob("*/provenance.json")}
    for name in (*SCORED, "table9"):
        table = built[name]
        is_ours = table["n"] > 0
        assert (table["source_run"][~is_ours] == "").all(), name
        sources = table["source_run"][is_ours].map(cells.sources)
        assert {run for names in sources for run in names} <= there, name
        # Differences of two runs, and the pipeline of three.
        expected = {"table6": {1, 2}, "table9": {1, 3}}.get(name, {1})
        assert set(sources.map(len)) == expected, name


# Headline numbers


def test_headlines_repeat_the_tables(built):
    table = headlines.collect(PROFILE).set_index("question")
    entries = yaml.safe_load(paths.headlines().read_text(encoding="utf8"))
    asked = [entry["question"] for entry in entries if not entry.get("optional")]
    assert list(table.index) == asked
    two = only(built["table2"], **BY_PATIENT, subset="test", classes=2)
    line = table.loc["COVID-19 or normal, X-ray"]
    assert line["ours"] == pytest.approx(two["ours"], rel=1e-4)
    assert (line["n"], line["paper"], line["claim"]) == (two["n"], "99.4", "p01")
    text = headlines.markdown(PROFILE)
    assert text.count("\n") == sum("readme" in entry for entry in entries) + 1
    assert "nan" not in text.lower()
    assert f"| 99.4 % | {two['verdict']} |" in text.splitlines()[2]
