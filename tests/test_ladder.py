"""The metric ladder: each rung by hand, and what it says of the paper's gains."""

import numpy as np
import pandas as pd
import pytest
from builders import manifest

from covid_utils import paths
from covid_utils.data import manifest as manifests
from covid_utils.errors import DataError, ResultsError
from covid_utils.evaluation import ladder, outlines, stream_scores
from covid_utils.report import ladder as report
from covid_utils.report import look
from covid_utils.training import segmentation

ONE_LESION = ("lesion", "ggo")


def slices(count, quality="exact", first=0):
    rows = manifest({f"s{first + i}": 1 for i in range(count)}, "medseg", "covid", "CT")
    return rows.assign(subset="test", label_quality=quality)


def masks(*lines):
    """Label masks (n, 2, 5) from ten digits each."""
    return np.array([[*map(int, line)] for line in lines], np.uint8).reshape(-1, 2, 5)


#: Four slices of ten pixels with ground-glass only: found in part, empty, missed, false alarm.
TRUTH = masks("1111000000", "0000000000", "0000000011", "0000000000")
FOUND = masks("1110100000", "0000000000", "0000000000", "1000000000")


def measured(truth, found, rows=None, lesion=None):
    rows = slices(len(truth)) if rows is None else rows
    return outlines.pixel_table(rows, truth, found, segmentation.scored_classes("all"), lesion)


@pytest.fixture
def rungs():
    return ladder.rungs(measured(TRUTH, FOUND))


def value(table, target, average, background="without", empty="", metric="dice", **more):
    """The value of one rung; where it has no empty cases, whatever says so."""
    keys = {"class": target, "average": average, "background": background, "metric": metric} | more
    keys |= {"empty": empty} if empty else {}
    rows = table[np.logical_and.reduce([table[name] == wanted for name, wanted in keys.items()])]
    assert len(rows) == 1, f"{keys}: {len(rows)} rungs"
    return rows["value"].iloc[0]


@pytest.mark.parametrize("target", ONE_LESION)
@pytest.mark.parametrize(
    ("empty", "without", "with_background"),
    [
        # Dice of the lesion 3/4, none, 0, 0; of the rest 5/6, 1, 8/9, 18/19.
        ("left out", 0.75 / 3, ((3 / 4 + 5 / 6) / 2 + 1 + 4 / 9 + 9 / 19) / 4),
        ("as 1", 1.75 / 4, ((3 / 4 + 5 / 6) / 2 + 1 + 4 / 9 + 9 / 19) / 4),
        ("as 0", 0.75 / 4, ((3 / 4 + 5 / 6) / 2 + 1 / 2 + 4 / 9 + 9 / 19) / 4),
    ],
)
def test_means_over_slices_by_what_an_empty_case_counts(
    rungs, target, empty, without, with_background
):
    assert value(rungs, target, "per_image", "without", empty) == pytest.approx(without)
    assert value(rungs, target, "per_image", "with", empty) == pytest.approx(with_background)


@pytest.mark.parametrize("target", ONE_LESION)
def test_pooled_pixels_know_no_empty_case(rungs, target):
    # Lesion: TP 3, FP 2, FN 3 of 40 pixels; the rest: TP 32.
    assert value(rungs, target, "pooled") == pytest.approx(6 / 11)
    assert value(rungs, target, "pooled", metric="iou") == pytest.approx(3 / 8)
    both = (6 / 11 + 64 / 69) / 2
    assert value(rungs, target, "pooled", "with") == pytest.approx(both)
    assert value(rungs, target, "pooled", "with", metric="iou") == pytest.approx(
        (3 / 8 + 32 / 37) / 2
    )
    # All pixels of both classes as one heap: the share that is right.
    assert value(rungs, target, "pooled_classes", "with") == pytest.approx(35 / 40)
    pooled = rungs[rungs["average"].isin(("pooled", "pooled_classes"))]
    assert set(pooled["empty"]) == {ladder.SUMMED}


