"""The nine tables from small synthetic runs: our numbers are ours, the paper's are the ledger's."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from builders import class_predictions, manifest
from small_runs import PROFILE, STREAMS, ct_rows, outlined, write_stream

import chest_phantom
from covid_utils import paths, runs
from covid_utils.errors import ResultsError
from covid_utils.evaluation import calibration, intervals, stream_scores
from covid_utils.registry import MANIFESTATIONS
from covid_utils.report import cells, headlines, recognition_tables, stream_tables, tables
from covid_utils.report import claims as ledger


@pytest.fixture(scope="module")
def stated():
    return ledger.load()


TWO = {"work": "ours, 2 classes"}
BY_PATIENT = {"split": "by patient", "settings": recognition_tables.PUBLISHED}
SCORED = [f"table{number}" for number in range(2, 9)]


def test_all_nine_are_written_whole(built):
    folder = paths.results(PROFILE) / "tables"
    names = [f"table{number}" for number in range(1, 10)]
    assert list(built) == [*names, "verdicts"]
    files = {f"{name}.{ending}" for name in names for ending in ("csv", "md", "html")}
    assert {path.name for path in folder.iterdir()} == files
    for name, table in built.items():
        path = folder / f"{name}.csv" if name in names else folder.with_name("verdicts.csv")
        read = pd.read_csv(path, keep_default_na=False)
        assert list(read) == list(table)
        assert len(read) == len(table) > 0
        assert not table.drop(columns="note", errors="ignore").duplicated().any(), name


@pytest.mark.parametrize("name", sorted(tables.TITLES))
def test_a_document_has_the_title_and_every_row_of_its_table(built, name):
    folder = paths.results(PROFILE) / "tables"
    page, text = ((folder / f"{name}.{end}").read_text("utf8") for end in ("html", "md"))
    assert text.startswith(f"# {tables.TITLES[name]}\n\n| ")
    assert f"<caption>{tables.TITLES[name]}</caption>" in page
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(lines) == 2 + len(built[name])
    assert page.count("<tr") == 1 + len(built[name])
    assert f"Profile `{PROFILE}`." in text
    assert f"<code>{PROFILE}</code>" in page


def test_every_claim_is_in_the_ledger(built, stated):
    for name, table in built.items():
        strange = set(table["id" if name == "verdicts" else "claim"]) - set(stated) - {""}
        assert not strange, f"{name}: {strange}"


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
    quoted = {
        (row["work"], f"{row['value']:g}", row["claim"]) for _, row in ledger.published().iterrows()
    }
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


@pytest.mark.parametrize(
    ("name", "keys", "paper"),
    [
        ("table2", BY_PATIENT | {"classes": 2, "subset": "test"}, "99.4"),
        ("table2", BY_PATIENT | {"classes": 2, "subset": "train"}, "98.84"),
        ("table2", BY_PATIENT | {"classes": 4, "subset": "validation"}, "97.71"),
        ("table2", BY_PATIENT | {"classes": 4, "subset": "test"}, "98.1"),
        (
            "table2",
            {"settings": "chosen on validation", "classes": 4},
            cells.NOT_AVAILABLE,
        ),
        ("table3", TWO | {"metric": "accuracy"}, "99.4"),
        ("table3", {"work": "ours, 4 classes", "metric": "accuracy"}, cells.NOT_AVAILABLE),
        (
            "table3",
            {"work": "ours, 2 classes", "class": "covid", "metric": "f1"},
            cells.NOT_AVAILABLE,
        ),
        ("table4", {"tested on": "X-ray + CT", "run": "mean"}, "99.5"),
        ("table4", {"tested on": "CT", "run": "mean"}, cells.NOT_AVAILABLE),
    ],
)
def test_the_papers_numbers_stand_where_they_belong(built, name, keys, paper):
    table = built[name]
    rows = table[np.logical_and.reduce([table[k] == v for k, v in keys.items()])]
    assert rows["paper"].tolist() == [paper]


def test_the_papers_derived_dice_stands_beside_its_own_stream_only(built):
    table = built["table7"]
    ours = table[table["work"].str.startswith("ours") & (table["paper"] != cells.NOT_AVAILABLE)]
    streams = {f"ours, DeepLab-v3+, stream {name}" for name in ("ggo", "consolidation")}
    assert set(ours["work"]) == streams
    found = set(zip(ours["class"], ours["metric"], ours["paper"], strict=True))
    assert found == {
        ("ggo", "dice", "0.911"),
        ("ggo", "iou", "0.848"),
        ("consolidation", "dice", "0.928"),
        ("consolidation", "iou", "0.828"),
        ("ggo", "dice gain over Inf-Net", "41"),
        ("ggo", "iou gain over Inf-Net", "77"),
        ("consolidation", "dice gain over Inf-Net", "290"),
        ("consolidation", "iou gain over Inf-Net", "500"),
    }
    is_gain = ours["metric"].str.endswith("gain over Inf-Net")
    assert ours["note"][~is_gain].str.contains("paper's value derived: 0").all()
    assert ours["note"][is_gain].str.contains("over 0.*, the value that the paper quotes").all()


#: What the paper quotes of Inf-Net.
INF_NET = {
    ("ggo", "dice"): 0.646,
    ("ggo", "iou"): 0.479,
    ("consolidation", "dice"): 0.238,
    ("consolidation", "iou"): 0.138,
}


def test_a_gain_is_the_share_by_which_our_score_is_above_that_of_inf_net(built):
    table = built["table7"]
    gains = table[table["metric"].str.endswith(" gain over Inf-Net")]
    assert len(gains) == len(INF_NET) * 4, "pooled and per image, exact labels and all"
    keys = ["class", "work", "average", "labels"]
    for gain in gains.to_dict("records"):
        metric = gain["metric"].removesuffix(" gain over Inf-Net")
        score = only(table, metric=metric, **{name: gain[name] for name in keys})
        base = INF_NET[gain["class"], metric]
        for limit in ("ours", "low", "high"):
            expected = 100 * (score[limit] / base - 1)
            assert gain[limit] == pytest.approx(expected, nan_ok=True)
        assert (gain["n"], gain["unit"]) == (score["n"], "%")
        assert f"over {base}, " in gain["note"]
    assert gains["low"].notna().any()


def test_ours_is_what_the_predictions_say(built):
    found = runs.read_predictions(PROFILE, "task1")
    models = {recognition_tables.PUBLISHED: "head", "chosen on validation": "head, chosen"}
    splits = {said: split for split, said in recognition_tables.SPLITS.items()}
    splits["by patient"] = "prepared"
    assert len(built["table2"]) == 3 * 2 * 3 + 2
    for row in built["table2"].to_dict("records"):
        part = found[
            (found["task"] == f"{row['classes']} classes")
            & (found["subset"] == row["subset"])
            & (found["model"] == models[row["settings"]])
            & (found["split"] == splits[row["split"]])
            & (found["run"] == 1)
        ]
        hits = int((part["truth"] == part["predicted"]).sum())
        assert row["ours"] == pytest.approx(100 * hits / len(part))
        assert row["n"] == len(part)
        assert 0 <= row["low"] <= row["ours"] <= row["high"] <= 100
        wilson = intervals.wilson(hits, len(part))
        assert row["wilson_low"] == pytest.approx(100 * wilson.low)
        assert row["wilson_high"] == pytest.approx(100 * wilson.high)


def test_table2_tells_the_seeds_and_the_chosen_setting(built):
    found = recognition_tables.predictions_of(PROFILE, "4 classes", "test", run=0)
    each = 100 * (found["truth"] == found["predicted"]).groupby(found["run"]).mean()
    table = built["table2"]
    wanted = BY_PATIENT | {"subset": "test", "classes": 4}
    said = table[np.logical_and.reduce([table[k] == v for k, v in wanted.items()])]["note"].item()
    spread = f"{each.min():.1f} to {each.max():.1f} %"
    assert said == f"2 seeds of weights and batches: {spread}"
    chosen = table[table["settings"] == "chosen on validation"]
    assert chosen["note"].tolist() == ["rate 0.1, 300 steps"] * 2


def test_table3_has_every_class(built):
    table = built["table3"]
    four = table[table["work"] == "ours, 4 classes"]
    assert set(four["class"]) == {"all", "macro", *tables.CLASSES[4]}
    for named in tables.CLASSES[4]:
        metrics = set(four[four["class"] == named]["metric"])
        assert metrics == {"sensitivity", "specificity", "precision", "f1", "mcc"}
    # Wilson's interval is of a proportion of images; no other score gets it.
    with_wilson = table[table["wilson_low"].notna()]
    assert set(with_wilson["metric"]) == {"accuracy"}


@pytest.mark.parametrize(
    ("classes", "claim", "paper", "said"),
    [(2, "d05", "0.56", "paper: 3 of 536"), (4, "d06", "1.88", "paper: 18 of 955")],
)
def test_the_error_rate_is_what_accuracy_leaves(built, classes, claim, paper, said):
    key = {"work": f"ours, {classes} classes", "class": "all"}
    wrong, right = (only(built["table3"], **key, metric=m) for m in ("error rate", "accuracy"))
    for limit, other in (("ours", "ours"), ("low", "high"), ("high", "low")):
        assert wrong[limit] == pytest.approx(100 - right[other])
    assert wrong["low"] < wrong["ours"] < wrong["high"]
    assert (wrong["n"], wrong["unit"]) == (right["n"], "%")
    assert (wrong["claim"], wrong["paper"]) == (claim, paper)
    assert wrong["note"].startswith(f"{said} images; no other number of errors")


def test_every_rival_is_in_table3(built):
    table = built["table3"]
    for said in recognition_tables.OTHERS.values():
        assert {f"{said}, 2 classes", f"{said}, 4 classes, minus ours"} <= set(table["work"])


def test_a_rivals_difference_is_paired(built):
    rival, head = (
        recognition_tables.predictions_of(PROFILE, "4 classes", "test", model)
        .set_index("image_id")
        .sort_index()
        for model in ("linear SVM", "head")
    )
    right, ours = ((one["truth"] == one["predicted"]).to_numpy() for one in (rival, head))
    table = built["table3"].set_index("work")
    row = table.loc["baseline: linear SVM on the same features, 4 classes, minus ours"]
    assert row["ours"] == pytest.approx(100 * (right.mean() - ours.mean()))
    only = (
        f"only the first right: {(right & ~ours).sum()}, only the second: {(ours & ~right).sum()}"
    )
    assert row["note"].startswith(only)
    assert row["low"] <= row["ours"] <= row["high"]


def test_table1_counts_what_the_tasks_use(built):
    table = built["table1"].set_index("task")
    four = table.loc["1: recognition, 4 classes"]
    assert (four["images"], four["paper train"], four["paper test"]) == (39, 9618, 955)
    two = table.loc["1: recognition, 2 classes"]
    assert (two["images"], two["paper train"], two["paper test"]) == (21, 5219, 536)
    for line, task in ((four, "4 classes"), (two, "2 classes")):
        counts = recognition_tables.predictions_of(PROFILE, task)["subset"].value_counts()
        assert {name: line[name] for name in recognition_tables.SUBSETS} == counts.to_dict()
        assert (line["train after"], line["test after"]) == (counts["train"], counts["test"])
        assert (line["augmentation"], line["grouped by"]) == ("none", "patient")
    segmentation = table.loc["3: segmentation"]
    assert (segmentation["train after"], segmentation["augmentation"]) == (
        777 // 3,  # each of three trainings saw its share
        "anew at each showing",
    )
    assert table.loc["2: manifestations of a slice", "train after"] == 1234
    assert table.loc["2: manifestations of a slice", "paper train"] == cells.NOT_AVAILABLE


def test_the_counts_that_the_paper_states_are_cells_of_their_own(built):
    table = built["table1"].set_index("task")
    found = tables.counts(built["table1"])
    assert list(found) == ["task", *cells.VALUES]
    runs_of = {"p10": "stream_all_deeplab", "p11": "task1", "p12": "task1"}
    assert set(zip(found["claim"], found["source_run"], strict=True)) == set(runs_of.items())
    for row in found.to_dict("records"):
        subset = row["metric"].removeprefix("images, ")
        assert row["ours"] == table.loc[row["task"], f"{subset} after"]
        assert row["paper"] == table.loc[row["task"], f"paper {subset}"]
        assert row["unit"] == "images"
        assert np.isnan(row["low"])
    assert len(found) == 2 * len(runs_of)


def test_table1_counts_fixed_copies(monkeypatch):
    names = ["a", "a~1", "a~2", "b", "c", "c~1"]
    subsets = ["train"] * 3 + ["validation"] + ["test"] * 2
    # Several classes a slice, as in the pixel tables.
    found = pd.DataFrame({"image_id": names * 2, "subset": subsets * 2})
    monkeypatch.setattr(runs, "read_predictions", lambda profile, run: found)
    after = tables._augmented("paper", "3: segmentation")
    assert after == {"train after": 3, "test after": 2, "augmentation": "fixed copies"}


def test_table4_means_and_extremes(built):
    table = built["table4"]
    plain = table[table["run"].isin(["1", "2", "3", "mean"])]
    for _, part in plain.groupby("tested on"):
        each, mean = part[part["run"] != "mean"], part[part["run"] == "mean"].iloc[0]
        assert each["run"].tolist() == ["1", "2", "3"]
        assert mean["ours"] == pytest.approx(each["ours"].mean())
        # How far runs lie apart is no interval of their mean.
        assert np.isnan([mean["low"], mean["high"]]).all()
        extremes = f"runs from {each['ours'].min():.1f} to {each['ours'].max():.1f} %; "
        assert mean["note"].startswith(extremes)
        assert f"standard deviation {each['ours'].std():.1f}" in mean["note"]
        assert np.isnan(mean["wilson_low"]), "a mean of runs is no proportion"
        if "X-ray" in mean["tested on"]:
            assert "each run on the X-rays that it drew" in mean["note"]
    both = table[table["run"] == "1"].set_index("tested on")["n"]
    assert both["X-ray + CT"] == both["X-ray"] + both["CT"]


def test_table4_compares_on_all_test_xrays_and_scores_the_drawn_ones(built):
    table = built["table4"].set_index(["tested on", "run"])
    found = recognition_tables.predictions_of(PROFILE, "X-ray + CT", "test", run=0)
    xrays = found[found["modality"] == "X-ray"]
    assert 0 < xrays["drawn"].sum() < len(xrays)
    first = xrays[(xrays["run"] == 1) & xrays["drawn"]]
    assert table.loc[("X-ray", "1"), "n"] == len(first)
    alone = recognition_tables.predictions_of(PROFILE, "X-ray, as many", "test", run=0)
    row = table.loc[("X-ray", "mean, minus as many X-rays alone")]
    shares = [100 * (part["truth"] == part["predicted"]).mean() for part in (xrays, alone)]
    assert row["ours"] == pytest.approx(shares[0] - shares[1])
    assert row["n"] == xrays["image_id"].nunique()
    assert (row["paper"], row["claim"]) == ("stated without a number", "c02")
    each = [
        100 * (part["truth"] == part["predicted"]).groupby(part["run"]).mean()
        for part in (xrays, alone)
    ]
    single = each[0] - each[1]
    assert row["note"].startswith(f"single runs {single.min():.1f} to {single.max():.1f};")
    for rule in ("modality only", "dataset only"):
        assert table.loc[("X-ray + CT", rule), "note"].startswith("baseline: knows")


def test_a_class_in_one_group_gets_no_interval(built):
    found = recognition_tables.predictions_of(PROFILE, "X-ray + CT", "test", run=0)
    is_covid_ct = (found["modality"] == "CT") & (found["truth"] == "covid")
    joined = found.assign(patient_id=found["patient_id"].mask(is_covid_ct, "figure 1"))
    plain, unsure = (recognition_tables._runs(part, "CT") for part in (found, joined))
    images = found[is_covid_ct]["image_id"].nunique()
    for row in unsure:
        assert f"near copies join the {images} CT images of covid into 1" in row["note"]
    assert np.isnan(unsure[0]["low"])
    assert plain[0]["low"] < plain[0]["high"]
    assert unsure[0]["ours"] == plain[0]["ours"]


def test_copies_get_no_wilson_interval_and_leave_differences_alone():
    names = ["a", "b", "a~1", "b~1"]
    truth, said = ["covid", "normal"] * 2, ["covid", "normal", "normal", "normal"]
    rows = class_predictions(truth, said).assign(image_id=names)
    score = recognition_tables._accuracy(rows, tables.CLASSES[2])
    made = recognition_tables._cell("accuracy", score)
    assert (made["ours"], made["n"]) == (75, 4)
    assert np.isnan(made["wilson_low"])
    alone = recognition_tables._cell(
        "accuracy", recognition_tables._accuracy(rows[:2], tables.CLASSES[2])
    )
    assert alone["wilson_low"] == pytest.approx(100 * intervals.wilson(2, 2).low)
    rival = class_predictions(truth[:2], ["normal", "normal"]).assign(image_id=names[:2])
    difference = recognition_tables._difference(rows, rival)
    assert (difference["ours"], difference["n"], difference["unit"]) == (50, 2, "points")


def test_calibration_is_fitted_on_validation_and_told_of_the_test(built):
    table = recognition_tables.calibration_table(PROFILE)
    assert table.groupby("task")["temperature"].nunique().tolist() == [2, 2]
    names = tables.CLASSES[4]
    test = recognition_tables.predictions_of(PROFILE, "4 classes", "test")
    of_truth = [row[f"p_{row['truth']}"] for _, row in test.iterrows()]
    plain = table[(table["task"] == "4 classes") & (table["temperature"] == 1)]
    loss = plain[plain["metric"] == "log loss"]["ours"].item()
    assert loss == pytest.approx(-np.log(of_truth).mean(), rel=1e-5)
    watched = recognition_tables.predictions_of(PROFILE, "4 classes", "validation")
    degree = recognition_tables.temperature(PROFILE, "4 classes", names)
    assert degree == calibration.fit_temperature(*recognition_tables.shares(watched, names))


def test_table6_says_that_nothing_was_held_out(built):
    table = built["table6"]
    nodule = table[table["work"] == "ours, DeepLab-v3+, stream nodule"]
    assert nodule["ours"].isna().all()
    assert nodule["note"].str.contains("too few patients to hold one out").tolist() == [True]


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


def dice_of(truth, found):
    return 2 * (truth & found).sum() / (truth.sum() + found.sum())


def of_test(run, chosen=None):
    """True and found masks of a run's test slices, or of those with these labels."""
    slices = ct_rows()
    wanted = slices["subset"] == "test"
    if chosen:
        wanted &= slices["label_quality"] == chosen
    return (masks[wanted.to_numpy()] for masks in outlined(run, slices))


