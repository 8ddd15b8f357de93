"""The phantom: physics, anatomy and disease, masks, layouts, determinism."""

import dataclasses
import hashlib
import itertools
import json
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from covid_utils.data import phantom, sources
from covid_utils.data.lidc import Outline, consensus_mask
from covid_utils.data.phantom import anatomy, cohort, disease, files, imaging, write
from covid_utils.errors import DataError, ParameterError

SMALL = phantom.PhantomSettings(
    seed=7, patients=cohort.FEWEST, ct_size=72, xray_size=96, hospital_mark=0.5
)


def digest(folder):
    """Hash of every file's name and content."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return phantom.ensure(tmp_path_factory.mktemp("phantom") / "set", SMALL)


@pytest.fixture(scope="module")
def chest():
    return anatomy.build(np.random.default_rng(3), 160)


@pytest.fixture(scope="module")
def healthy(chest):
    return disease.infect(chest, "normal", 0.0, 3)


def block(hu, shape=(20, 40, 60), spacing=(4.0, 2.0, 2.0)):
    """A box of one density that fills the whole field."""
    values = np.full(shape, hu, np.int16)
    return phantom.Volume(values, np.zeros(shape, np.uint8), spacing, "normal", 0.0)


def test_same_seed_gives_same_bytes(made, tmp_path):
    again = phantom.ensure(tmp_path / "elsewhere", SMALL)
    assert digest(again) == digest(made)


def test_patients_are_built_differently():
    bodies = [anatomy.sample_habitus(np.random.default_rng(seed)) for seed in range(30)]
    assert {body.female for body in bodies} == {True, False}
    for name in ("width", "depth", "fat", "dome", "heart", "rib_gap", "age"):
        values = np.array([getattr(body, name) for body in bodies], float)
        assert len(set(values)) > 15
        assert values.std() > 0.02 * values.mean()


def test_other_seed_gives_other_chests():
    first, second = (phantom.simulate(seed, "normal", ct_size=64) for seed in (1, 2))
    assert first.spacing != second.spacing
    assert not np.array_equal(first.hu, second.hu)
    again = phantom.simulate(1, "normal", ct_size=64)
    assert np.array_equal(first.hu, again.hu)


def test_other_seed_makes_every_patient_another():
    first, second = (cohort.plan(dataclasses.replace(SMALL, seed=seed)) for seed in (7, 8))
    for one, other in zip(first, second, strict=True):
        bodies = [anatomy.sample_habitus(np.random.default_rng(each.seed)) for each in (one, other)]
        assert bodies[0] != bodies[1]


@pytest.mark.parametrize(("hu", "per_mm"), [(0, 0.0195), (-1000, 0.0), (-500, 0.00975)])
def test_line_integrals_follow_beer_and_lambert(hu, per_mm):
    volume = block(hu)
    expected = per_mm * 40 * 2.0
    np.testing.assert_allclose(imaging.line_integrals(volume)[0], expected, rtol=1e-5)
    slabs = imaging.line_integrals(volume, "PA", 4)
    np.testing.assert_allclose(slabs.sum(axis=0), expected, rtol=1e-5)
    side = imaging.line_integrals(volume, "L")[0]
    np.testing.assert_allclose(side, per_mm * 60 * 2.0, rtol=1e-5)


def test_bone_weakens_more_than_its_ct_number_says():
    assert imaging.attenuation(np.array([1000]))[0] > 2 * imaging.attenuation(np.array([0]))[0]


def test_front_of_the_chest_is_larger_in_ap():
    hu = np.full((60, 60, 60), -1000, np.int16)
    hu[20:40, 4:8, 20:40] = 0
    volume = phantom.Volume(hu, np.zeros(hu.shape, np.uint8), (4.0, 4.0, 4.0), "normal", 0.0)
    areas = [
        (imaging.project(volume, imaging.Exposure(view=view), 128) > 0.1).sum()
        for view in ("PA", "AP")
    ]
    assert areas[1] > 1.15 * areas[0]


@pytest.mark.parametrize("view", ["AP", "AP Supine"])
def test_heart_is_larger_in_ap_than_in_pa(chest, view):
    heart = anatomy._heart(chest.habitus, chest.grid.axes()) > 0
    hu = np.where(heart, 0, -1000).astype(np.int16)
    alone = phantom.Volume(hu, heart.astype(np.uint8), chest.grid.spacing, "normal", 0.0)
    widths = [
        (imaging.project(alone, phantom.Exposure(view=each), 256) > 0.3).any(axis=0).sum()
        for each in ("PA", view)
    ]
    # The heart lies in front: turning the patient alone makes 3 %, the nearer tube the rest.
    assert 1.1 < widths[1] / widths[0] < 1.3


def test_xray_shows_bone_white_and_lung_dark(healthy):
    picture = phantom.xray(healthy, size=128)
    assert picture.dtype == np.uint8
    assert picture.shape == (128, 128)
    right, left = picture[45:75, 25:50], picture[45:75, 85:105]
    spine = picture[60:90, 58:70]
    assert max(right.mean(), left.mean()) < spine.mean() - 40
    # The heart points to the patient's left, which is at the right of the picture.
    assert picture[78:88, 74:86].mean() > picture[78:88, 40:50].mean()


def test_healthy_chest_has_its_parts(chest, healthy):
    lung = chest.lung
    inside = healthy.hu[lung.box][(lung.share > 0.99) & (lung.vessel == 0) & (lung.wall == 0)]
    assert -930 < np.median(inside) < -780
    assert (healthy.hu > 400).mean() > 0.005
    trachea = healthy.hu[int(chest.habitus.carina / healthy.spacing[0]) + 8]
    assert trachea[57:103, 71:89].min() < -850
    volume = (lung.share.sum() * np.prod(healthy.spacing)) / 1e6
    assert 2.0 < volume < 8.0, "litres"
    assert not healthy.labels.any()
    assert set(np.unique(lung.lobe[lung.share > 0.5])) == set(range(5))


@pytest.mark.parametrize("pattern", ["covid", "viral", "bacterial", "nodule"])
def test_labels_only_where_a_lesion_changes_the_density(chest, healthy, pattern):
    volume = disease.infect(chest, pattern, 0.9, 3)
    change = np.abs(volume.hu.astype(int) - healthy.hu)
    labelled = volume.labels > 0
    assert labelled.sum() > 30
    assert (change[labelled] >= 20).mean() > 0.995
    outside = np.ones(labelled.shape, bool)
    outside[chest.lung.box] = chest.lung.share == 0
    assert not (labelled & outside).any()
    assert (change[outside] == 0).all()


def test_ground_glass_is_haze_through_which_vessels_show(chest, healthy):
    volume = disease.infect(chest, "covid", 0.9, 3)
    haze = volume.labels == disease.GROUND_GLASS
    assert (volume.hu[haze] < 0).mean() > 0.99
    assert -720 < np.median(volume.hu[haze]) < -380
    vessel = np.zeros(haze.shape, bool)
    vessel[chest.lung.box] = (chest.lung.vessel > 0.6) & (chest.lung.share == 1)
    within = ndimage.binary_closing(haze, iterations=2) & vessel
    assert within.sum() > 10
    assert not haze[within].any()
    assert (volume.hu[within] >= healthy.hu[within]).all()
    assert np.median(volume.hu[within]) > np.median(volume.hu[haze]) + 200


def test_covid_is_bilateral_peripheral_and_basal(chest):
    volume = disease.infect(chest, "covid", 0.6, 3)
    lung = chest.lung
    sick = np.isin(volume.labels[lung.box], (1, 2))
    whole = lung.share > 0.5
    assert 0.1 < lung.left[sick].mean() < 0.9
    assert np.median(lung.wall_distance[sick]) < 0.7 * np.median(lung.wall_distance[whole])
    assert lung.above_base[sick].mean() < lung.above_base[whole].mean()


def test_ground_glass_lies_along_the_chest_wall(chest):
    lung = chest.lung
    near = lung.wall_distance < 25
    usual = near[lung.share > 0.5].mean()
    shares = []
    for seed in range(6):
        volume = disease.infect(chest, "covid", 0.5, seed)
        shares.append(near[volume.labels[lung.box] == disease.GROUND_GLASS].mean())
    assert min(shares) > 1.1 * usual
    assert np.mean(shares) > 1.3 * usual


def test_bacterial_consolidation_keeps_to_one_lobe_with_open_bronchi():
    open_bronchi = 0
    for seed in range(4):
        chest = anatomy.build(np.random.default_rng(seed), 96)
        volume = disease.infect(chest, "bacterial", 1.0, seed)
        dense = volume.labels[chest.lung.box] == disease.CONSOLIDATION
        assert len(np.unique(chest.lung.lobe[dense])) == 1
        hu = volume.hu[chest.lung.box]
        assert -60 < np.median(hu[dense]) < 60
        near = ndimage.binary_closing(dense, iterations=2) & (chest.lung.lumen > 0.6)
        open_bronchi += (hu[near] < -400).sum()
    assert open_bronchi > 10


def test_effusion_is_dependent_and_like_water(chest):
    fluid = disease._fluid(chest, 1, 0.6) >= 0.5
    fluid &= chest.lung.share > 0.5
    y = np.broadcast_to(chest.lung.axes[1], fluid.shape)
    left = chest.lung.left & (chest.lung.share > 0.5)
    assert fluid.sum() > 100
    assert not (fluid & ~chest.lung.left).any()
    assert y[fluid].min() > np.median(y[left])
    assert chest.lung.above_base[fluid].mean() < chest.lung.above_base[left].mean()
    volumes = [disease.infect(chest, "covid", 1.0, seed) for seed in range(8)]
    hu = np.concatenate([v.hu[v.labels == disease.EFFUSION] for v in volumes])
    assert abs(np.median(hu) - disease.EFFUSION_HU) < 15


@pytest.mark.parametrize(
    ("pattern", "label", "low", "high"),
    [
        ("covid", disease.GROUND_GLASS, -700, -300),
        ("viral", disease.GROUND_GLASS, -750, -330),
        ("bacterial", disease.CONSOLIDATION, -100, 100),
        ("covid", disease.EFFUSION, 0, 30),
        ("nodule", disease.NODULE, 0, 60),
    ],
)
def test_each_lesion_has_its_typical_density(chest, pattern, label, low, high):
    """Away from the edges, where a voxel is lesion only in part."""
    whole = np.zeros(chest.tissue.shape, bool)
    whole[chest.lung.box] = chest.lung.share == 1
    hu = []
    for seed in range(6):
        volume = disease.infect(chest, pattern, 0.9, seed)
        inner = ndimage.binary_erosion(volume.labels == label, np.ones((1, 3, 3))) & whole
        hu.append(volume.hu[inner])
    hu = np.concatenate(hu)
    assert len(hu) > 100
    assert np.mean((hu >= low) & (hu <= high)) > 0.9
    assert low < np.median(hu) < high


def test_effusion_gathers_at_the_back_of_a_ct_slice(chest):
    shown = 0
    for seed in range(10):
        volume = disease.infect(chest, "covid", 1.0, seed)
        area = (volume.labels == disease.EFFUSION).sum(axis=(1, 2))
        index = int(area.argmax())
        if area[index] < 60:
            continue
        _, labels = phantom.ct_slice(volume, index)
        rows, columns = np.nonzero(labels == disease.EFFUSION)
        level = chest.lung.share[index - chest.lung.box[0].start]
        lung_rows = np.flatnonzero((level > 0.5).any(axis=1)) + chest.lung.box[1].start
        middle = lung_rows.mean()
        # Rows count from the front of the patient.
        assert rows.min() > middle
        assert rows.max() > lung_rows.max() - 4
        assert len(set(columns > labels.shape[1] / 2)) == 1, "on one side"
        # Level to the front: the surface hardly rises or falls across the lung.
        surface = [rows[columns == c].min() for c in np.unique(columns)]
        assert np.subtract(*np.percentile(surface, (75, 25))) < 8
        shown += 1
    assert shown >= 3


def test_mask_of_the_effusion_ends_where_the_fluid_fills_half_a_voxel(chest):
    whole = chest.lung.share == 1
    seen = 0
    for seed in range(6):
        volume = disease.infect(chest, "covid", 1.0, seed)
        wet = (volume.labels[chest.lung.box] == disease.EFFUSION) & whole
        # Half water and half of the airiest lung; less is no fluid.
        least = (disease.EFFUSION_HU + chest.lung.parenchyma[wet]) / 2
        air = chest.lung.lumen[wet] > 0
        assert (volume.hu[chest.lung.box][wet][~air] >= least[~air] - 1).all()
        seen += wet.sum()
    assert seen > 500


def test_nodules_are_round(chest):
    seen = 0
    for seed in range(5):
        volume = disease.infect(chest, "nodule", 0.8, seed)
        parts, _ = ndimage.label(volume.labels == disease.NODULE)
        for z, y, x, radius in volume.nodules:
            part = parts == parts[z, y, x]
            assert part[z, y, x], "the noted middle lies in the nodule"
            points = np.argwhere(part) * volume.spacing
            axes = np.sqrt(np.linalg.eigvalsh(np.cov(points.T)))
            assert axes[-1] < 2 * axes[0]
            size = len(points) * np.prod(volume.spacing) / (4 / 3 * np.pi * radius**3)
            assert 0.8 < size < 1.7
            seen += 1
    assert seen >= 5


def test_viral_pattern_is_on_both_sides_and_around_the_hila(chest, healthy):
    volume = disease.infect(chest, "viral", 0.8, 3)
    lung = chest.lung
    change = (volume.hu.astype(int) - healthy.hu)[lung.box]
    deep = lung.share == 1
    sides = [change[deep & (lung.left == side)].mean() for side in (False, True)]
    assert min(sides) > 0.5 * max(sides) > 20
    z = np.broadcast_to(np.abs(lung.axes[0] - chest.habitus.carina + 30), deep.shape)
    assert change[deep & (z < 40)].mean() > 1.3 * change[deep & (z > 90)].mean()


def test_unknown_pattern_is_refused(chest):
    with pytest.raises(ValueError, match="measles"):
        disease.infect(chest, "measles", 0.5)


def test_without_marks_the_hospitals_cannot_be_told_apart(healthy):
    pictures = [phantom.xray(healthy, size=96, hospital=name) for name in imaging.HOSPITALS]
    assert np.array_equal(*pictures)
    marked = [phantom.xray(healthy, size=96, hospital=n, mark=1.0) for n in imaging.HOSPITALS]
    letter = marked[0][4:16, 80:94].astype(int) - pictures[0][4:16, 80:94]
    assert letter.max() > 100, "the letter at the patient's left"
    assert (marked[1][[0, -1]] == 0).all(), "the collimator's border"
    assert not np.array_equal(*marked)


def test_marks_do_not_touch_anything_else(tmp_path, made):
    off = phantom.ensure(tmp_path / "off", dataclasses.replace(SMALL, hospital_mark=0))
    truth = [pd.read_csv(folder / write.TRUTH_FILE) for folder in (made, off)]
    pd.testing.assert_frame_equal(*truth)
    scans = "medseg/tr_im.nii.gz"
    assert (made / scans).read_bytes() == (off / scans).read_bytes()


def test_mark_zero_leaves_no_trace_and_mark_one_is_detectable():
    people = [p for p in cohort.plan(SMALL) if p.pattern in ("covid", "normal")][:6]
    borders = {name: [] for name in imaging.HOSPITALS}
    for person in people:
        chest = anatomy.build(np.random.default_rng(person.seed), SMALL.ct_size)
        pictures = {}
        for name, mark in itertools.product(imaging.HOSPITALS, (0.0, 1.0)):
            settings = dataclasses.replace(SMALL, hospital_mark=mark)
            moved = dataclasses.replace(person, hospital=name)
            job = write.Job(None, settings, moved, chest, write.Notes())
            pictures[name, mark] = job.take_xray(job.state(), "PA", "the same picture")
        north, south = (pictures[name, 0.0].tobytes() for name in imaging.HOSPITALS)
        assert north == south
        for name in imaging.HOSPITALS:
            # The lower edge shows the body, unless a collimator covers it.
            borders[name].append(pictures[name, 1.0][-2:].mean())
    assert max(borders["south"]) < 10 < min(borders["north"]) - 50


def test_stronger_marks_change_more(healthy):
    def distance(mark):
        pictures = [
            phantom.xray(healthy, size=96, hospital=n, mark=mark) for n in phantom.HOSPITALS
        ]
        return np.abs(np.subtract(*pictures, dtype=float)).mean()

    distances = [distance(mark) for mark in (0.0, 0.25, 0.5, 1.0)]
    assert distances[0] == 0
    assert distances == sorted(distances)
    assert distances[1] > 2


def test_xrays_differ_in_exposure_noise_and_scatter(healthy):
    draws = {
        view: [phantom.sample_exposure(np.random.default_rng(seed), view) for seed in range(40)]
        for view in ("PA", "AP")
    }
    photons, scatter = (
        [np.mean([getattr(each, name) for each in draws[view]]) for view in ("PA", "AP")]
        for name in ("photons", "scatter")
    )
    assert photons[1] < 0.7 * photons[0], "a portable picture gets less light"
    assert scatter[1] > scatter[0]
    assert len({(each.field, each.gamma, each.level) for each in draws["PA"]}) == 40
    noisy = [phantom.xray(healthy, size=96, seed=seed).astype(int) for seed in (0, 1)]
    grain = np.abs(noisy[0] - noisy[1]).mean()
    assert 0 < grain < 10
    weak = phantom.Exposure(photons=1e4)
    weaker = [phantom.xray(healthy, weak, 96, seed).astype(int) for seed in (0, 1)]
    assert np.abs(weaker[0] - weaker[1]).mean() > 2 * grain
    # Scattered light washes the lungs out before the display evens the picture.
    primary = np.exp(-imaging.project(healthy, phantom.Exposure(), 96))
    veiled = primary + 0.6 * cv2.GaussianBlur(primary, (0, 0), 96 / 14)
    assert np.log(veiled).std() < np.log(primary).std()


def test_ct_noise_has_the_asked_strength(healthy):
    index = int(imaging.lung_slices(healthy)[3])
    quiet, labels = phantom.ct_slice(healthy, index, noise=0.0)
    noisy, _ = phantom.ct_slice(healthy, index, noise=20.0)
    body = (quiet > 0) & (quiet < 100)
    assert 10 < (noisy.astype(int) - quiet)[body].std() < 40
    assert labels.shape == quiet.shape
    assert phantom.lung_window(quiet).dtype == np.uint8


def test_pictures_come_again_from_their_seed_and_only_from_it(healthy):
    index = int(imaging.lung_slices(healthy)[3])
    takes = {
        "xray": lambda seed: phantom.xray(healthy, size=96, seed=seed),
        "slice": lambda seed: phantom.ct_slice(healthy, index, seed)[0],
    }
    for name, take in takes.items():
        assert take(5).tobytes() == take(5).tobytes(), name
        assert take(5).tobytes() != take(6).tobytes(), name


@pytest.mark.parametrize("pattern", ["covid", "bacterial", "nodule"])
def test_a_slices_mask_is_the_volumes_to_the_voxel(chest, pattern):
    volume = disease.infect(chest, pattern, 0.9, 3)
    sick = np.flatnonzero((volume.labels > 0).any(axis=(1, 2)))
    for index in sick[:: max(1, len(sick) // 6)]:
        hu, labels = phantom.ct_slice(volume, int(index))
        assert np.array_equal(labels, volume.labels[index])
        # The picture and the mask belong together: blur and noise shift nothing.
        quiet, _ = phantom.ct_slice(volume, int(index), noise=0.0)
        shifts = {
            (dy, dx): np.corrcoef(
                np.roll(quiet, (dy, dx), (0, 1)).ravel(), volume.hu[index].ravel()
            )[0, 1]
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
        }
        assert max(shifts, key=shifts.get) == (0, 0)
        assert hu.shape == labels.shape


def test_stored_masks_are_the_simulations_to_the_voxel(made):
    person = next(p for p in cohort.plan(SMALL) if p.role == "covid" and p.rank == 0)
    chest = anatomy.build(np.random.default_rng(person.seed), SMALL.ct_size)
    truth = disease.infect(chest, person.pattern, person.severity, person.seed).labels
    table = pd.read_csv(made / "medseg" / "slices.csv").set_index("slice")
    mine = table.index[table["patient"] == f"P{person.number:02d}"]
    rows = sources.SOURCES["medseg"].read(made).rows
    rows = rows[rows["frame"].isin(mine)]
    assert len(rows) == write.MEDSEG_SLICES
    for row in rows.itertuples():
        mask = sources.load_mask(made, row)
        assert mask.any()
        assert any(np.array_equal(mask, plane) for plane in truth)


def test_readers_read_every_layout_without_a_problem(made):
    reading = sources.read_all(made)
    assert reading.problems.empty
    rows = reading.rows
    assert set(rows["dataset"]) == set(sources.SOURCES)
    counts = rows.groupby("label").size()
    assert {"covid", "normal", "viral", "bacterial", "nodule", "no_nodule"} <= set(counts.index)
    views = set(rows.loc[rows["dataset"] == "covid-chestxray-dataset", "view"])
    assert {"L", "Axial"} < views
    subsets = rows.loc[rows["dataset"] == "chest_xray", "path"].str.split("/").str[1]
    assert set(subsets) == {"train", "test"}


def test_no_patient_is_in_two_xray_sets(made):
    truth = pd.read_csv(made / write.TRUTH_FILE)
    xrays = truth[truth["path"].str.match(r"(covid-chestxray|chest_xray|nih-adult|rsna)")]
    sets = xrays["path"].str.split("/").str[0]
    assert (sets.groupby(xrays["person"]).nunique() == 1).all()
    assert truth["path"].map(lambda path: (made / path).is_file()).all()


def test_medseg_masks_match_their_table(made):
    reading = sources.SOURCES["medseg"].read(made)
    table = pd.read_csv(made / "medseg" / "slices.csv").set_index("slice")
    assert len(reading.rows) == len(table)
    for row in reading.rows.itertuples():
        mask = sources.load_mask(made, row)
        expected = table.loc[row.frame, ["ggo_px", "consolidation_px", "effusion_px"]].tolist()
        assert np.bincount(mask.ravel(), minlength=4)[1:].tolist() == expected
        assert row.label_quality == "exact"
    assert (table.groupby("patient")["infnet_subset"].nunique() == 1).all()
    assert set(table["infnet_subset"]) == {"train", "test"}


@pytest.mark.parametrize("radius", [0.5, 2.2, 8.0])
def test_outlines_give_the_mask_back(radius):
    y, x = np.mgrid[:40, :40]
    mask = np.hypot(y - 18, x - 21) < radius
    drawn = [Outline(0, True, outline.astype(np.int32)) for outline in files.outlines(mask)]
    assert np.array_equal(consensus_mask(drawn, mask.shape), mask)


def test_rsna_boxes_lie_in_the_picture(made):
    table = pd.read_csv(made / "rsna" / "stage_2_train_labels.csv")
    boxes = table[table["Target"] == 1]
    assert len(boxes) > boxes["patientId"].nunique(), "one patient has an opacity on both sides"
    assert (boxes["x"] + boxes["width"] <= SMALL.xray_size).all()
    assert (boxes["y"] + boxes["height"] <= SMALL.xray_size).all()
    assert table.loc[table["Target"] == 0, "x"].isna().all()


def test_everything_says_that_it_is_a_phantom(made):
    assert (made / "README.txt").read_text().startswith("Phantom")
    metadata = pd.read_csv(made / "covid-chestxray-dataset" / "metadata.csv", dtype=str)
    assert metadata["clinical_notes"].str.startswith("Phantom").all()
    assert list(metadata.columns)[:28] == list(write.METADATA_COLUMNS)


def test_ensure_makes_a_set_once_and_again_for_other_settings(made, monkeypatch):
    calls = []
    monkeypatch.setattr(phantom, "write_all", lambda *given: calls.append(given) or fake(*given))
    assert phantom.ensure(made, SMALL) == made
    assert calls == []
    folder = made.with_name("twice")
    phantom.ensure(folder, SMALL)
    phantom.ensure(folder, SMALL)
    assert len(calls) == 1
    phantom.ensure(folder, dataclasses.replace(SMALL, seed=8))
    assert len(calls) == 2
    monkeypatch.setattr(write, "VERSION", phantom.VERSION + 1)
    phantom.ensure(folder, dataclasses.replace(SMALL, seed=8))
    assert len(calls) == 3
    monkeypatch.setattr(write.runs, "code_hash", lambda *parts: "other code")
    phantom.ensure(folder, dataclasses.replace(SMALL, seed=8))
    assert len(calls) == 4


def fake(folder, settings):
    """Write what `ensure` looks for, and nothing else."""
    folder.mkdir(parents=True)
    content = phantom.recipe(settings)
    (folder / phantom.SETTINGS_FILE).write_text(json.dumps(content))


def test_two_at_once_make_it_once(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(phantom, "write_all", lambda *given: calls.append(given) or fake(*given))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: phantom.ensure(tmp_path / "set", SMALL), range(4)))
    assert len(calls) == 1


def test_interruption_leaves_nothing_half_written(tmp_path, monkeypatch):
    folder = tmp_path / "set"
    monkeypatch.setattr(phantom, "write_all", fake)
    phantom.ensure(folder, SMALL)
    before = digest(folder)

    def broken(partial, settings):
        fake(partial, settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(phantom, "write_all", broken)
    with pytest.raises(KeyboardInterrupt):
        phantom.ensure(folder, dataclasses.replace(SMALL, seed=8))
    assert digest(folder) == before
    with pytest.raises(KeyboardInterrupt):
        phantom.ensure(tmp_path / "new", SMALL)
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")) == ["set"]


def test_a_folder_with_other_files_is_not_replaced(tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "mine.png").write_bytes(b"x")
    with pytest.raises(DataError, match="scans"):
        phantom.ensure(tmp_path / "scans", SMALL)
    assert (tmp_path / "scans" / "mine.png").is_file()


@pytest.mark.parametrize(("name", "value"), [("patients", 3), ("hospital_mark", 2), ("seed", -1)])
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ParameterError, match=name):
        phantom.PhantomSettings(**{name: value})


def test_plan_scales_and_keeps_hospitals_mixed():
    people = cohort.plan(phantom.PhantomSettings(patients=120))
    assert len(people) == 120
    covid = [p for p in people if p.role == "covid"]
    assert 40 <= len(covid) <= 50
    assert {p.hospital for p in covid} == set(imaging.HOSPITALS)
    north = np.mean([p.hospital == "north" for p in covid])
    assert north > 0.6
