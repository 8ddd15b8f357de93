"""Tables 6 to 8 from small synthetic runs: ours is what the masks say."""

import shutil

import numpy as np
import pytest
from builders import dice_of, one
from small_runs import PROFILE, ct_rows, outlined, write_stream

from covid_utils import paths, runs
from covid_utils.evaluation import scores
from covid_utils.registry import MANIFESTATIONS
from covid_utils.report import claims as ledger
from covid_utils.report import render, stream_tables, tables


def is_quoted(table):
    return table["note"].str.startswith("quoted")


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
        expected = np.where(is_fair, "per_image", render.NOT_AVAILABLE)
        assert part[quoted]["average"].tolist() == expected.tolist()
    assert seen, "there is other literature to stand behind"
    assert not built["table7"]["work"].str.contains("implied").any()


def test_table8_has_every_measure_of_the_extent_with_its_unit(built):
    table = built["table8"]
    ours = runs.select(table, work="ours, DeepLab-v3+, stream all")
    expected = [(name, average) for (_, average), name in stream_tables.MEASURES.items()]
    # Every slice shows a lesion.
    expected.remove(("false alarms", "per_image"))
    assert list(zip(ours["metric"], ours["average"], strict=True)) == expected
    units = dict(zip(ours["metric"], ours["unit"], strict=True))
    measures = ("95 % Hausdorff distance", "absolute error of the extent")
    assert [units[name] for name in measures] == ["% of side", "% of lung"]
    for metric, claim, paper in (
        ("dice", "p25b", "0.811 to 0.823"),
        ("iou", "p25a", "a gain of 7 %"),
    ):
        rows = runs.select(ours, metric=metric)
        assert (set(rows["claim"]), set(rows["paper"])) == ({claim}, {paper})
        assert set(rows["note"]) == {ledger.load()[claim].remark}
    others = table[table["work"] != "ours, DeepLab-v3+, stream all"]
    assert not {"p25a", "p25b"} & set(others["claim"])
    assert set(others["paper"][~is_quoted(others)]) == {render.NOT_AVAILABLE}


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
        row = one(tables.select("table7", scored), **keys, labels="exact")
        expected = dice_of(truth[exact] == index, predicted[exact] == index)
        assert (row["ours"], row["paper"]) == (pytest.approx(expected), render.NOT_AVAILABLE)
    theirs = runs.select(tables.select("table8", scored), work=name)
    row = one(theirs, metric="dice", average="pooled")
    assert row["ours"] == pytest.approx(dice_of(truth > 0, predicted > 0))
    # They come without a probability, and without a lung field at their size.
    assert set(theirs["metric"]) == {"dice", "iou", "95 % Hausdorff distance"}
    kept = runs.select(scored, run="published_masks")
    known = ({"270 published images"}, {"after augmentation"})
    assert (set(kept["subset"]), set(kept["split"])) == known


@pytest.mark.parametrize(
    ("name", "claim", "implied"), [("ggo", "p23a", "0.911"), ("consolidation", "p23b", "0.928")]
)
def test_what_a_gain_implies_stands_beside_its_own_stream_one(built, name, claim, implied):
    table = runs.select(built["table7"], class_=name)
    ours = table[table["work"].str.startswith("ours")]
    scored = runs.select(ours, metric="dice", work=f"ours, DeepLab-v3+, stream {name}")
    assert len(scored) == 4, "pooled and per image, exact labels and all"
    assert set(zip(scored["paper"], scored["claim"], strict=True)) == {(implied, claim)}
    assert scored["note"].str.contains("the value that it quotes of Inf-Net").all()
    others = ours[(ours["paper"] != render.NOT_AVAILABLE) & ~ours.index.isin(scored.index)]
    # Of mIoU the paper quotes no value, and so its gain implies none.
    assert set(others["metric"]) == {"iou"}
    assert others["paper"].str.startswith("a gain of ").all()
    assert set(others["work"]) == {f"ours, DeepLab-v3+, stream {name}"}