def only(table, **keys):
    """The one row with these keys."""
    rows = table[np.logical_and.reduce([table[k] == v for k, v in keys.items()])]
    assert len(rows) == 1, f"{keys}: {len(rows)} rows"
    return rows.iloc[0]


def test_the_file_of_all_segmentation_scores_has_these_columns_and_every_run(built):
    path = paths.results(PROFILE) / "segmentation_scores.csv"
    table = pd.read_csv(path)
    keys = ["model", "stream", "init", "split", "subset", "class", "metric", "average"]
    assert list(table) == [*keys, "value", "low", "high", "n"]
    # Of the nodules none is held out, so there is nothing to score.
    runs_there = {key for run, key in STREAMS.items() if "nodule" not in run}
    assert set(zip(table["model"], table["stream"], table["init"], strict=True)) == runs_there
    assert set(table["split"]) == {"infnet"}
    assert set(table["subset"]) == {"test", stream_tables.WITH_WEAK}
    assert set(table["average"]) == {"pooled", "per_image"}
    assert not table[keys].duplicated().any()
    assert not table[keys].isna().any(axis=None)
    made = stream_tables.segmentation_scores(PROFILE)
    assert made.dtypes[["value", "low", "high", "n"]].tolist() == [np.float64] * 3 + [np.int64]
    pd.testing.assert_frame_equal(made, table, rtol=1e-4, check_dtype=False)