def test_means_over_classes(rungs):
    """Consolidation and effusion are nowhere: as 1 they lift the mean, left out they do nothing."""
    for average in ("per_image", "per_class"):
        only = value(rungs, "mean of lesions", average, "without", "left out")
        assert only == pytest.approx(0.75 / 3)
    as_one = ((0.75 + 2) / 3 + 1 + 2 / 3 + 2 / 3) / 4
    assert value(rungs, "mean of lesions", "per_image", "without", "as 1") == pytest.approx(as_one)
    as_zero = 0.75 / 3 / 4
    assert value(rungs, "mean of lesions", "per_image", "without", "as 0") == pytest.approx(as_zero)
    assert value(rungs, "mean of lesions", "pooled") == pytest.approx(6 / 11)
    assert value(rungs, "mean of lesions", "pooled_classes") == pytest.approx(6 / 11)
    background = (5 / 6 + 1 + 8 / 9 + 18 / 19) / 4
    mean = value(rungs, "mean of lesions", "per_class", "with", "left out")
    assert mean == pytest.approx((0.25 + background) / 2)
    # A class that is nowhere has no ladder of its own.
    assert not {"consolidation", "effusion"} & set(rungs["class"])


def test_slices_first_or_classes_first():
    """Two lesions, one of them in one slice only: the order of the means matters."""
    truth, found = masks("1111000000", "1122000000"), masks("1111000000", "0022000000")
    table = ladder.rungs(measured(truth, found))
    # Slice by slice: 1, and (0 + 1) / 2. Class by class: (1 + 0) / 2, and 1.
    first = value(table, "mean of lesions", "per_image", "without", "left out")
    assert first == pytest.approx((1 + 0.5) / 2)
    assert value(table, "mean of lesions", "per_class") == pytest.approx((0.5 + 1) / 2)
    pooled = value(table, "mean of lesions", "pooled")
    assert pooled == pytest.approx((8 / 10 + 1) / 2)
    assert value(table, "mean of lesions", "pooled_classes") == pytest.approx(12 / 14)


def test_many_thresholds_are_the_files_own_and_empty_truth_is_0_in_inf_nets_program():
    lesion = np.random.default_rng(0).random(TRUTH.shape)
    pixels = measured(TRUTH, FOUND, lesion=lesion)
    swept = pixels.loc[pixels["class"] == "lesion", "dice_thresholds"]
    assert swept.isna().tolist() == [False, True, False, True]
    table = ladder.rungs(pixels)
    many = {"threshold": ladder.MANY}
    left_out = value(table, "lesion", "per_image", "without", "left out", **many)
    assert left_out == pytest.approx(swept.mean())
    as_zero = value(table, "lesion", "per_image", "without", "as 0", **many)
    assert as_zero == pytest.approx(swept.sum() / 4)
    swept_rows = table[table["threshold"] == ladder.MANY]
    assert len(swept_rows) == 2
    assert set(swept_rows["class"]) == {"lesion"}


def test_where_no_case_is_empty_there_is_one_rung_for_all_ways_to_count_them():
    truth, found = masks("1100000000", "0011000000"), masks("1000000000", "0111000000")
    table = ladder.rungs(measured(truth, found))
    rows = table[(table["class"] == "ggo") & (table["average"] == "per_image")]
    assert set(rows["empty"]) == {ladder.NONE_EMPTY}
    assert not table.duplicated(list(ladder.KEYS)).any()


def test_rungs_are_sorted_and_agree_with_the_scores_of_the_tables():
    rng = np.random.default_rng(5)
    truth = rng.choice(4, (12, 2, 5), p=(0.4, 0.3, 0.2, 0.1)).astype(np.uint8)
    found = np.where(rng.random(truth.shape) < 0.6, truth, 0).astype(np.uint8)
    pixels = measured(truth, found)
    table = ladder.rungs(pixels)
    assert table["value"].is_monotonic_decreasing
    assert list(table) == list(ladder.COLUMNS)
    scores = stream_scores.segmentation(pixels)
    same = {"average": "pooled", "background": "without", "threshold": ladder.ONE}
    ours = table[np.logical_and.reduce([table[k] == v for k, v in same.items()])]
    for _, row in ours.iterrows():
        keys = {"class": row["class"], "metric": row["metric"], "average": "pooled"}
        score = scores[np.logical_and.reduce([scores[k] == v for k, v in keys.items()])].iloc[0]
        expected = score[["value", "low", "high"]].astype(float).tolist()
        assert row[["value", "low", "high"]].astype(float).tolist() == pytest.approx(
            expected, nan_ok=True
        )
    inside = table.dropna(subset=["low"])
    assert len(inside)
    assert (inside["low"] <= inside["value"]).all()
    assert (inside["value"] <= inside["high"]).all()


