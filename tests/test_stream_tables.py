"""Tables 6 to 8 from small synthetic runs: ours is what the masks say."""

import shutil

import numpy as np
import pytest
from small_runs import PROFILE, ct_rows, only, outlined, write_banded, write_stream

from covid_utils import paths, runs
from covid_utils.evaluation import scores
from covid_utils.registry import MANIFESTATIONS
from covid_utils.report import cells, stream_tables, tables


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("COVID_HOME", str(tmp_path))
    return tmp_path


def is_quoted(table):
    return table["note"].str.startswith("quoted")


def dice_of(truth, predicted):
    return 2 * (truth & predicted).sum() / (truth.sum() + predicted.sum())


def of_test(run, labels="all"):
    """True and predicted masks of a run's test slices, or of the exactly labelled ones."""
    slices = ct_rows()
    wanted = slices["subset"] == "test"
    if labels == "exact":
        wanted &= slices["label_quality"] == "exact"
    return (masks[wanted.to_numpy()] for masks in outlined(run, slices))


def test_segmentation_scores_are_those_of_the_masks(built):
    for run in ("stream_all_deeplab", "stream_all_unet", "fusion_deeplab"):
        table = runs.select(built["scores"], run=run, metric="dice", subset="test")
        truth, predicted = of_test(run)
        lesion = runs.select(table, class_="lesion", labels="exact")
        pooled, mean = (only(lesion, average=name) for name in ("pooled", "per_image"))
        assert pooled["value"] == pytest.approx(dice_of(truth > 0, predicted > 0))
        assert pooled["n"] == 4
        each = [dice_of(t > 0, p > 0) for t, p in zip(truth, predicted, strict=True)]
        assert mean["value"] == pytest.approx(np.mean(each))
        for labels, n in (("exact", 2), ("all", 4)):
            truth, predicted = of_test(run, labels)
            row = only(table, class_="ggo", average="pooled", labels=labels)
            assert row["value"] == pytest.approx(dice_of(truth == 1, predicted == 1))
            assert row["n"] == n


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
    kept = runs.select(scored, run="published_masks")
    known = ({"270 published images"}, {"after augmentation"})
    assert (set(kept["subset"]), set(kept["split"])) == known


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