def test_the_file_of_scores_has_the_extent_as_the_union_of_all_lesions(built):
    table = stream_tables.segmentation_scores(PROFILE)
    for run in ("stream_all_deeplab", "stream_all_unet", "fusion_deeplab"):
        truth, found = of_test(run)
        key = dict(zip(("model", "stream", "init"), STREAMS[run], strict=True))
        key |= {"class": "lesion", "metric": "dice", "subset": "test"}
        pooled = only(table, **key, average="pooled")
        assert pooled["value"] == pytest.approx(dice_of(truth > 0, found > 0))
        assert pooled["n"] == 4
        each = [dice_of(t > 0, f > 0) for t, f in zip(truth, found, strict=True)]
        assert only(table, **key, average="per_image")["value"] == pytest.approx(np.mean(each))
    is_lesion = table["class"] == "lesion"
    assert set(table[is_lesion]["subset"]) == {"test"}
    assert set(table[is_lesion]["stream"]) == {"all", "fusion"}
    measures = {"dice", "iou", "hd95", "volume_error", "dice_thresholds"}
    assert set(table[is_lesion]["metric"]) == measures


def test_the_file_of_scores_keeps_weak_labels_apart(built):
    table = stream_tables.segmentation_scores(PROFILE)
    for run in ("stream_all_deeplab", "stream_ggo_deeplab", "fusion_deeplab"):
        key = dict(zip(("model", "stream", "init"), STREAMS[run], strict=True))
        key |= {"class": "ggo", "metric": "dice", "average": "pooled"}
        for subset, chosen, n in (("test", "exact", 2), (stream_tables.WITH_WEAK, None, 4)):
            truth, found = of_test(run, chosen)
            row = only(table, **key, subset=subset)
            assert row["value"] == pytest.approx(dice_of(truth == 1, found == 1))
            assert row["n"] == n