def test_weak_labels_are_kept_apart_and_the_extent_is_exact():
    rows = manifests.validate(
        pd.concat([slices(2), slices(2, "weak", first=2)], ignore_index=True).drop(
            columns=["subset"]
        )
    ).assign(subset="test")
    table = ladder.rungs(measured(TRUTH, FOUND, rows))
    assert set(table.loc[table["class"] == "lesion", "labels"]) == {"exact"}
    assert set(table.loc[table["class"] == "ggo", "labels"]) == {"exact", "all"}
    assert value(table, "lesion", "pooled") == pytest.approx(6 / 11)
    assert value(table, "ggo", "pooled", labels="all") == pytest.approx(6 / 11)
    assert value(table, "ggo", "pooled", labels="exact") == pytest.approx(6 / 8)


def test_two_patients_with_a_class_are_too_few_for_limits(rungs):
    assert rungs[["low", "high"]].isna().all(axis=None)
    assert set(rungs["patients"]) == {4}


def test_what_cannot_be_scored_is_refused():
    pixels = measured(TRUTH, FOUND)
    with pytest.raises(DataError, match="no slices"):
        ladder.rungs(pixels.iloc[:0])
    with pytest.raises(DataError, match="no slices of any lesion"):
        ladder.rungs(pixels[pixels["class"] == "background"])
    with pytest.raises(DataError, match="not of the same slices"):
        ladder.rungs(pixels.drop(index=pixels.index[-1]))


# --- What it says of the paper's gains -----------------------------------------------------------


def rung(target="ggo", metric="dice", run="r", **more):
    base = {"run": run, "work": f"work {run}", "class": target, "metric": metric}
    base |= {"average": "pooled", "background": "without", "empty": ladder.SUMMED}
    base |= {"threshold": ladder.ONE, "labels": "exact", "n": 9, "patients": 9}
    return base | more


def limits(value, half=0.02):
    return {"value": value, "low": value - half, "high": value + half}


def test_gains_are_over_what_the_paper_compares_with():
    found = report.gains(pd.DataFrame([rung(**limits(0.5)), rung("lesion", **limits(0.75))]))
    ggo = found[found["claim"] == "p23a"].iloc[0]
    assert (ggo["base"], ggo["stated"]) == (0.646, 41)
    assert ggo["gain_percent"] == pytest.approx(100 * (0.5 / 0.646 - 1))
    assert ggo["low_percent"] == pytest.approx(100 * (0.48 / 0.646 - 1))
    assert ggo["gain_points"] == pytest.approx(100 * (0.5 - 0.646))
    # What the gain overall is over is not told: every work whose Dice the paper quotes.
    overall = found[found["claim"] == "p25b"]
    assert sorted(overall["base"]) == pytest.approx([0.691, 0.78, 0.783])
    assert set(overall["class"]) == {"lesion"}
    # Nobody's mean IoU overall is quoted.
    assert set(found["claim"]) == {"p23a", "p25b"}


def test_a_gain_is_reconciled_where_it_lies_within_the_limits():
    rows = [
        rung(**limits(0.911)),  # 0.646 x 1.41
        rung(**limits(0.911) | {"low": np.nan, "high": np.nan}, empty="as 1"),
        rung(**limits(0.8), average="per_image"),
        rung("lesion", **limits(0.731, 0.001)),  # 4 points over 0.691, but 5.8 %
        rung("lesion", **limits(0.8112, 0.0005), average="per_image"),  # 4 % over 0.78, 3.1 points
    ]
    held = report.reconciling(report.gains(pd.DataFrame(rows)))
    found = set(zip(held["claim"], held["value"], held["reading"], held["base"], strict=True))
    assert found == {
        ("p23a", 0.911, "percent", 0.646),
        ("p25b", 0.731, "points", 0.691),
        ("p25b", 0.8112, "percent", 0.78),
    }


