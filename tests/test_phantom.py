"""The phantom as it is written: whole or not at all, its layouts, masks and determinism."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from builders import SMALL_PHANTOM

import chest_phantom
from chest_phantom import dataset, external_sets
from chest_phantom.anatomy import build
from chest_phantom.cohort import plan
from chest_phantom.disease import infect
from chest_phantom.files import outlines
from covid_utils.data import readers, splits
from covid_utils.data.readers import hospitals
from covid_utils.data.readers.lidc import Outline, consensus_mask

OTHER = dataclasses.replace(SMALL_PHANTOM, seed=8)


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_set_is_written_once_and_again_for_other_settings_or_version(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(dataset, "write_all", lambda folder, _: calls.append(folder.mkdir()))
    folder = tmp_path / "set"
    assert not chest_phantom.is_phantom(folder)
    for count, settings in ((1, SMALL_PHANTOM), (1, SMALL_PHANTOM), (2, OTHER)):
        assert chest_phantom.write(folder, settings) == folder
        assert chest_phantom.is_phantom(folder)
        assert len(calls) == count
    monkeypatch.setattr(chest_phantom, "VERSION", chest_phantom.VERSION + 1)
    chest_phantom.write(folder, OTHER)
    assert len(calls) == 3
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: chest_phantom.write(tmp_path / "at once", SMALL_PHANTOM), range(4)))
    assert len(calls) == 4


def test_an_interruption_leaves_nothing_incomplete(tmp_path, monkeypatch):
    def write_all(folder, settings):
        folder.mkdir()
        (folder / "scan.png").write_bytes(b"x")
        if settings == OTHER:
            raise KeyboardInterrupt

    monkeypatch.setattr(dataset, "write_all", write_all)
    before = contents(chest_phantom.write(tmp_path / "set", SMALL_PHANTOM))
    for name in ("set", "new"):
        with pytest.raises(KeyboardInterrupt):
            chest_phantom.write(tmp_path / name, OTHER)
    assert contents(tmp_path / "set") == before
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".lock") == ["set"]


def test_a_folder_with_other_files_is_not_replaced(tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "mine.png").write_bytes(b"x")
    with pytest.raises(FileExistsError, match=r"scans.*name another folder"):
        chest_phantom.write(tmp_path / "scans", SMALL_PHANTOM)
    assert (tmp_path / "scans" / "mine.png").is_file()


def test_the_same_settings_give_the_same_bytes(phantom, tmp_path):
    assert contents(chest_phantom.write(tmp_path / "again", SMALL_PHANTOM)) == contents(phantom)


def test_any_extent_changes_covid_alone():
    usual = chest_phantom.Settings(patients=200)
    pairs = [*zip(plan(usual), plan(dataclasses.replace(usual, any_extent=True)), strict=True)]
    for before, after in pairs:
        assert dataclasses.replace(after, severity=before.severity) == before
        assert (before.severity != after.severity) == (before.pattern == "covid")
    extents = [after.severity for _, after in pairs if after.pattern == "covid"]
    assert np.quantile(extents, 0.25) < 0.3
    assert np.quantile(extents, 0.75) > 1


def test_stored_masks_are_the_simulations_to_the_voxel(phantom):
    person = next(p for p in plan(SMALL_PHANTOM) if p.role == "covid" and p.rank == 0)
    chest = build(np.random.default_rng(person.seed), SMALL_PHANTOM.ct_size)
    truth = infect(chest, person.pattern, person.severity, person.seed).labels
    table = pd.read_csv(phantom / "medseg" / "slices.csv").set_index("slice")
    rows = readers.read("medseg", phantom).rows
    assert len(rows) == len(table)
    for row in rows.itertuples():
        mask = readers.load_mask(phantom, row)
        expected = table.loc[row.frame, ["ggo_px", "consolidation_px", "effusion_px"]].tolist()
        assert np.bincount(mask.ravel(), minlength=4)[1:].tolist() == expected
        if table.loc[row.frame, "patient"] == f"P{person.number:02d}":
            assert any(np.array_equal(mask, plane) for plane in truth)
    assert (table.groupby("patient")["infnet_subset"].nunique() == 1).all()
    assert set(table["infnet_subset"]) == {"train", "test"}


def test_volumes_of_other_hospitals_have_exact_masks_and_one_is_upside_down(phantom):
    rows = splits.assign(readers.read(hospitals.CASES.lower(), phantom).rows)
    assert set(rows["subset"]) == {"external"}
    volumes = dict(tuple(rows.groupby("patient_id")))
    for (_, part), person in zip(
        sorted(volumes.items()), external_sets.people(SMALL_PHANTOM), strict=True
    ):
        chest = build(np.random.default_rng(person.seed), SMALL_PHANTOM.ct_size)
        labels = infect(chest, person.pattern, person.severity, person.seed).labels
        lungs = np.zeros(labels.shape, bool)
        lungs[chest.lung.box] = chest.lung.share >= 0.5
        turned = slice(None, None, -1 if person.rank == 0 else 1)
        truth = [*zip(np.isin(labels, (1, 2))[:, turned], lungs[:, turned], strict=True)]
        assert 4 <= len(part) <= 6
        for row in part.itertuples():
            stored = readers.load_mask(phantom, row) > 0, readers.load_lungs(phantom, row)
            assert any(np.array_equal(stored, planes) for planes in truth)
            assert stored[0].any()


def test_the_readers_read_every_layout_without_a_problem(phantom):
    reading = readers.read_all(phantom)
    assert reading.problems.empty
    rows = reading.rows
    assert set(rows["dataset"]) == set(readers.SOURCES) - {hospitals.EXPORT}
    assert {"covid", "normal", "viral", "bacterial", "nodule", "no_nodule"} <= set(rows["label"])
    views = set(rows.loc[rows["dataset"] == "covid-chestxray-dataset", "view"])
    assert {"L", "Axial"} < views
    subsets = rows.loc[rows["dataset"] == "chest_xray", "path"].str.split("/").str[1]
    assert set(subsets) == {"train", "test"}
    for row in rows.groupby("dataset").head(2).itertuples():
        assert readers.load_image(phantom, row).shape == (row.height, row.width)
        assert (row.lungs == "") == (row.modality == "X-ray")
        if row.mask_path:
            assert readers.load_mask(phantom, row).shape == (row.height, row.width)
    # No patient is in two sets of X-rays.
    truth = pd.read_csv(phantom / chest_phantom.TRUTH_FILE)
    xrays = truth[truth["path"].str.match(r"(covid-chestxray|chest_xray|nih-adult|rsna)")]
    sets = xrays["path"].str.split("/").str[0]
    assert (sets.groupby(xrays["person"]).nunique() == 1).all()


@pytest.mark.parametrize("radius", [0.5, 2.2, 8.0])
def test_outlines_give_the_mask_back(radius):
    y, x = np.mgrid[:40, :40]
    mask = np.hypot(y - 18, x - 21) < radius
    drawn = [Outline(0, True, outline.astype(np.int32)) for outline in outlines(mask)]
    assert np.array_equal(consensus_mask(drawn, mask.shape), mask)


def test_everything_says_that_it_is_a_phantom(phantom):
    assert (phantom / "README.txt").read_text().startswith("Phantom")
    metadata = pd.read_csv(phantom / "covid-chestxray-dataset" / "metadata.csv", dtype=str)
    assert metadata["clinical_notes"].str.startswith("Phantom").all()
    assert (metadata["license"] == chest_phantom.LICENCE).all()