def test_table6_has_every_stream_and_its_differences(built):
    table = built["table6"]
    scored = set(table[table["metric"] != "dice difference"]["work"])
    others = ("consolidation", "effusion", "ggo", "nodule")
    assert scored == {
        "ours, DeepLab-v3+, stream all",
        "ours, DeepLab-v3+, stream all, from random",
        "ours, DeepLab-v3+, stream all, all starts together",
        "ours, U-Net, stream all",
        *(f"ours, DeepLab-v3+, stream {name}" for name in others),
        "ours, DeepLab-v3+, specialists together",
    }
    assert set(table["metric"]) == {"dice", "iou", "dice difference"}
    assert "background" not in set(table["class"])
    assert {"mean", "mean of lesions", "lesion"} <= set(table["class"])
    differences = table[table["metric"] == "dice difference"]
    assert set(differences["claim"]) == {"c01", "c03", "c04"}
    assert set(differences["paper"]) == {"stated without a number"}


def test_a_difference_is_that_of_the_same_slices(built):
    table = built["table6"]
    runs_compared = ("stream_all_deeplab", "stream_all_unet")
    scores = [list(of_test(run)) for run in runs_compared]
    first, second = (dice_of(truth > 0, found > 0) for truth, found in scores)
    work = "DeepLab-v3+, stream all minus U-Net, stream all"
    row = only(table, work=work, **{"class": "lesion"}, average="pooled")
    assert row["ours"] == pytest.approx(first - second)
    assert (row["n"], row["claim"]) == (4, "c04")
    assert row["note"] == stream_tables.ONE_TRAINING


def is_quoted(table):
    return table["note"].str.startswith("quoted")


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
    works = built["table8"][is_quoted(built["table8"])]["work"].tolist()
    assert works.index("Fan 2020, Semi-Inf-Net") < works.index("Zhou 2020, attention U-Net")
    assert not built["table7"]["work"].str.contains("implied").any()