def test_answers_are_sentences_from_the_data():
    rows = [
        rung(**limits(0.911), run="yes", background="with", average="pooled_classes"),
        rung(**limits(0.5), run="yes"),
        rung(**limits(0.8), run="no"),
        rung(**limits(0.5), run="no", average="per_image", empty="as 1"),
        rung(value=0.911, low=np.nan, high=np.nan, run="unsure"),
    ]
    said = report.answers(report.gains(pd.DataFrame(rows)), ("yes", "no", "unsure"))
    yes, no, unsure = said
    assert yes == (
        "p23a, +41 % Dice, ground-glass; work yes: in the interval of 1 of 2 rungs: ground-glass, "
        "pixel accuracy, background among them, 0.911 [0.891, 0.931], +41 % over Inf-Net (0.646)."
    )
    assert no == (
        "p23a, +41 % Dice, ground-glass; work no: in the interval of none of 2 rungs; nearest: "
        "ground-glass, pooled pixels, 0.800 [0.780, 0.820], +24 % over Inf-Net (0.646)."
    )
    assert unsure.endswith("too few patients show it for any interval.")


def test_one_convention_must_state_all_gains():
    ggo = rung(**limits(0.911), average="per_image", empty=ladder.NONE_EMPTY)
    solid = {"target": "consolidation", "average": "per_image", "empty": "as 1"}
    rows = [ggo, rung(**limits(0.928), **solid)]
    both = report.gains(pd.DataFrame(rows))
    table = report.conventions(both)
    # Ground-glass has no empty case, so its rung is that of every way to count them.
    assert table.iloc[0][["empty", "states", "number"]].tolist() == ["as 1", "p23a, p23b", 2]
    assert set(table["empty"]) == {"as 1", "as 0", "left out"}
    assert report.verdict(both, "r") == (
        "work r: one convention states all of p23a, p23b: mean over slices, empty cases counted "
        "as 1, exactly labelled slices (p23a, p23b)."
    )
    apart = report.gains(
        pd.DataFrame([ggo, rung(**limits(0.928), **solid | {"average": "pooled"})])
    )
    assert "no convention states all of p23a, p23b" in report.verdict(apart, "r")
    none = report.gains(pd.DataFrame([rung(**limits(0.5))]))
    assert report.verdict(none, "r") == "work r: no convention states any of p23a."


def test_the_ladder_of_a_profile_is_kept(built):
    made = report.write("sample")
    runs = set(made["run"])
    assert {"stream_all_deeplab", "stream_all_unet", "fusion_deeplab", "stream_ggo_deeplab"} <= runs
    assert "stream_nodule_deeplab" not in runs
    folder = paths.results("sample") / "tables"
    kept = pd.read_csv(folder / "ladder.csv")
    assert list(kept) == ["run", "work", *ladder.COLUMNS]
    assert kept["value"].tolist() == pytest.approx(made["value"].tolist(), rel=1e-4, nan_ok=True)
    gains = pd.read_csv(folder / "ladder_gains.csv")
    assert set(gains["claim"]) == {"p23a", "p23b", "p24a", "p24b", "p25b"}
    # The rung of Table 8 is the same number.
    table8 = built["table8"]
    is_ours = table8["work"].eq("ours, DeepLab-v3+, stream all") & table8["metric"].eq("dice")
    pooled = table8[is_ours & table8["average"].eq("pooled")].iloc[0]
    deeplab = made[made["run"] == "stream_all_deeplab"]
    assert value(deeplab, "lesion", "pooled") == pytest.approx(pooled["ours"])


def test_the_figure_says_how_far_dice_moves(built):
    look.style()
    made = report.table("sample")
    drawn = report.figure(made)
    text = look.text_of(drawn)
    dice = made[(made["run"] == "stream_all_deeplab") & (made["metric"] == "dice")]
    lesion = dice[dice["class"] == "lesion"]["value"]
    assert f"from {lesion.min():.2f} (" in text
    assert f"to {lesion.max():.2f} (" in text
    assert drawn.get_figwidth() == look.SINGLE
    panels = [axis for axis in drawn.axes if axis.lines]
    assert len(panels) == len(report.SHOWN)


def test_no_test_slices_are_a_sentence(built, monkeypatch):
    nothing = pd.DataFrame(columns=["class"])
    monkeypatch.setattr(report, "test_pixels", lambda *_: nothing)
    with pytest.raises(ResultsError, match="no run holds test slices"):
        report.table("sample")
