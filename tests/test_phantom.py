"""The phantom: physics, anatomy and disease, masks, layouts, determinism."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

import chest_phantom
from chest_phantom import dataset
from chest_phantom.anatomy import build, heart_distance
from chest_phantom.cohort import plan
from chest_phantom.ct import ct_slice, lung_slices
from chest_phantom.disease import Volume, infect
from chest_phantom.files import outlines
from chest_phantom.habitus import sample_habitus
from chest_phantom.projection import Exposure, line_integrals, project, sample_exposure
from chest_phantom.settings import CONSOLIDATION, EFFUSION, GROUND_GLASS, HOSPITALS, NODULE
from chest_phantom.xray import take_xray
from covid_utils.data import readers
from covid_utils.data.readers.lidc import Outline, consensus_mask

SMALL = chest_phantom.Settings(seed=7, patients=chest_phantom.FEWEST, ct_size=72, xray_size=96)
OTHER = dataclasses.replace(SMALL, seed=8)


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return chest_phantom.write(tmp_path_factory.mktemp("phantom") / "set", SMALL)


@pytest.fixture(scope="module")
def chest():
    return build(np.random.default_rng(3), 160)


@pytest.fixture(scope="module")
def healthy(chest):
    return infect(chest, "normal", 0.0, 3)


def solid(mask, spacing=(4.0, 2.0, 2.0), hu=0):
    """A volume with one density inside a mask and air around it."""
    values = np.where(mask, hu, -1000).astype(np.int16)
    return Volume(values, mask.astype(np.uint8), spacing, "normal", 0.0)


def test_a_set_is_written_once_and_again_for_other_settings_or_version(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(dataset, "write_all", lambda folder, _: calls.append(folder.mkdir()))
    folder = tmp_path / "set"
    assert not chest_phantom.is_phantom(folder)
    for count, settings in ((1, SMALL), (1, SMALL), (2, OTHER)):
        assert chest_phantom.write(folder, settings) == folder
        assert chest_phantom.is_phantom(folder)
        assert len(calls) == count
    monkeypatch.setattr(chest_phantom, "VERSION", chest_phantom.VERSION + 1)
    chest_phantom.write(folder, OTHER)
    assert len(calls) == 3
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: chest_phantom.write(tmp_path / "at once", SMALL), range(4)))
    assert len(calls) == 4


def test_an_interruption_leaves_nothing_incomplete(tmp_path, monkeypatch):
    def write_all(folder, settings):
        folder.mkdir()
        (folder / "scan.png").write_bytes(b"x")
        if settings == OTHER:
            raise KeyboardInterrupt

    monkeypatch.setattr(dataset, "write_all", write_all)
    before = contents(chest_phantom.write(tmp_path / "set", SMALL))
    for name in ("set", "new"):
        with pytest.raises(KeyboardInterrupt):
            chest_phantom.write(tmp_path / name, OTHER)
    assert contents(tmp_path / "set") == before
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".lock") == ["set"]


def test_a_folder_with_other_files_is_not_replaced(tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "mine.png").write_bytes(b"x")
    with pytest.raises(FileExistsError, match=r"scans.*name another folder"):
        chest_phantom.write(tmp_path / "scans", SMALL)
    assert (tmp_path / "scans" / "mine.png").is_file()


@pytest.mark.parametrize(("name", "value"), [("patients", 3), ("hospital_mark", 2), ("seed", -1)])
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}; give"):
        chest_phantom.Settings(**{name: value})


def test_patients_are_built_differently():
    bodies = [sample_habitus(np.random.default_rng(seed)) for seed in range(30)]
    assert {body.female for body in bodies} == {True, False}
    for name in ("width", "depth", "fat", "dome", "heart", "rib_gap", "age"):
        values = np.array([getattr(body, name) for body in bodies], float)
        assert len(set(values)) > 15
        assert values.std() > 0.02 * values.mean()
    assert not {person.seed for person in plan(SMALL)} & {person.seed for person in plan(OTHER)}


def test_the_plan_scales_and_mixes_the_hospitals():
    people = plan(chest_phantom.Settings(patients=120))
    assert len(people) == 120
    hospitals = [person.hospital for person in people if person.role == "covid"]
    assert 0.6 * len(hospitals) < hospitals.count("north") < len(hospitals)


def test_a_healthy_chest_has_its_parts(chest, healthy):
    lung = chest.lung
    inside = healthy.hu[lung.box][(lung.share > 0.99) & (lung.vessel == 0) & (lung.wall == 0)]
    assert -930 < np.median(inside) < -780
    assert (healthy.hu > 400).mean() > 0.005, "bone"
    assert 2.0 < lung.share.sum() * np.prod(healthy.spacing) / 1e6 < 8.0, "litres"
    assert not healthy.labels.any()
    assert set(np.unique(lung.lobe[lung.share > 0.5])) == set(range(5))
    assert np.array_equal(build(np.random.default_rng(3), 160).tissue, chest.tissue)


@pytest.mark.parametrize("pattern", ["covid", "viral", "bacterial", "nodule"])
def test_labels_only_where_a_lesion_changes_the_density(chest, healthy, pattern):
    volume = infect(chest, pattern, 0.9, 3)
    change = np.abs(volume.hu.astype(int) - healthy.hu)
    labelled = volume.labels > 0
    assert labelled.sum() > 30
    assert (change[labelled] >= 20).mean() > 0.995
    outside = np.ones(labelled.shape, bool)
    outside[chest.lung.box] = chest.lung.share == 0
    assert not (labelled & outside).any()
    assert (change[outside] == 0).all()


@pytest.mark.parametrize(
    ("pattern", "label", "low", "high"),
    [
        ("covid", GROUND_GLASS, -700, -300),
        ("viral", GROUND_GLASS, -750, -330),
        ("bacterial", CONSOLIDATION, -100, 100),
        ("covid", EFFUSION, 0, 30),
        ("nodule", NODULE, 0, 60),
    ],
)
def test_each_lesion_has_its_typical_density(chest, pattern, label, low, high):
    whole = np.zeros(chest.tissue.shape, bool)
    whole[chest.lung.box] = chest.lung.share == 1
    hu = []
    for seed in range(6):
        volume = infect(chest, pattern, 0.9, seed)
        inner = ndimage.binary_erosion(volume.labels == label, np.ones((1, 3, 3))) & whole
        hu.append(volume.hu[inner])
    hu = np.concatenate(hu)
    assert len(hu) > 100
    assert np.mean((hu >= low) & (hu <= high)) > 0.9


def test_covid_is_bilateral_peripheral_and_basal(chest):
    lung = chest.lung
    whole, near = lung.share > 0.5, lung.wall_distance < 25
    shares = []
    for seed in range(6):
        labels = infect(chest, "covid", 0.5, seed).labels[lung.box]
        sick = np.isin(labels, (GROUND_GLASS, CONSOLIDATION))
        assert 0.1 < lung.left[sick].mean() < 0.9
        assert lung.above_base[sick].mean() < lung.above_base[whole].mean()
        shares.append(near[labels == GROUND_GLASS].mean())
    assert min(shares) > 1.1 * near[whole].mean()
    assert np.mean(shares) > 1.3 * near[whole].mean()


def test_bacterial_consolidation_keeps_to_one_lobe_with_open_bronchi():
    open_bronchi = 0
    for seed in range(4):
        chest = build(np.random.default_rng(seed), 96)
        volume = infect(chest, "bacterial", 1.0, seed)
        dense = volume.labels[chest.lung.box] == CONSOLIDATION
        assert len(np.unique(chest.lung.lobe[dense])) == 1
        near = ndimage.binary_closing(dense, iterations=2) & (chest.lung.lumen > 0.6)
        open_bronchi += (volume.hu[chest.lung.box][near] < -400).sum()
    assert open_bronchi > 10


def test_an_effusion_lies_on_one_side_at_the_back_and_base(chest):
    lung, shown = chest.lung, 0
    y = np.broadcast_to(lung.axes[1], lung.share.shape)
    for seed in range(10):
        volume = infect(chest, "covid", 1.0, seed)
        fluid = volume.labels[lung.box] == EFFUSION
        if fluid.sum() < 500:
            continue
        assert len(np.unique(lung.left[fluid])) == 1, "one side"
        side = (lung.left == lung.left[fluid][0]) & (lung.share > 0.5)
        assert y[fluid].min() > np.median(y[side])
        assert lung.above_base[fluid].mean() < lung.above_base[side].mean()
        shown += 1
    assert shown >= 3


def test_nodules_are_round_and_where_they_are_said_to_be(chest):
    seen = 0
    for seed in range(5):
        volume = infect(chest, "nodule", 0.8, seed)
        parts, _ = ndimage.label(volume.labels == NODULE)
        for z, y, x, radius in volume.nodules:
            assert parts[z, y, x]
            points = np.argwhere(parts == parts[z, y, x]) * volume.spacing
            axes = np.sqrt(np.linalg.eigvalsh(np.cov(points.T)))
            assert axes[-1] < 2 * axes[0]
            size = len(points) * np.prod(volume.spacing) / (4 / 3 * np.pi * radius**3)
            assert 0.8 < size < 1.7
            seen += 1
    assert seen >= 5


# Bone weakens by more than its CT number says, 1.48 times at 1000 HU.
@pytest.mark.parametrize(
    ("hu", "per_mm"), [(0, 0.0195), (-1000, 0.0), (-500, 0.00975), (1000, 0.0195 * 2.48)]
)
def test_line_integrals_follow_beer_and_lambert(hu, per_mm):
    volume = solid(np.ones((20, 40, 60), bool), hu=hu)
    for view, slabs, way in (("PA", 1, 80.0), ("PA", 4, 80.0), ("L", 1, 120.0)):
        sums = line_integrals(volume, view, slabs).sum(axis=0)
        np.testing.assert_allclose(sums, per_mm * way, rtol=1e-5)


@pytest.mark.parametrize("view", ["AP", "AP Supine"])
def test_the_heart_is_larger_in_ap_than_in_pa(chest, view):
    heart = heart_distance(chest.habitus, chest.grid.axes()) > 0
    widths = [
        (project(solid(heart, chest.grid.spacing), Exposure(view=each), 256) > 0.3).any(0).sum()
        for each in ("PA", view)
    ]
    # The heart lies in front: turning the patient alone makes 3 %, the nearer tube the rest.
    assert 1.1 < widths[1] / widths[0] < 1.3


def test_an_xray_shows_bone_white_and_lung_dark(healthy):
    picture = take_xray(healthy, size=128)
    spine = picture[60:90, 58:70].mean()
    assert max(picture[45:75, 25:50].mean(), picture[45:75, 85:105].mean()) < spine - 40
    # The heart points to the patient's left, which is at the right of the picture.
    assert picture[78:88, 74:86].mean() > picture[78:88, 40:50].mean()


def test_stronger_marks_separate_the_hospitals_and_mark_0_leaves_no_trace(healthy):
    distances = []
    for mark in (0.0, 0.25, 0.5, 1.0):
        north, south = (take_xray(healthy, size=96, hospital=n, mark=mark) for n in HOSPITALS)
        distances.append(np.abs(np.subtract(north, south, dtype=float)).mean())
    assert distances[0] == 0
    assert distances == sorted(distances)
    assert distances[1] > 2
    plain = take_xray(healthy, size=96)
    assert (north[4:16, 80:94].astype(int) - plain[4:16, 80:94]).max() > 100, "lead letter"
    assert (south[[0, -1]] == 0).all(), "the collimator's border"


def test_pictures_depend_on_their_seed_and_masks_do_not(chest, healthy):
    views = [sample_exposure(np.random.default_rng(2), view) for view in ("PA", "AP")]
    assert views[1].photons < views[0].photons, "a portable picture gets less light"
    volume = infect(chest, "covid", 0.9, 3)
    index = int(lung_slices(volume)[5])
    first, again, other = (take_xray(healthy, size=96, seed=seed) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert 0 < np.abs(first.astype(int) - other).mean() < 10
    (first, labels), (again, _), (other, _) = (ct_slice(volume, index, n) for n in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(labels, volume.labels[index])
    quiet, noisy = (ct_slice(volume, index, noise=noise)[0] for noise in (0.0, 20.0))
    body = (quiet > 0) & (quiet < 100)
    assert 10 < (noisy.astype(int) - quiet)[body].std() < 40


def test_the_same_settings_give_the_same_bytes_and_marks_touch_xrays_alone(written, tmp_path):
    assert contents(chest_phantom.write(tmp_path / "again", SMALL)) == contents(written)
    plain = chest_phantom.write(tmp_path / "off", dataclasses.replace(SMALL, hospital_mark=0))
    for name in (chest_phantom.TRUTH_FILE, "medseg/tr_im.nii.gz"):
        assert (written / name).read_bytes() == (plain / name).read_bytes()


def test_stored_masks_are_the_simulations_to_the_voxel(written):
    person = next(p for p in plan(SMALL) if p.role == "covid" and p.rank == 0)
    chest = build(np.random.default_rng(person.seed), SMALL.ct_size)
    truth = infect(chest, person.pattern, person.severity, person.seed).labels
    table = pd.read_csv(written / "medseg" / "slices.csv").set_index("slice")
    rows = readers.read("medseg", written).rows
    assert len(rows) == len(table)
    for row in rows.itertuples():
        mask = readers.load_mask(written, row)
        expected = table.loc[row.frame, ["ggo_px", "consolidation_px", "effusion_px"]].tolist()
        assert np.bincount(mask.ravel(), minlength=4)[1:].tolist() == expected
        if table.loc[row.frame, "patient"] == f"P{person.number:02d}":
            assert any(np.array_equal(mask, plane) for plane in truth)
    assert (table.groupby("patient")["infnet_subset"].nunique() == 1).all()
    assert set(table["infnet_subset"]) == {"train", "test"}


def test_the_readers_read_every_layout_without_a_problem(written):
    reading = readers.read_all(written)
    assert reading.problems.empty
    rows = reading.rows
    assert set(rows["dataset"]) == set(readers.SOURCES)
    assert {"covid", "normal", "viral", "bacterial", "nodule", "no_nodule"} <= set(rows["label"])
    views = set(rows.loc[rows["dataset"] == "covid-chestxray-dataset", "view"])
    assert {"L", "Axial"} < views
    subsets = rows.loc[rows["dataset"] == "chest_xray", "path"].str.split("/").str[1]
    assert set(subsets) == {"train", "test"}


def test_no_patient_is_in_two_xray_sets(written):
    truth = pd.read_csv(written / chest_phantom.TRUTH_FILE)
    xrays = truth[truth["path"].str.match(r"(covid-chestxray|chest_xray|nih-adult|rsna)")]
    sets = xrays["path"].str.split("/").str[0]
    assert (sets.groupby(xrays["person"]).nunique() == 1).all()


@pytest.mark.parametrize("radius", [0.5, 2.2, 8.0])
def test_outlines_give_the_mask_back(radius):
    y, x = np.mgrid[:40, :40]
    mask = np.hypot(y - 18, x - 21) < radius
    drawn = [Outline(0, True, outline.astype(np.int32)) for outline in outlines(mask)]
    assert np.array_equal(consensus_mask(drawn, mask.shape), mask)


def test_everything_says_that_it_is_a_phantom(written):
    assert (written / "README.txt").read_text().startswith("Phantom")
    metadata = pd.read_csv(written / "covid-chestxray-dataset" / "metadata.csv", dtype=str)
    assert metadata["clinical_notes"].str.startswith("Phantom").all()
    assert (metadata["license"] == chest_phantom.LICENCE).all()