def test_table8_has_every_measure_of_the_extent_with_its_unit(built):
    table = built["table8"]
    ours = table[table["work"] == "ours, DeepLab-v3+, stream all"]
    found = list(zip(ours["metric"], ours["average"], ours["unit"], strict=True))
    assert found == [
        (stream_tables.MEASURE_NAMES.get(metric, metric), average, unit)
        for metric, average, unit in stream_tables.MEASURES
    ]
    scores = stream_tables.scores_of(PROFILE, "stream_all_deeplab")
    shown = cells.readable(ours).set_index("metric")["ours"]
    for metric, unit in (("hd95", "% of side"), ("volume_error", "% of lung")):
        score = only(scores, **{"class": "lesion"}, metric=metric)
        text = shown[stream_tables.MEASURE_NAMES[metric]]
        limits = f"[{score['low']:.1f}, {score['high']:.1f}]"
        assert text == f"{score['value']:.1f} {unit} {limits}"
    assert shown["dice, mean over 256 thresholds"].startswith("0.")
    gains = ours.set_index(["metric", "average"])["claim"]
    assert set(gains["dice"]) == {"p25b"}
    assert set(gains["iou"]) == {"p25a"}
    said = ours.set_index(["metric", "average"])["paper"]
    assert set(said["dice"]) == {"a gain of 4 %"}
    assert set(said["iou"]) == {"a gain of 7 %"}
    assert set(said.drop(["dice", "iou"], level="metric")) == {cells.NOT_AVAILABLE}
    is_stated = ours["metric"].isin(("dice", "iou"))
    assert set(ours["note"][is_stated]) == {"the paper states a gain and no value"}
    others = table[table["work"] != "ours, DeepLab-v3+, stream all"]
    assert not {"p25a", "p25b"} & set(others["claim"])
    assert set(others["paper"][~is_quoted(others)]) == {cells.NOT_AVAILABLE}


def test_the_authors_masks_are_scored_by_the_same_code_where_they_are(built):
    name = "EL-Bana 2020, published masks, scored here"
    for table in ("table6", "table7", "table8"):
        assert name not in set(built[table]["work"])
    slices = ct_rows().drop(columns="lung_pixels").assign(subset="published")
    masks = outlined("published_masks", slices)
    try:
        write_stream("published_masks", slices, masks)
        made = {key: tables.BUILDERS[key](PROFILE) for key in ("table6", "table7", "table8")}
        scores = stream_tables.segmentation_scores(PROFILE)
    finally:
        shutil.rmtree(paths.results(PROFILE) / "published_masks", ignore_errors=True)
    assert name not in set(made["table6"]["work"])
    truth, found = masks
    exact = (slices["label_quality"] == "exact").to_numpy()
    for index, label in enumerate(MANIFESTATIONS, start=1):
        key = {"work": name, "class": label, "metric": "dice", "average": "pooled"}
        row = only(made["table7"], **key, labels="exact")
        assert row["ours"] == pytest.approx(dice_of(truth[exact] == index, found[exact] == index))
        assert row["paper"] == cells.NOT_AVAILABLE
    theirs = made["table8"][made["table8"]["work"] == name]
    row = only(theirs, metric="dice", average="pooled")
    assert row["ours"] == pytest.approx(dice_of(truth > 0, found > 0))
    # They come without a probability, and without a lung field at their size.
    assert set(theirs["metric"]) == {"dice", "iou", "95 % Hausdorff distance"}
    assert not is_quoted(theirs).any()
    scored = scores[scores["model"] == "published_masks"]
    known = {"270 published images", "270 published images, weak labels among them"}
    assert set(scored["subset"]) == known
    assert set(scored["split"]) == {"after augmentation"}
    key = {"class": "lesion", "metric": "dice", "average": "pooled"}
    assert only(scored, **key)["value"] == pytest.approx(row["ours"])


def each_call(run):
    return runs.read_metrics(PROFILE, run)["seconds_per_image"]["one image"]["each"]


def test_table9_has_each_stage_the_pipeline_and_the_machine(built):
    table = built["table9"].set_index("stage")
    stages = dict(tables.STAGES)
    wholes = [f"whole pipeline, one {of}" for of in ("X-ray", "CT slice", "case of CT")]
    assert table.index.tolist() == [*stages, *wholes]
    for stage, run in stages.items():
        row = table.loc[stage]
        assert row["ours"] == pytest.approx(np.median(each_call(run)))
        assert row["p95 [s]"] == pytest.approx(np.percentile(each_call(run), 95))
        assert (row["source_run"], row["step"]) == (run, "one image")
    assert (table["low"] <= table["ours"]).all()
    assert (table["ours"] <= table["high"]).all()
    assert set(zip(table["n"], table["unit"], table["metric"], strict=True)) == {
        (20, "s", "median time")
    }
    assert set(table["note"]) == {runs.processor()}


def test_the_pipeline_adds_up_each_calls_times_and_not_the_medians(built):
    table = built["table9"].set_index("stage")
    names = ["task1", "task2", "stream_all_deeplab"]
    total = np.sum([each_call(run) for run in names], axis=0)
    slice_ = table.loc["whole pipeline, one CT slice"]
    assert slice_["ours"] == pytest.approx(np.median(total))
    assert slice_["p95 [s]"] == pytest.approx(np.percentile(total, 95))
    assert slice_["ours"] != pytest.approx(sum(np.median(each_call(run)) for run in names))
    assert slice_["source_run"] == ", ".join(names)
    xray = table.loc["whole pipeline, one X-ray"]
    assert xray["ours"] == table.loc["recognition", "ours"]
    assert xray["source_run"] == "task1"


def test_a_case_of_ct_has_the_slices_of_a_test_patient_on_average(built, monkeypatch):
    slices = manifest({"a": 4, "b": 1, "c": 9}, "medseg", "covid", "CT")
    slices = slices.assign(subset=["test"] * 5 + ["train"] * 9)
    monkeypatch.setattr(tables, "saved_manifest", lambda profile: slices)
    table = tables.table9(PROFILE).set_index("stage")
    one, case = (table.loc[f"whole pipeline, one {of}"] for of in ("CT slice", "case of CT"))
    for name in ("ours", "low", "high", "p95 [s]"):
        assert case[name] == pytest.approx(2.5 * one[name])
    assert (one["step"], case["step"]) == ("stages in turn", "stages in turn, 2.5 slices a case")


def test_the_papers_saving_stands_beside_a_slice_of_ct_alone(built):
    table = built["table9"].set_index("stage")
    case = table.loc["whole pipeline, one CT slice"]
    assert (case["paper"], case["claim"]) == ("-60 % of readers' time", "p26")
    others = table.drop("whole pipeline, one CT slice")
    assert set(zip(others["paper"], others["claim"], strict=True)) == {(cells.NOT_AVAILABLE, "")}


def test_times_of_an_older_version_are_made_anew(built, monkeypatch):
    old = {"seconds_per_image": {"one image": {"median": 0.01, "p95": 0.02, "calls": 20}}}
    monkeypatch.setattr(runs, "read_metrics", lambda profile, run: old)
    with pytest.raises(ResultsError, match=r"task1: made by an older version.*make reproduce"):
        tables.table9(PROFILE)


@pytest.mark.parametrize("name", SCORED)
def test_readable_loses_no_row_and_shows_no_nan(built, name):
    text = cells.readable(built[name])
    assert len(text) == len(built[name])
    assert not text.isna().any(axis=None)
    assert not text["ours"].str.contains("nan").any()
    wilson = ["Wilson"] if name in ("table2", "table3", "table4") else []
    # Nothing in the paper's prose is about Table 5, so nothing of it is judged.
    verdict = [] if name == "table5" else ["verdict"]
    columns = ["metric", "ours", *wilson, "n", "paper", *verdict, "note"]
    assert built[name]["note"].any()
    assert list(text)[list(text).index("metric") :] == columns


@pytest.mark.parametrize(
    ("changes", "ours", "n", "paper"),
    [
        ({}, "98.4 % [97.0, 99.9]", "536", "99.4 %"),
        ({"low": np.nan, "high": np.nan}, "98.4 %", "536", "99.4 %"),
        ({"unit": "fraction", "ours": 0.91149, "low": 0.9, "high": 0.92, "paper": "0.911"},
         "0.911 [0.900, 0.920]", "536", "0.911"),
        ({"ours": np.nan}, "undefined", "536", "99.4 %"),
        ({"ours": np.nan, "n": 0}, "", "", "99.4 %"),
        ({"paper": "not available"}, "98.4 % [97.0, 99.9]", "536", "not available"),
        ({"paper": "3", "unit": "images"}, "98 images [97, 100]", "536", "3 images"),
        ({"ours": 3.14, "low": 2, "high": 4.06, "unit": "% of side", "paper": "not available"},
         "3.1 % of side [2.0, 4.1]", "536", "not available"),
        ({"low": np.nan, "unit": "% of lung", "paper": "not available"},
         "98.4 % of lung", "536", "not available"),
    ],
)  # fmt: skip
def test_readable_formats(changes, ours, n, paper):
    row = {"class": "all", "metric": "accuracy", "unit": "%", "ours": 98.442, "low": 97.0}
    row |= {"high": 99.9, "n": 536, "paper": "99.4", "claim": "p01", "verdict": "differs"}
    row |= {"source_run": "task1", "note": "so"}
    text = cells.readable(pd.DataFrame([row | changes])).iloc[0]
    assert text.to_dict() == {
        "class": "all",
        "metric": "accuracy",
        "ours": ours,
        "n": n,
        "paper": paper,
        "verdict": "differs",
        "note": "so",
    }


@pytest.mark.parametrize("empty", ["verdict", "note"])
def test_readable_leaves_out_verdicts_and_notes_where_no_row_has_one(empty):
    row = dict.fromkeys(cells.VALUES, "") | {"ours": 1.0, "low": np.nan, "n": 1, "unit": "%"}
    table = pd.DataFrame([row | {"verdict": "differs", "note": "so", empty: ""}])
    assert {"verdict", "note"} - set(cells.readable(table)) == {empty}


def test_headlines_repeat_the_tables(built):
    table = headlines.write(PROFILE).set_index("question")
    asked = [question for question in headlines.ROWS if question not in headlines.OPTIONAL]
    assert list(table.index) == asked
    table2 = built["table2"]
    wanted = BY_PATIENT | {"subset": "test", "classes": 2}
    two = table2[np.logical_and.reduce([table2[k] == v for k, v in wanted.items()])].iloc[0]
    line = table.loc["COVID-19 or normal, X-ray"]
    assert line["ours"] == pytest.approx(two["ours"], rel=1e-4)
    assert (line["n"], str(line["paper"]), line["claim"]) == (two["n"], "99.4", "p01")
    table8 = built["table8"].set_index(["work", "average", "metric"])
    for question, work in {
        "extent of disease, mean over slices": "ours, DeepLab-v3+, stream all",
        "the same by U-Net": "ours, U-Net, stream all",
        "the same, three specialists together": "ours, DeepLab-v3+, specialists together",
    }.items():
        expected = table8.loc[(work, "per_image", "dice"), "ours"]
        assert table.loc[question, "ours"] == pytest.approx(expected, rel=1e-4)
    text = headlines.markdown(PROFILE)
    assert text.count("\n") == len(asked) + 1
    assert "nan" not in text.lower()
    assert f"| 99.4 % | {two['verdict']} |" in text.splitlines()[2]


def test_a_run_that_is_made_on_demand_has_its_headline_where_it_is(built):
    path = paths.results(PROFILE) / "tables" / "table8.csv"
    written = path.read_bytes()
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values=[""])
        usual = table[table["work"] == "ours, DeepLab-v3+, stream all"]
        other = usual.assign(work="ours, DeepLab-v3+, stream all, from imagenet", ours=0.125)
        pd.concat([table, other]).to_csv(path, index=False)
        found = headlines.collect(PROFILE).set_index("question")
        assert list(found.index) == list(headlines.ROWS)
        (question,) = headlines.OPTIONAL
        assert found.loc[question, "ours"] == 0.125
        table[table["work"] != "ours, U-Net, stream all"].to_csv(path, index=False)
        with pytest.raises(ResultsError, match="no row for"):
            headlines.collect(PROFILE)
    finally:
        path.write_bytes(written)


def test_our_numbers_on_the_phantom_are_marked_and_only_those(built):
    path = paths.results(PROFILE) / "data" / "manifest.csv"
    scans = path.read_bytes()
    try:
        pd.read_csv(path).assign(licence=chest_phantom.LICENCE).to_csv(path, index=False)
        marked = tables.build("table7", PROFILE)
    finally:
        path.write_bytes(scans)
    is_marked = marked["note"].str.startswith("on the phantom")
    assert is_marked.equals(marked["ours"].notna())
    assert 0 < is_marked.sum() < len(marked)
    assert not built["table7"]["note"].str.contains("phantom").any()
    assert marked["note"][is_marked].str.contains("paper's value derived").any()


def test_a_run_that_learned_from_validation_slices_says_so(built):
    path = paths.results(PROFILE) / "stream_all_deeplab" / "provenance.json"
    written = path.read_bytes()
    provenance = json.loads(written)
    provenance["parameters"]["refit"] = True
    try:
        path.write_text(json.dumps(provenance))
        table = tables.build("table6", PROFILE)
    finally:
        path.write_bytes(written)
    said = table["note"].str.contains("validation slices taught as well")
    expected = table["source_run"].str.split(", ").map(lambda runs: "stream_all_deeplab" in runs)
    assert said.equals(expected & table["n"].astype(bool))
    assert 0 < said.sum() < len(said)
    assert not built["table6"]["note"].str.contains("taught").any()


def test_a_builder_that_fails_leaves_the_written_tables_alone(built, monkeypatch):
    folder = paths.results(PROFILE) / "tables"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def broken(_profile):
        raise ResultsError("no such run")

    doubled = {"table2": lambda profile: built["table2"].iloc[:1], "table9": broken}
    monkeypatch.setattr(tables, "BUILDERS", doubled)
    with pytest.raises(ResultsError):
        tables.write_all(PROFILE)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_every_number_names_the_runs_that_it_was_computed_from(built):
    there = {path.parent.name for path in paths.results(PROFILE).glob("*/provenance.json")}
    for name in (*SCORED, "table9"):
        table = built[name]
        is_ours = table["n"] > 0
        assert (table["source_run"][~is_ours] == "").all(), name
        named = {run for text in table["source_run"][is_ours] for run in text.split(", ")}
        assert named <= there, name
        sides = table["source_run"][is_ours].str.count(", ") + 1
        if name in ("table6", "table9"):  # differences of two runs, and the pipeline of three
            assert set(sides) == ({1, 2} if name == "table6" else {1, 3})
        else:
            assert set(sides) == {1}, name


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("COVID_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", SCORED)
def test_a_missing_run_is_named_with_the_remedy(elsewhere, name):
    with pytest.raises(
        ResultsError, match=rf"results/{PROFILE}/.*make reproduce PROFILE={PROFILE}"
    ):
        tables.BUILDERS[name](PROFILE)


def test_headlines_without_tables_name_the_notebook(elsewhere):
    with pytest.raises(ResultsError, match=r"tables/table2.csv: not there yet.*05_tables"):
        headlines.collect(PROFILE)


def test_ten_runs_and_more_stay_in_order(elsewhere):
    names = ("covid", "non_covid")
    each = [
        class_predictions(
            names * 3, names * 3, subset="test", modality=["X-ray", "CT"] * 3, drawn=True
        ).assign(task="X-ray + CT", model="head", split="prepared", run=number)
        for number in range(1, 12)
    ]
    with runs.record(PROFILE, "task1", {}, manifest({"a": 1})) as run:
        run.write_predictions(pd.concat(each))
    table = recognition_tables.table4(PROFILE)
    numbers = table[(table["tested on"] == "CT") & (table["run"] != "mean")]["run"]
    assert numbers.tolist() == [str(number) for number in range(1, 12)]


def test_no_validation_images_is_no_reason_to_stop(elsewhere):
    names = tables.CLASSES[4]
    each = [
        class_predictions(names, names, subset=subset).assign(
            task=f"{classes} classes", model="head", split="prepared", run=1
        )
        for classes in (2, 4)
        for subset in ("train", "test")
    ]
    table = pd.concat(each)
    table = table[(table["task"] == "4 classes") | table["truth"].isin(names[:2])]
    with runs.record(PROFILE, "task1", {}, manifest({"a": 1})) as run:
        run.write_predictions(table)
    prepared = {"parameters": {"split": "patient"}}
    runs.write_json(paths.results(PROFILE) / "data" / "provenance.json", prepared)
    built = recognition_tables.table2(PROFILE).set_index(["classes", "subset"])
    assert np.isnan(built.loc[(2, "validation"), "ours"])
    assert built.loc[(2, "test"), "ours"] == 100


def test_slice_scores_say_how_far_patients_are_known():
    subsets = ["train", "train", "test", "test", "validation"]
    slices = manifest({f"s{i}": 1 for i in range(5)}, "medseg", "covid", "CT")
    slices = slices.assign(subset=subsets, patient_basis="none")
    assert tables._unsure_of_patients(slices.assign(patient_basis="given")) == []
    assert "kept together" in tables._unsure_of_patients(slices)[0]
    shared = slices.assign(patient_id=["a", "b", "a", "c", "d"])
    assert "near copies of test slices left out" in tables._unsure_of_patients(shared)[0]


def test_the_picture_of_rivals_repeats_the_tables(built):
    found = recognition_tables.rivals(PROFILE, 4).set_index("name")
    assert found.index[0] == "ours, split by patient"
    assert len(found) == 1 + 2 + 1 + len(recognition_tables.OTHERS)
    table2 = built["table2"][built["table2"]["classes"] == 4]
    prepared = table2[(table2["subset"] == "test") & (table2["split"] == "by patient")].iloc[0]
    assert found.iloc[0].tolist() == pytest.approx(prepared[["ours", "low", "high"]].tolist())
    table3 = built["table3"].set_index(["work", "metric"])
    for said in recognition_tables.OTHERS.values():
        row = table3.loc[(f"{said}, 4 classes", "accuracy")]
        assert found.loc[said, "ours"] == pytest.approx(row["ours"])
    assert recognition_tables.stated_accuracy() == {"2 classes": 99.4, "4 classes": 98.1}


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


def banded(kept, shown=(5, 5, 5)):
    """A band of each lesion, ten pixels wide, of which the first columns are found.

    ``shown`` says in how many slices each lesion is.
    """
    truth = np.zeros((len(kept), 12, 12), np.uint8)
    for label, slices in enumerate(shown, start=1):
        truth[:slices, 4 * label - 4 : 4 * label, :10] = label
    found = truth.copy()
    for index, columns in enumerate(kept):
        found[index, :, columns:] = 0
    return truth, found


def write_banded(kept, **settings):
    slices = manifest({f"s{i}": 1 for i in range(5)}, "medseg", "covid", "CT")
    slices = slices.assign(subset="test", label_quality="exact")
    for run, columns in kept.items():
        write_stream(run, slices, banded(columns, **settings))


COMPARED = [
    *((f"stream_{name}_deeplab", "stream_all_deeplab", name, "c01") for name in MANIFESTATIONS),
    *(("fusion_deeplab", "stream_all_deeplab", n, "c01") for n in (*MANIFESTATIONS, "lesion")),
    ("stream_all_deeplab", "stream_all_deeplab_random", "lesion", "c03"),
    ("stream_all_deeplab", "stream_all_unet", "lesion", "c04"),
    ("stream_all_deeplab_random", "stream_all_unet", "lesion", "c04"),
]


def test_differences_are_the_first_minus_the_second(elsewhere):
    write_banded(KEPT)
    rows = stream_tables.differences(PROFILE)
    assert [row["average"] for row in rows] == ["pooled", "per_image"] * len(COMPARED)
    for (first, second, name, claim), *pair in zip(COMPARED, rows[::2], rows[1::2], strict=True):
        kept = [np.array(KEPT[run]) for run in (first, second)]
        pooled = [2 * columns.sum() / (columns.sum() + 50) for columns in kept]
        each = 2 * kept[0] / (kept[0] + 10) - 2 * kept[1] / (kept[1] + 10)
        words = [
            stream_tables.shown_name(PROFILE, run).removeprefix("ours, ") for run in (first, second)
        ]
        for row, expected in zip(pair, (pooled[0] - pooled[1], each.mean()), strict=True):
            assert (row["work"], row["class"]) == (" minus ".join(words), name)
            assert row["ours"] == pytest.approx(expected)
            assert row["low"] < row["ours"] < row["high"]
            assert (row["n"], row["labels"], row["metric"]) == (5, "exact", "dice difference")
            assert (row["claim"], row["paper"]) == (claim, "stated without a number")
    signs = {row["work"]: np.sign(row["ours"]) for row in rows}
    assert signs["DeepLab-v3+, stream all minus U-Net, stream all"] == -1
    assert signs["DeepLab-v3+, stream all minus DeepLab-v3+, stream all, from random"] == 1
    assert signs["DeepLab-v3+, stream consolidation minus DeepLab-v3+, stream all"] == -1
    assert signs["DeepLab-v3+, specialists together minus DeepLab-v3+, stream all"] == 1


@pytest.mark.parametrize("missing", [run for run in KEPT if run != "stream_all_deeplab"])
def test_a_run_that_is_missing_is_compared_with_nothing(elsewhere, missing):
    names = (missing, "stream_all_deeplab")
    write_banded({run: KEPT[run] for run in names})
    assert stream_tables.differences(PROFILE)
    shutil.rmtree(paths.results(PROFILE) / missing)
    assert stream_tables.differences(PROFILE) == []


def test_a_difference_has_limits_only_where_a_score_would_have_them(elsewhere):
    same = dict.fromkeys(("stream_all_deeplab", "stream_all_unet"), (5,) * 5)
    different = {run: KEPT[run] for run in ("stream_effusion_deeplab", "stream_ggo_deeplab")}
    write_banded(same | different, shown=(5, 5, 2))
    rows = {(row["class"], row["average"]): row for row in stream_tables.differences(PROFILE)}
    for average in ("pooled", "per_image"):
        # Two networks that never differ, and a class that two patients show.
        assert rows["lesion", average]["ours"] == 0
        for name in ("lesion", "effusion"):
            assert np.isnan([rows[name, average][limit] for limit in ("low", "high")]).all()
        assert rows["ggo", average]["low"] < rows["ggo", average]["high"]


def test_nodules_that_are_held_out_are_scored(elsewhere):
    write_banded({"stream_all_deeplab": KEPT["stream_all_deeplab"]})
    nodules = manifest({f"n{i}": 1 for i in range(5)}, "lidc-idri", "nodule", "CT")
    truth, found = (masks == 1 for masks in banded((3, 4, 5, 6, 7)))
    slices = nodules.assign(subset="test", label_quality="exact")
    masks = truth.astype(np.uint8), found.astype(np.uint8)
    write_stream("stream_nodule_deeplab", slices, masks)
    settings = {"parameters": {"split": "patient"}}
    (paths.results(PROFILE) / "data").mkdir()
    runs.write_json(paths.results(PROFILE) / "data" / "provenance.json", settings)
    scores = stream_tables.segmentation_scores(PROFILE)
    nodule = scores[scores["stream"] == "nodule"]
    assert set(nodule["class"]) == {"background", "nodule", "mean"}
    key = {"class": "nodule", "metric": "dice", "average": "pooled"}
    assert only(nodule, **key)["value"] == pytest.approx(dice_of(truth, found))
    assert set(nodule["init"]) == {"random"}
    # The one class is where thresholds are swept; no lung field was looked for.
    assert set(nodule[nodule["metric"] == "dice_thresholds"]["class"]) == {"nodule"}
    assert "volume_error" not in set(nodule["metric"])
    expected = stream_scores.segmentation(runs.read_predictions(PROFILE, "stream_nodule_deeplab"))
    assert sorted(nodule["value"].dropna()) == sorted(expected["value"].dropna())
    table6 = stream_tables.table6(PROFILE)
    assert not table6["note"].str.contains("too few patients").any()
    assert "ours, DeepLab-v3+, stream nodule" in set(table6["work"])


def test_a_wide_table_has_a_column_a_score_in_the_order_of_the_rows():
    keys = {"unit": "fraction", "low": np.nan, "high": np.nan}
    keys |= dict.fromkeys(("paper", "claim", "verdict", "source_run", "note"), "")
    rows = [
        {"work": work, "metric": metric, "average": "pooled", "ours": value, "n": 3} | keys
        for work, metric, value in (("b", "iou", 0.5), ("b", "dice", 0.25), ("a", "dice", 1.0))
    ]
    wide = cells.wide(pd.DataFrame(rows), ["work"], ["metric", "average"])
    assert wide.index.tolist() == ["b", "a"]
    assert wide.columns.tolist() == [("iou", "pooled"), ("dice", "pooled")]
    assert wide.to_numpy().tolist() == [["0.500", "0.250"], ["", "1.000"]]
